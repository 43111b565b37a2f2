//! `basename`, `dirname`, `readlink`, `realpath`, `pwd`.
use std::path::Path;

use crate::common::{Done, Options, about, usage};

pub(crate) fn basename(args: &[String]) -> Done {
    let (path, suffix) = match &args[1..] {
        [path] => (path, ""),
        [path, suffix] => (path, suffix.as_str()),
        _ => return Err(usage("usage: basename PATH [SUFFIX]")),
    };
    let trimmed = path.trim_end_matches('/');
    let name = match trimmed.rsplit('/').next() {
        Some("") if path.starts_with('/') => "/",
        Some(name) => name,
        None => "",
    };
    let stripped = name.strip_suffix(suffix).filter(|rest| !rest.is_empty());
    println!("{}", stripped.unwrap_or(name));
    Ok(0)
}

pub(crate) fn dirname(args: &[String]) -> Done {
    let [path] = &args[1..] else { return Err(usage("usage: dirname PATH")) };
    let trimmed = path.trim_end_matches('/');
    let folder = match trimmed.rfind('/') {
        Some(i) => match trimmed[..i].trim_end_matches('/') {
            "" => "/",
            folder => folder,
        },
        None if trimmed.is_empty() && path.starts_with('/') => "/",
        None => ".",
    };
    println!("{folder}");
    Ok(0)
}

pub(crate) fn readlink(args: &[String]) -> Done {
    let options = Options::parse(args, "fn", &[])?;
    let [path] = options.rest.as_slice() else {
        return Err(usage("usage: readlink [-fn] PATH"));
    };
    let target = if options.has('f') { canonical(path) } else { std::fs::read_link(path) };
    // Not being a link is no error to speak of.
    let Ok(target) = target else { return Ok(1) };
    print!("{}{}", target.display(), if options.has('n') { "" } else { "\n" });
    Ok(0)
}

/// The real path; the last element need not exist.
fn canonical(path: &str) -> std::io::Result<std::path::PathBuf> {
    std::fs::canonicalize(path).or_else(|error| {
        let path = Path::new(path);
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = path.file_name().ok_or(error)?;
        Ok(std::fs::canonicalize(parent)?.join(name))
    })
}

pub(crate) fn realpath(args: &[String]) -> Done {
    for path in &args[1..] {
        println!("{}", canonical(path).map_err(about(path))?.display());
    }
    Ok(0)
}

pub(crate) fn pwd(_: &[String]) -> Done {
    println!("{}", std::env::current_dir()?.display());
    Ok(0)
}
