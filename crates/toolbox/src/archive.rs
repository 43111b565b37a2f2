//! `tar`: creates, lists and extracts; what `kubectl cp` needs and a little more.
//!
//! Extraction never leaves the target: names are made relative, `..` is refused, and no file is
//! written through a link that the archive itself brought.
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use crate::common::{Done, Fault, Options, about, reason, usage};
use crate::pattern;

/// `tar c|x|t [zvf…] [-C FOLDER] [--exclude P] [--strip-components N] PATH…`.
pub(crate) fn main(args: &[String]) -> Done {
    let args = dashed(args);
    let long = [
        ("create", 'c'),
        ("extract", 'x'),
        ("list", 't'),
        ("file", 'f'),
        ("gzip", 'z'),
        ("verbose", 'v'),
        ("directory", 'C'),
        ("exclude", 'X'),
        ("strip-components", 'S'),
        ("touch", 'm'),
        ("no-same-owner", 'o'),
        ("to-stdout", 'O'),
        ("no-same-permissions", 'k'),
        ("overwrite", 'w'),
        ("dereference", 'h'),
        ("warning", 'W'),
        ("same-owner", 's'),
        ("preserve-permissions", 'p'),
        ("numeric-owner", 'n'),
    ];
    let options = Options::parse(&args, "cxtzvmopOhC:f:X:S:kwW:sn", &long)?;
    match (options.has('c'), options.has('x'), options.has('t')) {
        (true, false, false) => create(&options),
        (false, true, false) => extract(&options),
        (false, false, true) => list(&options),
        _ => Err(usage("usage: tar c|x|t [-zvmoO] [-f FILE] [-C FOLDER] [PATH...]")),
    }
}

/// The old style: letters without a dash, whose values follow in order (`tar cfz FILE PATH`).
fn dashed(args: &[String]) -> Vec<String> {
    let Some(first) = args.get(1).filter(|first| !first.starts_with('-')) else {
        return args.to_vec();
    };
    let mut out = vec![args[0].clone()];
    let mut rest = args[2..].iter();
    for letter in first.chars() {
        out.push(format!("-{letter}"));
        if "fCX".contains(letter) {
            out.extend(rest.next().cloned());
        }
    }
    out.extend(rest.cloned());
    out
}

fn create(options: &Options) -> Done {
    let file = options.value('f').unwrap_or("-");
    let raw: Box<dyn Write> = match file {
        "-" => Box::new(crate::common::out()?),
        path => Box::new(io::BufWriter::new(File::create(path).map_err(about(path))?)),
    };
    if let Some(folder) = options.value('C') {
        std::env::set_current_dir(folder).map_err(about(folder))?;
    }
    if options.rest.is_empty() {
        return Err(usage("nothing to put into the archive"));
    }
    let status = if options.has('z') {
        let (encoder, status) = fill(GzEncoder::new(raw, flate2::Compression::default()), options)?;
        encoder.finish()?.flush()?;
        status
    } else {
        let (mut raw, status) = fill(raw, options)?;
        raw.flush()?;
        status
    };
    Ok(status)
}

fn fill<W: Write>(to: W, options: &Options) -> Result<(W, i32), Fault> {
    let mut builder = tar::Builder::new(to);
    builder.follow_symlinks(options.has('h'));
    let mut status = 0;
    for path in &options.rest {
        status |= add(&mut builder, Path::new(path), options, 0)?;
    }
    Ok((builder.into_inner()?, status))
}

fn excluded(path: &str, options: &Options) -> bool {
    let fits = |wanted: &str| {
        pattern::matches(wanted, path) || path.split('/').any(|part| pattern::matches(wanted, part))
    };
    options.values('X').any(fits)
}

fn add<W: Write>(
    builder: &mut tar::Builder<W>,
    path: &Path,
    options: &Options,
    depth: usize,
) -> Result<i32, Fault> {
    let shown = path.display().to_string();
    if excluded(&shown, options) {
        return Ok(0);
    }
    // Names in an archive are relative and go down only.
    let name: PathBuf = path.components().filter(|c| matches!(c, Component::Normal(_))).collect();
    let name = if name.as_os_str().is_empty() { PathBuf::from(".") } else { name };
    let meta = if options.has('h') { fs::metadata(path) } else { fs::symlink_metadata(path) };
    let meta = match meta {
        Ok(meta) => meta,
        Err(e) => {
            eprintln!("tar: {shown}: {}", reason(&e));
            return Ok(1);
        }
    };
    if options.has('v') {
        eprintln!("{shown}");
    }
    if meta.is_dir() {
        builder.append_dir(&name, path).map_err(about(&shown))?;
        if depth >= 256 {
            return Err(Fault::new(format!("{shown}: nested too deeply")));
        }
        let mut below: Vec<_> =
            fs::read_dir(path).map_err(about(&shown))?.flatten().map(|e| e.file_name()).collect();
        below.sort_unstable();
        let mut status = 0;
        for entry in below {
            status |= add(builder, &path.join(entry), options, depth + 1)?;
        }
        return Ok(status);
    }
    use std::os::unix::fs::FileTypeExt;
    if meta.file_type().is_socket() {
        return Ok(0);
    }
    match builder.append_path_with_name(path, &name) {
        Ok(()) => Ok(0),
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Err(e.into()),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            eprintln!("tar: {shown}: {}", reason(&e));
            Ok(1)
        }
        Err(e) => Err(about(&shown)(e)),
    }
}

/// The archive as a stream; compression is seen from its first bytes.
fn source(options: &Options) -> Result<Box<dyn Read>, Fault> {
    use std::io::BufRead;
    let mut reader = crate::common::open(options.value('f').unwrap_or("-"))?;
    let zipped = options.has('z') || reader.fill_buf()?.starts_with(&[0x1f, 0x8b]);
    Ok(if zipped { Box::new(GzDecoder::new(reader)) } else { Box::new(reader) })
}

fn list(options: &Options) -> Done {
    let mut archive = tar::Archive::new(source(options)?);
    let mut out = crate::common::out()?;
    for entry in archive.entries()? {
        let entry = entry?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if options.has('v') {
            let header = entry.header();
            let mode = header.mode().unwrap_or(0) & 0o7777;
            let (uid, gid) = (header.uid().unwrap_or(0), header.gid().unwrap_or(0));
            write!(out, "{mode:04o} {uid}/{gid} {:>9} ", entry.size())?;
        }
        writeln!(out, "{path}")?;
    }
    out.flush()?;
    Ok(0)
}

fn extract(options: &Options) -> Done {
    let source = source(options)?;
    let target = options.value('C').unwrap_or(".");
    let target = fs::canonicalize(target).map_err(about(target))?;
    let strip = options.number::<usize>('S')?.unwrap_or(0);
    let mut archive = tar::Archive::new(source);
    archive.set_preserve_mtime(!options.has('m'));
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(nix::unistd::geteuid().is_root() && !options.has('o'));
    archive.set_overwrite(true);
    let mut status = 0;
    let mut folders = Vec::new();
    let mut links = HashSet::new();
    for entry in archive.entries()? {
        let mut entry = entry.map_err(|e| Fault::new(format!("bad archive: {e}")))?;
        let shown = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let wanted = |w: &String| {
            let (w, s) = (w.trim_start_matches("./"), shown.trim_start_matches("./"));
            s == w
                || s.starts_with(&format!("{}/", w.trim_end_matches('/')))
                || pattern::matches(w, s)
        };
        if !options.rest.is_empty() && !options.rest.iter().any(wanted) || excluded(&shown, options)
        {
            continue;
        }
        if options.has('v') {
            eprintln!("{shown}");
        }
        if options.has('O') {
            io::copy(&mut entry, &mut io::stdout())?;
            continue;
        }
        let path = match inside(&shown, strip) {
            Ok(Some(path)) => path,
            Ok(None) => continue,
            Err(why) => {
                eprintln!("tar: {shown}: {why}");
                status = 1;
                continue;
            }
        };
        if entry.header().entry_type().is_dir() {
            // After everything else, so that a folder without write permission can be filled.
            folders.push((path.clone(), entry.header().clone()));
        }
        match place(&mut entry, &target, &path, strip, &mut links) {
            Ok(()) => {}
            Err(e) => {
                eprintln!("tar: {shown}: {}", inner_reason(&e));
                status = 1;
            }
        }
    }
    for (path, header) in folders.into_iter().rev() {
        use std::os::unix::fs::PermissionsExt;
        if let Ok(mode) = header.mode() {
            let _ =
                fs::set_permissions(target.join(path), fs::Permissions::from_mode(mode & 0o7777));
        }
    }
    Ok(status)
}

/// The `tar` crate wraps errors: the innermost one says why.
fn inner_reason(error: &io::Error) -> String {
    use std::error::Error;
    let mut last: &dyn Error = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.downcast_ref::<io::Error>().map_or_else(|| last.to_string(), reason)
}

/// The path below the target; none when nothing is left of it.
fn inside(shown: &str, strip: usize) -> Result<Option<PathBuf>, &'static str> {
    let mut parts = Vec::new();
    for part in Path::new(shown).components() {
        match part {
            Component::Normal(part) => parts.push(part),
            Component::ParentDir => return Err("a name with \"..\" is not extracted"),
            _ => {}
        }
    }
    let path: PathBuf = parts.into_iter().skip(strip).collect();
    Ok((!path.as_os_str().is_empty()).then_some(path))
}

fn place<R: Read>(
    entry: &mut tar::Entry<'_, R>,
    target: &Path,
    path: &Path,
    strip: usize,
    links: &mut HashSet<PathBuf>,
) -> io::Result<()> {
    let full = target.join(path);
    if path.ancestors().skip(1).any(|parent| links.contains(parent)) {
        return Err(io::Error::other(
            "a name that goes through a link of the archive is not extracted",
        ));
    }
    if let Some(parent) = full.parent() {
        fs::create_dir_all(parent)?;
    }
    let kind = entry.header().entry_type();
    if kind.is_dir() {
        if !full.is_dir() {
            let _ = fs::remove_file(&full);
            fs::create_dir(&full)?;
        }
        return Ok(());
    }
    // What is in the way goes, so that nothing is written through an old link.
    if full.symlink_metadata().is_ok_and(|m| !m.is_dir()) {
        fs::remove_file(&full)?;
    }
    if kind.is_hard_link() {
        let name = entry.link_name_bytes().unwrap_or_default();
        let name = inside(&String::from_utf8_lossy(&name), strip).map_err(io::Error::other)?;
        let from = name.ok_or_else(|| io::Error::other("a link to nothing"))?;
        if links.contains(&from) || from.ancestors().any(|parent| links.contains(parent)) {
            return Err(io::Error::other("a link to a link of the archive is not extracted"));
        }
        return fs::hard_link(target.join(from), full);
    }
    if kind.is_symlink() {
        links.insert(path.to_owned());
    } else {
        links.remove(path);
    }
    entry.unpack(&full).map(drop)
}

#[cfg(test)]
mod tests;
