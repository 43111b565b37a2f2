//! `ipaddresses`: one address of a Service that was given out.
use crate::cells::{columns, find, text};
use crate::{At, Column, Info, Resource, Scope};
use api::{FieldErrors, Gvk, Value};

pub(crate) struct IpAddresses;

static INFO: Info =
    Info::new(Gvk::fixed("networking.k8s.io", "v1", "IPAddress"), "ipaddresses", Scope::Cluster)
        .short(&["ip"])
        .stored_only();

impl Resource for IpAddresses {
    fn info(&self) -> &Info {
        &INFO
    }
    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let (parent, mut errors) = (At::root(new).get("spec.parentRef"), FieldErrors::new());
        if parent.must("", &mut errors) {
            for field in ["resource", "name"] {
                parent.get(field).must("", &mut errors);
            }
        }
        if let Some(old) = old {
            parent.immutable(find(old, "spec.parentRef"), &mut errors);
        }
        errors
    }
    fn validate_name(&self, name: &str, _generated_prefix: bool) -> Vec<String> {
        match name.parse::<std::net::IpAddr>() {
            Ok(ip) if ip.to_string() == name => Vec::new(),
            _ => vec!["must be a valid IP address in canonical form".to_owned()],
        }
    }
    fn selectable_fields(&self) -> &[&'static str] {
        &["spec.parentRef.name", "spec.parentRef.namespace", "spec.parentRef.resource"]
    }
    columns![
        Column::NAME,
        Column::new("ParentRef", "string", "What the address was given to.")
            .cell(|o, _| parent(o).into()),
        Column::AGE,
    ];
}

fn parent(address: &Value) -> String {
    let parent = find(address, "spec.parentRef");
    if parent.is_null() {
        return "<none>".to_owned();
    }
    let (resource, group) = (text(parent, "resource"), text(parent, "group"));
    let mut parts = vec![if group.is_empty() { resource } else { format!("{resource}.{group}") }];
    parts.extend(Some(text(parent, "namespace")).filter(|namespace| !namespace.is_empty()));
    parts.push(text(parent, "name"));
    parts.join("/")
}
