//! Trust bundles as the one file of certificates that a pod reads.
use crate::{Error, ObjectRef, Request};
use api::LabelSelector;
use api::k8s::api::certificates::v1::ClusterTrustBundle;
use api::k8s::api::core::v1::ClusterTrustBundleProjection;
use base64::Engine;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use std::collections::BTreeSet;

const LINE: usize = 64;

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
        for anchor in CertificateDer::pem_slice_iter(bundle.spec.trust_bundle.as_bytes()) {
            let anchor = anchor.map_err(|error| format!("clustertrustbundle {name:?}: {error}"))?;
            let text = base64::engine::general_purpose::STANDARD.encode(&anchor);
            if seen.insert(text.clone()) {
                out += "-----BEGIN CERTIFICATE-----\n";
                for line in text.as_bytes().chunks(LINE) {
                    out += &String::from_utf8_lossy(line);
                    out.push('\n');
                }
                out += "-----END CERTIFICATE-----\n";
            }
        }
    }
    Ok(out.into_bytes())
}
