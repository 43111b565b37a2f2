//! The node API's view of this node: finds containers, logs and namespaces, and asks the API server
//! who callers are and what they may.
mod configz;
mod metrics;
mod summary;

use crate::manager::PodTable;
use crate::shared::Shared;
use crate::stats::Depth;
use crate::worker::{self, PodPaths};
use api::k8s::api::core::v1::{ContainerStatus, Pod};
use async_trait::async_trait;
use bytes::Bytes;
use client::Resource;
use http::StatusCode;
use nodeapi::{Caller, LogTarget, Named, Node, Refusal};
use podlife::PodExt;
use runtime::{ContainerState, Event, Runtime, SandboxStatus};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
pub use summary::Summaries;
use tokio::sync::watch;

/// A client attaches to what its last look showed running. `kubectl run -i` has shown the log
/// before, and would show the log's last second once more if it were refused.
const JUST_ENDED_NANOS: i64 = 5_000_000_000;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; version=0.0.4";

/// See the module.
pub struct NodeView {
    pub shared: Arc<Shared>,
    pub pods: PodTable,
    pub summaries: Summaries,
}

impl NodeView {
    fn pod(&self, named: &Named) -> Result<Arc<Pod>, Refusal> {
        let found = self.pods.find(&named.namespace, &named.pod);
        let found = found.filter(|pod| named.uid.as_ref().is_none_or(|uid| uid == pod.uid()));
        found.ok_or_else(|| {
            Refusal::not_found(format!(
                "pod {:?} not found",
                format!("{}_{}", named.pod, named.namespace)
            ))
        })
    }

    async fn sandboxes(&self, pod: &Pod) -> Result<Vec<SandboxStatus>, Refusal> {
        let all = self.shared.runtime.list().await;
        let all = all.map_err(|error| Refusal::internal(error.to_string()))?;
        let mut own: Vec<SandboxStatus> =
            all.into_iter().filter(|status| status.config.uid == pod.uid()).collect();
        own.sort_by_key(|status| status.config.attempt);
        Ok(own)
    }
}

fn status_of(pod: &Pod, name: &str) -> Option<ContainerStatus> {
    let status = pod.status.as_ref()?;
    let lists = [
        &status.container_statuses,
        &status.init_container_statuses,
        &status.ephemeral_container_statuses,
    ];
    lists.into_iter().flatten().flatten().find(|status| status.name == name).cloned()
}

#[async_trait]
impl Node for NodeView {
    async fn running(&self, named: &Named) -> Result<String, Refusal> {
        let pod = self.pod(named)?;
        for sandbox in self.sandboxes(&pod).await?.iter().rev() {
            let mut containers = sandbox.containers.iter();
            let found = containers.find(|container| {
                container.config.name == named.container
                    && matches!(container.state, ContainerState::Running { .. })
            });
            if let Some(found) = found {
                return Ok(found.id.clone());
            }
        }
        let name = &named.container;
        Err(match podlife::pods::find(&pod, name) {
            Some(_) => Refusal::internal(format!("container not found ({name:?})")),
            None => Refusal::not_found(format!("container not found ({name:?})")),
        })
    }

    async fn attachable(&self, named: &Named) -> Result<Option<String>, Refusal> {
        match self.running(named).await {
            Ok(id) => Ok(Some(id)),
            Err(refusal) => {
                let sandboxes = self.sandboxes(&*self.pod(named)?).await?;
                let mut all = sandboxes.iter().flat_map(|sandbox| &sandbox.containers);
                let since = worker::nanos(jiff::Timestamp::now()) - JUST_ENDED_NANOS;
                let ended = all.any(|container| {
                    container.config.name == named.container
                        && matches!(&container.state, ContainerState::Exited(exit)
                            if exit.finished_at >= since)
                });
                if ended { Ok(None) } else { Err(refusal) }
            }
        }
    }

    async fn log(&self, named: &Named, previous: bool) -> Result<LogTarget, Refusal> {
        let pod = self.pod(named)?;
        let name = &named.container;
        let waiting = |pod: &Pod| {
            let status = status_of(pod, name).and_then(|status| status.state?.waiting);
            status.and_then(|waiting| waiting.reason).unwrap_or_else(|| "ContainerCreating".into())
        };
        if podlife::pods::find(&pod, name).is_none() {
            let text = format!("container {name} is not valid for pod {}", pod.name());
            return Err(Refusal::bad_request(text));
        }
        let mut events = self.shared.runtime.events();
        let sandboxes = self.sandboxes(&pod).await?;
        let mut runs: Vec<_> = sandboxes
            .iter()
            .flat_map(|sandbox| &sandbox.containers)
            .filter(|c| c.config.name == *name && c.state != ContainerState::Created)
            .collect();
        runs.sort_by_key(|container| container.config.attempt);
        let newest = runs.pop();
        let ended = |state: &ContainerState| matches!(state, ContainerState::Exited(_));
        let wanted = if previous { runs.pop() } else { newest };
        let Some(wanted) = wanted else {
            let text = match previous {
                true => format!(
                    "previous terminated container {name:?} in pod {:?} not found",
                    pod.name()
                ),
                false => format!(
                    "container {name:?} in pod {:?} is waiting to start: {}",
                    pod.name(),
                    waiting(&pod)
                ),
            };
            return Err(Refusal::bad_request(text));
        };
        let paths = PodPaths::new(&self.shared.config, &pod);
        let file = wanted
            .config
            .log_path
            .clone()
            .unwrap_or_else(|| paths.log(name, wanted.config.attempt));
        let (done, receiver) = watch::channel(ended(&wanted.state));
        if !*receiver.borrow() {
            let wanted = wanted.id.clone();
            tokio::spawn(async move {
                // Ends with the request too: the sender sees that nobody listens any more.
                loop {
                    tokio::select! {
                        event = events.recv() => match event {
                            Ok(Event::ContainerExited { id, .. }) if id == wanted => break,
                            Ok(_) => {}
                            Err(_) => break,
                        },
                        () = done.closed() => return,
                    }
                }
                done.send_replace(true);
            });
        }
        Ok(LogTarget { file, ended: receiver })
    }

    async fn netns(&self, named: &Named) -> Result<Option<PathBuf>, Refusal> {
        let pod = self.pod(named)?;
        let sandboxes = self.sandboxes(&pod).await?;
        let running = sandboxes.into_iter().rev().find_map(|sandbox| sandbox.running);
        let running = running.ok_or_else(|| {
            let text =
                format!("pod {:?} is not running", format!("{}_{}", named.pod, named.namespace));
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, text)
        })?;
        Ok(running.netns)
    }

    async fn document(
        &self,
        path: &str,
        query: &[(String, String)],
    ) -> Option<(&'static str, Bytes)> {
        match path {
            "/pods" | "/pods/" | "/runningpods" | "/runningpods/" => {
                let pods: Vec<Arc<Pod>> = self.pods.all();
                let items: Vec<Value> =
                    pods.iter().filter_map(|pod| serde_json::to_value(&**pod).ok()).collect();
                let list =
                    json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items});
                Some((JSON, list.to_string().into()))
            }
            "/stats/summary" => {
                let only = |(name, value): &(String, String)| {
                    name == "only_cpu_and_memory" && matches!(value.as_str(), "true" | "1")
                };
                let depth = if query.iter().any(only) { Depth::Cgroups } else { Depth::Disk };
                let summary = self.summaries.summary(&self.shared, depth).await;
                Some((JSON, summary.to_string().into()))
            }
            "/metrics/resource" => Some((TEXT, metrics::resource(&self.shared).await.into())),
            "/metrics" => Some((TEXT, metrics::own(&self.shared).into())),
            "/configz" => Some((JSON, configz::configz(&self.shared.config).to_string().into())),
            _ => None,
        }
    }

    async fn authenticate(&self, token: &str) -> Option<Caller> {
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {},
            "spec": {"token": token},
        });
        let resource = Resource::fixed("authentication.k8s.io", "v1", "tokenreviews");
        let answer = self.shared.client.create_value(&resource, None, &review).await.ok()?;
        let status = &answer["status"];
        if status["authenticated"] != true {
            return None;
        }
        let groups = status["user"]["groups"].as_array().cloned().unwrap_or_default();
        Some(Caller {
            user: status["user"]["username"].as_str()?.to_owned(),
            groups: groups.iter().filter_map(|g| g.as_str().map(str::to_owned)).collect(),
        })
    }

    async fn authorize(&self, caller: &Caller, verb: &str, subresource: &str) -> bool {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "metadata": {},
            "spec": {
                "user": caller.user, "groups": caller.groups,
                "resourceAttributes": {
                    "verb": verb, "resource": "nodes", "subresource": subresource,
                    "version": "v1", "name": self.shared.config.node_name,
                },
            },
        });
        let resource = Resource::fixed("authorization.k8s.io", "v1", "subjectaccessreviews");
        let answer = self.shared.client.create_value(&resource, None, &review).await;
        answer.is_ok_and(|answer| answer["status"]["allowed"] == true)
    }

    fn runtime(&self) -> Arc<dyn Runtime> {
        self.shared.runtime.clone()
    }
}
