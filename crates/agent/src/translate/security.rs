//! Security contexts: who a container runs as and what it may do.
use crate::seams::Image;
use api::k8s::api::core::v1::{Container, Pod, SeccompProfile};
use podlife::PodExt;
use runtime::user::UserSpec;
use runtime::{Capabilities, Seccomp, Security};
use std::path::Path;

/// Kernel parameters that a pod may set without the node's consent.
const SAFE_SYSCTLS: &[&str] = &[
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];

/// What the node must refuse before it starts anything: reason and message.
pub fn forbidden(pod: &Pod) -> Option<(&'static str, String)> {
    let spec = pod.spec_ref();
    let context = spec.security_context.as_ref();
    for sysctl in context.iter().flat_map(|context| context.sysctls.iter().flatten()) {
        let name = sysctl.name.replace('/', ".");
        if !SAFE_SYSCTLS.contains(&name.as_str()) {
            return Some((
                "SysctlForbidden",
                format!("forbidden sysctl: {name:?} not allowlisted"),
            ));
        }
        if pod.host_network() && name.starts_with("net.") {
            let why = "not allowed with host net enabled";
            return Some(("SysctlForbidden", format!("forbidden sysctl: {name:?} {why}")));
        }
        if spec.host_ipc == Some(true) && name.starts_with("kernel.shm") {
            let why = "not allowed with host ipc enabled";
            return Some(("SysctlForbidden", format!("forbidden sysctl: {name:?} {why}")));
        }
    }
    let own =
        pod.init_containers().iter().chain(&spec.containers).filter_map(|container| {
            container.security_context.as_ref()?.app_armor_profile.as_ref()
        });
    let profiles = context.and_then(|context| context.app_armor_profile.as_ref()).into_iter();
    if profiles.chain(own).any(|profile| profile.type_ != "Unconfined") {
        let text = "Cannot enforce AppArmor: AppArmor is not enabled on the host";
        return Some(("AppArmor", text.to_owned()));
    }
    if spec.resource_claims.as_ref().is_some_and(|claims| !claims.is_empty()) {
        let text = "resource claims (resourceClaims) are not supported by this node";
        return Some(("DynamicResources", text.to_owned()));
    }
    if spec.host_users == Some(false) {
        let text = "user namespaces (hostUsers: false) are not supported by this node";
        return Some(("UserNamespaces", text.to_owned()));
    }
    None
}

/// What a container may do.
pub fn security(pod: &Pod, container: &Container, seccomp_dir: &Path) -> Result<Security, String> {
    let own = container.security_context.clone().unwrap_or_default();
    let privileged = own.privileged == Some(true);
    let capabilities = own.capabilities.clone().unwrap_or_default();
    let add = capabilities.add.unwrap_or_default();
    let admin = add.iter().any(|name| matches!(name.as_str(), "SYS_ADMIN" | "CAP_SYS_ADMIN"));
    let of_pod = pod.spec_ref().security_context.as_ref();
    let profile = own
        .seccomp_profile
        .as_ref()
        .or_else(|| of_pod.and_then(|context| context.seccomp_profile.as_ref()));
    Ok(Security {
        privileged,
        capabilities: Capabilities { add, drop: capabilities.drop.unwrap_or_default() },
        no_new_privileges: own.allow_privilege_escalation == Some(false) && !privileged && !admin,
        readonly_rootfs: own.read_only_root_filesystem == Some(true),
        seccomp: if privileged { Seccomp::Unconfined } else { seccomp(profile, seccomp_dir)? },
        unmasked_proc: own.proc_mount.as_deref() == Some("Unmasked"),
    })
}

fn seccomp(profile: Option<&SeccompProfile>, dir: &Path) -> Result<Seccomp, String> {
    let Some(profile) = profile else { return Ok(Seccomp::Unconfined) };
    match profile.type_.as_str() {
        "Unconfined" => Ok(Seccomp::Unconfined),
        "RuntimeDefault" => Ok(Seccomp::RuntimeDefault),
        "Localhost" => {
            let name = profile.localhost_profile.as_deref().unwrap_or_default();
            volume::atomic::check(name).map_err(|error| error.text())?;
            Ok(Seccomp::Localhost(dir.join(name)))
        }
        other => Err(format!("unknown seccomp profile type {other:?}")),
    }
}

/// Who a container runs as, as far as pod and image say it.
pub fn user(pod: &Pod, container: &Container, image: &Image) -> Result<UserSpec, String> {
    let of_pod = pod.spec_ref().security_context.clone().unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    let number = |n: i64| u32::try_from(n).ok();
    let run_as_user = own.run_as_user.or(of_pod.run_as_user).and_then(number);
    let groups = of_pod.supplemental_groups.iter().flatten().copied();
    let non_root = own.run_as_non_root.or(of_pod.run_as_non_root) == Some(true);
    if non_root {
        check_non_root(pod, container, image, run_as_user)?;
    }
    Ok(UserSpec {
        image_user: image.user.clone(),
        run_as_user,
        run_as_group: own.run_as_group.or(of_pod.run_as_group).and_then(number),
        groups: groups.chain(of_pod.fs_group).filter_map(number).collect(),
        strict_groups: of_pod.supplemental_groups_policy.as_deref() == Some("Strict"),
    })
}

fn check_non_root(
    pod: &Pod,
    container: &Container,
    image: &Image,
    run_as_user: Option<u32>,
) -> Result<(), String> {
    let place = format!("(pod: {:?}, container: {})", pod.written(), container.name);
    let user = image.user.split(':').next().unwrap_or_default();
    match (run_as_user, user.parse::<u32>()) {
        (Some(0), _) => Err(format!("container's runAsUser breaks non-root policy {place}")),
        (Some(_), _) => Ok(()),
        (None, Ok(0)) => {
            Err(format!("container has runAsNonRoot and image will run as root {place}"))
        }
        (None, Ok(_)) => Ok(()),
        (None, Err(_)) if user.is_empty() => {
            Err(format!("container has runAsNonRoot and image will run as root {place}"))
        }
        (None, Err(_)) => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify \
             user is non-root {place}"
        )),
    }
}
