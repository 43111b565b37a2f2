//! `head`, `tail`, `wc`, `tee`.
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, Read, Seek, SeekFrom, Write};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::common::{Done, Fault, Options, about, number, open, out, pump};

/// `-5` means `-n 5`.
fn modern(args: &[String]) -> Vec<String> {
    let old = |arg: &String| {
        arg.len() > 1 && arg.starts_with('-') && arg[1..].chars().all(|c| c.is_ascii_digit())
    };
    let new = |arg: &String| if old(arg) { format!("-n{}", &arg[1..]) } else { arg.clone() };
    args.iter().map(new).collect()
}

fn inputs(rest: &[String]) -> Vec<String> {
    if rest.is_empty() { vec!["-".to_owned()] } else { rest.to_vec() }
}

/// `head [-n LINES | -c BYTES] [FILE…]`.
pub(crate) fn head(args: &[String]) -> Done {
    let options = Options::parse(&modern(args), "n:c:q", &[("lines", 'n'), ("bytes", 'c')])?;
    let lines = options.number::<u64>('n')?.unwrap_or(10);
    let bytes = options.number::<u64>('c')?;
    let mut out = out()?;
    let files = inputs(&options.rest);
    for (i, path) in files.iter().enumerate() {
        if files.len() > 1 && !options.has('q') {
            writeln!(out, "{}==> {path} <==", if i > 0 { "\n" } else { "" })?;
        }
        let mut reader = open(path)?;
        if let Some(bytes) = bytes {
            std::io::copy(&mut reader.take(bytes), &mut out)?;
            continue;
        }
        let mut line = Vec::new();
        for _ in 0..lines {
            line.clear();
            if reader.read_until(b'\n', &mut line).map_err(about(path))? == 0 {
                break;
            }
            out.write_all(&line)?;
        }
    }
    out.flush()?;
    Ok(0)
}

/// `tail [-n [+]LINES | -c BYTES] [-f | -F] [FILE…]`.
pub(crate) fn tail(args: &[String]) -> Done {
    let options = Options::parse(&modern(args), "n:c:fFq", &[("lines", 'n'), ("follow", 'f')])?;
    let text = options.value('n').unwrap_or("10");
    let from_start = text.starts_with('+');
    let lines: usize = number(text.trim_start_matches(['+', '-']))?;
    let bytes = options.value('c').map(|text| number(text.trim_start_matches('-'))).transpose()?;
    let mut out = out()?;
    let files = inputs(&options.rest);
    for (i, path) in files.iter().enumerate() {
        if files.len() > 1 && !options.has('q') {
            writeln!(out, "{}==> {path} <==", if i > 0 { "\n" } else { "" })?;
        }
        let mut reader = open(path)?;
        match bytes {
            Some(bytes) => last_bytes(&mut reader, bytes, &mut out)?,
            None if from_start => {
                let mut line = Vec::new();
                for _ in 1..lines {
                    line.clear();
                    reader.read_until(b'\n', &mut line)?;
                }
                pump(&mut reader, &mut out)?;
            }
            None => last_lines(&mut reader, lines, &mut out).map_err(about(path))?,
        }
        out.flush()?;
        if (options.has('f') || options.has('F')) && i + 1 == files.len() && path != "-" {
            return follow(path, reader.into_inner(), &mut out);
        }
    }
    Ok(0)
}

fn last_bytes(reader: &mut impl Read, count: usize, out: &mut impl Write) -> std::io::Result<()> {
    let mut kept = VecDeque::with_capacity(count.min(1 << 20));
    let mut block = [0; 8192];
    loop {
        let n = reader.read(&mut block)?;
        if n == 0 {
            break;
        }
        kept.extend(&block[..n]);
        kept.drain(..kept.len().saturating_sub(count));
    }
    out.write_all(kept.make_contiguous())
}

fn last_lines(
    reader: &mut impl BufRead,
    count: usize,
    out: &mut impl Write,
) -> std::io::Result<()> {
    let mut kept: VecDeque<Vec<u8>> = VecDeque::new();
    loop {
        let mut line = Vec::new();
        if reader.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        kept.push_back(line);
        if kept.len() > count {
            kept.pop_front();
        }
    }
    kept.iter().try_for_each(|line| out.write_all(line))
}

/// Writes what is appended, until a signal ends it; the kernel tells when.
fn follow(path: &str, mut file: File, out: &mut impl Write) -> Done {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC)?;
    let flags = AddWatchFlags::IN_MODIFY
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MOVE_SELF
        | AddWatchFlags::IN_ATTRIB;
    inotify.add_watch(path, flags)?;
    let signals = crate::net::serve::end_signals()?;
    loop {
        if file.metadata()?.len() < file.stream_position()? {
            file.seek(SeekFrom::Start(0))?;
        }
        pump(&mut file, out)?;
        if !crate::net::serve::readable(&inotify, &signals)? {
            return Ok(0);
        }
        let events = inotify.read_events()?;
        if events.iter().any(|e| e.mask.contains(AddWatchFlags::IN_IGNORED)) {
            pump(&mut file, out)?;
            return Err(Fault::new(format!("{path}: the file is gone")));
        }
    }
}

/// `wc [-lwcm] [FILE…]`.
pub(crate) fn wc(args: &[String]) -> Done {
    let options = Options::parse(args, "lwcm", &[])?;
    let all = !['l', 'w', 'c', 'm'].iter().any(|c| options.has(*c));
    let mut out = out()?;
    let mut total = [0u64; 4];
    let files = inputs(&options.rest);
    let mut show = |counts: &[u64; 4], name: &str| {
        let chosen = "lwmc".chars().zip(counts);
        let numbers: Vec<String> = chosen
            .filter(|(c, _)| options.has(*c) || all && *c != 'm')
            .map(|(_, n)| if files.len() > 1 || all { format!("{n:>7}") } else { n.to_string() })
            .collect();
        let name = if name == "-" { String::new() } else { format!(" {name}") };
        writeln!(out, "{}{name}", numbers.join(" "))
    };
    for path in &files {
        let mut reader = open(path)?;
        let mut counts = [0u64; 4];
        let mut line = Vec::new();
        loop {
            line.clear();
            if reader.read_until(b'\n', &mut line).map_err(about(path))? == 0 {
                break;
            }
            counts[0] += u64::from(line.last() == Some(&b'\n'));
            let text = String::from_utf8_lossy(&line);
            counts[1] += text.split_whitespace().count() as u64;
            counts[2] += text.chars().count() as u64;
            counts[3] += line.len() as u64;
        }
        total.iter_mut().zip(counts).for_each(|(total, n)| *total += n);
        show(&counts, path)?;
    }
    if files.len() > 1 {
        show(&total, "total")?;
    }
    out.flush()?;
    Ok(0)
}

/// `tee [-a] [FILE…]`.
pub(crate) fn tee(args: &[String]) -> Done {
    let options = Options::parse(args, "ai", &[])?;
    let mut files = Vec::new();
    for path in &options.rest {
        let mut how = File::options();
        how.create(true).append(options.has('a')).write(true).truncate(!options.has('a'));
        files.push(how.open(path).map_err(about(path))?);
    }
    let (mut input, mut out) = (crate::common::stdin()?, out()?);
    let mut buffer = vec![0; 64 << 10];
    loop {
        let n = input.read(&mut buffer)?;
        if n == 0 {
            return Ok(0);
        }
        out.write_all(&buffer[..n])?;
        out.flush()?;
        for file in &mut files {
            file.write_all(&buffer[..n])?;
        }
    }
}
