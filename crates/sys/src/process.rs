//! Making, watching and ending processes.
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use crate::check;

/// What [`fork`] returned: in the parent the child's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fork {
    Parent(i32),
    Child,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Code(i32),
    Signal(i32),
}

impl Ended {
    /// As shells and Kubernetes count: 128 + the signal.
    pub fn code(self) -> i32 {
        match self {
            Ended::Code(code) => code,
            Ended::Signal(signal) => 128 + signal,
        }
    }
}

/// Copies this process.
///
/// # Errors
/// Refuses when the process has more than one thread: the copy would inherit locks that nobody
/// can ever release, and ordinary code could not be run in it.
pub fn fork() -> io::Result<Fork> {
    if thread_count()? != 1 {
        return Err(io::Error::other("fork refused: this process has more than one thread"));
    }
    // SAFETY: there is only this thread (checked above), so the child has a consistent copy of
    // everything, the allocator included.
    match check(unsafe { libc::fork() }.into())? {
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(pid as i32)),
    }
}

fn thread_count() -> io::Result<usize> {
    Ok(std::fs::read_dir("/proc/self/task")?.count())
}

/// A descriptor that becomes readable when the process ends, and that cannot mean another process
/// later, as its number could.
pub fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: passes two integers; the result is a new descriptor that nobody else owns.
    unsafe {
        let fd = check(libc::syscall(libc::SYS_pidfd_open, pid, 0))?;
        Ok(OwnedFd::from_raw_fd(fd as RawFd))
    }
}

/// Sends a signal to the process behind a pidfd.
pub fn pidfd_signal(pidfd: &OwnedFd, signal: i32) -> io::Result<()> {
    // SAFETY: passes integers and a null pointer that the kernel accepts as "no siginfo".
    let sent = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    check(sent).map(drop)
}

/// Waits until the process behind a pidfd has ended, at most `timeout_ms`; whether it has.
pub fn pidfd_wait(pidfd: &OwnedFd, timeout_ms: u16) -> io::Result<bool> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    loop {
        let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::from(timeout_ms)) {
            Ok(n) => return Ok(n > 0),
            Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// The next ended child, if any has ended.
pub fn reap() -> io::Result<Option<(i32, Ended)>> {
    use nix::errno::Errno;
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
    loop {
        return match waitpid(None, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL)) {
            Ok(WaitStatus::Exited(pid, code)) => Ok(Some((pid.as_raw(), Ended::Code(code)))),
            Ok(WaitStatus::Signaled(pid, signal, _)) => {
                Ok(Some((pid.as_raw(), Ended::Signal(signal as i32))))
            }
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => Ok(None),
            Ok(_) | Err(Errno::EINTR) => continue,
            Err(e) => Err(e.into()),
        };
    }
}

/// Sends a signal; a process that is already gone is no error. `pid` must be positive.
pub fn kill(pid: i32, signal: i32) -> io::Result<()> {
    if pid <= 0 {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: passes two integers.
    match check(unsafe { libc::kill(pid, signal) }.into()) {
        Err(e) if e.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        other => other.map(drop),
    }
}

/// Start time of a process in clock ticks since boot: with its id, it names one process for good.
/// `None` when there is no such process or it is a zombie.
pub fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut rest = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    if matches!(rest.next()?, "Z" | "X") {
        return None;
    }
    rest.nth(18)?.parse().ok()
}

/// Ends this process when the one that started it ends.
pub fn die_with_parent() -> io::Result<()> {
    // SAFETY: passes integers.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) }.into()).map(drop)
}

/// From now on no exec can gain privileges.
pub fn no_new_privileges() -> io::Result<()> {
    // SAFETY: passes integers.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.into()).map(drop)
}

/// Whether other processes of the same user may look into this one.
pub fn set_dumpable(dumpable: bool) -> io::Result<()> {
    // SAFETY: passes integers.
    check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, i32::from(dumpable), 0, 0, 0) }.into())
        .map(drop)
}

/// The name shown for this process by `ps` (15 bytes count).
pub fn set_name(name: &str) {
    if let Ok(name) = CString::new(name) {
        // SAFETY: the string outlives the call, which copies it.
        unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
    }
}

/// Gives back to the kernel what the allocator keeps in reserve.
pub fn trim_memory() {
    // SAFETY: no arguments of consequence, always safe to call.
    unsafe { libc::malloc_trim(0) };
}

/// Every signal to its default action and none blocked, as a new program expects.
pub fn reset_signals() -> io::Result<()> {
    for signal in 1..=64 {
        if signal != libc::SIGKILL && signal != libc::SIGSTOP {
            // SAFETY: sets the default action; for the numbers that the C library keeps for
            // itself it fails without effect.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
    }
    nix::sys::signal::SigSet::empty().thread_set_mask().map_err(Into::into)
}

/// Marks all descriptors from `first` on to be closed by the next exec.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: passes integers; descriptors stay valid until the exec.
    let done =
        unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    check(done).map(drop)
}

/// Signals caught since they were last taken, one bit each.
static CAUGHT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

extern "C" fn note_signal(signal: libc::c_int) {
    CAUGHT.fetch_or(1 << signal, std::sync::atomic::Ordering::SeqCst);
}

extern "C" fn end_by_signal(signal: libc::c_int) {
    exit_now(128 + signal)
}

/// What a signal does to this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnSignal {
    Default,
    Ignore,
    /// Interrupts waiting system calls and is told by [`caught_signal`].
    Note,
    /// Ends the process with 128 + signal; for a container's first process, which the kernel
    /// spares the default action.
    End,
}

/// Sets what a signal does.
pub fn on_signal(signal: i32, what: OnSignal) -> io::Result<()> {
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
    let handler = match what {
        OnSignal::Default => SigHandler::SigDfl,
        OnSignal::Ignore => SigHandler::SigIgn,
        OnSignal::Note => SigHandler::Handler(note_signal),
        OnSignal::End => SigHandler::Handler(end_by_signal),
    };
    let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
    // SAFETY: both handlers only do what is allowed at any time: an atomic operation, or `_exit`.
    unsafe { sigaction(Signal::try_from(signal)?, &action) }?;
    Ok(())
}

/// Takes one of the signals noted since.
pub fn caught_signal() -> Option<i32> {
    use std::sync::atomic::Ordering::SeqCst;
    let signal = CAUGHT.load(SeqCst).trailing_zeros();
    if signal == 64 {
        return None;
    }
    CAUGHT.fetch_and(!(1 << signal), SeqCst);
    Some(signal as i32)
}

/// Closes all descriptors from `first` on. For the start of a program, before it opened any: one
/// that is owned somewhere must not be closed behind its owner's back.
pub fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: called before anything was opened (see above), so no owner is left dangling.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) }).map(drop)
}

/// Does nothing for ever but let ended children vanish: the first process of a shared namespace.
pub fn idle() -> ! {
    // SAFETY: ignoring SIGCHLD makes the kernel reap; `pause` has no arguments.
    unsafe {
        libc::signal(libc::SIGCHLD, libc::SIG_IGN);
        loop {
            libc::pause();
        }
    }
}

/// Makes descriptor `to` (0, 1 or 2) a copy of `from`, kept across exec.
pub fn redirect(from: &impl AsRawFd, to: RawFd) -> io::Result<()> {
    if from.as_raw_fd() == to {
        // SAFETY: clears the close-on-exec flag of a descriptor that the caller holds.
        return check(unsafe { libc::fcntl(to, libc::F_SETFD, 0) }.into()).map(drop);
    }
    // SAFETY: `to` is one of the standard descriptors, which this crate's callers do not own as
    // an `OwnedFd`; `from` is held by the caller.
    check(unsafe { libc::dup2(from.as_raw_fd(), to) }.into()).map(drop)
}

/// Replaces the program of this process; returns only when that failed.
pub fn exec(path: &CString, args: &[CString], env: &[CString]) -> io::Error {
    nix::unistd::execve(path, args, env).err().map_or_else(io::Error::last_os_error, Into::into)
}

/// Ends this process at once, running no destructors and flushing nothing: for forked children.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: does not return.
    unsafe { libc::_exit(code) }
}

/// Sets a resource limit by its name, such as `RLIMIT_NOFILE`.
pub fn set_rlimit(name: &str, soft: u64, hard: u64) -> io::Result<()> {
    let resource = match name {
        "RLIMIT_AS" => libc::RLIMIT_AS,
        "RLIMIT_CORE" => libc::RLIMIT_CORE,
        "RLIMIT_CPU" => libc::RLIMIT_CPU,
        "RLIMIT_DATA" => libc::RLIMIT_DATA,
        "RLIMIT_FSIZE" => libc::RLIMIT_FSIZE,
        "RLIMIT_LOCKS" => libc::RLIMIT_LOCKS,
        "RLIMIT_MEMLOCK" => libc::RLIMIT_MEMLOCK,
        "RLIMIT_MSGQUEUE" => libc::RLIMIT_MSGQUEUE,
        "RLIMIT_NICE" => libc::RLIMIT_NICE,
        "RLIMIT_NOFILE" => libc::RLIMIT_NOFILE,
        "RLIMIT_NPROC" => libc::RLIMIT_NPROC,
        "RLIMIT_RSS" => libc::RLIMIT_RSS,
        "RLIMIT_RTPRIO" => libc::RLIMIT_RTPRIO,
        "RLIMIT_SIGPENDING" => libc::RLIMIT_SIGPENDING,
        "RLIMIT_STACK" => libc::RLIMIT_STACK,
        _ => return Err(io::Error::from_raw_os_error(libc::EINVAL)),
    };
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the structure outlives the call.
    check(unsafe { libc::setrlimit(resource, &limit) }.into()).map(drop)
}

/// Takes on a user: supplementary groups, group, then user. Keeps the permitted capabilities, so
/// that the caller can still choose what to keep.
pub fn become_user(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    // SAFETY: passes integers.
    check(unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0) }.into())?;
    // SAFETY: the raw calls act on this thread only, which is the only one; the slice outlives
    // the call.
    unsafe {
        check(libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()))?;
        check(libc::syscall(libc::SYS_setresgid, gid, gid, gid))?;
        check(libc::syscall(libc::SYS_setresuid, uid, uid, uid))?;
    }
    Ok(())
}
/// The calling thread, when it wakes up, lets who has the processor finish its turn
/// (`SCHED_BATCH`). It gets its share all the same.
pub fn wait_for_a_turn() -> io::Result<()> {
    let none = libc::sched_param { sched_priority: 0 };
    // SAFETY: the pointer is to a value that lives through the call; 0 is the calling thread.
    check(unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const none) }.into())?;
    Ok(())
}
