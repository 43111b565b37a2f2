//! `apiservices`: who serves a group and version.
use crate::at::{restore, set, set_default, sub};
use crate::cells::{columns, find, text};
use crate::{At, Column, Info, Resource, Scope, Subresource, names};
use api::{FieldError, FieldErrors, Gvk, Value};
use value::json;

pub(crate) struct ApiServices;

static INFO: Info = Info::new(
    Gvk::fixed("apiregistration.k8s.io", "v1", "APIService"),
    "apiservices",
    Scope::Cluster,
)
.categories(&["api-extensions"])
.subresources(const { &[Subresource::STATUS] })
.conditional_update();

impl Resource for ApiServices {
    fn info(&self) -> &Info {
        &INFO
    }
    fn default(&self, object: &mut Value) {
        if let Some(service) = sub(object, "spec").and_then(|spec| sub(spec, "service")) {
            set_default(service, "port", 443);
        }
    }
    fn prepare_create(&self, new: &mut Value) {
        let local = find(new, "spec.service").is_null();
        let condition = json!({ "type": "Available", "status": "True", "reason": "Local",
            "message": "Local APIServices are always available" });
        let status = if local { json!({ "conditions": [condition] }) } else { json!({}) };
        set(new, "status", status);
    }
    fn prepare_update(&self, new: &mut Value, old: &Value) {
        restore(new, old, "status");
    }
    fn prepare_subresource(&self, _name: &str, new: &mut Value, old: &Value) {
        restore(new, old, "spec");
    }
    fn validate(&self, new: &Value, _old: Option<&Value>) -> FieldErrors {
        let (root, mut errors) = (At::root(new), FieldErrors::new());
        let spec = root.get("spec");
        let (group, version) = (spec.get("group"), spec.get("version"));
        let required = format!("{}.{}", version.text(), group.text());
        let name = root.get("metadata.name");
        if name.text() != required
            && !(group.is_empty() && name.text() == format!("{}.", version.text()))
        {
            let why = format!("must be `spec.version+\".\"+spec.group`: {required:?}");
            errors.push(name.invalid(why));
        }
        if !group.is_empty() {
            group.each(names::subdomain(group.text(), false), &mut errors);
        }
        version.each(names::label_1035(version.text(), false), &mut errors);
        for (field, max) in [("groupPriorityMinimum", 20000), ("versionPriority", 1000)] {
            let priority = spec.get(field);
            if !(1..=max).contains(&priority.number()) {
                let why = format!("must be positive and less than {max}");
                errors.push(FieldError::invalid(priority.path.clone(), priority.number(), why));
            }
        }
        validate_service(&spec, &mut errors);
        errors
    }
    columns![
        Column::NAME,
        Column::new(
            "Service",
            "string",
            "The reference to the service that hosts this API endpoint."
        )
        .cell(|o, _| match find(o, "spec.service") {
            Value::Null => "Local".into(),
            service => {
                format!("{}/{}", text(service, "namespace"), text(service, "name")).into()
            }
        }),
        Column::new("Available", "string", "Whether this service is available.")
            .cell(|o, _| available(o).into()),
        Column::AGE,
    ];
}

fn validate_service(spec: &At, errors: &mut FieldErrors) {
    let (insecure, bundle) = (spec.get("insecureSkipTLSVerify"), spec.get("caBundle"));
    if !spec.has("service") {
        if !bundle.is_empty() {
            let why = "local APIServices may not have a caBundle";
            errors.push(FieldError::invalid(
                bundle.path,
                format!("{} bytes", bundle.value.as_str().map_or(0, str::len)),
                why,
            ));
        }
        if insecure.bool() {
            errors.push(insecure.invalid("local APIServices may not have insecureSkipTLSVerify"));
        }
        return;
    }
    let service = spec.get("service");
    for field in ["namespace", "name"] {
        service.get(field).must("", errors);
    }
    let port = service.get("port");
    if names::port_number(port.number()).len() == 1 {
        errors.push(FieldError::invalid(
            port.path.clone(),
            port.number(),
            "port is not valid: must be between 1 and 65535, inclusive",
        ));
    }
    if insecure.bool() && !bundle.is_empty() {
        errors.push(insecure.invalid("may not be true if caBundle is present"));
    }
}

fn available(service: &Value) -> String {
    let conditions = At::root(service).get("status.conditions");
    let Some(condition) = conditions.items().find(|c| c.get("type").text() == "Available") else {
        return "Unknown".to_owned();
    };
    match (condition.get("status").text(), condition.get("reason").text()) {
        ("True", _) => "True".to_owned(),
        (status, reason) => format!("{status} ({reason})"),
    }
}
