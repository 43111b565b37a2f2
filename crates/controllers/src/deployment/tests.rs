use super::*;
use crate::replica_set::ReplicaSets;
use reconcile::sim::{Sim, crash_everywhere};
use serde_json::{Value, json};

fn deployment(replicas: i32, image: &str) -> Value {
    json!({
        "metadata": { "name": "web", "namespace": "a", "uid": "d", "generation": 1 },
        "spec": {
            "replicas": replicas,
            "progressDeadlineSeconds": 600,
            "revisionHistoryLimit": 1,
            "selector": { "matchLabels": { "app": "web" } },
            "strategy": { "type": "RollingUpdate" },
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "c", "image": image }] },
            },
        },
    })
}

struct Rollout {
    sim: Sim,
    key: Key,
    /// The fewest available and the most live pods that were ever seen.
    fewest: usize,
    most: usize,
}

impl Rollout {
    fn new(replicas: i32) -> Self {
        let mut sim = Sim::new(&Deployments);
        sim.admit(&ReplicaSets);
        let key = sim.put::<Deployment>(deployment(replicas, "one"));
        Self { sim, key, fewest: usize::MAX, most: 0 }
    }
    /// Both controllers and a node on which pods become ready one at a time, until all is still.
    fn run(&mut self) {
        for _ in 0..400 {
            let mut still = self.turn(&Deployments, self.key.clone());
            let sets: Vec<Key> = self.sim.all::<ReplicaSet>().iter().map(|set| set.key()).collect();
            for set in sets {
                still &= self.turn(&ReplicaSets, set);
            }
            let live: Vec<&Pod> =
                self.sim.all::<Pod>().into_iter().filter(|pod| pods::is_active(pod)).collect();
            self.most = self.most.max(live.len());
            self.fewest = self.fewest.min(live.iter().filter(|pod| pods::is_ready(pod)).count());
            let waiting = live.iter().find(|pod| !pods::is_ready(pod)).map(|pod| pod.key());
            match waiting {
                Some(key) => self.make_ready(&key),
                None if still => return,
                None => {}
            }
        }
        panic!("never still: {:#?}", self.sim.event_texts());
    }
    fn turn(&mut self, controller: &dyn Controller, key: Key) -> bool {
        let plan = self.sim.plan(controller, &key);
        let still = plan.is_settled();
        self.sim.apply(plan.effects);
        still
    }
    fn make_ready(&mut self, key: &Key) {
        let since = self.sim.now.to_string();
        self.sim.patch::<Pod>(
            key,
            &json!({ "spec": { "nodeName": "n" }, "status": { "phase": "Running", "conditions": [
                { "type": "Ready", "status": "True", "lastTransitionTime": since }] } }),
        );
    }
    fn deployment(&self) -> &Deployment {
        self.sim.get::<Deployment>(&self.key)
    }
    fn change(&mut self, patch: Value) {
        let generation = self.deployment().metadata.generation.unwrap() + 1;
        self.sim
            .patch::<Deployment>(&self.key, &json!({ "metadata": { "generation": generation } }));
        self.sim.patch::<Deployment>(&self.key, &patch);
        (self.fewest, self.most) = (usize::MAX, 0);
    }
    fn image(&mut self, image: &str) {
        self.sim.now += jiff::SignedDuration::from_secs(5);
        let containers = json!([{ "name": "c", "image": image }]);
        self.change(json!({ "spec": { "template": { "spec": { "containers": containers } } } }));
    }
    /// Each set's image, size and revision, oldest first.
    fn sets(&self) -> Vec<(String, i32, i64)> {
        let mut sets = self.sim.all::<ReplicaSet>();
        sets.sort_by_key(|set| set.metadata.creation_timestamp.clone());
        sets.into_iter()
            .map(|set| {
                let template = set.spec.template.clone().unwrap();
                let image = template.spec.unwrap().containers[0].image.clone().unwrap();
                (image, set.spec.replicas.unwrap(), annotations::revision(set))
            })
            .collect()
    }
    fn condition(&self, kind: &str) -> (String, String, String) {
        let conditions = &self.deployment().status.as_ref().unwrap().conditions;
        let c = conditions::find(conditions, kind).unwrap().clone();
        (c.status.unwrap(), c.reason.unwrap(), c.message.unwrap())
    }
}

fn set(image: &str, replicas: i32, revision: i64) -> (String, i32, i64) {
    (image.to_owned(), replicas, revision)
}

#[test]
fn first_rollout_completes() {
    let mut rollout = Rollout::new(3);
    rollout.run();
    assert_eq!(rollout.sets(), [set("one", 3, 1)]);
    let status = rollout.deployment().status.clone().unwrap();
    assert_eq!(status.available_replicas, Some(3));
    assert_eq!(status.updated_replicas, Some(3));
    assert_eq!(status.unavailable_replicas, None);
    let name = rollout.sim.all::<ReplicaSet>()[0].metadata.name.clone().unwrap();
    let (status, reason, message) = rollout.condition("Progressing");
    assert_eq!((&*status, &*reason), ("True", "NewReplicaSetAvailable"));
    assert_eq!(message, format!("ReplicaSet {name:?} has successfully progressed."));
    assert_eq!(rollout.condition("Available").1, "MinimumReplicasAvailable");
    let up = format!("ScalingReplicaSet Scaled up replica set {name} from 0 to 3");
    assert_eq!(rollout.sim.event_texts()[0], up);
    assert_eq!(meta::annotation(&rollout.deployment().metadata, annotations::REVISION), Some("1"));
}

#[test]
fn a_rolling_update_keeps_to_its_bounds() {
    let mut rollout = Rollout::new(8);
    rollout.run();
    rollout.image("two");
    rollout.run();
    assert_eq!(rollout.sets(), [set("one", 0, 1), set("two", 8, 2)]);
    assert_eq!(rollout.most, 10);
    assert!(rollout.fewest >= 6, "{}", rollout.fewest);
}

#[test]
fn an_undo_is_a_new_revision_of_an_old_set() {
    let mut rollout = Rollout::new(2);
    rollout.run();
    rollout.image("two");
    rollout.run();
    rollout.image("one");
    rollout.run();
    assert_eq!(rollout.sets(), [set("one", 2, 3), set("two", 0, 2)]);
    rollout.image("three");
    rollout.run();
    assert_eq!(rollout.sets(), [set("one", 0, 3), set("three", 2, 4)], "history of one");
}

#[test]
fn recreate_has_no_two_versions_at_once() {
    let mut rollout = Rollout::new(3);
    rollout
        .change(json!({ "spec": { "strategy": { "type": "Recreate", "rollingUpdate": null } } }));
    rollout.run();
    rollout.image("two");
    rollout.run();
    assert_eq!(rollout.sets(), [set("one", 0, 1), set("two", 3, 2)]);
    assert_eq!((rollout.fewest, rollout.most), (0, 3));
}

#[test]
fn a_paused_rollout_scales_in_proportion() {
    let mut rollout = Rollout::new(10);
    rollout.run();
    rollout.image("two");
    let plan = rollout.sim.plan(&Deployments, &rollout.key);
    rollout.sim.apply(plan.effects);
    rollout.sim.settle(&Deployments, &rollout.key);
    let before = rollout.sets();
    assert_eq!(before, [set("one", 8, 1), set("two", 5, 2)], "10 and a surge of 3");
    rollout.change(json!({ "spec": { "paused": true, "replicas": 20 } }));
    rollout.run();
    let sizes: Vec<i32> = rollout.sets().iter().map(|(_, size, _)| *size).collect();
    assert_eq!(sizes.iter().sum::<i32>(), 25, "20 and a surge of 5");
    assert!(sizes[0] > sizes[1] && sizes[1] > 5, "{sizes:?}");
    assert_eq!(rollout.condition("Progressing").1, "DeploymentPaused");
    rollout.change(json!({ "spec": { "paused": false } }));
    rollout.run();
    assert_eq!(rollout.sets(), [set("one", 0, 1), set("two", 20, 2)]);
}

#[test]
fn scaling_is_not_a_rollout() {
    let mut rollout = Rollout::new(3);
    rollout.run();
    rollout.change(json!({ "spec": { "replicas": 5 } }));
    rollout.run();
    assert_eq!(rollout.sets(), [set("one", 5, 1)]);
    rollout.change(json!({ "spec": { "replicas": 0 } }));
    rollout.run();
    assert_eq!(rollout.sets(), [set("one", 0, 1)]);
}

#[test]
fn no_progress_is_a_failure_after_the_deadline() {
    let mut rollout = Rollout::new(1);
    rollout.sim.settle(&Deployments, &rollout.key);
    let again = rollout.sim.plan(&Deployments, &rollout.key).again_after.unwrap();
    assert_eq!(again.as_secs(), 600);
    rollout.sim.now += jiff::SignedDuration::from_secs(601);
    rollout.sim.settle(&Deployments, &rollout.key);
    let (status, reason, _) = rollout.condition("Progressing");
    assert_eq!((&*status, &*reason), ("False", "ProgressDeadlineExceeded"));
}

#[test]
fn crashes_are_made_good() {
    crash_everywhere(&Deployments, || {
        let rollout = Rollout::new(3);
        (rollout.sim, rollout.key)
    });
    crash_everywhere(&Deployments, || {
        let mut rollout = Rollout::new(4);
        rollout.run();
        rollout.image("two");
        (rollout.sim, rollout.key)
    });
}
