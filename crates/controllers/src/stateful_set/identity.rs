//! A pod's number, and what follows from it: name, host name, labels, volumes.
use super::*;
use api::k8s::api::core::v1::{PersistentVolumeClaimVolumeSource, Volume};

const NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
const INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";

/// The number in a pod's name, if the name is one of this set's.
pub(super) fn ordinal(set: &str, pod: &str) -> Option<i32> {
    let digits = pod.strip_prefix(set)?.strip_prefix('-')?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    let number: i32 = digits.parse().ok().filter(|_| plain)?;
    // One number has one name.
    (number.to_string() == digits).then_some(number)
}

pub(super) fn pod(
    set: &StatefulSet,
    template: &PodTemplateSpec,
    revision: &str,
    ordinal: i32,
) -> Pod {
    let owner = meta::controlled_by(set);
    let mut pod = pods::from_template(template, meta::namespace(&set.metadata), "", owner);
    pod.metadata.generate_name = None;
    pod.metadata.name = Some(format!("{}-{ordinal}", meta::name(&set.metadata)));
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(REVISION_LABEL.to_owned(), revision.to_owned());
    let spec = pod.spec.get_or_insert_default();
    spec.hostname.clone_from(&pod.metadata.name);
    spec.subdomain.clone_from(&set.spec.service_name);
    identify(set, ordinal, &mut pod);
    pod
}

/// A pod that has lost its labels or volumes, put right; nothing if it has not.
pub(super) fn fixed(set: &StatefulSet, ordinal: i32, pod: &Pod) -> Option<Pod> {
    let mut fixed = pod.clone();
    identify(set, ordinal, &mut fixed);
    (fixed != *pod).then_some(fixed)
}

fn identify(set: &StatefulSet, ordinal: i32, pod: &mut Pod) {
    let name = meta::name(&pod.metadata).to_owned();
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(NAME_LABEL.to_owned(), name);
    labels.insert(INDEX_LABEL.to_owned(), ordinal.to_string());
    let spec = pod.spec.get_or_insert_default();
    for template in set.spec.volume_claim_templates.iter().flatten() {
        let name = meta::name(&template.metadata);
        let claim_name = claims::name(set, template, ordinal);
        let volumes = spec.volumes.get_or_insert_default();
        let right = |volume: &Volume| {
            let claim = volume.persistent_volume_claim.as_ref();
            volume.name == name && claim.is_some_and(|claim| claim.claim_name == claim_name)
        };
        if volumes.iter().any(right) {
            continue;
        }
        volumes.retain(|volume| volume.name != name);
        let claim = PersistentVolumeClaimVolumeSource { claim_name, read_only: Some(false) };
        volumes.push(Volume {
            name: name.to_owned(),
            persistent_volume_claim: Some(claim),
            ..Volume::default()
        });
    }
}
