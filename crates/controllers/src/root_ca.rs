//! Puts the certificates that the API server is to be checked by into every namespace.
use api::Key;
use api::k8s::api::core::v1::{ConfigMap, Namespace};
use api::k8s::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use reconcile::{Controller, Effect, Plan, Turn, Watch, meta};
use std::collections::BTreeMap;

pub(crate) struct RootCa {
    ca_pem: String,
}

const NAME: &str = "kube-root-ca.crt";
const DATA_KEY: &str = "ca.crt";
const DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when \
    using internal endpoints such as the internal service IP or kubernetes.default.svc. No other \
    usage is guaranteed across distributions of Kubernetes clusters.";

impl RootCa {
    pub(crate) fn new(ca_pem: &str) -> Self {
        Self { ca_pem: ca_pem.to_owned() }
    }
}

impl Controller for RootCa {
    fn name(&self) -> &'static str {
        "root-ca-certificate-publisher-controller"
    }
    fn watches(&self) -> Vec<Watch> {
        vec![
            Watch::own::<Namespace>(),
            Watch::map::<ConfigMap>(|_, map| {
                let named = meta::name(&map.metadata) == NAME;
                let namespace = meta::namespace(&map.metadata);
                named.then(|| Key::new("", namespace)).into_iter().collect()
            }),
        ]
    }
    fn reconcile(&self, turn: &Turn<'_>) -> Plan {
        let mut plan = Plan::nothing();
        let Some(namespace) = turn.world.get::<Namespace>(turn.key) else { return plan };
        if meta::is_deleting(&namespace.metadata) {
            return plan;
        }
        let data = BTreeMap::from([(DATA_KEY.to_owned(), self.ca_pem.clone())]);
        let Some(seen) = turn.world.get::<ConfigMap>(&Key::new(&turn.key.name, NAME)) else {
            let description = ("kubernetes.io/description".to_owned(), DESCRIPTION.to_owned());
            plan.push(Effect::create(&ConfigMap {
                metadata: ObjectMeta {
                    name: Some(NAME.to_owned()),
                    namespace: Some(turn.key.name.clone()),
                    annotations: Some(BTreeMap::from([description])),
                    ..ObjectMeta::default()
                },
                data: Some(data),
                ..ConfigMap::default()
            }));
            return plan;
        };
        let mut new = ConfigMap::clone(seen);
        new.data = Some(data);
        plan.push(Effect::update(&**seen, &new));
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reconcile::sim::{Sim, crash_everywhere};
    use serde_json::json;

    #[test]
    fn made_and_mended() {
        let controller = RootCa::new("PEM");
        let make = || {
            let mut sim = Sim::new(&controller);
            let key = sim.put::<Namespace>(json!({ "metadata": { "name": "a" } }));
            (sim, key)
        };
        crash_everywhere(&controller, make);
        let (mut sim, key) = make();
        sim.settle(&controller, &key);
        let map = Key::new("a", NAME);
        sim.patch::<ConfigMap>(&map, &json!({ "data": { "ca.crt": "x", "y": "z" } }));
        sim.settle(&controller, &key);
        let data = sim.get::<ConfigMap>(&map).data.clone().unwrap();
        assert_eq!(data, BTreeMap::from([("ca.crt".to_owned(), "PEM".to_owned())]));
    }
}
