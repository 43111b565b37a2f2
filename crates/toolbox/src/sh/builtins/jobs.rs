//! Processes, signals and limits of the shell.
use nix::sys::stat::{Mode, umask as set_umask};

use super::super::signals::{NAMES, number};
use super::super::{Flow, Shell};
use super::{print, quoted};
use crate::common::reason;

/// `wait [PID…]`: a trapped signal ends the wait with 128 + its number.
pub(super) fn wait(shell: &mut Shell, args: &[String]) -> Result<i32, Flow> {
    if args.len() == 1 {
        while !shell.jobs.is_empty() {
            if let Some(code) = wait_once(shell, None)? {
                return Ok(code);
            }
        }
        shell.ended.clear();
        return Ok(0);
    }
    let mut status = 0;
    for text in &args[1..] {
        let Ok(pid) = text.trim_start_matches('%').parse::<i32>() else {
            return Err(Flow::Fail(format!("wait: {text}: bad process id")));
        };
        shell.reap();
        while shell.jobs.contains(&pid) {
            if let Some(code) = wait_once(shell, Some(pid))? {
                return Ok(code);
            }
        }
        status = shell.ended.remove(&pid).unwrap_or(127);
    }
    Ok(status)
}

/// Waits until that child (or the first) ended or a signal came; the latter gives the code to
/// return.
fn wait_once(shell: &mut Shell, pid: Option<i32>) -> Result<Option<i32>, Flow> {
    shell.reap();
    let Some(job) = pid.or(shell.jobs.first().copied()).filter(|job| shell.jobs.contains(job))
    else {
        return Ok(None);
    };
    if !shell.signals.watching() {
        // Nothing to react to: until the child ends, which is left for `reap`.
        use nix::sys::wait::{Id, WaitPidFlag, waitid};
        let _ = waitid(
            Id::Pid(nix::unistd::Pid::from_raw(job)),
            WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT,
        );
        return Ok(None);
    }
    shell.signals.wait(None).map_err(|e| Flow::Fail(reason(&e)))?;
    while let Some(signal) = shell.signals.next() {
        if shell.signals.traps.contains_key(&signal) {
            shell.trapped(signal)?;
            return Ok(Some(128 + signal));
        }
        if signal == nix::libc::SIGINT {
            return Err(Flow::Interrupted);
        }
    }
    Ok(None)
}

pub(super) fn jobs(shell: &mut Shell, _: &[String]) -> Result<i32, Flow> {
    shell.reap();
    let lines = shell.jobs.iter().enumerate();
    let text: String = lines.map(|(i, pid)| format!("[{}] {pid} Running\n", i + 1)).collect();
    print(&text)
}

/// `trap [ACTION] SIGNAL…`; without anything it lists.
pub(super) fn trap(shell: &mut Shell, args: &[String]) -> Result<i32, Flow> {
    let args: Vec<&String> = args[1..].iter().filter(|arg| *arg != "--").collect();
    if args.is_empty() {
        let mut text = String::new();
        for (signal, action) in &shell.signals.traps {
            let name = NAMES.iter().find(|(_, n)| n == signal).map_or("?", |(name, _)| *name);
            text += &format!("trap -- {} {name}\n", quoted(action));
        }
        return print(&text);
    }
    // A lone signal, or a number first, takes traps away.
    let resets = args[0] == "-" || args.len() == 1 || args[0].parse::<u32>().is_ok();
    let (action, names) = match (resets, args[0].as_str()) {
        (true, "-") => (None, &args[1..]),
        (true, _) => (None, &args[..]),
        (false, action) => (Some(action.to_owned()), &args[1..]),
    };
    let mut status = 0;
    for name in names {
        match number(name) {
            Some(signal) => shell
                .signals
                .trap(signal, action.clone())
                .map_err(|e| Flow::Fail(format!("trap: {name}: {}", reason(&e))))?,
            None => {
                shell.complain(&format!("trap: {name}: invalid signal"));
                status = 1;
            }
        }
    }
    Ok(status)
}

pub(super) fn umask(_: &mut Shell, args: &[String]) -> Result<i32, Flow> {
    let Some(text) = args.get(1) else {
        let mask = set_umask(Mode::empty());
        set_umask(mask);
        return print(&format!("{:04o}\n", mask.bits()));
    };
    match u32::from_str_radix(text, 8).ok().and_then(Mode::from_bits) {
        Some(mode) => {
            set_umask(mode);
            Ok(0)
        }
        None => Err(Flow::Fail(format!("umask: {text}: bad mode"))),
    }
}

pub(super) fn times(_: &mut Shell, _: &[String]) -> Result<i32, Flow> {
    use nix::sys::resource::{UsageWho, getrusage};
    let mut text = String::new();
    for who in [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN] {
        let Ok(usage) = getrusage(who) else { return Ok(1) };
        let shown = |t: nix::sys::time::TimeVal| {
            format!("{}m{}.{:03}s", t.tv_sec() / 60, t.tv_sec() % 60, t.tv_usec() / 1000)
        };
        text += &format!("{} {}\n", shown(usage.user_time()), shown(usage.system_time()));
    }
    print(&text)
}

/// `ulimit -n` and the like: shows limits.
pub(super) fn ulimit(_: &mut Shell, args: &[String]) -> Result<i32, Flow> {
    use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
    let (resource, unit) = match args.get(1).map_or("-f", String::as_str) {
        "-n" => (Resource::RLIMIT_NOFILE, 1),
        "-u" => (Resource::RLIMIT_NPROC, 1),
        "-c" => (Resource::RLIMIT_CORE, 512),
        "-s" => (Resource::RLIMIT_STACK, 1024),
        "-v" => (Resource::RLIMIT_AS, 1024),
        "-t" => (Resource::RLIMIT_CPU, 1),
        "-f" => (Resource::RLIMIT_FSIZE, 512),
        other => return Err(Flow::Fail(format!("ulimit: bad option '{other}'"))),
    };
    if args.len() > 2 {
        return Err(Flow::Fail("ulimit: limits are only shown, not set".to_owned()));
    }
    match getrlimit(resource) {
        Ok((RLIM_INFINITY, _)) => print("unlimited\n"),
        Ok((soft, _)) => print(&format!("{}\n", soft / unit)),
        Err(_) => Ok(1),
    }
}
