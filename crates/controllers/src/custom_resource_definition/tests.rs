use super::*;
use reconcile::Failure;
use reconcile::sim::{Sim, crash_everywhere};
use serde_json::{Value, json};

fn crd(plural: &str, kind: &str) -> Value {
    json!({
        "metadata": { "name": format!("{plural}.example.com") },
        "spec": { "group": "example.com", "names": {
            "plural": plural, "kind": kind, "singular": kind.to_lowercase(),
            "listKind": format!("{kind}List"), "shortNames": ["pi"] } },
    })
}

fn told(sim: &Sim, key: &Key) -> Vec<String> {
    let conditions = sim.get::<Definition>(key).status.conditions.clone().unwrap_or_default();
    conditions
        .iter()
        .map(|c| format!("{}={} {}", c.type_, c.status, c.reason.as_deref().unwrap_or_default()))
        .collect()
}

#[test]
fn names_are_accepted_and_the_kind_is_established() {
    let mut sim = Sim::new(&Definitions);
    let key = sim.put::<Definition>(crd("pies", "Pie"));
    sim.settle(&Definitions, &key);
    assert_eq!(
        told(&sim, &key),
        ["NamesAccepted=True NoConflicts", "Established=True InitialNamesAccepted"]
    );
    let pies = sim.get::<Definition>(&key);
    assert_eq!(pies.status.accepted_names, pies.spec.names);
    assert!(sim.plan(&Definitions, &key).is_settled());
}

#[test]
fn names_that_are_taken_are_not_accepted() {
    let mut sim = Sim::new(&Definitions);
    let first = sim.put::<Definition>(crd("pies", "Pie"));
    sim.settle(&Definitions, &first);
    let second = sim.put::<Definition>(crd("tarts", "Pie"));
    sim.settle(&Definitions, &second);
    assert_eq!(
        told(&sim, &second),
        ["NamesAccepted=False ListKindConflict", "Established=False NotAccepted"]
    );
    let tarts = sim.get::<Definition>(&second);
    assert_eq!(tarts.status.accepted_names.plural, "tarts");
    assert_eq!(tarts.status.accepted_names.kind, "");
    sim.remove::<Definition>(&first);
    sim.settle(&Definitions, &second);
    assert_eq!(
        told(&sim, &second),
        ["NamesAccepted=True NoConflicts", "Established=True InitialNamesAccepted"]
    );
}

#[test]
fn one_that_goes_is_emptied_first() {
    let mut sim = Sim::new(&Definitions);
    let key = sim.put::<Definition>(crd("pies", "Pie"));
    sim.settle(&Definitions, &key);
    sim.patch::<Definition>(
        &key,
        &json!({ "metadata": { "deletionTimestamp": "2019-12-01T00:00:00Z",
            "finalizers": [FINALIZER] } }),
    );
    let plan = sim.plan(&Definitions, &key);
    sim.apply(plan.effects);
    assert_eq!(told(&sim, &key)[2], "Terminating=True InstanceDeletionInProgress");
    let (target, uid) = (Target::of::<Definition>(), sim.get::<Definition>(&key).uid().to_owned());
    let want = [Effect::Empty { target, key: key.clone(), uid }];
    assert_eq!(sim.plan(&Definitions, &key).effects, want);
    let failed = Failure { verb: "empty", message: "left".to_owned() };
    let plan = sim.plan_after(&Definitions, &key, Some(&failed));
    sim.apply(plan.effects);
    assert_eq!(told(&sim, &key)[2], "Terminating=True InstanceDeletionCheck");
}

#[test]
fn kubernetes_own_groups_need_approval() {
    let mut sim = Sim::new(&Definitions);
    let mut own = crd("pies", "Pie");
    own["spec"]["group"] = "x.k8s.io".into();
    own["metadata"]["annotations"] = json!({ (APPROVAL): "unapproved, experimental" });
    let key = sim.put::<Definition>(own);
    sim.settle(&Definitions, &key);
    assert_eq!(
        told(&sim, &key)[2],
        "KubernetesAPIApprovalPolicyConformant=False UnapprovedAnnotation"
    );
}

#[test]
fn crashes_are_made_good() {
    crash_everywhere(&Definitions, || {
        let mut sim = Sim::new(&Definitions);
        let key = sim.put::<Definition>(crd("pies", "Pie"));
        (sim, key)
    });
}
