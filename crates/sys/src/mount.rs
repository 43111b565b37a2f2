//! Mounts by descriptor (Linux 5.12): a tree is made detached, changed, and only then put in place,
//! so that no path is resolved twice and nothing is visible half-made.
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::check;

/// Attributes of a mount, as `mount_setattr` knows them.
pub mod attr {
    pub const RDONLY: u64 = 0x1;
    pub const NOSUID: u64 = 0x2;
    pub const NODEV: u64 = 0x4;
    pub const NOEXEC: u64 = 0x8;
    pub const NOSYMFOLLOW: u64 = 0x0020_0000;
}

/// Propagation of a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spread {
    Private,
    Slave,
    Shared,
}

/// How [`open_at`] may leave the folder it starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolve {
    /// The folder is taken for `/`: absolute links and `..` stay inside.
    InRoot,
    /// As `InRoot`, but anything that would lead out is an error.
    Beneath,
}

#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

const EMPTY: &[u8] = b"\0";

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "path holds a NUL byte"))
}

fn c_text(text: &str) -> io::Result<CString> {
    CString::new(text)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "text holds a NUL byte"))
}

/// Takes ownership of a descriptor that a system call just returned.
fn new_fd(result: libc::c_long) -> io::Result<OwnedFd> {
    let fd = check(result)?;
    // SAFETY: the kernel made this descriptor for us just now.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Opens `path` below `dir` so that no link leads out of it.
pub fn open_at(
    dir: impl AsFd,
    path: &Path,
    flags: i32,
    mode: u32,
    resolve: Resolve,
) -> io::Result<OwnedFd> {
    let relative = path.strip_prefix("/").unwrap_or(path);
    let path = c_path(if relative.as_os_str().is_empty() { Path::new(".") } else { relative })?;
    let how = OpenHow {
        flags: (flags | libc::O_CLOEXEC) as u64,
        mode: u64::from(mode),
        resolve: libc::RESOLVE_NO_MAGICLINKS
            | match resolve {
                Resolve::InRoot => libc::RESOLVE_IN_ROOT,
                Resolve::Beneath => libc::RESOLVE_BENEATH,
            },
    };
    loop {
        // SAFETY: path and structure outlive the call; the size is the structure's.
        let opened = unsafe {
            libc::syscall(
                libc::SYS_openat2,
                dir.as_fd().as_raw_fd(),
                path.as_ptr(),
                &how,
                size_of::<OpenHow>(),
            )
        };
        match new_fd(opened) {
            // The kernel asks to try again when something was renamed while it looked.
            Err(e) if e.raw_os_error() == Some(libc::EAGAIN) => {}
            other => return other,
        }
    }
}

/// Makes every missing folder of `path` below `dir` (taken for `/`), and opens the last.
pub fn make_dirs_at(dir: impl AsFd, path: &Path, mode: u32) -> io::Result<OwnedFd> {
    let dir = dir.as_fd();
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    if let Ok(found) = open_at(dir, path, flags, 0, Resolve::InRoot) {
        return Ok(found);
    }
    let mut prefix = std::path::PathBuf::from("/");
    let mut at = open_at(dir, &prefix, flags, 0, Resolve::InRoot)?;
    for part in path.components() {
        use std::path::Component;
        match part {
            Component::RootDir | Component::CurDir => continue,
            Component::Normal(name) => {
                prefix.push(name);
                match open_at(dir, &prefix, flags, 0, Resolve::InRoot) {
                    Ok(next) => at = next,
                    Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {
                        mkdir_at(&at, Path::new(name), mode)?;
                        at = open_at(dir, &prefix, flags, 0, Resolve::InRoot)?;
                    }
                    Err(e) => return Err(e),
                }
            }
            Component::ParentDir | Component::Prefix(_) => {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "path holds \"..\""));
            }
        }
    }
    Ok(at)
}

/// Makes a folder whose name is one component. One that exists is no error.
pub fn mkdir_at(dir: impl AsFd, name: &Path, mode: u32) -> io::Result<()> {
    let name = c_path(name)?;
    // SAFETY: the name outlives the call.
    match check(unsafe { libc::mkdirat(dir.as_fd().as_raw_fd(), name.as_ptr(), mode) }.into()) {
        Err(e) if e.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        other => other.map(drop),
    }
}

/// Makes a device node, socket or pipe whose name is one component.
pub fn mknod_at(dir: impl AsFd, name: &Path, mode: u32, device: u64) -> io::Result<()> {
    let name = c_path(name)?;
    // SAFETY: the name outlives the call.
    check(unsafe { libc::mknodat(dir.as_fd().as_raw_fd(), name.as_ptr(), mode, device) }.into())
        .map(drop)
}

/// A detached copy of the mount at `path` (below `dir`, or the current folder), or of `dir` itself
/// when `path` is empty.
pub fn open_tree(dir: Option<BorrowedFd<'_>>, path: &Path, recursive: bool) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let mut flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= libc::AT_RECURSIVE as u32;
    }
    if path.is_empty() {
        flags |= libc::AT_EMPTY_PATH as u32;
    }
    let dir = dir.map_or(libc::AT_FDCWD, |d| d.as_raw_fd());
    // SAFETY: the path outlives the call.
    new_fd(unsafe { libc::syscall(libc::SYS_open_tree, dir, path.as_ptr(), flags) })
}

/// Makes a file system of its own, not yet visible anywhere.
///
/// # Errors
/// With the kernel's own words about what it did not like, where it has any.
pub fn new_fs(kind: &str, options: &[(&str, Option<&str>)], attrs: u64) -> io::Result<OwnedFd> {
    let kind = c_text(kind)?;
    // SAFETY: the name outlives the call.
    let fs = new_fd(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), 1) })?;
    for (key, value) in options {
        let configured = fsconfig(&fs, if value.is_some() { 1 } else { 0 }, Some(key), *value);
        configured.map_err(|e| explain(&fs, e))?;
    }
    fsconfig(&fs, 6, None, None).map_err(|e| explain(&fs, e))?;
    // SAFETY: passes integers.
    let mount = unsafe { libc::syscall(libc::SYS_fsmount, fs.as_raw_fd(), 1, attrs) };
    new_fd(mount).map_err(|e| explain(&fs, e))
}

fn fsconfig(fs: &OwnedFd, command: u32, key: Option<&str>, value: Option<&str>) -> io::Result<()> {
    let key = key.map(c_text).transpose()?;
    let value = value.map(c_text).transpose()?;
    let pointer = |text: &Option<CString>| text.as_ref().map_or(std::ptr::null(), |t| t.as_ptr());
    // SAFETY: both texts outlive the call; null is what the kernel wants for none.
    let done = unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            fs.as_raw_fd(),
            command,
            pointer(&key),
            pointer(&value),
            0,
        )
    };
    check(done).map(drop)
}

/// Adds the messages that the kernel left in the file system context.
fn explain(fs: &OwnedFd, error: io::Error) -> io::Error {
    let mut text = String::new();
    let mut buffer = [0_u8; 512];
    while let Ok(n) = nix::unistd::read(fs, &mut buffer) {
        if n == 0 || text.len() > 2048 {
            break;
        }
        let line = String::from_utf8_lossy(&buffer[..n]);
        let line = line.trim_start_matches(['e', 'w', 'i', ' ']).trim_end();
        text.push_str(if text.is_empty() { "" } else { "; " });
        text.push_str(line);
    }
    if text.is_empty() {
        return error;
    }
    io::Error::new(error.kind(), format!("{} ({text})", crate::reason(&error)))
}

/// Puts a detached tree onto an opened file or folder.
pub fn attach(tree: impl AsFd, target: impl AsFd) -> io::Result<()> {
    const FROM_EMPTY: u32 = 0x4;
    const TO_EMPTY: u32 = 0x40;
    // SAFETY: both paths are the empty string with a static lifetime.
    let done = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_fd().as_raw_fd(),
            EMPTY.as_ptr(),
            target.as_fd().as_raw_fd(),
            EMPTY.as_ptr(),
            FROM_EMPTY | TO_EMPTY,
        )
    };
    check(done).map(drop)
}

/// Changes attributes and propagation of a mount (and of all below it).
pub fn set_attr(
    tree: impl AsFd,
    recursive: bool,
    set: u64,
    spread: Option<Spread>,
) -> io::Result<()> {
    let attr = MountAttr {
        attr_set: set,
        attr_clr: 0,
        propagation: match spread {
            None => 0,
            Some(Spread::Private) => libc::MS_PRIVATE,
            Some(Spread::Slave) => libc::MS_SLAVE,
            Some(Spread::Shared) => libc::MS_SHARED,
        },
        userns_fd: 0,
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the structure outlives the call and its size is given.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_fd().as_raw_fd(),
            EMPTY.as_ptr(),
            flags,
            &attr,
            size_of::<MountAttr>(),
        )
    };
    check(done).map(drop)
}

/// Makes `root` the root of this mount namespace and lets go of the old one.
pub fn pivot(root: impl AsFd) -> io::Result<()> {
    nix::unistd::fchdir(root)?;
    nix::unistd::pivot_root(".", ".")?;
    nix::mount::umount2(".", nix::mount::MntFlags::MNT_DETACH)?;
    nix::unistd::chdir("/")?;
    Ok(())
}

/// Opens a file or folder as a place only (`O_PATH`), following links.
pub fn open_place(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    // SAFETY: the path outlives the call.
    new_fd(unsafe { libc::open(path.as_ptr(), libc::O_PATH | libc::O_CLOEXEC) }.into())
}

/// Mounts an overlay on `target`: layers from the lowest up, and the folders for what changes.
/// Nothing of it is ever synced: a container's writable layer does not outlive its container.
pub fn overlay(layers: &[&Path], upper: &Path, work: &Path, target: &Path) -> io::Result<()> {
    let text = |path: &Path| escape(&path.to_string_lossy());
    let rest = format!(",upperdir={},workdir={},volatile", text(upper), text(work));
    mount_layers(layers, &rest, target, nix::mount::MsFlags::empty())
}

/// Mounts at least two layers on `target`, read-only.
pub fn overlay_readonly(layers: &[&Path], target: &Path) -> io::Result<()> {
    use nix::mount::MsFlags;
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount_layers(layers, "", target, flags)
}

fn mount_layers(
    layers: &[&Path],
    rest: &str,
    target: &Path,
    flags: nix::mount::MsFlags,
) -> io::Result<()> {
    // The topmost comes first.
    let mut lower: Vec<String> =
        layers.iter().rev().map(|layer| escape(&layer.to_string_lossy())).collect();
    // Options must fit into a page: many layers are named by descriptors instead.
    let mut opened = Vec::new();
    if lower.iter().map(|l| l.len() + 1).sum::<usize>() + rest.len() > 4000 {
        opened = layers.iter().rev().map(|l| open_place(l)).collect::<io::Result<Vec<_>>>()?;
        lower = opened.iter().map(|fd| format!("/proc/self/fd/{}", fd.as_raw_fd())).collect();
    }
    let options = format!("lowerdir={}{rest}", lower.join(":"));
    let kind = Some("overlay");
    let done = nix::mount::mount(kind, target, kind, flags, Some(options.as_str()));
    drop(opened);
    done.map_err(Into::into)
}

/// Commas part options, colons part layers.
fn escape(path: &str) -> String {
    path.replace('\\', "\\\\").replace(':', "\\:").replace(',', "\\,")
}
