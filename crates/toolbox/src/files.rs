//! Tools for files and folders.
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use crate::{Options, Outcome, at};

pub(crate) fn cat(args: &[String]) -> Outcome {
    let mut options = Options::parse(args, "u")?;
    if options.rest.is_empty() {
        options.rest.push("-".to_owned());
    }
    let mut out = io::stdout().lock();
    options.each("cat", |path| {
        let copied = if path == "-" {
            io::copy(&mut io::stdin().lock(), &mut out)
        } else {
            let mut file = File::open(path).map_err(at(path))?;
            io::copy(&mut file, &mut out)
        };
        copied.map_err(at(path)).map(drop)
    })
}

pub(crate) fn ls(args: &[String]) -> Outcome {
    let mut options = Options::parse(args, "laAd1hRF")?;
    if options.rest.is_empty() {
        options.rest.push(".".to_owned());
    }
    let many = options.rest.len() > 1;
    let (long, all, itself) =
        (options.has('l'), options.has('a') || options.has('A'), options.has('d'));
    options.each("ls", |path| {
        let meta = fs::symlink_metadata(path).map_err(at(path))?;
        let followed = fs::metadata(path).is_ok_and(|m| m.is_dir());
        if itself || !(meta.is_dir() || followed && !long) {
            print_entry(Path::new(path), path, long);
            return Ok(());
        }
        if many {
            println!("{path}:");
        }
        let mut names: Vec<String> = fs::read_dir(path)
            .map_err(at(path))?
            .flatten()
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .filter(|n| all || !n.starts_with('.'))
            .collect();
        names.sort();
        for name in names {
            print_entry(&Path::new(path).join(&name), &name, long);
        }
        Ok(())
    })
}

fn print_entry(path: &Path, name: &str, long: bool) {
    let Ok(meta) = fs::symlink_metadata(path) else { return };
    if !long {
        println!("{name}");
        return;
    }
    let target = fs::read_link(path).map(|t| format!(" -> {}", t.display())).unwrap_or_default();
    println!(
        "{} {:>3} {:>5} {:>5} {:>9} {} {name}{target}",
        mode_text(&meta),
        meta.nlink(),
        meta.uid(),
        meta.gid(),
        meta.len(),
        crate::text::time_text(meta.mtime(), "%Y-%m-%d %H:%M"),
    );
}

fn mode_text(meta: &fs::Metadata) -> String {
    let kind = meta.file_type();
    let first = match () {
        () if kind.is_dir() => 'd',
        () if kind.is_symlink() => 'l',
        () if kind.is_char_device() => 'c',
        () if kind.is_block_device() => 'b',
        () if kind.is_fifo() => 'p',
        () if kind.is_socket() => 's',
        () => '-',
    };
    let mode = meta.mode();
    let mut text = String::from(first);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift & 7;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (mode & special != 0, bits & 1 != 0) {
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

pub(crate) fn mkdir(args: &[String]) -> Outcome {
    let options = Options::parse(args, "pm:")?;
    options.each("mkdir", |path| {
        let made = if options.has('p') { fs::create_dir_all(path) } else { fs::create_dir(path) };
        made.map_err(at(format!("cannot make {path}")))?;
        match options.value('m') {
            Some(mode) => set_mode(path, mode),
            None => Ok(()),
        }
    })
}

pub(crate) fn rmdir(args: &[String]) -> Outcome {
    let options = Options::parse(args, "")?;
    options.each("rmdir", |path| fs::remove_dir(path).map_err(at(path)))
}

pub(crate) fn rm(args: &[String]) -> Outcome {
    let options = Options::parse(args, "rRf")?;
    let (deep, force) = (options.has('r') || options.has('R'), options.has('f'));
    if options.rest.is_empty() && force {
        return Ok(0);
    }
    options.each("rm", |path| {
        let meta = match fs::symlink_metadata(path) {
            Err(e) if force && e.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(at(path))?,
        };
        match (meta.is_dir(), deep) {
            (true, true) => fs::remove_dir_all(path).map_err(at(path)),
            (true, false) => Err(format!("{path}: is a directory")),
            (false, _) => fs::remove_file(path).map_err(at(path)),
        }
    })
}

pub(crate) fn touch(args: &[String]) -> Outcome {
    let options = Options::parse(args, "c")?;
    options.each("touch", |path| {
        if options.has('c') && !Path::new(path).exists() {
            return Ok(());
        }
        let file = File::options().append(true).create(true).open(path).map_err(at(path))?;
        file.set_modified(std::time::SystemTime::now()).map_err(at(path))
    })
}

/// The last operand, and where each of the others goes.
fn targets(options: &Options) -> Result<Vec<(String, std::path::PathBuf)>, String> {
    let Some((to, from @ [_, ..])) = options.rest.split_last() else {
        return Err("missing operand".to_owned());
    };
    let folder = fs::metadata(to).is_ok_and(|m| m.is_dir());
    if from.len() > 1 && !folder {
        return Err(format!("{to}: not a directory"));
    }
    let place = |from: &String| {
        let name = Path::new(from).file_name().unwrap_or_default();
        let to = if folder { Path::new(to).join(name) } else { to.into() };
        (from.clone(), to)
    };
    Ok(from.iter().map(place).collect())
}

pub(crate) fn cp(args: &[String]) -> Outcome {
    let options = Options::parse(args, "rRapf")?;
    let deep = ['r', 'R', 'a'].iter().any(|l| options.has(*l));
    for (from, to) in targets(&options)? {
        copy(Path::new(&from), &to, deep)?;
    }
    Ok(0)
}

fn copy(from: &Path, to: &Path, deep: bool) -> Result<(), String> {
    let shown = from.display();
    let meta = if deep { fs::symlink_metadata(from) } else { fs::metadata(from) };
    let meta = meta.map_err(at(shown))?;
    if meta.is_symlink() {
        let target = fs::read_link(from).map_err(at(from.display()))?;
        return std::os::unix::fs::symlink(target, to).map_err(at(to.display()));
    }
    if !meta.is_dir() {
        return fs::copy(from, to).map_err(at(from.display())).map(drop);
    }
    if !deep {
        return Err(format!("{}: is a directory", from.display()));
    }
    fs::create_dir_all(to).map_err(at(to.display()))?;
    for entry in fs::read_dir(from).map_err(at(from.display()))?.flatten() {
        copy(&entry.path(), &to.join(entry.file_name()), true)?;
    }
    fs::set_permissions(to, meta.permissions()).map_err(at(to.display()))
}

pub(crate) fn mv(args: &[String]) -> Outcome {
    let options = Options::parse(args, "f")?;
    for (from, to) in targets(&options)? {
        match fs::rename(&from, &to) {
            Err(e) if e.kind() == io::ErrorKind::CrossesDevices => {
                copy(Path::new(&from), &to, true)?;
                let gone = if fs::symlink_metadata(&from).is_ok_and(|m| m.is_dir()) {
                    fs::remove_dir_all(&from)
                } else {
                    fs::remove_file(&from)
                };
                gone.map_err(at(from))?;
            }
            other => other.map_err(at(from))?,
        }
    }
    Ok(0)
}

pub(crate) fn ln(args: &[String]) -> Outcome {
    let options = Options::parse(args, "sf")?;
    for (from, to) in targets(&options)? {
        if options.has('f') {
            let _ = fs::remove_file(&to);
        }
        let made = if options.has('s') {
            std::os::unix::fs::symlink(&from, &to)
        } else {
            fs::hard_link(&from, &to)
        };
        made.map_err(at(to.display()))?;
    }
    Ok(0)
}

pub(crate) fn readlink(args: &[String]) -> Outcome {
    let options = Options::parse(args, "f")?;
    options.each("readlink", |path| {
        let found = if options.has('f') { fs::canonicalize(path) } else { fs::read_link(path) };
        found.map_err(at(path)).map(|target| println!("{}", target.display()))
    })
}

pub(crate) fn chmod(args: &[String]) -> Outcome {
    let mut options = Options::parse(args, "")?;
    if options.rest.is_empty() {
        return Err("missing operand".to_owned());
    }
    let mode = options.rest.remove(0);
    options.each("chmod", |path| set_mode(path, &mode))
}

fn set_mode(path: &str, mode: &str) -> Result<(), String> {
    let mode = match mode {
        "+x" => fs::metadata(path).map_err(at(path))?.mode() | 0o111,
        _ => u32::from_str_radix(mode, 8).map_err(|_| format!("{mode:?} is no octal mode"))?,
    };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(at(path))
}

pub(crate) fn stat(args: &[String]) -> Outcome {
    let options = Options::parse(args, "c:L")?;
    options.each("stat", |path| {
        let meta = if options.has('L') { fs::metadata(path) } else { fs::symlink_metadata(path) };
        let meta = meta.map_err(at(path))?;
        let format = options.value('c').unwrap_or("%A %u:%g %s %n");
        let mut chars = format.chars();
        let mut text = String::new();
        while let Some(c) = chars.next() {
            let directive = if c == '%' { chars.next() } else { None };
            match directive {
                None => text.push(c),
                Some('n') => text.push_str(path),
                Some('s') => text.push_str(&meta.len().to_string()),
                Some('u') => text.push_str(&meta.uid().to_string()),
                Some('g') => text.push_str(&meta.gid().to_string()),
                Some('a') => text.push_str(&format!("{:o}", meta.mode() & 0o7777)),
                Some('A') => text.push_str(&mode_text(&meta)),
                Some('i') => text.push_str(&meta.ino().to_string()),
                Some('Y') => text.push_str(&meta.mtime().to_string()),
                Some(other) => return Err(format!("unknown directive %{other}")),
            }
        }
        println!("{text}");
        Ok(())
    })
}

pub(crate) fn sync(_: &[String]) -> Outcome {
    nix::unistd::sync();
    Ok(0)
}

pub(crate) fn pwd(_: &[String]) -> Outcome {
    let folder = std::env::current_dir().map_err(at("cannot tell the current folder"))?;
    println!("{}", folder.display());
    Ok(0)
}

pub(crate) fn basename(args: &[String]) -> Outcome {
    let path = args.first().ok_or("missing operand")?;
    let base = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let base = if base.is_empty() && !path.is_empty() { "/" } else { base };
    let suffix = args.get(1).map_or("", String::as_str);
    let shorter = base.strip_suffix(suffix).filter(|s| !s.is_empty());
    println!("{}", shorter.unwrap_or(base));
    Ok(0)
}

pub(crate) fn dirname(args: &[String]) -> Outcome {
    let path = args.first().ok_or("missing operand")?;
    let parent = Path::new(path).parent().map(Path::as_os_str).unwrap_or_default();
    let parent = parent.to_string_lossy();
    let none = if path.starts_with('/') { "/" } else { "." };
    writeln!(io::stdout(), "{}", if parent.is_empty() { none } else { &parent })
        .map_err(at("output"))?;
    Ok(0)
}
