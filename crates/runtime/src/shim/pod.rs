//! The pod's containers and everything that happens to them.
//!
//! Invariants: what is answered or announced has been written to the container's `state.json`
//! first; a container that ended is announced exactly once per connection; a process id is used
//! only while the process is this one's unreaped child, so it cannot mean another.
mod start;

use start::{Start, channel, device_rules, hold_layer, never_started, pipes};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::fcntl::{Flock, FlockArg};
use sys::cgroup::{Cgroups, DeviceRule, Limits};
use sys::ns::Kind;
use sys::process::{Ended, Fork};

use super::log::Log;
use super::process::{Child, FAILED, Stdio, TERMINAL, World};
use super::streams::{self, Interest, MAX_CLIENTS, Part, Streams};
use crate::layout::{self, Record};
use crate::wire::{self, Answer, Failure, FailureKind, Message, Request};
use crate::{ContainerConfig, ContainerState, Exit, Resources, SandboxConfig};

/// Further processes at once in all containers of the pod.
const MAX_EXECS: usize = 256;
/// How long a killed process may take to end before a stop is given up.
const KILL_TIMEOUT_MS: u16 = 10_000;
const NEVER_STARTED: i32 = 128;

/// A message to one connection, or to all.
pub(super) struct Outgoing {
    pub(super) to: Option<u64>,
    pub(super) message: Message,
    pub(super) fds: Vec<OwnedFd>,
}

pub(super) struct Pod {
    folder: PathBuf,
    config: SandboxConfig,
    hostname: String,
    cgroups: Cgroups,
    shm: File,
    mounts: File,
    own_pids: File,
    /// The process namespace that the containers share, and its first process.
    shared_pids: Option<(File, i32)>,
    containers: Vec<Container>,
    execs: Vec<Exec>,
    starts: Vec<Start>,
    outgoing: Vec<Outgoing>,
    next_id: u64,
    stopped: bool,
}

struct Container {
    id: String,
    config: ContainerConfig,
    record: Record,
    /// While it has a process that was not reaped yet.
    pid: Option<i32>,
    /// Why its program could not be executed, and who waits to hear it.
    failed: Option<(String, Caller)>,
    streams: Streams,
    /// A shared lock on the topmost layer: the image store removes no layer of an image in use.
    _layer: Option<Flock<File>>,
}

struct Exec {
    id: u64,
    connection: u64,
    pid: i32,
}

/// Who asked, to be answered later.
#[derive(Debug, Clone, Copy)]
struct Caller {
    connection: u64,
    call: u64,
}

enum Subject {
    Container(String),
    Exec(u64),
}

/// Which process namespace a child goes to.
enum Pids<'a> {
    Own,
    New,
    Join(&'a File),
}

fn failure(kind: FailureKind, message: impl ToString) -> Failure {
    Failure { kind, message: message.to_string() }
}

fn system(what: &str) -> impl Fn(io::Error) -> Failure {
    move |e| failure(FailureKind::System, format!("{what}: {}", sys::reason(&e)))
}

impl Pod {
    pub(super) fn new(
        folder: PathBuf,
        config: SandboxConfig,
        cgroups: Cgroups,
        shm: File,
        mounts: File,
    ) -> Result<Self, String> {
        let fail = |e: io::Error| format!("cannot set up the pod: {}", sys::reason(&e));
        let hostname = nix::unistd::gethostname().map_err(|e| fail(e.into()))?;
        let mut pod = Pod {
            folder,
            hostname: hostname.to_string_lossy().into_owned(),
            cgroups,
            shm,
            mounts,
            own_pids: sys::ns::open(0, "pid").map_err(fail)?,
            shared_pids: None,
            containers: Vec::new(),
            execs: Vec::new(),
            starts: Vec::new(),
            outgoing: Vec::new(),
            next_id: 1,
            stopped: false,
            config,
        };
        if pod.config.share_pid && !pod.config.host_pid {
            pod.shared_pids = Some(pod.start_pause()?);
        }
        Ok(pod)
    }

    /// The first process of a shared process namespace: it only reaps.
    fn start_pause(&self) -> Result<(File, i32), String> {
        let fail =
            |e: io::Error| format!("cannot make the shared pid namespace: {}", sys::reason(&e));
        let group = format!("{}/pause", self.config.cgroup);
        self.cgroups.create(&group).map_err(|e| e.to_string())?;
        match self.fork(&Pids::New).map_err(fail)? {
            Fork::Parent(pid) => {
                self.cgroups.join(&group, pid).map_err(|e| e.to_string())?;
                Ok((sys::ns::open(pid, "pid").map_err(fail)?, pid))
            }
            Fork::Child => {
                let _ = sys::process::die_with_parent();
                sys::process::set_name("pause");
                let _ = sys::process::reset_signals();
                let _ = sys::process::close_from(0);
                sys::process::idle()
            }
        }
    }

    // What the event loop asks.

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped
    }

    pub(super) fn take_outgoing(&mut self) -> Vec<Outgoing> {
        std::mem::take(&mut self.outgoing)
    }

    pub(super) fn starts<'a>(&'a self, mut add: impl FnMut(usize, BorrowedFd<'a>)) {
        let waiting = self.starts.iter().enumerate().filter(|(_, s)| !s.done);
        waiting.for_each(|(at, start)| add(at, start.channel.as_fd()));
    }

    pub(super) fn streams<'a>(
        &'a self,
        mut add: impl FnMut(usize, Part, BorrowedFd<'a>, Interest),
    ) {
        for (at, container) in self.containers.iter().enumerate() {
            container.streams.interests(|part, fd, interest| add(at, part, fd, interest));
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.containers.iter().filter_map(|c| c.streams.deadline()).min()
    }

    pub(super) fn stream_ready(&mut self, at: usize, part: Part) {
        if let Some(container) = self.containers.get_mut(at) {
            container.streams.ready(part);
        }
    }

    /// Drops what is done; after this, earlier positions mean nothing.
    pub(super) fn sweep(&mut self) {
        self.starts.retain(|s| !s.done);
        if self.deadline().is_some_and(|at| at <= Instant::now()) {
            self.containers.iter_mut().for_each(|c| c.streams.expire(Instant::now()));
        }
    }

    /// Nobody is left to read what these processes say, or to hear that they ended.
    pub(super) fn connection_gone(&mut self, connection: u64) {
        for exec in self.execs.iter().filter(|e| e.connection == connection) {
            let _ = sys::process::kill(exec.pid, nix::libc::SIGKILL);
        }
    }

    pub(super) fn handle(
        &mut self,
        connection: u64,
        call: u64,
        request: Request,
        fds: Vec<OwnedFd>,
    ) {
        let caller = Caller { connection, call };
        match self.serve(caller, request, fds) {
            Ok(Some(answer)) => self.answer(caller, Ok(answer), Vec::new()),
            // Answered once the program runs, or cannot.
            Ok(None) => {}
            Err(failure) => self.answer(caller, Err(failure), Vec::new()),
        }
    }

    fn serve(
        &mut self,
        caller: Caller,
        request: Request,
        fds: Vec<OwnedFd>,
    ) -> Result<Option<Answer>, Failure> {
        match request {
            Request::Hello => {
                // An agent that was started anew may live in another mount namespace.
                if let Some(mounts) = fds.into_iter().next() {
                    self.mounts = File::from(mounts);
                }
            }
            Request::Create { container } => self.create(&container)?,
            Request::Start { container } => {
                self.start(caller, &container)?;
                return Ok(None);
            }
            Request::Signal { container, signal } => {
                let found = self.find(&container)?;
                if let Some(pid) = self.containers[found].pid {
                    sys::process::kill(pid, signal).map_err(system("cannot signal"))?;
                }
            }
            Request::Remove { container } => self.remove(&container)?,
            Request::Update { container, resources } => self.update(&container, &resources)?,
            Request::UpdateSandbox { resources } => {
                let applied = self.cgroups.apply(&self.config.cgroup, &Limits::from(&resources));
                applied.map_err(|e| failure(FailureKind::System, e))?;
                self.config.resources.get_or_insert_default().merge(&resources);
                layout::write_json(&self.folder.join("config.json"), &self.config)
                    .map_err(system("cannot write config.json"))?;
            }
            Request::Status => {
                let containers = self.containers.iter().map(Container::status).collect();
                return Ok(Some(Answer::Status { containers }));
            }
            Request::Exec { container, exec } => {
                self.exec(caller, &container, exec, fds)?;
                return Ok(None);
            }
            Request::SignalExec { exec, signal } => {
                if let Some(exec) = self.execs.iter().find(|e| e.id == exec) {
                    sys::process::kill(exec.pid, signal).map_err(system("cannot signal"))?;
                }
            }
            Request::Attach { container, stdin, stdout, stderr } => {
                self.attach(&container, [stdin, stdout, stderr], fds)?;
            }
            Request::Resize { container, columns, rows } => {
                let found = self.find(&container)?;
                if let Some(terminal) = &self.containers[found].streams.terminal {
                    sys::pty::resize(terminal, columns, rows).map_err(system("cannot resize"))?;
                }
            }
            Request::Rotate { container } => {
                let found = self.find(&container)?;
                if let Some(log) = &mut self.containers[found].streams.log {
                    log.rotate().map_err(system("cannot rotate the log"))?;
                }
            }
            Request::Stop => self.stop()?,
        }
        Ok(Some(Answer::Done))
    }

    fn find(&self, id: &str) -> Result<usize, Failure> {
        let found = self.containers.iter().position(|c| c.id == id);
        found.ok_or_else(|| failure(FailureKind::NoContainer, id))
    }

    fn group(&self, id: &str) -> String {
        format!("{}/{id}", self.config.cgroup)
    }

    fn answer(&mut self, to: Caller, result: Result<Answer, Failure>, fds: Vec<OwnedFd>) {
        let message = Message::Answer { id: to.call, fds: fds.len(), result };
        self.outgoing.push(Outgoing { to: Some(to.connection), message, fds });
    }

    fn announce(&mut self, message: Message) {
        self.outgoing.push(Outgoing { to: None, message, fds: Vec::new() });
    }

    // Containers.

    fn create(&mut self, id: &str) -> Result<(), Failure> {
        if !layout::is_id(id) || self.containers.iter().any(|c| c.id == id) {
            return Err(failure(FailureKind::State, format!("container id {id:?} cannot be used")));
        }
        let folder = layout::container(&self.folder, id);
        let config: ContainerConfig = layout::read_json(&folder.join("config.json"))
            .map_err(system("cannot read the container's configuration"))?;
        let layer = hold_layer(&config).map_err(|m| failure(FailureKind::Create, m))?;
        let record = Record { created_at: layout::now(), ..Record::default() };
        let container = Container {
            id: id.to_owned(),
            config,
            record,
            pid: None,
            failed: None,
            streams: Streams::default(),
            _layer: layer,
        };
        container.save(&self.folder)?;
        self.containers.push(container);
        Ok(())
    }

    fn start(&mut self, caller: Caller, id: &str) -> Result<(), Failure> {
        let at = self.find(id)?;
        let container = &self.containers[at];
        if container.pid.is_some() || container.record.exit.is_some() {
            let text = format!("container {id} was started already");
            return Err(failure(FailureKind::State, text));
        }
        match self.launch(caller, at) {
            Ok(()) => Ok(()),
            Err(message) => {
                self.containers[at].streams.finish();
                let exit = never_started(&message);
                self.ended(at, exit);
                Err(failure(FailureKind::Start, message))
            }
        }
    }

    fn launch(&mut self, caller: Caller, at: usize) -> Result<(), String> {
        let group = self.group(&self.containers[at].id);
        let folder = layout::container(&self.folder, &self.containers[at].id);
        let config = &self.containers[at].config;
        if config.args.is_empty() {
            return Err("no command specified".to_owned());
        }
        self.cgroups.create(&group).map_err(|e| e.to_string())?;
        let limits = Limits::from(&config.resources);
        self.cgroups.apply(&group, &limits).map_err(|e| e.to_string())?;
        let devices = device_rules(config)?;
        self.cgroups.allow_devices(&group, &devices).map_err(|e| e.to_string())?;
        let fail = |what: &'static str| move |e: io::Error| format!("{what}: {}", sys::reason(&e));
        let mut streams = Streams { stdin_once: config.stdin_once, ..Streams::default() };
        if let Some(path) = &config.log_path {
            let log = Log::open(path, &config.log);
            streams.log = Some(log.map_err(fail("cannot open the container's log"))?);
        }
        let stdio = pipes(config, &mut streams).map_err(fail("cannot make pipes"))?;
        let (ours, theirs) = channel().map_err(fail("cannot make a socket"))?;
        let target = self.target_pids(config)?;
        let pids = match (&target, &self.shared_pids) {
            _ if self.config.host_pid => Pids::Own,
            (_, Some((shared, _))) => Pids::Join(shared),
            (Some(target), None) => Pids::Join(target),
            (None, None) => Pids::New,
        };
        match self.fork(&pids).map_err(fail("cannot fork"))? {
            Fork::Child => Child {
                config,
                args: &config.args,
                env: config.env.clone(),
                tty: config.tty,
                stdio,
                cgroup: group,
                cgroups: &self.cgroups,
                hostname: &self.hostname,
                world: World::New { folder: &folder, shm: &self.shm, mounts: &self.mounts },
                channel: theirs,
            }
            .run(),
            Fork::Parent(pid) => {
                let container = &mut self.containers[at];
                container.pid = Some(pid);
                container.streams = streams;
                let subject = Subject::Container(container.id.clone());
                self.starts.push(Start::new(ours, caller, subject));
                Ok(())
            }
        }
    }

    /// The process namespace of the container that `config` names.
    fn target_pids(&self, config: &ContainerConfig) -> Result<Option<File>, String> {
        let Some(target) = &config.pids_of else { return Ok(None) };
        let found = self.containers.iter().find(|c| c.id == *target).and_then(|c| c.pid);
        let pid = found.ok_or_else(|| format!("target container {target} is not running"))?;
        let opened = sys::ns::open(pid, "pid");
        opened
            .map(Some)
            .map_err(|e| format!("cannot join target container {target}: {}", sys::reason(&e)))
    }

    fn remove(&mut self, id: &str) -> Result<(), Failure> {
        let at = self.find(id)?;
        if self.containers[at].pid.is_some() {
            let text = format!("container {id} is running");
            return Err(failure(FailureKind::State, text));
        }
        self.cgroups.remove(&self.group(id)).map_err(|e| failure(FailureKind::System, e))?;
        self.containers.remove(at);
        Ok(())
    }

    fn update(&mut self, id: &str, resources: &Resources) -> Result<(), Failure> {
        let at = self.find(id)?;
        if self.containers[at].pid.is_some() {
            let applied = self.cgroups.apply(&self.group(id), &Limits::from(resources));
            applied.map_err(|e| failure(FailureKind::System, e))?;
        }
        let container = &mut self.containers[at];
        container.config.resources.merge(resources);
        let path = layout::container(&self.folder, id).join("config.json");
        layout::write_json(&path, &container.config).map_err(system("cannot write config.json"))
    }

    fn attach(
        &mut self,
        id: &str,
        [stdin, stdout, stderr]: [bool; 3],
        fds: Vec<OwnedFd>,
    ) -> Result<(), Failure> {
        let at = self.find(id)?;
        let client = self.next();
        let container = &mut self.containers[at];
        if container.pid.is_none() {
            let text = format!("container {id} is not running");
            return Err(failure(FailureKind::State, text));
        }
        if container.streams.clients.len() >= MAX_CLIENTS {
            let text = format!("container {id} has {MAX_CLIENTS} attached clients already");
            return Err(failure(FailureKind::State, text));
        }
        let mut fds = fds.into_iter();
        let mut take = |wanted: bool| if wanted { fds.next() } else { None };
        let [stdin, stdout, stderr] = [take(stdin), take(stdout), take(stderr)];
        container.streams.attach(client, stdin, stdout, stderr).map_err(system("cannot attach"))
    }

    fn next(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    // Further processes.

    fn exec(
        &mut self,
        caller: Caller,
        id: &str,
        exec: wire::Exec,
        fds: Vec<OwnedFd>,
    ) -> Result<(), Failure> {
        let at = self.find(id)?;
        let group = self.group(id);
        let container = &self.containers[at];
        let running = container.pid.filter(|_| container.record.pid.is_some());
        let Some(pid) = running else {
            let text = format!("container {id} is not running");
            return Err(failure(FailureKind::State, text));
        };
        if exec.args.is_empty() {
            return Err(failure(FailureKind::Config, "no command specified"));
        }
        if self.execs.len() >= MAX_EXECS {
            let text = format!("{MAX_EXECS} processes were started in this pod already");
            return Err(failure(FailureKind::State, text));
        }
        let open = |name: &str| sys::ns::open(pid, name).map_err(system("container is ending"));
        let (mounts, cgroup, pids) = (open("mnt")?, open("cgroup")?, open("pid")?);
        let mut fds = fds.into_iter();
        let mut take = |wanted: bool| if wanted && !exec.tty { fds.next() } else { None };
        let stdio =
            Stdio { stdin: take(exec.stdin), stdout: take(exec.stdout), stderr: take(exec.stderr) };
        let mut env = container.config.env.clone();
        env.retain(|(name, _)| !exec.env.iter().any(|(n, _)| n == name));
        env.extend(exec.env);
        let (ours, theirs) = channel().map_err(system("cannot make a socket"))?;
        let forked = self.fork(&Pids::Join(&pids)).map_err(system("cannot fork"))?;
        match forked {
            Fork::Child => Child {
                config: &container.config,
                args: &exec.args,
                env,
                tty: exec.tty,
                stdio,
                cgroup: group,
                cgroups: &self.cgroups,
                hostname: &self.hostname,
                world: World::Join { mounts, cgroup, first: pid },
                channel: theirs,
            }
            .run(),
            Fork::Parent(pid) => {
                let id = self.next();
                self.execs.push(Exec { id, connection: caller.connection, pid });
                self.starts.push(Start::new(ours, caller, Subject::Exec(id)));
                Ok(())
            }
        }
    }

    /// Forks a child into a process namespace; the parent stays in its own.
    fn fork(&self, pids: &Pids<'_>) -> io::Result<Fork> {
        match pids {
            Pids::Own => return sys::process::fork(),
            Pids::New => sys::ns::unshare(Kind::CLONE_NEWPID)?,
            Pids::Join(namespace) => sys::ns::join(namespace, Kind::CLONE_NEWPID)?,
        }
        let forked = sys::process::fork();
        if !matches!(forked, Ok(Fork::Child)) {
            sys::ns::join(&self.own_pids, Kind::CLONE_NEWPID)?;
        }
        forked
    }

    // What children do.

    pub(super) fn start_ready(&mut self, at: usize) {
        let Some(start) = self.starts.get_mut(at).filter(|s| !s.done) else { return };
        if !start.listen() {
            return;
        }
        start.done = true;
        let (caller, failed) = (start.caller, start.failure.take());
        let terminal = start.terminal.take();
        match &start.subject {
            Subject::Container(id) => {
                let id = id.clone();
                self.container_started(caller, &id, failed, terminal);
            }
            Subject::Exec(exec) => {
                let exec = *exec;
                match failed {
                    None => {
                        self.answer(
                            caller,
                            Ok(Answer::Exec { exec }),
                            terminal.into_iter().collect(),
                        );
                    }
                    Some(message) => {
                        self.answer(caller, Err(failure(FailureKind::Start, message)), Vec::new());
                    }
                }
            }
        }
    }

    fn container_started(
        &mut self,
        caller: Caller,
        id: &str,
        failed: Option<String>,
        terminal: Option<OwnedFd>,
    ) {
        let Ok(at) = self.find(id) else { return };
        let container = &mut self.containers[at];
        if let Some(message) = failed {
            // Answered when it was reaped, so that it can be removed at once.
            container.failed = Some((message, caller));
            return;
        }
        if let Some(terminal) = terminal {
            // A terminal that blocks would only hold up this process; try without, then.
            let _ = streams::nonblocking(&terminal);
            container.streams.terminal = Some(terminal);
        }
        let Some(pid) = container.pid else { return };
        container.record.pid = Some(pid);
        container.record.started_at = layout::now();
        if let Err(e) = container.save(&self.folder) {
            eprintln!("{}", e.message);
        }
        self.answer(caller, Ok(Answer::Started { pid }), Vec::new());
        self.announce(Message::Started { container: id.to_owned(), pid });
    }

    /// Deals with every child that has ended.
    pub(super) fn reap(&mut self) {
        // What they said before they ended comes first.
        (0..self.starts.len()).for_each(|at| self.start_ready(at));
        self.starts.retain(|s| !s.done);
        while let Ok(Some((pid, ended))) = sys::process::reap() {
            if let Some(at) = self.containers.iter().position(|c| c.pid == Some(pid)) {
                self.container_ended(at, ended);
            } else if let Some(at) = self.execs.iter().position(|e| e.pid == pid) {
                let exec = self.execs.remove(at);
                let message = Message::ExecExited { exec: exec.id, code: ended.code() };
                let outgoing = Outgoing { to: Some(exec.connection), message, fds: Vec::new() };
                self.outgoing.push(outgoing);
            }
        }
    }

    fn container_ended(&mut self, at: usize, ended: Ended) {
        // It may have ended between the look at its channel and now.
        let id = self.containers[at].id.clone();
        let start = self
            .starts
            .iter()
            .position(|s| matches!(&s.subject, Subject::Container(c) if *c == id));
        if let Some(start) = start {
            self.start_ready(start);
            self.starts.retain(|s| !s.done);
        }
        let group = self.group(&id);
        let joined = self.containers[at].config.pids_of.is_some();
        if self.config.host_pid || self.shared_pids.is_some() || joined {
            // No process namespace ended with it: whatever it left behind goes too.
            if let Err(e) = self.cgroups.kill(&group, KILL_TIMEOUT_MS) {
                eprintln!("{e}");
            }
        }
        let oom_killed = self.cgroups.oom_kills(&group) > 0;
        let container = &mut self.containers[at];
        container.pid = None;
        container.streams.finish();
        let failed = container.failed.take();
        let exit = match &failed {
            Some((message, _)) => never_started(message),
            None => Exit {
                code: ended.code(),
                signal: match ended {
                    Ended::Signal(signal) => Some(signal),
                    Ended::Code(_) => None,
                },
                oom_killed,
                started_at: container.record.started_at,
                finished_at: layout::now(),
                message: String::new(),
                start_failed: false,
            },
        };
        self.ended(at, exit);
        if let Some((message, caller)) = failed {
            self.answer(caller, Err(failure(FailureKind::Start, message)), Vec::new());
        }
    }

    fn ended(&mut self, at: usize, exit: Exit) {
        let container = &mut self.containers[at];
        container.record.exit = Some(exit.clone());
        if let Err(e) = container.save(&self.folder) {
            eprintln!("{}", e.message);
        }
        let message = Message::Exited { container: container.id.clone(), exit };
        self.announce(message);
    }

    /// Ends every process of the pod and gives up its cgroup. Blocks for as long as they take:
    /// there is nothing else left to do.
    fn stop(&mut self) -> Result<(), Failure> {
        // The first process of a namespace ends last: guests come before it.
        let own = self.execs.iter().map(|e| e.pid);
        let own = own.chain(self.containers.iter().rev().filter_map(|c| c.pid));
        let own: Vec<i32> = own.chain(self.shared_pids.iter().map(|(_, pid)| *pid)).collect();
        let mut result = Ok(());
        for pid in &own {
            let _ = sys::process::kill(*pid, nix::libc::SIGKILL);
        }
        for pid in own {
            let ended = sys::process::pidfd_open(pid)
                .and_then(|fd| sys::process::pidfd_wait(&fd, KILL_TIMEOUT_MS));
            if matches!(ended, Ok(false)) {
                let text = format!("process {pid} does not end although it was killed");
                result = Err(failure(FailureKind::System, text));
            }
            // At once: it ends only after all others were reaped.
            self.reap();
        }
        let cleared = self.cgroups.kill(&self.config.cgroup, KILL_TIMEOUT_MS);
        self.reap();
        let removed = cleared.and_then(|()| self.cgroups.remove(&self.config.cgroup));
        removed.map_err(|e| failure(FailureKind::System, e))?;
        result?;
        self.stopped = true;
        let _ = std::fs::remove_file(layout::socket(&self.folder));
        Ok(())
    }
}

impl Container {
    fn save(&self, pod: &Path) -> Result<(), Failure> {
        layout::write_json(&layout::container(pod, &self.id).join("state.json"), &self.record)
            .map_err(system("cannot write state.json"))
    }

    fn status(&self) -> wire::Status {
        let state = match (&self.record.exit, self.record.pid) {
            (Some(exit), _) => ContainerState::Exited(exit.clone()),
            (None, Some(pid)) => {
                ContainerState::Running { pid, started_at: self.record.started_at }
            }
            (None, None) => ContainerState::Created,
        };
        wire::Status { id: self.id.clone(), created_at: self.record.created_at, state }
    }
}
