//! `services`: a stable address for a set of pods. Addresses and node ports are given out by the
//! API server; what is asked for, and what no longer fits the type, is settled here.
mod validate;

use crate::at::{is_empty, items_mut, map_mut, remove, restore, set, set_default, sub};
use crate::cells::{columns, joined, labels, load_balancer, text, text_or};
use crate::{At, Column, Info, Resource, Scope, Subresource, names};
use api::{FieldErrors, Gvk, Value};
use value::json;

pub(crate) use validate::{port_or_name, validate_app_protocol};

pub(crate) struct Services;

static INFO: Info = Info::new(Gvk::fixed("", "v1", "Service"), "services", Scope::Namespaced)
    .short(&["svc"])
    .categories(&["all"])
    .with_create_on_update()
    .subresources(
        const {
            &[
                Subresource::new(
                    "proxy",
                    super::pod::PROXY,
                    Some(Gvk::fixed("", "v1", "ServiceProxyOptions")),
                ),
                Subresource::STATUS,
            ]
        },
    );

impl Resource for Services {
    fn info(&self) -> &Info {
        &INFO
    }
    fn default(&self, object: &mut Value) {
        if map_mut(object, "spec").is_none() || map_mut(object, "status").is_none() {
            return;
        }
        if let Some(spec) = sub(object, "spec") {
            default_spec(spec);
        }
        set_default(&mut object["status"], "loadBalancer", json!({}));
        if text(object, "spec.type") == "LoadBalancer"
            && let Some(balancer) = sub(&mut object["status"], "loadBalancer")
        {
            for ingress in items_mut(balancer, "ingress") {
                if !is_empty(&ingress["ip"]) {
                    set_default(ingress, "ipMode", "VIP");
                }
            }
        }
    }
    fn prepare_create(&self, new: &mut Value) {
        set(new, "status", json!({ "loadBalancer": {} }));
        if let Some(spec) = sub(new, "spec") {
            sync_cluster_ips(spec, None);
            families(spec, None);
        }
    }
    fn prepare_update(&self, new: &mut Value, old: &Value) {
        restore(new, old, "status");
        if let Some(spec) = sub(new, "spec") {
            patch_allocated(spec, &old["spec"]);
            sync_cluster_ips(spec, Some(&old["spec"]));
            drop_unfitting(spec, &old["spec"]);
            families(spec, Some(&old["spec"]));
        }
    }
    fn prepare_subresource(&self, _name: &str, new: &mut Value, old: &Value) {
        restore(new, old, "spec");
    }
    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        validate::service(new, old)
    }
    fn validate_name(&self, name: &str, generated_prefix: bool) -> Vec<String> {
        names::label(name, generated_prefix)
    }
    fn selectable_fields(&self) -> &[&'static str] {
        &["spec.clusterIP", "spec.type"]
    }
    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        const TOPOLOGY: &str = "service.kubernetes.io/topology-mode";
        let mode = new["metadata"]["annotations"][TOPOLOGY].as_str().unwrap_or_default();
        let warned = mode.eq_ignore_ascii_case("auto").then(|| {
            format!(
                "metadata.annotations[{TOPOLOGY}]: Kybern does not act on it: set \
                 spec.trafficDistribution"
            )
        });
        warned.into_iter().collect()
    }
    columns![
        Column::NAME,
        Column::new("Type", "string", "How the service is exposed.").cell(|o, _| text(
            o,
            "spec.type"
        )
        .into()),
        Column::new("Cluster-IP", "string", "The address of the service inside of the cluster.")
            .cell(|o, _| {
                let first = o["spec"]["clusterIPs"].get(0).and_then(Value::as_str);
                first.unwrap_or("<none>").into()
            }),
        Column::new("External-IP", "string", "Addresses for traffic from outside.")
            .cell(|o, _| external_ip(o).into()),
        Column::new("Port(s)", "string", "The ports of the service.").cell(|o, _| ports(o).into()),
        Column::AGE,
        Column::new("Selector", "string", "Labels of the pods behind the service.")
            .wide()
            .cell(|o, _| labels(o, "spec.selector").into()),
    ];
}

fn kind(spec: &Value) -> &str {
    spec["type"].as_str().unwrap_or_default()
}

fn default_spec(spec: &mut Value) {
    set_default(spec, "sessionAffinity", "None");
    match spec["sessionAffinity"].as_str() {
        Some("None") => remove(spec, "sessionAffinityConfig"),
        Some("ClientIP")
            if spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"].is_null() =>
        {
            let config = json!({ "clientIP": { "timeoutSeconds": 10800 } });
            set(spec, "sessionAffinityConfig", config);
        }
        _ => {}
    }
    set_default(spec, "type", "ClusterIP");
    if let (Some(one), true) = (spec["clusterIP"].as_str(), is_empty(&spec["clusterIPs"]))
        && !one.is_empty()
    {
        let list = json!([one]);
        set(spec, "clusterIPs", list);
    }
    for port in items_mut(spec, "ports") {
        set_default(port, "protocol", "TCP");
        if is_empty(&port["targetPort"]) || port["targetPort"] == 0 {
            let number = port["port"].clone();
            set(port, "targetPort", number);
        }
    }
    let kind = kind(spec).to_owned();
    let cluster = matches!(kind.as_str(), "ClusterIP" | "NodePort" | "LoadBalancer");
    let outside = matches!(kind.as_str(), "NodePort" | "LoadBalancer")
        || kind == "ClusterIP" && !is_empty(&spec["externalIPs"]);
    if outside {
        set_default(spec, "externalTrafficPolicy", "Cluster");
    }
    if cluster {
        set_default(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        set_default(spec, "allocateLoadBalancerNodePorts", true);
    }
}

/// Clients that know only `clusterIP`, and those that know only `clusterIPs`, are both understood.
fn sync_cluster_ips(spec: &mut Value, old: Option<&Value>) {
    let one = spec["clusterIP"].as_str().unwrap_or_default().to_owned();
    let list_empty = is_empty(&spec["clusterIPs"]);
    match old {
        None if !one.is_empty() && list_empty => set(spec, "clusterIPs", json!([one])),
        None => {}
        Some(old) => {
            let was = old["clusterIP"].as_str().unwrap_or_default();
            let one_changed = one != was;
            let list_changed = !crate::at::same(&spec["clusterIPs"], &old["clusterIPs"]);
            if one_changed && !list_changed {
                match one.is_empty() {
                    true => remove(spec, "clusterIPs"),
                    false => set(spec, "clusterIPs", json!([one])),
                }
            } else if list_changed && !one_changed && list_empty {
                remove(spec, "clusterIP");
            }
        }
    }
}

/// What an update left out is kept, where the type still has it.
fn patch_allocated(spec: &mut Value, old: &Value) {
    let with_ip = |kind: &str| matches!(kind, "ClusterIP" | "NodePort" | "LoadBalancer");
    let with_ports = |kind: &str| matches!(kind, "NodePort" | "LoadBalancer");
    let (now, was) = (kind(spec).to_owned(), kind(old).to_owned());
    if with_ip(&now) && with_ip(&was) {
        for field in ["clusterIP", "clusterIPs"] {
            if is_empty(&spec[field]) {
                restore(spec, old, field);
            }
        }
    }
    if with_ports(&now) && with_ports(&was) {
        let key =
            |port: &Value| (port["port"].as_i64(), port["protocol"].as_str().map(str::to_owned));
        let used: Vec<i64> = spec["ports"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|port| port["nodePort"].as_i64())
            .collect();
        for port in items_mut(spec, "ports") {
            let had = old["ports"].as_array().into_iter().flatten().find(|p| key(p) == key(port));
            let number = had.and_then(|had| had["nodePort"].as_i64());
            if let Some(number) = number.filter(|number| *number != 0 && !used.contains(number))
                && port["nodePort"].as_i64().unwrap_or_default() == 0
            {
                set(port, "nodePort", number);
            }
        }
    }
    let keeps = now == "LoadBalancer" && was == "LoadBalancer" || with_ports(&now);
    if keeps
        && now == "LoadBalancer"
        && spec["externalTrafficPolicy"] == "Local"
        && spec["healthCheckNodePort"].as_i64().unwrap_or_default() == 0
    {
        restore(spec, old, "healthCheckNodePort");
    }
}

/// Clears what belonged to the old type, unless the client changed it on purpose.
fn drop_unfitting(spec: &mut Value, old: &Value) {
    let (now, was) = (kind(spec).to_owned(), kind(old).to_owned());
    let unchanged = |spec: &Value, field: &str| crate::at::same(&spec[field], &old[field]);
    if now == "ExternalName" && was != now {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            if unchanged(spec, field) {
                remove(spec, field);
            }
        }
    }
    let ports = |kind: &str| matches!(kind, "NodePort" | "LoadBalancer");
    if ports(&was) && !ports(&now) {
        let had: Vec<Value> = old["ports"].as_array().cloned().unwrap_or_default();
        let numbers = |list: &[Value]| -> Vec<Value> {
            list.iter().map(|port| port["nodePort"].clone()).collect()
        };
        let have = spec["ports"].as_array().cloned().unwrap_or_default();
        if numbers(&have) == numbers(&had) {
            for port in items_mut(spec, "ports") {
                remove(port, "nodePort");
            }
        }
    }
    let check =
        |spec: &Value| kind(spec) == "LoadBalancer" && spec["externalTrafficPolicy"] == "Local";
    if check(old) && !check(spec) && unchanged(spec, "healthCheckNodePort") {
        remove(spec, "healthCheckNodePort");
    }
    if was == "LoadBalancer" && now != was {
        for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
            if unchanged(spec, field) {
                remove(spec, field);
            }
        }
    }
    let outside = |spec: &Value| {
        ports(kind(spec)) || kind(spec) == "ClusterIP" && !is_empty(&spec["externalIPs"])
    };
    if outside(old) && !outside(spec) && unchanged(spec, "externalTrafficPolicy") {
        remove(spec, "externalTrafficPolicy");
    }
    if now == "ExternalName" && was != now && unchanged(spec, "internalTrafficPolicy") {
        remove(spec, "internalTrafficPolicy");
    }
}

/// Families follow the addresses that were asked for; a single family is the default.
fn families(spec: &mut Value, old: Option<&Value>) {
    if kind(spec) == "ExternalName" {
        return;
    }
    if let Some(old) = old.filter(|old| kind(old) != "ExternalName") {
        for field in ["ipFamilies", "ipFamilyPolicy"] {
            if is_empty(&spec[field]) {
                restore(spec, old, field);
            }
        }
    }
    let ips = At::root(spec).get("clusterIPs");
    let headless = ips.texts().next() == Some("None");
    let given: Vec<&str> =
        ips.texts().map(|ip| if ip.contains(':') { "IPv6" } else { "IPv4" }).collect();
    let selectorless_headless = headless && is_empty(&spec["selector"]);
    if is_empty(&spec["ipFamilies"]) && !headless && !given.is_empty() {
        let list = json!(given);
        set(spec, "ipFamilies", list);
    }
    if is_empty(&spec["ipFamilyPolicy"]) {
        let two = spec["ipFamilies"].as_array().is_some_and(|list| list.len() == 2);
        let policy = match (two, selectorless_headless) {
            (true, _) => "RequireDualStack",
            (false, true) => "RequireDualStack",
            (false, false) => "SingleStack",
        };
        set(spec, "ipFamilyPolicy", policy);
    }
    if is_empty(&spec["ipFamilies"]) {
        let list = if selectorless_headless { json!(["IPv4", "IPv6"]) } else { json!(["IPv4"]) };
        set(spec, "ipFamilies", list);
    }
}

fn external_ip(service: &Value) -> String {
    let ips = joined(service, "spec.externalIPs");
    match (text(service, "spec.type").as_str(), ips.as_str()) {
        ("ClusterIP" | "NodePort", "") => "<none>".to_owned(),
        ("ClusterIP" | "NodePort", _) => ips,
        ("LoadBalancer", _) => {
            let all: Vec<String> =
                [load_balancer(service), ips].into_iter().filter(|text| !text.is_empty()).collect();
            if all.is_empty() { "<pending>".to_owned() } else { all.join(",") }
        }
        ("ExternalName", _) => text(service, "spec.externalName"),
        _ => "<unknown>".to_owned(),
    }
}

fn ports(service: &Value) -> String {
    let ports = At::root(service).get("spec.ports");
    let list: Vec<String> = ports
        .items()
        .map(|port| {
            let (number, protocol) = (port.get("port").number(), port.get("protocol").text());
            match port.get("nodePort").number() {
                0 => format!("{number}/{protocol}"),
                node => format!("{number}:{node}/{protocol}"),
            }
        })
        .collect();
    text_or(&json!({ "all": list.join(",") }), "all", "<none>")
}

#[cfg(test)]
mod tests;
