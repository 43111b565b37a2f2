//! Sets of paths into an object, and their encoding as `FieldsV1`.
//!
//! A set is a tree: each node says whether the path that leads to it is a member, and which paths
//! go on from there. Keys and values of list elements are kept as their canonical JSON, so that two
//! spellings of one element are one.
use std::collections::{BTreeMap, btree_map::Entry};
use std::fmt;
use value::{Map, Text, Value};

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Elem {
    Field(String),
    /// The element of a list that has these keys, as canonical JSON.
    Key(String),
    /// The element of a set that is this value, as canonical JSON.
    Value(String),
    Index(i64),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Set {
    /// The path up to here is a member.
    pub here: bool,
    pub kids: BTreeMap<Elem, Set>,
}

impl Elem {
    pub(crate) fn key(keys: impl IntoIterator<Item = (impl Into<String>, Value)>) -> Elem {
        // Sorted, whatever the order of a JSON map is: that makes the text canonical.
        let keys: BTreeMap<String, Value> =
            keys.into_iter().map(|(name, value)| (name.into(), canonical(value))).collect();
        Elem::Key(serde_json::to_string(&keys).expect("text keys and JSON values are JSON"))
    }

    pub(crate) fn value(value: &Value) -> Elem {
        Elem::Value(canonical(value.clone()).to_string())
    }

    fn decode(text: &str) -> Option<Elem> {
        let (kind, rest) = text.split_once(':')?;
        match kind {
            "f" => Some(Elem::Field(rest.to_owned())),
            "i" => rest.parse().ok().map(Elem::Index),
            "v" => serde_json::from_str(rest).ok().map(|value: Value| Elem::value(&value)),
            "k" => {
                let keys: Map = serde_json::from_str(rest).ok()?;
                Some(Elem::key(keys))
            }
            _ => None,
        }
    }

    pub(crate) fn encode(&self) -> String {
        match self {
            Elem::Field(name) => format!("f:{name}"),
            Elem::Key(keys) => format!("k:{keys}"),
            Elem::Value(value) => format!("v:{value}"),
            Elem::Index(index) => format!("i:{index}"),
        }
    }
}

/// One spelling for each number.
fn canonical(value: Value) -> Value {
    match value.as_f64() {
        Some(float) if !value.is_i64() && !value.is_u64() && float.fract() == 0.0 => {
            // Beyond this a float does not tell neighbours apart.
            match float.abs() < 9e15 {
                true => Value::from(float as i64),
                false => value,
            }
        }
        _ => value,
    }
}

/// As Kubernetes writes a step: `.name`, `[name="x"]`, `[="x"]`, `[0]`.
impl fmt::Display for Elem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Elem::Field(name) => write!(f, ".{name}"),
            Elem::Value(value) => write!(f, "[={value}]"),
            Elem::Index(index) => write!(f, "[{index}]"),
            Elem::Key(keys) => {
                let keys: BTreeMap<String, Value> = serde_json::from_str(keys).unwrap_or_default();
                let shown: Vec<String> =
                    keys.iter().map(|(name, value)| format!("{name}={value}")).collect();
                write!(f, "[{}]", shown.join(","))
            }
        }
    }
}

impl Set {
    pub fn is_empty(&self) -> bool {
        !self.here && self.kids.is_empty()
    }

    /// What goes on from a field.
    pub(crate) fn field(&self, name: &str) -> Option<&Set> {
        // Most have none, and need no name to look for.
        (!self.kids.is_empty()).then(|| self.kids.get(&Elem::Field(name.to_owned()))).flatten()
    }

    /// The set of these paths of fields.
    pub fn of(paths: &[&[&str]]) -> Set {
        let mut set = Set::default();
        for path in paths {
            let path: Vec<Elem> = path.iter().map(|name| Elem::Field((*name).to_owned())).collect();
            set.insert(&path);
        }
        set
    }

    pub fn insert(&mut self, path: &[Elem]) {
        self.at(path).here = true;
    }

    /// The node at the path; made if there is none.
    pub(crate) fn at(&mut self, path: &[Elem]) -> &mut Set {
        path.iter().fold(self, |set, elem| set.kids.entry(elem.clone()).or_default())
    }

    pub fn union(mut self, other: &Set) -> Set {
        self.add(other);
        self
    }

    /// As [`Self::union`], for one that is not needed any more.
    pub(crate) fn take_in(&mut self, other: Set) {
        self.here |= other.here;
        if self.kids.is_empty() {
            self.kids = other.kids;
            return;
        }
        for (elem, kid) in other.kids {
            match self.kids.entry(elem) {
                Entry::Vacant(place) => drop(place.insert(kid)),
                Entry::Occupied(mut own) => own.get_mut().take_in(kid),
            }
        }
    }

    /// As [`Self::difference`], in place: what `other` does not touch is not touched.
    pub(crate) fn take_out(&mut self, other: &Set) {
        self.here &= !other.here;
        self.in_each(other, Set::take_out);
    }

    /// As [`Self::without_trees`], in place.
    pub(crate) fn take_out_trees(&mut self, other: &Set) {
        if other.here {
            *self = Set::default();
            return;
        }
        self.in_each(other, Set::take_out_trees);
    }

    fn in_each(&mut self, other: &Set, change: impl Fn(&mut Set, &Set)) {
        for (elem, other) in &other.kids {
            if let Some(kid) = self.kids.get_mut(elem) {
                change(kid, other);
                if kid.is_empty() {
                    self.kids.remove(elem);
                }
            }
        }
    }

    fn add(&mut self, other: &Set) {
        self.here |= other.here;
        for (elem, kid) in &other.kids {
            self.kids.entry(elem.clone()).or_default().add(kid);
        }
    }

    pub fn intersection(&self, other: &Set) -> Set {
        let kids = self.kids.iter().filter_map(|(elem, kid)| {
            let both = kid.intersection(other.kids.get(elem)?);
            (!both.is_empty()).then(|| (elem.clone(), both))
        });
        Set { here: self.here && other.here, kids: kids.collect() }
    }

    /// The members that `other` does not have; what lies below those it has stays.
    pub fn difference(&self, other: &Set) -> Set {
        let kids = self.kids.iter().filter_map(|(elem, kid)| {
            let left = match other.kids.get(elem) {
                Some(other) => kid.difference(other),
                None => kid.clone(),
            };
            (!left.is_empty()).then(|| (elem.clone(), left))
        });
        Set { here: self.here && !other.here, kids: kids.collect() }
    }

    /// The members that neither `other` has, nor lie below what it has.
    pub fn without_trees(&self, other: &Set) -> Set {
        if other.here {
            return Set::default();
        }
        let kids = self.kids.iter().filter_map(|(elem, kid)| {
            let left = match other.kids.get(elem) {
                Some(other) => kid.without_trees(other),
                None => kid.clone(),
            };
            (!left.is_empty()).then(|| (elem.clone(), left))
        });
        Set { here: self.here, kids: kids.collect() }
    }

    /// Every member (but the object itself), those further up first, as Kubernetes writes a path:
    /// `.spec.containers[name="a"].image`.
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect("", &mut paths);
        paths
    }

    fn collect(&self, path: &str, paths: &mut Vec<String>) {
        let members = self.kids.iter().filter(|(_, kid)| kid.here);
        paths.extend(members.map(|(elem, _)| format!("{path}{elem}")));
        for (elem, kid) in &self.kids {
            kid.collect(&format!("{path}{elem}"), paths);
        }
    }

    /// Reads `FieldsV1`; `None` if that is no such thing.
    pub fn decode(fields: &Value) -> Option<Set> {
        let Value::Object(fields) = fields else { return None };
        let mut set = Set::default();
        for (name, kid) in fields {
            if name == "." {
                set.here = true;
                continue;
            }
            let mut kid_set = Set::decode(kid)?;
            // A path that nothing goes on from is there for itself.
            kid_set.here |= kid_set.kids.is_empty();
            set.kids.insert(Elem::decode(name)?, kid_set);
        }
        Some(set)
    }

    pub fn encode(&self) -> Value {
        let kids = self.kids.iter().map(|(elem, kid)| (Text::from(elem.encode()), kid.encode()));
        let here = (self.here && !self.kids.is_empty()).then(here);
        here.into_iter().chain(kids).collect()
    }
}

/// How `FieldsV1` says of a path that goes on that it is a member itself.
pub(crate) fn here() -> (Text, Value) {
    (Text::new_static("."), Value::Object(Map::new()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use value::json;

    fn set(fields: Value) -> Set {
        Set::decode(&fields).unwrap()
    }

    #[test]
    fn fields_are_read_and_written_alike() {
        let fields = json!({"f:spec": {
            "f:containers": {"k:{\"name\":\"a\"}": {".": {}, "f:image": {}}},
            "f:ports": {".": {},
                "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:name": {}}},
            "f:finalizers": {"v:\"x/y\"": {}},
            "i:3": {},
        }});
        let read = set(fields.clone());
        assert_eq!(read.encode(), fields);
        assert_eq!(
            read.paths(),
            [
                ".spec.ports",
                ".spec[3]",
                ".spec.containers[name=\"a\"]",
                ".spec.containers[name=\"a\"].image",
                ".spec.finalizers[=\"x/y\"]",
                ".spec.ports[containerPort=80,protocol=\"TCP\"]",
                ".spec.ports[containerPort=80,protocol=\"TCP\"].name",
            ]
        );
    }

    #[test]
    fn spellings_of_one_element_are_one() {
        let one = set(json!({"k:{\"a\":1,\"b\":\"x\"}": {}}));
        assert_eq!(set(json!({"k:{ \"b\": \"\\u0078\", \"a\": 1.0 }": {}})), one);
        let key = Elem::key([("b", json!("x")), ("a", json!(1))]);
        assert!(one.kids.contains_key(&key));
    }

    #[test]
    fn what_is_no_set_is_refused() {
        for fields in [
            json!([]),
            json!({"x:a": {}}),
            json!({"f:a": 1}),
            json!({"k:[1]": {}}),
            json!({"v:{": {}}),
            json!({"i:x": {}}),
            json!({"plain": {}}),
        ] {
            assert_eq!(Set::decode(&fields), None, "{fields}");
        }
    }

    #[test]
    fn sets_are_calculated_with() {
        let a = set(json!({"f:a": {".": {}, "f:b": {}}, "f:c": {}}));
        let b = set(json!({"f:a": {}, "f:d": {}}));
        let union = json!({"f:a": {".": {}, "f:b": {}}, "f:c": {}, "f:d": {}});
        assert_eq!(a.clone().union(&b).encode(), union);
        assert_eq!(a.intersection(&b).paths(), [".a"]);
        assert_eq!(a.difference(&b).paths(), [".c", ".a.b"]);
        assert_eq!(a.without_trees(&b).paths(), [".c"]);
        assert_eq!(a.difference(&a), Set::default());
    }

    #[test]
    fn in_place_is_as_anew() {
        let sets = [
            json!({}),
            json!({"f:a": {".": {}, "f:b": {}}, "f:c": {}}),
            json!({"f:a": {}, "f:d": {}}),
            json!({"f:a": {"f:b": {}, "f:e": {"f:g": {}}}, "f:c": {"i:1": {}}}),
        ]
        .map(set);
        for a in &sets {
            for b in &sets {
                let (mut all, mut rest, mut apart) = (a.clone(), a.clone(), a.clone());
                all.take_in(b.clone());
                rest.take_out(b);
                apart.take_out_trees(b);
                assert_eq!(all, a.clone().union(b));
                assert_eq!(rest, a.difference(b));
                assert_eq!(apart, a.without_trees(b));
            }
        }
    }
}
