//! Unpacking a layer: a tar stream becomes a folder that overlayfs can use as it is.
//!
//! Whiteouts become overlayfs's own (a 0/0 device, an opaque folder). No entry can touch anything
//! outside of the folder: every path is resolved with the folder as root, and the last component
//! never through a link. What is no file of the layer (extended attributes of the kernel's own
//! use) is left out.
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{FchmodatFlags, Mode, UtimensatFlags, fchmodat, utimensat};
use nix::sys::time::TimeSpec;
use sys::mount::{Resolve, make_dirs_at, mkdir_at, mknod_at, open_at, open_place};
use tar::{Entry, EntryType};

/// Most entries of a layer, and most bytes of its files.
const MAX_ENTRIES: u64 = 4_000_000;
const MAX_BYTES: u64 = 128 << 30;
const MAX_PATH: usize = 4096;
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Unpacks a tar stream into an empty folder; the bytes of its files.
///
/// # Errors
/// Names the entry. The folder then holds a part of the layer and is to be thrown away.
pub(crate) fn unpack(source: impl Read, folder: &Path) -> io::Result<u64> {
    let root = open_place(folder)?;
    let mut archive = tar::Archive::new(source);
    let mut times = Vec::new();
    let (mut entries, mut bytes) = (0_u64, 0_u64);
    for entry in archive.entries()? {
        let mut entry = entry?;
        entries += 1;
        bytes += entry.size();
        if entries > MAX_ENTRIES || bytes > MAX_BYTES {
            return Err(io::Error::other("the layer is larger than any layer may be"));
        }
        let path = PathBuf::from(OsStr::from_bytes(&entry.path_bytes()));
        place(&root, &mut entry, &path, &mut times).map_err(|e| {
            let shown: String = path.to_string_lossy().chars().take(200).collect();
            io::Error::new(e.kind(), format!("entry {shown:?}: {}", sys::reason(&e)))
        })?;
    }
    // Last, as making an entry changes its folder's time.
    for (path, seconds) in times.into_iter().rev() {
        if let Ok(found) = open_at(&root, &path, OFlag::O_DIRECTORY.bits(), 0, Resolve::InRoot) {
            let time = TimeSpec::new(seconds, 0);
            let _ = nix::sys::stat::futimens(found, &time, &time);
        }
    }
    Ok(bytes)
}

/// The attributes that an entry carries.
struct Attributes {
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: i64,
    xattrs: Vec<(String, Vec<u8>)>,
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// The path without anything that leads elsewhere: `./a/b` and `/a/b` are `a/b`.
fn clean(path: &Path) -> io::Result<PathBuf> {
    if path.as_os_str().len() > MAX_PATH || path.as_os_str().as_bytes().contains(&0) {
        return Err(invalid("the path is too long or holds a NUL byte"));
    }
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(invalid("the path leads out of the layer"));
            }
        }
    }
    Ok(clean)
}

fn place<R: Read>(
    root: &OwnedFd,
    entry: &mut Entry<'_, R>,
    path: &Path,
    times: &mut Vec<(PathBuf, i64)>,
) -> io::Result<()> {
    let kind = entry.header().entry_type();
    if matches!(kind, EntryType::XGlobalHeader | EntryType::XHeader) {
        return Ok(());
    }
    let path = clean(path)?;
    let attributes = attributes(entry)?;
    let Some(name) = path.file_name() else {
        // The layer's root itself.
        return finish_folder(root, Path::new("."), &attributes);
    };
    let parent = make_dirs_at(root, path.parent().unwrap_or(Path::new("")), 0o755)?;
    if name.as_bytes() == OPAQUE {
        let folder =
            open_at(&parent, Path::new("."), OFlag::O_DIRECTORY.bits(), 0, Resolve::InRoot)?;
        return sys::xattr::set(&folder, "trusted.overlay.opaque", b"y");
    }
    if let Some(hidden) = name.as_bytes().strip_prefix(WHITEOUT) {
        if hidden.is_empty() || hidden.starts_with(WHITEOUT) {
            // `.wh..wh.plnk` and the like: notes of a union file system to itself.
            return Ok(());
        }
        let hidden = Path::new(OsStr::from_bytes(hidden));
        clear(&parent, hidden, false)?;
        return mknod_at(&parent, hidden, 0o020_000, 0);
    }
    let name = Path::new(name);
    clear(&parent, name, kind == EntryType::Directory)?;
    match kind {
        EntryType::Directory => {
            mkdir_at(&parent, name, attributes.mode)?;
            finish_folder(&parent, name, &attributes)?;
            times.push((path, attributes.mtime));
            return Ok(());
        }
        EntryType::Symlink => {
            let target = entry.link_name_bytes().ok_or_else(|| invalid("a link without target"))?;
            nix::unistd::symlinkat(OsStr::from_bytes(&target), &parent, name)?;
        }
        EntryType::Link => return hard_link(root, entry, &parent, name),
        EntryType::Fifo => mknod_at(&parent, name, 0o010_000 | attributes.mode, 0)?,
        EntryType::Char | EntryType::Block => {
            let number = |n: io::Result<Option<u32>>| n.map(|n| u64::from(n.unwrap_or(0)));
            let major = number(entry.header().device_major())?;
            let minor = number(entry.header().device_minor())?;
            let class = if kind == EntryType::Char { 0o020_000 } else { 0o060_000 };
            let device = nix::sys::stat::makedev(major, minor);
            mknod_at(&parent, name, class | attributes.mode, device)?;
        }
        _ if kind.is_file() || kind == EntryType::GNUSparse => {
            let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW;
            let file = open_at(&parent, name, flags.bits(), 0o600, Resolve::Beneath)?;
            let mut file = File::from(file);
            io::copy(entry, &mut file)?;
            own(&parent, name, &attributes)?;
            for (key, value) in &attributes.xattrs {
                sys::xattr::set(&file, key, value)?;
            }
        }
        _ => return Ok(()),
    }
    if !kind.is_file() && kind != EntryType::GNUSparse {
        own(&parent, name, &attributes)?;
    }
    let time = TimeSpec::new(attributes.mtime, 0);
    utimensat(&parent, name, &time, &time, UtimensatFlags::NoFollowSymlink)?;
    Ok(())
}

fn hard_link<R: Read>(
    root: &OwnedFd,
    entry: &Entry<'_, R>,
    parent: &OwnedFd,
    name: &Path,
) -> io::Result<()> {
    let target = entry.link_name_bytes().ok_or_else(|| invalid("a link without target"))?;
    let target = clean(Path::new(OsStr::from_bytes(&target)))?;
    let file = target.file_name().ok_or_else(|| invalid("a link to the root"))?;
    let folder = target.parent().unwrap_or(Path::new(""));
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    let folder = open_at(root, folder, flags.bits(), 0, Resolve::InRoot)?;
    nix::unistd::linkat(&folder, file, parent, name, AtFlags::empty())?;
    Ok(())
}

/// Makes way for an entry: the last one of a name counts. A folder stays for a folder.
fn clear(parent: &OwnedFd, name: &Path, keep_folder: bool) -> io::Result<()> {
    let at = Path::new("/proc/self/fd").join(parent.as_raw_fd().to_string()).join(name);
    match fs::symlink_metadata(&at) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
        Ok(meta) if meta.is_dir() && keep_folder => Ok(()),
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(at),
        Ok(_) => fs::remove_file(at),
    }
}

fn finish_folder(parent: &OwnedFd, name: &Path, attributes: &Attributes) -> io::Result<()> {
    own(parent, name, attributes)?;
    if attributes.xattrs.is_empty() {
        return Ok(());
    }
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
    let folder = open_at(parent, name, flags.bits(), 0, Resolve::Beneath)?;
    attributes.xattrs.iter().try_for_each(|(key, value)| sys::xattr::set(&folder, key, value))
}

/// Owner first: changing it takes the set-user-id bit away.
fn own(parent: &OwnedFd, name: &Path, attributes: &Attributes) -> io::Result<()> {
    let (uid, gid) = (attributes.uid.into(), attributes.gid.into());
    nix::unistd::fchownat(parent, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)?;
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW;
    let found = open_at(parent, name, flags.bits(), 0, Resolve::Beneath);
    let is_link = |fd: &OwnedFd| {
        let meta = fd.as_fd().try_clone_to_owned().map(File::from).and_then(|f| f.metadata());
        meta.is_ok_and(|m| m.file_type().is_symlink())
    };
    if found.is_ok_and(|fd| is_link(&fd)) {
        return Ok(());
    }
    let mode = Mode::from_bits_truncate(attributes.mode);
    fchmodat(parent, name, mode, FchmodatFlags::FollowSymlink)?;
    Ok(())
}

fn attributes<R: Read>(entry: &mut Entry<'_, R>) -> io::Result<Attributes> {
    let header = entry.header();
    let narrow = |n: u64| u32::try_from(n).map_err(|_| invalid("an owner out of range"));
    // An empty field is 0, as every tar reads it.
    let empty = |field: &[u8]| field.iter().all(|b| matches!(b, 0 | b' '));
    let number = |field: &[u8], value: io::Result<u64>| if empty(field) { Ok(0) } else { value };
    let old = header.as_old();
    let mode = number(&old.mode, header.mode().map(u64::from))?;
    let mut all = Attributes {
        mode: narrow(mode)? & 0o7777,
        uid: narrow(number(&old.uid, header.uid())?)?,
        gid: narrow(number(&old.gid, header.gid())?)?,
        mtime: i64::try_from(number(&old.mtime, header.mtime())?).unwrap_or(0),
        xattrs: Vec::new(),
    };
    let Some(extensions) = entry.pax_extensions()? else { return Ok(all) };
    for extension in extensions {
        let extension = extension?;
        let Ok(key) = extension.key() else { continue };
        let text = extension.value().unwrap_or_default();
        match key {
            "uid" => all.uid = text.parse().map_err(|_| invalid("an owner out of range"))?,
            "gid" => all.gid = text.parse().map_err(|_| invalid("an owner out of range"))?,
            "mtime" => {
                let whole = text.split('.').next().unwrap_or_default();
                all.mtime = whole.parse().unwrap_or(all.mtime);
            }
            _ => {
                let name = key.strip_prefix("SCHILY.xattr.");
                // What gives a meaning to the kernel's own file systems is not the layer's to set.
                if let Some(name) =
                    name.filter(|n| *n == "security.capability" || n.starts_with("user."))
                {
                    all.xattrs.push((name.to_owned(), extension.value_bytes().to_vec()));
                }
            }
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests;
