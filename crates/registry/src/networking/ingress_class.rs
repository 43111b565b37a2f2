//! `ingressclasses`: who serves an ingress.
use crate::at::{set_default, sub};
use crate::cells::{columns, find, text};
use crate::{At, Column, Info, Resource, Scope};
use api::{FieldErrors, Gvk, Value};

pub(crate) struct IngressClasses;

static INFO: Info = Info::new(
    Gvk::fixed("networking.k8s.io", "v1", "IngressClass"),
    "ingressclasses",
    Scope::Cluster,
)
.with_generation()
.stored_only();

impl Resource for IngressClasses {
    fn info(&self) -> &Info {
        &INFO
    }
    fn default(&self, object: &mut Value) {
        if let Some(parameters) = sub(object, "spec").and_then(|spec| sub(spec, "parameters")) {
            set_default(parameters, "scope", "Cluster");
        }
    }
    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let (spec, mut errors) = (At::root(new).get("spec"), FieldErrors::new());
        let controller = spec.get("controller");
        if let Some(old) = old {
            controller.immutable(&old["spec"]["controller"], &mut errors);
        }
        if controller.len() > 250 {
            errors.push(controller.too_long(250));
        }
        if controller.must("", &mut errors) && !controller.text().contains('/') {
            let why = "must be a domain-prefixed path (such as \"acme.io/foo\")";
            errors.push(controller.invalid(why));
        }
        let parameters = spec.get("parameters");
        if parameters.is_set() {
            for field in ["kind", "name"] {
                parameters.get(field).must("", &mut errors);
            }
            let (scope, namespace) = (parameters.get("scope"), parameters.get("namespace"));
            scope.one_of(&["Cluster", "Namespace"], true, &mut errors);
            match (scope.text(), namespace.is_empty()) {
                ("Namespace", true) => {
                    let why = "`parameters.scope` is set to 'Namespace'";
                    errors.push(namespace.required(why));
                }
                ("Cluster", false) => {
                    let why = "`parameters.scope` is set to 'Cluster'";
                    errors.push(namespace.forbidden(why));
                }
                _ => {}
            }
        }
        errors
    }
    columns![
        Column {
            cell: |o, _| {
                let annotations = At::root(o).get("metadata.annotations");
                let default = annotations.key("ingressclass.kubernetes.io/is-default-class");
                let name = text(o, "metadata.name");
                if default.text() == "true" {
                    format!("{name} (default)").into()
                } else {
                    name.into()
                }
            },
            ..Column::NAME
        },
        Column::new(
            "Controller",
            "string",
            "Controller that is responsible for handling this class"
        )
        .cell(|o, _| text(o, "spec.controller").into()),
        Column::new("Parameters", "string", "A reference to a resource with additional parameters")
            .cell(|o, _| match find(o, "spec.parameters") {
                Value::Null => "<none>".into(),
                parameters => {
                    let group = match text(parameters, "apiGroup").as_str() {
                        "" => String::new(),
                        group => format!(".{group}"),
                    };
                    let (kind, name) = (text(parameters, "kind"), text(parameters, "name"));
                    format!("{kind}{group}/{name}").into()
                }
            }),
        Column::AGE,
    ];
}
