//! `priorityclasses`: names for the priorities of pods.
use crate::at::set_default;
use crate::cells::{boolean, columns, int, text};
use crate::{At, Column, Info, Resource, Scope};
use api::{FieldError, FieldErrors, Gvk, Value};

pub(crate) struct PriorityClasses;

static INFO: Info = Info::new(
    Gvk::fixed("scheduling.k8s.io", "v1", "PriorityClass"),
    "priorityclasses",
    Scope::Cluster,
)
.short(&["pc"])
.with_generation();

/// The highest value that is not the system's own.
const HIGHEST_USER_PRIORITY: i64 = 1_000_000_000;

/// The system's own classes, and their values.
const SYSTEM: &[(&str, i64)] =
    &[("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

impl Resource for PriorityClasses {
    fn info(&self) -> &Info {
        &INFO
    }
    fn default(&self, object: &mut Value) {
        set_default(object, "preemptionPolicy", "PreemptLowerPriority");
    }
    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let (root, mut errors) = (At::root(new), FieldErrors::new());
        let (name, value) = (root.get("metadata.name"), root.get("value"));
        if let Some(old) = old {
            if value.number() != old["value"].as_i64().unwrap_or_default() {
                errors.push(value.forbidden("may not be changed in an update."));
            }
            let policy = root.get("preemptionPolicy");
            policy.immutable(&old["preemptionPolicy"], &mut errors);
            return errors;
        }
        if name.text().starts_with("system-") {
            let global = root.get("globalDefault").bool();
            match SYSTEM.iter().find(|(system, _)| *system == name.text()) {
                Some((_, want)) if *want == value.number() && !global => {}
                Some((_, want)) => {
                    let why = if *want == value.number() {
                        format!("globalDefault of {} must be false", name.text())
                    } else {
                        format!("value of {} PriorityClass must be {want}", name.text())
                    };
                    let why = format!(
                        "priority class names with 'system-' prefix are reserved for system use \
                         only. error: {why}"
                    );
                    errors.push(FieldError::forbidden("metadata.name", why));
                }
                None => {
                    let why = format!(
                        "priority class names with 'system-' prefix are reserved for system use \
                         only. error: {} is not a known system priority class",
                        name.text()
                    );
                    errors.push(FieldError::forbidden("metadata.name", why));
                }
            }
        } else if value.number() > HIGHEST_USER_PRIORITY {
            let why = format!(
                "maximum allowed value of a user defined priority is {HIGHEST_USER_PRIORITY}"
            );
            errors.push(FieldError::forbidden("value", why));
        }
        let policies = ["Never", "PreemptLowerPriority"];
        root.get("preemptionPolicy").one_of(&policies, false, &mut errors);
        errors
    }
    columns![
        Column::NAME,
        Column::new("Value", "integer", "The priority of pods of the class.")
            .cell(|o, _| int(o, "value").into()),
        Column::new("Global-Default", "boolean", "Pods that name no class are of this one.")
            .cell(|o, _| boolean(o, "globalDefault").into()),
        Column::AGE,
        Column::new("PreemptionPolicy", "string", "Whether its pods may displace others.")
            .cell(|o, _| text(o, "preemptionPolicy").into()),
    ];
}

#[cfg(test)]
mod tests {
    use super::*;
    use value::json;

    #[test]
    fn values() {
        for (class, want) in [
            (json!({ "metadata": { "name": "a" }, "value": 5 }), ""),
            (
                json!({ "metadata": { "name": "a" }, "value": 1_000_000_001 }),
                "value: Forbidden: maximum allowed value of a user defined priority is 1000000000",
            ),
            (
                json!({ "metadata": { "name": "system-x" }, "value": 5 }),
                "metadata.name: Forbidden: priority class names with 'system-' prefix are \
                 reserved for system use only. error: system-x is not a known system priority \
                 class",
            ),
            (
                json!({ "metadata": { "name": "system-cluster-critical" }, "value": 2_000_000_000 }),
                "",
            ),
        ] {
            let errors = PriorityClasses.validate(&class, None);
            assert_eq!(errors.first().map(ToString::to_string).unwrap_or_default(), want);
        }
        let (new, old) = (json!({ "value": 5 }), json!({ "value": 6 }));
        let errors = PriorityClasses.validate(&new, Some(&old));
        assert_eq!(errors[0].to_string(), "value: Forbidden: may not be changed in an update.");
    }
}
