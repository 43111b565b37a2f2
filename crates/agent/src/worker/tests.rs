//! Workers and the manager with the hollow runtime and an API server that only keeps pods.
mod eviction;

use super::*;
use crate::config::AgentConfig;
use crate::events::Events;
use crate::hosts::Resolver;
use crate::manager::{self, Change, Own, PodTable};
use crate::node::Health;
use crate::pull::Puller;
use crate::seams::{Images, PodNetwork, PodPort, PullError, Pulled};
use crate::shared::{Follow, Routes, ServiceList};
use api::k8s::api::core::v1::{ConfigMap, Node, Secret, Service};
use async_trait::async_trait;
use bytes::Bytes;
use client::{Body, BoxError, BoxFuture, Client, Transport};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use jiff::Timestamp;
use podlife::NodeFacts;
use runtime::hollow::Hollow;
use runtime::{ContainerState, Runtime};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;

/// Pods by path, and everybody who wants to know.
#[derive(Default)]
struct Server {
    pods: Mutex<BTreeMap<String, Value>>,
    changes: Mutex<Option<mpsc::UnboundedSender<Change>>>,
    writes: Mutex<usize>,
    changed: tokio::sync::Notify,
}

impl Server {
    fn tell(&self, change: Change) {
        if let Some(changes) = &*self.changes.lock().unwrap() {
            let _ = changes.send(change);
        }
        self.changed.notify_waiters();
    }

    fn put(&self, name: &str, mut pod: Value) {
        let mut pods = self.pods.lock().unwrap();
        let old = pods.get(name).map_or(0, |pod| {
            pod["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap()
        });
        pod["metadata"]["resourceVersion"] = json!((old + 1).to_string());
        pods.insert(name.to_owned(), pod.clone());
        drop(pods);
        self.tell(Change::Pod(serde_json::from_value(pod).unwrap()));
    }

    fn get(&self, name: &str) -> Option<Value> {
        self.pods.lock().unwrap().get(name).cloned()
    }

    fn answer(&self, request: &Request<Bytes>) -> (u16, Value) {
        let path = request.uri().path().to_owned();
        let name = path.split('/').nth(6).unwrap_or_default().to_owned();
        let body: Value = serde_json::from_slice(request.body()).unwrap_or(Value::Null);
        let Some(mut pod) = self.get(&name) else {
            return (404, json!({"kind": "Status", "reason": "NotFound", "code": 404}));
        };
        *self.writes.lock().unwrap() += 1;
        match *request.method() {
            Method::PATCH => {
                merge(&mut pod["status"], &body["status"]);
                self.put(&name, pod);
                (200, self.get(&name).unwrap())
            }
            Method::DELETE => {
                assert_eq!(body["gracePeriodSeconds"], 0);
                assert_eq!(body["preconditions"]["uid"], pod["metadata"]["uid"]);
                self.pods.lock().unwrap().remove(&name);
                self.tell(Change::Gone(serde_json::from_value(pod.clone()).unwrap()));
                (200, pod)
            }
            _ => (405, Value::Null),
        }
    }
}

/// As much of a strategic merge as the agent's patches need.
fn merge(into: &mut Value, patch: &Value) {
    if !into.is_object() {
        *into = json!({});
    }
    for (key, value) in patch.as_object().into_iter().flatten() {
        match (key.as_str(), value) {
            (_, Value::Null) => {
                into.as_object_mut().unwrap().remove(key);
            }
            ("conditions", Value::Array(items)) => {
                if !into[key].is_array() {
                    into[key] = json!([]);
                }
                let list = into[key].as_array_mut().unwrap();
                for item in items {
                    let known = list.iter().position(|old| old["type"] == item["type"]);
                    let at = known.unwrap_or_else(|| {
                        list.push(json!({}));
                        list.len() - 1
                    });
                    merge(&mut list[at], item);
                }
            }
            _ => into[key] = value.clone(),
        }
    }
}

struct Wire(Arc<Server>);

impl Transport for Wire {
    fn call(&self, request: Request<Bytes>) -> BoxFuture<'_, Result<Response<Body>, BoxError>> {
        Box::pin(async move {
            let (status, answer) = self.0.answer(&request);
            let body = Full::new(Bytes::from(answer.to_string()));
            let body = body.map_err(|never| match never {}).boxed_unsync();
            Ok(Response::builder().status(status).body(body)?)
        })
    }
}

struct Nothing;

#[async_trait]
impl volume::Objects for Nothing {
    async fn config_map(&self, _: &str, name: &str) -> Result<Option<Arc<ConfigMap>>, String> {
        let data = json!({"metadata": {}, "data": {"k": "v"}});
        Ok((name == "m").then(|| Arc::new(serde_json::from_value(data).unwrap())))
    }
    async fn secret(&self, _: &str, _: &str) -> Result<Option<Arc<Secret>>, String> {
        Ok(None)
    }
    async fn certificate(
        &self,
        _: &api::k8s::api::core::v1::Pod,
        _: &str,
        source: &api::k8s::api::core::v1::PodCertificateProjection,
    ) -> Result<volume::Certificate, String> {
        let chain = format!("chain of {}\n", source.signer_name);
        Ok(volume::Certificate { key: "key\n".into(), chain, refresh_at: Timestamp::MAX })
    }
    async fn trust_bundles(
        &self,
        _: &volume::ObjectRef,
    ) -> Result<Vec<api::k8s::api::certificates::v1::ClusterTrustBundle>, String> {
        Ok(Vec::new())
    }
    async fn token(&self, _: &volume::TokenFor) -> Result<volume::Token, String> {
        Err("no tokens here".into())
    }
}

impl Follow for Nothing {
    fn follow(&self, _: &str, _: &str, _: &BTreeSet<volume::ObjectRef>, _: UnboundedSender<Msg>) {}
    fn forget(&self, _: &str) {}
}

impl ServiceList for Nothing {
    fn visible_to(&self, _: &str) -> Vec<Arc<Service>> {
        Vec::new()
    }
}

#[async_trait]
impl Images for Nothing {
    async fn find(&self, reference: &str) -> Result<Option<Arc<Image>>, PullError> {
        let image = Image { id: "sha256:1".into(), cmd: vec!["run".into()], ..Image::default() };
        Ok((reference == "img").then(|| Arc::new(image)))
    }
    async fn pull(&self, _: &str, _: &[Vec<u8>]) -> Result<Pulled, PullError> {
        Err(PullError::Failed("no such image".into()))
    }
    async fn list(&self) -> Vec<Arc<Image>> {
        Vec::new()
    }
    async fn mark_used(&self, _: Vec<PathBuf>) -> Result<(), String> {
        Ok(())
    }
    async fn free(&self, _: i64) -> Result<i64, String> {
        Ok(0)
    }
}

#[async_trait]
impl PodNetwork for Nothing {
    async fn attach(&self, _: &str, _: &Path, _: Vec<PodPort>) -> Result<Vec<String>, String> {
        Ok(vec!["10.0.0.9".into()])
    }
    async fn detach(&self, _: &str) -> Result<(), String> {
        Ok(())
    }
    fn addresses(&self, _: &str) -> Vec<String> {
        vec!["10.0.0.9".into()]
    }
    async fn keep_only(&self, _: BTreeSet<String>) -> Result<(), String> {
        Ok(())
    }
}

struct Lab {
    server: Arc<Server>,
    shared: Arc<Shared>,
    hollow: Hollow,
    agent: tokio::task::JoinHandle<Result<(), runtime::Error>>,
    root: Arc<tempfile::TempDir>,
    table: PodTable,
    health: watch::Sender<Health>,
    own: Own,
}

pub(crate) fn config(root: &Path) -> AgentConfig {
    AgentConfig {
        node_name: "n1".into(),
        server: String::new(),
        ca_pem: String::new(),
        bootstrap_token: None,
        root: root.to_owned(),
        images_dir: root.join("images"),
        node_ip: [192, 0, 2, 1].into(),
        port: 10250,
        cluster_id: "t".into(),
        cluster_cidr: "10.244.0.0/16".parse().unwrap(),
        service_cidr: "10.96.0.0/16".parse().unwrap(),
        cluster_dns: [10, 96, 0, 10].into(),
        cluster_domain: "cluster.local".into(),
        mtu: 1500,
        labels: BTreeMap::new(),
        taints: Vec::new(),
        max_pods: 110,
        static_pods: None,
        eviction_hard: podlife::eviction::parse(podlife::eviction::DEFAULT_HARD).unwrap(),
        shim: "/nowhere".into(),
        cgroup: "/t".into(),
    }
}

fn lab() -> Lab {
    let root = Arc::new(tempfile::tempdir().unwrap());
    begin(Arc::default(), Hollow::new(), root)
}

/// Starts an agent, maybe where an earlier one was.
fn begin(server: Arc<Server>, hollow: Hollow, root: Arc<tempfile::TempDir>) -> Lab {
    let config = config(root.path());
    let nothing = Arc::new(Nothing);
    let events = Events::new(None);
    let puller =
        Puller { images: nothing.clone(), objects: nothing.clone(), events: events.clone() };
    let shared = Arc::new(Shared {
        client: Client::new(Arc::new(Wire(server.clone()))),
        runtime: Arc::new(hollow.clone()),
        puller: puller.clone(),
        network: nothing.clone(),
        volumes: volume::Context {
            pods_dir: config.pods_dir(),
            memory_dir: config.memory_dir(),
            objects: nothing.clone(),
            images: Arc::new(puller),
            allocatable: Arc::default(),
            host_ips: vec!["192.0.2.1".into()],
        },
        follow: nothing.clone(),
        services: nothing,
        events,
        node: NodeFacts { host_ips: vec!["192.0.2.1".into()], runtime: "kybern".into() },
        resolver: Resolver::default(),
        memory_bytes: 8 << 30,
        routes: Routes::default(),
        config,
    });
    let node: Node = serde_json::from_value(json!({
        "metadata": {"name": "n1"}, "status": {"allocatable": {"cpu": "2", "pods": "110"}},
    }))
    .unwrap();
    let (changes, receiver) = mpsc::unbounded_channel();
    let pods: Vec<Pod> = server
        .pods
        .lock()
        .unwrap()
        .values()
        .map(|pod| serde_json::from_value(pod.clone()).unwrap())
        .collect();
    changes.send(Change::All(pods)).ok();
    *server.changes.lock().unwrap() = Some(changes);
    let (_, node) = watch::channel(Arc::new(node));
    let (health, healthy) = watch::channel(Health::starting());
    let own = Own { node, health: healthy };
    let table = PodTable::default();
    let agent = tokio::spawn(manager::serve(shared.clone(), receiver, own.clone(), table.clone()));
    Lab { server, shared, hollow, agent, root, table, health, own }
}

fn pod(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "ns", "uid": format!("uid-{name}")},
        "spec": spec, "status": {"phase": "Pending"},
    })
}

fn simple() -> Value {
    json!({"nodeName": "n1", "containers": [{"name": "a", "image": "img"}]})
}

impl Lab {
    /// Waits for the pod to satisfy `what`.
    async fn until(&self, name: &str, what: impl Fn(Option<&Value>) -> bool) -> Option<Value> {
        let wait = async {
            loop {
                let changed = self.server.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                let pod = self.server.get(name);
                if what(pod.as_ref()) {
                    return pod;
                }
                changed.await;
            }
        };
        match tokio::time::timeout(Duration::from_secs(20), wait).await {
            Ok(pod) => pod,
            Err(_) => panic!("{name} stays {:#?}", self.server.get(name)),
        }
    }

    async fn phase(&self, name: &str, phase: &str) -> Value {
        self.until(name, |pod| pod.is_some_and(|pod| pod["status"]["phase"] == phase))
            .await
            .unwrap()
    }

    async fn running(&self) -> Vec<String> {
        let all = self.hollow.list().await.unwrap();
        let containers = all.into_iter().flat_map(|sandbox| sandbox.containers);
        let running =
            containers.filter(|c| matches!(c.state, ContainerState::Running { .. })).map(|c| c.id);
        running.collect()
    }

    fn delete(&self, name: &str, grace: i64) {
        let mut pod = self.server.get(name).unwrap();
        let at = Timestamp::now() + SignedDuration::from_secs(grace);
        pod["metadata"]["deletionTimestamp"] = json!(at.to_string());
        pod["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
        self.server.put(name, pod);
    }

    fn events(&self) -> Vec<String> {
        self.shared.events.seen.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn a_pod_runs_and_is_removed() {
    let lab = lab();
    let mut spec = simple();
    spec["volumes"] = json!([{"name": "v", "configMap": {"name": "m"}}]);
    spec["containers"][0]["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
    lab.server.put("p", pod("p", spec));
    let running = lab.phase("p", "Running").await;
    let status = &running["status"];
    assert_eq!(status["containerStatuses"][0]["ready"], true);
    assert_eq!(status["containerStatuses"][0]["imageID"], "sha256:1");
    assert!(*lab.server.writes.lock().unwrap() <= 2, "few writes");
    let dir = lab.root.path().join("pods/uid-p");
    let hosts = std::fs::read_to_string(dir.join("etc-hosts")).unwrap();
    assert!(hosts.contains("localhost"));
    let listed = lab.hollow.list().await.unwrap();
    let container = &listed[0].containers[0].config;
    assert!(container.mounts.iter().any(|mount| mount.destination == "/v" && mount.readonly));
    assert!(container.mounts.iter().any(|mount| mount.destination == "/etc/resolv.conf"));
    assert_eq!(container.args, ["run"]);
    lab.delete("p", 30);
    lab.until("p", |pod| pod.is_none()).await;
    assert!(lab.running().await.is_empty());
    assert!(!dir.exists(), "the pod's folder is gone");
    assert!(lab.hollow.list().await.unwrap().is_empty());
    let want = [
        "Pulled Container image \"img\" already present on machine and can be accessed by the pod",
        "Created Container created",
        "Started Container started",
        "Killing Stopping container a",
    ];
    assert_eq!(lab.events(), want);
}

#[tokio::test]
async fn a_finished_pod_succeeds() {
    let lab = lab();
    let mut spec = simple();
    spec["restartPolicy"] = json!("Never");
    lab.server.put("p", pod("p", spec));
    lab.phase("p", "Running").await;
    lab.hollow.exit_container(&lab.running().await[0], 0).unwrap();
    let done = lab.phase("p", "Succeeded").await;
    let state = &done["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(state["reason"], "Completed");
}

#[tokio::test]
async fn a_crashing_container_restarts_and_backs_off() {
    let lab = lab();
    lab.server.put("p", pod("p", simple()));
    lab.phase("p", "Running").await;
    lab.hollow.exit_container(&lab.running().await[0], 1).unwrap();
    let restarted = |pod: Option<&Value>| {
        let status = &pod.unwrap()["status"]["containerStatuses"][0];
        status["restartCount"] == 1 && status["state"]["running"].is_object()
    };
    lab.until("p", restarted).await;
    lab.hollow.exit_container(&lab.running().await[0], 1).unwrap();
    let waiting = lab
        .until("p", |pod| {
            let status = &pod.unwrap()["status"]["containerStatuses"][0];
            status["state"]["waiting"]["reason"] == "CrashLoopBackOff"
        })
        .await
        .unwrap();
    assert_eq!(
        waiting["status"]["containerStatuses"][0]["state"]["waiting"]["message"],
        "back-off 10s restarting failed container=a pod=p_ns(uid-p)"
    );
    assert_eq!(waiting["status"]["phase"], "Running");
}

#[tokio::test]
async fn a_new_agent_takes_over() {
    let lab = lab();
    lab.server.put("p", pod("p", simple()));
    lab.server.put("gone", pod("gone", simple()));
    lab.phase("p", "Running").await;
    lab.phase("gone", "Running").await;
    let before = lab.running().await;
    lab.agent.abort();
    // While no agent looks: one pod disappears, the other's container stays.
    lab.server.pods.lock().unwrap().remove("gone");
    *lab.server.changes.lock().unwrap() = None;
    let all = lab.hollow.list().await.unwrap();
    let kept = all.iter().find(|s| s.config.name == "p").unwrap().containers[0].id.clone();
    assert!(before.contains(&kept));
    let next = begin(lab.server.clone(), lab.hollow.clone(), lab.root.clone());
    next.hollow.exit_container(&kept, 1).unwrap();
    let restarted =
        |pod: Option<&Value>| pod.unwrap()["status"]["containerStatuses"][0]["restartCount"] == 1;
    next.until("p", restarted).await;
    let alone = async {
        // The unknown pod's sandbox is ended beside this; its end is an event.
        let mut events = next.hollow.events();
        while next.hollow.list().await.unwrap().len() > 1 {
            let _ = events.recv().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), alone).await.unwrap();
}

#[tokio::test]
async fn a_pod_that_does_not_fit_is_rejected() {
    let lab = lab();
    let mut spec = simple();
    spec["containers"][0]["resources"] = json!({"requests": {"cpu": "3"}});
    lab.server.put("p", pod("p", spec));
    let failed = lab.phase("p", "Failed").await;
    assert_eq!(failed["status"]["reason"], "OutOfcpu");
    assert!(lab.running().await.is_empty());
}

#[tokio::test]
async fn a_missing_image_is_told() {
    let lab = lab();
    let mut spec = simple();
    spec["containers"][0]["image"] = json!("other");
    lab.server.put("p", pod("p", spec));
    let waiting = |reason: &'static str| {
        move |pod: Option<&Value>| {
            let status = &pod.unwrap()["status"]["containerStatuses"][0];
            status["state"]["waiting"]["reason"] == reason
        }
    };
    lab.until("p", waiting("ErrImagePull")).await;
    lab.until("p", waiting("ImagePullBackOff")).await;
    assert!(
        lab.events()
            .iter()
            .any(|event| { event == "Failed Failed to pull image \"other\": no such image" })
    );
    lab.delete("p", 0);
    lab.until("p", |pod| pod.is_none()).await;
}

#[tokio::test]
async fn a_missing_variable_source_is_a_configuration_error() {
    let lab = lab();
    let mut spec = simple();
    spec["containers"][0]["envFrom"] = json!([{"configMapRef": {"name": "no"}}]);
    lab.server.put("p", pod("p", spec));
    let pod = lab
        .until("p", |pod| {
            let status = &pod.unwrap()["status"]["containerStatuses"][0];
            status["state"]["waiting"]["reason"] == "CreateContainerConfigError"
        })
        .await
        .unwrap();
    let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
    assert_eq!(waiting["message"], "configmap \"no\" not found");
}

#[tokio::test]
async fn a_force_deleted_pod_leaves_nothing() {
    let lab = lab();
    lab.server.put("p", pod("p", simple()));
    let mut last = lab.phase("p", "Running").await;
    lab.server.pods.lock().unwrap().remove("p");
    last["metadata"]["deletionGracePeriodSeconds"] = json!(0);
    let mut events = lab.hollow.events();
    lab.server.tell(Change::Gone(serde_json::from_value(last).unwrap()));
    let empty = async {
        while !lab.hollow.list().await.unwrap().is_empty() {
            let _ = tokio::time::timeout(Duration::from_millis(50), events.recv()).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), empty).await.unwrap();
}

#[tokio::test]
async fn a_hundred_pods_at_once() {
    let lab = lab();
    for n in 0..100 {
        lab.server.put(&format!("p{n}"), pod(&format!("p{n}"), simple()));
    }
    for n in 0..100 {
        lab.phase(&format!("p{n}"), "Running").await;
    }
    assert_eq!(lab.running().await.len(), 100);
}
