//! From a profile to a BPF program.
use std::collections::BTreeMap;

use super::{Action, Condition, Instruction, Op, Profile, Rule};

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_EQ: u16 = 0x15;
const JUMP_GT: u16 = 0x25;
const JUMP_GE: u16 = 0x35;
const RETURN: u16 = 0x06;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

#[cfg(target_arch = "x86_64")]
const AUDIT_ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const AUDIT_ARCH: u32 = 0xc000_00b7;
/// Numbers from here on are the x32 calls on x86-64; nothing on other machines.
const X32: u32 = 0x4000_0000;

/// What one range of numbers leads to.
#[derive(Clone, PartialEq, Eq)]
enum Leaf<'a> {
    Plain(Action),
    Rules(Vec<&'a Rule>),
}

/// Compiles a profile. Conditional rules of a call are tried in order, then its unconditional one,
/// then the profile's default. Calls of a foreign architecture do not exist (ENOSYS).
pub fn compile(profile: &Profile) -> Vec<Instruction> {
    let absent = Action::Errno(libc::ENOSYS as u16);
    let mut code = vec![
        op(LOAD, ARCH),
        branch(JUMP_EQ, AUDIT_ARCH, 1, 0),
        op(RETURN, verdict(absent)),
        op(LOAD, NUMBER),
        branch(JUMP_GE, X32, 0, 1),
        op(RETURN, verdict(absent)),
    ];
    let mut calls: BTreeMap<u32, Vec<&Rule>> = BTreeMap::new();
    for rule in &profile.rules {
        calls.entry(rule.call).or_default().push(rule);
    }
    let mut ranges = Vec::new();
    push(&mut ranges, 0, Leaf::Plain(profile.otherwise));
    let mut next = 0;
    for (call, rules) in &calls {
        if *call > next {
            push(&mut ranges, next, Leaf::Plain(profile.otherwise));
        }
        match rules.iter().find(|r| r.conditions.is_empty()) {
            Some(rule) if rules.len() == 1 => push(&mut ranges, *call, Leaf::Plain(rule.action)),
            _ => push(&mut ranges, *call, Leaf::Rules(rules.clone())),
        }
        next = call + 1;
    }
    push(&mut ranges, next, Leaf::Plain(profile.otherwise));
    code.extend(search(&ranges, profile.otherwise));
    code
}

/// Adds a range. Neighbours that lead to the same verdict are one; one that nothing lies in goes.
fn push<'a>(ranges: &mut Vec<(u32, Leaf<'a>)>, start: u32, leaf: Leaf<'a>) {
    if ranges.last().is_some_and(|(at, _)| *at == start) {
        ranges.pop();
    }
    if !ranges.last().is_some_and(|(_, last)| same(last, &leaf)) {
        ranges.push((start, leaf));
    }
}

fn same(a: &Leaf<'_>, b: &Leaf<'_>) -> bool {
    matches!((a, b), (Leaf::Plain(x), Leaf::Plain(y)) if x == y)
}

/// A binary search over ranges; the number is in the accumulator.
fn search(ranges: &[(u32, Leaf<'_>)], otherwise: Action) -> Vec<Instruction> {
    match ranges {
        [] => vec![op(RETURN, verdict(otherwise))],
        [(_, Leaf::Plain(action))] => vec![op(RETURN, verdict(*action))],
        [(_, Leaf::Rules(rules))] => leaf(rules, otherwise),
        _ => {
            let (left, right) = ranges.split_at(ranges.len() / 2);
            let below = search(left, otherwise);
            let mut code = vec![branch(JUMP_GE, right[0].0, 0, 1), op(JUMP, below.len() as u32)];
            code.extend(below);
            code.extend(search(right, otherwise));
            code
        }
    }
}

fn leaf(rules: &[&Rule], otherwise: Action) -> Vec<Instruction> {
    let mut code = Vec::new();
    for rule in rules.iter().filter(|r| !r.conditions.is_empty()) {
        let tests: Vec<_> = rule.conditions.iter().map(test).collect();
        let mut rest: usize = tests.iter().map(Vec::len).sum();
        for test in tests {
            rest -= test.len();
            let len = test.len();
            for (at, mut instruction) in test.into_iter().enumerate() {
                // A failed test goes past the remaining tests and this rule's verdict.
                let fail = (len - at - 1 + rest + 1) as u8;
                if instruction.jump_true == FAIL {
                    instruction.jump_true = fail;
                }
                if instruction.jump_false == FAIL {
                    instruction.jump_false = fail;
                }
                code.push(instruction);
            }
        }
        code.push(op(RETURN, verdict(rule.action)));
    }
    let plain = rules.iter().find(|r| r.conditions.is_empty());
    code.push(op(RETURN, verdict(plain.map_or(otherwise, |r| r.action))));
    code
}

/// Stands for "this rule does not match" until the distance is known. A rule has at most six
/// tests of at most six instructions, so no real distance is as long.
const FAIL: u8 = u8::MAX;

/// The instructions that fall through when the condition holds and jump to `FAIL` when not.
fn test(condition: &Condition) -> Vec<Instruction> {
    let low = ARGUMENTS + u32::from(condition.argument.min(5)) * 8;
    let high = low + 4;
    let (value_low, value_high) = (condition.value as u32, (condition.value >> 32) as u32);
    match condition.op {
        Op::Equal => vec![
            op(LOAD, high),
            branch(JUMP_EQ, value_high, 0, FAIL),
            op(LOAD, low),
            branch(JUMP_EQ, value_low, 0, FAIL),
        ],
        Op::NotEqual => vec![
            op(LOAD, high),
            branch(JUMP_EQ, value_high, 0, 2),
            op(LOAD, low),
            branch(JUMP_EQ, value_low, FAIL, 0),
        ],
        Op::MaskedEqual(mask) => vec![
            op(LOAD, high),
            op(AND, (mask >> 32) as u32),
            branch(JUMP_EQ, value_high, 0, FAIL),
            op(LOAD, low),
            op(AND, mask as u32),
            branch(JUMP_EQ, value_low, 0, FAIL),
        ],
        Op::Greater => above(low, JUMP_GT, condition.value),
        Op::GreaterOrEqual => above(low, JUMP_GE, condition.value),
        Op::Less => below(low, JUMP_GE, condition.value),
        Op::LessOrEqual => below(low, JUMP_GT, condition.value),
    }
}

fn above(low: u32, compare: u16, value: u64) -> Vec<Instruction> {
    let high = (value >> 32) as u32;
    vec![
        op(LOAD, low + 4),
        branch(JUMP_GT, high, 3, 0),
        branch(JUMP_EQ, high, 0, FAIL),
        op(LOAD, low),
        branch(compare, value as u32, 0, FAIL),
    ]
}

fn below(low: u32, compare: u16, value: u64) -> Vec<Instruction> {
    let high = (value >> 32) as u32;
    vec![
        op(LOAD, low + 4),
        branch(JUMP_GT, high, FAIL, 0),
        branch(JUMP_EQ, high, 0, 2),
        op(LOAD, low),
        branch(compare, value as u32, FAIL, 0),
    ]
}

fn op(code: u16, k: u32) -> Instruction {
    Instruction { code, jump_true: 0, jump_false: 0, k }
}

fn branch(code: u16, k: u32, jump_true: u8, jump_false: u8) -> Instruction {
    Instruction { code, jump_true, jump_false, k }
}

fn verdict(action: Action) -> u32 {
    match action {
        Action::Allow => 0x7fff_0000,
        Action::Log => 0x7ffc_0000,
        Action::Errno(code) => 0x0005_0000 | u32::from(code),
        Action::Trap => 0x0003_0000,
        Action::KillThread => 0,
        Action::KillProcess => 0x8000_0000,
    }
}
