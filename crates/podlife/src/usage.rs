//! What a pod may keep on the node's disk, and what is said when it keeps more.
use crate::pods::PodExt;
use crate::resources;
use api::Quantity;
use api::k8s::api::core::v1::{Container, Pod, Volume};
use std::collections::BTreeMap;

const STORAGE: &str = "ephemeral-storage";

/// Bytes on disk, as measured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Volumes of type emptyDir that lie on disk, by name.
    pub volumes: BTreeMap<String, u64>,
    /// Writable layers and logs, by container.
    pub containers: BTreeMap<String, u64>,
}

/// Whether the volume is a folder on the node's own disk.
pub fn on_disk(volume: &Volume) -> bool {
    let medium = volume.empty_dir.as_ref().map(|dir| dir.medium.as_deref().unwrap_or_default());
    medium == Some("")
}

/// Whether anything limits what the pod may keep.
pub fn is_limited(pod: &Pod) -> bool {
    let mut containers = pod.spec_ref().containers.iter().chain(pod.init_containers());
    containers.any(|container| own_limit(container).is_some())
        || pod.spec_ref().volumes.iter().flatten().any(|volume| size_limit(volume).is_some())
}

/// Which limit is exceeded, in upstream's words.
pub fn exceeded(pod: &Pod, usage: &Usage) -> Option<String> {
    let beyond =
        |bytes: u64, limit: &Quantity| i64::try_from(bytes).is_ok_and(|b| b > limit.value());
    for volume in pod.spec_ref().volumes.iter().flatten() {
        let Some((limit, written)) = size_limit(volume) else { continue };
        let used = usage.volumes.get(&volume.name).copied().unwrap_or_default();
        if beyond(used, &limit) {
            let name = &volume.name;
            return Some(format!(
                "Usage of EmptyDir volume {name:?} exceeds the limit {written:?}. "
            ));
        }
    }
    if let Some(limit) = pod_limit(pod) {
        let used: u64 = usage.volumes.values().chain(usage.containers.values()).sum();
        if beyond(used, &limit) {
            return Some(format!(
                "Pod ephemeral local storage usage exceeds the total limit of containers {limit}. "
            ));
        }
    }
    let all = pod.spec_ref().containers.iter().chain(pod.init_containers());
    for container in all {
        let Some(limit) = own_limit(container) else { continue };
        let used = usage.containers.get(&container.name).copied().unwrap_or_default();
        if beyond(used, &limit) {
            let (name, limit) = (&container.name, limit.to_string());
            return Some(format!(
                "Container {name} exceeded its local ephemeral storage limit {limit:?}. "
            ));
        }
    }
    None
}

fn size_limit(volume: &Volume) -> Option<(Quantity, String)> {
    if !on_disk(volume) {
        return None;
    }
    let written = &volume.empty_dir.as_ref()?.size_limit.as_ref()?.0;
    let limit = written.parse::<Quantity>().ok().filter(|limit| limit.value() > 0)?;
    Some((limit, written.clone()))
}

fn own_limit(container: &Container) -> Option<Quantity> {
    resources::limit(container.resources.as_ref(), STORAGE)
}

/// What all containers together may keep; none as soon as one of them has no limit.
fn pod_limit(pod: &Pod) -> Option<Quantity> {
    let main = pod.spec_ref().containers.iter().map(own_limit).collect::<Option<Vec<_>>>()?;
    let all: i64 = main.iter().map(Quantity::value).fold(0, i64::saturating_add);
    Some(Quantity::from_bytes(all))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(limits: [Option<&str>; 2], size: Option<&str>) -> Pod {
        let containers: Vec<_> = ["a", "b"]
            .iter()
            .zip(limits)
            .map(|(name, limit)| match limit {
                Some(limit) => json!({"name": name, "resources": {"limits": {STORAGE: limit}}}),
                None => json!({"name": name}),
            })
            .collect();
        let volumes = json!([
            {"name": "data", "emptyDir": {"sizeLimit": size}},
            {"name": "mem", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        ]);
        let spec = json!({"containers": containers, "volumes": volumes});
        serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap()
    }

    fn usage(volume: u64, containers: [u64; 2]) -> Usage {
        let names = ["a".to_owned(), "b".to_owned()];
        Usage {
            volumes: BTreeMap::from([("data".to_owned(), volume), ("mem".to_owned(), 0)]),
            containers: names.into_iter().zip(containers).collect(),
        }
    }

    #[test]
    fn limits_in_upstreams_words() {
        assert!(!is_limited(&pod([None, None], None)), "memory is bounded by its mount");
        let bounded = pod([None, None], Some("4Gi"));
        assert!(is_limited(&bounded));
        assert_eq!(exceeded(&bounded, &usage(4 << 30, [0, 0])), None);
        assert_eq!(
            exceeded(&bounded, &usage((4 << 30) + 1, [0, 0])).unwrap(),
            "Usage of EmptyDir volume \"data\" exceeds the limit \"4Gi\". "
        );
        let one = pod([Some("1Mi"), None], None);
        assert_eq!(exceeded(&one, &usage(9 << 20, [1 << 20, 9 << 20])), None);
        assert_eq!(
            exceeded(&one, &usage(0, [2 << 20, 0])).unwrap(),
            "Container a exceeded its local ephemeral storage limit \"1Mi\". "
        );
        let both = pod([Some("1Mi"), Some("1Mi")], None);
        assert_eq!(
            exceeded(&both, &usage(1 << 20, [1 << 20, 1])).unwrap(),
            "Pod ephemeral local storage usage exceeds the total limit of containers 2Mi. "
        );
    }
}
