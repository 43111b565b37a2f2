//! The policy that a new cluster starts with: upstream's default roles and bindings.
//!
//! Made at every start for what is missing; an object that an administrator has changed and marked
//! with `rbac.authorization.kubernetes.io/autoupdate: "false"` is left alone by the caller.
use api::Value;
use value::json;

const RBAC: &str = "rbac.authorization.k8s.io";

/// Verbs, API groups and resources, each separated by spaces; `core` is the unnamed group.
type Grant = (&'static str, &'static str, &'static str);

const READ: &str = "get list watch";
const WRITE: &str = "create delete deletecollection patch update";
const ALL: &str = "create delete deletecollection get list patch update watch";

const VIEW: &[Grant] = &[
    (
        READ,
        "core",
        "configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods \
      replicationcontrollers replicationcontrollers/scale serviceaccounts services services/status",
    ),
    (
        READ,
        "core",
        "bindings events limitranges namespaces/status pods/log pods/status \
      replicationcontrollers/status resourcequotas resourcequotas/status namespaces",
    ),
    (READ, "discovery.k8s.io", "endpointslices"),
    (
        READ,
        "apps",
        "controllerrevisions daemonsets daemonsets/status deployments deployments/scale \
      deployments/status replicasets replicasets/scale replicasets/status statefulsets \
      statefulsets/scale statefulsets/status",
    ),
    (READ, "autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status"),
    (READ, "batch", "cronjobs cronjobs/status jobs jobs/status"),
    (READ, "policy", "poddisruptionbudgets poddisruptionbudgets/status"),
    (READ, "networking.k8s.io", "ingresses ingresses/status networkpolicies"),
    (READ, "resource.k8s.io", "resourceclaims resourceclaims/status resourceclaimtemplates"),
];
const EDIT: &[Grant] = &[
    (READ, "core", "pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy"),
    ("impersonate", "core", "serviceaccounts"),
    (
        WRITE,
        "core",
        "pods pods/attach pods/exec pods/portforward pods/proxy configmaps events \
      persistentvolumeclaims replicationcontrollers replicationcontrollers/scale secrets \
      serviceaccounts services services/proxy",
    ),
    ("create", "core", "pods/eviction serviceaccounts/token"),
    (
        WRITE,
        "apps",
        "daemonsets deployments deployments/rollback deployments/scale replicasets \
      replicasets/scale statefulsets statefulsets/scale",
    ),
    (WRITE, "autoscaling", "horizontalpodautoscalers"),
    (WRITE, "batch", "cronjobs jobs"),
    (WRITE, "policy", "poddisruptionbudgets"),
    (WRITE, "networking.k8s.io", "ingresses networkpolicies"),
    (ALL, "coordination.k8s.io", "leases"),
    (WRITE, "resource.k8s.io", "resourceclaims resourceclaimtemplates"),
];
const ADMIN: &[Grant] = &[
    (ALL, "rbac.authorization.k8s.io", "rolebindings roles"),
    ("create", "authorization.k8s.io", "localsubjectaccessreviews"),
];

/// Cluster roles by name; those of the control plane's own parts, which run in process, are here
/// for what binds to them from outside.
const ROLES: &[(&str, &[Grant])] = &[
    (
        "system:basic-user",
        &[
            ("create", "authorization.k8s.io", "selfsubjectaccessreviews selfsubjectrulesreviews"),
            ("create", "authentication.k8s.io", "selfsubjectreviews"),
        ],
    ),
    (
        "system:auth-delegator",
        &[
            ("create", "authentication.k8s.io", "tokenreviews"),
            ("create", "authorization.k8s.io", "subjectaccessreviews"),
        ],
    ),
    (
        "system:kubelet-api-admin",
        &[
            (READ, "core", "nodes"),
            ("proxy", "core", "nodes"),
            (
                "*",
                "core",
                "nodes/log nodes/metrics nodes/proxy nodes/stats nodes/configz nodes/healthz \
          nodes/pods",
            ),
        ],
    ),
    (
        "system:node-bootstrapper",
        &[("create get list watch", "certificates.k8s.io", "certificatesigningrequests")],
    ),
    (
        "system:node-proxier",
        &[
            ("list watch", "core", "services endpoints nodes"),
            ("get", "core", "nodes"),
            ("list watch", "discovery.k8s.io", "endpointslices"),
            ("create patch update", "core events.k8s.io", "events"),
        ],
    ),
    (
        "system:node-problem-detector",
        &[
            ("get", "core", "nodes"),
            ("patch", "core", "nodes/status"),
            ("create patch update", "core events.k8s.io", "events"),
        ],
    ),
    (
        "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
        &[("create", "certificates.k8s.io", "certificatesigningrequests/nodeclient")],
    ),
    (
        "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
        &[("create", "certificates.k8s.io", "certificatesigningrequests/selfnodeclient")],
    ),
    (
        "system:certificates.k8s.io:kube-apiserver-client-approver",
        &[("approve", "certificates.k8s.io", "signers")],
    ),
    (
        "system:kube-dns",
        &[
            ("list watch", "core", "endpoints services pods namespaces"),
            ("list watch", "discovery.k8s.io", "endpointslices"),
        ],
    ),
    (
        "system:persistent-volume-provisioner",
        &[
            ("create delete get list watch", "core", "persistentvolumes"),
            ("get list update watch", "core", "persistentvolumeclaims"),
            (READ, "storage.k8s.io", "storageclasses"),
            ("watch create update patch", "core", "events"),
        ],
    ),
    (
        "system:kube-scheduler",
        &[
            ("create patch update", "core events.k8s.io", "events"),
            ("create get list update watch", "coordination.k8s.io", "leases"),
            (
                READ,
                "core",
                "nodes namespaces persistentvolumeclaims persistentvolumes \
          replicationcontrollers services",
            ),
            ("delete get list watch", "core", "pods"),
            ("create", "core", "bindings pods/binding"),
            ("patch update", "core", "pods/status"),
            (READ, "apps", "replicasets statefulsets"),
            (READ, "policy", "poddisruptionbudgets"),
            (
                READ,
                "storage.k8s.io",
                "csidrivers csinodes csistoragecapacities storageclasses \
          volumeattachments",
            ),
            ("create", "authentication.k8s.io", "tokenreviews"),
            ("create", "authorization.k8s.io", "subjectaccessreviews"),
        ],
    ),
    (
        "system:kube-controller-manager",
        &[
            ("create patch update", "core events.k8s.io", "events"),
            ("create get list update watch", "coordination.k8s.io", "leases"),
            ("create delete get update", "core", "secrets serviceaccounts"),
            ("get", "core", "configmaps namespaces"),
            ("list watch", "*", "*"),
            ("create", "core", "serviceaccounts/token"),
            ("create", "authentication.k8s.io", "tokenreviews"),
            ("create", "authorization.k8s.io", "subjectaccessreviews"),
        ],
    ),
    ("system:node", &[]),
];

/// Cluster roles over paths.
const PATHS: &[(&str, &[&str])] = &[
    (
        "system:discovery",
        &[
            "/api",
            "/api/*",
            "/apis",
            "/apis/*",
            "/healthz",
            "/livez",
            "/openapi",
            "/openapi/*",
            "/readyz",
            "/version",
            "/version/",
        ],
    ),
    ("system:public-info-viewer", &["/healthz", "/livez", "/readyz", "/version", "/version/"]),
    (
        "system:monitoring",
        &[
            "/healthz",
            "/healthz/*",
            "/livez",
            "/livez/*",
            "/metrics",
            "/metrics/slis",
            "/readyz",
            "/readyz/*",
        ],
    ),
    (
        "system:service-account-issuer-discovery",
        &["/.well-known/openid-configuration", "/openid/v1/jwks"],
    ),
];

/// Role and the groups or users that have it; the binding is named after the role.
const BINDINGS: &[(&str, &str, &str)] = &[
    ("cluster-admin", "Group", "system:masters"),
    ("system:basic-user", "Group", "system:authenticated"),
    ("system:discovery", "Group", "system:authenticated"),
    ("system:public-info-viewer", "Group", "system:authenticated system:unauthenticated"),
    ("system:monitoring", "Group", "system:monitoring"),
    ("system:service-account-issuer-discovery", "Group", "system:serviceaccounts"),
    ("system:node-bootstrapper", "Group", "system:bootstrappers"),
    (
        "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
        "Group",
        "system:bootstrappers",
    ),
    (
        "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
        "Group",
        "system:nodes",
    ),
    ("system:kube-scheduler", "User", "system:kube-scheduler"),
    ("system:kube-controller-manager", "User", "system:kube-controller-manager"),
    ("system:node-proxier", "User", "system:kube-proxy"),
];

/// Every role and binding, cluster-wide ones first.
pub fn objects() -> Vec<Value> {
    let mut out = vec![cluster_role(
        "cluster-admin",
        json!([
            {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
            {"nonResourceURLs": ["*"], "verbs": ["*"]},
        ]),
    )];
    out.extend(ROLES.iter().map(|(name, grants)| cluster_role(name, rules(grants))));
    out.extend(PATHS.iter().map(|(name, paths)| {
        cluster_role(name, json!([{"nonResourceURLs": paths, "verbs": ["get"]}]))
    }));
    out.extend(aggregated());
    for (role, kind, subjects) in BINDINGS {
        let subjects: Vec<Value> = subjects
            .split_whitespace()
            .map(|name| json!({"apiGroup": RBAC, "kind": kind, "name": name}))
            .collect();
        out.push(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": metadata(role),
            "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role},
            "subjects": subjects,
        }));
    }
    // Every node does for itself what elsewhere a proxy's account does.
    out.push(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": metadata("kybern:node-network"),
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "system:node-proxier"},
        "subjects": [{"apiGroup": RBAC, "kind": "Group", "name": "system:nodes"}],
    }));
    out.extend(namespaced());
    out
}

/// `admin`, `edit` and `view`, and the parts that are aggregated to them. Each holds the rules of
/// those below it from the start.
fn aggregated() -> Vec<Value> {
    let label = |to: &str| format!("rbac.authorization.k8s.io/aggregate-to-{to}");
    let mut out = Vec::new();
    for (name, own, all, above) in [
        ("admin", ADMIN, &[ADMIN, EDIT, VIEW][..], ""),
        ("edit", EDIT, &[EDIT, VIEW], "admin"),
        ("view", VIEW, &[VIEW], "edit"),
    ] {
        let mut part = cluster_role(&format!("system:aggregate-to-{name}"), rules(own));
        part["metadata"]["labels"][label(name)] = json!("true");
        out.push(part);
        let mut whole = cluster_role(name, rules(&all.concat()));
        whole["aggregationRule"] =
            json!({"clusterRoleSelectors": [{"matchLabels": {(label(name)): "true"}}]});
        if !above.is_empty() {
            whole["metadata"]["labels"][label(above)] = json!("true");
        }
        out.push(whole);
    }
    out
}

fn namespaced() -> Vec<Value> {
    let in_system = |name: &str| {
        let mut metadata = metadata(name);
        metadata["namespace"] = json!("kube-system");
        metadata
    };
    let reader = "extension-apiserver-authentication-reader";
    vec![json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": in_system(reader),
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch"],
                   "resourceNames": ["extension-apiserver-authentication"]}],
    })]
}

fn metadata(name: &str) -> Value {
    json!({
        "name": name,
        "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
        "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
    })
}

fn cluster_role(name: &str, rules: Value) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": metadata(name), "rules": rules,
    })
}

fn rules(grants: &[Grant]) -> Value {
    let words = |text: &str| -> Vec<String> {
        text.split_whitespace().map(|word| word.replace("core", "")).collect()
    };
    let plain =
        |text: &str| -> Vec<String> { text.split_whitespace().map(str::to_owned).collect() };
    let rule = |(verbs, groups, resources): &Grant| json!({"verbs": plain(verbs), "apiGroups": words(groups), "resources": plain(resources)});
    grants.iter().map(rule).collect()
}
