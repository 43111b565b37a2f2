//! `podcertificaterequests`: a node asks for a certificate for a pod.
use crate::at::{restore, set, set_default, sub};
use crate::cells::{columns, labels, text};
use crate::{At, Column, Info, Resource, Scope, Subresource};
use api::{FieldErrors, Gvk, Value};

pub(crate) struct PodCertificateRequests;

const MIN_SECONDS: i64 = 3600;
const MAX_SECONDS: i64 = 91 * 86400;
/// Of the signers that are Kubernetes' own.
const OWN_MAX_SECONDS: i64 = 86400;

static INFO: Info = Info::new(
    Gvk::fixed("certificates.k8s.io", "v1", "PodCertificateRequest"),
    "podcertificaterequests",
    Scope::Namespaced,
)
.subresources(const { &[Subresource::STATUS] })
.conditional_update();

impl Resource for PodCertificateRequests {
    fn info(&self) -> &Info {
        &INFO
    }
    fn default(&self, object: &mut Value) {
        if let Some(spec) = sub(object, "spec") {
            set_default(spec, "maxExpirationSeconds", 86400);
        }
    }
    fn prepare_create(&self, new: &mut Value) {
        set(new, "status", value::json!({}));
    }
    fn prepare_update(&self, new: &mut Value, old: &Value) {
        restore(new, old, "status");
    }
    fn prepare_subresource(&self, _name: &str, new: &mut Value, old: &Value) {
        restore(new, old, "spec");
    }
    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let (spec, mut errors) = (At::root(new).get("spec"), FieldErrors::new());
        for field in [
            "signerName",
            "podName",
            "podUID",
            "serviceAccountName",
            "serviceAccountUID",
            "nodeName",
            "nodeUID",
        ] {
            spec.get(field).must("", &mut errors);
        }
        let life = spec.get("maxExpirationSeconds");
        let own = spec.get("signerName").text().starts_with("kubernetes.io/");
        let longest = if own { OWN_MAX_SECONDS } else { MAX_SECONDS };
        if life.int().is_some_and(|seconds| !(MIN_SECONDS..=longest).contains(&seconds)) {
            let why = format!("must be in the range [{MIN_SECONDS}, {longest}]");
            errors.push(life.invalid(why));
        }
        if let Some(old) = old {
            spec.immutable(&old["spec"], &mut errors);
        }
        errors
    }
    fn selectable_fields(&self) -> &[&'static str] {
        &["spec.signerName", "spec.podName", "spec.nodeName"]
    }
    columns![
        Column::NAME,
        Column::new("PodName", "string", "The pod.").cell(|o, _| text(o, "spec.podName").into()),
        Column::new("ServiceAccountName", "string", "The pod's service account.")
            .cell(|o, _| text(o, "spec.serviceAccountName").into()),
        Column::new("NodeName", "string", "The pod's node.")
            .cell(|o, _| text(o, "spec.nodeName").into()),
        Column::new("SignerName", "string", "Who is asked to sign.").cell(|o, _| text(
            o,
            "spec.signerName"
        )
        .into()),
        Column::new("State", "string", "Is the request Pending, Issued, Denied, or Failed?")
            .cell(|o, _| state(o).into()),
        Column::new("UnverifiedUserAnnotations", "string", "What the pod's maker told the signer.")
            .wide()
            .cell(|o, _| labels(o, "spec.unverifiedUserAnnotations").into()),
    ];
}

fn state(request: &Value) -> &'static str {
    let conditions = At::root(request).get("status.conditions");
    let known = ["Issued", "Denied", "Failed"];
    let last = conditions
        .items()
        .filter_map(|c| known.into_iter().find(|kind| *kind == c.get("type").text()))
        .last();
    last.unwrap_or("Pending")
}
