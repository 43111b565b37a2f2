use super::*;
use reconcile::sim::{Sim, crash_everywhere};
use serde_json::{Value, json};

fn set(replicas: i32, spec: &Value) -> Value {
    let mut set = json!({
        "metadata": { "name": "db", "namespace": "a", "uid": "set", "generation": 1 },
        "spec": {
            "replicas": replicas,
            "serviceName": "dbs",
            "revisionHistoryLimit": 1,
            "podManagementPolicy": "OrderedReady",
            "updateStrategy": { "type": "RollingUpdate", "rollingUpdate": { "partition": 0 } },
            "selector": { "matchLabels": { "app": "db" } },
            "template": {
                "metadata": { "labels": { "app": "db" } },
                "spec": { "containers": [{ "name": "c", "image": "one" }] },
            },
            "volumeClaimTemplates": [{ "metadata": { "name": "data" }, "spec": {} }],
        },
    });
    for (field, value) in spec.as_object().unwrap() {
        set["spec"][field] = value.clone();
    }
    set
}

struct Cluster {
    sim: Sim,
    key: Key,
    /// What happened to pods, in order: `+name` made, `*name` ready, `-name` gone.
    log: Vec<String>,
}

impl Cluster {
    fn new(replicas: i32, spec: Value) -> Self {
        let mut sim = Sim::new(&StatefulSets);
        let key = sim.put::<StatefulSet>(set(replicas, &spec));
        Self { sim, key, log: Vec::new() }
    }
    fn names(&self) -> Vec<String> {
        self.sim.all::<Pod>().iter().map(|pod| pod.key().name).collect()
    }
    /// The set, and a node on which pods become ready one at a time, until all is still.
    fn run(&mut self) -> String {
        self.log.clear();
        for _ in 0..200 {
            let before = self.names();
            let plan = self.sim.plan(&StatefulSets, &self.key);
            let still = plan.is_settled();
            self.sim.apply(plan.effects);
            let after = self.names();
            let gone = before.iter().filter(|name| !after.contains(name));
            self.log.extend(gone.map(|name| format!("-{name}")));
            let made = after.iter().filter(|name| !before.contains(name));
            self.log.extend(made.map(|name| format!("+{name}")));
            let pods = self.sim.all::<Pod>();
            let waiting = pods.into_iter().find(|pod| !is_running_and_ready(pod));
            let Some(key) = waiting.map(|pod| pod.key()) else {
                if still {
                    return self.log.join(" ");
                }
                continue;
            };
            let since = self.sim.now.to_string();
            let ready = json!([{ "type": "Ready", "status": "True", "lastTransitionTime": since }]);
            let status = json!({ "phase": "Running", "conditions": ready });
            self.sim.patch::<Pod>(&key, &json!({ "status": status }));
            self.log.push(format!("*{}", key.name));
        }
        panic!("never still: {:#?}", self.sim.event_texts());
    }
    fn change(&mut self, spec: Value) {
        self.sim.now += jiff::SignedDuration::from_secs(5);
        self.sim.patch::<StatefulSet>(&self.key, &json!({ "spec": spec }));
    }
    fn image(&mut self, image: &str) {
        let containers = json!([{ "name": "c", "image": image }]);
        self.change(json!({ "template": { "spec": { "containers": containers } } }));
    }
    fn images(&self) -> String {
        let show = |pod: &&Pod| pod.spec.as_ref().unwrap().containers[0].image.clone().unwrap();
        self.sim.all::<Pod>().iter().map(show).collect::<Vec<_>>().join(" ")
    }
    fn status(&self) -> StatefulSetStatus {
        self.sim.get::<StatefulSet>(&self.key).status.clone().unwrap()
    }
    fn claim_owner(&self, name: &str) -> Option<String> {
        let claim = self.sim.get::<PersistentVolumeClaim>(&Key::new("a", name));
        let owners = claim.metadata.owner_references.as_deref().unwrap_or_default();
        owners.first().map(|owner| owner.kind.clone())
    }
}

#[test]
fn pods_come_in_order_and_go_in_reverse() {
    let mut cluster = Cluster::new(3, json!({}));
    assert_eq!(cluster.run(), "+db-0 *db-0 +db-1 *db-1 +db-2 *db-2");
    let pod = cluster.sim.get::<Pod>(&Key::new("a", "db-1"));
    let spec = pod.spec.as_ref().unwrap();
    assert_eq!(spec.hostname.as_deref(), Some("db-1"));
    assert_eq!(spec.subdomain.as_deref(), Some("dbs"));
    assert_eq!(meta::label(&pod.metadata, "apps.kubernetes.io/pod-index"), Some("1"));
    let volume = &spec.volumes.as_ref().unwrap()[0];
    assert_eq!(volume.persistent_volume_claim.as_ref().unwrap().claim_name, "data-db-1");
    let status = cluster.status();
    assert_eq!((status.replicas, status.ready_replicas), (3, Some(3)));
    assert_eq!((status.current_replicas, status.updated_replicas), (Some(3), Some(3)));
    assert_eq!(status.current_revision, status.update_revision);
    let event = "SuccessfulCreate create Pod db-0 in StatefulSet db successful";
    assert_eq!(cluster.sim.event_texts()[0], event);
    cluster.change(json!({ "replicas": 1 }));
    assert_eq!(cluster.run(), "-db-2 -db-1");
    assert_eq!(cluster.sim.all::<PersistentVolumeClaim>().len(), 3, "claims stay");
    cluster.change(json!({ "replicas": 2 }));
    assert_eq!(cluster.run(), "+db-1 *db-1");
}

#[test]
fn in_parallel_nobody_waits() {
    let mut cluster = Cluster::new(3, json!({ "podManagementPolicy": "Parallel" }));
    assert_eq!(cluster.run(), "+db-0 +db-1 +db-2 *db-0 *db-1 *db-2");
    cluster.change(json!({ "replicas": 0 }));
    assert_eq!(cluster.run(), "-db-0 -db-1 -db-2");
}

#[test]
fn numbers_may_start_later() {
    let mut cluster = Cluster::new(2, json!({ "ordinals": { "start": 5 } }));
    assert_eq!(cluster.run(), "+db-5 *db-5 +db-6 *db-6");
    cluster.change(json!({ "ordinals": { "start": 6 } }));
    assert_eq!(cluster.run(), "+db-7 *db-7 -db-5");
}

#[test]
fn updates_go_down_to_the_partition() {
    let mut cluster = Cluster::new(3, json!({}));
    cluster.run();
    let partition = |n: i32| json!({ "updateStrategy": { "rollingUpdate": { "partition": n } } });
    cluster.change(partition(2));
    cluster.image("two");
    assert_eq!(cluster.run(), "-db-2 +db-2 *db-2");
    assert_eq!(cluster.images(), "one one two");
    let status = cluster.status();
    assert_ne!(status.current_revision, status.update_revision);
    assert_eq!((status.current_replicas, status.updated_replicas), (Some(2), Some(1)));
    // A pod below the partition comes back as it was.
    cluster.sim.remove::<Pod>(&Key::new("a", "db-0"));
    cluster.run();
    assert_eq!(cluster.images(), "one one two");
    cluster.change(partition(0));
    assert_eq!(cluster.run(), "-db-1 +db-1 *db-1 -db-0 +db-0 *db-0");
    assert_eq!(cluster.images(), "two two two");
    let status = cluster.status();
    assert_eq!(status.current_revision, status.update_revision);
    cluster.image("three");
    cluster.run();
    cluster.image("two");
    cluster.run();
    assert_eq!(cluster.images(), "two two two");
    assert_eq!(cluster.sim.all::<ControllerRevision>().len(), 2, "history of one");
}

#[test]
fn several_may_be_unavailable() {
    let mut cluster = Cluster::new(4, json!({}));
    cluster.run();
    cluster.change(json!({ "updateStrategy": { "rollingUpdate": { "maxUnavailable": 2 } } }));
    cluster.image("two");
    assert!(cluster.run().starts_with("-db-2 -db-3 +db-2 "), "{:?}", cluster.log);
    assert_eq!(cluster.images(), "two two two two");
}

#[test]
fn on_delete_waits_for_its_user() {
    let mut cluster = Cluster::new(2, json!({ "updateStrategy": { "type": "OnDelete" } }));
    cluster.run();
    cluster.image("two");
    assert_eq!(cluster.run(), "");
    cluster.sim.remove::<Pod>(&Key::new("a", "db-0"));
    cluster.run();
    assert_eq!(cluster.images(), "two one");
}

#[test]
fn pods_that_end_are_made_again() {
    let mut cluster = Cluster::new(1, json!({}));
    cluster.run();
    cluster.sim.patch::<Pod>(&Key::new("a", "db-0"), &json!({ "status": { "phase": "Failed" } }));
    assert_eq!(cluster.run(), "-db-0 +db-0 *db-0");
    let texts = cluster.sim.event_texts();
    let want = "RecreatingFailedPod StatefulSet a/db is recreating failed Pod db-0";
    assert!(texts.contains(&want.to_owned()), "{texts:?}");
}

#[test]
fn ready_has_to_last() {
    let mut cluster = Cluster::new(2, json!({ "minReadySeconds": 30 }));
    assert_eq!(cluster.run(), "+db-0 *db-0");
    let again = cluster.sim.plan(&StatefulSets, &cluster.key).again_after;
    assert_eq!(again.unwrap().as_secs(), 30);
    assert_eq!(cluster.status().available_replicas, Some(0));
    cluster.sim.now += jiff::SignedDuration::from_secs(30);
    assert_eq!(cluster.run(), "+db-1 *db-1");
}

#[test]
fn claims_go_with_what_the_policy_says() {
    let policy = |scaled: &str, deleted: &str| {
        json!({ "persistentVolumeClaimRetentionPolicy": {
            "whenScaled": scaled, "whenDeleted": deleted } })
    };
    let mut cluster = Cluster::new(2, policy("Delete", "Delete"));
    cluster.run();
    assert_eq!(cluster.claim_owner("data-db-1").as_deref(), Some("StatefulSet"));
    cluster.change(json!({ "replicas": 1 }));
    cluster.run();
    assert_eq!(cluster.claim_owner("data-db-1").as_deref(), Some("Pod"));
    cluster.change(policy("Retain", "Retain"));
    cluster.run();
    assert_eq!(cluster.claim_owner("data-db-0"), None);
    // The pod comes back while its old claim is still going: it waits for a new one.
    cluster.sim.patch::<PersistentVolumeClaim>(
        &Key::new("a", "data-db-1"),
        &json!({ "metadata": { "deletionTimestamp": "2019-12-01T00:00:00Z",
                               "finalizers": ["kubernetes.io/pvc-protection"] } }),
    );
    cluster.change(json!({ "replicas": 2 }));
    assert_eq!(cluster.run(), "");
    cluster.sim.remove::<PersistentVolumeClaim>(&Key::new("a", "data-db-1"));
    assert_eq!(cluster.run(), "+db-1 *db-1");
}

#[test]
fn only_its_own_names_are_adopted() {
    let mut cluster = Cluster::new(0, json!({}));
    for name in ["db-x", "db-01", "other-0"] {
        let labels = json!({ "app": "db" });
        cluster.sim.put::<Pod>(json!({
            "metadata": { "name": name, "namespace": "a", "labels": labels },
            "spec": { "containers": [] }, "status": { "phase": "Running" } }));
    }
    cluster.sim.settle(&StatefulSets, &cluster.key);
    assert_eq!(cluster.sim.all::<Pod>().len(), 3);
    assert!(cluster.sim.all::<Pod>().iter().all(|pod| pod.metadata.owner_references.is_none()));
}

#[test]
fn crashes_are_made_good() {
    let parallel = json!({ "podManagementPolicy": "Parallel" });
    crash_everywhere(&StatefulSets, || {
        let cluster = Cluster::new(2, parallel.clone());
        (cluster.sim, cluster.key)
    });
    crash_everywhere(&StatefulSets, || {
        let mut cluster = Cluster::new(3, json!({}));
        cluster.run();
        cluster.image("two");
        cluster.change(json!({ "replicas": 2 }));
        (cluster.sim, cluster.key)
    });
}
