//! Pod Security Standards, by the labels of the namespace: `enforce` refuses.
//!
//! `warn` and `audit` are read by the pipeline from [`violations`]; the versions of a policy are
//! those of this release.
use crate::{Operation, Plugin, Request, World};
use api::{ApiError, Value, access::text};

pub(crate) struct PodSecurity;

impl Plugin for PodSecurity {
    fn name(&self) -> &'static str {
        "PodSecurity"
    }
    fn validate(&self, world: &World<'_>, ask: &Request<'_>, pod: &Value) -> Result<(), ApiError> {
        let pods = ask.is("", "pods")
            || (ask.kind.kind == "Pod" && ask.subresource == "ephemeralcontainers");
        let writes = matches!(ask.operation, Operation::Create | Operation::Update);
        if !pods || !writes {
            return Ok(());
        }
        let Some(namespace) = world.objects.get("", "namespaces", "", ask.namespace) else {
            return Ok(());
        };
        let level = text(&namespace, "/metadata/labels/pod-security.kubernetes.io~1enforce");
        let found = violations(level, pod);
        if found.is_empty() {
            return Ok(());
        }
        let version =
            text(&namespace, "/metadata/labels/pod-security.kubernetes.io~1enforce-version");
        let version = if version.is_empty() { "latest" } else { version };
        Err(ask
            .forbidden(format!("violates PodSecurity \"{level}:{version}\": {}", found.join(", "))))
    }
}

const CAPABILITIES: &[&str] = &[
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
const SYSCTLS: &[&str] = &[
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];
const VOLUMES: &[&str] = &[
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
    "image",
];

/// What of the pod a level (`baseline` or `restricted`) does not allow, in upstream's words.
pub fn violations(level: &str, pod: &Value) -> Vec<String> {
    match level {
        "baseline" => baseline(pod),
        "restricted" => {
            let mut found = baseline(pod);
            found.extend(restricted(pod));
            found
        }
        _ => Vec::new(),
    }
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    let lists = ["containers", "initContainers", "ephemeralContainers"];
    lists.into_iter().flat_map(|list| pod["spec"][list].as_array().into_iter().flatten())
}

/// `container "a"` or `containers "a", "b"`, of those for which the check fails.
fn failing(pod: &Value, bad: impl Fn(&Value) -> bool) -> Option<String> {
    let names: Vec<String> = containers(pod)
        .filter(|container| bad(container))
        .map(|container| format!("{:?}", text(container, "/name")))
        .collect();
    match names.as_slice() {
        [] => None,
        [one] => Some(format!("container {one}")),
        many => Some(format!("containers {}", many.join(", "))),
    }
}

fn baseline(pod: &Value) -> Vec<String> {
    let spec = &pod["spec"];
    let mut out = Vec::new();
    let host: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .iter()
        .filter(|field| spec[**field] == true)
        .map(|field| format!("{field}=true"))
        .collect();
    if !host.is_empty() {
        out.push(format!("host namespaces ({})", host.join(", ")));
    }
    if let Some(who) = failing(pod, |c| c["securityContext"]["privileged"] == true) {
        out.push(format!("privileged ({who} must not set securityContext.privileged=true)"));
    }
    let extra = |c: &Value| -> bool {
        let added = c["securityContext"]["capabilities"]["add"].as_array().into_iter().flatten();
        added.filter_map(Value::as_str).any(|cap| !CAPABILITIES.contains(&cap))
    };
    if let Some(who) = failing(pod, extra) {
        let added = containers(pod)
            .filter_map(|c| c["securityContext"]["capabilities"]["add"].as_array())
            .flatten()
            .filter_map(Value::as_str)
            .filter(|cap| !CAPABILITIES.contains(cap));
        let mut list: Vec<String> = added.map(|cap| format!("{cap:?}")).collect();
        list.sort();
        list.dedup();
        out.push(format!(
            "non-default capabilities ({who} must not include {} in \
             securityContext.capabilities.add)",
            list.join(", ")
        ));
    }
    let paths: Vec<String> = spec["volumes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|volume| volume.get("hostPath").is_some())
        .map(|volume| format!("{:?}", text(volume, "/name")))
        .collect();
    if !paths.is_empty() {
        let noun = if paths.len() == 1 { "volume" } else { "volumes" };
        out.push(format!("hostPath volumes ({noun} {})", paths.join(", ")));
    }
    let ports = |c: &Value| {
        let ports = c["ports"].as_array().into_iter().flatten();
        ports.into_iter().any(|port| port["hostPort"].as_i64().unwrap_or(0) != 0)
    };
    if let Some(who) = failing(pod, ports) {
        out.push(format!("hostPort ({who} uses a hostPort)"));
    }
    if let Some(who) =
        failing(pod, |c| c["securityContext"]["procMount"].as_str().is_some_and(|m| m != "Default"))
    {
        out.push(format!(
            "procMount ({who} must not set securityContext.procMount to \"Unmasked\")"
        ));
    }
    if seccomp(&spec["securityContext"]) == Some("Unconfined")
        || containers(pod).any(|c| seccomp(&c["securityContext"]) == Some("Unconfined"))
    {
        out.push("seccompProfile (pod or containers must not set securityContext.seccompProfile.type to \"Unconfined\")".to_owned());
    }
    let sysctls = spec["securityContext"]["sysctls"].as_array().into_iter().flatten();
    let bad: Vec<&str> =
        sysctls.map(|item| text(item, "/name")).filter(|name| !SYSCTLS.contains(name)).collect();
    if !bad.is_empty() {
        out.push(format!("forbidden sysctls ({})", bad.join(", ")));
    }
    out
}

fn seccomp(context: &Value) -> Option<&str> {
    context["seccompProfile"]["type"].as_str()
}

fn restricted(pod: &Value) -> Vec<String> {
    let spec = &pod["spec"];
    let mut out = Vec::new();
    if let Some(who) = failing(pod, |c| c["securityContext"]["allowPrivilegeEscalation"] != false) {
        out.push(format!(
            "allowPrivilegeEscalation != false ({who} must set \
             securityContext.allowPrivilegeEscalation=false)"
        ));
    }
    let keeps = |c: &Value| {
        let dropped = c["securityContext"]["capabilities"]["drop"].as_array();
        !dropped.into_iter().flatten().any(|cap| cap == "ALL")
    };
    if let Some(who) = failing(pod, keeps) {
        out.push(format!(
            "unrestricted capabilities ({who} must set securityContext.capabilities.drop=[\"ALL\"])"
        ));
    }
    let odd: Vec<String> = spec["volumes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|volume| !VOLUMES.iter().any(|kind| volume.get(*kind).is_some()))
        .map(|volume| format!("{:?}", text(volume, "/name")))
        .collect();
    if !odd.is_empty() {
        let noun = if odd.len() == 1 { "volume" } else { "volumes" };
        out.push(format!(
            "restricted volume types ({noun} {} use restricted volume type)",
            odd.join(", ")
        ));
    }
    let pod_level = spec["securityContext"]["runAsNonRoot"] == true;
    let root = |c: &Value| match c["securityContext"]["runAsNonRoot"].as_bool() {
        Some(given) => !given,
        None => !pod_level,
    };
    if let Some(who) = failing(pod, root) {
        out.push(format!(
            "runAsNonRoot != true (pod or {who} must set securityContext.runAsNonRoot=true)"
        ));
    }
    let zero = |context: &Value| context["runAsUser"].as_i64() == Some(0);
    if zero(&spec["securityContext"]) || containers(pod).any(|c| zero(&c["securityContext"])) {
        out.push("runAsUser=0 (pod or containers must not set runAsUser=0)".to_owned());
    }
    let pod_profile = seccomp(&spec["securityContext"]).is_some();
    if let Some(who) = failing(pod, |c| seccomp(&c["securityContext"]).is_none() && !pod_profile) {
        out.push(format!(
            "seccompProfile (pod or {who} must set securityContext.seccompProfile.type to \
             \"RuntimeDefault\" or \"Localhost\")"
        ));
    }
    out
}
