//! `limitranges`: bounds and defaults of what pods of a namespace ask for.
use crate::at::{items_mut, map_mut};
use crate::cells::columns;
use crate::quantities::{canonical_list, fill};
use crate::{Column, Info, Resource, Scope};
use api::{FieldErrors, Gvk, Value};

pub(crate) struct LimitRanges;

static INFO: Info = Info::new(Gvk::fixed("", "v1", "LimitRange"), "limitranges", Scope::Namespaced)
    .short(&["limits"])
    .with_create_on_update();

impl Resource for LimitRanges {
    fn info(&self) -> &Info {
        &INFO
    }
    fn default(&self, object: &mut Value) {
        let Some(spec) = crate::at::sub(object, "spec") else { return };
        for limit in items_mut(spec, "limits") {
            for list in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
                if let Some(list) = limit.get_mut(list) {
                    canonical_list(list);
                }
            }
            if limit["type"].as_str() != Some("Container") {
                continue;
            }
            for (from, to) in
                [("max", "default"), ("default", "defaultRequest"), ("min", "defaultRequest")]
            {
                let amounts = limit.get(from).cloned().unwrap_or_default();
                if let Some(to) = map_mut(limit, to) {
                    fill(&amounts, to);
                }
            }
        }
    }
    fn validate(&self, new: &Value, _old: Option<&Value>) -> FieldErrors {
        super::resource_quota::limits::validate_limit_range(new)
    }
    columns![
        Column::NAME,
        Column {
            name: "Created At",
            kind: "date",
            format: "",
            description: "When this object was created.",
            priority: 0,
            cell: |o, _| o["metadata"]["creationTimestamp"].clone(),
        },
    ];
}
