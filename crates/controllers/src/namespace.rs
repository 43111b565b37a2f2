//! Lets a namespace go that is being deleted, once it is empty.
use api::Key;
use api::k8s::api::core::v1::{Namespace, Pod};
use reconcile::{Controller, Effect, Plan, Target, Turn, Watch, meta};
use std::time::Duration;

pub(crate) struct Namespaces;

/// How long what is left may take to go before it is looked at again.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

impl Controller for Namespaces {
    fn name(&self) -> &'static str {
        "namespace-controller"
    }
    fn watches(&self) -> Vec<Watch> {
        vec![
            Watch::own::<Namespace>(),
            // Pods are what usually takes time.
            Watch::map::<Pod>(|world, pod| {
                let namespace = meta::namespace(&pod.metadata);
                let going = world
                    .named::<Namespace>(namespace)
                    .is_some_and(|namespace| meta::is_deleting(&namespace.metadata));
                going.then(|| Key::new("", namespace)).into_iter().collect()
            }),
        ]
    }
    fn reconcile(&self, turn: &Turn<'_>) -> Plan {
        let mut plan = Plan::nothing();
        let Some(namespace) = turn.world.get::<Namespace>(turn.key) else { return plan };
        let finalizers = namespace.spec.as_ref().and_then(|spec| spec.finalizers.as_ref());
        let waits = finalizers.is_some_and(|list| list.iter().any(|f| f == "kubernetes"));
        if meta::is_deleting(&namespace.metadata) && waits {
            let uid = meta::uid(&namespace.metadata).to_owned();
            let target = Target::of::<Namespace>();
            plan.push(Effect::Empty { target, key: turn.key.clone(), uid });
            plan.look_again_after(AGAIN_AFTER);
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reconcile::sim::Sim;
    use serde_json::json;

    #[test]
    fn only_one_that_is_going_is_emptied() {
        let mut sim = Sim::new(&Namespaces);
        let key = sim.put::<Namespace>(
            json!({ "metadata": { "name": "a" }, "spec": { "finalizers": ["kubernetes"] } }),
        );
        assert!(sim.plan(&Namespaces, &key).is_settled());
        sim.patch::<Namespace>(
            &key,
            &json!({ "metadata": { "deletionTimestamp": "2019-12-01T00:00:00Z",
                "finalizers": ["held"] } }),
        );
        let uid = "uid-Namespace-a".to_owned();
        let want = [Effect::Empty { target: Target::of::<Namespace>(), key: key.clone(), uid }];
        assert_eq!(sim.plan(&Namespaces, &key).effects, want);
        sim.patch::<Namespace>(&key, &json!({ "spec": { "finalizers": [] } }));
        assert!(sim.plan(&Namespaces, &key).is_settled());
    }
}
