//! What the kernel offers to a container runtime, as safe functions: the only crate with `unsafe`.
//!
//! Knows nothing of pods or images. Every function is one kernel facility; policy lives above.
//! Invariant: no function here executes another program or keeps hidden state.
pub mod caps;
pub mod cgroup;
pub mod descriptors;
pub mod iptables;
pub mod mount;
pub mod ns;
pub mod pressure;
pub mod process;
pub mod pty;
pub mod seccomp;
pub mod socket;
pub mod xattr;

use std::io;

/// The outcome of a raw system call: -1 means that `errno` says why.
pub(crate) fn check(result: libc::c_long) -> io::Result<i64> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// An error's text as C libraries word it, without the "(os error N)" that Rust adds.
pub fn reason(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(code) => nix::errno::Errno::from_raw(code).desc().to_lowercase(),
        None => error.to_string(),
    }
}
