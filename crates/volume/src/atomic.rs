//! Writes a folder of files so that a reader sees all of the old or all of the new ones.
//!
//! The files lie in a folder named by the time, `..data` is a link to it, and every name at the top
//! is a link through `..data`. Replacing that one link is the change.
use crate::Error;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

const DATA: &str = "..data";
const NEW_DATA: &str = "..data_tmp";

/// One file's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    pub bytes: Vec<u8>,
    pub mode: u32,
    /// Its owner, if not the node's.
    pub owner: Option<u32>,
}

/// Files by their path below the volume's root.
pub type Files = BTreeMap<String, File>;

/// Makes the folder's content equal to `files`; returns false if it was already. Blocks.
pub fn write(dir: &Path, files: &Files, group: Option<u32>) -> Result<bool, Error> {
    for path in files.keys() {
        check(path)?;
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(dir)
        .map_err(Error::io("make the folder", dir))?;
    own_folder(dir, group)?;
    let data = dir.join(DATA);
    let old = fs::read_link(&data).ok();
    if let Some(old) = &old {
        if same(&dir.join(old), files, group) && links_are(dir, files) {
            return Ok(false);
        }
    }
    let name = unused_name(dir);
    let fresh = dir.join(&name);
    make(&fresh, files, group)?;
    let new_data = dir.join(NEW_DATA);
    let _ = fs::remove_file(&new_data);
    symlink(&name, &new_data).map_err(Error::io("make the link", &new_data))?;
    fs::rename(&new_data, &data).map_err(Error::io("replace the link", &data))?;
    link_names(dir, files)?;
    remove_stale(dir, files, &name)?;
    Ok(true)
}

/// A path that stays inside: relative, without `..`, and no name at the top that begins with `..`.
pub fn check(path: &str) -> Result<(), Error> {
    let inside = !path.is_empty()
        && path.len() <= 4096
        && !path.starts_with("..")
        && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    if inside { Ok(()) } else { Err(Error::Refused(format!("invalid path {path:?} in a volume"))) }
}

fn tops(files: &Files) -> BTreeSet<&str> {
    files.keys().map(|path| path.split('/').next().unwrap_or(path)).collect()
}

fn unused_name(dir: &Path) -> String {
    let now = Timestamp::now();
    let time = now.strftime("..%Y_%m_%d_%H_%M_%S");
    let nanos = now.subsec_nanosecond();
    let names = (0u32..).map(|n| format!("{time}.{}", nanos.unsigned_abs().wrapping_add(n)));
    names.into_iter().find(|name| !dir.join(name).exists()).expect("the numbers do not end")
}

fn same(dir: &Path, files: &Files, group: Option<u32>) -> bool {
    let mut count = 0;
    if count_files(dir, &mut count).is_err() || count != files.len() {
        return false;
    }
    files.iter().all(|(path, file)| {
        let path = dir.join(path);
        let Ok(meta) = fs::symlink_metadata(&path) else { return false };
        meta.is_file()
            && meta.mode() & 0o7777 == mode(file, group)
            && group.is_none_or(|gid| meta.gid() == gid)
            && file.owner.is_none_or(|uid| meta.uid() == uid)
            && meta.len() == file.bytes.len() as u64
            && fs::read(&path).is_ok_and(|bytes| bytes == file.bytes)
    })
}

fn count_files(dir: &Path, count: &mut usize) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            count_files(&entry.path(), count)?;
        } else {
            *count += 1;
        }
    }
    Ok(())
}

fn links_are(dir: &Path, files: &Files) -> bool {
    tops(files).iter().all(|name| {
        fs::read_link(dir.join(name)).is_ok_and(|target| target == Path::new(DATA).join(name))
    })
}

/// The group may read what the owner may.
fn mode(file: &File, group: Option<u32>) -> u32 {
    let extra = if group.is_some() { 0o440 } else { 0 };
    (file.mode | extra) & 0o7777
}

fn make(fresh: &Path, files: &Files, group: Option<u32>) -> Result<(), Error> {
    make_folder(fresh, group)?;
    for (path, file) in files {
        let mut folder = fresh.to_owned();
        let parts: Vec<&str> = path.split('/').collect();
        for part in &parts[..parts.len() - 1] {
            folder.push(part);
            if !folder.is_dir() {
                make_folder(&folder, group)?;
            }
        }
        let target = fresh.join(path);
        make_file(&target, file, group).map_err(Error::io("write", &target))?;
    }
    Ok(())
}

fn make_folder(dir: &Path, group: Option<u32>) -> Result<(), Error> {
    fs::create_dir(dir).map_err(Error::io("make the folder", dir))?;
    own_folder(dir, group)
}

fn own_folder(dir: &Path, group: Option<u32>) -> Result<(), Error> {
    let mode = match group {
        Some(gid) => {
            std::os::unix::fs::chown(dir, None, Some(gid)).map_err(Error::io("chown", dir))?;
            0o2775
        }
        None => 0o755,
    };
    fs::set_permissions(dir, fs::Permissions::from_mode(mode)).map_err(Error::io("chmod", dir))
}

fn make_file(path: &Path, file: &File, group: Option<u32>) -> io::Result<()> {
    use std::io::Write;
    let mut open = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    open.write_all(&file.bytes)?;
    if group.is_some() || file.owner.is_some() {
        std::os::unix::fs::fchown(&open, file.owner, group)?;
    }
    // After chown, which clears bits; and whatever the process's umask is.
    open.set_permissions(fs::Permissions::from_mode(mode(file, group)))
}

fn link_names(dir: &Path, files: &Files) -> Result<(), Error> {
    for name in tops(files) {
        let link = dir.join(name);
        let target = PathBuf::from(DATA).join(name);
        if fs::read_link(&link).is_ok_and(|old| old == target) {
            continue;
        }
        match fs::remove_file(&link) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io("replace", &link)(error));
            }
            _ => {}
        }
        symlink(&target, &link).map_err(Error::io("make the link", &link))?;
    }
    Ok(())
}

/// Links whose file is gone, and folders of earlier times.
fn remove_stale(dir: &Path, files: &Files, current: &str) -> Result<(), Error> {
    let tops = tops(files);
    let entries = fs::read_dir(dir).map_err(Error::io("read the folder", dir))?;
    for entry in entries {
        let entry = entry.map_err(Error::io("read the folder", dir))?;
        let (name, path) = (entry.file_name(), entry.path());
        let name = name.to_string_lossy();
        let removed = if name.starts_with("..") {
            if *name == *current || name == DATA {
                continue;
            }
            fs::remove_dir_all(&path)
        } else if !tops.contains(&*name) && fs::read_link(&path).is_ok() {
            fs::remove_file(&path)
        } else {
            continue;
        };
        removed.map_err(Error::io("remove", &path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
