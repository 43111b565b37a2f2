//! A node may read what its pods need, and write what is its own.
//!
//! The graph: a pod that is bound to a node gives the node the secrets, config maps, claims and
//! accounts that the pod names; a claim's volume gives the volume's secret.
use crate::{Decision, rbac::Rule};
use api::{Attributes, Value, access::text};
use std::collections::{HashMap, HashSet};
use std::sync::{LazyLock, PoisonError, RwLock};

/// Plural, namespace, name.
type Thing = (&'static str, String, String);

#[derive(Default)]
struct State {
    /// What each pod refers to, and on which node it is.
    pods: HashMap<(String, String), (String, Vec<Thing>)>,
    /// Who needs a thing, with the number of pods that do.
    needed_by: HashMap<Thing, HashMap<String, usize>>,
    /// A claim's volume and the volume's secrets.
    volumes: HashMap<String, (Thing, Vec<Thing>)>,
    by_claim: HashMap<Thing, HashSet<String>>,
    by_volume_secret: HashMap<Thing, HashSet<String>>,
    /// Attachment to node.
    attachments: HashMap<String, String>,
    /// Request for a pod's certificate to node.
    requests: HashMap<(String, String), String>,
}

#[derive(Default)]
pub struct Graph {
    state: RwLock<State>,
}

impl Graph {
    pub fn authorize(&self, node: &str, wanted: &Attributes) -> Decision {
        let allow = || Decision::Allow(String::new());
        let no = |why: String| Decision::NoOpinion(why);
        let reads = matches!(wanted.verb.as_str(), "get" | "list" | "watch");
        let core = wanted.group.is_empty();
        let resource = wanted.resource.as_str();
        match resource {
            "secrets" | "configmaps" if core => {
                if !reads || !wanted.subresource.is_empty() {
                    return no("can only read resources of this type".to_owned());
                }
                self.needs(node, wanted)
            }
            "persistentvolumeclaims" | "persistentvolumes" if core => {
                let status = wanted.subresource == "status"
                    && matches!(wanted.verb.as_str(), "update" | "patch" | "get");
                if wanted.verb != "get" && !status {
                    return no("can only get individual resources of this type".to_owned());
                }
                self.needs(node, wanted)
            }
            "volumeattachments" if wanted.group == "storage.k8s.io" && wanted.verb == "get" => {
                let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
                match state.attachments.get(&wanted.name) {
                    Some(owner) if owner == node => allow(),
                    _ => no(unrelated(node, wanted)),
                }
            }
            "serviceaccounts" if core && wanted.subresource.is_empty() && wanted.verb == "get" => {
                self.needs(node, wanted)
            }
            "podcertificaterequests" if wanted.group == "certificates.k8s.io" => {
                self.requests_of(node, wanted)
            }
            "serviceaccounts" if core && wanted.subresource == "token" => {
                if wanted.verb != "create" {
                    return no("can only create tokens for service accounts".to_owned());
                }
                self.needs(node, wanted)
            }
            "pods" if core && reads && wanted.subresource.is_empty() => self.pods_of(node, wanted),
            "nodes" if core && reads && wanted.subresource.is_empty() => match wanted.verb.as_str()
            {
                _ if wanted.name == node => allow(),
                "get" => no(format!(
                    "node '{node}' cannot read '{}', only its own Node object",
                    wanted.name
                )),
                _ => no(format!("node '{node}' cannot read all nodes, only its own Node object")),
            },
            "leases" if wanted.group == "coordination.k8s.io" => lease(node, wanted),
            "csinodes" if wanted.group == "storage.k8s.io" => {
                if wanted.name == node || (wanted.verb == "create" && wanted.name.is_empty()) {
                    allow()
                } else {
                    no("can only access CSINode with the same name as the requesting node"
                        .to_owned())
                }
            }
            _ if RULES.iter().any(|rule| rule.allows(wanted)) => allow(),
            _ => no(String::new()),
        }
    }

    fn needs(&self, node: &str, wanted: &Attributes) -> Decision {
        if wanted.name.is_empty() {
            return Decision::NoOpinion("can only read namespaced object of this type".to_owned());
        }
        let plural = match wanted.resource.as_str() {
            "secrets" => "secrets",
            "configmaps" => "configmaps",
            "persistentvolumeclaims" => "persistentvolumeclaims",
            "persistentvolumes" => "persistentvolumes",
            _ => "serviceaccounts",
        };
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let thing = (plural, wanted.namespace.clone(), wanted.name.clone());
        if state.reaches(node, &thing) {
            return Decision::Allow(String::new());
        }
        Decision::NoOpinion(unrelated(node, wanted))
    }

    /// Requests for certificates of its own pods; admission looks at what is in a new one.
    fn requests_of(&self, node: &str, wanted: &Attributes) -> Decision {
        let no = |why: &str| Decision::NoOpinion(why.to_owned());
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        match wanted.verb.as_str() {
            _ if !wanted.subresource.is_empty() => Decision::NoOpinion(format!(
                "nodes may not access the {:?} subresource of podcertificaterequests",
                wanted.subresource
            )),
            "create" => Decision::Allow(String::new()),
            "list" | "watch" if selects_own(node, wanted) => Decision::Allow(String::new()),
            "list" | "watch" => {
                no("can only list/watch podcertificaterequests with nodeName field selector")
            }
            "get" => {
                let key = (wanted.namespace.clone(), wanted.name.clone());
                match state.requests.get(&key) {
                    Some(owner) if owner == node => Decision::Allow(String::new()),
                    _ => Decision::NoOpinion(unrelated(node, wanted)),
                }
            }
            _ => no("nodes may only create, get, list, and watch podcertificaterequests"),
        }
    }

    /// Its own pods by name, or a list that selects them.
    fn pods_of(&self, node: &str, wanted: &Attributes) -> Decision {
        if wanted.verb != "get" && selects_own(node, wanted) {
            return Decision::Allow(String::new());
        }
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let key = (wanted.namespace.clone(), wanted.name.clone());
        // A pod that is gone may be asked for: the kubelet wants to hear that it is.
        match state.pods.get(&key) {
            _ if wanted.verb != "get" => Decision::NoOpinion(
                "can only list/watch pods with spec.nodeName field selector".to_owned(),
            ),
            Some((owner, _)) if owner != node => Decision::NoOpinion(unrelated(node, wanted)),
            _ => Decision::Allow(String::new()),
        }
    }

    pub fn pod_changed(&self, namespace: &str, name: &str, pod: Option<&Value>) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let key = (namespace.to_owned(), name.to_owned());
        if let Some((node, things)) = state.pods.remove(&key) {
            for thing in things {
                state.release(&node, &thing);
            }
        }
        let Some(pod) = pod else { return };
        let node = text(pod, "/spec/nodeName").to_owned();
        if node.is_empty() {
            return;
        }
        let things = references(namespace, pod);
        for thing in &things {
            let by = state.needed_by.entry(thing.clone()).or_default();
            *by.entry(node.clone()).or_default() += 1;
        }
        state.pods.insert(key, (node, things));
    }

    pub fn volume_changed(&self, name: &str, volume: Option<&Value>) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if let Some((claim, secrets)) = state.volumes.remove(name) {
            state.by_claim.entry(claim).or_default().remove(name);
            for secret in secrets {
                state.by_volume_secret.entry(secret).or_default().remove(name);
            }
        }
        let Some(volume) = volume else { return };
        let claim = &volume["spec"]["claimRef"];
        if claim.is_null() {
            return;
        }
        let claim: Thing = (
            "persistentvolumeclaims",
            text(claim, "/namespace").to_owned(),
            text(claim, "/name").to_owned(),
        );
        let mut secrets = Vec::new();
        for source in volume["spec"].as_object().into_iter().flat_map(|spec| spec.values()) {
            for field in ["secretRef", "nodeStageSecretRef", "nodePublishSecretRef"] {
                let found = &source[field];
                if let Some(name) = found["name"].as_str() {
                    let namespace = found["namespace"].as_str().unwrap_or(&claim.1);
                    secrets.push(("secrets", namespace.to_owned(), name.to_owned()));
                }
            }
        }
        state.by_claim.entry(claim.clone()).or_default().insert(name.to_owned());
        for secret in &secrets {
            state.by_volume_secret.entry(secret.clone()).or_default().insert(name.to_owned());
        }
        state.volumes.insert(name.to_owned(), (claim, secrets));
    }

    pub fn request_changed(&self, namespace: &str, name: &str, request: Option<&Value>) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let key = (namespace.to_owned(), name.to_owned());
        match request {
            Some(new) => state.requests.insert(key, text(new, "/spec/nodeName").to_owned()),
            None => state.requests.remove(&key),
        };
    }

    pub fn attachment_changed(&self, name: &str, attachment: Option<&Value>) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        match attachment {
            Some(new) => {
                state.attachments.insert(name.to_owned(), text(new, "/spec/nodeName").to_owned());
            }
            None => {
                state.attachments.remove(name);
            }
        }
    }
}

impl State {
    fn release(&mut self, node: &str, thing: &Thing) {
        let Some(by) = self.needed_by.get_mut(thing) else { return };
        if let Some(count) = by.get_mut(node) {
            *count -= 1;
            if *count == 0 {
                by.remove(node);
            }
        }
        if by.is_empty() {
            self.needed_by.remove(thing);
        }
    }

    fn reaches(&self, node: &str, thing: &Thing) -> bool {
        if self.needed_by.get(thing).is_some_and(|by| by.contains_key(node)) {
            return true;
        }
        let through = |volume: &String| {
            self.volumes.get(volume).is_some_and(|(claim, _)| {
                self.needed_by.get(claim).is_some_and(|by| by.contains_key(node))
            })
        };
        match thing.0 {
            "persistentvolumes" => through(&thing.2),
            "secrets" => {
                self.by_volume_secret.get(thing).is_some_and(|volumes| volumes.iter().any(through))
            }
            _ => false,
        }
    }
}

/// Whether a list is of what is on the node.
fn selects_own(node: &str, wanted: &Attributes) -> bool {
    wanted.field_selector.as_ref().is_some_and(|selector| {
        let mut terms = selector.terms.iter();
        terms.any(|term| term.path == "spec.nodeName" && term.equal && term.value == node)
    })
}

fn unrelated(node: &str, wanted: &Attributes) -> String {
    let singular = wanted.resource.trim_end_matches('s');
    format!("no relationship found between node '{node}' and this object ({singular})")
}

fn lease(node: &str, wanted: &Attributes) -> Decision {
    let no = |why: &str| Decision::NoOpinion(why.to_owned());
    if !matches!(wanted.verb.as_str(), "get" | "create" | "update" | "patch" | "delete") {
        return no("can only get, create, update, patch, or delete a node lease");
    }
    if wanted.namespace != "kube-node-lease" {
        return no("can only access leases in the \"kube-node-lease\" system namespace");
    }
    // A name that the URL does not have yet is judged by admission.
    if wanted.name == node || (wanted.verb == "create" && wanted.name.is_empty()) {
        return Decision::Allow(String::new());
    }
    no("can only access node lease with the same name as the requesting node")
}

/// What a pod makes its node need.
fn references(namespace: &str, pod: &Value) -> Vec<Thing> {
    let mut out = HashSet::new();
    let mut add = |plural: &'static str, name: &Value| {
        if let Some(name) = name.as_str().filter(|name| !name.is_empty()) {
            out.insert((plural, namespace.to_owned(), name.to_owned()));
        }
    };
    let spec = &pod["spec"];
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    add("serviceaccounts", &spec["serviceAccountName"]);
    for secret in list(&spec["imagePullSecrets"]) {
        add("secrets", &secret["name"]);
    }
    for kind in ["containers", "initContainers", "ephemeralContainers"] {
        for container in list(&spec[kind]) {
            for source in list(&container["envFrom"]) {
                add("secrets", &source["secretRef"]["name"]);
                add("configmaps", &source["configMapRef"]["name"]);
            }
            for variable in list(&container["env"]) {
                add("secrets", &variable["valueFrom"]["secretKeyRef"]["name"]);
                add("configmaps", &variable["valueFrom"]["configMapKeyRef"]["name"]);
            }
        }
    }
    for volume in list(&spec["volumes"]) {
        add("secrets", &volume["secret"]["secretName"]);
        add("configmaps", &volume["configMap"]["name"]);
        add("persistentvolumeclaims", &volume["persistentVolumeClaim"]["claimName"]);
        if volume["ephemeral"].is_object() {
            let name = format!(
                "{}-{}",
                text(pod, "/metadata/name"),
                volume["name"].as_str().unwrap_or_default()
            );
            add("persistentvolumeclaims", &Value::from(name));
        }
        for source in list(&volume["projected"]["sources"]) {
            add("secrets", &source["secret"]["name"]);
            add("configmaps", &source["configMap"]["name"]);
        }
        for source in volume.as_object().into_iter().flat_map(|volume| volume.values()) {
            add("secrets", &source["secretRef"]["name"]);
            add("secrets", &source["nodePublishSecretRef"]["name"]);
        }
    }
    out.into_iter().collect()
}

/// What every node may do, as the role `system:node` says; admission narrows writes to its own.
static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let rule = |groups: &[&str], resources: &[&str], verbs: &[&str]| {
        let own = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        Rule {
            groups: own(groups),
            resources: own(resources),
            verbs: own(verbs),
            ..Rule::default()
        }
    };
    vec![
        rule(&["authentication.k8s.io"], &["tokenreviews"], &["create"]),
        rule(
            &["authorization.k8s.io"],
            &["subjectaccessreviews", "localsubjectaccessreviews"],
            &["create"],
        ),
        rule(&[""], &["services"], &["get", "list", "watch"]),
        rule(&[""], &["nodes"], &["create", "update", "patch"]),
        rule(&[""], &["nodes/status"], &["update", "patch", "get"]),
        rule(&["", "events.k8s.io"], &["events"], &["create", "update", "patch"]),
        rule(&[""], &["pods"], &["create", "delete"]),
        rule(&[""], &["pods/status"], &["update", "patch", "get"]),
        rule(&[""], &["pods/eviction"], &["create"]),
        rule(
            &["certificates.k8s.io"],
            &["certificatesigningrequests"],
            &["create", "get", "list", "watch"],
        ),
        rule(&["certificates.k8s.io"], &["clustertrustbundles"], &["get", "list", "watch"]),
        rule(&["storage.k8s.io"], &["csidrivers"], &["get", "list", "watch"]),
        rule(&["node.k8s.io"], &["runtimeclasses"], &["get", "list", "watch"]),
        rule(&["discovery.k8s.io"], &["endpointslices"], &["get", "list", "watch"]),
        rule(
            &["resource.k8s.io"],
            &["resourceslices"],
            &["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"],
        ),
    ]
});
