//! A node writes only its own Node, its own pods' status, and tokens for its own pods.
use super::service_account::MIRROR;
use crate::{Operation, Plugin, Request, World};
use api::{ApiError, Value, access::text};

pub(crate) struct NodeRestriction;

/// Labels in these domains are the administrator's, but for those that a kubelet sets itself.
const KUBELET_LABELS: &[&str] = &[
    "kubernetes.io/hostname",
    "kubernetes.io/arch",
    "kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];

impl Plugin for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }
    fn validate(
        &self,
        world: &World<'_>,
        ask: &Request<'_>,
        object: &Value,
    ) -> Result<(), ApiError> {
        let Some(node) = ask.user.node_name() else { return Ok(()) };
        match (ask.kind.group.as_ref(), ask.resource, ask.subresource) {
            ("", "pods", "") => own_pod(node, ask, object),
            ("", "pods", "status") => own_pod(node, ask, object),
            ("", "nodes", _) => own_node(node, ask, object),
            (_, "serviceaccounts", "token") => token(node, world, ask, object),
            ("certificates.k8s.io", "podcertificaterequests", "")
                if ask.operation == Operation::Create =>
            {
                certificate(node, world, ask, object)
            }
            ("coordination.k8s.io", "leases", _) if ask.operation == Operation::Create => {
                let own =
                    ask.namespace == "kube-node-lease" && text(object, "/metadata/name") == node;
                let why = "can only access node lease with the same name as the requesting node";
                if own { Ok(()) } else { Err(ask.forbidden(why)) }
            }
            _ => Ok(()),
        }
    }
}

fn own_pod(node: &str, ask: &Request<'_>, object: &Value) -> Result<(), ApiError> {
    let here = |pod: &Value| text(pod, "/spec/nodeName") == node;
    match ask.operation {
        Operation::Create => {
            if object.pointer(MIRROR).is_none() {
                let why = format!(
                    "pod does not have \"kubernetes.io/config.mirror\" annotation, node {node:?} \
                     can only create mirror pods"
                );
                return Err(ask.forbidden(why));
            }
            let refers = ["/spec/volumes", "/spec/imagePullSecrets"].iter().any(|list| {
                let items = object.pointer(list).and_then(Value::as_array);
                items.into_iter().flatten().any(|item| {
                    ["secret", "configMap", "persistentVolumeClaim", "projected"]
                        .iter()
                        .any(|source| item.get(*source).is_some())
                        || list.ends_with("Secrets")
                })
            });
            match (here(object), refers) {
                (false, _) => Err(ask.forbidden(format!(
                    "node {node:?} can only create pods with spec.nodeName set to itself"
                ))),
                (_, true) => Err(ask.forbidden(format!(
                    "node {node:?} can not create pods that reference other objects"
                ))),
                _ => Ok(()),
            }
        }
        Operation::Update | Operation::Delete => {
            let pod = ask.old.unwrap_or(object);
            let why = format!(
                "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
            );
            if here(pod) { Ok(()) } else { Err(ask.forbidden(why)) }
        }
        Operation::Connect => Ok(()),
    }
}

fn own_node(node: &str, ask: &Request<'_>, object: &Value) -> Result<(), ApiError> {
    let name = if ask.name.is_empty() { text(object, "/metadata/name") } else { ask.name };
    if name != node {
        return Err(ask.forbidden(format!("node {node:?} is not allowed to modify node {name:?}")));
    }
    if ask.operation == Operation::Delete {
        return Err(ask.forbidden(format!("node {node:?} cannot delete itself")));
    }
    let empty = Value::Null;
    let old = ask.old.unwrap_or(&empty);
    if ask.operation == Operation::Update && old["spec"]["taints"] != object["spec"]["taints"] {
        return Err(ask.forbidden(format!("node {node:?} is not allowed to modify taints")));
    }
    let (before, after) = (&old["metadata"]["labels"], &object["metadata"]["labels"]);
    let changed = |key: &&String| before[key.as_str()] != after[key.as_str()];
    let keys = |labels: &'_ Value| -> Vec<String> {
        labels.as_object().into_iter().flatten().map(|(key, _)| key.to_string()).collect()
    };
    let all: Vec<String> = keys(before).into_iter().chain(keys(after)).collect();
    let mut bad: Vec<&str> =
        all.iter().filter(changed).map(String::as_str).filter(|key| reserved(key)).collect();
    bad.sort_unstable();
    bad.dedup();
    if bad.is_empty() {
        return Ok(());
    }
    Err(ask.forbidden(format!("is not allowed to modify labels: {}", bad.join(", "))))
}

fn reserved(key: &str) -> bool {
    let Some((domain, _)) = key.split_once('/') else { return false };
    let within = |parent: &str| domain == parent || domain.ends_with(&format!(".{parent}"));
    let kubelet = within("kubelet.kubernetes.io") || within("node.kubernetes.io");
    if within("node-restriction.kubernetes.io") {
        return true;
    }
    (within("kubernetes.io") || within("k8s.io")) && !kubelet && !KUBELET_LABELS.contains(&key)
}

/// A node asks only for certificates of pods of its own, as the account that they run as.
fn certificate(
    node: &str,
    world: &World<'_>,
    ask: &Request<'_>,
    object: &Value,
) -> Result<(), ApiError> {
    let wanted = |field: &str| text(&object["spec"], field);
    let differs = |field: &str, whose: &str, have: &str| {
        ask.forbidden(format!(
            "PodCertificateRequest.Spec.{field}={:?}, which is not {whose} {have:?}",
            wanted(&format!("/{}{}", field[..1].to_lowercase(), &field[1..]))
        ))
    };
    if wanted("/nodeName") != node {
        return Err(differs("NodeName", "the requesting node", node));
    }
    let name = wanted("/podName");
    let pod = world.objects.get("", "pods", ask.namespace, name);
    let pod = pod.ok_or_else(|| ask.forbidden(format!("pod {name:?} not found")))?;
    if pod.pointer(MIRROR).is_some() {
        return Err(ask.forbidden(format!(
            "pod {name:?} is a mirror pod, for which no certificates are requested"
        )));
    }
    let account = match text(&pod, "/spec/serviceAccountName") {
        "" => "default",
        name => name,
    };
    let uid = |plural: &str, namespace: &str, name: &str| {
        let found = world.objects.get("", plural, namespace, name);
        found.map(|found| text(&found, "/metadata/uid").to_owned()).unwrap_or_default()
    };
    let (account_uid, node_uid) =
        (uid("serviceaccounts", ask.namespace, account), uid("nodes", "", node));
    for (field, path, whose, have) in [
        ("PodUID", "/podUID", "the UID of the pod,", text(&pod, "/metadata/uid")),
        ("NodeName", "/nodeName", "the node that the pod runs on,", text(&pod, "/spec/nodeName")),
        ("ServiceAccountName", "/serviceAccountName", "the account of the pod,", account),
        ("ServiceAccountUID", "/serviceAccountUID", "the UID of the account,", &account_uid),
        ("NodeUID", "/nodeUID", "the UID of the node,", &node_uid),
    ] {
        if wanted(path) != have {
            return Err(differs(field, whose, have));
        }
    }
    Ok(())
}

/// A node asks only for tokens bound to a pod of its own, which uses that account.
fn token(node: &str, world: &World<'_>, ask: &Request<'_>, object: &Value) -> Result<(), ApiError> {
    let bound = &object["spec"]["boundObjectRef"];
    if bound["kind"] != "Pod" {
        return Err(ask.forbidden("node requested token not bound to a pod"));
    }
    let name = bound["name"].as_str().unwrap_or_default();
    let pod = world.objects.get("", "pods", ask.namespace, name);
    let Some(pod) = pod else {
        return Err(ask.forbidden(format!("pod {name:?} not found")));
    };
    if bound["uid"] != pod["metadata"]["uid"] {
        return Err(ask.forbidden("the UID in the bound object reference does not match the UID in record. The object might have been deleted and then recreated"));
    }
    if text(&pod, "/spec/nodeName") != node {
        return Err(
            ask.forbidden("node requested token bound to a pod scheduled on a different node")
        );
    }
    Ok(())
}
