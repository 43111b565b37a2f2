//! What upstream fills in for a pod, and for the pod template of a workload.
use crate::at::{items_mut, map_mut, set, set_default, sub};
use crate::quantities::{canonical, canonical_list, canonical_resources, fill};
use api::Value;
use value::json;

/// Defaults of a pod itself: those of a template, and what only pods get.
pub(crate) fn pod(pod: &mut Value) {
    if map_mut(pod, "spec").is_none() {
        return;
    }
    if let Some(spec) = sub(pod, "spec") {
        pod_spec(spec);
        if spec["terminationGracePeriodSeconds"].as_i64().is_some_and(|seconds| seconds < 0) {
            set(spec, "terminationGracePeriodSeconds", 1);
        }
        set_default(spec, "enableServiceLinks", true);
        let host_network = spec["hostNetwork"].as_bool() == Some(true);
        for list in ["containers", "initContainers"] {
            for container in items_mut(spec, list) {
                requests_from_limits(container);
                if host_network {
                    host_ports(container);
                }
            }
        }
    }
    if let Some(status) = sub(pod, "status") {
        sync_ips(status, "podIP", "podIPs");
        sync_ips(status, "hostIP", "hostIPs");
    }
}

/// Defaults of `template`, as in every workload.
pub(crate) fn template(object: &mut Value) {
    let template = sub(object, "spec").and_then(|spec| sub(spec, "template"));
    if let Some(spec) = template.and_then(|template| sub(template, "spec")) {
        pod_spec(spec);
    }
}

/// The singular field wins over the list.
fn sync_ips(status: &mut Value, one: &str, list: &str) {
    let single = status[one].as_str().unwrap_or_default().to_owned();
    let first = status[list].get(0).and_then(|ip| ip["ip"].as_str()).map(str::to_owned);
    match first {
        Some(first) if single.is_empty() => set(status, one, first),
        Some(first) if first == single => {}
        _ if single.is_empty() => {}
        _ if list == "hostIPs" && first.is_some() => {}
        _ => set(status, list, json!([{ "ip": single }])),
    }
}

pub(crate) fn pod_spec(spec: &mut Value) {
    let account = ["serviceAccountName", "serviceAccount"]
        .into_iter()
        .find_map(|field| spec[field].as_str().filter(|name| !name.is_empty()));
    if let Some(account) = account.map(str::to_owned) {
        set(spec, "serviceAccountName", account.clone());
        set(spec, "serviceAccount", account);
    }
    set_default(spec, "dnsPolicy", "ClusterFirst");
    set_default(spec, "restartPolicy", "Always");
    set_default(spec, "securityContext", json!({}));
    set_default(spec, "terminationGracePeriodSeconds", 30);
    set_default(spec, "schedulerName", "default-scheduler");
    if let Some(overhead) = spec.get_mut("overhead") {
        canonical_list(overhead);
    }
    canonical_resources(spec, "resources");
    for volume in items_mut(spec, "volumes") {
        self::volume(volume);
    }
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in items_mut(spec, list) {
            self::container(container, list == "ephemeralContainers");
        }
    }
}

fn container(container: &mut Value, ephemeral: bool) {
    let policy = pull_policy(container["image"].as_str().unwrap_or_default());
    set_default(container, "imagePullPolicy", policy);
    set_default(container, "terminationMessagePath", "/dev/termination-log");
    set_default(container, "terminationMessagePolicy", "File");
    if !ephemeral || container.get("resources").is_none() {
        set_default(container, "resources", json!({}));
    }
    canonical_resources(container, "resources");
    for port in items_mut(container, "ports") {
        set_default(port, "protocol", "TCP");
    }
    for env in items_mut(container, "env") {
        let Some(from) = sub(env, "valueFrom") else { continue };
        field_ref(from);
        if let Some(divided) = sub(from, "resourceFieldRef") {
            divisor(divided);
        }
        if let Some(file) = sub(from, "fileKeyRef") {
            set_default(file, "optional", false);
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = sub(container, name) {
            self::probe(probe);
        }
    }
    if let Some(lifecycle) = sub(container, "lifecycle") {
        for name in ["postStart", "preStop"] {
            if let Some(handler) = sub(lifecycle, name) {
                http_get(handler);
            }
        }
    }
}

/// `Always` for what is, or means, `latest`.
pub(crate) fn pull_policy(image: &str) -> &'static str {
    let (name, digest) = image.split_once('@').map_or((image, ""), |(name, rest)| (name, rest));
    let last = name.rsplit('/').next().unwrap_or_default();
    let latest = match last.split_once(':') {
        Some((_, tag)) => tag == "latest",
        None => digest.is_empty(),
    };
    if latest { "Always" } else { "IfNotPresent" }
}

fn probe(probe: &mut Value) {
    http_get(probe);
    if let Some(grpc) = sub(probe, "grpc") {
        set_missing(grpc, "service", "");
    }
    for (field, value) in [
        ("timeoutSeconds", 1),
        ("periodSeconds", 10),
        ("successThreshold", 1),
        ("failureThreshold", 3),
    ] {
        if probe[field].as_i64().unwrap_or_default() == 0 {
            set(probe, field, value);
        }
    }
}

fn http_get(handler: &mut Value) {
    if let Some(get) = sub(handler, "httpGet") {
        set_default(get, "path", "/");
        set_default(get, "scheme", "HTTP");
    }
}

fn field_ref(holder: &mut Value) {
    if let Some(reference) = sub(holder, "fieldRef") {
        set_default(reference, "apiVersion", "v1");
    }
}

/// Upstream writes the zero value out.
fn divisor(reference: &mut Value) {
    set_default(reference, "divisor", "0");
    if let Some(value) = reference.get_mut("divisor") {
        canonical(value);
    }
}

fn set_missing(object: &mut Value, field: &str, value: impl Into<Value>) {
    if object.get(field).is_none_or(Value::is_null) {
        set(object, field, value);
    }
}

fn volume(volume: &mut Value) {
    let has_source = volume
        .as_object()
        .is_some_and(|map| map.iter().any(|(key, value)| key != "name" && !value.is_null()));
    if !has_source {
        set(volume, "emptyDir", json!({}));
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = sub(volume, source) {
            set_missing(source, "defaultMode", 0o644);
        }
    }
    for item in sub(volume, "downwardAPI").into_iter().flat_map(|api| items_mut(api, "items")) {
        downward_item(item);
    }
    for source in sub(volume, "projected").into_iter().flat_map(|all| items_mut(all, "sources")) {
        if let Some(token) = sub(source, "serviceAccountToken") {
            set_missing(token, "expirationSeconds", 3600);
        }
        if let Some(certificate) = sub(source, "podCertificate") {
            set_missing(certificate, "maxExpirationSeconds", 86400);
        }
        for item in sub(source, "downwardAPI").into_iter().flat_map(|api| items_mut(api, "items")) {
            downward_item(item);
        }
    }
    if let Some(size) = sub(volume, "emptyDir").and_then(|dir| dir.get_mut("sizeLimit")) {
        canonical(size);
    }
    if let Some(image) = sub(volume, "image") {
        let policy = pull_policy(image["reference"].as_str().unwrap_or_default());
        set_default(image, "pullPolicy", policy);
    }
    let claim = sub(volume, "ephemeral").and_then(|e| sub(e, "volumeClaimTemplate"));
    if let Some(spec) = claim.and_then(|claim| sub(claim, "spec")) {
        claim_spec(spec);
    }
    volume_source(volume);
}

fn downward_item(item: &mut Value) {
    field_ref(item);
    if let Some(reference) = sub(item, "resourceFieldRef") {
        divisor(reference);
    }
}

/// Of a claim, and of the templates for claims.
pub(crate) fn claim_spec(spec: &mut Value) {
    set_default(spec, "volumeMode", "Filesystem");
    canonical_resources(spec, "resources");
}

/// Sources that pods and persistent volumes have in common.
pub(crate) fn volume_source(holder: &mut Value) {
    if let Some(path) = sub(holder, "hostPath") {
        set_missing(path, "type", "");
    }
    if let Some(iscsi) = sub(holder, "iscsi") {
        set_default(iscsi, "iscsiInterface", "default");
    }
    if let Some(rbd) = sub(holder, "rbd") {
        set_default(rbd, "pool", "rbd");
        set_default(rbd, "user", "admin");
        set_default(rbd, "keyring", "/etc/ceph/keyring");
    }
    if let Some(disk) = sub(holder, "azureDisk") {
        set_default(disk, "cachingMode", "ReadWrite");
        set_default(disk, "fsType", "ext4");
        set_missing(disk, "readOnly", false);
        set_default(disk, "kind", "Shared");
    }
    if let Some(io) = sub(holder, "scaleIO") {
        set_default(io, "storageMode", "ThinProvisioned");
        set_default(io, "fsType", "xfs");
    }
}

/// Only in pods, not in templates.
fn requests_from_limits(container: &mut Value) {
    let Some(resources) = sub(container, "resources") else { return };
    let Some(limits) = resources.get("limits").filter(|limits| limits.is_object()).cloned() else {
        return;
    };
    if let Some(requests) = map_mut(resources, "requests") {
        fill(&limits, requests);
    }
}

fn host_ports(container: &mut Value) {
    for port in items_mut(container, "ports") {
        if port["hostPort"].as_i64().unwrap_or_default() == 0 {
            let number = port["containerPort"].clone();
            set(port, "hostPort", number);
        }
    }
}
