//! Control groups, whichever way this machine has them: v1 hierarchies, v2, or both at once.
//!
//! A group is named by one path that is the same in every hierarchy. Where a namespace hides the
//! hierarchies (as `ip netns exec` does by mounting /sys anew) they are opened through detached
//! mounts that nobody else sees. Invariant: nothing outside of the named groups is changed, but
//! for controllers being made available to them (v2: and for what must make way for that).
mod devices;
mod limits;
mod stats;

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

pub use devices::DeviceRule;
pub use limits::Limits;
pub use stats::Stats;

/// A v2 group can use these; others are left alone.
const V2_CONTROLLERS: &[&str] = &["cpu", "cpuset", "memory", "pids", "io", "hugetlb"];
/// Looks for processes that were made while others were moved.
const EVACUATION_ROUNDS: u32 = 16;
/// Tries to remove a group whose last process is still on its way out, each after a longer pause.
const REMOVE_TRIES: u32 = 10;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no cgroup hierarchy is mounted or can be mounted here: {0}")]
    None(String),
    #[error("cgroup {path}: {what}: {}", crate::reason(source))]
    Group { path: String, what: String, source: io::Error },
    #[error("cgroup path {0:?} is not absolute and plain")]
    Path(String),
}

/// One v1 hierarchy with its controllers (a named one has `name=x`), or the v2 one.
#[derive(Debug)]
struct Hierarchy {
    controllers: Vec<String>,
    base: PathBuf,
    v2: bool,
}

/// Every hierarchy of this machine.
#[derive(Debug)]
pub struct Cgroups {
    hierarchies: Vec<Hierarchy>,
    /// Detached mounts that the bases lead through.
    _mounts: Vec<OwnedFd>,
}

impl Cgroups {
    /// Finds the hierarchies that are mounted; if there are none, opens those the kernel has.
    pub fn detect() -> Result<Self, Error> {
        let fail = |e: io::Error| Error::None(crate::reason(&e));
        let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(fail)?;
        let mut found: Vec<Hierarchy> = Vec::new();
        for hierarchy in mounts.lines().filter_map(parse_mount) {
            let known = found
                .iter()
                .any(|h| h.v2 == hierarchy.v2 && h.controllers == hierarchy.controllers);
            if !known && hierarchy.base.join("cgroup.procs").exists() {
                found.push(hierarchy);
            }
        }
        let mut cgroups = Cgroups { hierarchies: found, _mounts: Vec::new() };
        if cgroups.hierarchies.is_empty() {
            cgroups.open_hidden()?;
        }
        for hierarchy in cgroups.hierarchies.iter_mut().filter(|h| h.v2) {
            let path = hierarchy.base.join("cgroup.controllers");
            let text = fs::read_to_string(path).map_err(fail)?;
            hierarchy.controllers = text.split_ascii_whitespace().map(str::to_owned).collect();
        }
        Ok(cgroups)
    }

    fn open_hidden(&mut self) -> Result<(), Error> {
        let fail = |e: io::Error| Error::None(crate::reason(&e));
        let text = fs::read_to_string("/proc/self/cgroup").map_err(fail)?;
        let mut last = None;
        for line in text.lines() {
            let mut fields = line.splitn(3, ':');
            let (Some(_), Some(names), Some(_)) = (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            let v2 = names.is_empty();
            let options: Vec<(&str, Option<&str>)> = match names.strip_prefix("name=") {
                Some(name) => vec![("none", None), ("name", Some(name))],
                None => names.split(',').filter(|n| !n.is_empty()).map(|n| (n, None)).collect(),
            };
            let kind = if v2 { "cgroup2" } else { "cgroup" };
            match crate::mount::new_fs(kind, &options, 0) {
                Ok(mount) => {
                    let base = PathBuf::from(format!("/proc/self/fd/{}", mount.as_raw_fd()));
                    let controllers = names.split(',').map(str::to_owned).collect();
                    self.hierarchies.push(Hierarchy { controllers, base, v2 });
                    self._mounts.push(mount);
                }
                Err(e) => last = Some(e),
            }
        }
        match last {
            Some(e) if self.hierarchies.is_empty() => Err(fail(e)),
            _ if self.hierarchies.is_empty() => Err(Error::None("the kernel has none".to_owned())),
            _ => Ok(()),
        }
    }

    /// Controllers that can limit something here, such as `memory`; for messages and checks.
    pub fn controllers(&self) -> Vec<&str> {
        let names = self.hierarchies.iter().flat_map(|h| &h.controllers).map(String::as_str);
        names.filter(|n| !n.is_empty() && !n.starts_with("name=")).collect()
    }

    /// Makes the group and its parents in every hierarchy. One that exists is no error.
    pub fn create(&self, group: &str) -> Result<(), Error> {
        let parts = parts(group)?;
        for hierarchy in &self.hierarchies {
            let mut at = hierarchy.base.clone();
            for part in &parts {
                if hierarchy.v2 {
                    delegate(&at, hierarchy).map_err(|e| error(group, "controllers", e))?;
                }
                let parent = at.clone();
                at.push(part);
                match fs::create_dir(&at) {
                    Ok(()) => {}
                    // Whoever has made it may not have filled its cpuset yet.
                    Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                    Err(e) => return Err(error(group, "cannot be made", e)),
                }
                if hierarchy.controllers.iter().any(|c| c == "cpuset") && !hierarchy.v2 {
                    inherit_cpuset(&parent, &at).map_err(|e| error(group, "cpuset", e))?;
                }
            }
        }
        Ok(())
    }

    /// Moves a process into the group; pid 0 is the caller.
    pub fn join(&self, group: &str, pid: i32) -> Result<(), Error> {
        self.join_beside(group, pid, None)
    }

    /// The same, where `first` is a process of the group already. A v2 group that has groups of its
    /// own by now (a container that runs containers) takes no more processes; then it is joined
    /// where that one is.
    pub fn join_beside(&self, group: &str, pid: i32, first: Option<i32>) -> Result<(), Error> {
        for (hierarchy, path) in self.paths(group)? {
            let join = |path: &Path| fs::write(path.join("cgroup.procs"), pid.to_string());
            let mut written = join(&path);
            let busy = written.as_ref().is_err_and(|e| e.raw_os_error() == Some(libc::EBUSY));
            if hierarchy.v2
                && busy
                && let Some(below) = first.and_then(|first| place_below(group, first))
            {
                written = join(&path.join(below));
            }
            match written {
                // A v2 group that hands out controllers may hold no process; where all limits are
                // v1 limits, the v2 group only names the process.
                Err(_) if hierarchy.v2 && hierarchy.controllers.is_empty() => {}
                other => other.map_err(|e| error(group, "cannot be joined", e))?,
            }
        }
        Ok(())
    }

    /// Sets limits; what is `None` stays as it is. A limit whose controller this machine lacks is
    /// an error, but for shares and quota of -1, which limit nothing.
    pub fn apply(&self, group: &str, limits: &Limits) -> Result<(), Error> {
        for write in limits.writes(|controller| self.version(controller)) {
            let Some((_, path)) = self.path_of(write.controller, group)? else {
                if write.required {
                    let missing = io::Error::other("this machine has no such cgroup controller");
                    return Err(error(group, write.controller, missing));
                }
                continue;
            };
            write
                .perform(&path)
                .map_err(|e| error(group, &format!("{} = {}", write.file, write.value), e))?;
        }
        Ok(())
    }

    /// Lets the group use these devices and no others.
    pub fn allow_devices(&self, group: &str, rules: &[DeviceRule]) -> Result<(), Error> {
        let fail = |e| error(group, "devices", e);
        if let Some((_, path)) = self.path_of("devices", group)? {
            return devices::write_v1(&path, rules).map_err(fail);
        }
        match self.paths(group)?.find(|(h, _)| h.v2) {
            Some((_, path)) => devices::attach_v2(&path, rules).map_err(fail),
            None => Ok(()),
        }
    }

    /// Processes in the group and below, as far as they can be named here.
    pub fn processes(&self, group: &str) -> Result<Vec<i32>, Error> {
        let mut all = Vec::new();
        for (_, path) in self.paths(group)? {
            collect_processes(&path, &mut all);
        }
        all.sort_unstable();
        all.dedup();
        Ok(all.into_iter().filter(|pid| *pid > 0).collect())
    }

    /// Kills everything in the group and below, and waits until it is gone, at most `timeout_ms`
    /// for each process. Processes that are made meanwhile are killed too.
    pub fn kill(&self, group: &str, timeout_ms: u16) -> Result<(), Error> {
        // Each round ends all processes seen at its start; only a fork bomb needs many.
        for _ in 0..64 {
            let pids = self.processes(group)?;
            if pids.is_empty() {
                return Ok(());
            }
            let mut waiting = Vec::new();
            for pid in pids {
                // The number may have been given to another process since it was read.
                let Ok(pidfd) = crate::process::pidfd_open(pid) else { continue };
                if !self.processes(group)?.contains(&pid) {
                    continue;
                }
                let killed = crate::process::pidfd_signal(&pidfd, libc::SIGKILL);
                if killed.is_ok() {
                    waiting.push(pidfd);
                }
            }
            for pidfd in waiting {
                let gone = crate::process::pidfd_wait(&pidfd, timeout_ms);
                if !gone.map_err(|e| error(group, "waiting", e))? {
                    let stuck = io::Error::from_raw_os_error(libc::ETIMEDOUT);
                    return Err(error(group, "a killed process does not end", stuck));
                }
            }
        }
        let busy = io::Error::from_raw_os_error(libc::EBUSY);
        Err(error(group, "processes appear faster than they can be killed", busy))
    }

    /// Removes the group with all below it. An absent one is no error; one with processes is.
    pub fn remove(&self, group: &str) -> Result<(), Error> {
        for (_, path) in self.paths(group)? {
            remove_tree(&path).map_err(|e| error(group, "cannot be removed", e))?;
        }
        Ok(())
    }

    /// Whether the group exists in any hierarchy.
    pub fn exists(&self, group: &str) -> Result<bool, Error> {
        Ok(self.paths(group)?.any(|(_, path)| path.is_dir()))
    }

    pub fn stats(&self, group: &str) -> Result<Stats, Error> {
        let path = |controller: &str| match self.path_of(controller, group) {
            Ok(Some((v2, path))) => Some((v2, path)),
            _ => None,
        };
        Ok(stats::read(path))
    }

    /// How many processes of this group the kernel killed for want of memory.
    pub fn oom_kills(&self, group: &str) -> u64 {
        let Ok(Some((v2, path))) = self.path_of("memory", group) else { return 0 };
        let file = if v2 { "memory.events" } else { "memory.oom_control" };
        stats::field(&path.join(file), "oom_kill").unwrap_or(0)
    }

    /// Folders and controllers of a group for a container to see as its `/sys/fs/cgroup`:
    /// `None` where only v2 is in use.
    pub fn v1_mounts(&self) -> Option<Vec<Vec<String>>> {
        let v1: Vec<_> =
            self.hierarchies.iter().filter(|h| !h.v2).map(|h| h.controllers.clone()).collect();
        if v1.is_empty() { None } else { Some(v1) }
    }

    fn version(&self, controller: &str) -> Option<u8> {
        let hierarchy = self.find(controller)?;
        Some(if hierarchy.v2 { 2 } else { 1 })
    }

    fn find(&self, controller: &str) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|h| h.controllers.iter().any(|c| c == controller))
    }

    fn path_of(&self, controller: &str, group: &str) -> Result<Option<(bool, PathBuf)>, Error> {
        let parts = parts(group)?;
        Ok(self.find(controller).map(|h| (h.v2, join(&h.base, &parts))))
    }

    fn paths(&self, group: &str) -> Result<impl Iterator<Item = (&Hierarchy, PathBuf)>, Error> {
        let parts: Vec<String> = parts(group)?.into_iter().map(str::to_owned).collect();
        Ok(self.hierarchies.iter().map(move |h| {
            let path = parts.iter().fold(h.base.clone(), |path, part| path.join(part));
            (h, path)
        }))
    }
}

fn error(path: &str, what: &str, source: io::Error) -> Error {
    Error::Group { path: path.to_owned(), what: what.to_owned(), source }
}

/// The components of an absolute path that names no root and leads nowhere else.
fn parts(group: &str) -> Result<Vec<&str>, Error> {
    let bad = || Error::Path(group.to_owned());
    let parts: Vec<&str> =
        group.strip_prefix('/').ok_or_else(bad)?.split('/').filter(|p| !p.is_empty()).collect();
    let plain = |p: &&str| *p != "." && *p != ".." && !p.contains('\0');
    if parts.is_empty() || !parts.iter().all(plain) { Err(bad()) } else { Ok(parts) }
}

fn join(base: &Path, parts: &[&str]) -> PathBuf {
    parts.iter().fold(base.to_path_buf(), |path, part| path.join(part))
}

/// A line of mountinfo, if it is a cgroup hierarchy.
fn parse_mount(line: &str) -> Option<Hierarchy> {
    let (before, after) = line.split_once(" - ")?;
    let base = before.split(' ').nth(4)?;
    let mut after = after.split(' ');
    let kind = after.next()?;
    let options = after.nth(1)?;
    let v2 = match kind {
        "cgroup2" => true,
        "cgroup" => false,
        _ => return None,
    };
    let flag = |o: &&str| !matches!(*o, "rw" | "ro" | "xattr" | "noprefix" | "clone_children");
    let flag = |o: &&str| flag(o) && !o.starts_with("release_agent=");
    let controllers = match v2 {
        true => Vec::new(),
        false => options.split(',').filter(flag).map(str::to_owned).collect(),
    };
    Some(Hierarchy { controllers, base: PathBuf::from(unescape(base)), v2 })
}

/// mountinfo writes blanks and backslashes as `\040`.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

/// Lets the children of a v2 group use its controllers, one by one: one that cannot be handed
/// down shows where a limit of it is set. Where the group that this process sees as the root holds
/// processes, as in a container, they make way first.
fn delegate(path: &Path, hierarchy: &Hierarchy) -> io::Result<()> {
    let file = path.join("cgroup.subtree_control");
    let enabled = fs::read_to_string(&file)?;
    let has = |name: &str| enabled.split_ascii_whitespace().any(|enabled| enabled == name);
    let wanted = hierarchy.controllers.iter().map(String::as_str);
    let mut missing = wanted.filter(|c| V2_CONTROLLERS.contains(c) && !has(c)).peekable();
    // Before the first one: with processes in it, the group would become one of threads, whose
    // children take no processes. The kernel's own root has no such file, and may hold some.
    if missing.peek().is_some() && path == hierarchy.base && path.join("cgroup.type").exists() {
        evacuate(path)?;
    }
    for controller in missing {
        let _ = fs::write(&file, format!("+{controller}"));
    }
    Ok(())
}

/// Moves the processes of a v2 group into a child of it, as a group that hands out controllers may
/// hold none. The child has the name that other container tools give it.
fn evacuate(path: &Path) -> io::Result<()> {
    let child = path.join("init");
    for _ in 0..EVACUATION_ROUNDS {
        let text = fs::read_to_string(path.join("cgroup.procs"))?;
        // 0 is a process that cannot be named here; written, it would mean the caller.
        let mut pids = text.lines().filter(|pid| *pid != "0").peekable();
        if pids.peek().is_none() {
            return Ok(());
        }
        match fs::create_dir(&child) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
        for pid in pids {
            match fs::write(child.join("cgroup.procs"), pid) {
                Err(e) if e.raw_os_error() != Some(libc::ESRCH) => return Err(e),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Where below a v2 group a process is.
fn place_below(group: &str, pid: i32) -> Option<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let own = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    let below = Path::new(own).strip_prefix(group).ok()?;
    (!below.as_os_str().is_empty()).then(|| below.to_owned())
}

/// A v1 cpuset is born empty and takes no process until it has CPUs and memory.
fn inherit_cpuset(parent: &Path, child: &Path) -> io::Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let value = fs::read_to_string(parent.join(file))?;
        if fs::read_to_string(child.join(file))?.trim().is_empty() {
            fs::write(child.join(file), value.trim())?;
        }
    }
    Ok(())
}

fn collect_processes(path: &Path, all: &mut Vec<i32>) {
    if let Ok(text) = fs::read_to_string(path.join("cgroup.procs")) {
        all.extend(text.lines().filter_map(|l| l.parse::<i32>().ok()));
    }
    for child in child_groups(path) {
        collect_processes(&child, all);
    }
}

fn child_groups(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    let entries = entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
    entries.map(|e| e.path()).collect()
}

fn remove_tree(path: &Path) -> io::Result<()> {
    for child in child_groups(path) {
        remove_tree(&child)?;
    }
    // The kernel lets go of a group a moment after its last process was reaped, and v1 has no
    // event for that.
    let mut pause = std::time::Duration::from_micros(200);
    for attempt in 1.. {
        match fs::remove_dir(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) && attempt < REMOVE_TRIES => {
                std::thread::sleep(pause);
                pause *= 2;
            }
            other => return other,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
