//! Signals without handlers: what the shell acts on is blocked and read from a descriptor.
//!
//! A wait is a poll over that descriptor, so that a trap runs at once and no signal is lost
//! between a look and a wait. Programs start with the mask that the shell was started with.
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use sys::process::{OnSignal, on_signal};

/// Name and number of the signals that traps know; 0 is the shell's own end.
pub(super) const NAMES: &[(&str, i32)] = &[
    ("EXIT", 0),
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("USR1", 10),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("CHLD", 17),
    ("CONT", 18),
    ("WINCH", 28),
];

pub(super) fn number(name: &str) -> Option<i32> {
    let upper = name.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let known = |(known, n): &&(&str, i32)| *known == name || n.to_string() == name;
    NAMES.iter().find(known).map(|(_, number)| *number)
}

#[derive(Debug, Default)]
pub(super) struct Signals {
    /// Actions by signal; an empty one means that the signal is ignored.
    pub(super) traps: BTreeMap<i32, String>,
    /// Signals that an interactive shell takes note of by itself.
    own: BTreeSet<i32>,
    watch: Option<Watch>,
}

#[derive(Debug)]
struct Watch {
    fd: OwnedFd,
    before: SigSet,
}

impl Signals {
    /// Lets an interactive shell outlive what the terminal sends.
    pub(super) fn interactive(&mut self) -> io::Result<()> {
        self.own = [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM].map(|s| s as i32).into();
        self.update()
    }

    /// Sets a trap; `None` takes it away.
    pub(super) fn trap(&mut self, signal: i32, action: Option<String>) -> io::Result<()> {
        if signal != 0 {
            let ignore = action.as_deref() == Some("");
            let was_ignored = self.traps.get(&signal).is_some_and(String::is_empty);
            if ignore {
                on_signal(signal, OnSignal::Ignore)?;
            } else if was_ignored || signal == Signal::SIGPIPE as i32 {
                crate::usual_signal(signal);
            }
        }
        match action {
            Some(action) => drop(self.traps.insert(signal, action)),
            None => drop(self.traps.remove(&signal)),
        }
        self.update()
    }

    /// What a subshell keeps: only what is ignored.
    pub(super) fn forget(&mut self) {
        self.traps.retain(|signal, action| *signal != 0 && action.is_empty());
        self.own.clear();
        // Failing, the child would at worst keep signals blocked.
        let _ = self.update();
    }

    /// Blocks and watches what traps ask for.
    fn update(&mut self) -> io::Result<()> {
        let mut wanted = self.own.clone();
        let acted = self.traps.iter().filter(|(s, action)| **s != 0 && !action.is_empty());
        wanted.extend(acted.map(|(signal, _)| *signal));
        let before = match &self.watch {
            Some(watch) => watch.before,
            None => SigSet::thread_get_mask()?,
        };
        if wanted.is_empty() {
            self.watch = None;
            return before.thread_set_mask().map_err(Into::into);
        }
        wanted.insert(Signal::SIGCHLD as i32);
        let mut set = SigSet::empty();
        for signal in wanted {
            if let Ok(signal) = Signal::try_from(signal) {
                set.add(signal);
            }
        }
        let mut mask = before;
        set.iter().for_each(|signal| mask.add(signal));
        mask.thread_set_mask()?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        // Out of the way of the numbers that scripts use.
        let fd = sys::descriptors::put_aside(fd.as_fd().as_raw_fd())?;
        self.watch = Some(Watch { fd, before });
        Ok(())
    }

    pub(super) fn watching(&self) -> bool {
        self.watch.is_some()
    }

    /// The mask that programs start with.
    pub(super) fn unblock(&self) {
        if let Some(watch) = &self.watch {
            let _ = watch.before.thread_set_mask();
        }
    }

    /// The next signal that came, children's ends aside.
    pub(super) fn next(&self) -> Option<i32> {
        let watch = self.watch.as_ref()?;
        let mut info = [0; 128];
        loop {
            let n = nix::unistd::read(&watch.fd, &mut info).ok()?;
            if n < info.len() {
                return None;
            }
            let signal = i32::from_ne_bytes([info[0], info[1], info[2], info[3]]);
            let trapped = self.traps.contains_key(&signal);
            if trapped || signal != Signal::SIGCHLD as i32 {
                return Some(signal);
            }
        }
    }

    /// Waits until a signal came or `fd` is readable; true for the latter.
    pub(super) fn wait(&self, fd: Option<BorrowedFd<'_>>) -> io::Result<bool> {
        let Some(watch) = &self.watch else { return Ok(true) };
        let mut fds = vec![PollFd::new(watch.fd.as_fd(), PollFlags::POLLIN)];
        fds.extend(fd.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        loop {
            match poll(&mut fds, PollTimeout::NONE) {
                Err(nix::errno::Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
                Ok(_) => return Ok(fds.get(1).and_then(PollFd::any).unwrap_or(false)),
            }
        }
    }
}
