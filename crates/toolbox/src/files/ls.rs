//! `ls`.
use std::fs::Metadata;
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::common::{Done, Options, complain, out};
use crate::info::{date, names};

struct Entry {
    name: String,
    path: PathBuf,
    meta: Metadata,
}

/// `ls [-aAl1RdhirtSF] [PATH…]`.
pub(crate) fn main(args: &[String]) -> Done {
    let options = Options::parse(args, "aAl1RdhirtSFnLpCk", &[("all", 'a'), ("color", 'k')])?;
    let mut paths = options.rest.clone();
    if paths.is_empty() {
        paths.push(".".to_owned());
    }
    let mut out = out()?;
    let mut status = 0;
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    for path in &paths {
        let listed = std::fs::metadata(path).is_ok_and(|m| m.is_dir()) && !options.has('d');
        let follows = listed || !options.has('l') && !options.has('d');
        let found = std::fs::symlink_metadata(path);
        let found = if follows { std::fs::metadata(path).or(found) } else { found };
        match found {
            Ok(_) if listed => folders.push(path.clone()),
            Ok(meta) => files.push(Entry { name: path.clone(), path: path.into(), meta }),
            Err(e) => status = complain("ls", path, &e),
        }
    }
    sort(&mut files, &options);
    let mut first = files.is_empty();
    show(&files, &options, &mut out)?;
    let titled = paths.len() > 1 || options.has('R');
    let mut stack: Vec<String> = folders.into_iter().rev().collect();
    while let Some(folder) = stack.pop() {
        if titled {
            writeln!(out, "{}{folder}:", if first { "" } else { "\n" })?;
        }
        first = false;
        let entries = match read(&folder, &options) {
            Ok(entries) => entries,
            Err(e) => {
                status = complain("ls", &folder, &e);
                continue;
            }
        };
        if options.has('l') {
            let blocks: u64 = entries.iter().map(|e| e.meta.blocks()).sum();
            writeln!(out, "total {}", blocks / 2)?;
        }
        show(&entries, &options, &mut out)?;
        if options.has('R') {
            let below = entries
                .iter()
                .rev()
                .filter(|e| e.meta.is_dir() && !matches!(e.name.as_str(), "." | ".."));
            stack.extend(below.map(|e| e.path.display().to_string()));
        }
    }
    out.flush()?;
    Ok(status)
}

fn read(folder: &str, options: &Options) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    if options.has('a') {
        for name in [".", ".."] {
            let path = Path::new(folder).join(name);
            let meta = std::fs::symlink_metadata(&path)?;
            entries.push(Entry { name: name.to_owned(), path, meta });
        }
    }
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') && !options.has('a') && !options.has('A') {
            continue;
        }
        // What vanishes while the folder is read is not listed.
        let Ok(meta) = entry.metadata() else { continue };
        entries.push(Entry { name, path: entry.path(), meta });
    }
    sort(&mut entries, options);
    Ok(entries)
}

fn sort(entries: &mut [Entry], options: &Options) {
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    if options.has('t') {
        let time = |e: &Entry| (e.meta.mtime(), e.meta.mtime_nsec());
        entries.sort_by_key(|e| std::cmp::Reverse(time(e)));
    }
    if options.has('S') {
        entries.sort_by_key(|e| std::cmp::Reverse(e.meta.len()));
    }
    if options.has('r') {
        entries.reverse();
    }
}

fn show(entries: &[Entry], options: &Options, out: &mut impl Write) -> io::Result<()> {
    if options.has('l') || options.has('n') {
        return show_long(entries, options, out);
    }
    let names: Vec<String> = entries.iter().map(|e| short(e, options)).collect();
    let widest = names.iter().map(|n| n.chars().count()).max().unwrap_or(0) + 2;
    let columns = match sys::pty::size(io::stdout()) {
        Ok((width, _)) if io::stdout().is_terminal() && !options.has('1') => {
            (usize::from(width) / widest).max(1)
        }
        _ => 1,
    };
    let rows = names.len().div_ceil(columns);
    for row in 0..rows {
        let line: Vec<&String> = names.iter().skip(row).step_by(rows).collect();
        for (i, name) in line.iter().enumerate() {
            let fill = if i + 1 < line.len() { widest - name.chars().count() } else { 0 };
            write!(out, "{name}{}", " ".repeat(fill))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn short(entry: &Entry, options: &Options) -> String {
    let inode = if options.has('i') { format!("{:>7} ", entry.meta.ino()) } else { String::new() };
    let executable = entry.meta.is_file() && entry.meta.mode() & 0o111 != 0;
    let mark = match () {
        () if !options.has('F') && !options.has('p') => "",
        () if entry.meta.is_dir() => "/",
        () if options.has('p') => "",
        () if entry.meta.is_symlink() => "@",
        () if executable => "*",
        () => "",
    };
    format!("{inode}{}{mark}", entry.name)
}

fn show_long(entries: &[Entry], options: &Options, out: &mut impl Write) -> io::Result<()> {
    let users = names::Names::read(options.has('n'));
    let rows: Vec<[String; 6]> = entries
        .iter()
        .map(|e| {
            let kind = e.meta.file_type();
            let size = if kind.is_char_device() || kind.is_block_device() {
                let (major, minor) =
                    (nix::sys::stat::major(e.meta.rdev()), nix::sys::stat::minor(e.meta.rdev()));
                format!("{major}, {minor}")
            } else if options.has('h') {
                crate::info::human(e.meta.len())
            } else {
                e.meta.len().to_string()
            };
            let target = std::fs::read_link(&e.path).ok().filter(|_| e.meta.is_symlink());
            let arrow = target.map_or(String::new(), |t| format!(" -> {}", t.display()));
            [
                format!("{} {:>4}", mode(&e.meta), e.meta.nlink()),
                users.user(e.meta.uid()),
                users.group(e.meta.gid()),
                size,
                date::listed(e.meta.mtime()),
                short(e, options) + &arrow,
            ]
        })
        .collect();
    let width = |i: usize| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0);
    let (user, group, size) = (width(1), width(2), width(3).max(9));
    for [mode, u, g, s, date, name] in &rows {
        writeln!(out, "{mode} {u:<user$} {g:<group$} {s:>size$} {date} {name}")?;
    }
    Ok(())
}

/// The type and permissions as ten letters.
pub(crate) fn mode(meta: &Metadata) -> String {
    let kind = meta.file_type();
    let first = match () {
        () if kind.is_dir() => 'd',
        () if kind.is_symlink() => 'l',
        () if kind.is_fifo() => 'p',
        () if kind.is_socket() => 's',
        () if kind.is_char_device() => 'c',
        () if kind.is_block_device() => 'b',
        () => '-',
    };
    let mode = meta.mode();
    let mut text = String::from(first);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (bits & 1 != 0, mode & special != 0) {
            (true, true) => letter,
            (false, true) => letter.to_ascii_uppercase(),
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    text
}
