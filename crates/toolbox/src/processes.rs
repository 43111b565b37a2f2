//! Tools for processes, users and the machine.
use std::fs;
use std::os::unix::process::CommandExt;
use std::time::Duration;

use nix::unistd;

use crate::{Options, Outcome, at};

const SIGNALS: &[(&str, i32)] = &[
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ABRT", 6),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("WINCH", 28),
];

/// A signal by name (with or without SIG) or number.
pub(crate) fn signal(name: &str) -> Result<i32, String> {
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    let named = SIGNALS.iter().find(|(n, _)| *n == short).map(|(_, number)| *number);
    let number = named.or_else(|| name.parse().ok().filter(|n| (0..=64).contains(n)));
    number.ok_or_else(|| format!("{name:?} is no signal"))
}

pub(crate) fn kill(args: &[String]) -> Outcome {
    let mut args = args.to_vec();
    let mut number = 15;
    if let Some(first) = args.first().filter(|a| a.starts_with('-') && a.len() > 1).cloned() {
        args.remove(0);
        let name = match first.as_str() {
            "-l" => {
                SIGNALS.iter().for_each(|(name, number)| println!("{number} {name}"));
                return Ok(0);
            }
            "-s" | "-n" if !args.is_empty() => args.remove(0),
            "--" => "TERM".to_owned(),
            other => other[1..].to_owned(),
        };
        number = signal(&name)?;
    }
    let options = Options { set: Vec::new(), rest: args };
    options.each("kill", |text| {
        let pid: i32 = text.parse().map_err(|_| format!("{text:?} is no process"))?;
        // Zero and below mean process groups, as everywhere.
        let signal = nix::sys::signal::Signal::try_from(number).ok();
        nix::sys::signal::kill(unistd::Pid::from_raw(pid), signal).map_err(at(text))
    })
}

pub(crate) fn ps(_: &[String]) -> Outcome {
    println!("{:>7} {:>7} {:>6} {:>4} COMMAND", "PID", "PPID", "USER", "STAT");
    let mut pids: Vec<i32> = fs::read_dir("/proc")
        .map_err(at("/proc"))?
        .flatten()
        .filter_map(|e| e.file_name().to_string_lossy().parse().ok())
        .collect();
    pids.sort_unstable();
    for pid in pids {
        let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { continue };
        let field = |name: &str| {
            let line = status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|l| l.split_ascii_whitespace().next()).unwrap_or("?").to_owned()
        };
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let command = match command.trim_end() {
            "" => format!("[{}]", field("Name")),
            command => command.to_owned(),
        };
        let (parent, user, state) = (field("PPid"), field("Uid"), field("State"));
        println!("{pid:>7} {parent:>7} {user:>6} {state:>4} {command}");
    }
    Ok(0)
}

pub(crate) fn env(args: &[String]) -> Outcome {
    let mut args = args.iter().peekable();
    let mut changes = Vec::new();
    let mut clear = false;
    while let Some(arg) = args.peek() {
        match (arg.as_str(), arg.split_once('=')) {
            ("-i" | "-", _) => clear = true,
            ("-u", _) => {
                args.next();
                let name = args.peek().ok_or("-u needs a name")?;
                changes.push(((*name).clone(), None));
            }
            (_, Some((name, value))) if !name.is_empty() => {
                changes.push((name.to_owned(), Some(value.to_owned())));
            }
            _ => break,
        }
        args.next();
    }
    let kept = std::env::vars_os().filter(|_| !clear);
    let mut all: Vec<_> = kept
        .map(|(k, v)| (k.to_string_lossy().into_owned(), v.to_string_lossy().into_owned()))
        .collect();
    for (name, value) in changes {
        all.retain(|(n, _)| *n != name);
        all.extend(value.map(|value| (name, value)));
    }
    let Some(program) = args.next() else {
        all.iter().for_each(|(name, value)| println!("{name}={value}"));
        return Ok(0);
    };
    let error = std::process::Command::new(program).args(args).env_clear().envs(all).exec();
    eprintln!("env: {program}: {}", sys::reason(&error));
    Ok(if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 })
}

pub(crate) fn sleep(args: &[String]) -> Outcome {
    if args.is_empty() {
        return Err("missing operand".to_owned());
    }
    let mut total = 0.0;
    for arg in args {
        let (number, unit) = match arg.find(|c: char| c.is_ascii_alphabetic()) {
            Some(at) if arg.as_str() != "infinity" => arg.split_at(at),
            _ => (arg.as_str(), "s"),
        };
        let factor = match unit {
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return Err(format!("{arg:?} is no time")),
        };
        let number = if number == "infinity" {
            1e9
        } else {
            number.parse::<f64>().map_err(|_| format!("{arg:?} is no time"))?
        };
        total += number * factor;
    }
    if !(0.0..=1e12).contains(&total) {
        return Err("the time is out of range".to_owned());
    }
    std::thread::sleep(Duration::from_secs_f64(total));
    Ok(0)
}

pub(crate) fn hostname(args: &[String]) -> Outcome {
    let options = Options::parse(args, "sfi")?;
    let name = unistd::gethostname().map_err(at("cannot tell the host name"))?;
    let name = name.to_string_lossy().into_owned();
    if options.has('i') {
        let addresses = crate::resolve::addresses(&name)?;
        println!("{}", addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
    } else {
        println!("{name}");
    }
    Ok(0)
}

fn user_name(uid: u32) -> Option<String> {
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    let mut lines = passwd.lines().map(|l| l.split(':').collect::<Vec<_>>());
    let entry = lines.find(|f| f.get(2).is_some_and(|u| u.parse() == Ok(uid)))?;
    entry.first().map(|n| (*n).to_owned())
}

pub(crate) fn id(args: &[String]) -> Outcome {
    let options = Options::parse(args, "ugGn")?;
    let (uid, gid) = (unistd::geteuid().as_raw(), unistd::getegid().as_raw());
    let groups = unistd::getgroups().map_err(at("cannot tell the groups"))?;
    let mut groups: Vec<u32> = groups.into_iter().map(unistd::Gid::as_raw).collect();
    if !groups.contains(&gid) {
        groups.insert(0, gid);
    }
    let join = |separator: &str| {
        groups.iter().map(ToString::to_string).collect::<Vec<_>>().join(separator)
    };
    match () {
        () if options.has('u') && options.has('n') => return whoami(&[]),
        () if options.has('u') => println!("{uid}"),
        () if options.has('g') => println!("{gid}"),
        () if options.has('G') => println!("{}", join(" ")),
        () => {
            let name = user_name(uid).map(|n| format!("({n})")).unwrap_or_default();
            println!("uid={uid}{name} gid={gid} groups={}", join(","));
        }
    }
    Ok(0)
}

pub(crate) fn whoami(_: &[String]) -> Outcome {
    let uid = unistd::geteuid().as_raw();
    let name = user_name(uid).ok_or_else(|| format!("no name for user {uid}"))?;
    println!("{name}");
    Ok(0)
}

pub(crate) fn uname(args: &[String]) -> Outcome {
    let options = Options::parse(args, "asnrvm")?;
    let name = nix::sys::utsname::uname().map_err(at("uname"))?;
    let fields = [
        ('s', name.sysname()),
        ('n', name.nodename()),
        ('r', name.release()),
        ('v', name.version()),
        ('m', name.machine()),
    ];
    let wanted = |letter: char| {
        options.has('a') || options.has(letter) || options.set.is_empty() && letter == 's'
    };
    let shown = fields.iter().filter(|(letter, _)| wanted(*letter));
    let shown: Vec<_> = shown.map(|(_, text)| text.to_string_lossy()).collect();
    println!("{}", shown.join(" "));
    Ok(0)
}
