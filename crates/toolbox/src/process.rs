//! Tools on processes: `env`, `kill`, `ps`, `sleep`, `time`, `timeout`, `which`, `xargs`.
use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::SignalFd;
use nix::unistd::Pid;

use crate::common::{Done, Fault, Options, duration, out, reason, usage};

/// A command by its name: a program, or a tool of this binary.
pub(crate) fn command(words: &[String]) -> Command {
    let name = &words[0];
    let mut command = if !name.contains('/') && find_on_path(name).is_none() && crate::is_tool(name)
    {
        let mut command = Command::new("/proc/self/exe");
        command.arg0(name);
        command
    } else {
        Command::new(name)
    };
    command.args(&words[1..]);
    command
}

fn find_on_path(name: &str) -> Option<String> {
    use std::os::unix::fs::PermissionsExt;
    let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/bin:/bin".to_owned());
    path.split(':').map(|folder| format!("{folder}/{name}")).find(|path| {
        std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    })
}

fn not_started(name: &str) -> impl Fn(io::Error) -> Fault + '_ {
    move |e| {
        let missing = e.kind() == io::ErrorKind::NotFound;
        let why = if missing { "not found".to_owned() } else { reason(&e) };
        Fault::new(format!("{name}: {why}")).with_code(if missing { 127 } else { 126 })
    }
}

/// As shells count: 128 + the signal.
fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Runs a command to its end.
pub(crate) fn run(words: &[String]) -> Done {
    if words.is_empty() {
        return Ok(0);
    }
    let status = command(words).status().map_err(not_started(&words[0]))?;
    Ok(code(status))
}

/// `env [-i] [-u NAME] [NAME=VALUE…] [COMMAND…]`.
pub(crate) fn env(args: &[String]) -> Done {
    let long = [("ignore-environment", 'i'), ("unset", 'u'), ("null", '0')];
    let options = Options::parse(args, "+iu:0", &long)?;
    let assigned = options.rest.iter().take_while(|word| word.contains('=')).count();
    let (assignments, words) = options.rest.split_at(assigned);
    let assignments = assignments.iter().filter_map(|word| word.split_once('='));
    if words.is_empty() {
        let mut all: Vec<(String, String)> =
            if options.has('i') { Vec::new() } else { variables() };
        all.retain(|(name, _)| !options.values('u').any(|unset| unset == name));
        for (name, value) in assignments {
            all.retain(|(known, _)| known != name);
            all.push((name.to_owned(), value.to_owned()));
        }
        let end = if options.has('0') { '\0' } else { '\n' };
        let mut out = out()?;
        for (name, value) in all {
            write!(out, "{name}={value}{end}")?;
        }
        out.flush()?;
        return Ok(0);
    }
    let mut command = command(words);
    if options.has('i') {
        command.env_clear();
    }
    for name in options.values('u') {
        command.env_remove(name);
    }
    command.envs(assignments);
    Err(not_started(&words[0])(command.exec()))
}

fn variables() -> Vec<(String, String)> {
    let text = |s: std::ffi::OsString| s.to_string_lossy().into_owned();
    std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect()
}

/// `printenv [NAME…]`.
pub(crate) fn printenv(args: &[String]) -> Done {
    if args.len() == 1 {
        return env(args);
    }
    let mut status = 0;
    for name in &args[1..] {
        match std::env::var_os(name) {
            Some(value) => println!("{}", value.to_string_lossy()),
            None => status = 1,
        }
    }
    Ok(status)
}

/// `sleep DURATION…`: ends at SIGTERM at once, also as the first process of a container.
pub(crate) fn sleep(args: &[String]) -> Done {
    if args.len() == 1 {
        return Err(usage("usage: sleep SECONDS[smhd]... | infinity"));
    }
    let mut total = Some(Duration::ZERO);
    for text in &args[1..] {
        total = total.zip(duration(text)?).and_then(|(a, b)| a.checked_add(b));
    }
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    set.add(Signal::SIGINT);
    set.thread_block()?;
    let signals = SignalFd::new(&set)?;
    match wait_signal(&signals, total)? {
        Some(signal) => Ok(128 + signal),
        None => Ok(0),
    }
}

/// The signal that came before the time was over.
fn wait_signal(signals: &SignalFd, total: Option<Duration>) -> io::Result<Option<i32>> {
    use std::os::fd::AsFd;
    let end = total.and_then(|total| Instant::now().checked_add(total));
    loop {
        let timeout = match end {
            None => PollTimeout::NONE,
            Some(end) => {
                let left = end.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Ok(None);
                }
                // Rounded up, so that the last wait is not too short.
                let left = left + Duration::from_micros(999);
                PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
            }
        };
        let mut fds = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => {}
            Ok(_) => {
                if let Some(info) = signals.read_signal()? {
                    return Ok(Some(info.ssi_signo as i32));
                }
            }
            Err(e) => return Err(e.into()),
        }
    }
}

/// A signal by name or number.
pub(crate) fn signal(text: &str) -> Option<i32> {
    if let Ok(n) = text.parse::<i32>() {
        return (0..=64).contains(&n).then_some(n);
    }
    let upper = text.to_uppercase();
    let name = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    name.parse::<Signal>().ok().map(|signal| signal as i32)
}

/// `kill [-SIGNAL | -s SIGNAL] PID…`, `kill -l`.
pub(crate) fn kill(args: &[String]) -> Done {
    let mut rest = &args[1..];
    let mut number = Signal::SIGTERM as i32;
    if let Some(first) = rest.first() {
        let name = match first.as_str() {
            "-l" => {
                let names =
                    Signal::iterator().map(|s| format!("{} {}", s as i32, &s.as_str()[3..]));
                println!("{}", names.collect::<Vec<_>>().join("\n"));
                return Ok(0);
            }
            "-s" | "-n" => {
                rest = &rest[1..];
                rest.first().map(String::as_str)
            }
            "--" => {
                rest = &rest[1..];
                None
            }
            other => other.strip_prefix('-'),
        };
        if let Some(name) = name {
            number = signal(name).ok_or_else(|| usage(format!("bad signal name '{name}'")))?;
            rest = &rest[1..];
        }
    }
    if rest.is_empty() {
        return Err(usage("usage: kill [-SIGNAL] PID..."));
    }
    let signal = if number == 0 { None } else { Signal::try_from(number).ok() };
    let mut status = 0;
    for text in rest.iter().filter(|text| *text != "--") {
        let pid: i32 = text.parse().map_err(|_| usage(format!("invalid number '{text}'")))?;
        if let Err(e) = nix::sys::signal::kill(Pid::from_raw(pid), signal) {
            eprintln!("kill: can't kill pid {pid}: {}", e.desc());
            status = 1;
        }
    }
    Ok(status)
}

/// `ps`: every process that is seen from here.
pub(crate) fn ps(_: &[String]) -> Done {
    let mut out = out()?;
    let names = crate::info::names::Names::read(false);
    writeln!(out, "{:>5} {:<8} {:<4} {:>6} COMMAND", "PID", "USER", "STAT", "RSS")?;
    let mut pids: Vec<u32> = std::fs::read_dir("/proc")?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    for pid in pids {
        // A process that ended meanwhile is left out.
        let Some(line) = process_line(pid, &names) else { continue };
        writeln!(out, "{line}")?;
    }
    out.flush()?;
    Ok(0)
}

fn process_line(pid: u32, names: &crate::info::names::Names) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let folder = format!("/proc/{pid}");
    let status = std::fs::read_to_string(format!("{folder}/status")).ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next().map(str::to_owned)
    };
    let state = field("State:")?;
    let rss = field("VmRSS:").unwrap_or_else(|| "0".to_owned());
    let bytes = std::fs::read(format!("{folder}/cmdline")).ok()?;
    let words = String::from_utf8_lossy(&bytes).trim_end_matches('\0').replace('\0', " ");
    let command = if words.is_empty() { format!("[{}]", field("Name:")?) } else { words };
    let user = names.user(std::fs::metadata(&folder).ok()?.uid());
    Some(format!("{pid:>5} {user:<8} {state:<4} {rss:>6} {command}"))
}

/// `time COMMAND…`.
pub(crate) fn time(args: &[String]) -> Done {
    use nix::sys::resource::{UsageWho, getrusage};
    let words = args[1..].iter().skip_while(|arg| *arg == "-p").cloned().collect::<Vec<_>>();
    let start = Instant::now();
    let result = run(&words)?;
    let real = start.elapsed().as_secs_f64();
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let seconds = |t: nix::sys::time::TimeVal| t.tv_sec() as f64 + t.tv_usec() as f64 / 1e6;
    eprintln!(
        "real {real:.2}\nuser {:.2}\nsys {:.2}",
        seconds(usage.user_time()),
        seconds(usage.system_time())
    );
    Ok(result)
}

/// `timeout [-s SIGNAL] [-k DURATION] DURATION COMMAND…`: exit 124 when the time was over.
pub(crate) fn timeout(args: &[String]) -> Done {
    let options = Options::parse(args, "+s:k:", &[("signal", 's'), ("kill-after", 'k')])?;
    let [limit, words @ ..] = options.rest.as_slice() else {
        return Err(usage("usage: timeout [-s SIGNAL] [-k DURATION] DURATION COMMAND..."));
    };
    if words.is_empty() {
        return Err(usage("usage: timeout [-s SIGNAL] [-k DURATION] DURATION COMMAND..."));
    }
    let limit = duration(limit)?;
    let name = options.value('s').unwrap_or("TERM");
    let number = signal(name).ok_or_else(|| usage(format!("bad signal name '{name}'")))?;
    let grace = options.value('k').map(duration).transpose()?.flatten();
    let mut child = command(words).spawn().map_err(not_started(&words[0]))?;
    let pid = child.id() as i32;
    let pidfd = sys::process::pidfd_open(pid)?;
    if wait_process(&pidfd, limit)? {
        return Ok(code(child.wait()?));
    }
    sys::process::pidfd_signal(&pidfd, number)?;
    if let Some(grace) = grace
        && !wait_process(&pidfd, Some(grace))?
    {
        sys::process::pidfd_signal(&pidfd, Signal::SIGKILL as i32)?;
        child.wait()?;
        return Ok(137);
    }
    child.wait()?;
    Ok(124)
}

fn wait_process(pidfd: &std::os::fd::OwnedFd, limit: Option<Duration>) -> io::Result<bool> {
    let end = limit.and_then(|limit| Instant::now().checked_add(limit));
    loop {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        let step = left.unwrap_or(Duration::MAX).min(Duration::from_secs(60));
        let ms = u16::try_from(step.as_millis() + 1).unwrap_or(u16::MAX);
        if sys::process::pidfd_wait(pidfd, ms)? {
            return Ok(true);
        }
        if left.is_some_and(|left| left <= step) {
            return Ok(false);
        }
    }
}

/// `which NAME…`.
pub(crate) fn which(args: &[String]) -> Done {
    let mut status = 0;
    for name in args[1..].iter().filter(|arg| *arg != "-a") {
        let found = if name.contains('/') { Some(name.clone()) } else { find_on_path(name) };
        match found.filter(|path| std::path::Path::new(path).exists()) {
            Some(path) => println!("{path}"),
            None => status = 1,
        }
    }
    Ok(status)
}

/// `xargs [-0rt] [-n COUNT] [-I TEXT] [COMMAND…]`.
pub(crate) fn xargs(args: &[String]) -> Done {
    let options = Options::parse(args, "+0rtn:I:P:", &[("null", '0'), ("no-run-if-empty", 'r')])?;
    let mut text = String::new();
    let mut bytes = Vec::new();
    crate::common::stdin()?.read_to_end(&mut bytes)?;
    text.push_str(&String::from_utf8_lossy(&bytes));
    let items: Vec<String> = match (options.has('0'), options.has('I')) {
        (true, _) => text.split_terminator('\0').map(str::to_owned).collect(),
        (false, true) => {
            text.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned).collect()
        }
        (false, false) => quoted_words(&text)?,
    };
    let mut words = options.rest.clone();
    if words.is_empty() {
        words.push("echo".to_owned());
    }
    let commands: Vec<Vec<String>> = if let Some(mark) = options.value('I') {
        let filled = |item: &String| words.iter().map(|word| word.replace(mark, item)).collect();
        items.iter().map(filled).collect()
    } else {
        let count = options.number::<usize>('n')?.unwrap_or(5000).max(1);
        let mut all: Vec<Vec<String>> =
            items.chunks(count).map(|chunk| [words.as_slice(), chunk].concat()).collect();
        if all.is_empty() && !options.has('r') {
            all.push(words);
        }
        all
    };
    let mut status = 0;
    for words in commands {
        if options.has('t') {
            eprintln!("{}", words.join(" "));
        }
        match run(&words)? {
            0 => {}
            255 => return Ok(124),
            _ => status = 123,
        }
    }
    Ok(status)
}

/// Words apart by blanks; quotes and backslashes keep blanks inside.
fn quoted_words(text: &str) -> Result<Vec<String>, Fault> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => words.extend(word.take()),
            '\\' => word.get_or_insert_default().extend(chars.next()),
            '\'' | '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some(end) if end == c => break,
                        Some(inner) => word.push(inner),
                        None => return Err(Fault::new("unterminated quote")),
                    }
                }
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}
