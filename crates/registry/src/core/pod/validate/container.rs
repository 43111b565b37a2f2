//! Checks of containers: names, ports, environment, mounts.
use super::{Context, descending_path, handler, resources, security};
use crate::core::pod::validate::no_backsteps;
use crate::{At, names};
use api::{FieldError, FieldErrors};

/// Every list of containers of the pod.
pub(super) fn all(context: &Context, errors: &mut FieldErrors) {
    let (regular, init) = (context.spec.get("containers"), context.spec.get("initContainers"));
    if regular.is_empty() {
        errors.push(regular.required(""));
    }
    let mut names: Vec<&str> = Vec::new();
    for container in regular.items() {
        common(&container, context, errors);
        unique(&container, &mut names, errors);
        handler::lifecycle(&container, context, errors);
        handler::probes(&container, context, errors);
        restart_policy(&container, errors);
        only_for_pod(&container, context, errors);
    }
    host_ports(&regular.items().collect::<Vec<_>>(), errors);
    for container in init.items() {
        common(&container, context, errors);
        init_restart_policy(&container, errors);
        unique(&container, &mut names, errors);
        host_ports(std::slice::from_ref(&container), errors);
        if container.get("restartPolicy").text() == "Always" {
            handler::lifecycle(&container, context, errors);
            handler::probes(&container, context, errors);
        } else {
            plain_init(&container, errors);
        }
        only_for_pod(&container, context, errors);
    }
    let others = names.clone();
    for container in context.spec.get("ephemeralContainers").items() {
        common(&container, context, errors);
        only_for_pod(&container, context, errors);
        unique(&container, &mut names, errors);
        let target = container.get("targetContainerName");
        if !target.is_empty() && !others.contains(&target.text()) {
            errors.push(target.not_found());
        }
        ephemeral(&container, errors);
    }
}

fn unique<'a>(container: &At<'a>, names: &mut Vec<&'a str>, errors: &mut FieldErrors) {
    let name = container.get("name");
    if names.contains(&name.text()) {
        errors.push(name.duplicate());
    } else if !name.is_empty() {
        names.push(name.text());
    }
}

fn only_for_pod(container: &At, context: &Context, errors: &mut FieldErrors) {
    let image = container.get("image");
    if context.is_pod && image.text().trim() != image.text() {
        errors.push(image.invalid("must not have leading or trailing whitespace"));
    }
}

fn common(container: &At, context: &Context, errors: &mut FieldErrors) {
    container.get("name").named(|text| names::label(text, false), errors);
    container.get("image").must("", errors);
    let policies = ["File", "FallbackToLogsOnError"];
    container.get("terminationMessagePolicy").one_of(&policies, true, errors);
    ports(&container.get("ports"), errors);
    for variable in container.get("env").items() {
        variable.get("name").named(names::env_name, errors);
        value_from(&variable, errors);
    }
    env_from(&container.get("envFrom"), errors);
    mounts(container, context, errors);
    devices(container, context, errors);
    let policies = ["Always", "IfNotPresent", "Never"];
    container.get("imagePullPolicy").one_of(&policies, true, errors);
    resources::container_resources(&container.get("resources"), errors);
    resources::claims(&container.get("resources.claims"), context.spec, errors);
    resources::resize_policy(&container.get("resizePolicy"), context.restart_policy(), errors);
    security::container(&container.get("securityContext"), context, errors);
}

fn ports(ports: &At, errors: &mut FieldErrors) {
    let mut seen = Vec::new();
    for port in ports.items() {
        let name = port.get("name");
        if !name.is_empty() {
            let texts = names::port_name(name.text());
            if texts.is_empty() {
                if seen.contains(&name.text()) {
                    errors.push(name.duplicate());
                }
                seen.push(name.text());
            }
            name.each(texts, errors);
        }
        let number = port.get("containerPort");
        if number.number() == 0 {
            errors.push(number.required(""));
        } else {
            number.each(names::port_number(number.number()), errors);
        }
        let host = port.get("hostPort");
        if host.number() != 0 {
            host.each(names::port_number(host.number()), errors);
        }
        port.get("protocol").one_of(&["SCTP", "TCP", "UDP"], true, errors);
    }
}

fn host_ports(containers: &[At], errors: &mut FieldErrors) {
    let mut seen = Vec::new();
    for port in containers.iter().flat_map(|container| container.get("ports").items()) {
        let host = port.get("hostPort");
        if host.number() == 0 {
            continue;
        }
        let (protocol, ip) = (port.get("protocol").text(), port.get("hostIP").text());
        let key = format!("{protocol}/{ip}/{}", host.number());
        if seen.contains(&key) {
            errors.push(FieldError::duplicate(host.path, key));
        } else {
            seen.push(key);
        }
    }
}

/// Paths of fields that a variable can be set from, as upstream lists them.
const ENV_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

fn value_from(variable: &At, errors: &mut FieldErrors) {
    let from = variable.get("valueFrom");
    if !from.is_set() {
        return;
    }
    let mut sources = 0;
    if from.has("fieldRef") {
        sources += 1;
        field_ref(&from.get("fieldRef"), ENV_FIELDS, errors);
    }
    if from.has("resourceFieldRef") {
        sources += 1;
        resource_field_ref(&from.get("resourceFieldRef"), false, errors);
    }
    for source in ["configMapKeyRef", "secretKeyRef"] {
        let reference = from.get(source);
        if reference.is_set() {
            sources += 1;
            reference.get("name").must("", errors);
            reference.get("key").named(names::config_key, errors);
        }
    }
    let file = from.get("fileKeyRef");
    if file.is_set() {
        sources += 1;
        file.get("key").named(names::env_name, errors);
        file.get("volumeName").must("", errors);
        if file.get("path").must("", errors) {
            descending_path(&file.get("path"), file.get("path").text(), errors);
        }
    }
    let why = match (sources, variable.get("value").is_empty()) {
        (0, _) => {
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, \
             `secretKeyRef` or `fileKeyRef`"
        }
        (_, false) => "may not be specified when `value` is not empty",
        (1, true) => return,
        (_, true) => "may not have more than one field specified at a time",
    };
    errors.push(FieldError::invalid(from.path, "", why));
}

/// A reference to a field of the pod; one key of labels or annotations too.
pub(super) fn field_ref(reference: &At, fields: &[&str], errors: &mut FieldErrors) {
    const LABELS: &[&str] = &[
        "metadata.annotations",
        "metadata.labels",
        "spec.restartPolicy",
        "spec.schedulerName",
        "status.phase",
        "spec.host",
    ];
    for field in ["apiVersion", "fieldPath"] {
        if !reference.get(field).must("", errors) {
            return;
        }
    }
    let path = reference.get("fieldPath");
    let subscript = path.text().strip_suffix("']").and_then(|text| text.split_once("['"));
    if let Some((map, key)) = subscript {
        let key_error = |why| FieldError::invalid(reference.path.clone(), key, why);
        match map {
            "metadata.annotations" => {
                errors.extend(names::qualified(&key.to_lowercase()).into_iter().map(key_error));
            }
            "metadata.labels" => errors.extend(names::qualified(key).into_iter().map(key_error)),
            _ => {
                let why = "does not support subscript";
                errors.push(FieldError::invalid(reference.path.clone(), map, why));
            }
        }
    } else if !fields.contains(&path.text()) {
        if LABELS.contains(&path.text()) || ENV_FIELDS.contains(&path.text()) {
            errors.push(path.not_supported(fields));
        } else {
            let why =
                format!("error converting fieldPath: field label not supported: {}", path.text());
            errors.push(path.invalid(why));
        }
    }
}

pub(super) fn resource_field_ref(reference: &At, volume: bool, errors: &mut FieldErrors) {
    const RESOURCES: &[&str] = &[
        "limits.cpu",
        "limits.ephemeral-storage",
        "limits.memory",
        "requests.cpu",
        "requests.ephemeral-storage",
        "requests.memory",
    ];
    let (container, resource) = (reference.get("containerName"), reference.get("resource"));
    if volume && container.is_empty() {
        errors.push(container.required(""));
    } else if resource.must("", errors) {
        let huge = ["limits.hugepages-", "requests.hugepages-"];
        let known = RESOURCES.contains(&resource.text())
            || huge.iter().any(|prefix| resource.text().starts_with(prefix));
        if !known {
            errors.push(resource.not_supported(RESOURCES));
        }
    }
    let divisor = reference.get("divisor");
    let text = match divisor.text() {
        "" | "0" => return,
        text => text,
    };
    let memory =
        ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];
    let (good, what) = match resource.text().split_once('.').map_or("", |(_, name)| name) {
        "cpu" => (
            ["1m", "1"].contains(&text),
            "only divisor's values 1m and 1 are supported with the cpu resource",
        ),
        "memory" => (
            memory.contains(&text),
            "only divisor's values 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are \
             supported with the memory resource",
        ),
        "ephemeral-storage" => (
            memory.contains(&text),
            "only divisor's values 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are \
             supported with the local ephemeral storage resource",
        ),
        _ => (true, ""),
    };
    if !good {
        let field = reference.child("divisor");
        errors.push(FieldError::invalid(field, divisor.value.clone(), what));
    }
}

fn env_from(list: &At, errors: &mut FieldErrors) {
    for source in list.items() {
        let prefix = source.get("prefix");
        if !prefix.is_empty() {
            prefix.each(names::env_name(prefix.text()), errors);
        }
        let mut sources = 0;
        for reference in ["configMapRef", "secretRef"] {
            if source.has(reference) {
                sources += 1;
                source.get(reference).get("name").must("", errors);
            }
        }
        let why = match sources {
            0 => "must specify one of: `configMapRef` or `secretRef`",
            1 => continue,
            _ => "may not have more than one field specified at a time",
        };
        errors.push(FieldError::invalid(list.path.clone(), "", why));
    }
}

fn mounts(container: &At, context: &Context, errors: &mut FieldErrors) {
    let (mounts, devices) = (container.get("volumeMounts"), container.get("volumeDevices"));
    let device = |field: &str, text: &str| {
        !text.is_empty() && devices.items().any(|device| device.get(field).text() == text)
    };
    let mut paths = Vec::new();
    for mount in mounts.items() {
        let (name, path) = (mount.get("name"), mount.get("mountPath"));
        name.must("", errors);
        if context.volume(name.text()).is_none() {
            let shown = name.text();
            errors.push(FieldError::not_found(name.path.clone(), shown));
        }
        path.must("", errors);
        if paths.contains(&path.text()) {
            errors.push(path.invalid("must be unique"));
        }
        paths.push(path.text());
        if device("name", name.text()) {
            errors.push(name.invalid("must not already exist in volumeDevices"));
        }
        if device("devicePath", path.text()) {
            errors.push(path.invalid("must not already exist as a path in volumeDevices"));
        }
        mount_details(&mount, &mounts, container, errors);
    }
}

/// Upstream gives the paths of these without the index.
fn mount_details(mount: &At, list: &At, container: &At, errors: &mut FieldErrors) {
    let at = |field: &str| At { path: list.get(field).path, ..mount.get(field) };
    let (sub, expression) = (at("subPath"), at("subPathExpr"));
    descending_path(&sub, sub.text(), errors);
    if !expression.is_empty() {
        if !sub.is_empty() {
            let why = "subPathExpr and subPath are mutually exclusive";
            errors.push(mount.get("subPathExpr").invalid(why));
        }
        descending_path(&expression, expression.text(), errors);
    }
    let propagation = at("mountPropagation");
    propagation.one_of(&["Bidirectional", "HostToContainer", "None"], false, errors);
    let privileged = container.get("securityContext.privileged").bool();
    if propagation.text() == "Bidirectional" && !privileged {
        let why = "Bidirectional mount propagation is available only to privileged containers";
        errors.push(propagation.forbidden(why));
    }
    let recursive = at("recursiveReadOnly");
    match recursive.text() {
        "" | "Disabled" => {}
        "Enabled" | "IfPossible" => {
            if !mount.get("readOnly").bool() {
                errors.push(recursive.forbidden("may only be specified when readOnly is true"));
            }
            if !matches!(propagation.text(), "" | "None") {
                let why = "may only be specified when mountPropagation is None or not specified";
                errors.push(recursive.forbidden(why));
            }
        }
        _ => errors.push(recursive.not_supported(&["Disabled", "Enabled", "IfPossible"])),
    }
}

fn devices(container: &At, context: &Context, errors: &mut FieldErrors) {
    let (mut names, mut paths) = (Vec::new(), Vec::new());
    for device in container.get("volumeDevices").items() {
        let (name, path) = (device.get("name"), device.get("devicePath"));
        name.must("", errors);
        if names.contains(&name.text()) {
            errors.push(name.invalid("must be unique"));
        }
        names.push(name.text());
        match context.volume(name.text()) {
            None => errors.push(FieldError::not_found(name.path.clone(), name.text())),
            Some(volume) if !volume.has("persistentVolumeClaim") && !volume.has("ephemeral") => {
                let why = "can only use volume source type of PersistentVolumeClaim or Ephemeral \
                           for block mode";
                errors.push(name.invalid(why));
            }
            Some(_) => {}
        }
        path.must("", errors);
        if paths.contains(&path.text()) {
            errors.push(path.invalid("must be unique"));
        }
        paths.push(path.text());
        let mut backsteps = FieldErrors::new();
        no_backsteps(&path, path.text(), &mut backsteps);
        if !backsteps.is_empty() {
            errors.push(path.invalid("can not contain backsteps ('..')"));
        }
    }
}

fn restart_policy(container: &At, errors: &mut FieldErrors) {
    let (policy, rules) = (container.get("restartPolicy"), container.get("restartPolicyRules"));
    if policy.is_empty() && !rules.is_empty() {
        let why = "must specify restartPolicy when restart rules are used";
        errors.push(policy.required(why));
    }
    policy.one_of(&["Always", "Never", "OnFailure"], false, errors);
    if rules.len() > 20 {
        errors.push(FieldError::too_many(rules.path.clone(), rules.len(), 20));
    }
    for rule in rules.items() {
        rule.get("action").one_of(&["Restart", "RestartAllContainers"], true, errors);
        let codes = rule.get("exitCodes");
        if codes.must("must be specified", errors) {
            codes.get("operator").one_of(&["In", "NotIn"], true, errors);
            if codes.get("values").len() > 255 {
                let values = codes.get("values");
                errors.push(FieldError::too_many(values.path.clone(), values.len(), 255));
            }
        }
    }
}

fn init_restart_policy(container: &At, errors: &mut FieldErrors) {
    restart_policy(container, errors);
}

/// An init container that is not a sidecar has an end, so nothing watches over it.
fn plain_init(container: &At, errors: &mut FieldErrors) {
    for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
        if container.has(field) {
            let why = "may not be set for init containers without restartPolicy=Always";
            errors.push(container.get(field).forbidden(why));
        }
    }
    for policy in container.get("resizePolicy").items() {
        let restart = policy.get("restartPolicy");
        if restart.text() == "RestartContainer" {
            let why = "must not be set to 'RestartContainer' for non-sidecar initContainers";
            errors.push(restart.invalid(why));
        }
    }
}

fn ephemeral(container: &At, errors: &mut FieldErrors) {
    let why = "cannot be set for an Ephemeral Container";
    for field in [
        "ports",
        "resources",
        "resizePolicy",
        "restartPolicy",
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
        "lifecycle",
    ] {
        if !container.get(field).is_empty() {
            errors.push(container.get(field).forbidden(why));
        }
    }
    for mount in container.get("volumeMounts").items() {
        for field in ["subPath", "subPathExpr"] {
            if !mount.get(field).is_empty() {
                errors.push(mount.get(field).forbidden(why));
            }
        }
    }
}
