//! The shell against an API in memory, with time that passes when nothing else does.
use super::*;
use api::Key;
use api::k8s::api::core::v1::{ConfigMap, Event, Secret};
use client::memory::Memory;
use client::{Client, ListParams, Resource};
use reconcile::{Controller, Effect, NoteKind, Plan, Target, Turn, Watch, meta};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Keeps as many secrets as a config map asks for, and counts how often it was asked.
#[derive(Default)]
struct Copies {
    turns: AtomicUsize,
}

impl Controller for Copies {
    fn name(&self) -> &'static str {
        "copies"
    }
    fn watches(&self) -> Vec<Watch> {
        vec![Watch::own::<ConfigMap>(), Watch::owner::<Secret, ConfigMap>()]
    }
    fn reconcile(&self, turn: &Turn<'_>) -> Plan {
        assert!(self.turns.fetch_add(1, Ordering::Relaxed) < 10_000, "it goes round in circles");
        let mut plan = Plan::nothing();
        let Some(map) = turn.world.get::<ConfigMap>(turn.key) else { return plan };
        let data = map.data.clone().unwrap_or_default();
        let wanted: usize = data.get("copies").and_then(|n| n.parse().ok()).unwrap_or(0);
        let have: Vec<_> = turn.world.owned_by::<Secret>(meta::uid(&map.metadata)).collect();
        for _ in have.len()..wanted {
            let mut secret = Secret::default();
            secret.metadata.generate_name = Some("copy-".into());
            secret.metadata.namespace = map.metadata.namespace.clone();
            secret.metadata.owner_references = Some(vec![meta::controlled_by(&**map)]);
            plan.push(Effect::create(&secret));
        }
        for secret in have.iter().skip(wanted) {
            plan.push(Effect::delete(&***secret));
        }
        if have.len() != wanted {
            plan.push(Effect::event(&**map, NoteKind::Normal, "Copied", "copied"));
        }
        let mut new = ConfigMap::clone(map);
        let text = turn.failed.map_or("fine", |failed| failed.verb).to_owned();
        new.data.get_or_insert_default().insert("state".into(), text);
        plan.push(Effect::update(&**map, &new));
        plan
    }
}

struct Bench {
    api: Memory,
    client: Client,
    controller: Arc<Copies>,
    caches: Caches,
    _running: Running,
}

impl Bench {
    fn start() -> Self {
        let api = Memory::default();
        let client = api.client();
        let caches = Caches::new(client.clone());
        let controller = Arc::new(Copies::default());
        let manager = Manager::new(&caches, &[controller.clone()], None);
        caches.start();
        Self { api, client, controller, caches, _running: manager.start() }
    }
    async fn put(&self, copies: &str) {
        let maps = Resource::of::<ConfigMap>();
        let object = json!({ "metadata": { "name": "m" }, "data": { "copies": copies } });
        let made = self.client.create_value(&maps, Some("a"), &object).await;
        if made.is_err() {
            let patch = client::Patch::Merge(json!({ "data": { "copies": copies } }));
            self.client.patch_value(&maps, &Key::new("a", "m"), &patch, None).await.unwrap();
        }
    }
    /// Lets everything come to rest.
    async fn rest(&self) {
        tokio::time::sleep(Duration::from_secs(300)).await;
    }
    async fn secrets(&self) -> Vec<Secret> {
        self.client.list(Some("a"), &ListParams::default()).await.unwrap().items
    }
    async fn state(&self) -> Value {
        let maps = Resource::of::<ConfigMap>();
        let map = self.client.get_value(&maps, &Key::new("a", "m")).await.unwrap();
        map["data"]["state"].clone()
    }
    fn turns(&self) -> usize {
        self.controller.turns.swap(0, Ordering::Relaxed)
    }
}

#[tokio::test(start_paused = true)]
async fn plans_are_carried_out_once() {
    let bench = Bench::start();
    bench.put("20").await;
    bench.rest().await;
    assert_eq!(bench.secrets().await.len(), 20, "none too many: the gate waits for the caches");
    bench.put("3").await;
    bench.rest().await;
    assert_eq!(bench.secrets().await.len(), 3);
    assert_eq!(bench.state().await, "fine");
    bench.turns();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(bench.turns(), 0, "what is settled is left alone");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_and_tried_again() {
    let bench = Bench::start();
    bench.api.refuse(http::Method::POST, "/secrets", 403, "Forbidden", "no");
    bench.put("2").await;
    bench.rest().await;
    assert_eq!(bench.secrets().await.len(), 2);
    assert_eq!(bench.state().await, "fine", "told in between, and well again in the end");
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_ends_is_left_alone() {
    let bench = Bench::start();
    bench.put("0").await;
    bench.rest().await;
    bench.api.terminate("a");
    bench.turns();
    bench.put("2").await;
    bench.rest().await;
    assert!(bench.turns() < 10, "nothing can be made there any more");
    assert_eq!(bench.secrets().await.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_conflict_is_looked_at_again() {
    let bench = Bench::start();
    bench.put("1").await;
    bench.rest().await;
    let patch = client::Patch::Merge(json!({ "data": { "state": "odd" } }));
    let maps = Resource::of::<ConfigMap>();
    bench.client.patch_value(&maps, &Key::new("a", "m"), &patch, None).await.unwrap();
    // The controller has not run since, so that its patch is the one refused.
    bench.api.refuse(http::Method::PATCH, "/configmaps", 409, "Conflict", "modified");
    bench.rest().await;
    assert_eq!(bench.state().await, "fine");
}

#[tokio::test(start_paused = true)]
async fn watches_that_end_are_resumed() {
    let bench = Bench::start();
    bench.put("1").await;
    bench.rest().await;
    bench.api.cut_watches();
    bench.put("2").await;
    bench.rest().await;
    assert_eq!(bench.secrets().await.len(), 2);
    // A deletion is seen although the watch was cut right then, and made good.
    let gone = bench.secrets().await[0].clone();
    bench.api.cut_watches();
    let key = Key::new("a", gone.metadata.name.as_deref().unwrap());
    bench.client.delete::<Secret>(&key, &Default::default()).await.unwrap();
    bench.rest().await;
    assert_eq!(bench.secrets().await.len(), 2);
    assert!(bench.caches.world().is_synced(Target::of::<Secret>()));
}

#[tokio::test(start_paused = true)]
async fn equal_events_are_counted() {
    let bench = Bench::start();
    for copies in ["1", "2", "3"] {
        bench.put(copies).await;
        bench.rest().await;
    }
    let events = bench.client.list::<Event>(None, &ListParams::default()).await.unwrap().items;
    assert_eq!(events.len(), 1, "{events:#?}");
    assert_eq!(events[0].count, Some(3));
    assert_eq!(events[0].reporting_component.as_deref(), Some("copies"));
}
