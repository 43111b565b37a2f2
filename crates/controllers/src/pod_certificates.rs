//! Deletes requests for pods' certificates when they are old: whoever asked has the answer by then.
use api::k8s::api::certificates::v1::PodCertificateRequest;
use jiff::SignedDuration;
use reconcile::{Controller, Effect, Plan, Turn, Watch};

pub(crate) struct Cleaning;

const KEPT: SignedDuration = SignedDuration::from_mins(15);

impl Controller for Cleaning {
    fn name(&self) -> &'static str {
        "podcertificaterequest-cleaner"
    }
    fn watches(&self) -> Vec<Watch> {
        vec![Watch::own::<PodCertificateRequest>()]
    }
    fn reconcile(&self, turn: &Turn<'_>) -> Plan {
        let mut plan = Plan::nothing();
        let Some(request) = turn.world.get::<PodCertificateRequest>(turn.key) else { return plan };
        let Some(made) = &request.metadata.creation_timestamp else { return plan };
        let due = made.0 + KEPT;
        if due <= turn.now {
            plan.push(Effect::delete(&**request));
        } else {
            plan.look_again_at(due, turn.now);
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
    fn requests_go_after_a_quarter_of_an_hour() {
        let mut sim = Sim::new(&Cleaning);
        let made = sim.now.to_string();
        let request = sim.put::<PodCertificateRequest>(json!({
            "metadata": { "name": "a", "namespace": "b", "creationTimestamp": made },
            "spec": {
                "signerName": "x/y", "podName": "p", "podUID": "u", "serviceAccountName": "s",
                "serviceAccountUID": "v", "nodeName": "n", "nodeUID": "w", "stubPKCS10Request": "",
            },
        }));
        let plan = sim.plan(&Cleaning, &request);
        assert!(plan.is_settled());
        assert_eq!(plan.again_after.unwrap().as_secs(), 900);
        sim.now += KEPT;
        sim.settle(&Cleaning, &request);
        assert!(sim.all::<PodCertificateRequest>().is_empty());
    }
}
