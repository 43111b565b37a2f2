//! Gives a pod its service account, the account's pull secrets, and a volume with its token.
use crate::{Plugin, Request, World};
use api::{ApiError, Value, access::text};
use value::json;

pub(crate) struct ServiceAccount;

const MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Marks the pods of a node's own files.
pub(crate) const MIRROR: &str = "/metadata/annotations/kubernetes.io~1config.mirror";
/// One hour and seven seconds: told apart from a token that somebody asked for.
const EXPIRATION_SECONDS: u32 = 3607;

impl Plugin for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }
    fn mutate(
        &self,
        world: &World<'_>,
        ask: &Request<'_>,
        pod: &mut Value,
    ) -> Result<(), ApiError> {
        if !ask.creates("", "pods") || pod.pointer(MIRROR).is_some() {
            return Ok(());
        }
        if text(pod, "/spec/serviceAccountName").is_empty() {
            pod["spec"]["serviceAccountName"] = json!("default");
        }
        let name = text(pod, "/spec/serviceAccountName").to_owned();
        pod["spec"]["serviceAccount"] = json!(name);
        let account = world.objects.get("", "serviceaccounts", ask.namespace, &name);
        let Some(account) = account else {
            let why = format!(
                "error looking up service account {}/{name}: serviceaccount {name:?} not found",
                ask.namespace
            );
            return Err(ask.forbidden(why));
        };
        let wanted = pod["spec"]["automountServiceAccountToken"]
            .as_bool()
            .or_else(|| account["automountServiceAccountToken"].as_bool());
        if wanted.unwrap_or(true) {
            mount_token(pod, ask);
        }
        let none = pod["spec"]["imagePullSecrets"].as_array().is_none_or(Vec::is_empty);
        if none && account["imagePullSecrets"].as_array().is_some_and(|list| !list.is_empty()) {
            pod["spec"]["imagePullSecrets"] = account["imagePullSecrets"].clone();
        }
        Ok(())
    }
    fn validate(&self, _: &World<'_>, ask: &Request<'_>, pod: &Value) -> Result<(), ApiError> {
        if !ask.creates("", "pods") || pod.pointer(MIRROR).is_none() {
            return Ok(());
        }
        if !text(pod, "/spec/serviceAccountName").is_empty() {
            return Err(ask.forbidden("a mirror pod may not reference service accounts"));
        }
        Ok(())
    }
}

/// Mounts the token where a container has nothing mounted at its place.
fn mount_token(pod: &mut Value, ask: &Request<'_>) {
    let volumes = pod["spec"]["volumes"].as_array();
    let existing = volumes.into_iter().flatten().find_map(|volume| {
        let name = volume["name"].as_str()?;
        (name.starts_with("kube-api-access-") && volume.get("projected").is_some())
            .then(|| name.to_owned())
    });
    let fresh = existing.is_none();
    let name = existing.unwrap_or_else(|| format!("kube-api-access-{}", suffix(ask, pod)));
    let mut mounted = false;
    for list in ["initContainers", "containers"] {
        let containers = pod["spec"][list].as_array_mut();
        for container in containers.into_iter().flatten() {
            let mounts = &mut container["volumeMounts"];
            if mounts.is_null() {
                *mounts = json!([]);
            }
            let Some(mounts) = mounts.as_array_mut() else { continue };
            if mounts.iter().any(|mount| mount["mountPath"] == MOUNT) {
                continue;
            }
            mounts.push(json!({"name": name, "readOnly": true, "mountPath": MOUNT}));
            mounted = true;
        }
        if pod["spec"][list].is_null()
            && let Some(spec) = pod["spec"].as_object_mut()
        {
            spec.remove(list);
        }
    }
    if mounted && fresh {
        let volumes = &mut pod["spec"]["volumes"];
        if volumes.is_null() {
            *volumes = json!([]);
        }
        if let Some(volumes) = volumes.as_array_mut() {
            volumes.push(volume(&name));
        }
    }
}

fn volume(name: &str) -> Value {
    let namespace = json!({"apiVersion": "v1", "fieldPath": "metadata.namespace"});
    json!({"name": name, "projected": {"defaultMode": 420, "sources": [
        {"serviceAccountToken": {"expirationSeconds": EXPIRATION_SECONDS, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt",
                       "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": namespace}]}},
    ]}})
}

/// Five letters that follow from the pod and the time at which it came: like a generated name.
fn suffix(ask: &Request<'_>, pod: &Value) -> String {
    use std::hash::{BuildHasher, Hash, Hasher};
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut hasher = std::hash::RandomState::new().build_hasher();
    (ask.namespace, text(pod, "/metadata/name")).hash(&mut hasher);
    let mut n = hasher.finish();
    (0..5)
        .map(|_| {
            let letter = LETTERS[(n % LETTERS.len() as u64) as usize];
            n /= LETTERS.len() as u64;
            char::from(letter)
        })
        .collect()
}
