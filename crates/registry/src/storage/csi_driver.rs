//! `csidrivers`: what a CSI driver needs of the cluster.
use crate::at::{set, set_default, sub};
use crate::cells::{boolean, columns, each, joined};
use crate::{At, Column, Info, Resource, Scope, names};
use api::{FieldErrors, Gvk, Value};

pub(crate) struct CsiDrivers;

static INFO: Info =
    Info::new(Gvk::fixed("storage.k8s.io", "v1", "CSIDriver"), "csidrivers", Scope::Cluster)
        .conditional_update()
        .stored_only();

impl Resource for CsiDrivers {
    fn info(&self) -> &Info {
        &INFO
    }
    fn default(&self, object: &mut Value) {
        if crate::at::map_mut(object, "spec").is_none() {
            return;
        }
        let Some(spec) = sub(object, "spec") else { return };
        set_default(spec, "attachRequired", true);
        for field in [
            "podInfoOnMount",
            "storageCapacity",
            "requiresRepublish",
            "seLinuxMount",
            "preventPodSchedulingIfMissing",
        ] {
            set_default(spec, field, false);
        }
        set_default(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
        if crate::at::is_empty(&spec["volumeLifecycleModes"]) {
            set(spec, "volumeLifecycleModes", vec!["Persistent"]);
        }
    }
    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let (spec, mut errors) = (At::root(new).get("spec"), FieldErrors::new());
        let name = At::root(new).get("metadata.name");
        if name.len() > 63 {
            errors.push(name.too_long(63));
        }
        name.each(names::subdomain(&name.text().to_lowercase(), false), &mut errors);
        let policies = ["ReadWriteOnceWithFSType", "File", "None"];
        spec.get("fsGroupPolicy").one_of(&policies, true, &mut errors);
        for mode in spec.get("volumeLifecycleModes").items() {
            mode.one_of(&["Ephemeral", "Persistent"], true, &mut errors);
        }
        if let Some(old) = old {
            for field in ["attachRequired", "fsGroupPolicy", "volumeLifecycleModes"] {
                spec.get(field).immutable(&old["spec"][field], &mut errors);
            }
        }
        errors
    }
    columns![
        Column::NAME,
        Column::new("AttachRequired", "boolean", "Volumes are attached before they are mounted.")
            .cell(|o, _| o["spec"]["attachRequired"].as_bool().unwrap_or(true).into()),
        Column::new("PodInfoOnMount", "boolean", "The driver is told of the pod.")
            .cell(|o, _| boolean(o, "spec.podInfoOnMount").into()),
        Column::new("StorageCapacity", "boolean", "The driver tells of its capacity.")
            .cell(|o, _| boolean(o, "spec.storageCapacity").into()),
        Column::new("TokenRequests", "string", "Audiences of tokens that the driver gets.").cell(
            |o, _| match &o["spec"]["tokenRequests"] {
                Value::Null => "<unset>".into(),
                _ => each(o, "spec.tokenRequests", "audience").into(),
            },
        ),
        Column::new("RequiresRepublish", "boolean", "The driver is called again and again.")
            .cell(|o, _| boolean(o, "spec.requiresRepublish").into()),
        Column::new("Modes", "string", "The volumes that the driver can make.").cell(|o, _| {
            let modes = joined(o, "spec.volumeLifecycleModes");
            if modes.is_empty() { "<none>".into() } else { modes.into() }
        }),
        Column::AGE,
    ];
}
