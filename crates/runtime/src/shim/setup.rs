//! From the command line to a shim that waits for requests.
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use sys::cgroup::Cgroups;
use sys::ns::Kind;
use sys::process::Fork;

use super::Shim;
use super::pod::Pod;
use crate::SandboxConfig;
use crate::layout::{self, ProcessId, ShimRecord};

const DEFAULT_SHM_BYTES: u64 = 64 << 20;
const READY: &[u8] = b"ready";

pub(super) enum Started {
    /// This process is the shim now.
    Here(Box<Shim>),
    /// The shim is another process, and ready.
    Elsewhere,
}

/// Forks the shim, which leaves the session and all files of the process that started it.
pub(super) fn start(folder: &Path) -> Result<Started, String> {
    let _ = sys::process::close_from(3);
    let place = folder.join("config.json");
    let fail = |e: io::Error| format!("shim: {}: {}", place.display(), sys::reason(&e));
    // Held until shim.json tells of this shim, by both processes: whoever ends the sandbox
    // meanwhile waits for that, so that no shim goes on unknown.
    let birth = layout::lock(&place).map_err(fail)?;
    let config: SandboxConfig = layout::read_json(&place).map_err(fail)?;
    let (mut reader, mut writer) = io::pipe().map_err(|e| format!("shim: pipe: {e}"))?;
    match sys::process::fork().map_err(|e| format!("shim: {}", sys::reason(&e)))? {
        Fork::Parent(_) => {
            drop(writer);
            let mut report = Vec::new();
            let _ = reader.read_to_end(&mut report);
            match report.as_slice() {
                READY => Ok(Started::Elsewhere),
                b"" => Err("shim: ended without a word".to_owned()),
                message => Err(String::from_utf8_lossy(message).into_owned()),
            }
        }
        Fork::Child => {
            drop(reader);
            match become_shim(folder, config) {
                Ok(shim) => {
                    drop(birth);
                    let _ = writer.write_all(READY);
                    drop(writer);
                    sys::process::trim_memory();
                    Ok(Started::Here(Box::new(shim)))
                }
                Err(message) => {
                    let _ = writer.write_all(message.as_bytes());
                    sys::process::exit_now(1)
                }
            }
        }
    }
}

fn become_shim(folder: &Path, config: SandboxConfig) -> Result<Shim, String> {
    let fail = |what: &'static str| move |e: io::Error| format!("{what}: {}", sys::reason(&e));
    nix::unistd::setsid().map_err(|e| fail("cannot start a session")(e.into()))?;
    nix::unistd::chdir("/").map_err(|e| fail("cannot go to /")(e.into()))?;
    detach_stdio(folder).map_err(fail("cannot open shim.log"))?;
    sys::process::set_name("kybern-shim");
    let signals = block_signals().map_err(fail("cannot block signals"))?;
    let cgroups = Cgroups::detect().map_err(|e| e.to_string())?;
    if !config.shim_cgroup.is_empty() {
        let joined = cgroups.create(&config.shim_cgroup);
        joined.and_then(|()| cgroups.join(&config.shim_cgroup, 0)).map_err(|e| e.to_string())?;
    }
    let mounts = sys::ns::open(0, "mnt").map_err(fail("cannot open the mount namespace"))?;
    let shm_folder = folder.join("shm");
    layout::make_private_dir(&shm_folder).map_err(fail("cannot make shm"))?;
    let shm = shm_namespace(&shm_folder, &mounts, config.shm_bytes)?;
    namespaces(&config)?;
    cgroups.create(&config.cgroup).map_err(|e| e.to_string())?;
    if let Some(resources) = &config.resources {
        cgroups.apply(&config.cgroup, &resources.into()).map_err(|e| e.to_string())?;
    }
    let socket = layout::socket(folder);
    let _ = fs::remove_file(&socket);
    let listener = sys::socket::listen(&socket).map_err(fail("cannot listen at shim.sock"))?;
    listener.set_nonblocking(true).map_err(fail("cannot listen at shim.sock"))?;
    let pod = Pod::new(folder.to_owned(), config, cgroups, shm, mounts)?;
    let pid = std::process::id() as i32;
    let process = ProcessId::of(pid).ok_or("cannot read /proc/self/stat")?;
    let record = ShimRecord { process, created_at: layout::now() };
    layout::write_json(&folder.join("shim.json"), &record)
        .map_err(fail("cannot write shim.json"))?;
    Ok(Shim { pod, listener, signals, connections: Default::default(), next_connection: 1 })
}

fn detach_stdio(folder: &Path) -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    let mut options = File::options();
    let log = options.append(true).create(true).mode(0o600).open(folder.join("shim.log"))?;
    sys::process::redirect(&null, 0)?;
    sys::process::redirect(&null, 1)?;
    sys::process::redirect(&log, 2)
}

/// Nothing ends a shim but its stop request and SIGKILL: not the end of a terminal, not a service
/// manager that signals everything it finds.
fn block_signals() -> io::Result<SignalFd> {
    SigSet::all().thread_set_mask()?;
    let mut child = SigSet::empty();
    child.add(Signal::SIGCHLD);
    Ok(SignalFd::with_flags(&child, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?)
}

/// The pod's `/dev/shm`: the root of a mount namespace that only a descriptor keeps, so that the
/// host has no mount to clean up.
fn shm_namespace(folder: &Path, home: &File, bytes: u64) -> Result<File, String> {
    let fail = |e: io::Error| format!("cannot make /dev/shm: {}", sys::reason(&e));
    let size = if bytes == 0 { DEFAULT_SHM_BYTES } else { bytes }.to_string();
    let make = || -> io::Result<File> {
        sys::ns::unshare(Kind::CLONE_NEWNS)?;
        let root: OwnedFd = sys::mount::open_place(Path::new("/"))?;
        sys::mount::set_attr(root.as_fd(), true, 0, Some(sys::mount::Spread::Private))?;
        let options = [("mode", Some("1777")), ("size", Some(size.as_str()))];
        let quiet = sys::mount::attr::NOSUID | sys::mount::attr::NODEV | sys::mount::attr::NOEXEC;
        let tree = sys::mount::new_fs("tmpfs", &options, quiet)?;
        sys::mount::attach(&tree, sys::mount::open_place(folder)?)?;
        // The namespace of this thread, opened before /proc goes with the old root.
        let namespace = sys::ns::open(0, "mnt")?;
        sys::mount::pivot(&tree)?;
        Ok(namespace)
    };
    let made = make();
    sys::ns::join(home, Kind::CLONE_NEWNS).map_err(fail)?;
    made.map_err(fail)
}

fn namespaces(config: &SandboxConfig) -> Result<(), String> {
    let fail = |what: &str, e: io::Error| format!("{what}: {}", sys::reason(&e));
    let mut kinds = Kind::empty();
    kinds.set(Kind::CLONE_NEWNET, !config.host_network);
    kinds.set(Kind::CLONE_NEWUTS, !config.host_network);
    kinds.set(Kind::CLONE_NEWIPC, !config.host_ipc);
    sys::ns::unshare(kinds).map_err(|e| fail("cannot make the pod's namespaces", e))?;
    if !config.host_network {
        sys::ns::loopback_up().map_err(|e| fail("cannot bring up the loopback link", e))?;
        if !config.hostname.is_empty() {
            sys::ns::set_hostname(&config.hostname)
                .map_err(|e| fail(&format!("cannot set host name {:?}", config.hostname), e))?;
        }
    }
    for (name, value) in &config.sysctls {
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/".contains(&b));
        if !plain || name.contains("..") || name.starts_with(['.', '/']) {
            return Err(format!("sysctl {name:?} is no valid name"));
        }
        let path = Path::new("/proc/sys").join(name.replace('.', "/"));
        fs::write(path, value).map_err(|e| fail(&format!("cannot set sysctl {name}"), e))?;
    }
    Ok(())
}
