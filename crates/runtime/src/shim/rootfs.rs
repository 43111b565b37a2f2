//! A container's file system, made in a mount namespace that only the container has.
//!
//! Everything, the overlay included, is mounted there and nowhere else: when the container's last
//! process ends, the kernel takes all of it down, whatever happened to the shim. Paths inside the
//! image are resolved with the image as root, so no link in it leads out.
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use sys::cgroup::Cgroups;
use sys::mount::{self, Resolve, Spread, attr};

use crate::{ContainerConfig, Mount, MountKind, Propagation};

const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
const READONLY: &[&str] =
    &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
const NODES: &[(&str, u64, u64)] = &[
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];
const LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// What the namespace is made from.
pub(super) struct Plan<'a> {
    pub(super) config: &'a ContainerConfig,
    pub(super) folder: &'a Path,
    pub(super) cgroups: &'a Cgroups,
    /// A copy of the pod's `/dev/shm`.
    pub(super) shm: OwnedFd,
}

/// Turns this process's world into the container's. Call in the namespace where sources are found.
///
/// # Errors
/// One line: what could not be mounted, and why.
pub(super) fn enter(plan: &Plan<'_>) -> Result<(), String> {
    let config = plan.config;
    let mut trees = Vec::new();
    for wanted in &config.mounts {
        trees.push(source(wanted).map_err(|e| {
            let source = wanted.source.join(wanted.sub_path.as_deref().unwrap_or(Path::new("")));
            let source = source.display().to_string();
            let source = source.trim_end_matches('/');
            mount_failed(source, &wanted.destination, &e)
        })?);
    }
    let fail = |what: &str, e: io::Error| format!("{what}: {}", sys::reason(&e));
    sys::ns::unshare(sys::ns::Kind::CLONE_NEWNS | sys::ns::Kind::CLONE_NEWCGROUP)
        .map_err(|e| fail("cannot make a mount namespace", e))?;
    let place = |p: &Path| mount::open_place(p);
    place(Path::new("/"))
        .and_then(|root| mount::set_attr(root, true, 0, Some(Spread::Slave)))
        .map_err(|e| fail("cannot detach from the host's mounts", e))?;

    let root = overlay(plan)?;
    kernel_file_systems(plan, &root)?;
    devices(plan, &root).map_err(|e| fail("cannot make /dev", e))?;
    let mut order: Vec<usize> = (0..trees.len()).collect();
    order.sort_by_key(|i| Path::new(&config.mounts[*i].destination).components().count());
    let mut trees: Vec<Option<OwnedFd>> = trees.into_iter().map(Some).collect();
    for index in order {
        let wanted = &config.mounts[index];
        let tree = trees[index].take().expect("each index once");
        place_mount(&root, wanted, tree).map_err(|e| {
            mount_failed(&wanted.source.display().to_string(), &wanted.destination, &e)
        })?;
    }
    if !config.security.privileged && !config.security.unmasked_proc {
        protect(&root).map_err(|e| fail("cannot protect /proc and /sys", e))?;
    }
    // As other runtimes do, also for images that lack it; a read-only one may not allow it.
    let _ = mount::make_dirs_at(&root, Path::new(cwd(config)), 0o755);
    if config.security.readonly_rootfs {
        mount::set_attr(&root, false, attr::RDONLY, None)
            .map_err(|e| fail("cannot make the root file system read-only", e))?;
    }
    mount::pivot(&root).map_err(|e| fail("cannot enter the root file system", e))
}

/// The working folder that a configuration means.
pub(super) fn cwd(config: &ContainerConfig) -> &str {
    if config.cwd.is_empty() { "/" } else { &config.cwd }
}

fn mount_failed(source: &str, destination: &str, error: &io::Error) -> String {
    format!("failed to mount {source:?} to {destination:?}: {}", sys::reason(error))
}

/// A detached copy of what a mount shows, not yet restricted.
fn source(wanted: &Mount) -> io::Result<OwnedFd> {
    match wanted.kind {
        MountKind::Bind => match &wanted.sub_path {
            None => mount::open_tree(None, &wanted.source, true),
            Some(below) => {
                let volume = mount::open_place(&wanted.source)?;
                let found = mount::open_at(&volume, below, libc_path(), 0, Resolve::Beneath)?;
                mount::open_tree(Some(found.as_fd()), Path::new(""), true)
            }
        },
        MountKind::Tmpfs => {
            let mode = if wanted.mode == 0 { 0o1777 } else { wanted.mode };
            let (mode, size) = (format!("{mode:o}"), wanted.size_bytes.to_string());
            let mut options = vec![("mode", Some(mode.as_str()))];
            if wanted.size_bytes > 0 {
                options.push(("size", Some(size.as_str())));
            }
            mount::new_fs("tmpfs", &options, attr::NOSUID | attr::NODEV)
        }
    }
}

/// `O_PATH`.
fn libc_path() -> i32 {
    nix::fcntl::OFlag::O_PATH.bits()
}

fn overlay(plan: &Plan<'_>) -> Result<OwnedFd, String> {
    let config = plan.config;
    if config.layers.is_empty() {
        return Err("the image has no layers".to_owned());
    }
    let [upper, work, root] = ["upper", "work", "root"].map(|n| plan.folder.join(n));
    let fail = |e: io::Error| format!("cannot prepare {}: {}", root.display(), sys::reason(&e));
    for folder in [&upper, &work, &root] {
        match fs::create_dir(folder) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(fail(e)),
            _ => {}
        }
    }
    // The root folder of the container has the mode and owner of its image's.
    let top = config.layers.last().expect("not empty");
    if let Ok(meta) = fs::metadata(top) {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(meta.mode());
        fs::set_permissions(&upper, mode).map_err(fail)?;
        let _ = std::os::unix::fs::chown(&upper, Some(meta.uid()), Some(meta.gid()));
    }
    let layers: Vec<&Path> = config.layers.iter().map(PathBuf::as_path).collect();
    mount::overlay(&layers, &upper, &work, &root).map_err(|e| {
        let hint = match e.raw_os_error() {
            Some(22) => " (the data folder must lie on a file system that overlayfs can write to)",
            _ => "",
        };
        format!("cannot mount the image's layers: {}{hint}", sys::reason(&e))
    })?;
    mount::open_place(&root).map_err(fail)
}

fn kernel_file_systems(plan: &Plan<'_>, root: &OwnedFd) -> Result<(), String> {
    let privileged = plan.config.security.privileged;
    let quiet = attr::NOSUID | attr::NODEV | attr::NOEXEC;
    let guarded = quiet | if privileged { 0 } else { attr::RDONLY };
    let put = |kind: &str, at: &str, options: &[(&str, Option<&str>)], attrs: u64| {
        let made = mount::new_fs(kind, options, attrs)
            .and_then(|tree| mount::attach(tree, mount::make_dirs_at(root, Path::new(at), 0o755)?));
        made.map_err(|e| mount_failed(kind, at, &e))
    };
    put("proc", "/proc", &[], quiet)?;
    put("tmpfs", "/dev", &[("mode", Some("755")), ("size", Some("65536k"))], attr::NOSUID)?;
    let terminals = [("ptmxmode", Some("0666")), ("mode", Some("0620")), ("gid", Some("5"))];
    put("devpts", "/dev/pts", &terminals, attr::NOSUID | attr::NOEXEC)?;
    // Not every kernel has POSIX message queues.
    let _ = put("mqueue", "/dev/mqueue", &[], quiet);
    mount::make_dirs_at(root, Path::new("/dev/shm"), 0o1777)
        .and_then(|at| mount::attach(&plan.shm, at))
        .map_err(|e| mount_failed("shm", "/dev/shm", &e))?;
    put("sysfs", "/sys", &[], guarded)?;
    let Some(hierarchies) = plan.cgroups.v1_mounts() else {
        return put("cgroup2", "/sys/fs/cgroup", &[], guarded);
    };
    put("tmpfs", "/sys/fs/cgroup", &[("mode", Some("755"))], quiet)?;
    for controllers in hierarchies {
        let name = controllers.join(",");
        let (name, options) = match name.strip_prefix("name=") {
            Some(name) => (name.to_owned(), vec![("none", None), ("name", Some(name))]),
            None => (name.clone(), controllers.iter().map(|c| (c.as_str(), None)).collect()),
        };
        put("cgroup", &format!("/sys/fs/cgroup/{name}"), &options, guarded)?;
    }
    let top = mount::open_at(root, Path::new("/sys/fs/cgroup"), libc_path(), 0, Resolve::InRoot);
    let set = |top: OwnedFd| mount::set_attr(top, false, guarded, None);
    top.and_then(set).map_err(|e| mount_failed("cgroup", "/sys/fs/cgroup", &e))
}

fn devices(plan: &Plan<'_>, root: &OwnedFd) -> io::Result<()> {
    let dev = mount::make_dirs_at(root, Path::new("/dev"), 0o755)?;
    let old = nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    let made = (|| {
        for (name, major, minor) in NODES {
            let device = nix::sys::stat::makedev(*major, *minor);
            mount::mknod_at(&dev, Path::new(name), 0o020_666, device)?;
        }
        for (name, target) in LINKS {
            nix::unistd::symlinkat(*target, &dev, *name)?;
        }
        if plan.config.security.privileged {
            host_devices(&dev, Path::new("/dev"), 0)?;
        }
        plan.config.devices.iter().try_for_each(|device| {
            let meta = fs::metadata(&device.host_path)?;
            let at = Path::new(&device.container_path);
            let folder = at.parent().unwrap_or(Path::new("/dev"));
            let folder = mount::make_dirs_at(root, folder, 0o755)?;
            let name = at.file_name().ok_or(io::ErrorKind::InvalidInput)?;
            copy_node(&folder, Path::new(name), &meta)
        })
    })();
    nix::sys::stat::umask(old);
    made
}

/// Every device of the host, for privileged containers. Terminals and shared memory are the
/// container's own.
fn host_devices(to: &OwnedFd, from: &Path, depth: usize) -> io::Result<()> {
    for entry in fs::read_dir(from)?.flatten() {
        let name = entry.file_name();
        let Ok(meta) = entry.metadata() else { continue };
        let kind = meta.file_type();
        if kind.is_char_device() || kind.is_block_device() {
            copy_node(to, Path::new(&name), &meta)?;
        } else if kind.is_dir() && depth < 8 {
            let own = [&b"pts"[..], b"shm", b"mqueue", b"fd", b".lxc", b".udev"];
            if depth == 0 && own.contains(&name.as_bytes()) {
                continue;
            }
            let below = mount::make_dirs_at(to, Path::new(&name), 0o755)?;
            host_devices(&below, &entry.path(), depth + 1)?;
        }
    }
    Ok(())
}

fn copy_node(to: &OwnedFd, name: &Path, meta: &fs::Metadata) -> io::Result<()> {
    match mount::mknod_at(to, name, meta.mode(), meta.rdev()) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        other => other?,
    }
    let flag = nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW;
    let (uid, gid) = (meta.uid().into(), meta.gid().into());
    nix::unistd::fchownat(to, name, Some(uid), Some(gid), flag)?;
    Ok(())
}

fn place_mount(root: &OwnedFd, wanted: &Mount, tree: OwnedFd) -> io::Result<()> {
    let is_folder = File::from(tree.try_clone()?).metadata()?.is_dir();
    let destination = Path::new(&wanted.destination);
    let target = if is_folder {
        mount::make_dirs_at(root, destination, 0o755)?
    } else {
        make_file(root, destination)?
    };
    let spread = match wanted.propagation {
        Propagation::Private => Spread::Private,
        Propagation::HostToContainer => Spread::Slave,
        Propagation::Bidirectional => Spread::Shared,
    };
    mount::set_attr(&tree, true, 0, Some(spread))?;
    if wanted.readonly || wanted.recursive_readonly {
        mount::set_attr(&tree, wanted.recursive_readonly, attr::RDONLY, None)?;
    }
    mount::attach(tree, target)
}

/// Opens a file to mount on, made if it is not there.
fn make_file(root: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    if let Ok(found) = mount::open_at(root, path, libc_path(), 0, Resolve::InRoot) {
        return Ok(found);
    }
    if let Some(parent) = path.parent() {
        mount::make_dirs_at(root, parent, 0o755)?;
    }
    let flags = nix::fcntl::OFlag::O_CREAT | nix::fcntl::OFlag::O_WRONLY;
    mount::open_at(root, path, flags.bits(), 0o644, Resolve::InRoot)?;
    mount::open_at(root, path, libc_path(), 0, Resolve::InRoot)
}

/// Hides what tells too much of the host and locks what changes it.
fn protect(root: &OwnedFd) -> io::Result<()> {
    let open = |path: &str| mount::open_at(root, Path::new(path), libc_path(), 0, Resolve::InRoot);
    for path in READONLY {
        let Ok(found) = open(path) else { continue };
        let tree = mount::open_tree(Some(found.as_fd()), Path::new(""), true)?;
        mount::set_attr(&tree, true, attr::RDONLY, None)?;
        mount::attach(tree, found)?;
    }
    let null = open("/dev/null")?;
    for path in MASKED {
        let Ok(found) = open(path) else { continue };
        let is_folder = File::from(found.try_clone()?).metadata()?.is_dir();
        let cover = if is_folder {
            mount::new_fs("tmpfs", &[("size", Some("0")), ("mode", Some("755"))], attr::RDONLY)?
        } else {
            mount::open_tree(Some(null.as_fd()), Path::new(""), false)?
        };
        mount::attach(cover, found)?;
    }
    Ok(())
}

/// Shows a terminal as `/dev/console`; called inside the container.
pub(super) fn console(terminal: &OwnedFd) -> io::Result<()> {
    let path = fs::read_link(format!("/proc/self/fd/{}", terminal.as_raw_fd()))?;
    let tree = mount::open_tree(None, &path, false)?;
    File::options().write(true).create(true).truncate(false).open("/dev/console")?;
    mount::attach(tree, mount::open_place(Path::new("/dev/console"))?)
}
