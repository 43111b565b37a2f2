//! From a configuration to a running program: the part that runs in the forked child.
//!
//! The child tells its parent over a socket what went wrong; the socket closing without a word
//! means that the program was executed.
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sys::caps;
use sys::cgroup::Cgroups;
use sys::ns::Kind;

use super::rootfs;
use crate::{ContainerConfig, Seccomp};

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// First byte of a report: an error's text follows, or a terminal's master comes along.
pub(super) const FAILED: u8 = b'E';
pub(super) const TERMINAL: u8 = b'T';

/// Standard streams of a process; `None` is `/dev/null`.
#[derive(Default)]
pub(super) struct Stdio {
    pub(super) stdin: Option<OwnedFd>,
    pub(super) stdout: Option<OwnedFd>,
    pub(super) stderr: Option<OwnedFd>,
}

/// What the child becomes.
pub(super) struct Child<'a> {
    pub(super) config: &'a ContainerConfig,
    pub(super) args: &'a [String],
    pub(super) env: Vec<(String, String)>,
    pub(super) tty: bool,
    pub(super) stdio: Stdio,
    pub(super) cgroup: String,
    pub(super) cgroups: &'a Cgroups,
    pub(super) hostname: &'a str,
    pub(super) world: World<'a>,
    pub(super) channel: OwnedFd,
}

/// Where the child lives.
pub(super) enum World<'a> {
    /// A container of its own. With the pod's shm namespace, and the one to find sources in.
    New { folder: &'a Path, shm: &'a File, mounts: &'a File },
    /// That of a running container: its mount and cgroup namespaces, and its first process.
    Join { mounts: File, cgroup: File, first: i32 },
}

impl Child<'_> {
    /// Runs in the child; never returns.
    pub(super) fn run(mut self) -> ! {
        let Err(message) = self.become_it();
        let report = [&[FAILED], message.as_bytes()].concat();
        let _ = sys::socket::send(&self.channel, &report, &[]);
        sys::process::exit_now(128)
    }

    fn become_it(&mut self) -> Result<std::convert::Infallible, String> {
        let fail = |what: &str| {
            let what = what.to_owned();
            move |e: io::Error| format!("{what}: {}", sys::reason(&e))
        };
        sys::process::reset_signals().map_err(fail("cannot reset signals"))?;
        nix::unistd::setsid().map_err(|e| fail("cannot start a session")(e.into()))?;
        let first = match &self.world {
            World::New { .. } => None,
            World::Join { first, .. } => Some(*first),
        };
        self.cgroups.join_beside(&self.cgroup, 0, first).map_err(|e| e.to_string())?;
        if let Some(adjust) = self.config.oom_score_adj {
            // Lowering it needs CAP_SYS_RESOURCE, which not every machine gives to root.
            let _ = fs::write("/proc/self/oom_score_adj", adjust.to_string());
        }
        let filter = self.filter()?;
        self.enter_world()?;
        for limit in &self.config.rlimits {
            sys::process::set_rlimit(&limit.kind, limit.soft, limit.hard)
                .map_err(fail(&format!("cannot set {}", limit.kind)))?;
        }
        self.connect_stdio().map_err(fail("cannot set up standard streams"))?;
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
        self.complete_env();
        self.take_privileges(filter.as_deref())?;
        let cwd = rootfs::cwd(self.config);
        nix::unistd::chdir(cwd)
            .map_err(|e| fail(&format!("chdir to cwd ({cwd:?}) set in config failed"))(e.into()))?;
        let program = find_program(&self.args[0], &self.env)?;
        let c = |text: &str| CString::new(text).map_err(|_| format!("{text:?} holds a NUL byte"));
        let args = self.args.iter().map(|a| c(a)).collect::<Result<Vec<_>, _>>()?;
        let env = self.env.iter().map(|(k, v)| c(&format!("{k}={v}")));
        let env = env.collect::<Result<Vec<_>, _>>()?;
        let path = c(&program.to_string_lossy())?;
        sys::process::close_on_exec_from(3).map_err(fail("cannot close files"))?;
        sys::process::die_with_parent().map_err(fail("cannot bind to the shim"))?;
        let error = sys::process::exec(&path, &args, &env);
        Err(format!("exec {:?}: {}", self.args[0], sys::reason(&error)))
    }

    fn enter_world(&mut self) -> Result<(), String> {
        let fail = |what: &'static str| move |e: io::Error| format!("{what}: {}", sys::reason(&e));
        match &self.world {
            World::New { folder, shm, mounts } => {
                sys::ns::join(shm, Kind::CLONE_NEWNS).map_err(fail("cannot reach /dev/shm"))?;
                let shm = sys::mount::open_tree(None, Path::new("/"), false)
                    .map_err(fail("cannot copy /dev/shm"))?;
                sys::ns::join(mounts, Kind::CLONE_NEWNS)
                    .map_err(fail("cannot enter the node's mount namespace"))?;
                rootfs::enter(&rootfs::Plan {
                    config: self.config,
                    folder,
                    cgroups: self.cgroups,
                    shm,
                })
            }
            World::Join { mounts, cgroup, .. } => sys::ns::join(cgroup, Kind::CLONE_NEWCGROUP)
                .and_then(|()| sys::ns::join(mounts, Kind::CLONE_NEWNS))
                .map_err(fail("cannot enter the container")),
        }
    }

    fn connect_stdio(&mut self) -> io::Result<()> {
        if self.tty {
            let (master, slave) = sys::pty::open()?;
            sys::pty::make_controlling(&slave)?;
            if matches!(self.world, World::New { .. }) {
                rootfs::console(&slave)?;
            }
            sys::socket::send(&self.channel, &[TERMINAL], &[master.as_fd()])?;
            nix::unistd::fchown(&slave, Some(self.config.user.uid.into()), None)?;
            return (0..3).try_for_each(|to| sys::process::redirect(&slave, to));
        }
        let null = File::options().read(true).write(true).open("/dev/null")?;
        for (to, stream) in
            [&self.stdio.stdin, &self.stdio.stdout, &self.stdio.stderr].into_iter().enumerate()
        {
            match stream {
                Some(fd) => {
                    // So that the container's user can open /dev/stdout.
                    let _ = nix::unistd::fchown(fd, Some(self.config.user.uid.into()), None);
                    sys::process::redirect(fd, to as i32)?;
                }
                None => sys::process::redirect(&null, to as i32)?,
            }
        }
        Ok(())
    }

    /// The filter is compiled while the profile's file can still be reached.
    fn filter(&self) -> Result<Option<Vec<sys::seccomp::Instruction>>, String> {
        let security = &self.config.security;
        if security.privileged {
            return Ok(None);
        }
        let capabilities = self.capabilities()?;
        let profile = match &security.seccomp {
            Seccomp::Unconfined => return Ok(None),
            Seccomp::RuntimeDefault => sys::seccomp::runtime_default(capabilities),
            Seccomp::Localhost(path) => {
                let fail =
                    |e: String| format!("cannot load seccomp profile {:?}: {e}", path.display());
                let json = fs::read(path).map_err(|e| fail(sys::reason(&e)))?;
                sys::seccomp::parse(&json, capabilities).map_err(fail)?
            }
        };
        Ok(Some(sys::seccomp::compile(&profile)))
    }

    fn capabilities(&self) -> Result<caps::Set, String> {
        let security = &self.config.security;
        if security.privileged {
            return Ok(caps::Set::ALL);
        }
        let changes = &security.capabilities;
        caps::Set::changed(&changes.add, &changes.drop)
            .map_err(|name| format!("unknown capability {name:?}"))
    }

    fn take_privileges(&self, filter: Option<&[sys::seccomp::Instruction]>) -> Result<(), String> {
        let fail = |what: &'static str| move |e: io::Error| format!("{what}: {}", sys::reason(&e));
        let user = &self.config.user;
        let capabilities = self.capabilities()?;
        let locked = self.config.security.no_new_privileges;
        let install = |filter: &[_]| {
            sys::seccomp::install(filter).map_err(fail("cannot apply the seccomp profile"))
        };
        caps::bound(capabilities).map_err(fail("cannot drop capabilities"))?;
        // Without no-new-privileges only an administrator may install a filter: before it is given
        // up.
        if let (Some(filter), false) = (filter, locked) {
            install(filter)?;
        }
        sys::process::become_user(user.uid, user.gid, &user.groups)
            .map_err(fail("cannot become the container's user"))?;
        caps::apply(capabilities).map_err(fail("cannot set capabilities"))?;
        if locked {
            sys::process::no_new_privileges().map_err(fail("cannot forbid new privileges"))?;
        }
        match filter {
            Some(filter) if locked => install(filter),
            _ => Ok(()),
        }
    }

    /// What every container expects to find, unless its configuration says otherwise.
    fn complete_env(&mut self) {
        let has = |env: &[(String, String)], name: &str| env.iter().any(|(n, _)| n == name);
        let mut add = |name: &str, value: String| {
            if !has(&self.env, name) {
                self.env.push((name.to_owned(), value));
            }
        };
        add("PATH", DEFAULT_PATH.to_owned());
        add("HOSTNAME", self.hostname.to_owned());
        if self.tty {
            add("TERM", "xterm".to_owned());
        }
        let uid = self.config.user.uid;
        add("HOME", crate::user::home(Path::new("/"), uid).unwrap_or_else(|| "/".to_owned()));
    }
}

/// Looks a program up as a shell would, in the container's own file system.
fn find_program(name: &str, env: &[(String, String)]) -> Result<PathBuf, String> {
    if name.is_empty() {
        return Err("exec: \"\": executable file not found in $PATH".to_owned());
    }
    if name.contains('/') {
        let meta = fs::metadata(name)
            .map_err(|e| format!("exec: {name:?}: stat {name}: {}", sys::reason(&e)))?;
        if meta.is_dir() {
            return Err(format!("exec: {name:?}: is a directory"));
        }
        return match meta.permissions().mode() & 0o111 {
            0 => Err(format!("exec: {name:?}: permission denied")),
            _ => Ok(PathBuf::from(name)),
        };
    }
    let path = env.iter().rev().find(|(n, _)| n == "PATH").map_or("", |(_, value)| value);
    let found = path.split(':').filter(|d| !d.is_empty()).map(|d| Path::new(d).join(name)).find(
        |candidate| {
            fs::metadata(candidate)
                .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
        },
    );
    found.ok_or_else(|| format!("exec: {name:?}: executable file not found in $PATH"))
}
