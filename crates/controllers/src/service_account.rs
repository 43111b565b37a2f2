//! Gives every namespace its `default` service account.
use api::Key;
use api::k8s::api::core::v1::{Namespace, ServiceAccount};
use api::k8s::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use reconcile::{Controller, Effect, Plan, Turn, Watch, meta};

pub(crate) struct ServiceAccounts;

const NAME: &str = "default";

impl Controller for ServiceAccounts {
    fn name(&self) -> &'static str {
        "service-account-controller"
    }
    fn watches(&self) -> Vec<Watch> {
        vec![
            Watch::own::<Namespace>(),
            Watch::map::<ServiceAccount>(|_, account| {
                let named = meta::name(&account.metadata) == NAME;
                let namespace = meta::namespace(&account.metadata);
                named.then(|| Key::new("", namespace)).into_iter().collect()
            }),
        ]
    }
    fn reconcile(&self, turn: &Turn<'_>) -> Plan {
        let mut plan = Plan::nothing();
        let Some(namespace) = turn.world.get::<Namespace>(turn.key) else { return plan };
        let key = Key::new(&turn.key.name, NAME);
        let has = turn.world.get::<ServiceAccount>(&key).is_some();
        if !has && !meta::is_deleting(&namespace.metadata) {
            plan.push(Effect::create(&ServiceAccount {
                metadata: ObjectMeta {
                    name: Some(NAME.to_owned()),
                    namespace: Some(turn.key.name.clone()),
                    ..ObjectMeta::default()
                },
                ..ServiceAccount::default()
            }));
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reconcile::sim::{Sim, crash_everywhere};
    use serde_json::json;

    #[test]
    fn made_and_made_again() {
        let make = || {
            let mut sim = Sim::new(&ServiceAccounts);
            let key = sim.put::<Namespace>(json!({ "metadata": { "name": "a" } }));
            (sim, key)
        };
        crash_everywhere(&ServiceAccounts, make);
        let (mut sim, key) = make();
        sim.settle(&ServiceAccounts, &key);
        sim.remove::<ServiceAccount>(&Key::new("a", "default"));
        assert_eq!(sim.settle(&ServiceAccounts, &key), 1);
        assert_eq!(sim.all::<ServiceAccount>().len(), 1);
    }
}
