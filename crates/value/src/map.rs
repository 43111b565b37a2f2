//! A map of an object's fields, in the order of their names.
//!
//! Nearly all have a handful of entries: those lie in one sorted array. A map with more than
//! [`SMALL`] is a tree, so that nobody can make insertions slow by the size of what they send.
use crate::{Text, Value};
use std::borrow::Borrow;
use std::collections::{BTreeMap, btree_map};
use std::iter::FusedIterator;

const SMALL: usize = 48;

#[derive(Debug, Clone)]
pub struct Map(Repr);

#[derive(Debug, Clone)]
enum Repr {
    /// Sorted by key; no key twice.
    Small(Vec<(Text, Value)>),
    /// Boxed: a value would be larger by what few maps need.
    #[allow(clippy::box_collection)]
    Large(Box<BTreeMap<Text, Value>>),
}
use Repr::{Large, Small};

impl Default for Map {
    fn default() -> Self {
        Self::new()
    }
}

/// Where a key is, or would be. Short arrays are looked through: one that differs does so in its
/// length or its first bytes, mostly.
fn find(entries: &[(Text, Value)], key: &str) -> Result<usize, usize> {
    entries.binary_search_by(|(have, _)| have.as_str().cmp(key))
}

impl Map {
    pub const fn new() -> Self {
        Self(Small(Vec::new()))
    }
    pub fn with_capacity(capacity: usize) -> Self {
        Self(Small(Vec::with_capacity(capacity.min(SMALL))))
    }
    pub fn len(&self) -> usize {
        match &self.0 {
            Small(entries) => entries.len(),
            Large(tree) => tree.len(),
        }
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    pub fn get(&self, key: &str) -> Option<&Value> {
        match &self.0 {
            Small(entries) => {
                let at = entries.iter().position(|(have, _)| have == key)?;
                Some(&entries[at].1)
            }
            Large(tree) => tree.get(key),
        }
    }
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Value> {
        match &mut self.0 {
            Small(entries) => {
                let at = entries.iter().position(|(have, _)| have == key)?;
                Some(&mut entries[at].1)
            }
            Large(tree) => tree.get_mut(key),
        }
    }
    pub fn contains_key(&self, key: &str) -> bool {
        self.get(key).is_some()
    }
    /// Yields what was there.
    pub fn insert(&mut self, key: impl Into<Text>, value: Value) -> Option<Value> {
        match self.entry(key) {
            Entry::Occupied(slot) => Some(std::mem::replace(slot, value)),
            Entry::Vacant(vacant) => {
                vacant.insert(value);
                None
            }
        }
    }
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        match &mut self.0 {
            Small(entries) => {
                let at = find(entries, key).ok()?;
                Some(entries.remove(at).1)
            }
            Large(tree) => tree.remove(key),
        }
    }
    pub fn clear(&mut self) {
        self.0 = Small(Vec::new());
    }
    pub fn entry(&mut self, key: impl Into<Text>) -> Entry<'_> {
        let key = key.into();
        if let Small(entries) = &mut self.0
            && entries.len() >= SMALL
            && find(entries, &key).is_err()
        {
            self.0 = Large(Box::new(std::mem::take(entries).into_iter().collect()));
        }
        match &mut self.0 {
            Small(entries) => match find(entries, &key) {
                Ok(at) => Entry::Occupied(&mut entries[at].1),
                Err(at) => Entry::Vacant(Vacant { key, place: Place::Small(entries, at) }),
            },
            Large(tree) => match tree.entry(key) {
                btree_map::Entry::Occupied(entry) => Entry::Occupied(entry.into_mut()),
                btree_map::Entry::Vacant(entry) => {
                    Entry::Vacant(Vacant { key: Text::default(), place: Place::Large(entry) })
                }
            },
        }
    }
    pub fn retain(&mut self, mut keep: impl FnMut(&Text, &mut Value) -> bool) {
        match &mut self.0 {
            Small(entries) => entries.retain_mut(|(key, value)| keep(key, value)),
            Large(tree) => tree.retain(keep),
        }
    }
    pub fn iter(&self) -> Iter<'_> {
        Iter(match &self.0 {
            Small(entries) => Of::Small(entries.iter()),
            Large(tree) => Of::Large(tree.iter()),
        })
    }
    pub fn iter_mut(&mut self) -> IterMut<'_> {
        IterMut(match &mut self.0 {
            Small(entries) => Of::Small(entries.iter_mut()),
            Large(tree) => Of::Large(tree.iter_mut()),
        })
    }
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &Text> + Clone {
        self.iter().map(|(key, _)| key)
    }
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &Value> + Clone {
        self.iter().map(|(_, value)| value)
    }
    pub fn values_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut Value> {
        self.iter_mut().map(|(_, value)| value)
    }
}

impl PartialEq for Map {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}
impl Eq for Map {}

/// Does not depend on how the entries are held.
impl std::hash::Hash for Map {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write_usize(self.len());
        self.iter().for_each(|entry| entry.hash(state));
    }
}

impl<K: Borrow<str> + ?Sized> std::ops::Index<&K> for Map {
    type Output = Value;

    /// # Panics
    /// If the key is not there.
    fn index(&self, key: &K) -> &Value {
        match self.get(key.borrow()) {
            Some(value) => value,
            None => panic!("no {:?} in the map", key.borrow()),
        }
    }
}

/// A place for a key.
pub enum Entry<'a> {
    Occupied(&'a mut Value),
    Vacant(Vacant<'a>),
}

pub struct Vacant<'a> {
    key: Text,
    place: Place<'a>,
}

enum Place<'a> {
    Small(&'a mut Vec<(Text, Value)>, usize),
    /// Has the key itself.
    Large(btree_map::VacantEntry<'a, Text, Value>),
}

impl<'a> Vacant<'a> {
    pub fn insert(self, value: Value) -> &'a mut Value {
        match self.place {
            Place::Small(entries, at) => {
                entries.insert(at, (self.key, value));
                &mut entries[at].1
            }
            Place::Large(entry) => entry.insert(value),
        }
    }
}

impl<'a> Entry<'a> {
    pub fn or_insert(self, value: Value) -> &'a mut Value {
        self.or_insert_with(|| value)
    }
    pub fn or_insert_with(self, make: impl FnOnce() -> Value) -> &'a mut Value {
        match self {
            Self::Occupied(value) => value,
            Self::Vacant(vacant) => vacant.insert(make()),
        }
    }
}

/// Of two entries with one key the later counts.
impl<K: Into<Text>> FromIterator<(K, Value)> for Map {
    fn from_iter<I: IntoIterator<Item = (K, Value)>>(entries: I) -> Self {
        let entries = entries.into_iter().map(|(key, value)| (key.into(), value));
        let mut entries: Vec<(Text, Value)> = entries.collect();
        if entries.len() > SMALL {
            return Self(Large(Box::new(entries.into_iter().collect())));
        }
        if !entries.is_sorted_by(|(a, _), (b, _)| a < b) {
            entries.sort_by(|(a, _), (b, _)| a.cmp(b));
            entries.dedup_by(|later, earlier| {
                let same = later.0 == earlier.0;
                if same {
                    std::mem::swap(later, earlier);
                }
                same
            });
        }
        Self(Small(entries))
    }
}

impl<K: Into<Text>> Extend<(K, Value)> for Map {
    fn extend<I: IntoIterator<Item = (K, Value)>>(&mut self, entries: I) {
        for (key, value) in entries {
            self.insert(key, value);
        }
    }
}

#[derive(Debug, Clone)]
enum Of<S, L> {
    Small(S),
    Large(L),
}

macro_rules! iterator {
    ($name:ident<$($life:lifetime)?>, $item:ty, $small:ty, $large:ty, $map:expr) => {
        #[derive(Debug)]
        pub struct $name<$($life)?>(Of<$small, $large>);

        impl<$($life)?> Iterator for $name<$($life)?> {
            type Item = $item;

            fn next(&mut self) -> Option<Self::Item> {
                match &mut self.0 {
                    Of::Small(entries) => entries.next().map($map),
                    Of::Large(entries) => entries.next(),
                }
            }
            fn size_hint(&self) -> (usize, Option<usize>) {
                match &self.0 {
                    Of::Small(entries) => entries.size_hint(),
                    Of::Large(entries) => entries.size_hint(),
                }
            }
        }
        impl<$($life)?> DoubleEndedIterator for $name<$($life)?> {
            fn next_back(&mut self) -> Option<Self::Item> {
                match &mut self.0 {
                    Of::Small(entries) => entries.next_back().map($map),
                    Of::Large(entries) => entries.next_back(),
                }
            }
        }
        impl<$($life)?> ExactSizeIterator for $name<$($life)?> {}
        impl<$($life)?> FusedIterator for $name<$($life)?> {}
    };
}

iterator!(
    Iter<'a>,
    (&'a Text, &'a Value),
    std::slice::Iter<'a, (Text, Value)>,
    btree_map::Iter<'a, Text, Value>,
    |(key, value)| (key, value)
);
iterator!(
    IterMut<'a>,
    (&'a Text, &'a mut Value),
    std::slice::IterMut<'a, (Text, Value)>,
    btree_map::IterMut<'a, Text, Value>,
    |(key, value)| (&*key, value)
);
iterator!(
    IntoIter<>,
    (Text, Value),
    std::vec::IntoIter<(Text, Value)>,
    btree_map::IntoIter<Text, Value>,
    |entry| entry
);

impl Clone for Iter<'_> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<'a> IntoIterator for &'a Map {
    type Item = (&'a Text, &'a Value);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}
impl<'a> IntoIterator for &'a mut Map {
    type Item = (&'a Text, &'a mut Value);
    type IntoIter = IterMut<'a>;

    fn into_iter(self) -> IterMut<'a> {
        self.iter_mut()
    }
}
impl IntoIterator for Map {
    type Item = (Text, Value);
    type IntoIter = IntoIter;

    fn into_iter(self) -> IntoIter {
        IntoIter(match self.0 {
            Small(entries) => Of::Small(entries.into_iter()),
            Large(tree) => Of::Large(tree.into_iter()),
        })
    }
}
