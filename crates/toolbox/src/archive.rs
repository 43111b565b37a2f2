//! `tar`, as `kubectl cp` calls it in both directions, and as people do.
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::{Outcome, at};

#[derive(Default)]
struct Request {
    mode: Option<char>,
    file: Option<String>,
    folder: PathBuf,
    touch: bool,
    verbose: bool,
    no_owner: bool,
    strip: usize,
    names: Vec<String>,
}

pub(crate) fn tar(args: &[String]) -> Outcome {
    let request = parse(args)?;
    match request.mode {
        Some('c') => create(&request).map(|()| 0),
        Some('x') => extract(&request).map(|()| 0),
        Some('t') => list(&request).map(|()| 0),
        _ => Err("one of -c, -x, -t is needed".to_owned()),
    }
}

fn parse(args: &[String]) -> Result<Request, String> {
    let mut request = Request { folder: PathBuf::from("."), ..Request::default() };
    let mut args = args.iter().enumerate();
    while let Some((index, arg)) = args.next() {
        let mut next = || args.next().map(|(_, a)| a.clone());
        if let Some(long) = arg.strip_prefix("--") {
            match long.split_once('=').unwrap_or((long, "")) {
                ("no-same-owner", _) => request.no_owner = true,
                ("no-same-permissions" | "overwrite" | "warning", _) => {}
                ("strip-components", n) => {
                    request.strip = n.parse().map_err(|_| format!("{arg:?} is no number"))?;
                }
                ("directory", folder) => request.folder = folder.into(),
                _ => return Err(format!("unknown option {arg:?}")),
            }
            continue;
        }
        // The old style: the first word holds letters even without a dash.
        let letters = match arg.strip_prefix('-') {
            Some(letters) if !letters.is_empty() => letters,
            None if index == 0 => arg,
            _ => {
                request.names.push(arg.clone());
                continue;
            }
        };
        for letter in letters.chars() {
            match letter {
                'c' | 'x' | 't' => request.mode = Some(letter),
                'f' => request.file = Some(next().ok_or("-f needs a file")?),
                'C' => request.folder = next().ok_or("-C needs a folder")?.into(),
                'm' => request.touch = true,
                'v' => request.verbose = true,
                'o' => request.no_owner = true,
                'p' | 'h' => {}
                other => return Err(format!("unknown option -{other}")),
            }
        }
    }
    Ok(request)
}

fn create(request: &Request) -> Result<(), String> {
    if request.names.is_empty() {
        return Err("refusing to make an empty archive".to_owned());
    }
    let out: Box<dyn Write> = match request.file.as_deref() {
        None | Some("-") => Box::new(io::stdout().lock()),
        Some(path) => Box::new(File::create(path).map_err(at(path))?),
    };
    let mut builder = tar::Builder::new(io::BufWriter::with_capacity(1 << 16, out));
    builder.follow_symlinks(false);
    for name in &request.names {
        let inside = name.trim_start_matches('/');
        let inside = if inside.is_empty() { "." } else { inside };
        add(&mut builder, &request.folder.join(name), Path::new(inside), request.verbose)?;
    }
    let finished = builder.into_inner().and_then(|mut out| out.flush());
    finished.map_err(at("cannot write the archive"))
}

fn add(
    builder: &mut tar::Builder<impl Write>,
    path: &Path,
    name: &Path,
    verbose: bool,
) -> Result<(), String> {
    use std::os::unix::fs::FileTypeExt;
    let kind = fs::symlink_metadata(path).map_err(at(path.display()))?.file_type();
    if kind.is_socket() {
        return Ok(());
    }
    if verbose {
        eprintln!("{}", name.display());
    }
    builder.append_path_with_name(path, name).map_err(at(path.display()))?;
    if kind.is_dir() {
        let entries = fs::read_dir(path).map_err(at(path.display()))?;
        let mut entries: Vec<_> = entries.flatten().map(|e| e.file_name()).collect();
        entries.sort();
        for entry in entries {
            add(builder, &path.join(&entry), &name.join(&entry), verbose)?;
        }
    }
    Ok(())
}

fn source(request: &Request) -> Result<Box<dyn Read>, String> {
    Ok(match request.file.as_deref() {
        None | Some("-") => Box::new(io::stdin().lock()),
        Some(path) => Box::new(File::open(path).map_err(at(path))?),
    })
}

fn extract(request: &Request) -> Result<(), String> {
    let mut archive = tar::Archive::new(source(request)?);
    archive.set_preserve_mtime(!request.touch);
    archive.set_preserve_permissions(true);
    let owners = nix::unistd::geteuid().is_root() && !request.no_owner;
    archive.set_preserve_ownerships(owners);
    archive.set_overwrite(true);
    let broken = || at("cannot read the archive");
    // Folders' modes last: a read-only one must still take its files.
    let mut folders = Vec::new();
    for entry in archive.entries().map_err(broken())? {
        let mut entry = entry.map_err(broken())?;
        let path = entry.path().map_err(broken())?.into_owned();
        let shown = path.display().to_string();
        if !wanted(request, &path) {
            continue;
        }
        if request.verbose {
            println!("{shown}");
        }
        let relative: PathBuf = path.components().skip(request.strip).collect();
        if relative.as_os_str().is_empty() {
            continue;
        }
        if entry.header().entry_type().is_dir() {
            folders.push(entry);
            let made = folders.last_mut().expect("just pushed");
            made.unpack_in(&request.folder).map_err(at(shown))?;
            continue;
        }
        let inside = if request.strip == 0 {
            entry.unpack_in(&request.folder).map_err(at(&shown))?
        } else {
            let plain = relative.components().all(|c| matches!(c, std::path::Component::Normal(_)));
            if plain {
                let to = request.folder.join(&relative);
                to.parent().map_or(Ok(()), fs::create_dir_all).map_err(at(&shown))?;
                entry.unpack(to).map_err(at(&shown))?;
            }
            plain
        };
        if !inside {
            eprintln!("tar: {shown}: leads out of the folder, left out");
        }
    }
    Ok(())
}

fn wanted(request: &Request, path: &Path) -> bool {
    request.names.is_empty()
        || request.names.iter().any(|n| path.starts_with(n.trim_start_matches("./")))
}

fn list(request: &Request) -> Result<(), String> {
    let broken = || at("cannot read the archive");
    let mut archive = tar::Archive::new(source(request)?);
    for entry in archive.entries().map_err(broken())? {
        let entry = entry.map_err(broken())?;
        let path = entry.path().map_err(broken())?.into_owned();
        if wanted(request, &path) {
            println!("{}", path.display());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_out_again() {
        let dir = tempfile::tempdir().unwrap();
        let at = |p: &str| dir.path().join(p).display().to_string();
        fs::create_dir_all(at("from/a/b")).unwrap();
        fs::create_dir(at("to")).unwrap();
        fs::write(at("from/a/b/file"), "text").unwrap();
        std::os::unix::fs::symlink("b/file", at("from/a/link")).unwrap();
        let run = |args: &[&str]| {
            let args: Vec<String> = args.iter().map(|a| (*a).to_owned()).collect();
            tar(&args)
        };
        assert_eq!(run(&["cf", &at("x.tar"), "-C", &at("from"), "a"]), Ok(0));
        assert_eq!(run(&["-xmf", &at("x.tar"), "-C", &at("to")]), Ok(0));
        assert_eq!(fs::read_to_string(at("to/a/b/file")).unwrap(), "text");
        assert_eq!(fs::read_link(at("to/a/link")).unwrap(), Path::new("b/file"));
        assert_eq!(run(&["-xf", &at("x.tar"), "-C", &at("to"), "--strip-components=2"]), Ok(0));
        assert_eq!(fs::read_to_string(at("to/file")).unwrap(), "text");
        assert!(run(&["-f", "x"]).is_err() && run(&["-cf", "-"]).is_err());
    }
}
