//! The pod's own fields and resources as text, for variables and files.
use crate::pods::PodExt;
use crate::resources;
use api::Quantity;
use api::k8s::api::core::v1::{Container, Pod, ResourceFieldSelector};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Addresses, which may be known before the pod's status shows them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Addresses<'a> {
    pub pod_ips: &'a [String],
    pub host_ips: &'a [String],
}

/// The text of a field such as `metadata.name` or `metadata.labels['app']`.
pub fn field(pod: &Pod, path: &str, addresses: &Addresses<'_>) -> Result<String, String> {
    let meta = &pod.metadata;
    if let Some((map, key)) = subscript(path) {
        let map = match map {
            "metadata.labels" => meta.labels.as_ref(),
            "metadata.annotations" => meta.annotations.as_ref(),
            _ => return Err(format!("invalid path {map:?}: a subscript is not possible here")),
        };
        return Ok(map.and_then(|map| map.get(key)).cloned().unwrap_or_default());
    }
    let spec = pod.spec_ref();
    let pod_ips = match (pod.host_network(), addresses.pod_ips) {
        (true, []) => addresses.host_ips,
        (_, ips) => ips,
    };
    let first = |ips: &[String]| ips.first().cloned().unwrap_or_default();
    Ok(match path {
        "metadata.name" => pod.name().to_owned(),
        "metadata.namespace" => pod.namespace().to_owned(),
        "metadata.uid" => pod.uid().to_owned(),
        "metadata.labels" => lines(meta.labels.as_ref()),
        "metadata.annotations" => lines(meta.annotations.as_ref()),
        "spec.nodeName" => spec.node_name.clone().unwrap_or_default(),
        "spec.serviceAccountName" => spec.service_account_name.clone().unwrap_or_default(),
        "status.hostIP" => first(addresses.host_ips),
        "status.hostIPs" => addresses.host_ips.join(","),
        "status.podIP" => first(pod_ips),
        "status.podIPs" => pod_ips.join(","),
        _ => return Err(format!("unsupported fieldPath: {path}")),
    })
}

fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

/// `key="value"` lines, sorted by key.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let pairs = map.into_iter().flatten();
    pairs.map(|(key, value)| format!("{key}={}", quoted(value))).collect::<Vec<_>>().join("\n")
}

/// A string as Go's `%q` writes it.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0b' => out.push_str("\\v"),
            '\x0c' => out.push_str("\\f"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The value of `limits.cpu`, `requests.memory` and so on, divided and rounded up. A limit that is
/// not set is what the node has.
pub fn resource(
    pod: &Pod,
    container: &Container,
    selector: &ResourceFieldSelector,
    allocatable: &BTreeMap<String, Quantity>,
) -> Result<String, String> {
    let unsupported = || format!("unsupported container resource : {}", selector.resource);
    let (which, name) = selector.resource.split_once('.').ok_or_else(unsupported)?;
    let known =
        matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
    if !known {
        return Err(unsupported());
    }
    let of_container = container.resources.as_ref();
    let of_pod = pod.spec_ref().resources.as_ref();
    let all = allocatable.get(name).copied();
    let value = match which {
        "limits" => {
            resources::limit(of_container, name).or_else(|| resources::limit(of_pod, name)).or(all)
        }
        "requests" => resources::request(of_container, name),
        _ => return Err(unsupported()),
    };
    let value = value.unwrap_or(Quantity::ZERO);
    let divisor = selector.divisor.as_ref().and_then(|text| text.0.parse::<Quantity>().ok());
    let divisor = divisor.filter(|divisor| divisor.sign() > 0);
    let divisor = divisor.unwrap_or_else(|| Quantity::from_units(1));
    let (value, divisor) = match name {
        "cpu" => (value.milli_value(), divisor.milli_value()),
        _ => (value.value(), divisor.value()),
    };
    let rounded = (value as i128 + divisor as i128 - 1) / divisor.max(1) as i128;
    Ok(rounded.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "annotations": {"b": "two\nlines", "a.b/c": "1"}},
            "spec": {"hostNetwork": true, "nodeName": "n", "containers": []},
        }))
        .unwrap();
        let hosts = ["192.0.2.1".to_owned(), "2001:db8::1".to_owned()];
        let addresses = Addresses { pod_ips: &[], host_ips: &hosts };
        for (path, want) in [
            ("metadata.name", Ok("p")),
            ("metadata.annotations", Ok("a.b/c=\"1\"\nb=\"two\\nlines\"")),
            ("metadata.annotations['a.b/c']", Ok("1")),
            ("metadata.labels['x']", Ok("")),
            ("spec.nodeName", Ok("n")),
            ("status.podIP", Ok("192.0.2.1")),
            ("status.hostIPs", Ok("192.0.2.1,2001:db8::1")),
            ("spec.containers", Err("unsupported fieldPath: spec.containers")),
        ] {
            let found = field(&pod, path, &addresses);
            assert_eq!(found.as_deref().map_err(String::as_str), want, "{path}");
        }
    }

    #[test]
    fn resources_are_divided_and_rounded_up() {
        let container: Container = serde_json::from_value(json!({"name": "c", "resources": {
            "limits": {"cpu": "1500m"}, "requests": {"cpu": "250m", "memory": "100Mi"},
        }}))
        .unwrap();
        let node = BTreeMap::from([("memory".to_owned(), Quantity::from_bytes(1 << 30))]);
        let pod = Pod::default();
        for (resource, divisor, want) in [
            ("limits.cpu", "0", "2"),
            ("limits.cpu", "1m", "1500"),
            ("requests.cpu", "1", "1"),
            ("requests.memory", "1Mi", "100"),
            ("limits.memory", "1Gi", "1"),
            ("requests.ephemeral-storage", "1", "0"),
        ] {
            let selector: ResourceFieldSelector =
                serde_json::from_value(json!({"resource": resource, "divisor": divisor})).unwrap();
            let found = super::resource(&pod, &container, &selector, &node);
            assert_eq!(found.as_deref(), Ok(want), "{resource} / {divisor}");
        }
        let odd = ResourceFieldSelector { resource: "limits.gpu".into(), ..Default::default() };
        assert!(super::resource(&pod, &container, &odd, &node).is_err());
    }
}
