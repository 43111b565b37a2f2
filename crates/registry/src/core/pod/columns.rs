//! The columns of `kubectl get pods`: what a pod's many states come to in one word.
use crate::cells::{condition, find, text, text_or};
use crate::{At, Column, object};
use api::Value;

pub(crate) const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::new(
        "Ready",
        "string",
        "The aggregate readiness state of this pod for accepting traffic.",
    )
    .cell(|o, now| summary(o, now).ready.into()),
    Column::new("Status", "string", "The aggregate status of the containers in this pod.")
        .cell(|o, now| summary(o, now).status.into()),
    Column::new(
        "Restarts",
        "string",
        "The number of times the containers in this pod have been restarted and when the last \
         container in this pod has restarted.",
    )
    .cell(|o, now| summary(o, now).restarts.into()),
    Column::AGE,
    Column::new("IP", "string", "IP address allocated to the pod.").wide().cell(|o, _| {
        let ips = At::root(o).get("status.podIPs");
        let first = ips.items().next().map(|ip| ip.get("ip").text().to_owned());
        first.filter(|ip| !ip.is_empty()).unwrap_or_else(|| "<none>".to_owned()).into()
    }),
    Column::new("Node", "string", "The node that the pod is bound to.")
        .wide()
        .cell(|o, _| text_or(o, "spec.nodeName", "<none>").into()),
    Column::new("Nominated Node", "string", "The node that the pod may get by preemption.")
        .wide()
        .cell(|o, _| text_or(o, "status.nominatedNodeName", "<none>").into()),
    Column::new("Readiness Gates", "string", "How many of the readiness gates are open.")
        .wide()
        .cell(|o, _| gates(o).into()),
];

struct Summary {
    ready: String,
    status: String,
    restarts: String,
}

/// Restarts, and the latest end of a container before a restart.
#[derive(Default, Clone, Copy)]
struct Restarts {
    count: i64,
    last: Option<i64>,
}

impl Restarts {
    fn add(&mut self, container: &At) {
        self.count += container.get("restartCount").number();
        let finished = container.get("lastState.terminated.finishedAt");
        self.last = self.last.max(object::unix_seconds(finished.text()));
    }
    fn text(self, now: i64) -> String {
        match self.last {
            Some(last) if self.count != 0 => {
                format!("{} ({} ago)", self.count, object::human_duration(now - last))
            }
            _ => self.count.to_string(),
        }
    }
}

fn summary(pod: &Value, now: i64) -> Summary {
    let root = At::root(pod);
    let mut status = text_or(pod, "status.reason", &text(pod, "status.phase"));
    let scheduled = root.get("status.conditions").items().any(|condition| {
        condition.get("type").text() == "PodScheduled"
            && condition.get("reason").text() == "SchedulingGated"
    });
    if scheduled {
        "SchedulingGated".clone_into(&mut status);
    }
    let sidecars: Vec<&str> = root
        .get("spec.initContainers")
        .items()
        .filter(|container| container.get("restartPolicy").text() == "Always")
        .map(|container| container.get("name").text())
        .collect();
    let total = root.get("spec.containers").len() + sidecars.len();
    let (mut restarts, mut sidecar_restarts) = (Restarts::default(), Restarts::default());
    let (mut ready, mut initializing) = (0, None);
    for (i, container) in root.get("status.initContainerStatuses").items().enumerate() {
        restarts.add(&container);
        let sidecar = sidecars.contains(&container.get("name").text());
        if sidecar {
            sidecar_restarts.add(&container);
        }
        let ended = container.get("state.terminated");
        if ended.is_set() && ended.get("exitCode").number() == 0 {
            continue;
        }
        if sidecar && container.get("started").bool() {
            ready += usize::from(container.get("ready").bool());
            continue;
        }
        initializing = Some(init_status(&container, i, root.get("spec.initContainers").len()));
        break;
    }
    let started = initializing.is_none() || condition(pod, "Initialized") == "True";
    if let Some(text) = initializing {
        status = text;
    }
    if started {
        restarts = sidecar_restarts;
        status = running_status(pod, status, &mut restarts, &mut ready);
    }
    let over = matches!(text(pod, "status.phase").as_str(), "Failed" | "Succeeded");
    if !find(pod, "metadata.deletionTimestamp").is_null() {
        match text(pod, "status.reason").as_str() {
            "NodeLost" => "Unknown".clone_into(&mut status),
            _ if !over => "Terminating".clone_into(&mut status),
            _ => {}
        }
    }
    Summary { ready: format!("{ready}/{total}"), status, restarts: restarts.text(now) }
}

fn init_status(container: &At, at: usize, total: usize) -> String {
    let ended = container.get("state.terminated");
    let waiting = container.get("state.waiting.reason").text();
    match (ended.is_set(), waiting) {
        (true, _) => format!("Init:{}", end_text(&ended)),
        (false, "" | "PodInitializing") => format!("Init:{at}/{total}"),
        (false, reason) => format!("Init:{reason}"),
    }
}

fn end_text(ended: &At) -> String {
    match (ended.get("reason").text(), ended.get("signal").number()) {
        ("", 0) => format!("ExitCode:{}", ended.get("exitCode").number()),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

fn running_status(
    pod: &Value,
    mut status: String,
    restarts: &mut Restarts,
    ready: &mut usize,
) -> String {
    let (mut running, mut failure) = (false, None);
    let containers: Vec<At> = At::root(pod).get("status.containerStatuses").items().collect();
    for container in containers.iter().rev() {
        restarts.add(container);
        let ended = container.get("state.terminated");
        let waiting = container.get("state.waiting.reason").text();
        if !waiting.is_empty() {
            waiting.clone_into(&mut status);
        } else if ended.is_set() {
            status = end_text(&ended);
            if ended.get("exitCode").number() != 0 {
                failure = Some(status.clone());
            }
        } else if container.get("ready").bool() && container.get("state.running").is_set() {
            running = true;
            *ready += 1;
        }
    }
    match (status.as_str(), running, failure) {
        ("Completed", true, _) if condition(pod, "Ready") == "True" => "Running".to_owned(),
        ("Completed", _, Some(failure)) => failure,
        ("Completed", true, None) => "NotReady".to_owned(),
        _ => status,
    }
}

fn gates(pod: &Value) -> String {
    let gates = At::root(pod).get("spec.readinessGates");
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let open =
        gates.items().filter(|gate| condition(pod, gate.get("conditionType").text()) == "True");
    format!("{}/{}", open.count(), gates.len())
}
