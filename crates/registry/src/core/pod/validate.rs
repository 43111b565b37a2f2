//! Checks of pods and of pod templates: what upstream's `ValidatePodSpec` refuses, in its order.
mod container;
mod handler;
mod resources;
mod scheduling;
mod security;
mod update;
pub(crate) mod volume;

use crate::meta::{validate_annotations, validate_labels};
use crate::{At, names, quantities};
use api::{FieldErrors, Value};

pub(crate) use scheduling::node_selector;

/// What of a pod's surroundings its parts must fit.
struct Context<'a> {
    spec: &'a At<'a>,
    volumes: Vec<At<'a>>,
    /// `false` for the template of a workload, which is held to a little less.
    is_pod: bool,
}

impl<'a> Context<'a> {
    fn grace_seconds(&self) -> Option<i64> {
        self.spec.get("terminationGracePeriodSeconds").int()
    }
    fn restart_policy(&self) -> &'a str {
        self.spec.get("restartPolicy").text()
    }
    fn host_users(&self) -> bool {
        self.spec.get("hostUsers").value.as_bool() != Some(false)
    }
    fn volume(&self, name: &str) -> Option<&At<'a>> {
        self.volumes.iter().find(|volume| volume.get("name").text() == name)
    }
}

/// A new pod, or a changed one.
pub(super) fn pod(new: &Value, old: Option<&Value>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    pod_spec(&At::root(new).get("spec"), true, &mut errors);
    match old {
        Some(old) => update::pod(new, old, &mut errors),
        None => {
            if !At::root(new).get("spec.ephemeralContainers").is_empty() {
                let field = At::root(new).get("spec.ephemeralContainers");
                errors.push(field.forbidden("cannot be set on create"));
            }
        }
    }
    errors
}

pub(super) fn subresource(name: &str, new: &Value, old: &Value) -> FieldErrors {
    let mut errors = FieldErrors::new();
    match name {
        "status" => update::status(new, old, &mut errors),
        "ephemeralcontainers" => {
            pod_spec(&At::root(new).get("spec"), true, &mut errors);
            update::ephemeral_containers(new, old, &mut errors);
        }
        "resize" => {
            pod_spec(&At::root(new).get("spec"), true, &mut errors);
            update::resize(new, old, &mut errors);
        }
        _ => {}
    }
    errors
}

/// The `template` of a workload.
pub(crate) fn template(template: &At, errors: &mut FieldErrors) {
    let labels = At::new(template.get("metadata.labels").value, template.child("labels"));
    validate_labels(&labels, errors);
    let annotations =
        At::new(template.get("metadata.annotations").value, template.child("annotations"));
    validate_annotations(&annotations, errors);
    let spec = template.get("spec");
    pod_spec(&spec, false, errors);
    let ephemeral = spec.get("ephemeralContainers");
    if !ephemeral.is_empty() {
        errors.push(ephemeral.forbidden("ephemeral containers not allowed in pod template"));
    }
}

pub(crate) fn pod_spec(spec: &At, is_pod: bool, errors: &mut FieldErrors) {
    let volumes = volume::volumes(&spec.get("volumes"), errors);
    let context = Context { spec, volumes, is_pod };
    container::all(&context, errors);
    resources::pod_level(spec, errors);
    host_network(&context, errors);
    spec.get("restartPolicy").one_of(&["Always", "OnFailure", "Never"], true, errors);
    let policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    spec.get("dnsPolicy").one_of(&policies, true, errors);
    validate_labels(&spec.get("nodeSelector"), errors);
    security::pod(&context, errors);
    if spec.get("shareProcessNamespace").bool() && spec.get("hostPID").bool() {
        let field = spec.get("shareProcessNamespace");
        errors.push(field.invalid("ShareProcessNamespace and HostPID cannot both be enabled"));
    }
    scheduling::affinity(&spec.get("affinity"), errors);
    dns_config(spec, errors);
    for gate in spec.get("readinessGates").items() {
        let kind = gate.get("conditionType");
        kind.each(names::qualified(kind.text()), errors);
    }
    scheduling::gates(&spec.get("schedulingGates"), errors);
    scheduling::topology_spread(&spec.get("topologySpreadConstraints"), errors);
    host_users(&context, errors);
    hostname_override(spec, errors);
    identities(spec, errors);
    scheduling::tolerations(&spec.get("tolerations"), errors);
    for alias in spec.get("hostAliases").items() {
        alias.get("ip").each(names::ip(alias.get("ip").text()), errors);
        for name in alias.get("hostnames").items() {
            name.each(names::subdomain(name.text(), false), errors);
        }
    }
    classes(spec, errors);
}

/// Names of what the pod is, and how long it may be.
fn identities(spec: &At, errors: &mut FieldErrors) {
    let account = spec.get("serviceAccountName");
    if !account.is_empty() {
        account.each(names::subdomain(account.text(), false), errors);
    }
    let node = spec.get("nodeName");
    if !node.is_empty() {
        node.each(names::subdomain(node.text(), false), errors);
    }
    let deadline = spec.get("activeDeadlineSeconds");
    if let Some(seconds) = deadline.int() {
        deadline.each(names::in_range(seconds, 1, i64::from(i32::MAX)), errors);
    }
    for field in ["hostname", "subdomain"] {
        let name = spec.get(field);
        if !name.is_empty() {
            name.each(names::label(name.text(), false), errors);
        }
    }
}

fn classes(spec: &At, errors: &mut FieldErrors) {
    for field in ["priorityClassName", "runtimeClassName"] {
        let name = spec.get(field);
        if !name.is_empty() {
            name.each(names::subdomain(name.text(), false), errors);
        }
    }
    let policies = ["PreemptLowerPriority", "Never"];
    spec.get("preemptionPolicy").one_of(&policies, false, errors);
    for (_, amount) in spec.get("overhead").entries() {
        match quantities::parse(amount.value) {
            None => errors.push(amount.invalid("must be a valid resource quantity")),
            Some(value) if value.sign() < 0 => {
                errors.push(amount.invalid("must be greater than or equal to 0"));
            }
            Some(_) => {}
        }
    }
    if spec.has("os") {
        spec.get("os.name").one_of(&["linux", "windows"], true, errors);
    }
}

fn host_network(context: &Context, errors: &mut FieldErrors) {
    if !context.spec.get("hostNetwork").bool() {
        return;
    }
    for container in context.spec.get("containers").items() {
        for port in container.get("ports").items() {
            let (host, own) = (port.get("hostPort"), port.get("containerPort").number());
            if (context.is_pod || host.number() != 0) && host.number() != own {
                let why = "must match `containerPort` when `hostNetwork` is true";
                errors.push(host.invalid(why));
            }
        }
    }
}

const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_CHARS: usize = 2048;

fn dns_config(spec: &At, errors: &mut FieldErrors) {
    let config = spec.get("dnsConfig");
    let (servers, searches) = (config.get("nameservers"), config.get("searches"));
    if spec.get("dnsPolicy").text() == "None" {
        if !config.is_set() {
            errors.push(config.required("must provide `dnsConfig` when `dnsPolicy` is None"));
            return;
        }
        if servers.is_empty() {
            let why = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            errors.push(servers.required(why));
            return;
        }
    }
    if servers.len() > MAX_NAMESERVERS {
        let why = format!("must not have more than {MAX_NAMESERVERS} nameservers");
        errors.push(servers.invalid(why));
    }
    for server in servers.items() {
        server.each(names::ip(server.text()), errors);
    }
    if searches.len() > MAX_SEARCHES {
        let why = format!("must not have more than {MAX_SEARCHES} search paths");
        errors.push(searches.invalid(why));
    }
    if searches.texts().collect::<Vec<_>>().join(" ").len() > MAX_SEARCH_CHARS {
        errors.push(searches.invalid(format!(
            "must not have more than {MAX_SEARCH_CHARS} characters (including spaces) in the \
             search list"
        )));
    }
    for search in searches.items().filter(|search| search.text() != ".") {
        let text = search.text().strip_suffix('.').unwrap_or(search.text());
        search.each(names::subdomain_with_underscore(text), errors);
    }
    for option in config.get("options").items() {
        if option.get("name").is_empty() {
            errors.push(option.required("must not be empty"));
        }
    }
}

fn host_users(context: &Context, errors: &mut FieldErrors) {
    if context.host_users() {
        return;
    }
    for (field, shown) in
        [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")]
    {
        if context.spec.get(field).bool() {
            let path = context.spec.child(shown);
            errors.push(api::FieldError::forbidden(path, "when `hostUsers` is false"));
        }
    }
}

fn hostname_override(spec: &At, errors: &mut FieldErrors) {
    let name = spec.get("hostnameOverride");
    if !name.is_set() {
        return;
    }
    if spec.get("setHostnameAsFQDN").bool() {
        errors.push(name.forbidden("may not be specified when setHostnameAsFQDN is true"));
    }
    if spec.get("hostNetwork").bool() {
        errors.push(name.forbidden("may not be specified when hostNetwork is true"));
    }
    if name.len() > 64 {
        errors.push(name.too_long(64));
    }
    name.each(names::subdomain(name.text(), false), errors);
}

/// A relative path that stays below.
fn descending_path(at: &At, text: &str, errors: &mut FieldErrors) {
    if text.starts_with('/') {
        errors.push(at.invalid("must be a relative path"));
    }
    no_backsteps(at, text, errors);
}

fn no_backsteps(at: &At, text: &str, errors: &mut FieldErrors) {
    if text.split('/').any(|part| part == "..") {
        errors.push(at.invalid("must not contain '..'"));
    }
}

#[cfg(test)]
mod tests;
