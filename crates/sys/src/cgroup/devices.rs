//! Which devices a group may use: a list in v1, a small program attached to the group in v2.
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use crate::check;

/// One permission. `None` stands for every number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRule {
    /// `true`: a block device.
    pub block: bool,
    pub major: Option<u32>,
    pub minor: Option<u32>,
    pub read: bool,
    pub write: bool,
    pub mknod: bool,
}

impl DeviceRule {
    /// What every container may use: making nodes, and the harmless devices.
    pub fn standard() -> Vec<DeviceRule> {
        let rule = |block, major, minor| DeviceRule {
            block,
            major,
            minor,
            read: true,
            write: true,
            mknod: true,
        };
        let node = |block| DeviceRule { read: false, write: false, ..rule(block, None, None) };
        let mut all = vec![node(false), node(true)];
        // null, zero, full, random, urandom; tty, console, ptmx; terminals of devpts.
        for (major, minor) in [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)] {
            all.push(rule(false, Some(major), Some(minor)));
        }
        all.push(rule(false, Some(136), None));
        all
    }

    /// Every device there is.
    pub fn everything() -> Vec<DeviceRule> {
        let rule = |block| DeviceRule {
            block,
            major: None,
            minor: None,
            read: true,
            write: true,
            mknod: true,
        };
        vec![rule(false), rule(true)]
    }

    fn text(&self) -> String {
        let number = |n: Option<u32>| n.map_or("*".to_owned(), |n| n.to_string());
        let kind = if self.block { 'b' } else { 'c' };
        let mut text = format!("{kind} {}:{} ", number(self.major), number(self.minor));
        let letters = [(self.read, 'r'), (self.write, 'w'), (self.mknod, 'm')];
        text.extend(letters.iter().filter(|(on, _)| *on).map(|(_, letter)| letter));
        text
    }

    fn access(&self) -> i32 {
        // BPF_DEVCG_ACC_MKNOD, _READ, _WRITE.
        i32::from(self.mknod) | i32::from(self.read) << 1 | i32::from(self.write) << 2
    }
}

pub(super) fn write_v1(group: &Path, rules: &[DeviceRule]) -> io::Result<()> {
    fs::write(group.join("devices.deny"), "a")?;
    for rule in rules {
        fs::write(group.join("devices.allow"), rule.text())?;
    }
    Ok(())
}

/// An instruction of the kernel's eBPF: operation, destination and source register, offset, number.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xb7;
const MOVE_REGISTER: u8 = 0xbf;
const AND: u8 = 0x57;
const RIGHT_SHIFT: u8 = 0x77;
const JUMP_NOT_EQUAL: u8 = 0x55;
const EXIT: u8 = 0x95;

fn op(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: to | from << 4, offset, immediate }
}

/// The program: register 2 the kind, 3 the wanted access, 4 major, 5 minor; 1 is the context.
fn program(rules: &[DeviceRule]) -> Vec<Instruction> {
    let mut code = vec![
        op(LOAD_WORD, 2, 1, 0, 0),
        op(MOVE_REGISTER, 3, 2, 0, 0),
        op(AND, 2, 0, 0, 0xffff),
        op(RIGHT_SHIFT, 3, 0, 0, 16),
        op(LOAD_WORD, 4, 1, 4, 0),
        op(LOAD_WORD, 5, 1, 8, 0),
    ];
    for rule in rules {
        // BPF_DEVCG_DEV_BLOCK is 1, _CHAR 2.
        let mut tests = vec![op(JUMP_NOT_EQUAL, 2, 0, 0, if rule.block { 1 } else { 2 })];
        if rule.access() != 7 {
            tests.push(op(MOVE_REGISTER, 1, 3, 0, 0));
            tests.push(op(AND, 1, 0, 0, 7 & !rule.access()));
            tests.push(op(JUMP_NOT_EQUAL, 1, 0, 0, 0));
        }
        let numbers = [(4, rule.major), (5, rule.minor)];
        for (register, number) in numbers {
            tests.extend(number.map(|n| op(JUMP_NOT_EQUAL, register, 0, 0, n as i32)));
        }
        let len = tests.len();
        for (at, mut test) in tests.into_iter().enumerate() {
            if test.code == JUMP_NOT_EQUAL {
                // Past the remaining tests and the two instructions of the verdict.
                test.offset = (len - at - 1 + 2) as i16;
            }
            code.push(test);
        }
        code.extend([op(MOVE, 0, 0, 0, 1), op(EXIT, 0, 0, 0, 0)]);
    }
    code.extend([op(MOVE, 0, 0, 0, 0), op(EXIT, 0, 0, 0, 0)]);
    code
}

#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

#[repr(C)]
struct AttachAttr {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
    replace: u32,
}

const PROG_LOAD: libc::c_long = 5;
const PROG_ATTACH: libc::c_long = 8;
const TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;

pub(super) fn attach_v2(group: &Path, rules: &[DeviceRule]) -> io::Result<()> {
    let code = program(rules);
    let license = c"Apache-2.0";
    let load = LoadAttr {
        kind: TYPE_CGROUP_DEVICE,
        count: code.len() as u32,
        instructions: code.as_ptr() as u64,
        license: license.as_ptr() as u64,
        ..LoadAttr::default()
    };
    // SAFETY: the attributes, the instructions and the license outlive the call, which only reads
    // them; the result is a new descriptor.
    let loaded = unsafe {
        let fd = check(libc::syscall(libc::SYS_bpf, PROG_LOAD, &load, size_of::<LoadAttr>()))?;
        OwnedFd::from_raw_fd(fd as RawFd)
    };
    let folder = fs::File::open(group)?;
    let attach = AttachAttr {
        target: folder.as_raw_fd() as u32,
        program: loaded.as_raw_fd() as u32,
        kind: ATTACH_CGROUP_DEVICE,
        flags: ALLOW_MULTI,
        replace: 0,
    };
    // SAFETY: the attributes outlive the call, which only reads them.
    let attached =
        unsafe { libc::syscall(libc::SYS_bpf, PROG_ATTACH, &attach, size_of::<AttachAttr>()) };
    check(attached).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_read_as_v1_wants_them() {
        let texts: Vec<_> = DeviceRule::standard().iter().map(DeviceRule::text).collect();
        assert_eq!(texts[..3], ["c *:* m", "b *:* m", "c 1:3 rwm"]);
        assert_eq!(texts.last().map(String::as_str), Some("c 136:* rwm"));
    }

    /// The kernel's verifier is the judge of the program: every jump lands, every path ends.
    #[test]
    fn every_jump_stays_inside() {
        let code = program(&DeviceRule::standard());
        for (at, i) in code.iter().enumerate().filter(|(_, i)| i.code == JUMP_NOT_EQUAL) {
            let target = at + 1 + i.offset as usize;
            assert!(target < code.len() && i.offset > 0, "instruction {at}");
            assert_eq!(code[target - 1].code, EXIT, "a failed rule goes on with the next");
        }
    }
}
