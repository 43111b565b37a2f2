//! `poddisruptionbudgets`: how many pods an eviction must leave.
use crate::at::{restore, set};
use crate::cells::{columns, int, text_or};
use crate::{At, Column, Info, Resource, Scope, Subresource, ints};
use api::{FieldErrors, Gvk, Value};

pub(crate) struct PodDisruptionBudgets;

static INFO: Info = Info::new(
    Gvk::fixed("policy", "v1", "PodDisruptionBudget"),
    "poddisruptionbudgets",
    Scope::Namespaced,
)
.short(&["pdb"])
.subresources(const { &[Subresource::STATUS] })
.conditional_update()
.with_generation();

impl Resource for PodDisruptionBudgets {
    fn info(&self) -> &Info {
        &INFO
    }
    fn prepare_create(&self, new: &mut Value) {
        let status = value::json!({ "currentHealthy": 0, "desiredHealthy": 0,
            "disruptionsAllowed": 0, "expectedPods": 0 });
        set(new, "status", status);
    }
    fn prepare_update(&self, new: &mut Value, old: &Value) {
        restore(new, old, "status");
    }
    fn prepare_subresource(&self, _name: &str, new: &mut Value, old: &Value) {
        restore(new, old, "spec");
    }
    fn validate(&self, new: &Value, _old: Option<&Value>) -> FieldErrors {
        let (spec, mut errors) = (At::root(new).get("spec"), FieldErrors::new());
        if spec.has("minAvailable") && spec.has("maxUnavailable") {
            let why = "minAvailable and maxUnavailable cannot be both set";
            errors.push(spec.invalid(why));
        }
        for field in ["minAvailable", "maxUnavailable"] {
            if spec.has(field) {
                ints::non_negative_or_percent(&spec.get(field), &mut errors);
                ints::at_most_all(&spec.get(field), &mut errors);
            }
        }
        crate::selectors::validate(&spec.get("selector"), &mut errors);
        let policies = ["AlwaysAllow", "IfHealthyBudget"];
        spec.get("unhealthyPodEvictionPolicy").one_of(&policies, false, &mut errors);
        errors
    }
    columns![
        Column::NAME,
        Column::new(
            "Min Available",
            "string",
            "The minimum number of pods that must be available."
        )
        .cell(|o, _| text_or(o, "spec.minAvailable", "N/A").into()),
        Column::new(
            "Max Unavailable",
            "string",
            "The maximum number of pods that may be unavailable.",
        )
        .cell(|o, _| text_or(o, "spec.maxUnavailable", "N/A").into()),
        Column::new(
            "Allowed Disruptions",
            "integer",
            "Calculated number of pods that may be disrupted at this time.",
        )
        .cell(|o, _| int(o, "status.disruptionsAllowed").into()),
        Column::AGE,
    ];
}
