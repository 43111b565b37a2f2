//! Long programs that are waited for with a bound: they get what this process is told (`SIGINT`,
//! `SIGTERM`) as an interrupt, so that what they have done so far can still be written down.
use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// From the interrupt to the end; after that it is killed.
const GRACE: Duration = Duration::from_secs(90);

/// Somebody asked this process to end; what was done is written down.
#[derive(Debug)]
pub(crate) struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    /// It was asked to end because of a signal.
    pub(crate) interrupted: bool,
    /// It was asked to end because its time was over.
    pub(crate) late: bool,
}

/// A file that a program writes to as long as it gets on, and how long it may be silent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Voice<'a> {
    pub(crate) file: &'a Path,
    pub(crate) patience: Duration,
}

impl Voice<'_> {
    /// How long it may still be silent.
    fn left(&self) -> Duration {
        let changed = std::fs::metadata(self.file).and_then(|file| file.modified());
        let silent = changed.ok().and_then(|at| at.elapsed().ok()).unwrap_or_default();
        self.patience.saturating_sub(silent)
    }
}

/// Runs the command, and all that it starts, until it ends, the deadline is there, or nothing more
/// is heard of it.
pub(crate) fn run(
    command: &mut Command,
    deadline: Instant,
    voice: Option<Voice<'_>>,
) -> Result<Ended> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child =
        command.process_group(0).spawn().with_context(|| format!("cannot run {name}"))?;
    let mut asked = SigSet::empty();
    asked.add(Signal::SIGINT);
    asked.add(Signal::SIGTERM);
    // After the start: a child would inherit it.
    asked.thread_block().context("cannot block signals")?;
    let ended = wait(&mut child, &asked, deadline, voice);
    asked.thread_unblock().context("cannot unblock signals")?;
    ended.with_context(|| format!("cannot wait for {name}"))
}

fn wait(
    child: &mut Child,
    asked: &SigSet,
    mut deadline: Instant,
    voice: Option<Voice<'_>>,
) -> Result<Ended> {
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    let signals = SignalFd::with_flags(asked, flags)?;
    let pid = i32::try_from(child.id())?;
    let group = Pid::from_raw(pid);
    let process = sys::process::pidfd_open(pid)?;
    let (mut interrupted, mut late) = (false, false);
    loop {
        let voice = voice.filter(|_| !interrupted && !late);
        let left = deadline.saturating_duration_since(Instant::now());
        let left = voice.map_or(left, |voice| left.min(voice.left()));
        let mut fds = [
            PollFd::new(process.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        let timeout = PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, timeout) {
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        let has_ended = fds[0].any().unwrap_or(false);
        if has_ended {
            let status = child.wait()?;
            // What it left behind; none of it may outlive it.
            let _ = killpg(group, Signal::SIGKILL);
            return Ok(Ended { status, interrupted, late });
        }
        let told = matches!(signals.read_signal(), Ok(Some(_)));
        let is_silent = voice.is_some_and(|voice| voice.left().is_zero());
        let is_over = Instant::now() >= deadline || is_silent;
        if (told && interrupted) || (is_over && (interrupted || late)) {
            killpg(group, Signal::SIGKILL)?;
        } else if told || is_over {
            interrupted |= told;
            late |= is_over;
            killpg(group, Signal::SIGINT)?;
            deadline = Instant::now() + GRACE;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Stdio;

    /// The script once it runs. Whoever runs the tests may ignore interrupts, and so would all that
    /// they start, until `env` has seen to that.
    fn begun(script: &str) -> Child {
        let mut command = Command::new("env");
        command.args(["--default-signal=INT", "sh", "-c", &format!("echo; {script}")]);
        let mut child = command.process_group(0).stdout(Stdio::piped()).spawn().unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        child
    }

    #[test]
    fn the_end_of_a_program_is_told() {
        let mut command = Command::new("sh");
        command.args(["-c", "exit 3"]);
        let ended = run(&mut command, Instant::now() + GRACE, None).unwrap();
        assert_eq!((ended.status.code(), ended.interrupted, ended.late), (Some(3), false, false));
    }

    #[test]
    fn what_takes_too_long_is_interrupted_with_all_that_it_started() {
        let mut child = begun("sleep 1000 & exec sleep 1000");
        let ended = wait(&mut child, &SigSet::empty(), Instant::now(), None).unwrap();
        assert_eq!(ended.status.signal(), Some(Signal::SIGINT as i32));
        assert!(ended.late && !ended.interrupted);
    }

    #[test]
    fn what_is_silent_for_too_long_is_interrupted() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let voice = Voice { file: file.path(), patience: Duration::from_millis(50) };
        let mut child = begun("exec sleep 1000");
        let deadline = Instant::now() + GRACE;
        let ended = wait(&mut child, &SigSet::empty(), deadline, Some(voice)).unwrap();
        assert!(ended.late && !ended.interrupted);
        assert_eq!(ended.status.signal(), Some(Signal::SIGINT as i32));
    }
}
