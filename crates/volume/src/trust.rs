//! Trust bundles as the one file of certificates that a pod reads.
use crate::{Error, ObjectRef, Request};
use api::LabelSelector;
use api::k8s::api::certificates::v1::ClusterTrustBundle;
use api::k8s::api::core::v1::ClusterTrustBundleProjection;
use std::collections::BTreeSet;

/// The anchors of all selected bundles, each once.
pub(crate) async fn anchors(
    request: &Request<'_>,
    source: &ClusterTrustBundleProjection,
) -> Result<Vec<u8>, Error> {
    let wanted = ObjectRef::of_trust(source).ok_or_else(|| {
        Error::Refused("clusterTrustBundle names neither a bundle nor a signer".to_owned())
    })?;
    let mut found = request.context.objects.trust_bundles(&wanted).await.map_err(Error::Refused)?;
    if matches!(wanted, ObjectRef::TrustBundles(_)) {
        let selector = selector(source).map_err(Error::Refused)?;
        found
            .retain(|bundle| selector.matches(&bundle.metadata.labels.clone().unwrap_or_default()));
    }
    if found.is_empty() && source.optional != Some(true) {
        return Err(Error::Refused(match &wanted {
            ObjectRef::TrustBundles(_) => {
                "combination of signerName and labelSelector matched zero ClusterTrustBundles"
                    .into()
            }
            other => format!("clustertrustbundle {:?} not found", other.name()),
        }));
    }
    join(&found).map_err(Error::Refused)
}

/// Without a selector, none of the signer's; with an empty one, all.
fn selector(source: &ClusterTrustBundleProjection) -> Result<LabelSelector, String> {
    let Some(spec) = &source.label_selector else { return Ok(LabelSelector::nothing()) };
    LabelSelector::from_spec(Some(spec)).map_err(|error| error.to_string())
}

fn join(bundles: &[ClusterTrustBundle]) -> Result<Vec<u8>, String> {
    let (mut seen, mut out) = (BTreeSet::new(), String::new());
    for bundle in bundles {
        let name = bundle.metadata.name.as_deref().unwrap_or_default();
        let anchors = pki::certificates(&bundle.spec.trust_bundle);
        for anchor in anchors.map_err(|error| format!("clustertrustbundle {name:?}: {error}"))? {
            if seen.insert(anchor.clone()) {
                out += &anchor;
            }
        }
    }
    Ok(out.into_bytes())
}
