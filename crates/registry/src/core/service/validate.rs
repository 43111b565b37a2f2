//! Checks of services, in upstream's order.
use crate::at::same;
use crate::core::endpoints::validate_reachable;
use crate::meta::validate_labels;
use crate::{At, names};
use api::{FieldError, FieldErrors, Value};
use value::json;

pub(super) fn service(new: &Value, old: Option<&Value>) -> FieldErrors {
    let (spec, mut errors) = (At::root(new).get("spec"), FieldErrors::new());
    if let Some(old) = old {
        update(&spec, &At::root(old).get("spec"), &mut errors);
    }
    let headless = is_headless(&spec);
    if spec.get("ports").is_empty() && !headless && kind(&spec) != "ExternalName" {
        errors.push(spec.get("ports").required(""));
    }
    type_rules(&spec, headless, &mut errors);
    let ports: Vec<At> = spec.get("ports").items().collect();
    let mut seen = Vec::new();
    for port in &ports {
        service_port(port, ports.len() > 1, &mut seen, &mut errors);
    }
    validate_labels(&spec.get("selector"), &mut errors);
    affinity(&spec, &mut errors);
    cluster_ips(&spec, &mut errors);
    for ip in spec.get("externalIPs").items() {
        let texts = names::ip(ip.text());
        if texts.is_empty() {
            validate_reachable(&ip, &mut errors);
        }
        ip.each(texts, &mut errors);
    }
    let types = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    spec.get("type").one_of(&types, true, &mut errors);
    port_clashes(&spec, &ports, &mut errors);
    load_balancer(&spec, &mut errors);
    traffic(&spec, &mut errors);
    errors
}

fn kind<'a>(spec: &At<'a>) -> &'a str {
    spec.get("type").text()
}

fn is_headless(spec: &At) -> bool {
    let ips = spec.get("clusterIPs");
    ips.len() == 1 && ips.texts().next() == Some("None")
        || ips.is_empty() && spec.get("clusterIP").text() == "None"
}

fn type_rules(spec: &At, headless: bool, errors: &mut FieldErrors) {
    match kind(spec) {
        kind @ ("LoadBalancer" | "NodePort") if headless => {
            let field = spec.child("clusterIPs[0]");
            let why = format!("may not be set to 'None' for {kind} services");
            errors.push(FieldError::invalid(field, "None", why));
        }
        "ExternalName" => {
            for field in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                if !spec.get(field).is_empty() {
                    let why = "may not be set for ExternalName services";
                    errors.push(spec.get(field).forbidden(why));
                }
            }
            let name = spec.get("externalName");
            match name.text().trim_end_matches('.') {
                "" => errors.push(name.required("")),
                text => name.each(names::subdomain(text, false), errors),
            }
        }
        _ => {}
    }
}

fn service_port<'a>(
    port: &At<'a>,
    name_required: bool,
    seen: &mut Vec<&'a str>,
    errors: &mut FieldErrors,
) {
    let name = port.get("name");
    if !name.is_empty() {
        name.each(names::label(name.text(), false), errors);
        if seen.contains(&name.text()) {
            errors.push(name.duplicate());
        }
        seen.push(name.text());
    } else if name_required {
        errors.push(name.required(""));
    }
    let number = port.get("port");
    let field = number.path.clone();
    for why in names::port_number(number.number()) {
        errors.push(FieldError::invalid(field.clone(), number.number(), why));
    }
    port.get("protocol").one_of(&["SCTP", "TCP", "UDP"], true, errors);
    port_or_name(&port.get("targetPort"), errors);
    validate_app_protocol(&port.get("appProtocol"), errors);
}

/// A port's number, or the name of a container's port.
pub(crate) fn port_or_name(port: &At, errors: &mut FieldErrors) {
    match port.int() {
        Some(number) => port.each(names::port_number(number), errors),
        None => port.each(names::port_name(port.text()), errors),
    }
}

/// A qualified name, if it is there.
pub(crate) fn validate_app_protocol(protocol: &At, errors: &mut FieldErrors) {
    if protocol.is_set() {
        protocol.each(names::qualified(protocol.text()), errors);
    }
}

fn affinity(spec: &At, errors: &mut FieldErrors) {
    spec.get("sessionAffinity").one_of(&["ClientIP", "None"], true, errors);
    let config = spec.get("sessionAffinityConfig");
    match spec.get("sessionAffinity").text() {
        "None" if config.is_set() => {
            errors.push(config.forbidden("must not be set when session affinity is None"));
        }
        "ClientIP" => {
            let timeout = config.get("clientIP.timeoutSeconds");
            if timeout.must("when session affinity type is ClientIP", errors)
                && !(1..=86400).contains(&timeout.number())
            {
                errors.push(timeout.invalid("must be greater than 0 and less than 86400"));
            }
        }
        _ => {}
    }
}

fn cluster_ips(spec: &At, errors: &mut FieldErrors) {
    if kind(spec) == "ExternalName" {
        return;
    }
    let (one, ips) = (spec.get("clusterIP"), spec.get("clusterIPs"));
    let all: Vec<&str> = ips.texts().collect();
    match (one.text(), all.first()) {
        ("", Some(_)) => {
            errors.push(ips.invalid("must be empty when `clusterIP` is not specified"));
        }
        ("", None) => {}
        (_, None) => errors.push(ips.required("")),
        (one, Some(first)) if one != *first => {
            errors.push(ips.invalid("first value must match `clusterIP`"));
        }
        _ => {}
    }
    let mut families = Vec::new();
    for family in spec.get("ipFamilies").items() {
        family.one_of(&["IPv4", "IPv6"], true, errors);
        if families.contains(&family.text()) {
            errors.push(family.duplicate());
        }
        families.push(family.text());
    }
    let policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    spec.get("ipFamilyPolicy").one_of(&policies, false, errors);
    let mut bad = false;
    for (i, ip) in ips.items().enumerate() {
        if i == 0 && ip.text() == "None" {
            if all.len() > 1 {
                bad = true;
                errors.push(ips.invalid("'None' must be the first and only value"));
            }
            continue;
        }
        let texts = names::ip(ip.text());
        bad |= !texts.is_empty();
        ip.each(texts, errors);
    }
    if all.len() > 2 {
        errors.push(ips.invalid("may only hold up to 2 values"));
    }
    if bad {
        return;
    }
    let v6 = |ip: &str| ip.contains(':');
    if all.len() > 1 && all.iter().all(|ip| v6(ip) == v6(all[0])) {
        errors.push(ips.invalid("may specify no more than one IP for each IP family"));
    }
    for (i, (ip, family)) in ips.items().zip(&families).enumerate() {
        if ip.text() != "None" && v6(ip.text()) != (*family == "IPv6") {
            let why = format!("expected an {family} value as indicated by `ipFamilies[{i}]`");
            errors.push(ip.invalid(why));
        }
    }
}

fn port_clashes(spec: &At, ports: &[At], errors: &mut FieldErrors) {
    let key = |port: &At, number: &str| {
        (port.get("protocol").text().to_owned(), port.get(number).number())
    };
    if kind(spec) == "ClusterIP" {
        for port in ports.iter().filter(|port| port.get("nodePort").number() != 0) {
            let why = "may not be used when `type` is 'ClusterIP'";
            errors.push(port.get("nodePort").forbidden(why));
        }
    }
    for (i, port) in ports.iter().enumerate() {
        let number = port.get("nodePort").number();
        let clash = |other: &At| key(other, "nodePort") == key(port, "nodePort");
        if number != 0 && ports[..i].iter().any(clash) {
            errors.push(port.get("nodePort").duplicate());
        }
    }
    for (i, port) in ports.iter().enumerate() {
        if ports[..i].iter().any(|other| key(other, "port") == key(port, "port")) {
            let shown =
                json!({ "port": port.get("port").value, "protocol": port.get("protocol").value });
            errors.push(FieldError::duplicate(port.path.clone(), shown));
        }
    }
}

fn load_balancer(spec: &At, errors: &mut FieldErrors) {
    let is = kind(spec) == "LoadBalancer";
    let why = "may only be used when `type` is 'LoadBalancer'";
    let ranges = spec.get("loadBalancerSourceRanges");
    if !is && !ranges.is_empty() {
        errors.push(FieldError::forbidden(spec.child("LoadBalancerSourceRanges"), why));
    }
    for range in ranges.items() {
        range.each(names::cidr(range.text().trim()), errors);
    }
    for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
        if !is && spec.has(field) {
            errors.push(spec.get(field).forbidden(why));
        }
    }
    let class = spec.get("loadBalancerClass");
    if is && class.is_set() {
        class.each(names::qualified(class.text()), errors);
    }
}

fn traffic(spec: &At, errors: &mut FieldErrors) {
    let outside = matches!(kind(spec), "NodePort" | "LoadBalancer")
        || kind(spec) == "ClusterIP" && !spec.get("externalIPs").is_empty();
    let policy = spec.get("externalTrafficPolicy");
    if outside {
        policy.one_of(&["Cluster", "Local"], true, errors);
    } else if !policy.is_empty() {
        errors.push(policy.invalid("may only be set for externally-accessible services"));
    }
    let health = spec.get("healthCheckNodePort");
    let checked = kind(spec) == "LoadBalancer" && policy.text() == "Local";
    if health.number() != 0 {
        if checked {
            health.each(names::port_number(health.number()), errors);
        } else {
            let why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` \
                       is 'Local'";
            errors.push(health.invalid(why));
        }
    }
    let internal = kind(spec) != "ExternalName";
    spec.get("internalTrafficPolicy").one_of(&["Cluster", "Local"], internal, errors);
    let distributions = ["PreferClose", "PreferSameZone", "PreferSameNode"];
    spec.get("trafficDistribution").one_of(&distributions, false, errors);
}

fn update(new: &At, old: &At, errors: &mut FieldErrors) {
    if kind(new) != "ExternalName" && kind(old) != "ExternalName" {
        let (was, is) = (is_headless(old), is_headless(new));
        if !(was && is) {
            primary_stays(new, old, "clusterIPs", "clusterIP", errors);
        }
        if !was && !is {
            primary_stays(new, old, "ipFamilies", "ipFamily", errors);
        }
    }
    let class = new.get("loadBalancerClass");
    if kind(new) == "LoadBalancer"
        && kind(old) == "LoadBalancer"
        && !same(class.value, old.get("loadBalancerClass").value)
    {
        errors.push(class.invalid("may not change once set"));
    }
    let checked = |spec: &At| {
        kind(spec) == "LoadBalancer" && spec.get("externalTrafficPolicy").text() == "Local"
    };
    let health = new.get("healthCheckNodePort");
    if checked(new) && checked(old) && health.value != old.get("healthCheckNodePort").value {
        errors.push(health.forbidden("field is immutable"));
    }
}

/// The first of the list never changes; the second may come and go.
fn primary_stays(new: &At, old: &At, field: &str, word: &str, errors: &mut FieldErrors) {
    let (now, was) = (new.get(field), old.get(field));
    let (list, had): (Vec<&str>, Vec<&str>) = (now.texts().collect(), was.texts().collect());
    let shown = if now.is_set() { now.value.clone() } else { Value::Null };
    let at = |i: usize| format!("{}[{i}]", now.path);
    if list.len() == had.len() {
        for i in (0..had.len()).filter(|i| list[*i] != had[*i]) {
            let why = "may not change once set";
            errors.push(FieldError::invalid(at(i), shown.clone(), why));
        }
        return;
    }
    match (had.first(), list.first()) {
        (Some(_), None) => {
            let why = format!("primary {word} can not be unset");
            errors.push(FieldError::invalid(at(0), shown, why));
        }
        (Some(old), Some(new)) if old != new => {
            errors.push(FieldError::invalid(at(0), shown, "may not change once set"));
        }
        _ => {}
    }
    let policy = new.get("ipFamilyPolicy");
    if had.len() > list.len() && list.len() == 1 && policy.text() != "SingleStack" {
        let why = format!("must be set to 'SingleStack' when releasing the secondary {word}");
        errors.push(policy.invalid(why));
    }
}
