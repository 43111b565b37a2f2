//! Which objects a pod refers to: those a node must follow.
use api::k8s::api::core::v1::{ClusterTrustBundleProjection, Container, Pod};
use podlife::{PodExt, pods};
use std::collections::BTreeSet;

/// A ConfigMap or a Secret in the pod's namespace, or trust bundles of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectRef {
    ConfigMap(String),
    Secret(String),
    TrustBundle(String),
    /// All of a signer.
    TrustBundles(String),
}

impl ObjectRef {
    pub fn name(&self) -> &str {
        match self {
            Self::ConfigMap(name)
            | Self::Secret(name)
            | Self::TrustBundle(name)
            | Self::TrustBundles(name) => name,
        }
    }

    /// The trust bundles that a projection takes from.
    pub fn of_trust(source: &ClusterTrustBundleProjection) -> Option<Self> {
        let named = source.name.clone().map(Self::TrustBundle);
        named.or_else(|| source.signer_name.clone().map(Self::TrustBundles))
    }
}

/// Everything the pod's volumes, variables and image pulls refer to.
pub fn references(pod: &Pod) -> BTreeSet<ObjectRef> {
    let mut found = BTreeSet::new();
    let spec = pod.spec_ref();
    for volume in spec.volumes.iter().flatten() {
        found.extend(volume.config_map.iter().map(|s| ObjectRef::ConfigMap(s.name.clone())));
        let secret = volume.secret.as_ref().and_then(|s| s.secret_name.clone());
        found.extend(secret.map(ObjectRef::Secret));
        let sources = volume.projected.iter().flat_map(|p| p.sources.iter().flatten());
        for source in sources {
            found.extend(source.config_map.iter().map(|s| ObjectRef::ConfigMap(s.name.clone())));
            found.extend(source.secret.iter().map(|s| ObjectRef::Secret(s.name.clone())));
            found.extend(source.cluster_trust_bundle.as_ref().and_then(ObjectRef::of_trust));
        }
    }
    let ephemeral = pod.ephemeral_containers().iter().map(pods::as_container);
    let all = pod.init_containers().iter().chain(&spec.containers).cloned().chain(ephemeral);
    for container in all {
        of_variables(&container, &mut found);
    }
    let pulls = spec.image_pull_secrets.iter().flatten();
    found.extend(pulls.map(|secret| ObjectRef::Secret(secret.name.clone())));
    found.retain(|reference| !reference.name().is_empty());
    found
}

fn of_variables(container: &Container, found: &mut BTreeSet<ObjectRef>) {
    for from in container.env_from.iter().flatten() {
        found.extend(from.config_map_ref.iter().map(|r| ObjectRef::ConfigMap(r.name.clone())));
        found.extend(from.secret_ref.iter().map(|r| ObjectRef::Secret(r.name.clone())));
    }
    for from in container.env.iter().flatten().filter_map(|v| v.value_from.as_ref()) {
        let key = from.config_map_key_ref.as_ref();
        found.extend(key.map(|r| ObjectRef::ConfigMap(r.name.clone())));
        let key = from.secret_key_ref.as_ref();
        found.extend(key.map(|r| ObjectRef::Secret(r.name.clone())));
    }
}
