//! What this host or container is: names, users, memory, disks, links.
pub(crate) mod date;
pub(crate) mod ip;
pub(crate) mod names;

use std::io::Write;

use nix::unistd::{getegid, geteuid, getgroups};

use crate::common::{Done, Fault, Options, about, out, usage};

/// A size with one letter: `1.5M`.
pub(crate) fn human(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit < 5 {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => bytes.to_string(),
        _ => format!("{value:.1}{}", ["", "K", "M", "G", "T", "P"][unit]),
    }
}

/// `hostname [-i]`.
pub(crate) fn hostname(args: &[String]) -> Done {
    let options = Options::parse(args, "isf", &[])?;
    let name = crate::net::serve::hostname();
    if options.has('i') {
        let found = crate::net::resolver::resolve(&name)?;
        println!("{}", found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
    } else if options.has('s') {
        println!("{}", name.split('.').next().unwrap_or_default());
    } else {
        println!("{name}");
    }
    Ok(0)
}

/// `uname [-asnrvm]`.
pub(crate) fn uname(args: &[String]) -> Done {
    let options = Options::parse(args, "asnrvmo", &[("all", 'a')])?;
    let names = nix::sys::utsname::uname()?;
    let any = "snrvmo".chars().any(|c| options.has(c));
    let parts = [
        ('s', names.sysname()),
        ('n', names.nodename()),
        ('r', names.release()),
        ('v', names.version()),
        ('m', names.machine()),
    ];
    let shown: Vec<_> = parts
        .iter()
        .filter(|(c, _)| options.has(*c) || options.has('a') || !any && *c == 's')
        .map(|(_, text)| text.to_string_lossy())
        .collect();
    println!("{}", shown.join(" "));
    Ok(0)
}

/// `id [-u | -g | -G] [-n]`.
pub(crate) fn id(args: &[String]) -> Done {
    let options = Options::parse(args, "ugGnr", &[])?;
    let names = names::Names::read(false);
    let numbers = names::Names::read(true);
    let shown = if options.has('n') { &names } else { &numbers };
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let mut groups: Vec<u32> = getgroups()?.iter().map(|g| g.as_raw()).collect();
    if !groups.contains(&gid) {
        groups.insert(0, gid);
    }
    if options.has('u') {
        println!("{}", shown.user(uid));
    } else if options.has('g') {
        println!("{}", shown.group(gid));
    } else if options.has('G') {
        println!("{}", groups.iter().map(|g| shown.group(*g)).collect::<Vec<_>>().join(" "));
    } else {
        let pair = |id: u32, name: String| {
            if name == id.to_string() { name } else { format!("{id}({name})") }
        };
        let all: Vec<String> = groups.iter().map(|g| pair(*g, names.group(*g))).collect();
        let (user, group) = (pair(uid, names.user(uid)), pair(gid, names.group(gid)));
        println!("uid={user} gid={group} groups={}", all.join(","));
    }
    Ok(0)
}

pub(crate) fn whoami(_: &[String]) -> Done {
    let uid = geteuid().as_raw();
    let name = names::Names::read(false).user(uid);
    if name == uid.to_string() {
        return Err(Fault::new(format!("unknown uid {uid}")));
    }
    println!("{name}");
    Ok(0)
}

/// The processors that this process may run on.
pub(crate) fn nproc(_: &[String]) -> Done {
    println!("{}", std::thread::available_parallelism().map_or(1, std::num::NonZero::get));
    Ok(0)
}

/// `free [-bkmgh]`.
pub(crate) fn free(args: &[String]) -> Done {
    let options = Options::parse(args, "bkmgh", &[])?;
    let text = std::fs::read_to_string("/proc/meminfo").map_err(about("/proc/meminfo"))?;
    let kib = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    let shown = |kib: u64| match () {
        () if options.has('b') => (kib * 1024).to_string(),
        () if options.has('m') => (kib >> 10).to_string(),
        () if options.has('g') => (kib >> 20).to_string(),
        () if options.has('h') => human(kib * 1024),
        () => kib.to_string(),
    };
    let cache = kib("Buffers") + kib("Cached") + kib("SReclaimable");
    let (total, unused) = (kib("MemTotal"), kib("MemFree"));
    let used = total.saturating_sub(unused + cache);
    let row = |name: &str, values: &[u64]| {
        let values: Vec<String> = values.iter().map(|v| format!("{:>12}", shown(*v))).collect();
        println!("{name:<8}{}", values.join(""));
    };
    let heads = ["total", "used", "free", "shared", "buff/cache", "available"];
    println!("{:8}{}", "", heads.map(|h| format!("{h:>12}")).join(""));
    row("Mem:", &[total, used, unused, kib("Shmem"), cache, kib("MemAvailable")]);
    let (swap, swap_free) = (kib("SwapTotal"), kib("SwapFree"));
    row("Swap:", &[swap, swap - swap_free.min(swap), swap_free]);
    Ok(0)
}

/// Lines of this process's mounts: source, target, type, options.
fn mounts() -> Result<Vec<[String; 4]>, Fault> {
    let text = std::fs::read_to_string("/proc/self/mounts").map_err(about("/proc/self/mounts"))?;
    let plain =
        |word: &str| word.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\");
    let line = |line: &str| {
        let mut words = line.split(' ').map(plain);
        Some([words.next()?, words.next()?, words.next()?, words.next()?])
    };
    Ok(text.lines().filter_map(line).collect())
}

/// `mount`: lists; mounting is the kubelet's work.
pub(crate) fn mount(args: &[String]) -> Done {
    if args.len() > 1 {
        return Err(usage("mounts are only listed, not made"));
    }
    let mut out = out()?;
    for [source, target, kind, options] in mounts()? {
        writeln!(out, "{source} on {target} type {kind} ({options})")?;
    }
    out.flush()?;
    Ok(0)
}

/// `df [-h] [-k] [PATH…]`.
pub(crate) fn df(args: &[String]) -> Done {
    let options = Options::parse(args, "hkmaPTi", &[("human-readable", 'h')])?;
    let mounts = mounts()?;
    let mut chosen: Vec<&[String; 4]> = Vec::new();
    for path in &options.rest {
        let real = std::fs::canonicalize(path).map_err(about(path))?;
        let found = mounts.iter().rev().filter(|m| real.starts_with(&m[1]));
        chosen.extend(found.max_by_key(|m| m[1].len()));
    }
    if options.rest.is_empty() {
        chosen.extend(&mounts);
    }
    let mut out = out()?;
    let unit = if options.has('h') { "Size" } else { "1K-blocks" };
    writeln!(
        out,
        "{:<20} {unit:>10} {:>10} {:>10} {:>4} Mounted on",
        "Filesystem", "Used", "Available", "Use%"
    )?;
    for [source, target, ..] in chosen {
        // A mount that this process may not look at is left out.
        let Ok(stat) = nix::sys::statvfs::statvfs(target.as_str()) else { continue };
        let size = stat.fragment_size();
        let total = stat.blocks() * size;
        if total == 0 && !options.has('a') && options.rest.is_empty() {
            continue;
        }
        let used = total - (stat.blocks_free() * size).min(total);
        let available = stat.blocks_available() * size;
        let percent = match used + available {
            0 => 0,
            sum => (used * 100).div_ceil(sum),
        };
        let shown = |n: u64| match () {
            () if options.has('h') => human(n),
            () if options.has('m') => (n >> 20).to_string(),
            () => (n >> 10).to_string(),
        };
        let (t, u, a) = (shown(total), shown(used), shown(available));
        writeln!(out, "{source:<20} {t:>10} {u:>10} {a:>10} {percent:>3}% {target}")?;
    }
    out.flush()?;
    Ok(0)
}

/// `stty size`.
pub(crate) fn stty(args: &[String]) -> Done {
    match &args[1..] {
        [word] if word == "size" => {
            let (columns, rows) = sys::pty::size(std::io::stdin())?;
            println!("{rows} {columns}");
            Ok(0)
        }
        _ => Err(usage("usage: stty size")),
    }
}
