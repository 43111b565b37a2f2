//! What all pods of the node share.
use crate::config::AgentConfig;
use crate::events::Events;
use crate::hosts::Resolver;
use crate::pull::Puller;
use crate::seams::PodNetwork;
use api::k8s::api::core::v1::Service;
use client::Client;
use podlife::NodeFacts;
use runtime::Runtime;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc::UnboundedSender;
use volume::ObjectRef;

use crate::worker::Msg;

/// The handles that every pod's worker uses.
pub struct Shared {
    pub config: AgentConfig,
    pub client: Client,
    pub runtime: Arc<dyn Runtime>,
    pub puller: Puller,
    pub network: Arc<dyn PodNetwork>,
    pub volumes: volume::Context,
    pub follow: Arc<dyn Follow>,
    pub services: Arc<dyn ServiceList>,
    pub events: Events,
    pub node: NodeFacts,
    pub resolver: Resolver,
    pub memory_bytes: i64,
    pub routes: Routes,
}

/// Follows the objects that pods refer to, and tells their workers of changes.
pub trait Follow: Send + Sync {
    fn follow(
        &self,
        pod_uid: &str,
        namespace: &str,
        wanted: &BTreeSet<ObjectRef>,
        changed: UnboundedSender<Msg>,
    );
    fn forget(&self, pod_uid: &str);
}

/// The Services that a pod's variables tell of.
pub trait ServiceList: Send + Sync {
    /// Of the namespace, and the API server's own.
    fn visible_to(&self, namespace: &str) -> Vec<Arc<Service>>;
}

/// Which worker the runtime's events about a sandbox go to.
#[derive(Default)]
pub struct Routes(Mutex<HashMap<String, UnboundedSender<Msg>>>);

impl Routes {
    fn map(&self) -> MutexGuard<'_, HashMap<String, UnboundedSender<Msg>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
    pub fn add(&self, sandbox: &str, worker: UnboundedSender<Msg>) {
        self.map().insert(sandbox.to_owned(), worker);
    }
    pub fn remove(&self, sandbox: &str) {
        self.map().remove(sandbox);
    }
    pub fn send(&self, sandbox: &str, msg: Msg) {
        if let Some(worker) = self.map().get(sandbox) {
            // A worker that has ended does not want it any more.
            let _ = worker.send(msg);
        }
    }
    /// Tells every worker, with the sandbox it belongs to.
    pub fn all(&self) -> Vec<(String, UnboundedSender<Msg>)> {
        self.map().iter().map(|(id, worker)| (id.clone(), worker.clone())).collect()
    }
}
