use super::*;
use reconcile::sim::{Sim, crash_everywhere};
use serde_json::{Value, json};

fn sim(spec: &Value) -> (Sim, Key) {
    let mut job = json!({
        "metadata": { "name": "j", "namespace": "a", "uid": "job", "generation": 1 },
        "spec": {
            "parallelism": 2, "completions": 3, "backoffLimit": 6,
            "selector": { "matchLabels": { "job": "j" } },
            "template": {
                "metadata": { "labels": { "job": "j" } },
                "spec": { "restartPolicy": "Never",
                          "containers": [{ "name": "c", "image": "i" }] },
            },
        },
    });
    for (field, value) in spec.as_object().unwrap() {
        job["spec"][field] = value.clone();
    }
    let mut sim = Sim::new(&Jobs);
    let key = sim.put::<Job>(job);
    (sim, key)
}

fn active(sim: &Sim) -> Vec<Key> {
    sim.all::<Pod>().into_iter().filter(|pod| pods::is_active(pod)).map(|pod| pod.key()).collect()
}

fn end(sim: &mut Sim, pod: &Key, code: i32) {
    let at = sim.now.to_string();
    let phase = if code == 0 { "Succeeded" } else { "Failed" };
    let ended = json!({ "terminated": { "exitCode": code, "finishedAt": at } });
    let container = json!({
        "name": "c", "state": ended, "ready": false, "restartCount": 0, "image": "i", "imageID": "" });
    let status = json!({ "phase": phase, "containerStatuses": [container] });
    sim.patch::<Pod>(pod, &json!({ "status": status }));
}

/// Ends what runs with this code, and goes on until nothing is planned.
fn round(sim: &mut Sim, key: &Key, code: i32) {
    for pod in active(sim) {
        end(sim, &pod, code);
    }
    sim.settle(&Jobs, key);
}

fn status(sim: &Sim, key: &Key) -> JobStatus {
    sim.get::<Job>(key).status.clone().unwrap()
}

fn verdict(sim: &Sim, key: &Key) -> String {
    let conditions = status(sim, key).conditions;
    let found = ["Complete", "Failed"].iter().find_map(|kind| conditions::find(&conditions, kind));
    found.map_or("none".into(), |condition| {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        format!("{} {}: {}", condition.type_, text(&condition.reason), text(&condition.message))
    })
}

const DONE: &str = "Complete CompletionsReached: Reached expected number of succeeded pods";

#[test]
fn runs_until_enough_have_succeeded() {
    let (mut sim, key) = sim(&json!({}));
    sim.settle(&Jobs, &key);
    assert_eq!(active(&sim).len(), 2);
    assert!(sim.all::<Pod>().iter().all(|pod| is_tracked(pod)));
    assert_eq!(status(&sim, &key).active, Some(2));
    round(&mut sim, &key, 0);
    assert_eq!(active(&sim).len(), 1, "one is missing");
    assert_eq!(status(&sim, &key).succeeded, Some(2));
    round(&mut sim, &key, 0);
    assert_eq!(verdict(&sim, &key), DONE);
    let status = status(&sim, &key);
    assert_eq!((status.succeeded, status.failed, status.active), (Some(3), None, None));
    assert!(status.completion_time.is_some());
    assert!(!sim.all::<Pod>().iter().any(|pod| is_tracked(pod)));
    assert!(sim.event_texts().contains(&"Completed Job completed".to_owned()));
}

#[test]
fn without_completions_any_success_is_enough() {
    let (mut sim, key) = sim(&json!({ "completions": null }));
    sim.settle(&Jobs, &key);
    let first = active(&sim)[0].clone();
    end(&mut sim, &first, 0);
    sim.settle(&Jobs, &key);
    assert_eq!((active(&sim).len(), &*verdict(&sim, &key)), (1, "none"), "the other may go on");
    round(&mut sim, &key, 0);
    assert_eq!(verdict(&sim, &key), DONE);
}

#[test]
fn failures_are_retried_ever_later_and_then_no_more() {
    let (mut sim, key) = sim(&json!({ "backoffLimit": 1, "parallelism": 1 }));
    sim.settle(&Jobs, &key);
    round(&mut sim, &key, 1);
    assert_eq!(active(&sim).len(), 0);
    assert_eq!(sim.plan(&Jobs, &key).again_after.unwrap().as_secs(), 10);
    sim.now += jiff::SignedDuration::from_secs(10);
    sim.settle(&Jobs, &key);
    assert_eq!(active(&sim).len(), 1);
    round(&mut sim, &key, 1);
    let want = "Failed BackoffLimitExceeded: Job has reached the specified backoff limit";
    assert_eq!(verdict(&sim, &key), want);
    assert_eq!(status(&sim, &key).failed, Some(2));
    assert_eq!(sim.event_texts().last().unwrap(), &want["Failed ".len()..].replacen(':', "", 1));
}

#[test]
fn each_index_has_its_pod() {
    let (mut sim, key) = sim(&json!({ "completionMode": "Indexed" }));
    sim.settle(&Jobs, &key);
    let pod = sim.get::<Pod>(&active(&sim)[1]);
    assert_eq!(make::index_of(pod), Some(1));
    let spec = pod.spec.as_ref().unwrap();
    assert_eq!(spec.hostname.as_deref(), Some("j-1"));
    assert_eq!(spec.containers[0].env.as_ref().unwrap()[0].name, "JOB_COMPLETION_INDEX");
    let second = active(&sim)[1].clone();
    end(&mut sim, &second, 0);
    sim.settle(&Jobs, &key);
    assert_eq!(status(&sim, &key).completed_indexes.as_deref(), Some("1"));
    round(&mut sim, &key, 0);
    assert_eq!(status(&sim, &key).completed_indexes.as_deref(), Some("0-2"));
    assert_eq!((&*verdict(&sim, &key), status(&sim, &key).succeeded), (DONE, Some(3)));
}

#[test]
fn a_limit_for_each_index() {
    let spec =
        json!({ "completionMode": "Indexed", "backoffLimitPerIndex": 0, "backoffLimit": 99 });
    let (mut sim, key) = sim(&spec);
    sim.settle(&Jobs, &key);
    let first = active(&sim)[0].clone();
    end(&mut sim, &first, 1);
    round(&mut sim, &key, 0);
    sim.now += jiff::SignedDuration::from_secs(60);
    sim.settle(&Jobs, &key);
    round(&mut sim, &key, 0);
    assert_eq!(status(&sim, &key).failed_indexes.as_deref(), Some("0"));
    assert_eq!(verdict(&sim, &key), "Failed FailedIndexes: Job has failed indexes");
}

#[test]
fn a_success_policy_ends_it_early() {
    let policy = json!({ "rules": [{ "succeededIndexes": "0" }] });
    let (mut sim, key) = sim(&json!({ "completionMode": "Indexed", "successPolicy": policy }));
    sim.settle(&Jobs, &key);
    let first = active(&sim)[0].clone();
    end(&mut sim, &first, 0);
    sim.settle(&Jobs, &key);
    assert_eq!(verdict(&sim, &key), "Complete SuccessPolicy: Matched rules at index 0");
    assert_eq!(active(&sim).len(), 0);
}

#[test]
fn suspended_it_has_no_pods() {
    let (mut sim, key) = sim(&json!({ "suspend": true }));
    sim.settle(&Jobs, &key);
    assert_eq!((active(&sim).len(), status(&sim, &key).start_time), (0, None));
    sim.patch::<Job>(&key, &json!({ "spec": { "suspend": false } }));
    sim.settle(&Jobs, &key);
    assert_eq!(active(&sim).len(), 2);
    assert!(status(&sim, &key).start_time.is_some());
    sim.patch::<Job>(&key, &json!({ "spec": { "suspend": true } }));
    sim.settle(&Jobs, &key);
    assert_eq!((active(&sim).len(), status(&sim, &key).failed), (0, None));
    let events = sim.event_texts();
    for text in ["Suspended Job suspended", "Resumed Job resumed"] {
        assert!(events.iter().any(|event| event == text), "{text}");
    }
}

#[test]
fn the_deadline_ends_it() {
    let (mut sim, key) = sim(&json!({ "activeDeadlineSeconds": 30 }));
    sim.settle(&Jobs, &key);
    assert_eq!(sim.plan(&Jobs, &key).again_after.unwrap().as_secs(), 30);
    sim.now += jiff::SignedDuration::from_secs(30);
    sim.settle(&Jobs, &key);
    let want = "Failed DeadlineExceeded: Job was active longer than specified deadline";
    assert_eq!(verdict(&sim, &key), want);
    assert_eq!(sim.all::<Pod>().len(), 0);
}

#[test]
fn a_failure_policy_decides_what_failures_mean() {
    let policy = json!({ "rules": [
        { "action": "Ignore", "onPodConditions": [{ "type": "DisruptionTarget" }] },
        { "action": "FailJob", "onExitCodes": { "operator": "In", "values": [42] } },
    ] });
    let (mut sim, key) = sim(&json!({ "podFailurePolicy": policy, "parallelism": 1 }));
    sim.settle(&Jobs, &key);
    let pod = active(&sim)[0].clone();
    let at = sim.now.to_string();
    let disrupted =
        json!([{ "type": "DisruptionTarget", "status": "True", "lastTransitionTime": at }]);
    sim.patch::<Pod>(&pod, &json!({ "status": { "conditions": disrupted } }));
    round(&mut sim, &key, 7);
    assert_eq!(status(&sim, &key).failed, None, "ignored");
    sim.now += jiff::SignedDuration::from_secs(10);
    sim.settle(&Jobs, &key);
    let pod = active(&sim)[0].clone();
    round(&mut sim, &key, 42);
    let want = format!(
        "Failed PodFailurePolicy: Container c for pod {pod} failed with exit code 42 matching \
         FailJob rule at index 1"
    );
    assert_eq!(verdict(&sim, &key), want);
}

#[test]
fn pods_of_a_job_that_is_gone_are_let_go() {
    let (mut sim, key) = sim(&json!({}));
    sim.settle(&Jobs, &key);
    sim.remove::<Job>(&key);
    sim.settle(&Jobs, &key);
    assert!(!sim.all::<Pod>().iter().any(|pod| is_tracked(pod)));
}

#[test]
fn crashes_are_made_good() {
    crash_everywhere(&Jobs, || sim(&json!({})));
    crash_everywhere(&Jobs, || {
        let (mut sim, key) = sim(&json!({ "parallelism": 3 }));
        sim.settle(&Jobs, &key);
        let pods = active(&sim);
        end(&mut sim, &pods[0], 0);
        end(&mut sim, &pods[1], 1);
        sim.now += jiff::SignedDuration::from_secs(100);
        (sim, key)
    });
    crash_everywhere(&Jobs, || {
        let (mut sim, key) = sim(&json!({ "parallelism": 3, "completionMode": "Indexed" }));
        sim.settle(&Jobs, &key);
        for pod in active(&sim) {
            end(&mut sim, &pod, 0);
        }
        (sim, key)
    });
}
