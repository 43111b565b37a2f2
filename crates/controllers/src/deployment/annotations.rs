//! The annotations that tie replica sets to their deployment's history and size.
use api::k8s::api::apps::v1::{Deployment, ReplicaSet};
use reconcile::meta;

pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MAX: &str = "deployment.kubernetes.io/max-replicas";
/// A deployment's annotations that are not for its sets.
const OWN: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED,
    MAX,
    "deprecated.deployment.rollback.to",
];
const HISTORY_MAX_CHARS: usize = 2000;

fn number<T: std::str::FromStr>(set: &ReplicaSet, name: &str) -> Option<T> {
    meta::annotation(&set.metadata, name)?.parse().ok()
}

pub(super) fn revision(set: &ReplicaSet) -> i64 {
    number(set, REVISION).unwrap_or(0)
}

pub(super) fn desired(set: &ReplicaSet) -> Option<i32> {
    number(set, DESIRED)
}

pub(super) fn max(set: &ReplicaSet) -> Option<i32> {
    number(set, MAX)
}

/// What size of the deployment this set was last sized for.
pub(super) fn set_size(set: &mut ReplicaSet, desired: i32, max: i32) {
    let annotations = set.metadata.annotations.get_or_insert_default();
    annotations.insert(DESIRED.to_owned(), desired.to_string());
    annotations.insert(MAX.to_owned(), max.to_string());
}

/// Makes a set the bearer of a revision, with its deployment's annotations.
pub(super) fn set_newest(set: &mut ReplicaSet, deployment: &Deployment, revision: i64) {
    let before = self::revision(set);
    let existed = set.metadata.uid.is_some();
    let annotations = set.metadata.annotations.get_or_insert_default();
    for (name, value) in deployment.metadata.annotations.iter().flatten() {
        if !OWN.contains(&name.as_str()) {
            annotations.insert(name.clone(), value.clone());
        }
    }
    if before >= revision {
        return;
    }
    annotations.insert(REVISION.to_owned(), revision.to_string());
    if existed && before > 0 {
        let history = annotations.entry(REVISION_HISTORY.to_owned()).or_default();
        if !history.is_empty() {
            history.push(',');
        }
        history.push_str(&before.to_string());
        while history.len() > HISTORY_MAX_CHARS {
            let Some((_, rest)) = history.split_once(',') else { break };
            *history = rest.to_owned();
        }
    }
}
