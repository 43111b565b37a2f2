//! `componentstatuses`: made on the fly for old clients; read-only.
use crate::cells::columns;
use crate::{At, Column, Info, Resource, Scope, Verbs};
use api::{Gvk, Value};

pub(crate) struct ComponentStatuses;

static INFO: Info =
    Info::new(Gvk::fixed("", "v1", "ComponentStatus"), "componentstatuses", Scope::Cluster)
        .short(&["cs"])
        .verbs(Verbs::GET.and(Verbs::LIST));

impl Resource for ComponentStatuses {
    fn info(&self) -> &Info {
        &INFO
    }
    fn warnings(&self, _new: &Value, _old: Option<&Value>) -> Vec<String> {
        vec!["v1 ComponentStatus is deprecated in v1.19+".to_owned()]
    }
    columns![
        Column::NAME,
        Column::new("Status", "string", "Status of the component conditions").cell(|o, _| {
            match healthy(o, "status").as_str() {
                "True" => "Healthy",
                "" => "Unknown",
                _ => "Unhealthy",
            }
            .into()
        }),
        Column::new("Message", "string", "Message of the component conditions")
            .cell(|o, _| healthy(o, "message").into()),
        Column::new("Error", "string", "Error of the component conditions")
            .cell(|o, _| healthy(o, "error").into()),
    ];
}

fn healthy(object: &Value, field: &str) -> String {
    let conditions = At::root(object).get("conditions");
    let found = conditions.items().find(|condition| condition.get("type").text() == "Healthy");
    found.map(|condition| condition.get(field).text().to_owned()).unwrap_or_default()
}
