//! Room that was made for a pod is kept for it.
use super::{asks, cluster, node, place, pod, refused};
use crate::{Decision, PodInfo, Snapshot, may_go, schedule};
use serde_json::json;
use std::sync::Arc;

fn of_priority(name: &str, priority: i32) -> Arc<PodInfo> {
    let mut one = (*pod(name, json!({"containers": asks("3")}))).clone();
    one.priority = priority;
    Arc::new(one)
}

#[test]
fn less_important_pods_leave_the_room_and_more_important_ones_take_it() {
    let mut snapshot = cluster(1);
    let high = of_priority("high", 10);
    snapshot.nominate(&high, "n0", Vec::new());
    let low = of_priority("low", 9);
    let refusal = refused(&mut snapshot, &low);
    assert!(refusal.message.starts_with("0/1 nodes are available: 1 Insufficient cpu."));
    assert!(!may_go(&mut snapshot, &low, "n0") && may_go(&mut snapshot, &high, "n0"));
    assert!(!snapshot.is_placed("high"), "looking changes nothing");
    // One as important waits, too; what is more important does not, and neither does a small one.
    refused(&mut snapshot, &of_priority("equal", 10));
    let small = pod("small", json!({"containers": asks("1")}));
    assert!(matches!(schedule(&mut snapshot, &small), Decision::Place { .. }));
    place(&mut snapshot, &of_priority("higher", 11));
    refused(&mut snapshot, &high);
    assert_eq!(snapshot.nominated("high"), Some("n0"));
    snapshot.remove("higher");
    place(&mut snapshot, &high);
    assert_eq!(snapshot.nominated("high"), None);
}

#[test]
fn its_own_room_comes_first() {
    let mut snapshot = cluster(3);
    let high = of_priority("high", 10);
    snapshot.nominate(&high, "n2", Vec::new());
    assert_eq!(place(&mut snapshot, &high), "n2");
    // What the API says of it serves after a restart.
    let mut other = (*of_priority("other", 1)).clone();
    other.nominated = Some("n1".to_owned());
    assert_eq!(place(&mut snapshot, &Arc::new(other)), "n1");
}

#[test]
fn nobody_is_evicted_while_room_is_on_its_way() {
    let mut snapshot = cluster(2);
    snapshot.place(&of_priority("low", 0), "n0");
    snapshot.place(&of_priority("mid", 5), "n1");
    let high = of_priority("high", 10);
    let refusal = refused(&mut snapshot, &high);
    let (node, victims) = refusal.preempt.unwrap();
    assert_eq!((node.as_str(), victims.as_slice()), ("n0", &["low".to_owned()][..]));
    snapshot.nominate(&high, &node, victims);
    let again = refused(&mut snapshot, &high);
    assert_eq!(
        again.message,
        "0/2 nodes are available: 2 Insufficient cpu. preemption: not eligible due to a \
         terminating pod on the nominated node."
    );
    assert!(again.preempt.is_none() && !again.give_up);
    // Another looks for room elsewhere.
    let second = refused(&mut snapshot, &of_priority("second", 10));
    assert_eq!(second.preempt, Some(("n1".to_owned(), vec!["mid".to_owned()])));
    snapshot.remove("low");
    assert_eq!(place(&mut snapshot, &high), "n0");
    assert_eq!(snapshot.outranked_by(&high, "n0").len(), 0);
}

#[test]
fn a_refusal_tells_why_preemption_does_not_help_either() {
    let mut snapshot = Snapshot::default();
    snapshot.set_node(&node("a", json!({}), json!({})));
    snapshot.set_node(&node("b", json!({}), json!({"unschedulable": true})));
    snapshot.place(&of_priority("fixed", 100), "a");
    let mut tiny = (*pod("tiny", json!({"containers": asks("1")}))).clone();
    tiny.priority = -1;
    snapshot.place(&Arc::new(tiny), "a");
    let refusal = refused(&mut snapshot, &of_priority("p", 1));
    assert_eq!(
        refusal.message,
        "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) were unschedulable. preemption: \
         0/2 nodes are available: 1 Insufficient cpu, 1 Preemption is not helpful for scheduling."
    );
    assert!(refusal.give_up);
    snapshot.remove("tiny");
    let refusal = refused(&mut snapshot, &of_priority("p", 1));
    assert!(refusal.message.ends_with(
        "1 No preemption victims found for incoming pod, 1 Preemption is not helpful for scheduling."
    ));
}
