//! Which numbers of the map of all endpoints belong to which chain.
//!
//! A chain that chooses among several endpoints has a block of numbers in a row. Blocks have sizes
//! of powers of two and are used again, so the numbers stay few and most changes stay in place.
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddrV4;

use crate::base::ENDPOINTS;
use crate::rule::{KeyPart, Pool, Rule, Stmt, Value};
use crate::ruleset::ElementKey;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Slots {
    blocks: HashMap<String, Block>,
    /// Free blocks by size.
    free: BTreeMap<u32, Vec<u32>>,
    next: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Block {
    first: u32,
    size: u32,
    backends: Vec<SocketAddrV4>,
}

/// What changes in the map: each number with the backend before and after.
pub(crate) type SlotChanges = Vec<(ElementKey, Option<Value>, Option<Value>)>;

impl Slots {
    /// Gives a chain the numbers that its rules need (none for no rules), and returns the rules
    /// with the numbers in them.
    pub(crate) fn assign(&mut self, chain: &str, rules: &[Rule]) -> (Vec<Rule>, SlotChanges) {
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
        let rules = rules.iter().map(|rule| numbered(rule, first, count)).collect();
        if count > 0 {
            let block = Block { first, size, backends: backends.to_vec() };
            self.blocks.insert(chain.to_owned(), block);
        }
        (rules, changes)
    }

    fn take(&mut self, size: u32) -> u32 {
        if let Some(first) = self.free.get_mut(&size).and_then(Vec::pop) {
            return first;
        }
        let first = self.next;
        self.next += size;
        first
    }
}

/// The backends a statement chooses from, if there is a choice.
fn choice(stmt: &Stmt) -> Option<&[SocketAddrV4]> {
    match stmt {
        Stmt::Dnat { pool: Pool::Backends(backends) }
        | Stmt::DnatRemember { pool: Pool::Backends(backends), .. }
            if backends.len() > 1 =>
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
            *pool = Pool::Slots { first, count };
        }
    }
    rule
}

fn key(first: u32, index: usize) -> ElementKey {
    (ENDPOINTS, vec![KeyPart::Number(first + index as u32)])
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

    fn first(rules: &[Rule]) -> u32 {
        match &rules[0][0] {
            Stmt::Dnat { pool: Pool::Slots { first, .. } } => *first,
            other => panic!("no numbers in {other}"),
        }
    }

    #[test]
    fn blocks_do_not_overlap_and_are_used_again() {
        let mut slots = Slots::default();
        let (a, added) = slots.assign("a", &rules(3));
        assert_eq!((first(&a), added.len()), (0, 3));
        let (b, _) = slots.assign("b", &rules(2));
        assert_eq!(first(&b), 4);
        // Room for a fourth in place.
        let (a, added) = slots.assign("a", &rules(4));
        assert_eq!((first(&a), added.len()), (0, 1));
        // A fifth needs to move: four go, five come.
        let (a, changes) = slots.assign("a", &rules(5));
        assert_eq!((first(&a), changes.len()), (6, 9));
        let (c, _) = slots.assign("c", &rules(4));
        assert_eq!(first(&c), 0);
        let (gone, changes) = slots.assign("a", &[]);
        assert_eq!((gone.len(), changes.len()), (0, 5));
        assert!(changes.iter().all(|(_, _, after)| after.is_none()));
    }

    #[test]
    fn one_backend_needs_no_number() {
        let mut slots = Slots::default();
        let (one, changes) = slots.assign("a", &rules(1));
        assert_eq!((one, changes), (rules(1), Vec::new()));
    }
}
