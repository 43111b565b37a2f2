//! `mkdir`, `rmdir`, `touch`, `ln`, `chmod`, `chown`, `stat`.
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown as set_owner, lchown};
use std::path::Path;
use std::time::SystemTime;

use crate::common::{Done, Fault, Options, about, complain, usage};
use crate::info::{date, names};

/// `mkdir [-p] [-m MODE] FOLDER…`.
pub(crate) fn mkdir(args: &[String]) -> Done {
    let options = Options::parse(args, "pvm:", &[("parents", 'p'), ("mode", 'm')])?;
    if options.rest.is_empty() {
        return Err(usage("usage: mkdir [-p] [-m MODE] FOLDER..."));
    }
    let mut status = 0;
    for folder in &options.rest {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(options.has('p')).mode(0o777);
        let made = builder.create(folder).and_then(|()| match options.value('m') {
            Some(text) => {
                let mode =
                    changed(0o777, true, text).map_err(|e| io::Error::other(e.to_string()))?;
                fs::set_permissions(folder, Permissions::from_mode(mode))
            }
            None => Ok(()),
        });
        if let Err(e) = made {
            status = complain("mkdir: can't create directory", folder, &e);
        }
    }
    Ok(status)
}

/// `rmdir FOLDER…`.
pub(crate) fn rmdir(args: &[String]) -> Done {
    let options = Options::parse(args, "p", &[])?;
    let mut status = 0;
    for folder in &options.rest {
        let mut next = Some(Path::new(folder));
        while let Some(path) = next.filter(|p| !p.as_os_str().is_empty()) {
            if let Err(e) = fs::remove_dir(path) {
                status = complain("rmdir", &path.display().to_string(), &e);
                break;
            }
            next = if options.has('p') { path.parent() } else { None };
        }
    }
    Ok(status)
}

/// `touch [-c] [-r FILE] [-d @SECONDS] FILE…`.
pub(crate) fn touch(args: &[String]) -> Done {
    let options = Options::parse(args, "camr:d:", &[("no-create", 'c'), ("date", 'd')])?;
    let time = match (options.value('r'), options.value('d')) {
        (Some(path), _) => fs::metadata(path).map_err(about(path))?.modified()?,
        (None, Some(text)) => date::parse(text)?,
        (None, None) => SystemTime::now(),
    };
    let mut status = 0;
    for path in &options.rest {
        let times = fs::FileTimes::new().set_accessed(time).set_modified(time);
        let exists = Path::new(path).exists();
        if !exists && options.has('c') {
            continue;
        }
        let file = if exists {
            File::open(path)
        } else {
            File::options().create(true).append(true).open(path)
        };
        if let Err(e) = file.and_then(|file| file.set_times(times)) {
            status = complain("touch", path, &e);
        }
    }
    Ok(status)
}

/// `ln [-sfn] TARGET… LINK`.
pub(crate) fn ln(args: &[String]) -> Done {
    let options = Options::parse(args, "sfnvT", &[("symbolic", 's'), ("force", 'f')])?;
    let (targets, place) = match options.rest.as_slice() {
        [] => return Err(usage("usage: ln [-sfn] TARGET... LINK")),
        [target] => (std::slice::from_ref(target), "."),
        [targets @ .., place] => (targets, place.as_str()),
    };
    let is_folder = Path::new(place).is_dir()
        && !(options.has('n') && Path::new(place).is_symlink() || options.has('T'));
    if targets.len() > 1 && !is_folder {
        return Err(Fault::new(format!("{place}: not a directory")));
    }
    for target in targets {
        let name = Path::new(target).file_name().unwrap_or_default();
        let link = if is_folder { Path::new(place).join(name) } else { place.into() };
        if options.has('f') && link.symlink_metadata().is_ok() {
            fs::remove_file(&link).map_err(about(place))?;
        }
        let made = if options.has('s') {
            std::os::unix::fs::symlink(target, &link)
        } else {
            fs::hard_link(target, &link)
        };
        made.map_err(about(&link.display().to_string()))?;
    }
    Ok(0)
}

/// `chmod [-R] MODE PATH…`.
pub(crate) fn chmod(args: &[String]) -> Done {
    // A mode may start with a dash.
    let (flags, rest): (Vec<&String>, Vec<&String>) =
        args[1..].iter().partition(|arg| matches!(arg.as_str(), "-R" | "-f" | "-v" | "--"));
    let [mode, paths @ ..] = rest.as_slice() else {
        return Err(usage("usage: chmod [-R] MODE PATH..."));
    };
    let recursive = flags.iter().any(|flag| *flag == "-R");
    let mut status = 0;
    for path in paths {
        let change = |path: &Path, meta: &fs::Metadata| -> io::Result<()> {
            if meta.is_symlink() {
                return Ok(());
            }
            let new = changed(meta.mode() & 0o7777, meta.is_dir(), mode)
                .map_err(|e| io::Error::other(e.to_string()))?;
            fs::set_permissions(path, Permissions::from_mode(new))
        };
        status |= over("chmod", Path::new(path), recursive, true, &change);
    }
    Ok(status)
}

/// Applies a change to a path, and below it.
fn over(
    tool: &str,
    path: &Path,
    recursive: bool,
    follow: bool,
    change: &dyn Fn(&Path, &fs::Metadata) -> io::Result<()>,
) -> i32 {
    let meta = if follow { fs::metadata(path) } else { fs::symlink_metadata(path) };
    let shown = path.display().to_string();
    let meta = match meta {
        Ok(meta) => meta,
        Err(e) => return complain(tool, &shown, &e),
    };
    let mut status = match change(path, &meta) {
        Ok(()) => 0,
        Err(e) => complain(tool, &shown, &e),
    };
    if recursive && meta.is_dir() {
        match fs::read_dir(path) {
            Ok(entries) => {
                for entry in entries.flatten() {
                    status |= over(tool, &entry.path(), true, false, change);
                }
            }
            Err(e) => status = complain(tool, &shown, &e),
        }
    }
    status
}

/// A mode after `644`, `u+x,go-w`, `a=rX`.
pub(crate) fn changed(mode: u32, folder: bool, text: &str) -> Result<u32, Fault> {
    if let Ok(octal) = u32::from_str_radix(text, 8) {
        return Ok(octal & 0o7777);
    }
    let bad = || usage(format!("invalid mode '{text}'"));
    let mut mode = mode;
    for clause in text.split(',') {
        let split = clause.find(['+', '-', '=']).ok_or_else(bad)?;
        let (who, mut rest) = clause.split_at(split);
        let mut mask = 0;
        for c in who.chars() {
            mask |= match c {
                'u' => 0o4700,
                'g' => 0o2070,
                'o' => 0o1007,
                'a' => 0o7777,
                _ => return Err(bad()),
            };
        }
        let mask = if who.is_empty() { 0o7777 } else { mask };
        while let Some(operator) = rest.chars().next() {
            let end = rest[1..].find(['+', '-', '=']).map_or(rest.len(), |i| i + 1);
            let mut bits = 0;
            for c in rest[1..end].chars() {
                bits |= match c {
                    'r' => 0o444,
                    'w' => 0o222,
                    'x' => 0o111,
                    'X' if folder || mode & 0o111 != 0 => 0o111,
                    'X' => 0,
                    's' => 0o6000,
                    't' => 0o1000,
                    _ => return Err(bad()),
                };
            }
            let bits = bits & (mask | if bits & 0o1000 != 0 { 0o1000 } else { 0 });
            mode = match operator {
                '+' => mode | bits,
                '-' => mode & !bits,
                _ => mode & !(mask & 0o777) | bits,
            };
            rest = &rest[end..];
        }
    }
    Ok(mode)
}

/// `chown [-Rh] USER[:GROUP] PATH…`.
pub(crate) fn chown(args: &[String]) -> Done {
    let options = Options::parse(args, "Rhfv", &[("recursive", 'R')])?;
    let [owner, paths @ ..] = options.rest.as_slice() else {
        return Err(usage("usage: chown [-R] USER[:GROUP] PATH..."));
    };
    let (user, group) = match owner.split_once([':', '.']) {
        Some((user, group)) => (user, Some(group)),
        None => (owner.as_str(), None),
    };
    let names = names::Names::read(false);
    let unknown = |what: &str| Fault::new(format!("unknown user or group '{what}'"));
    let uid = match user {
        "" => None,
        user => Some(names.uid(user).ok_or_else(|| unknown(user))?),
    };
    let gid = match group {
        None | Some("") => None,
        Some(group) => Some(names.gid(group).ok_or_else(|| unknown(group))?),
    };
    let mut status = 0;
    for path in paths {
        let change = |path: &Path, meta: &fs::Metadata| {
            if meta.is_symlink() { lchown(path, uid, gid) } else { set_owner(path, uid, gid) }
        };
        status |= over("chown", Path::new(path), options.has('R'), !options.has('h'), &change);
    }
    Ok(status)
}

/// `stat [-c FORMAT] [-L] PATH…`.
pub(crate) fn stat(args: &[String]) -> Done {
    let options = Options::parse(args, "c:Lt", &[("format", 'c')])?;
    let names = names::Names::read(false);
    for path in &options.rest {
        let meta = if options.has('L') { fs::metadata(path) } else { fs::symlink_metadata(path) };
        let meta = meta.map_err(about(path))?;
        let format = options.value('c').unwrap_or(
            "  File: %N\n  Size: %s\tBlocks: %b\tIO Block: %o\t%F\nInode: %i\tLinks: %h\n\
             Access: (%a/%A)  Uid: (%u/%U)  Gid: (%g/%G)\nAccess: %x\nModify: %y\nChange: %z",
        );
        println!("{}", formatted(format, path, &meta, &names));
    }
    Ok(0)
}

fn formatted(format: &str, path: &str, meta: &fs::Metadata, names: &names::Names) -> String {
    let mut text = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        text += &match chars.next() {
            Some('n') => path.to_owned(),
            Some('N') => match fs::read_link(path) {
                Ok(target) => format!("{path} -> {}", target.display()),
                Err(_) => path.to_owned(),
            },
            Some('s') => meta.len().to_string(),
            Some('b') => meta.blocks().to_string(),
            Some('B') => "512".to_owned(),
            Some('o') => meta.blksize().to_string(),
            Some('i') => meta.ino().to_string(),
            Some('h') => meta.nlink().to_string(),
            Some('a') => format!("{:o}", meta.mode() & 0o7777),
            Some('A') => super::ls::mode(meta),
            Some('f') => format!("{:x}", meta.mode()),
            Some('u') => meta.uid().to_string(),
            Some('U') => names.user(meta.uid()),
            Some('g') => meta.gid().to_string(),
            Some('G') => names.group(meta.gid()),
            Some('X') => meta.atime().to_string(),
            Some('Y') => meta.mtime().to_string(),
            Some('Z') => meta.ctime().to_string(),
            Some('x') => date::full(meta.atime()),
            Some('y') => date::full(meta.mtime()),
            Some('z') => date::full(meta.ctime()),
            Some('F') => kind(meta).to_owned(),
            Some('%') | None => "%".to_owned(),
            Some(c) => format!("%{c}"),
        };
    }
    text
}

fn kind(meta: &fs::Metadata) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    let kind = meta.file_type();
    match () {
        () if kind.is_dir() => "directory",
        () if kind.is_symlink() => "symbolic link",
        () if kind.is_fifo() => "fifo",
        () if kind.is_socket() => "socket",
        () if kind.is_char_device() => "character special file",
        () if kind.is_block_device() => "block special file",
        () if meta.len() == 0 => "regular empty file",
        () => "regular file",
    }
}
