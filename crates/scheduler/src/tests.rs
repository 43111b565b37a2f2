//! The scheduler against an API in memory, with time that passes when nothing else does.
use super::*;
use api::Key;
use api::k8s::api::core::v1::Event;
use client::memory::Memory;
use client::{Client, DeleteParams, ListParams, Patch, Resource};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::task::JoinHandle;

struct Cluster {
    client: Client,
    scheduler: JoinHandle<()>,
    caches: Caches,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.scheduler.abort();
        self.caches.stop();
    }
}

impl Cluster {
    fn start() -> Self {
        let client = Memory::default().client();
        let caches = Caches::new(client.clone());
        let scheduler = Scheduler::new(&caches);
        caches.start();
        Self { client, scheduler: tokio::spawn(scheduler.run()), caches }
    }
    async fn node(&self, name: &str, more: Value) {
        let mut room = json!({"cpu": "4", "memory": "8Gi", "pods": "110"});
        for (key, value) in more.as_object().unwrap() {
            room[key] = value.clone();
        }
        let node = json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "spec": {}, "status": {"allocatable": room},
        });
        self.client.create_value(&Resource::of::<Node>(), None, &node).await.unwrap();
    }
    async fn pod(&self, name: &str, priority: i32, requests: Value, more: Value) {
        let mut pod = json!({
            "metadata": {"name": name, "labels": {"app": name}},
            "spec": {
                "priority": priority,
                "containers": [{"name": "c", "resources": {"requests": requests}}],
            },
        });
        for (key, value) in more.as_object().unwrap() {
            let part = if key == "finalizers" { "metadata" } else { "spec" };
            pod[part][key] = value.clone();
        }
        self.client.create_value(&Resource::of::<Pod>(), Some("ns"), &pod).await.unwrap();
        self.rest().await;
    }
    /// Lets everything come to rest; much shorter than the sweep.
    async fn rest(&self) {
        tokio::time::sleep(Duration::from_secs(20)).await;
    }
    async fn get(&self, name: &str) -> Value {
        self.client.get_value(&Resource::of::<Pod>(), &Key::new("ns", name)).await.unwrap()
    }
    async fn node_of(&self, name: &str) -> Value {
        self.get(name).await["spec"]["nodeName"].clone()
    }
    /// A pod that was held by a finalizer goes.
    async fn let_go(&self, name: &str) {
        let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        let (resource, key) = (Resource::of::<Pod>(), Key::new("ns", name));
        self.client.patch_value(&resource, &key, &patch, None).await.unwrap();
        self.rest().await;
    }
    async fn delete(&self, name: &str) {
        let params = DeleteParams::default();
        self.client.delete::<Pod>(&Key::new("ns", name), &params).await.unwrap();
        self.rest().await;
    }
    /// `reason: message` of each, and how often it was told.
    async fn events(&self, name: &str) -> Vec<(String, i32)> {
        let all = self.client.list::<Event>(Some("ns"), &ListParams::default()).await.unwrap();
        let about =
            all.items.into_iter().filter(|e| e.involved_object.name.as_deref() == Some(name));
        let told = about.map(|event| {
            let text = |text: Option<String>| text.unwrap_or_default();
            let times = event.series.and_then(|series| series.count).unwrap_or(1);
            (format!("{}: {}", text(event.reason), text(event.message)), times)
        });
        told.collect()
    }
}

fn held() -> Value {
    json!({"finalizers": ["example.org/hold"]})
}

#[tokio::test(start_paused = true)]
async fn room_that_was_made_is_kept_for_the_pod_that_it_was_made_for() {
    let cluster = Cluster::start();
    cluster.node("n", json!({})).await;
    cluster.pod("low-a", 0, json!({"cpu": "2"}), held()).await;
    cluster.pod("low-b", 0, json!({"cpu": "2"}), held()).await;
    cluster.pod("high", 10, json!({"cpu": "4"}), json!({})).await;
    let high = cluster.get("high").await;
    assert_eq!(high["status"]["nominatedNodeName"], "n");
    assert_eq!(high["status"]["conditions"][0]["reason"], "Unschedulable");
    let low = cluster.get("low-a").await;
    assert_eq!(low["status"]["conditions"][0]["reason"], "PreemptionByScheduler");
    let uid = high["metadata"]["uid"].as_str().unwrap();
    let preempted = (format!("Preempted: Preempted by pod {uid} on node n"), 1);
    assert!(cluster.events("low-b").await.contains(&preempted));
    // Half of the room is there: it is not for those that are less important.
    cluster.let_go("low-a").await;
    cluster.pod("mid", 5, json!({"cpu": "2"}), json!({})).await;
    assert_eq!(cluster.node_of("mid").await, Value::Null);
    cluster.let_go("low-b").await;
    assert_eq!(cluster.node_of("high").await, "n");
    assert_eq!(cluster.node_of("mid").await, Value::Null);
    let text = "FailedScheduling: 0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes \
                are available: 1 Insufficient cpu.";
    assert_eq!(cluster.events("mid").await[0].0, text);
    cluster.delete("high").await;
    assert_eq!(cluster.node_of("mid").await, "n");
}

#[tokio::test(start_paused = true)]
async fn the_more_important_pod_takes_the_room_and_the_other_is_told() {
    let cluster = Cluster::start();
    cluster.node("n", json!({})).await;
    cluster.pod("low", 0, json!({"cpu": "4"}), held()).await;
    cluster.pod("mid", 5, json!({"cpu": "4"}), json!({})).await;
    assert_eq!(cluster.get("mid").await["status"]["nominatedNodeName"], "n");
    cluster.pod("high", 10, json!({"cpu": "4"}), json!({})).await;
    assert_eq!(cluster.get("high").await["status"]["nominatedNodeName"], "n");
    assert_eq!(cluster.get("mid").await["status"]["nominatedNodeName"], Value::Null);
    cluster.let_go("low").await;
    assert_eq!(cluster.node_of("high").await, "n");
    assert_eq!(cluster.node_of("mid").await, Value::Null);
}

#[tokio::test(start_paused = true)]
async fn only_what_helps_gives_a_pod_another_turn() {
    let cluster = Cluster::start();
    cluster.node("n", json!({})).await;
    cluster.pod("gpu", 0, json!({"example.org/gpu": "1"}), json!({})).await;
    for _ in 0..5 {
        cluster.pod("other", 0, json!({"cpu": "1"}), json!({})).await;
        cluster.delete("other").await;
    }
    cluster.node("plain", json!({})).await;
    cluster.rest().await;
    let events = cluster.events("gpu").await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].1, 1, "tried once: {events:?}");
    cluster.node("better", json!({"example.org/gpu": "1"})).await;
    cluster.rest().await;
    assert_eq!(cluster.node_of("gpu").await, "better");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_was_just_placed_helps_one_that_wants_to_be_near_it() {
    let cluster = Cluster::start();
    let near = json!({"affinity": {"podAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "kubernetes.io/hostname",
            "labelSelector": {"matchLabels": {"app": "leader"}}}]}}});
    cluster.pod("early", 0, json!({}), json!({})).await;
    cluster.node("n", json!({})).await;
    cluster.rest().await;
    assert_eq!(cluster.node_of("early").await, "n", "the first node helps everyone");
    cluster.pod("follower", 0, json!({}), near).await;
    assert_eq!(cluster.node_of("follower").await, Value::Null);
    cluster.pod("leader", 0, json!({}), json!({})).await;
    assert_eq!(cluster.node_of("leader").await, "n");
    assert_eq!(cluster.node_of("follower").await, "n");
}
