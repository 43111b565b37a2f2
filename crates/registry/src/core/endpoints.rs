//! `endpoints`: addresses behind a Service, the old form; EndpointSlices are what is read.
use crate::at::{items_mut, set_default};
use crate::cells::{columns, first_of};
use crate::{At, Column, Info, Resource, Scope, names};
use api::{FieldErrors, Gvk, Value};

pub(crate) struct Endpoints;

static INFO: Info = Info::new(Gvk::fixed("", "v1", "Endpoints"), "endpoints", Scope::Namespaced)
    .short(&["ep"])
    .with_create_on_update();

impl Resource for Endpoints {
    fn info(&self) -> &Info {
        &INFO
    }
    fn default(&self, object: &mut Value) {
        for subset in items_mut(object, "subsets") {
            for port in items_mut(subset, "ports") {
                set_default(port, "protocol", "TCP");
            }
        }
    }
    fn validate(&self, new: &Value, _old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        for subset in At::root(new).get("subsets").items() {
            if subset.get("addresses").is_empty() && subset.get("notReadyAddresses").is_empty() {
                let why = "must specify `addresses` or `notReadyAddresses`";
                errors.push(subset.required(why));
            }
            for list in ["addresses", "notReadyAddresses"] {
                for address in subset.get(list).items() {
                    validate_address(&address, &mut errors);
                }
            }
            let ports: Vec<At> = subset.get("ports").items().collect();
            for port in &ports {
                validate_port(port, ports.len() > 1, &mut errors);
            }
        }
        errors
    }
    fn warnings(&self, _new: &Value, _old: Option<&Value>) -> Vec<String> {
        let text = "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice";
        vec![text.to_owned()]
    }
    columns![
        Column::NAME,
        Column::new("Endpoints", "string", "The addresses and ports of the endpoints.")
            .cell(|o, _| endpoints(o).into()),
        Column::AGE,
    ];
}

fn validate_address(address: &At, errors: &mut FieldErrors) {
    let ip = address.get("ip");
    ip.each(names::ip(ip.text()), errors);
    let hostname = address.get("hostname");
    if !hostname.is_empty() {
        hostname.each(names::label(hostname.text(), false), errors);
    }
    if names::ip(ip.text()).is_empty() {
        validate_reachable(&ip, errors);
    }
}

/// Addresses that endpoints may not stand for, lest they reach what is private to a node.
pub(crate) fn validate_reachable(ip: &At, errors: &mut FieldErrors) {
    use std::net::IpAddr;
    let Ok(address) = ip.text().parse::<IpAddr>() else { return };
    let link_local_multicast = match address {
        IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
        IpAddr::V6(v6) => v6.segments()[0] & 0xff0f == 0xff02,
    };
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    for (bad, why) in [
        (address.is_unspecified(), "may not be unspecified (0.0.0.0 or ::)"),
        (address.is_loopback(), "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
        (link_local, "may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
        (
            link_local_multicast,
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)",
        ),
    ] {
        if bad {
            errors.push(ip.invalid(why));
        }
    }
}

fn validate_port(port: &At, name_required: bool, errors: &mut FieldErrors) {
    let name = port.get("name");
    if !name.is_empty() {
        name.each(names::label(name.text(), false), errors);
    } else if name_required {
        errors.push(name.required(""));
    }
    port.get("port").each(names::port_number(port.get("port").number()), errors);
    port.get("protocol").one_of(&["SCTP", "TCP", "UDP"], true, errors);
    super::service::validate_app_protocol(&port.get("appProtocol"), errors);
}

fn endpoints(object: &Value) -> String {
    let mut list = Vec::new();
    for subset in At::root(object).get("subsets").items() {
        let addresses = subset.get("addresses");
        let ips = || addresses.items().map(|address| address.get("ip").text().to_owned());
        if subset.get("ports").is_empty() {
            list.extend(ips());
        }
        for port in subset.get("ports").items() {
            let port = port.get("port").number();
            list.extend(ips().map(|ip| match ip.contains(':') {
                true => format!("[{ip}]:{port}"),
                false => format!("{ip}:{port}"),
            }));
        }
    }
    first_of(&list, 3, "<none>")
}
