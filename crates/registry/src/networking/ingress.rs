//! `ingresses`: HTTP from outside to Services.
use crate::at::{restore, set};
use crate::cells::{columns, len, load_balancer, text_or};
use crate::{At, Column, Info, Resource, Scope, Subresource};
use api::{FieldErrors, Gvk, Value};
use value::json;

pub(crate) struct Ingresses;

static INFO: Info =
    Info::new(Gvk::fixed("networking.k8s.io", "v1", "Ingress"), "ingresses", Scope::Namespaced)
        .short(&["ing"])
        .subresources(const { &[Subresource::STATUS] })
        .with_generation()
        .stored_only();

impl Resource for Ingresses {
    fn info(&self) -> &Info {
        &INFO
    }
    fn prepare_create(&self, new: &mut Value) {
        set(new, "status", json!({ "loadBalancer": {} }));
    }
    fn prepare_update(&self, new: &mut Value, old: &Value) {
        restore(new, old, "status");
    }
    fn prepare_subresource(&self, _name: &str, new: &mut Value, old: &Value) {
        restore(new, old, "spec");
    }
    fn validate(&self, new: &Value, _old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        super::validate::ingress(&At::root(new).get("spec"), &mut errors);
        errors
    }
    columns![
        Column::NAME,
        Column::new("Class", "string", "The name of the IngressClass of the ingress.")
            .cell(|o, _| text_or(o, "spec.ingressClassName", "<none>").into()),
        Column::new("Hosts", "string", "Hosts that incoming requests are matched against.")
            .cell(|o, _| hosts(o).into()),
        Column::new("Address", "string", "Addresses of the load balancer.")
            .cell(|o, _| load_balancer(o).into()),
        Column::new("Ports", "string", "Ports of TLS configurations that open")
            .cell(|o, _| { if len(o, "spec.tls") > 0 { "80, 443" } else { "80" }.into() }),
        Column::AGE,
    ];
}

fn hosts(ingress: &Value) -> String {
    let rules: Vec<At> = At::root(ingress).get("spec.rules").items().collect();
    let hosts: Vec<&str> =
        rules.iter().map(|rule| rule.get("host").text()).filter(|host| !host.is_empty()).collect();
    match hosts.len() {
        0 => "*".to_owned(),
        1..=3 => hosts.join(","),
        _ => format!("{} + {} more...", hosts[..3].join(","), rules.len() - 3),
    }
}
