//! Pseudo terminals.
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

use crate::check;

/// Opens a new terminal of the devpts that `/dev/ptmx` of this root leads to: master and slave.
pub fn open() -> io::Result<(OwnedFd, OwnedFd)> {
    let master = File::options()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY | libc::O_CLOEXEC)
        .open("/dev/ptmx")?;
    let unlock: libc::c_int = 0;
    // SAFETY: the integer outlives the first call; the second passes flags and returns a new
    // descriptor.
    unsafe {
        check(libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &unlock).into())?;
        let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
        let slave = check(libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags).into())?;
        Ok((master.into(), OwnedFd::from_raw_fd(slave as RawFd)))
    }
}

/// Makes the slave this process's controlling terminal; the process must lead a session.
pub fn make_controlling(slave: impl AsFd) -> io::Result<()> {
    // SAFETY: passes integers.
    check(unsafe { libc::ioctl(slave.as_fd().as_raw_fd(), libc::TIOCSCTTY, 0) }.into()).map(drop)
}

/// Sets the window size; the foreground process group is told by SIGWINCH.
pub fn resize(terminal: impl AsFd, columns: u16, rows: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the structure outlives the call.
    check(unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &size) }.into())
        .map(drop)
}

/// The window size: columns and rows.
pub fn size(terminal: impl AsFd) -> io::Result<(u16, u16)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the structure outlives the call.
    let got = unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &mut size) };
    check(got.into())?;
    Ok((size.ws_col, size.ws_row))
}
