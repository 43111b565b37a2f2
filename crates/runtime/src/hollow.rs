//! A runtime that only pretends, for simulations with many nodes: containers "run" at once and
//! until they are signalled. No process, file or namespace is made; nothing outlives it.
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::broadcast;

use crate::layout;
use crate::{
    AttachConfig, AttachSession, ContainerConfig, ContainerState, ContainerStats, ContainerStatus,
    DiskUsage, Error, Event, ExecConfig, ExecOutput, ExecSession, Exit, Resources, Runtime,
    Sandbox, SandboxConfig, SandboxStatus,
};

const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;

/// See the module. A copy is the same runtime.
#[derive(Clone)]
pub struct Hollow {
    shared: Arc<Shared>,
}

struct Shared {
    events: broadcast::Sender<Event>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u64,
    sandboxes: BTreeMap<String, SandboxStatus>,
    /// The sandbox of each container.
    homes: BTreeMap<String, String>,
}

impl Default for Hollow {
    fn default() -> Self {
        let (events, _) = broadcast::channel(crate::EVENT_QUEUE);
        Hollow { shared: Arc::new(Shared { events, state: Mutex::default() }) }
    }
}

impl Hollow {
    pub fn new() -> Self {
        Hollow::default()
    }

    /// Ends a container as if its program had: what a simulation does to it.
    pub fn exit_container(&self, id: &str, code: i32) -> Result<(), Error> {
        self.end(id, code, None)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, id: &str, code: i32, signal: Option<i32>) -> Result<(), Error> {
        let mut state = self.state();
        let sandbox = state.homes.get(id).cloned().ok_or_else(|| Error::container(id))?;
        let container = state.container(id)?;
        let ContainerState::Running { started_at, .. } = container.state else { return Ok(()) };
        let exit = Exit {
            code,
            signal,
            oom_killed: false,
            started_at,
            finished_at: layout::now(),
            message: String::new(),
            start_failed: false,
        };
        container.state = ContainerState::Exited(exit.clone());
        drop(state);
        self.announce(Event::ContainerExited { sandbox, id: id.to_owned(), exit });
        Ok(())
    }

    fn announce(&self, event: Event) {
        // Without subscribers nobody wants to know.
        let _ = self.shared.events.send(event);
    }
}

impl State {
    fn id(&mut self) -> String {
        self.next += 1;
        format!("{:032x}", self.next)
    }

    fn container(&mut self, id: &str) -> Result<&mut ContainerStatus, Error> {
        let home = self.homes.get(id).ok_or_else(|| Error::container(id))?;
        let sandbox = self.sandboxes.get_mut(home).ok_or_else(|| Error::container(id))?;
        sandbox.containers.iter_mut().find(|c| c.id == id).ok_or_else(|| Error::container(id))
    }
}

fn impossible<T>(what: &str) -> Result<T, Error> {
    Err(Error::State(format!("{what} is not possible: containers of this node are simulated")))
}

#[async_trait]
impl Runtime for Hollow {
    async fn run_sandbox(&self, config: &SandboxConfig) -> Result<Sandbox, Error> {
        let mut state = self.state();
        let id = state.id();
        let pid = i32::try_from(state.next).unwrap_or(i32::MAX);
        let sandbox = Sandbox { id: id.clone(), pid, netns: None };
        let status = SandboxStatus {
            id: id.clone(),
            config: config.clone(),
            running: Some(sandbox.clone()),
            created_at: layout::now(),
            containers: Vec::new(),
        };
        state.sandboxes.insert(id, status);
        Ok(sandbox)
    }

    async fn create_container(
        &self,
        sandbox: &str,
        config: &ContainerConfig,
    ) -> Result<String, Error> {
        let mut state = self.state();
        let id = state.id();
        let home = state.sandboxes.get_mut(sandbox).ok_or_else(|| Error::sandbox(sandbox))?;
        if home.running.is_none() {
            return Err(Error::Gone(sandbox.to_owned()));
        }
        home.containers.push(ContainerStatus {
            id: id.clone(),
            config: config.clone(),
            state: ContainerState::Created,
            created_at: layout::now(),
        });
        state.homes.insert(id.clone(), sandbox.to_owned());
        Ok(id)
    }

    async fn start_container(&self, id: &str) -> Result<i32, Error> {
        let mut state = self.state();
        state.next += 1;
        let pid = i32::try_from(state.next).unwrap_or(i32::MAX);
        let container = state.container(id)?;
        if container.state != ContainerState::Created {
            return Err(Error::State(format!("container {id} was started already")));
        }
        container.state = ContainerState::Running { pid, started_at: layout::now() };
        let sandbox = state.homes[id].clone();
        drop(state);
        self.announce(Event::ContainerStarted { sandbox, id: id.to_owned(), pid });
        Ok(pid)
    }

    async fn signal_container(&self, id: &str, signal: i32) -> Result<(), Error> {
        match signal {
            SIGTERM => self.end(id, 0, None),
            SIGKILL => self.end(id, 128 + SIGKILL, Some(SIGKILL)),
            _ => self.state().container(id).map(drop),
        }
    }

    async fn remove_container(&self, id: &str) -> Result<(), Error> {
        let mut state = self.state();
        match state.container(id) {
            Err(_) => return Ok(()),
            Ok(c) if matches!(c.state, ContainerState::Running { .. }) => {
                return Err(Error::State(format!("container {id} is running")));
            }
            Ok(_) => {}
        }
        if let Some(home) = state.homes.remove(id)
            && let Some(sandbox) = state.sandboxes.get_mut(&home)
        {
            sandbox.containers.retain(|c| c.id != id);
        }
        Ok(())
    }

    async fn update_resources(&self, id: &str, resources: &Resources) -> Result<(), Error> {
        self.state().container(id)?.config.resources.merge(resources);
        Ok(())
    }

    async fn stop_sandbox(&self, id: &str) -> Result<(), Error> {
        let running = match self.state().sandboxes.get(id) {
            None => return Ok(()),
            Some(s) if s.running.is_none() => return Ok(()),
            Some(s) => s.containers.iter().map(|c| c.id.clone()).collect::<Vec<_>>(),
        };
        for container in running {
            self.end(&container, 128 + SIGKILL, Some(SIGKILL))?;
        }
        if let Some(sandbox) = self.state().sandboxes.get_mut(id) {
            sandbox.running = None;
        }
        self.announce(Event::SandboxGone { sandbox: id.to_owned() });
        Ok(())
    }

    async fn remove_sandbox(&self, id: &str) -> Result<(), Error> {
        let mut state = self.state();
        if state.sandboxes.get(id).is_some_and(|s| s.running.is_some()) {
            return Err(Error::State(format!("sandbox {id} is running")));
        }
        state.sandboxes.remove(id);
        state.homes.retain(|_, home| home != id);
        Ok(())
    }

    async fn list(&self) -> Result<Vec<SandboxStatus>, Error> {
        Ok(self.state().sandboxes.values().cloned().collect())
    }

    fn events(&self) -> broadcast::Receiver<Event> {
        self.shared.events.subscribe()
    }

    async fn exec(&self, id: &str, _: &ExecConfig) -> Result<ExecSession, Error> {
        self.state().container(id)?;
        impossible("exec")
    }

    /// Succeeds, so that exec probes do.
    async fn exec_sync(
        &self,
        id: &str,
        _: &[String],
        _: Option<Duration>,
    ) -> Result<ExecOutput, Error> {
        self.state().container(id)?;
        Ok(ExecOutput { code: 0, stdout: Vec::new(), stderr: Vec::new() })
    }

    async fn attach(&self, id: &str, _: &AttachConfig) -> Result<AttachSession, Error> {
        self.state().container(id)?;
        impossible("attach")
    }

    async fn stats(&self, id: &str) -> Result<ContainerStats, Error> {
        self.state().container(id)?;
        Ok(ContainerStats { at: layout::now(), ..ContainerStats::default() })
    }

    async fn writable(&self, id: &str) -> Result<DiskUsage, Error> {
        self.state().container(id)?;
        Ok(DiskUsage::default())
    }

    async fn reclaim(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn sandbox_stats(&self, id: &str) -> Result<ContainerStats, Error> {
        let known = self.state().sandboxes.contains_key(id);
        if !known {
            return Err(Error::sandbox(id));
        }
        Ok(ContainerStats { at: layout::now(), ..ContainerStats::default() })
    }

    async fn rotate_log(&self, id: &str) -> Result<(), Error> {
        self.state().container(id).map(drop)
    }

    async fn update_sandbox_resources(&self, id: &str, resources: &Resources) -> Result<(), Error> {
        let mut state = self.state();
        let sandbox = state.sandboxes.get_mut(id).ok_or_else(|| Error::sandbox(id))?;
        sandbox.config.resources.get_or_insert_default().merge(resources);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_container_lives_and_dies() {
        let hollow = Hollow::new();
        let mut events = hollow.events();
        let sandbox = hollow.run_sandbox(&SandboxConfig::default()).await.unwrap();
        let config = ContainerConfig::default();
        let id = hollow.create_container(&sandbox.id, &config).await.unwrap();
        hollow.start_container(&id).await.unwrap();
        assert!(hollow.start_container(&id).await.is_err());
        assert!(hollow.remove_container(&id).await.is_err());
        hollow.exit_container(&id, 3).unwrap();
        assert!(matches!(events.recv().await, Ok(Event::ContainerStarted { .. })));
        let exited = events.recv().await;
        assert!(matches!(exited, Ok(Event::ContainerExited { exit, .. }) if exit.code == 3));
        hollow.remove_container(&id).await.unwrap();
        hollow.stop_sandbox(&sandbox.id).await.unwrap();
        hollow.remove_sandbox(&sandbox.id).await.unwrap();
        assert!(hollow.list().await.unwrap().is_empty());
    }
}
