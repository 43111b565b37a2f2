//! System call filters: profiles as data, compiled to the kernel's classic BPF.
//!
//! A filter is a binary search over ranges of call numbers, so an allowed call costs about seven
//! comparisons however long the list is. Knows the OCI/Docker profile format and the profile that
//! container runtimes apply by default.
mod compile;
mod profile;
mod standard;
#[cfg(target_arch = "aarch64")]
#[path = "seccomp/aarch64.rs"]
mod table;
#[cfg(target_arch = "x86_64")]
#[path = "seccomp/x86_64.rs"]
mod table;

use std::io;

pub use compile::compile;
pub use profile::parse;

use crate::caps;

/// What the kernel does at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Allow,
    Errno(u16),
    KillThread,
    KillProcess,
    Trap,
    Log,
}

/// A comparison of one argument (0 to 5), all 64 bits of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    pub argument: u8,
    pub op: Op,
    pub value: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    /// `argument & mask == value`.
    MaskedEqual(u64),
}

/// One action for one call, if all conditions hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub call: u32,
    pub conditions: Vec<Condition>,
    pub action: Action,
}

/// Rules and what happens to every call that none of them matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    pub otherwise: Action,
    pub rules: Vec<Rule>,
}

/// One BPF instruction, laid out as the kernel reads it.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    pub code: u16,
    pub jump_true: u8,
    pub jump_false: u8,
    pub k: u32,
}

/// The profile that a pod's `RuntimeDefault` means, for a container with these capabilities.
pub fn runtime_default(capabilities: caps::Set) -> Profile {
    standard::profile(capabilities)
}

/// The number of a call on this machine.
pub fn number(name: &str) -> Option<u32> {
    table::TABLE.iter().find(|(n, _)| *n == name).map(|(_, number)| *number)
}

/// Puts the filter on this process and all it becomes. Needs `CAP_SYS_ADMIN` or no-new-privileges.
pub fn install(program: &[Instruction]) -> io::Result<()> {
    let len = u16::try_from(program.len()).ok().filter(|n| *n <= 4096);
    let len =
        len.ok_or_else(|| io::Error::other("seccomp filter longer than 4096 instructions"))?;
    let program = libc::sock_fprog { len, filter: program.as_ptr() as *mut libc::sock_filter };
    // SAFETY: `Instruction` has the layout of `sock_filter`; program and slice outlive the call,
    // which copies them and writes to neither.
    let done =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &program) };
    crate::check(done).map(drop)
}

#[cfg(test)]
mod tests;
