//! The node API's view of this node: finds containers, logs and namespaces, and asks the API server
//! who callers are and what they may.
use crate::manager::PodTable;
use crate::shared::Shared;
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
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;

/// A client attaches to what its last look showed running. `kubectl run -i` has shown the log
/// before, and would show the log's last second once more if it were refused.
const JUST_ENDED_NANOS: i64 = 5_000_000_000;

/// See the module.
pub struct NodeView {
    pub shared: Arc<Shared>,
    pub pods: PodTable,
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

    async fn document(&self, path: &str) -> Option<(&'static str, Bytes)> {
        match path {
            "/pods" | "/pods/" | "/runningpods" | "/runningpods/" => {
                let pods: Vec<Arc<Pod>> = self.pods.all();
                let items: Vec<Value> =
                    pods.iter().filter_map(|pod| serde_json::to_value(&**pod).ok()).collect();
                let list =
                    json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items});
                Some(("application/json", Bytes::from(list.to_string())))
            }
            "/stats/summary" => {
                let summary = self.summary().await;
                Some(("application/json", Bytes::from(summary.to_string())))
            }
            "/metrics/resource" => {
                Some(("text/plain; version=0.0.4", Bytes::from(self.resource_metrics().await)))
            }
            "/metrics" => {
                let text = format!(
                    "# HELP kubelet_running_pods Number of pods that have a running pod sandbox\n\
                     # TYPE kubelet_running_pods gauge\nkubelet_running_pods {}\n",
                    self.shared.routes.all().len()
                );
                Some(("text/plain; version=0.0.4", Bytes::from(text)))
            }
            "/configz" => {
                let config = &self.shared.config;
                let shown = json!({"kubeletconfig": {
                    "kind": "KubeletConfiguration",
                    "apiVersion": "kubelet.config.k8s.io/v1beta1",
                    "address": config.node_ip.to_string(),
                    "port": config.port,
                    "maxPods": config.max_pods,
                    "clusterDomain": config.cluster_domain,
                    "clusterDNS": [config.cluster_dns.to_string()],
                    "cgroupRoot": config.cgroup,
                    "nodeStatusReportFrequency": "5m0s",
                    "nodeLeaseDurationSeconds": 40,
                }});
                Some(("application/json", Bytes::from(shown.to_string())))
            }
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

/// One reading of a container's (or pod's) use.
struct Reading {
    namespace: String,
    pod: String,
    uid: String,
    /// Empty for the pod as a whole.
    container: String,
    started: i64,
    stats: runtime::ContainerStats,
}

impl NodeView {
    async fn readings(&self) -> Vec<Reading> {
        let runtime = &self.shared.runtime;
        let mut out = Vec::new();
        for sandbox in runtime.list().await.unwrap_or_default() {
            if sandbox.running.is_none() {
                continue;
            }
            let reading = |container: String, started, stats| Reading {
                namespace: sandbox.config.namespace.clone(),
                pod: sandbox.config.name.clone(),
                uid: sandbox.config.uid.clone(),
                container,
                started,
                stats,
            };
            for container in &sandbox.containers {
                let ContainerState::Running { started_at, .. } = container.state else { continue };
                if let Ok(stats) = runtime.stats(&container.id).await {
                    out.push(reading(container.config.name.clone(), started_at, stats));
                }
            }
            if let Ok(stats) = runtime.sandbox_stats(&sandbox.id).await {
                out.push(reading(String::new(), sandbox.created_at, stats));
            }
        }
        out
    }

    async fn summary(&self) -> Value {
        let readings = self.readings().await;
        let mut pods: Vec<Value> = Vec::new();
        for whole in readings.iter().filter(|reading| reading.container.is_empty()) {
            let own = readings.iter().filter(|r| r.uid == whole.uid && !r.container.is_empty());
            let containers: Vec<Value> = own
                .map(|reading| {
                    let mut shown = usage(&reading.stats);
                    shown["name"] = json!(reading.container);
                    shown["startTime"] = time(reading.started);
                    shown["rootfs"] = json!({"usedBytes": reading.stats.writable_bytes,
                        "inodesUsed": reading.stats.writable_inodes});
                    shown
                })
                .collect();
            let mut shown = usage(&whole.stats);
            shown["podRef"] =
                json!({"name": whole.pod, "namespace": whole.namespace, "uid": whole.uid});
            shown["startTime"] = time(whole.started);
            shown["containers"] = json!(containers);
            pods.push(shown);
        }
        let total = |of: fn(&runtime::ContainerStats) -> u64| -> u64 {
            let whole = readings.iter().filter(|reading| reading.container.is_empty());
            whole.map(|reading| of(&reading.stats)).sum()
        };
        json!({
            "node": {
                "nodeName": self.shared.config.node_name,
                "cpu": {"usageCoreNanoSeconds": total(|s| s.cpu_usage_ns)},
                "memory": {"usageBytes": total(|s| s.memory_usage),
                    "workingSetBytes": total(|s| s.working_set), "rssBytes": total(|s| s.rss)},
            },
            "pods": pods,
        })
    }

    async fn resource_metrics(&self) -> String {
        let readings = self.readings().await;
        let mut out = String::new();
        let mut series = |name: &str, kind: &str, pods: bool, of: &dyn Fn(&Reading) -> f64| {
            let _ = writeln!(out, "# TYPE {name} {kind}");
            for reading in readings.iter().filter(|r| r.container.is_empty() == pods) {
                let container = match pods {
                    true => String::new(),
                    false => format!("container={:?},", reading.container),
                };
                let _ = writeln!(
                    out,
                    "{name}{{{container}namespace={:?},pod={:?}}} {} {}",
                    reading.namespace,
                    reading.pod,
                    of(reading),
                    reading.stats.at / 1_000_000
                );
            }
        };
        let cpu = |reading: &Reading| reading.stats.cpu_usage_ns as f64 / 1e9;
        let memory = |reading: &Reading| reading.stats.working_set as f64;
        let start = |reading: &Reading| reading.started as f64 / 1e9;
        series("container_cpu_usage_seconds_total", "counter", false, &cpu);
        series("container_memory_working_set_bytes", "gauge", false, &memory);
        series("container_start_time_seconds", "gauge", false, &start);
        series("pod_cpu_usage_seconds_total", "counter", true, &cpu);
        series("pod_memory_working_set_bytes", "gauge", true, &memory);
        out
    }
}

fn usage(stats: &runtime::ContainerStats) -> Value {
    let at = time(stats.at);
    json!({
        "cpu": {"time": at, "usageCoreNanoSeconds": stats.cpu_usage_ns},
        "memory": {
            "time": at, "usageBytes": stats.memory_usage, "workingSetBytes": stats.working_set,
            "rssBytes": stats.rss, "pageFaults": stats.page_faults,
            "majorPageFaults": stats.major_page_faults,
        },
    })
}

fn time(nanos: i64) -> Value {
    let seconds = jiff::Timestamp::from_second(nanos / 1_000_000_000);
    seconds.map_or(Value::Null, |time| json!(time.to_string()))
}
