//! Checks of ingresses and network policies.
use crate::core::service::port_or_name;
use crate::{At, names, selectors};
use api::{FieldError, FieldErrors};
use std::net::IpAddr;

pub(super) fn policy(spec: &At, errors: &mut FieldErrors) {
    selectors::validate(&spec.get("podSelector"), errors);
    for (list, peers) in [("ingress", "from"), ("egress", "to")] {
        for rule in spec.get(list).items() {
            for port in rule.get("ports").items() {
                policy_port(&port, errors);
            }
            for peer in rule.get(peers).items() {
                policy_peer(&peer, errors);
            }
        }
    }
    let types = spec.get("policyTypes");
    if types.len() > 2 {
        errors.push(types.invalid("may not specify more than two policyTypes"));
        return;
    }
    for kind in types.items() {
        kind.one_of(&["Ingress", "Egress"], true, errors);
    }
}

fn policy_port(port: &At, errors: &mut FieldErrors) {
    port.get("protocol").one_of(&["TCP", "UDP", "SCTP"], false, errors);
    let (number, end) = (port.get("port"), port.get("endPort"));
    if number.is_set() {
        port_or_name(&number, errors);
    }
    let Some(last) = end.int() else { return };
    match number.int() {
        Some(first) if last < first => {
            errors.push(end.invalid("must be greater than or equal to `port`"));
        }
        Some(_) => end.each(names::port_number(last), errors),
        None if number.is_set() => {
            errors.push(end.invalid("may not be specified when `port` is non-numeric"));
        }
        None => errors.push(end.invalid("may not be specified when `port` is not specified")),
    }
}

fn policy_peer(peer: &At, errors: &mut FieldErrors) {
    let fields = ["podSelector", "namespaceSelector"];
    let selected = fields.iter().filter(|field| peer.has(field)).count();
    for field in fields {
        selectors::validate(&peer.get(field), errors);
    }
    let block = peer.get("ipBlock");
    if block.is_set() {
        ip_block(&block, errors);
    }
    match (selected, block.is_set()) {
        (0, false) => errors.push(peer.required("must specify a peer")),
        (1.., true) => {
            errors.push(peer.forbidden("may not specify both ipBlock and another peer"));
        }
        _ => {}
    }
}

fn ip_block(block: &At, errors: &mut FieldErrors) {
    let cidr = block.get("cidr");
    if !cidr.must("", errors) {
        return;
    }
    cidr.each(names::cidr(cidr.text()), errors);
    let Some((network, bits)) = names::parse_cidr(cidr.text()) else { return };
    for except in block.get("except").items() {
        except.each(names::cidr(except.text()), errors);
        let Some((inner, inner_bits)) = names::parse_cidr(except.text()) else { continue };
        let inside = inner.is_ipv4() == network.is_ipv4()
            && inner_bits > bits
            && names::network_of(inner, bits) == names::network_of(network, bits);
        if !inside {
            errors.push(except.invalid("must be a strict subset of `cidr`"));
        }
    }
}

pub(super) fn ingress(spec: &At, errors: &mut FieldErrors) {
    let (rules, backend) = (spec.get("rules"), spec.get("defaultBackend"));
    if rules.is_empty() && !backend.is_set() {
        let why = "either `defaultBackend` or `rules` must be specified";
        errors.push(FieldError::invalid(spec.path.clone(), rules.value.clone(), why));
    }
    if backend.is_set() {
        validate_backend(&backend, errors);
    }
    for rule in rules.items() {
        let host = rule.get("host");
        if !host.is_empty() {
            validate_host(&host, true, errors);
        }
        let http = rule.get("http");
        if http.is_set() {
            http.get("paths").must("", errors);
            for path in http.get("paths").items() {
                validate_path(&path, errors);
            }
        }
    }
    for tls in spec.get("tls").items() {
        for host in tls.get("hosts").items() {
            validate_host(&host, false, errors);
        }
        let secret = tls.get("secretName");
        if !secret.is_empty() {
            secret.each(names::subdomain(secret.text(), false), errors);
        }
    }
    let class = spec.get("ingressClassName");
    if class.is_set() {
        class.each(names::subdomain(class.text(), false), errors);
    }
}

fn validate_host(host: &At, rule: bool, errors: &mut FieldErrors) {
    if rule && host.text().parse::<IpAddr>().is_ok() {
        errors.push(host.invalid("must be a DNS name, not an IP address"));
    }
    if host.text().contains('*') {
        host.each(names::wildcard_subdomain(host.text()), errors);
    } else {
        host.each(names::subdomain(host.text(), false), errors);
    }
}

fn validate_path(path: &At, errors: &mut FieldErrors) {
    let (kind, text) = (path.get("pathType"), path.get("path"));
    match kind.text() {
        "Exact" | "Prefix" => {
            if !text.text().starts_with('/') {
                let shown = text.text();
                let why = "must be an absolute path";
                errors.push(FieldError::invalid(text.path.clone(), shown, why));
            }
            for bad in ["//", "/./", "/../", "%2f", "%2F"] {
                if text.text().contains(bad) {
                    errors.push(text.invalid(format!("must not contain '{bad}'")));
                }
            }
            for bad in ["/..", "/."] {
                if text.text().ends_with(bad) {
                    errors.push(text.invalid(format!("cannot end with '{bad}'")));
                }
            }
        }
        "ImplementationSpecific" => {
            if !text.is_empty() && !text.text().starts_with('/') {
                errors.push(text.invalid("must be an absolute path"));
            }
        }
        "" => {
            errors.push(kind.required("pathType must be specified"));
            return;
        }
        _ => errors.push(kind.not_supported(&["Exact", "ImplementationSpecific", "Prefix"])),
    }
    validate_backend(&path.get("backend"), errors);
}

fn validate_backend(backend: &At, errors: &mut FieldErrors) {
    let error = |why: &str| FieldError::invalid(backend.path.clone(), "", why);
    let (service, resource) = (backend.get("service"), backend.get("resource"));
    match (service.is_set(), resource.is_set()) {
        (true, true) => errors.push(error("cannot set both resource and service backends")),
        (false, false) => errors.push(error("resource or service backend is required")),
        (false, true) => {
            for field in ["kind", "name"] {
                resource.get(field).must("", errors);
            }
        }
        (true, false) => {
            let name = service.get("name");
            name.named(|text| names::label(text, false), errors);
            let (port, number) = (service.get("port.name"), service.get("port.number"));
            if !port.is_empty() && number.number() != 0 {
                errors.push(error("cannot set both port name & port number"));
            } else if !port.is_empty() {
                port.each(names::port_name(port.text()), errors);
            } else if number.number() != 0 {
                number.each(names::port_number(number.number()), errors);
            } else {
                errors.push(backend.required("port name or number is required"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::Value;
    use value::json;

    fn texts(check: fn(&At, &mut FieldErrors), spec: &Value) -> Vec<String> {
        let mut errors = FieldErrors::new();
        check(&At::new(spec, "spec"), &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn policies() {
        for (spec, want) in [
            (json!({ "podSelector": {}, "ingress": [{}] }), vec![]),
            (
                json!({ "ingress": [{ "from": [{}] }] }),
                vec!["spec.ingress[0].from[0]: Required value: must specify a peer"],
            ),
            (
                json!({ "egress": [{ "to": [{ "ipBlock": { "cidr": "10.0.0.0/8",
                    "except": ["11.0.0.0/16"] } }] }] }),
                vec![
                    "spec.egress[0].to[0].ipBlock.except[0]: Invalid value: \"11.0.0.0/16\": must \
                     be a strict subset of `cidr`",
                ],
            ),
            (
                json!({ "ingress": [{ "ports": [{ "port": 80, "endPort": 79 }] }] }),
                vec![
                    "spec.ingress[0].ports[0].endPort: Invalid value: 79: must be greater than or \
                     equal to `port`",
                ],
            ),
        ] {
            assert_eq!(texts(policy, &spec), want, "{spec}");
        }
    }

    #[test]
    fn ingresses() {
        let backend = json!({ "service": { "name": "s", "port": { "number": 80 } } });
        for (spec, want) in [
            (json!({ "defaultBackend": backend }), vec![]),
            (
                json!({}),
                vec![
                    "spec: Invalid value: null: either `defaultBackend` or `rules` must be \
                     specified",
                ],
            ),
            (
                json!({ "rules": [{ "host": "1.2.3.4", "http": { "paths": [
                    { "path": "x", "pathType": "Prefix", "backend": backend }] } }] }),
                vec![
                    "spec.rules[0].host: Invalid value: \"1.2.3.4\": must be a DNS name, not an \
                     IP address",
                    "spec.rules[0].http.paths[0].path: Invalid value: \"x\": must be an absolute \
                     path",
                ],
            ),
        ] {
            assert_eq!(texts(ingress, &spec), want, "{spec}");
        }
    }
}
