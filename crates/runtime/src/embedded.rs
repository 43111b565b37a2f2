//! Real containers: one [`shim`](crate::shim) per pod, which this talks to over its socket.
//!
//! Holds no state that cannot be found again: everything is in the folder and in the shims. Each
//! sandbox's folder is written before its shim is started and removed after it has ended.
mod link;
mod stream;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use sys::cgroup::Cgroups;
use tokio::sync::broadcast;

use crate::layout::{self, Record, ShimRecord};
use crate::wire::{Answer, Request};
use crate::{
    AttachConfig, AttachSession, ContainerConfig, ContainerState, ContainerStats, ContainerStatus,
    DiskUsage, Error, Event, ExecConfig, ExecOutput, ExecSession, Exit, MountKind, Resources,
    Runtime, Sandbox, SandboxConfig, SandboxStatus, Seccomp,
};
use link::{Link, Notice};

/// Bytes of each output stream that [`Runtime::exec_sync`] keeps.
pub const EXEC_OUTPUT: usize = 16 * 1024;

/// The embedded runtime. A copy is the same runtime.
#[derive(Clone)]
pub struct Embedded {
    shared: Arc<Shared>,
}

struct Shared {
    root: PathBuf,
    shim: PathBuf,
    events: broadcast::Sender<Event>,
    known: Mutex<Known>,
    cgroups: Cgroups,
    /// One look through the folders at a time.
    finding: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Known {
    /// Sandboxes whose shim is connected.
    links: HashMap<String, Link>,
    /// The sandbox of each container.
    homes: HashMap<String, String>,
}

impl Embedded {
    /// A runtime that keeps everything below `root` and starts shims as `<shim> shim …`.
    pub fn new(root: PathBuf, shim: PathBuf) -> Result<Self, Error> {
        let fail = |e: io::Error| system(&format!("cannot use {}", root.display()), &e);
        layout::make_private_dir(&layout::sandboxes(&root)).map_err(fail)?;
        let cgroups = Cgroups::detect().map_err(|e| Error::System(e.to_string()))?;
        let (events, _) = broadcast::channel(crate::EVENT_QUEUE);
        let (known, finding) = Default::default();
        Ok(Embedded { shared: Arc::new(Shared { root, shim, events, known, cgroups, finding }) })
    }

    fn folder(&self, sandbox: &str) -> Result<PathBuf, Error> {
        // Ids come from outside; they never lead elsewhere.
        if layout::is_id(sandbox) {
            Ok(layout::sandboxes(&self.shared.root).join(sandbox))
        } else {
            Err(Error::sandbox(sandbox))
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.shared.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connect(&self, sandbox: &str, folder: &Path) -> Result<Link, Error> {
        let shared = Arc::downgrade(&self.shared);
        let id = sandbox.to_owned();
        let notice = move |notice| {
            let Some(shared) = shared.upgrade() else { return };
            let event = match notice {
                Notice::Event(event) => event,
                Notice::Gone => {
                    let mut known = shared.known.lock().unwrap_or_else(PoisonError::into_inner);
                    known.links.remove(&id);
                    Event::SandboxGone { sandbox: id.clone() }
                }
            };
            // Without subscribers nobody wants to know.
            let _ = shared.events.send(event);
        };
        let link = Link::open(sandbox, &layout::socket(folder), notice).await?;
        if !link.is_gone() {
            self.known().links.insert(sandbox.to_owned(), link.clone());
        }
        Ok(link)
    }

    /// The shim of a sandbox, connected to if need be.
    async fn link(&self, sandbox: &str) -> Result<Link, Error> {
        let known = self.known().links.get(sandbox).cloned();
        if let Some(link) = known {
            return Ok(link);
        }
        let _one = self.shared.finding.lock().await;
        let known = self.known().links.get(sandbox).cloned();
        if let Some(link) = known {
            return Ok(link);
        }
        let folder = self.folder(sandbox)?;
        match shim_of(&folder) {
            Some(shim) if shim.process.is_running() => self.connect(sandbox, &folder).await,
            Some(_) => Err(Error::Gone(sandbox.to_owned())),
            None => Err(Error::sandbox(sandbox)),
        }
    }

    /// The sandbox of a container, also of one that an earlier process made.
    fn home(&self, container: &str) -> Result<String, Error> {
        let known = self.known().homes.get(container).cloned();
        if let Some(home) = known {
            return Ok(home);
        }
        if !layout::is_id(container) {
            return Err(Error::container(container));
        }
        let sandboxes = folders(&layout::sandboxes(&self.shared.root));
        let home = sandboxes.into_iter().find(|(_, f)| layout::container(f, container).is_dir());
        let (home, _) = home.ok_or_else(|| Error::container(container))?;
        self.known().homes.insert(container.to_owned(), home.clone());
        Ok(home)
    }

    async fn ask(&self, container: &str, request: Request) -> Result<Answer, Error> {
        let link = self.link(&self.home(container)?).await?;
        Ok(link.call(request, &[]).await?.0)
    }

    /// The sandbox as its folder and its shim tell; `None` for a folder without configuration,
    /// which a process that was killed half-way left behind.
    async fn status(&self, id: &str, folder: &Path) -> Result<Option<SandboxStatus>, Error> {
        let Ok(config) = layout::read_json::<SandboxConfig>(&folder.join("config.json")) else {
            return Ok(None);
        };
        let shim = shim_of(folder);
        let created_at = shim.as_ref().map_or(0, |s| s.created_at);
        let told = match self.link(id).await {
            Ok(link) => link.call(Request::Status, &[]).await.map(|(answer, _)| answer),
            Err(e) => Err(e),
        };
        let told = match told {
            Ok(Answer::Status { containers }) => Some(containers),
            Ok(_) | Err(Error::Gone(_) | Error::NotFound { .. }) => None,
            // It ended between the look at its process and the connection.
            Err(_) if !shim.as_ref().is_some_and(|s| s.process.is_running()) => None,
            Err(e) => return Err(e),
        };
        let running = match (&told, &shim) {
            (Some(_), Some(shim)) => Some(sandbox(id, &config, shim.process.pid)),
            _ => None,
        };
        let mut containers = Vec::new();
        for (id, folder) in folders(&layout::containers(folder)) {
            let Ok(config) = layout::read_json::<ContainerConfig>(&folder.join("config.json"))
            else {
                continue;
            };
            let record: Record = layout::read_json(&folder.join("state.json")).unwrap_or_default();
            let live = told.as_ref().and_then(|all| all.iter().find(|c| c.id == id));
            let (state, created_at) = match live {
                Some(status) => (status.state.clone(), status.created_at),
                None => (ContainerState::Exited(lost(&record)), record.created_at),
            };
            containers.push(ContainerStatus { id, config, state, created_at });
        }
        containers.sort_by_key(|c| c.created_at);
        Ok(Some(SandboxStatus { id: id.to_owned(), config, running, created_at, containers }))
    }
}

#[async_trait]
impl Runtime for Embedded {
    async fn run_sandbox(&self, config: &SandboxConfig) -> Result<Sandbox, Error> {
        let id = new_id()?;
        let folder = self.folder(&id)?;
        let started = async {
            let fail = |e: io::Error| system("cannot make the sandbox's folder", &e);
            layout::make_private_dir(&layout::containers(&folder)).map_err(fail)?;
            layout::write_json(&folder.join("config.json"), config).map_err(fail)?;
            start_shim(&self.shared.shim, &folder).await?;
            let shim = shim_of(&folder).ok_or_else(|| Error::Gone(id.clone()))?;
            self.connect(&id, &folder).await?;
            Ok(sandbox(&id, config, shim.process.pid))
        };
        let started = started.await;
        if started.is_err() {
            self.known().links.remove(&id);
            let (folder, root) = (folder.clone(), self.shared.root.clone());
            let cleared = blocking(move || crate::cleanup::sandbox(&root, &folder)).await;
            if let Err(error) = cleared {
                tracing::warn!(%error, sandbox = id, "cannot clean up a failed sandbox");
            }
        }
        started
    }

    async fn create_container(
        &self,
        sandbox: &str,
        config: &ContainerConfig,
    ) -> Result<String, Error> {
        let link = self.link(sandbox).await?;
        let id = new_id()?;
        let folder = layout::container(&self.folder(sandbox)?, &id);
        let (written, place) = (config.clone(), folder.clone());
        blocking(move || {
            check(&written)?;
            let fail = |e: io::Error| system("cannot make the container's folder", &e);
            layout::make_private_dir(&place).map_err(fail)?;
            layout::write_json(&place.join("config.json"), &written).map_err(fail)
        })
        .await?;
        match link.call(Request::Create { container: id.clone() }, &[]).await {
            Ok(_) => {
                self.known().homes.insert(id.clone(), sandbox.to_owned());
                Ok(id)
            }
            Err(e) => {
                let _ = blocking(move || Ok(fs::remove_dir_all(folder))).await;
                Err(e)
            }
        }
    }

    async fn start_container(&self, id: &str) -> Result<i32, Error> {
        match self.ask(id, Request::Start { container: id.to_owned() }).await? {
            Answer::Started { pid } => Ok(pid),
            other => Err(Error::System(format!("the shim answered a start with {other:?}"))),
        }
    }

    async fn signal_container(&self, id: &str, signal: i32) -> Result<(), Error> {
        let signalled = self.ask(id, Request::Signal { container: id.to_owned(), signal }).await;
        match signalled {
            // With its shim, the container is gone too.
            Err(Error::Gone(_)) | Ok(_) => Ok(()),
            Err(e) => Err(e),
        }
    }

    async fn remove_container(&self, id: &str) -> Result<(), Error> {
        let home = match self.home(id) {
            Err(Error::NotFound { .. }) => return Ok(()),
            other => other?,
        };
        let folder = layout::container(&self.folder(&home)?, id);
        match self.ask(id, Request::Remove { container: id.to_owned() }).await {
            Ok(_) | Err(Error::Gone(_) | Error::NotFound { .. }) => {}
            Err(e) => return Err(e),
        }
        blocking(move || remove_tree(&folder)).await?;
        self.known().homes.remove(id);
        Ok(())
    }

    async fn update_resources(&self, id: &str, resources: &Resources) -> Result<(), Error> {
        let request = Request::Update { container: id.to_owned(), resources: resources.clone() };
        self.ask(id, request).await.map(drop)
    }

    async fn stop_sandbox(&self, id: &str) -> Result<(), Error> {
        let folder = self.folder(id)?;
        match self.link(id).await {
            Ok(link) => match link.call(Request::Stop, &[]).await {
                Ok(_) | Err(Error::Gone(_)) => {}
                Err(error) => {
                    // What a shim cannot end, its cgroup still can.
                    tracing::warn!(%error, sandbox = id, "shim cannot stop; ending it");
                }
            },
            Err(Error::NotFound { .. }) if !folder.is_dir() => return Ok(()),
            Err(_) => {}
        }
        blocking(move || crate::cleanup::end_shim(&folder)).await
    }

    async fn remove_sandbox(&self, id: &str) -> Result<(), Error> {
        let folder = self.folder(id)?;
        let root = self.shared.root.clone();
        blocking(move || crate::cleanup::sandbox(&root, &folder)).await?;
        let mut known = self.known();
        known.links.remove(id);
        known.homes.retain(|_, home| home != id);
        Ok(())
    }

    async fn list(&self) -> Result<Vec<SandboxStatus>, Error> {
        let mut all = Vec::new();
        for (id, folder) in folders(&layout::sandboxes(&self.shared.root)) {
            match self.status(&id, &folder).await? {
                Some(status) => all.push(status),
                None => {
                    let root = self.shared.root.clone();
                    blocking(move || crate::cleanup::sandbox(&root, &folder)).await?;
                }
            }
        }
        Ok(all)
    }

    fn events(&self) -> broadcast::Receiver<Event> {
        self.shared.events.subscribe()
    }

    async fn exec(&self, id: &str, exec: &ExecConfig) -> Result<ExecSession, Error> {
        let link = self.link(&self.home(id)?).await?;
        stream::exec(&link, id, exec).await
    }

    async fn exec_sync(
        &self,
        id: &str,
        args: &[String],
        timeout: Option<Duration>,
    ) -> Result<ExecOutput, Error> {
        let exec =
            ExecConfig { args: args.to_vec(), stdout: true, stderr: true, ..ExecConfig::default() };
        let session = self.exec(id, &exec).await?;
        stream::collect(session, args, timeout).await
    }

    async fn attach(&self, id: &str, attach: &AttachConfig) -> Result<AttachSession, Error> {
        let home = self.home(id)?;
        let config = layout::container(&self.folder(&home)?, id).join("config.json");
        let config: ContainerConfig =
            layout::read_json(&config).map_err(|e| system("cannot read the container", &e))?;
        stream::attach(&self.link(&home).await?, id, &config, attach).await
    }

    async fn stats(&self, id: &str) -> Result<ContainerStats, Error> {
        let home = self.home(id)?;
        let folder = self.folder(&home)?;
        let shared = self.shared.clone();
        let id = id.to_owned();
        blocking(move || {
            let config: SandboxConfig = layout::read_json(&folder.join("config.json"))
                .map_err(|e| system("cannot read the sandbox", &e))?;
            usage(&shared.cgroups, &format!("{}/{id}", config.cgroup))
        })
        .await
    }

    async fn writable(&self, id: &str) -> Result<DiskUsage, Error> {
        let upper = layout::container(&self.folder(&self.home(id)?)?, id).join("upper");
        blocking(move || Ok(DiskUsage::below(&upper))).await
    }

    async fn reclaim(&self) -> Result<(), Error> {
        for sandbox in self.list().await? {
            let folder = self.folder(&sandbox.id)?;
            let ended = sandbox
                .containers
                .into_iter()
                .filter(|container| matches!(container.state, ContainerState::Exited(_)));
            let folders: Vec<PathBuf> =
                ended.map(|container| layout::container(&folder, &container.id)).collect();
            blocking(move || {
                let layers = folders.iter().flat_map(|f| [f.join("upper"), f.join("work")]);
                layers.into_iter().try_for_each(|layer| remove_tree(&layer))
            })
            .await?;
        }
        Ok(())
    }

    async fn sandbox_stats(&self, id: &str) -> Result<ContainerStats, Error> {
        let folder = self.folder(id)?;
        let shared = self.shared.clone();
        blocking(move || {
            let config: SandboxConfig = layout::read_json(&folder.join("config.json"))
                .map_err(|e| system("cannot read the sandbox", &e))?;
            usage(&shared.cgroups, &config.cgroup)
        })
        .await
    }

    async fn rotate_log(&self, id: &str) -> Result<(), Error> {
        self.ask(id, Request::Rotate { container: id.to_owned() }).await.map(drop)
    }

    async fn update_sandbox_resources(&self, id: &str, resources: &Resources) -> Result<(), Error> {
        let request = Request::UpdateSandbox { resources: resources.clone() };
        self.link(id).await?.call(request, &[]).await.map(drop)
    }
}

pub(crate) fn system(what: &str, error: &io::Error) -> Error {
    Error::System(format!("{what}: {}", sys::reason(error)))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| Error::System(format!("a task ended early: {e}")))?
}

fn sandbox(id: &str, config: &SandboxConfig, pid: i32) -> Sandbox {
    let netns = (!config.host_network).then(|| PathBuf::from(format!("/proc/{pid}/ns/net")));
    Sandbox { id: id.to_owned(), pid, netns }
}

fn shim_of(folder: &Path) -> Option<ShimRecord> {
    layout::read_json(&folder.join("shim.json")).ok()
}

/// 128 random bits.
fn new_id() -> Result<String, Error> {
    let mut bytes = [0_u8; 16];
    let read = fs::File::open("/dev/urandom")
        .and_then(|mut source| io::Read::read_exact(&mut source, &mut bytes));
    read.map_err(|e| system("/dev/urandom", &e))?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

/// Folders that are named by an id.
pub(crate) fn folders(parent: &Path) -> Vec<(String, PathBuf)> {
    let Ok(entries) = fs::read_dir(parent) else { return Vec::new() };
    let named = entries.flatten().map(|e| (e.file_name().to_string_lossy().into_owned(), e.path()));
    let mut all: Vec<_> = named.filter(|(name, _)| layout::is_id(name)).collect();
    all.sort();
    all
}

/// How a container ended whose shim did not live to tell.
fn lost(record: &Record) -> Exit {
    record.exit.clone().unwrap_or_else(|| Exit {
        code: 255,
        signal: None,
        oom_killed: false,
        started_at: record.started_at,
        finished_at: layout::now(),
        message: "the container ended together with the process that held its pod".to_owned(),
        start_failed: record.pid.is_none(),
    })
}

async fn start_shim(program: &Path, folder: &Path) -> Result<(), Error> {
    let mut command = std::process::Command::new(program);
    command
        .arg0("kybern")
        .arg("shim")
        .arg("--socket")
        .arg(layout::socket(folder))
        .arg("--pod-dir")
        .arg(folder)
        .env_clear()
        .current_dir("/")
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped());
    let output = tokio::process::Command::from(command).output().await;
    let output =
        output.map_err(|e| system(&format!("cannot start the shim {}", program.display()), &e))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().last().unwrap_or("the shim ended without a word");
    Err(Error::System(format!("failed to create pod sandbox: {line}")))
}

/// What can be known before a start.
fn check(config: &ContainerConfig) -> Result<(), Error> {
    if config.args.is_empty() {
        return Err(Error::Config("no command specified".to_owned()));
    }
    for layer in &config.layers {
        if !layer.is_dir() {
            let text = format!("image layer {} is missing", layer.display());
            return Err(Error::Create(text));
        }
    }
    for mount in &config.mounts {
        if !mount.destination.starts_with('/') {
            let text = format!("mount path {:?} is not absolute", mount.destination);
            return Err(Error::Config(text));
        }
        if mount.kind == MountKind::Bind {
            fs::metadata(&mount.source).map_err(|e| {
                let source = mount.source.display();
                Error::Create(format!("failed to stat {source}: {}", sys::reason(&e)))
            })?;
        }
    }
    let security = &config.security;
    let changes = &security.capabilities;
    let set = sys::caps::Set::changed(&changes.add, &changes.drop)
        .map_err(|name| Error::Config(format!("unknown capability {name:?}")))?;
    if let (Seccomp::Localhost(path), false) = (&security.seccomp, security.privileged) {
        let fail = |e: String| {
            Error::Config(format!("cannot load seccomp profile {:?}: {e}", path.display()))
        };
        let json = fs::read(path).map_err(|e| fail(sys::reason(&e)))?;
        sys::seccomp::parse(&json, set).map_err(fail)?;
    }
    Ok(())
}

fn usage(cgroups: &Cgroups, group: &str) -> Result<ContainerStats, Error> {
    let stats = cgroups.stats(group).map_err(|e| Error::System(e.to_string()))?;
    Ok(ContainerStats {
        at: layout::now(),
        cpu_usage_ns: stats.cpu_usage_ns,
        memory_usage: stats.memory_usage,
        working_set: stats.memory_usage.saturating_sub(stats.inactive_file),
        rss: stats.rss,
        page_faults: stats.page_faults,
        major_page_faults: stats.major_page_faults,
        memory_limit: stats.memory_limit,
        pids: stats.pids,
    })
}

pub(crate) fn remove_tree(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(system(&format!("cannot remove {}", path.display()), &e))
        }
        _ => Ok(()),
    }
}
