//! `clustertrustbundles`: anchors of trust, by signer.
use crate::cells::{columns, text_or};
use crate::{At, Column, Info, Resource, Scope};
use api::{FieldErrors, Gvk, Value};

pub(crate) struct ClusterTrustBundles;

static INFO: Info = Info::new(
    Gvk::fixed("certificates.k8s.io", "v1", "ClusterTrustBundle"),
    "clustertrustbundles",
    Scope::Cluster,
)
.conditional_update();

/// A signer's bundles have its name before their own, so that whoever may write them can be told.
fn named_after_signer(object: &At, signer: &str, errors: &mut FieldErrors) {
    let name = object.get("metadata").get("name");
    let prefix = signer.replace('/', ":") + ":";
    let own = match signer {
        "" if name.text().contains(':') => {
            let why = "ClusterTrustBundle without signer name must not have \":\" in its name";
            return errors.push(name.invalid(why));
        }
        "" => name.text(),
        _ => match name.text().strip_prefix(&prefix) {
            Some(own) => own,
            None => {
                return errors.push(name.invalid(format!(
                    "ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}"
                )));
            }
        },
    };
    name.each(crate::names::subdomain(own, false), errors);
}

impl Resource for ClusterTrustBundles {
    fn info(&self) -> &Info {
        &INFO
    }
    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let (spec, mut errors) = (At::root(new).get("spec"), FieldErrors::new());
        named_after_signer(&At::root(new), spec.get("signerName").text(), &mut errors);
        spec.get("trustBundle").must("", &mut errors);
        if let Some(old) = old {
            spec.get("signerName").immutable(&old["spec"]["signerName"], &mut errors);
        }
        errors
    }
    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        crate::names::path_segment(&name.replace(':', "-"), prefix)
    }
    fn selectable_fields(&self) -> &[&'static str] {
        &["spec.signerName"]
    }
    columns![
        Column::NAME,
        Column::new("SignerName", "string", "Whose anchors these are.").cell(|o, _| text_or(
            o,
            "spec.signerName",
            "<none>"
        )
        .into()),
    ];
}
