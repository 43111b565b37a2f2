//! `endpointslices`: addresses behind a Service.
use crate::at::{items_mut, set};
use crate::cells::{columns, first_of, text};
use crate::core::endpoints::validate_reachable;
use crate::core::service::validate_app_protocol;
use crate::{At, Column, Info, Resource, Scope, names};
use api::{FieldError, FieldErrors, Gvk, Value};
use std::net::IpAddr;

pub(crate) struct EndpointSlices;

static INFO: Info = Info::new(
    Gvk::fixed("discovery.k8s.io", "v1", "EndpointSlice"),
    "endpointslices",
    Scope::Namespaced,
)
.with_generation();

const MAX_ENDPOINTS: usize = 1000;
const MAX_ADDRESSES: usize = 100;
const MAX_PORTS: usize = 20_000;

impl Resource for EndpointSlices {
    fn info(&self) -> &Info {
        &INFO
    }
    fn default(&self, object: &mut Value) {
        for port in items_mut(object, "ports") {
            for (field, value) in [("name", ""), ("protocol", "TCP")] {
                if port[field].is_null() {
                    set(port, field, value);
                }
            }
        }
    }
    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let (root, mut errors) = (At::root(new), FieldErrors::new());
        let kind = root.get("addressType");
        kind.one_of(&["FQDN", "IPv4", "IPv6"], true, &mut errors);
        let endpoints = root.get("endpoints");
        if endpoints.len() > MAX_ENDPOINTS {
            let (path, len) = (endpoints.path.clone(), endpoints.len());
            errors.push(FieldError::too_many(path, len, MAX_ENDPOINTS));
        } else {
            for endpoint in endpoints.items() {
                validate_endpoint(&endpoint, kind.text(), &mut errors);
            }
        }
        validate_ports(&root.get("ports"), &mut errors);
        if let Some(old) = old {
            kind.immutable(&old["addressType"], &mut errors);
        }
        errors
    }
    columns![
        Column::NAME,
        Column::new("AddressType", "string", "The kind of the addresses.").cell(|o, _| text(
            o,
            "addressType"
        )
        .into()),
        Column::new("Ports", "string", "The ports of every endpoint.").cell(|o, _| ports(o).into()),
        Column::new("Endpoints", "string", "The addresses.").cell(|o, _| addresses(o).into()),
        Column::AGE,
    ];
}

fn validate_endpoint(endpoint: &At, kind: &str, errors: &mut FieldErrors) {
    let addresses = endpoint.get("addresses");
    if addresses.is_empty() {
        errors.push(addresses.required("must contain at least 1 address"));
    } else if addresses.len() > MAX_ADDRESSES {
        let (path, len) = (addresses.path.clone(), addresses.len());
        errors.push(FieldError::too_many(path, len, MAX_ADDRESSES));
    }
    for address in addresses.items() {
        let v4 = address.text().parse::<IpAddr>().map(|ip| ip.is_ipv4());
        match (kind, v4) {
            ("IPv4", Ok(true)) | ("IPv6", Ok(false)) => validate_reachable(&address, errors),
            ("IPv4", _) => errors.push(address.invalid("must be an IPv4 address")),
            ("IPv6", _) => errors.push(address.invalid("must be an IPv6 address")),
            ("FQDN", _) => address.each(names::subdomain(address.text(), false), errors),
            _ => {}
        }
    }
    let node = endpoint.get("nodeName");
    if node.is_set() {
        node.each(names::subdomain(node.text(), false), errors);
    }
    let hostname = endpoint.get("hostname");
    if hostname.is_set() {
        hostname.each(names::label(hostname.text(), false), errors);
    }
}

fn validate_ports(ports: &At, errors: &mut FieldErrors) {
    if ports.len() > MAX_PORTS {
        let (path, len) = (ports.path.clone(), ports.len());
        errors.push(FieldError::too_many(path, len, MAX_PORTS));
        return;
    }
    let mut seen = Vec::new();
    for port in ports.items() {
        let name = port.get("name");
        if !name.is_empty() {
            name.each(names::label(name.text(), false), errors);
        }
        if seen.contains(&name.text()) {
            errors.push(name.duplicate());
        }
        seen.push(name.text());
        port.get("protocol").one_of(&["SCTP", "TCP", "UDP"], true, errors);
        validate_app_protocol(&port.get("appProtocol"), errors);
    }
}

fn ports(slice: &Value) -> String {
    let list: Vec<String> = At::root(slice)
        .get("ports")
        .items()
        .map(|port| match (port.get("port").int(), port.get("name")) {
            (Some(number), _) => number.to_string(),
            (None, name) if name.is_set() => name.text().to_owned(),
            _ => "*".to_owned(),
        })
        .collect();
    first_of(&list, 3, "<unset>")
}

fn addresses(slice: &Value) -> String {
    let list: Vec<String> = At::root(slice)
        .get("endpoints")
        .items()
        .flat_map(|endpoint| endpoint.get("addresses").texts())
        .map(str::to_owned)
        .collect();
    first_of(&list, 3, "<unset>")
}
