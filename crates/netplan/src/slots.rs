//! Which numbers of the maps of endpoints belong to which chain.
//!
//! A chain that chooses among endpoints has a block of numbers in a row. Blocks have sizes of
//! powers of two and are used again, so the numbers stay few and most changes stay in place.
//! When an endpoint takes another's place, only elements change: the kernel need not check all
//! rules anew.
//!
//! The kernel finds a map by going through all of them, and checks each new element against all
//! rules that use its map, and each new rule against all elements. So there is neither a map for
//! each chain nor one for all, but one for every [`MAP_NUMBERS`] numbers.
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddrV4;

use crate::rule::{KeyPart, Pool, Rule, Stmt, Value};
use crate::ruleset::ElementKey;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Slots {
    blocks: HashMap<String, Block>,
    /// Free blocks by size.
    free: BTreeMap<u32, Vec<u32>>,
    next: u32,
    /// Maps made so far.
    maps: u32,
}

const MAP_NUMBERS: u32 = 256;

/// What a chain was given.
pub(crate) struct Assigned {
    /// With the numbers in them; `None` if they are as they were.
    pub rules: Option<Vec<Rule>>,
    /// To be made first.
    pub maps: Vec<String>,
    pub changes: SlotChanges,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Block {
    first: u32,
    size: u32,
    backends: Vec<SocketAddrV4>,
    rules: Vec<Rule>,
}

/// What changes in the map: each number with the backend before and after.
pub(crate) type SlotChanges = Vec<(ElementKey, Option<Value>, Option<Value>)>;

impl Slots {
    /// Gives a chain the numbers that its rules need (none for no rules).
    pub(crate) fn assign(&mut self, chain: &str, rules: &[Rule]) -> Assigned {
        let backends = rules.iter().flatten().find_map(choice).unwrap_or_default();
        let count = backends.len() as u32;
        let size = if count == 0 { 0 } else { count.next_power_of_two() };
        let before = self.blocks.remove(chain);
        let keep = before.as_ref().is_some_and(|block| block.size == size);
        let first = match &before {
            Some(block) if keep => block.first,
            _ if count == 0 => 0,
            _ => self.take(size),
        };
        let numbered: Vec<Rule> = rules.iter().map(|rule| numbered(rule, first, count)).collect();
        let same = before.as_ref().is_some_and(|block| block.rules == numbered);
        let mut changes = SlotChanges::new();
        if let Some(block) = before {
            let kept = if keep { backends } else { &[] };
            for (i, old) in block.backends.iter().enumerate() {
                let new = kept.get(i);
                if new != Some(old) {
                    changes.push((key(block.first, i), value(Some(old)), value(new)));
                }
            }
            if keep {
                for (i, new) in backends.iter().enumerate().skip(block.backends.len()) {
                    changes.push((key(first, i), None, value(Some(new))));
                }
            } else {
                self.free.entry(block.size).or_default().push(block.first);
            }
        }
        if !keep {
            let all = backends.iter().enumerate();
            changes.extend(all.map(|(i, new)| (key(first, i), None, value(Some(new)))));
        }
        if count > 0 {
            let rules = numbered.clone();
            let block = Block { first, size, backends: backends.to_vec(), rules };
            self.blocks.insert(chain.to_owned(), block);
        }
        let enough = if count == 0 { 0 } else { first / MAP_NUMBERS + 1 };
        let maps = (self.maps..enough).map(|index| map_name(index * MAP_NUMBERS)).collect();
        self.maps = self.maps.max(enough);
        Assigned { rules: (!same).then_some(numbered), maps, changes }
    }

    fn take(&mut self, size: u32) -> u32 {
        if let Some(first) = self.free.get_mut(&size).and_then(Vec::pop) {
            return first;
        }
        // A block lies in one map, or begins one.
        let first = self.next.next_multiple_of(size);
        self.next = first + size;
        first
    }
}

/// The backends a statement chooses from.
fn choice(stmt: &Stmt) -> Option<&[SocketAddrV4]> {
    match stmt {
        Stmt::Dnat { pool: Pool::Backends(backends) }
        | Stmt::DnatRemember { pool: Pool::Backends(backends), .. }
            if !backends.is_empty() =>
        {
            Some(backends)
        }
        _ => None,
    }
}

fn numbered(rule: &Rule, first: u32, count: u32) -> Rule {
    let mut rule = rule.clone();
    for stmt in &mut rule {
        if choice(stmt).is_none() {
            continue;
        }
        if let Stmt::Dnat { pool } | Stmt::DnatRemember { pool, .. } = stmt {
            *pool = Pool::Slots { map: map_name(first), first, count };
        }
    }
    rule
}

/// The map that has the block beginning there.
fn map_name(first: u32) -> String {
    format!("endpoints-{}", first / MAP_NUMBERS)
}

fn key(first: u32, index: usize) -> ElementKey {
    (map_name(first).into(), vec![KeyPart::Number(first + index as u32)])
}

fn value(backend: Option<&SocketAddrV4>) -> Option<Value> {
    backend.map(|at| Value::Backend(*at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(count: u16) -> Vec<Rule> {
        let at = |i| SocketAddrV4::new([10, 0, 0, 1].into(), i);
        vec![vec![Stmt::Dnat { pool: Pool::Backends((1..=count).map(at).collect()) }]]
    }

    fn first(given: &Assigned) -> u32 {
        match &given.rules.as_ref().unwrap()[0][0] {
            Stmt::Dnat { pool: Pool::Slots { first, .. } } => *first,
            other => panic!("no numbers in {other}"),
        }
    }

    #[test]
    fn blocks_do_not_overlap_and_are_used_again() {
        let mut slots = Slots::default();
        let a = slots.assign("a", &rules(3));
        assert_eq!((first(&a), a.changes.len()), (0, 3));
        assert_eq!(a.maps, ["endpoints-0"]);
        let b = slots.assign("b", &rules(2));
        assert_eq!((first(&b), b.maps.len()), (4, 0));
        // Room for a fourth in place.
        let a = slots.assign("a", &rules(4));
        assert_eq!((first(&a), a.changes.len()), (0, 1));
        // A fifth needs to move: four go, five come.
        let a = slots.assign("a", &rules(5));
        assert_eq!((first(&a), a.changes.len()), (8, 9));
        let c = slots.assign("c", &rules(4));
        assert_eq!(first(&c), 0);
        let gone = slots.assign("a", &[]);
        assert_eq!((gone.rules, gone.changes.len()), (Some(Vec::new()), 5));
        assert!(slots.blocks.keys().all(|chain| chain != "a"));
        // Larger than a map: it begins one, and the next block has another.
        let large = slots.assign("d", &rules(300));
        assert_eq!(first(&large), 512);
        assert_eq!(large.maps, ["endpoints-1", "endpoints-2"]);
        let after = slots.assign("e", &rules(9));
        assert_eq!(first(&after), 1024);
    }

    #[test]
    fn a_replaced_backend_changes_no_rule() {
        let pool = |ports: &[u16]| {
            let at = |port: &u16| SocketAddrV4::new([10, 0, 0, 1].into(), *port);
            vec![vec![Stmt::Dnat { pool: Pool::Backends(ports.iter().map(at).collect()) }]]
        };
        let mut slots = Slots::default();
        assert!(slots.assign("a", &pool(&[1])).rules.is_some());
        let replaced = slots.assign("a", &pool(&[2]));
        assert!(replaced.rules.is_none());
        assert_eq!(replaced.changes.len(), 1);
        assert!(slots.assign("a", &pool(&[2, 3])).rules.is_some());
    }
}
