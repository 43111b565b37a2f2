//! Checks of security contexts.
use super::{Context, descending_path};
use crate::{At, names};
use api::{FieldError, FieldErrors};

const MAX_ID: i64 = i32::MAX as i64;

fn ids(context: &At, fields: &[&str], errors: &mut FieldErrors) {
    for field in fields {
        let id = context.get(field);
        if let Some(value) = id.int() {
            id.each(names::in_range(value, 0, MAX_ID), errors);
        }
    }
}

/// Of a container.
pub(super) fn container(at: &At, context: &Context, errors: &mut FieldErrors) {
    if !at.is_set() {
        return;
    }
    ids(at, &["runAsUser", "runAsGroup"], errors);
    let mount = at.get("procMount");
    mount.one_of(&["Default", "Unmasked"], false, errors);
    if context.host_users() && mount.text() == "Unmasked" {
        errors.push(mount.invalid("`hostUsers` must be false to use `Unmasked`"));
    }
    seccomp(&at.get("seccompProfile"), errors);
    if at.get("allowPrivilegeEscalation").value.as_bool() == Some(false) {
        if at.get("privileged").bool() {
            let why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.push(at.invalid(why));
        }
        if at.get("capabilities.add").texts().any(|name| name == "CAP_SYS_ADMIN") {
            let why = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` \
                       CAP_SYS_ADMIN";
            errors.push(at.invalid(why));
        }
    }
    app_armor(&at.get("appArmorProfile"), errors);
}

/// Of the pod.
pub(super) fn pod(context: &Context, errors: &mut FieldErrors) {
    let at = context.spec.get("securityContext");
    ids(&at, &["fsGroup", "runAsUser", "runAsGroup"], errors);
    for group in at.get("supplementalGroups").items() {
        group.each(names::in_range(group.number(), 0, MAX_ID), errors);
    }
    sysctls(&at.get("sysctls"), context, errors);
    at.get("fsGroupChangePolicy").one_of(&["Always", "OnRootMismatch"], false, errors);
    seccomp(&at.get("seccompProfile"), errors);
    app_armor(&at.get("appArmorProfile"), errors);
    at.get("supplementalGroupsPolicy").one_of(&["Merge", "Strict"], false, errors);
    at.get("seLinuxChangePolicy").one_of(&["MountOption", "Recursive"], false, errors);
}

fn is_sysctl(name: &str) -> bool {
    let segment = |part: &str| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        let end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        part.bytes().all(inner) && end(part.chars().next()) && end(part.chars().next_back())
    };
    name.len() <= 253 && name.split(['.', '/']).all(segment)
}

fn sysctls(list: &At, context: &Context, errors: &mut FieldErrors) {
    let mut seen = Vec::new();
    for sysctl in list.items() {
        let name = sysctl.get("name");
        if name.is_empty() {
            errors.push(name.required(""));
        } else if !is_sysctl(name.text()) {
            errors.push(name.invalid(
                "must have at most 253 characters and match regex \
                 ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$",
            ));
        } else if seen.contains(&name.text()) {
            errors.push(name.duplicate());
        }
        seen.push(name.text());
        let dotted = name.text().replace('/', ".");
        let ipc = ["kernel.sem", "kernel.shm", "kernel.msg", "fs.mqueue."];
        if context.spec.get("hostNetwork").bool() && dotted.starts_with("net.") {
            errors.push(name.invalid("may not be specified when 'hostNetwork' is true"));
        } else if context.spec.get("hostIPC").bool()
            && ipc.iter().any(|prefix| dotted.starts_with(prefix))
        {
            errors.push(name.invalid("may not be specified when 'hostIPC' is true"));
        }
    }
}

fn seccomp(profile: &At, errors: &mut FieldErrors) {
    if !profile.is_set() {
        return;
    }
    let (kind, local) = (profile.get("type"), profile.get("localhostProfile"));
    let kinds = ["Localhost", "RuntimeDefault", "Unconfined"];
    if kind.is_empty() {
        errors.push(kind.required("type is required when seccompProfile is set"));
    } else {
        kind.one_of(&kinds, true, errors);
    }
    if kind.text() == "Localhost" {
        if local.must("must be set when seccomp type is Localhost", errors) {
            descending_path(&local, local.text(), errors);
        }
    } else if local.is_set() {
        let why = "can only be set when seccomp type is Localhost";
        errors.push(FieldError::invalid(local.path, profile.value.clone(), why));
    }
}

fn app_armor(profile: &At, errors: &mut FieldErrors) {
    if !profile.is_set() {
        return;
    }
    let (kind, local) = (profile.get("type"), profile.get("localhostProfile"));
    match kind.text() {
        "Localhost" => {
            if local.text().trim() != local.text() {
                errors.push(local.invalid("must not be padded with whitespace"));
            } else {
                local.must("must be set when AppArmor type is Localhost", errors);
            }
            if local.len() > 4095 {
                errors.push(local.too_long(4095));
            }
        }
        "RuntimeDefault" | "Unconfined" => {
            if local.is_set() {
                errors.push(local.invalid("can only be set when AppArmor type is Localhost"));
            }
        }
        "" => errors.push(kind.required("type is required when appArmorProfile is set")),
        _ => errors.push(kind.not_supported(&["Localhost", "RuntimeDefault", "Unconfined"])),
    }
}
