//! Namespaces: leaving, joining and holding them.
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

pub use nix::sched::CloneFlags as Kind;

/// Moves this process into new namespaces of these kinds.
pub fn unshare(kinds: Kind) -> io::Result<()> {
    nix::sched::unshare(kinds).map_err(Into::into)
}

/// Joins a namespace that a file of `/proc/<pid>/ns/` names.
pub fn join(file: impl AsFd, kind: Kind) -> io::Result<()> {
    nix::sched::setns(file, kind).map_err(Into::into)
}

/// Opens `/proc/<pid>/ns/<name>`; pid 0 is this process.
pub fn open(pid: i32, name: &str) -> io::Result<File> {
    if pid == 0 {
        File::open(Path::new("/proc/self/ns").join(name))
    } else {
        File::open(format!("/proc/{pid}/ns/{name}"))
    }
}

/// Sets the host name of this process's UTS namespace.
pub fn set_hostname(name: &str) -> io::Result<()> {
    nix::unistd::sethostname(name).map_err(Into::into)
}

/// Brings up the loopback link of this process's network namespace.
pub fn loopback_up() -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let socket = nix::sys::socket::socket(
        nix::sys::socket::AddressFamily::Inet,
        nix::sys::socket::SockType::Datagram,
        nix::sys::socket::SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    // SAFETY: an all-zero `ifreq` is a valid one; name and flags are written inside its bounds;
    // the kernel reads and writes only this structure.
    unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l' as libc::c_char;
        request.ifr_name[1] = b'o' as libc::c_char;
        crate::check(libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &mut request).into())?;
        request.ifr_ifru.ifru_flags |= (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        crate::check(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &request).into())?;
    }
    Ok(())
}
