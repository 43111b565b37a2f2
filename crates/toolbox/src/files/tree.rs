//! `rm`, `mv`, `cp`, `du`: what goes down a tree.
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use crate::common::{Done, Fault, Options, about, complain, out, usage};

/// Trees are followed this deep.
const DEPTH_MAX: usize = 256;

/// `rm [-rf] PATH…`.
pub(crate) fn rm(args: &[String]) -> Done {
    let options = Options::parse(args, "rRfdiv", &[("recursive", 'r'), ("force", 'f')])?;
    let recursive = options.has('r') || options.has('R');
    let mut status = 0;
    for path in &options.rest {
        let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        if matches!(name, "" | "." | "..") {
            status = complain("rm", path, &io::Error::other("refusing to remove this"));
            continue;
        }
        let removed = match fs::symlink_metadata(path) {
            Ok(meta) if meta.is_dir() && recursive => fs::remove_dir_all(path),
            Ok(meta) if meta.is_dir() && options.has('d') => fs::remove_dir(path),
            Ok(_) => fs::remove_file(path),
            Err(e) => Err(e),
        };
        match removed {
            Err(e) if options.has('f') && e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => status = complain("rm: can't remove", path, &e),
            Ok(()) => {}
        }
    }
    Ok(status)
}

/// Sources and where each of them goes.
fn places(rest: &[String], tool: &str) -> Result<Vec<(PathBuf, PathBuf)>, Fault> {
    let [sources @ .., to] = rest else { return Err(usage(format!("usage: {tool} FROM... TO"))) };
    if sources.is_empty() {
        return Err(usage(format!("usage: {tool} FROM... TO")));
    }
    let folder = Path::new(to).is_dir();
    if sources.len() > 1 && !folder {
        return Err(Fault::new(format!("{to}: not a directory")));
    }
    let place = |from: &String| {
        let name = match Path::new(from).file_name() {
            Some(name) => Path::new(to).join(name),
            None => PathBuf::from(to),
        };
        (PathBuf::from(from), if folder { name } else { PathBuf::from(to) })
    };
    Ok(sources.iter().map(place).collect())
}

/// `mv [-f] FROM… TO`.
pub(crate) fn mv(args: &[String]) -> Done {
    let options = Options::parse(args, "fnvT", &[("force", 'f')])?;
    let mut status = 0;
    for (from, to) in places(&options.rest, "mv")? {
        if options.has('n') && to.exists() {
            continue;
        }
        let moved = match fs::rename(&from, &to) {
            Err(e) if e.kind() == io::ErrorKind::CrossesDevices => {
                let copy = Copy { recursive: true, keep: true, follow: false };
                copy.copy(&from, &to, 0).and_then(|()| match from.symlink_metadata()?.is_dir() {
                    true => fs::remove_dir_all(&from),
                    false => fs::remove_file(&from),
                })
            }
            other => other,
        };
        if let Err(e) = moved {
            status = complain("mv: can't rename", &from.display().to_string(), &e);
        }
    }
    Ok(status)
}

/// `cp [-rRapLdf] FROM… TO`.
pub(crate) fn cp(args: &[String]) -> Done {
    let options = Options::parse(args, "rRapfLdPvnT", &[("recursive", 'r'), ("archive", 'a')])?;
    let recursive = ['r', 'R', 'a'].iter().any(|c| options.has(*c));
    let keep_links = ['P', 'd', 'a'].iter().any(|c| options.has(*c)) || recursive;
    let copy = Copy {
        recursive,
        keep: options.has('p') || options.has('a'),
        follow: options.has('L') || !keep_links,
    };
    let mut status = 0;
    for (from, to) in places(&options.rest, "cp")? {
        if options.has('n') && to.exists() {
            continue;
        }
        if let Err(e) = copy.copy(&from, &to, 0) {
            status = complain("cp", &from.display().to_string(), &e);
        }
    }
    Ok(status)
}

struct Copy {
    recursive: bool,
    /// Owners, modes and times too.
    keep: bool,
    /// What links lead to, not the links.
    follow: bool,
}

impl Copy {
    fn copy(&self, from: &Path, to: &Path, depth: usize) -> io::Result<()> {
        let meta = if self.follow { fs::metadata(from)? } else { fs::symlink_metadata(from)? };
        if meta.is_dir() {
            if !self.recursive {
                return Err(io::Error::other("is a directory; -r copies it"));
            }
            let inside = || {
                Some(fs::canonicalize(to.parent()?).ok()?.starts_with(fs::canonicalize(from).ok()?))
            };
            if depth == 0 && inside() == Some(true) || depth > DEPTH_MAX {
                return Err(io::Error::other("cannot copy a directory into itself"));
            }
            if !to.is_dir() {
                fs::create_dir(to)?;
            }
            for entry in fs::read_dir(from)? {
                let entry = entry?;
                self.copy(&entry.path(), &to.join(entry.file_name()), depth + 1)?;
            }
        } else if meta.is_symlink() {
            if to.symlink_metadata().is_ok() {
                fs::remove_file(to)?;
            }
            symlink(fs::read_link(from)?, to)?;
        } else if meta.is_file() {
            let same =
                fs::metadata(to).is_ok_and(|t| (t.dev(), t.ino()) == (meta.dev(), meta.ino()));
            if same {
                return Err(io::Error::other(format!("{} is the same file", to.display())));
            }
            let fresh = !to.exists();
            io::copy(&mut File::open(from)?, &mut File::create(to)?)?;
            if fresh {
                fs::set_permissions(to, fs::Permissions::from_mode(meta.mode() & 0o777))?;
            }
        } else {
            return Err(io::Error::other("is neither a file, a directory nor a link"));
        }
        if self.keep {
            // Only root may give files away; others keep what they made.
            let _ = lchown(to, Some(meta.uid()), Some(meta.gid()));
            if !meta.is_symlink() {
                fs::set_permissions(to, fs::Permissions::from_mode(meta.mode() & 0o7777))?;
                let times = fs::FileTimes::new()
                    .set_accessed(meta.accessed()?)
                    .set_modified(meta.modified()?);
                File::open(to)?.set_times(times)?;
            }
        }
        Ok(())
    }
}

/// `du [-shakb] [PATH…]`.
pub(crate) fn du(args: &[String]) -> Done {
    let options =
        Options::parse(args, "shakcxbmd:", &[("summarize", 's'), ("human-readable", 'h')])?;
    let most = if options.has('s') { 0 } else { options.number('d')?.unwrap_or(usize::MAX) };
    let here = [".".to_owned()];
    let mut out = out()?;
    for path in if options.rest.is_empty() { &here[..] } else { &options.rest } {
        let mut du = Du { options: &options, most, out: &mut out };
        du.walk(Path::new(path), 0).map_err(about(path))?;
    }
    out.flush()?;
    Ok(0)
}

struct Du<'a, W> {
    options: &'a Options,
    most: usize,
    out: &'a mut W,
}

impl<W: Write> Du<'_, W> {
    fn walk(&mut self, path: &Path, depth: usize) -> io::Result<u64> {
        let meta = fs::symlink_metadata(path)?;
        let apparent = self.options.has('b');
        let mut size = if apparent { meta.len() } else { meta.blocks() * 512 };
        if meta.is_dir() && depth < DEPTH_MAX {
            for entry in fs::read_dir(path)?.flatten() {
                // What vanishes meanwhile takes no space.
                size += self.walk(&entry.path(), depth + 1).unwrap_or(0);
            }
        }
        if depth == 0 || depth <= self.most && (meta.is_dir() || self.options.has('a')) {
            let shown = match () {
                () if self.options.has('h') => crate::info::human(size),
                () if apparent => size.to_string(),
                () if self.options.has('m') => size.div_ceil(1 << 20).to_string(),
                () => size.div_ceil(1024).to_string(),
            };
            writeln!(self.out, "{shown}\t{}", path.display())?;
        }
        Ok(size)
    }
}
