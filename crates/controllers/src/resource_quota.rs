//! Writes into every quota how much of it is used. Admission counts for itself, so that nothing
//! passes on what this has not seen yet; this is for people and clients to read.
use crate::tally::Tally;
use api::k8s::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use api::k8s::api::batch::v1::{CronJob, Job};
use api::k8s::api::core::v1::{
    ConfigMap, PersistentVolumeClaim, Pod, ReplicationController, ResourceQuota,
    ResourceQuotaStatus, Secret, Service,
};
use api::k8s::apimachinery::pkg::api::resource::Quantity as Text;
use api::quota::{Usage, bears, in_scope, usage_of};
use api::{Key, Kind, Quantity};
use reconcile::{Controller, Effect, Plan, Turn, Watch, World, meta};
use std::sync::Arc;
use value::{Value, json};

pub(crate) struct ResourceQuotas;

impl Controller for ResourceQuotas {
    fn name(&self) -> &'static str {
        "resourcequota-controller"
    }
    fn watches(&self) -> Vec<Watch> {
        let mut watches = vec![Watch::own::<ResourceQuota>()];
        watches.extend(COUNTED.iter().map(|counted| (counted.watch)()));
        watches.push(Watch::map::<Tally>(quotas_that_name));
        watches
    }
    fn reconcile(&self, turn: &Turn<'_>) -> Plan {
        let mut plan = Plan::nothing();
        let Some(quota) = turn.world.get::<ResourceQuota>(turn.key) else { return plan };
        let hard = quota.spec.as_ref().and_then(|spec| spec.hard.clone()).unwrap_or_default();
        let scopes = json!({ "spec": quota.spec });
        let mut used = Usage::new();
        for counted in COUNTED {
            let names: Vec<&String> =
                hard.keys().filter(|name| bears(counted.group, counted.plural, name)).collect();
            if names.is_empty() {
                continue;
            }
            used.extend(names.into_iter().map(|name| (name.clone(), Quantity::ZERO)));
            for object in (counted.objects)(turn.world, &turn.key.namespace) {
                if !in_scope(&scopes, counted.plural, &object) {
                    continue;
                }
                for (name, amount) in usage_of(counted.group, counted.plural, &object) {
                    if let Some(sum) = used.get_mut(&name) {
                        *sum = sum.plus(&amount);
                    }
                }
            }
        }
        for name in hard.keys() {
            let Some(kind) = name.strip_prefix("count/") else { continue };
            if let Some(count) = tallied(turn.world, kind, &turn.key.namespace) {
                used.insert(name.clone(), Quantity::from_units(count));
            }
        }
        let used = used.into_iter().map(|(name, sum)| (name, Text(sum.to_string()))).collect();
        let mut new = ResourceQuota::clone(quota);
        new.status = Some(ResourceQuotaStatus { hard: Some(hard), used: Some(used) });
        plan.push(Effect::status(&**quota, &new));
        plan
    }
}

/// A kind that quotas can bound.
struct Counted {
    group: &'static str,
    plural: &'static str,
    watch: fn() -> Watch,
    /// Those of a namespace, as far as they count.
    objects: fn(&World, &str) -> Vec<Value>,
}

/// Of a kind of which only the number counts, or all of it.
macro_rules! counted {
    ($kind:ty, $group:literal, $plural:literal, $shown:expr) => {
        Counted {
            group: $group,
            plural: $plural,
            watch: || Watch::map::<$kind>(|world, object| quotas_over(world, object)),
            objects: |world, namespace| {
                world.in_namespace::<$kind>(namespace).map($shown).collect()
            },
        }
    };
}

const COUNTED: &[Counted] = &[
    counted!(Pod, "", "pods", |pod| {
        let phase = crate::pods::phase(pod);
        json!({ "spec": pod.spec, "status": { "phase": phase } })
    }),
    counted!(Service, "", "services", |service| json!({ "spec": service.spec })),
    counted!(PersistentVolumeClaim, "", "persistentvolumeclaims", |claim| {
        json!({ "spec": claim.spec })
    }),
    counted!(ConfigMap, "", "configmaps", |_| Value::Null),
    counted!(Secret, "", "secrets", |_| Value::Null),
    counted!(ReplicationController, "", "replicationcontrollers", |_| Value::Null),
    counted!(ResourceQuota, "", "resourcequotas", |_| Value::Null),
    counted!(Deployment, "apps", "deployments", |_| Value::Null),
    counted!(ReplicaSet, "apps", "replicasets", |_| Value::Null),
    counted!(StatefulSet, "apps", "statefulsets", |_| Value::Null),
    counted!(DaemonSet, "apps", "daemonsets", |_| Value::Null),
    counted!(Job, "batch", "jobs", |_| Value::Null),
    counted!(CronJob, "batch", "cronjobs", |_| Value::Null),
];

/// Whether the kind is counted here by type.
pub(crate) fn is_known(group: &str, plural: &str) -> bool {
    COUNTED.iter().any(|counted| (counted.group, counted.plural) == (group, plural))
}

/// Nothing if the kind is not counted.
fn tallied(world: &World, kind: &str, namespace: &str) -> Option<i64> {
    world.named::<Tally>(kind)?;
    let tally = world.get::<Tally>(&Key::new(namespace, kind));
    Some(tally.map_or(0, |tally| tally.count as i64))
}

fn quotas_that_name(world: &World, tally: &Tally) -> Vec<Key> {
    let name = format!("count/{}", meta::name(&tally.metadata));
    let bounds = |quota: &&Arc<ResourceQuota>| {
        let hard = quota.spec.as_ref().and_then(|spec| spec.hard.as_ref());
        hard.is_some_and(|hard| hard.contains_key(&name))
    };
    match tally.metadata.namespace.as_deref() {
        Some(namespace) => {
            let here = world.in_namespace::<ResourceQuota>(namespace).filter(bounds);
            here.map(|quota| quota.key()).collect()
        }
        None => world.all::<ResourceQuota>().filter(bounds).map(|quota| quota.key()).collect(),
    }
}

fn quotas_over<K: Kind>(world: &World, object: &K) -> Vec<Key> {
    let namespace = object.metadata().namespace.as_deref().unwrap_or_default();
    world.in_namespace::<ResourceQuota>(namespace).map(|quota| quota.key()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use reconcile::sim::{Sim, crash_everywhere};
    use serde_json::{Value, json};

    fn quota(hard: Value) -> Value {
        json!({ "metadata": { "name": "q", "namespace": "a" }, "spec": { "hard": hard } })
    }

    fn pod(name: &str, phase: &str) -> Value {
        let asked = json!({ "requests": { "cpu": "250m", "memory": "64Mi" } });
        json!({
            "metadata": { "name": name, "namespace": "a" },
            "spec": { "containers": [{ "name": "c", "resources": asked }] },
            "status": { "phase": phase },
        })
    }

    fn used(sim: &Sim, key: &Key) -> Value {
        let status = sim.get::<ResourceQuota>(key).status.clone().unwrap();
        assert_eq!(status.hard, sim.get::<ResourceQuota>(key).spec.clone().unwrap().hard);
        json!(status.used)
    }

    #[test]
    fn what_is_there_is_counted_and_nothing_else() {
        let mut sim = Sim::new(&ResourceQuotas);
        let hard = json!({ "pods": "5", "requests.cpu": "1", "memory": "1Gi", "secrets": "10",
                           "count/replicasets.apps": "3", "count/things.example.com": "1" });
        let key = sim.put::<ResourceQuota>(quota(hard));
        sim.settle(&ResourceQuotas, &key);
        let nothing = json!({ "pods": "0", "requests.cpu": "0", "memory": "0", "secrets": "0",
                              "count/replicasets.apps": "0" });
        assert_eq!(used(&sim, &key), nothing);
        sim.put::<Pod>(pod("p1", "Running"));
        sim.put::<Pod>(pod("p2", "Pending"));
        sim.put::<Pod>(pod("p3", "Succeeded"));
        sim.put::<Secret>(json!({ "metadata": { "name": "s", "namespace": "a" } }));
        sim.put::<Secret>(json!({ "metadata": { "name": "s", "namespace": "other" } }));
        sim.settle(&ResourceQuotas, &key);
        let some = json!({ "pods": "2", "requests.cpu": "500m", "memory": "128Mi",
                           "secrets": "1", "count/replicasets.apps": "0" });
        assert_eq!(used(&sim, &key), some);
        assert_eq!(sim.plan(&ResourceQuotas, &key), Plan::nothing());
    }

    #[test]
    fn kinds_that_are_made_at_run_time_are_counted_once_somebody_does() {
        let mut sim = Sim::new(&ResourceQuotas);
        let key = sim.put::<ResourceQuota>(quota(json!({ "count/pies.example.com": "3" })));
        sim.settle(&ResourceQuotas, &key);
        assert_eq!(used(&sim, &key), json!({}));
        let tally =
            |namespace: &str, count| json!(Tally::new("example.com", "pies", namespace, count));
        sim.put::<Tally>(tally("", 0));
        sim.settle(&ResourceQuotas, &key);
        assert_eq!(used(&sim, &key), json!({ "count/pies.example.com": "0" }));
        sim.put::<Tally>(tally("a", 2));
        sim.put::<Tally>(tally("b", 5));
        sim.settle(&ResourceQuotas, &key);
        assert_eq!(used(&sim, &key), json!({ "count/pies.example.com": "2" }));
        assert!(Tally::is_wanted("example.com", "pies") && !Tally::is_wanted("", "pods"));
    }

    #[test]
    fn scopes_choose_pods() {
        let mut sim = Sim::new(&ResourceQuotas);
        let mut scoped = quota(json!({ "pods": "5" }));
        scoped["spec"]["scopes"] = json!(["BestEffort"]);
        let key = sim.put::<ResourceQuota>(scoped);
        sim.put::<Pod>(pod("p1", "Running"));
        sim.settle(&ResourceQuotas, &key);
        assert_eq!(used(&sim, &key), json!({ "pods": "0" }));
    }

    #[test]
    fn crashes_are_made_good() {
        crash_everywhere(&ResourceQuotas, || {
            let mut sim = Sim::new(&ResourceQuotas);
            let key = sim.put::<ResourceQuota>(quota(json!({ "pods": "5" })));
            sim.put::<Pod>(pod("p1", "Running"));
            (sim, key)
        });
    }
}
