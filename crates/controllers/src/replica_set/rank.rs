//! Which pods go first when there are too many: those that would be missed least.
use crate::pods;
use api::Kind;
use api::k8s::api::core::v1::Pod;
use reconcile::{Now, meta};
use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;
use std::sync::Arc;

const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// The `n` pods to delete, first to go first.
pub(super) fn victims<'a>(
    live: &[&'a Arc<Pod>],
    related: &[&Arc<Pod>],
    n: usize,
    now: Now,
) -> Vec<&'a Arc<Pod>> {
    let mut on_node: HashMap<&str, usize> = HashMap::new();
    for pod in related {
        *on_node.entry(pods::node(pod)).or_default() += 1;
    }
    let mut ranked = live.to_vec();
    let neighbours = |pod: &Pod| on_node.get(pods::node(pod)).copied().unwrap_or(0);
    ranked.sort_by(|a, b| {
        let key = |pod: &Pod| {
            let assigned = !pods::node(pod).is_empty();
            let phase = match pods::phase(pod) {
                "" | "Pending" => 0,
                "Unknown" => 1,
                _ => 2,
            };
            (assigned, phase, pods::is_ready(pod), cost(pod), Reverse(neighbours(pod)))
        };
        key(a).cmp(&key(b)).then_with(|| younger(a, b, now))
    });
    ranked.truncate(n);
    ranked
}

/// Ready for less long, then restarted more often, then younger: in ages that double, so that the
/// choice among pods of about the same age is by chance (by uid) and spreads.
fn younger(a: &Pod, b: &Pod, now: Now) -> Ordering {
    let ready = |pod| pods::ready_since(pod).map(|since| magnitude(since, now));
    let born = |pod: &Pod| {
        let created = pod.metadata.creation_timestamp.as_ref();
        created.map(|time| magnitude(time.0, now))
    };
    ready(a)
        .cmp(&ready(b))
        .then_with(|| pods::restarts(b).cmp(&pods::restarts(a)))
        .then_with(|| born(a).cmp(&born(b)))
        .then_with(|| a.uid().cmp(b.uid()))
}

fn magnitude(since: Now, now: Now) -> u32 {
    let nanos = now.duration_since(since).as_nanos();
    u128::try_from(nanos).ok().and_then(u128::checked_ilog2).unwrap_or(0)
}

fn cost(pod: &Pod) -> i32 {
    let text = meta::annotation(&pod.metadata, DELETION_COST);
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}
