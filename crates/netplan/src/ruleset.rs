//! A whole set of rules, made of fragments, and the smallest list of operations between two.
//!
//! Each Service, and each pod with host ports, contributes one [`Fragment`]; nothing outside it
//! refers to its chains. Where two fragments claim the same map element, the smaller key wins, so
//! the outcome does not depend on the order of events.
use std::borrow::Cow;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};

use crate::facts::ServiceName;
use crate::rule::{Chain, KeyPart, MapKey, Rule, Value};
use crate::slots::{SlotChanges, Slots};

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FragmentKey {
    Service(ServiceName),
    Pod(String),
}

/// What a set's elements carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetKind {
    Members,
    Verdicts,
    Backends,
    /// Backends that the rules add themselves; they are forgotten after so many seconds.
    Remembered(u32),
}

/// An element's place: the set's name and the key.
pub type ElementKey = (SetName, Vec<KeyPart>);

pub type SetName = Cow<'static, str>;

/// One object's share of the rules.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fragment {
    pub chains: BTreeMap<String, Vec<Rule>>,
    /// Maps of clients to their remembered backends, with the timeout and the valid backends.
    pub memories: BTreeMap<String, (u32, BTreeSet<SocketAddrV4>)>,
    pub elements: BTreeMap<ElementKey, Value>,
    /// Where UDP is translated; `None` is any address of the node.
    pub udp: BTreeMap<(Option<Ipv4Addr>, u16), BTreeSet<SocketAddrV4>>,
}

/// One step of a transaction; steps are applied in order, all or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    AddChain(Chain),
    AddSet {
        name: String,
        key: MapKey,
        kind: SetKind,
    },
    /// Replaces all rules of a chain.
    SetRules {
        chain: String,
        rules: Vec<Rule>,
    },
    DeleteChain(String),
    DeleteSet(String),
    AddElements {
        set: SetName,
        elements: Vec<(Vec<KeyPart>, Value)>,
    },
    DeleteElements {
        set: SetName,
        elements: Vec<(Vec<KeyPart>, Value)>,
    },
}

/// UDP flows to `ip:port` are valid only towards these backends (the rest must be forgotten, or
/// they would keep going where they went).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdpFrontend {
    pub ip: Option<Ipv4Addr>,
    pub port: u16,
    pub backends: BTreeSet<SocketAddrV4>,
}

/// What to do to get from one ruleset to the next.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    pub ops: Vec<Op>,
    /// To be done after `ops`.
    pub udp: Vec<UdpFrontend>,
    /// Memories from which some backends have to go, with the valid ones; after `ops`.
    pub memories: Vec<(String, BTreeSet<SocketAddrV4>)>,
}

/// All rules of the node's table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ruleset {
    pub chains: Vec<Chain>,
    pub sets: Vec<(&'static str, MapKey, SetKind)>,
    pub fragments: BTreeMap<FragmentKey, Fragment>,
    claims: BTreeMap<ElementKey, BTreeMap<FragmentKey, Value>>,
    slots: Slots,
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty() && self.udp.is_empty() && self.memories.is_empty()
    }
}

impl Ruleset {
    pub fn new(chains: Vec<Chain>, sets: Vec<(&'static str, MapKey, SetKind)>) -> Ruleset {
        Ruleset { chains, sets, ..Ruleset::default() }
    }

    /// The operations that make all of it in an empty table.
    pub fn create(&mut self) -> Vec<Op> {
        let mut ops = Vec::new();
        for chain in &self.chains {
            ops.push(Op::AddChain(Chain { rules: Vec::new(), ..chain.clone() }));
        }
        for (name, key, kind) in &self.sets {
            ops.push(Op::AddSet { name: (*name).to_owned(), key: *key, kind: *kind });
        }
        for chain in &self.chains {
            ops.push(Op::SetRules { chain: chain.name.clone(), rules: chain.rules.clone() });
        }
        self.slots = Slots::default();
        let mut rules = Vec::new();
        let mut elements: BTreeMap<SetName, Vec<(Vec<KeyPart>, Value)>> = BTreeMap::new();
        for fragment in self.fragments.values() {
            for (name, (timeout, _)) in &fragment.memories {
                ops.push(add_memory(name, *timeout));
            }
            for (name, chain_rules) in &fragment.chains {
                ops.push(add_chain(name));
                let given = self.slots.assign(name, chain_rules);
                ops.extend(given.maps.into_iter().map(add_endpoints));
                let set = |rules| Op::SetRules { chain: name.clone(), rules };
                rules.extend(given.rules.map(set));
                for ((set, key), _, value) in given.changes {
                    elements.entry(set).or_default().extend(value.map(|value| (key, value)));
                }
            }
        }
        ops.append(&mut rules);
        for ((set, key), claims) in &self.claims {
            if let Some(value) = claims.values().next() {
                elements.entry(set.clone()).or_default().push((key.clone(), value.clone()));
            }
        }
        ops.extend(elements.into_iter().map(|(set, elements)| Op::AddElements { set, elements }));
        ops
    }

    /// Where UDP is translated, by all fragments.
    pub fn udp_frontends(&self) -> Vec<UdpFrontend> {
        let all = self.fragments.values().flat_map(|fragment| &fragment.udp);
        all.map(|((ip, port), backends)| UdpFrontend {
            ip: *ip,
            port: *port,
            backends: backends.clone(),
        })
        .collect()
    }

    /// The memories of all fragments with their valid backends.
    pub fn memories(&self) -> impl Iterator<Item = (&str, &BTreeSet<SocketAddrV4>)> {
        let all = self.fragments.values().flat_map(|fragment| &fragment.memories);
        all.map(|(name, (_, valid))| (name.as_str(), valid))
    }

    /// Replaces fragments and tells what that changes.
    pub fn replace(&mut self, news: Vec<(FragmentKey, Option<Fragment>)>) -> Changes {
        let mut diff = Diff::default();
        for (key, new) in news {
            let old = match &new {
                Some(fragment) => self.fragments.insert(key.clone(), fragment.clone()),
                None => self.fragments.remove(&key),
            };
            let (old, new) = (old.unwrap_or_default(), new.unwrap_or_default());
            if old == new {
                continue;
            }
            diff.chains(&old, &new, &mut self.slots);
            diff.followups(&old, &new);
            self.claim(&key, &old, &new, &mut diff);
        }
        diff.finish(&self.claims)
    }

    fn claim(&mut self, key: &FragmentKey, old: &Fragment, new: &Fragment, diff: &mut Diff) {
        for (place, value) in &old.elements {
            if new.elements.get(place) == Some(value) {
                continue;
            }
            diff.touch(place, &self.claims);
            if let Some(claims) = self.claims.get_mut(place) {
                claims.remove(key);
                if claims.is_empty() {
                    self.claims.remove(place);
                }
            }
        }
        for (place, value) in &new.elements {
            if old.elements.get(place) == Some(value) {
                continue;
            }
            diff.touch(place, &self.claims);
            self.claims.entry(place.clone()).or_default().insert(key.clone(), value.clone());
        }
    }
}

fn add_chain(name: &str) -> Op {
    Op::AddChain(Chain { name: name.to_owned(), hook: None, rules: Vec::new() })
}

fn add_endpoints(name: String) -> Op {
    Op::AddSet { name, key: MapKey::Number, kind: SetKind::Backends }
}

fn add_memory(name: &str, timeout: u32) -> Op {
    Op::AddSet { name: name.to_owned(), key: MapKey::Src, kind: SetKind::Remembered(timeout) }
}

/// Operations collected by the phase they belong to, so that nothing refers to what is not there.
#[derive(Default)]
struct Diff {
    create: Vec<Op>,
    rules: Vec<Op>,
    slots: SlotChanges,
    destroy_chains: Vec<Op>,
    destroy_sets: Vec<Op>,
    /// What each touched element was before.
    touched: BTreeMap<ElementKey, Option<Value>>,
    udp: Vec<UdpFrontend>,
    memories: Vec<(String, BTreeSet<SocketAddrV4>)>,
}

impl Diff {
    fn touch(
        &mut self,
        place: &ElementKey,
        claims: &BTreeMap<ElementKey, BTreeMap<FragmentKey, Value>>,
    ) {
        if !self.touched.contains_key(place) {
            let before = claims.get(place).and_then(|c| c.values().next().cloned());
            self.touched.insert(place.clone(), before);
        }
    }

    fn chains(&mut self, old: &Fragment, new: &Fragment, slots: &mut Slots) {
        for (name, (timeout, _)) in &new.memories {
            if old.memories.get(name).map(|(t, _)| t) != Some(timeout) {
                self.create.push(add_memory(name, *timeout));
            }
        }
        for (name, rules) in &new.chains {
            match old.chains.get(name) {
                Some(before) if before == rules => continue,
                Some(_) => {}
                None => self.create.push(add_chain(name)),
            }
            self.set_rules(name, rules, slots);
        }
        // Two rounds, because chains that go may refer to each other.
        for name in old.chains.keys().filter(|name| !new.chains.contains_key(*name)) {
            self.set_rules(name, &[], slots);
            self.destroy_chains.push(Op::DeleteChain(name.clone()));
        }
        for name in old.memories.keys().filter(|name| !new.memories.contains_key(*name)) {
            self.destroy_sets.push(Op::DeleteSet(name.clone()));
        }
    }

    fn set_rules(&mut self, chain: &str, rules: &[Rule], slots: &mut Slots) {
        let mut given = slots.assign(chain, rules);
        self.create.extend(given.maps.into_iter().map(add_endpoints));
        let set = |rules| Op::SetRules { chain: chain.to_owned(), rules };
        self.rules.extend(given.rules.map(set));
        self.slots.append(&mut given.changes);
    }

    fn followups(&mut self, old: &Fragment, new: &Fragment) {
        for ((ip, port), backends) in &new.udp {
            let before = old.udp.get(&(*ip, *port));
            if before.is_none_or(|before| !before.is_subset(backends)) {
                self.udp.push(UdpFrontend { ip: *ip, port: *port, backends: backends.clone() });
            }
        }
        for (ip, port) in old.udp.keys().filter(|at| !new.udp.contains_key(at)) {
            let backends = BTreeSet::new();
            self.udp.push(UdpFrontend { ip: *ip, port: *port, backends });
        }
        for (name, (_, valid)) in &new.memories {
            let before = old.memories.get(name);
            if before.is_some_and(|(_, before)| !before.is_subset(valid)) {
                self.memories.push((name.clone(), valid.clone()));
            }
        }
    }

    fn finish(mut self, claims: &BTreeMap<ElementKey, BTreeMap<FragmentKey, Value>>) -> Changes {
        type Elements = BTreeMap<SetName, Vec<(Vec<KeyPart>, Value)>>;
        let (mut deleted, mut added) = (Elements::new(), Elements::new());
        let claimed = self.touched.into_iter().map(|(place, before)| {
            let after = claims.get(&place).and_then(|c| c.values().next().cloned());
            (place, before, after)
        });
        for ((set, key), before, after) in claimed.chain(joined(self.slots)) {
            if before == after {
                continue;
            }
            if let Some(value) = before {
                deleted.entry(set.clone()).or_default().push((key.clone(), value));
            }
            if let Some(value) = after {
                added.entry(set).or_default().push((key, value));
            }
        }
        let mut ops = self.create;
        ops.append(&mut self.rules);
        ops.extend(deleted.into_iter().map(|(set, e)| Op::DeleteElements { set, elements: e }));
        ops.extend(added.into_iter().map(|(set, e)| Op::AddElements { set, elements: e }));
        ops.append(&mut self.destroy_chains);
        ops.append(&mut self.destroy_sets);
        Changes { ops, udp: self.udp, memories: self.memories }
    }
}

/// One change for each number, where several chains used it one after the other.
fn joined(changes: SlotChanges) -> SlotChanges {
    let mut by_place: BTreeMap<ElementKey, (Option<Value>, Option<Value>)> = BTreeMap::new();
    for (place, before, after) in changes {
        match by_place.entry(place) {
            Entry::Vacant(entry) => {
                entry.insert((before, after));
            }
            Entry::Occupied(mut entry) => entry.get_mut().1 = after,
        }
    }
    by_place.into_iter().map(|(place, (before, after))| (place, before, after)).collect()
}

impl fmt::Display for Ruleset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, key, kind) in &self.sets {
            let elements: Vec<String> = self
                .claims
                .iter()
                .filter(|((set, _), _)| set == name)
                .filter_map(|((_, key), claims)| Some((key, claims.values().next()?)))
                .map(|(key, value)| {
                    let parts: Vec<String> = key.iter().map(KeyPart::to_string).collect();
                    format!("{}{value}", parts.join(" . "))
                })
                .collect();
            let word = match kind {
                SetKind::Members => "set",
                SetKind::Verdicts | SetKind::Backends | SetKind::Remembered(_) => "map",
            };
            writeln!(f, "{word} {name} {{ {} }} = {{", key.types())?;
            for element in elements {
                writeln!(f, "  {element}")?;
            }
            writeln!(f, "}}")?;
        }
        for chain in &self.chains {
            write!(f, "{chain}")?;
        }
        for fragment in self.fragments.values() {
            for (name, (timeout, _)) in &fragment.memories {
                writeln!(f, "map {name} {{ ipv4_addr, timeout {timeout}s }}")?;
            }
            for (name, rules) in &fragment.chains {
                let chain = Chain { name: name.clone(), hook: None, rules: rules.clone() };
                write!(f, "{chain}")?;
            }
        }
        Ok(())
    }
}
