//! A tiny parent for the server and for each agent that `kybern up` starts.
//!
//! It is a copy of the process made before there is any thread, so it shares nearly all of its
//! memory with the component. It sleeps until the kernel tells it of a signal or of output. A
//! component that fails before it was ever ready is not started again (`kybern up` reports that),
//! nor one that ended with success: somebody asked it to.
use crate::process::{self, Running};
use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MOST: Duration = Duration::from_secs(30);
/// One that has lived this long starts over with the shortest pause.
const SETTLED: Duration = Duration::from_secs(60);

/// Splits this process in two. Returns in the component, once for each time that it is started;
/// the supervisor stays inside and ends with the component.
pub(crate) fn enter(pid_file: &Path) -> Result<()> {
    process::detach();
    let mut asked = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD] {
        asked.add(signal);
    }
    asked.thread_block().context("cannot block signals")?;
    let signals = SignalFd::with_flags(&asked, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .context("cannot watch signals")?;
    let mut supervisor = Supervisor { signals, ready: false, stopping: false, restarts: 0 };
    let mut pause = BACKOFF_FIRST;
    loop {
        let born = Instant::now();
        let flags = OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let (heard, said) = nix::unistd::pipe2(flags).context("cannot make a pipe")?;
        let pid = match sys::process::fork().context("cannot make the component's process")? {
            sys::process::Fork::Child => {
                nix::unistd::dup2_stdout(said).context("cannot redirect the output")?;
                asked.thread_unblock().context("cannot unblock signals")?;
                return Ok(());
            }
            sys::process::Fork::Parent(pid) => Pid::from_raw(pid),
        };
        drop(said);
        if let Err(error) = record(pid_file, pid, supervisor.restarts) {
            eprintln!("supervisor: cannot write {}: {error}", pid_file.display());
        }
        let ended = supervisor.watch(pid, heard);
        let code = exit_code(ended);
        if supervisor.stopping || !supervisor.ready || code == 0 {
            std::process::exit(code);
        }
        if born.elapsed() >= SETTLED {
            pause = BACKOFF_FIRST;
        }
        eprintln!("supervisor: {ended:?}: started again in {} ms", pause.as_millis());
        if supervisor.stopped_within(pause) {
            std::process::exit(0);
        }
        pause = longer(pause);
        supervisor.restarts += 1;
    }
}

struct Supervisor {
    signals: SignalFd,
    /// The component was ready once; whoever started it has gone its way.
    ready: bool,
    stopping: bool,
    restarts: u32,
}

impl Supervisor {
    /// Passes on what the component says and what it is told, until it has ended.
    fn watch(&mut self, pid: Pid, heard: OwnedFd) -> WaitStatus {
        let mut output = Some(heard);
        loop {
            let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            fds.extend(output.iter().map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)));
            let _ = poll(&mut fds, PollTimeout::NONE);
            drop(fds);
            self.take_signals(Some(pid));
            // Looked at first: all that it said is in the pipe once it is known to have ended.
            let state = waitpid(pid, Some(WaitPidFlag::WNOHANG));
            if output.as_ref().is_some_and(|fd| self.relay(fd)) {
                output = None;
            }
            match state {
                Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => {}
                Ok(ended @ (WaitStatus::Exited(..) | WaitStatus::Signaled(..))) => return ended,
                Ok(_) => {}
                Err(_) => return WaitStatus::Exited(pid, 1),
            }
        }
    }

    /// True at the end of the output.
    fn relay(&mut self, fd: &OwnedFd) -> bool {
        let mut buffer = [0; 1024];
        loop {
            match nix::unistd::read(fd, &mut buffer) {
                Ok(0) => return true,
                Ok(n) => self.pass_on(&buffer[..n]),
                Err(Errno::EINTR) => {}
                Err(error) => return error != Errno::EAGAIN,
            }
        }
    }

    fn pass_on(&mut self, text: &[u8]) {
        if self.ready {
            return;
        }
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(text).and_then(|()| out.flush());
        drop(out);
        // Written in one piece, as its last word.
        if text == b"ready\n" || text.ends_with(b"\nready\n") {
            self.ready = true;
            process::forget_stdout();
        }
    }

    fn take_signals(&mut self, child: Option<Pid>) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            if info.ssi_signo == Signal::SIGCHLD as u32 {
                continue;
            }
            self.stopping = true;
            if let Some(pid) = child {
                let _ = kill(pid, Signal::SIGTERM);
            }
        }
    }

    fn stopped_within(&mut self, pause: Duration) -> bool {
        let deadline = Instant::now() + pause;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if self.stopping || left.is_zero() {
                return self.stopping;
            }
            let timeout = PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX);
            let mut fds = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut fds, timeout);
            self.take_signals(None);
        }
    }
}

fn longer(pause: Duration) -> Duration {
    (pause * 2).min(BACKOFF_MOST)
}

fn exit_code(ended: WaitStatus) -> i32 {
    match ended {
        WaitStatus::Exited(_, code) => code,
        WaitStatus::Signaled(_, signal, _) => 128 + signal as i32,
        _ => 1,
    }
}

/// The component, its supervisor and how often it was started again: see [`process::running`].
fn record(pid_file: &Path, pid: Pid, restarts: u32) -> std::io::Result<()> {
    let line = |pid: i32| Running::of(pid).map_or_else(|| "-".to_owned(), Running::written);
    let text = format!("{}\n{}\n{restarts}\n", line(pid.as_raw()), line(Pid::this().as_raw()));
    let temporary = pid_file.with_extension("new");
    std::fs::write(&temporary, text)?;
    std::fs::rename(&temporary, pid_file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound() {
        let mut pause = BACKOFF_FIRST;
        for _ in 0..20 {
            let next = longer(pause);
            assert!(next > pause || next == BACKOFF_MOST);
            pause = next;
        }
        assert_eq!(pause, BACKOFF_MOST);
    }
}
