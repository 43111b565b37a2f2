//! Descriptors by number, as a shell's script names them.
//!
//! A script chooses its descriptors (`3>file`), so they have no owner in the type system. Callers
//! use numbers that no `OwnedFd` of theirs holds.
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use crate::check;

/// Makes `to` a copy of `from` that is kept across exec.
pub fn copy_onto(from: RawFd, to: RawFd) -> io::Result<()> {
    if from == to {
        // SAFETY: passes integers; asks whether the descriptor is open.
        return check(unsafe { libc::fcntl(from, libc::F_SETFD, 0) }.into()).map(drop);
    }
    // SAFETY: passes integers; what `to` meant before is the caller's (see the module).
    check(unsafe { libc::dup2(from, to) }.into()).map(drop)
}

/// A copy of a descriptor out of a script's reach (10 or more), closed on exec.
pub fn put_aside(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: passes integers; the result is a new descriptor that nobody else owns.
    unsafe {
        let copy = check(libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 10).into())?;
        Ok(OwnedFd::from_raw_fd(copy as RawFd))
    }
}

/// Closes a descriptor; one that is not open is no error.
pub fn close(fd: RawFd) {
    // SAFETY: passes an integer; the descriptor is the caller's (see the module).
    unsafe { libc::close(fd) };
}
