//! Where a request for a stream or proxy goes.
use crate::body::Body;
use crate::meta;
use crate::server::Context;
use api::{ApiError, Objects, Value};
use http::Request;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Security {
    Plain,
    /// TLS with the cluster's certificates on both sides.
    Node,
    /// TLS without knowing whose.
    Unverified,
}

#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// For errors: `node "a"`.
    pub what: String,
    pub host: String,
    pub port: u16,
    pub security: Security,
    pub tls_name: String,
    pub host_header: String,
    /// Path and query.
    pub path: String,
    /// What clients see in front of the target's own paths.
    pub public_prefix: Option<String>,
}

pub(crate) fn find(context: &Context, request: &Request<Body>) -> Result<Target, ApiError> {
    let query = request.uri().query().unwrap_or_default();
    match (context.row.plural(), context.info.subresource.as_str()) {
        ("pods", "proxy") => pod_proxy(context, query),
        ("services", "proxy") => service_proxy(context, query),
        ("nodes", "proxy") => {
            let (_, name, _) = scheme_name_port(&context.info.name);
            let path = rest_path(context, query);
            let mut target = node(context, name, path)?;
            target.public_prefix = Some(prefix(context));
            Ok(target)
        }
        ("pods", sub) => stream(context, sub, query),
        _ => Err(ApiError::no_such_path()),
    }
}

/// A pod's stream or log, at its node.
fn stream(context: &Context, sub: &str, query: &str) -> Result<Target, ApiError> {
    let (namespace, name) = (context.info.namespace.as_str(), context.info.name.as_str());
    let caches = &context.server.caches;
    let pod = caches.get("", "pods", namespace, name).ok_or_else(|| context.not_found())?;
    let at = pod["spec"]["nodeName"].as_str().unwrap_or_default();
    if at.is_empty() {
        return Err(ApiError::bad_request(format!("pod {name} does not have a host assigned")));
    }
    let (place, query) = match sub {
        "exec" | "attach" => {
            (format!("{sub}/{namespace}/{name}/{}", container(context, &pod)?), streams(query))
        }
        "portforward" => (format!("portForward/{namespace}/{name}"), query.to_owned()),
        _ => (
            format!("containerLogs/{namespace}/{name}/{}", container(context, &pod)?),
            query.to_owned(),
        ),
    };
    let path = if query.is_empty() { format!("/{place}") } else { format!("/{place}?{query}") };
    node(context, at, path)
}

/// The names that nodes have for the streams of a client's request.
fn streams(query: &str) -> String {
    let pairs = query.split('&').filter_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let on = matches!(value, "true" | "1" | "True" | "TRUE" | "t");
        match key {
            "stdin" => on.then(|| "input=1".to_owned()),
            "stdout" => on.then(|| "output=1".to_owned()),
            "stderr" => on.then(|| "error=1".to_owned()),
            "tty" => on.then(|| "tty=1".to_owned()),
            "command" => Some(format!("command={value}")),
            _ => None,
        }
    });
    pairs.collect::<Vec<_>>().join("&")
}

/// The container that is asked for, or the one that is meant where none is named.
fn container(context: &Context, pod: &Value) -> Result<String, ApiError> {
    let names = |list: &str| -> Vec<String> {
        let items = pod["spec"][list].as_array().into_iter().flatten();
        items.filter_map(|item| item["name"].as_str()).map(str::to_owned).collect()
    };
    let (own, init, debug) =
        (names("containers"), names("initContainers"), names("ephemeralContainers"));
    let asked = context.query.get("container");
    let pod_name = context.info.name.as_str();
    if !asked.is_empty() {
        let known = own.iter().chain(&init).chain(&debug).any(|name| name == asked);
        return match known {
            true => Ok(asked.to_owned()),
            false => Err(ApiError::bad_request(format!(
                "container {asked} is not valid for pod {pod_name}"
            ))),
        };
    }
    match own.as_slice() {
        [one] => Ok(one.clone()),
        _ => {
            let mut choices = format!("choose one of: [{}]", own.join(" "));
            if !init.is_empty() {
                choices.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
            }
            Err(ApiError::bad_request(format!(
                "a container name must be specified for pod {pod_name}, {choices}"
            )))
        }
    }
}

/// A pod without a node has no log yet: its log is empty.
pub(crate) fn has_no_log(context: &Context) -> Result<bool, ApiError> {
    let (namespace, name) = (context.info.namespace.as_str(), context.info.name.as_str());
    let pod = context.server.caches.get("", "pods", namespace, name);
    let pod = pod.ok_or_else(|| context.not_found())?;
    container(context, &pod)?;
    Ok(pod["spec"]["nodeName"].as_str().unwrap_or_default().is_empty())
}

fn node(context: &Context, name: &str, path: String) -> Result<Target, ApiError> {
    let node = context.server.caches.get("", "nodes", "", name);
    let node = node.ok_or_else(|| ApiError::not_found("", "nodes", name))?;
    let addresses = node["status"]["addresses"].as_array().cloned().unwrap_or_default();
    let of_type = |kind: &str| {
        let found = addresses.iter().find(|address| address["type"] == kind)?;
        found["address"].as_str().map(str::to_owned)
    };
    let host = ["InternalIP", "ExternalIP", "Hostname"].into_iter().find_map(of_type);
    let host = host.ok_or_else(|| {
        ApiError::unavailable(format!("no preferred addresses found for node {name:?}"))
    })?;
    let port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64();
    let port = port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
    Ok(target(format!("node {name:?}"), host, port.unwrap_or(10250), Security::Node, path))
}

fn target(what: String, host: String, port: u16, security: Security, path: String) -> Target {
    let shown = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    Target {
        what,
        tls_name: host.clone(),
        host_header: format!("{shown}:{port}"),
        host,
        port,
        security,
        path,
        public_prefix: None,
    }
}

/// `scheme:name:port`, where all but the name may be missing.
fn scheme_name_port(text: &str) -> (&str, &str, &str) {
    let parts: Vec<&str> = text.split(':').collect();
    match parts.as_slice() {
        [name, port] => ("", name, port),
        [scheme, name, port] => (scheme, name, port),
        _ => ("", text, ""),
    }
}

fn rest_path(context: &Context, query: &str) -> String {
    let path = format!("/{}", context.info.rest.trim_start_matches('/'));
    if query.is_empty() { path } else { format!("{path}?{query}") }
}

fn prefix(context: &Context) -> String {
    let path = context.info.path.trim_end_matches('/');
    path.strip_suffix(&context.info.rest).unwrap_or(path).trim_end_matches('/').to_owned()
}

fn security(scheme: &str) -> Result<Security, ApiError> {
    match scheme {
        "" | "http" => Ok(Security::Plain),
        "https" => Ok(Security::Unverified),
        other => Err(ApiError::bad_request(format!("invalid proxy scheme {other:?}"))),
    }
}

fn pod_proxy(context: &Context, query: &str) -> Result<Target, ApiError> {
    let (scheme, name, port) = scheme_name_port(&context.info.name);
    let pod = context.server.caches.get("", "pods", &context.info.namespace, name);
    let pod = pod.ok_or_else(|| ApiError::not_found("", "pods", name))?;
    let ip = pod["status"]["podIP"].as_str().unwrap_or_default();
    if ip.is_empty() || !is_pod_address(ip) {
        return Err(ApiError::bad_request("address not allowed"));
    }
    let first = pod["spec"]["containers"][0]["ports"][0]["containerPort"].as_u64().unwrap_or(80);
    let number = match port {
        "" => u16::try_from(first).unwrap_or(80),
        text => number_or_named(text, || pod_port(&pod, text))?,
    };
    let what = format!("pod {name:?}");
    let mut target =
        target(what, ip.to_owned(), number, security(scheme)?, rest_path(context, query));
    target.public_prefix = Some(prefix(context));
    Ok(target)
}

fn number_or_named(text: &str, named: impl Fn() -> Option<u16>) -> Result<u16, ApiError> {
    let number = text.parse().ok().filter(|port: &u16| *port > 0).or_else(named);
    number.ok_or_else(|| ApiError::bad_request(format!("invalid port {text:?}")))
}

fn pod_port(pod: &Value, name: &str) -> Option<u16> {
    let containers = pod["spec"]["containers"].as_array()?.iter();
    let mut ports = containers.flat_map(|container| container["ports"].as_array()).flatten();
    let found = ports.find(|port| port["name"] == name)?;
    u16::try_from(found["containerPort"].as_u64()?).ok()
}

/// A pod's status is written by its node: it must not lead to the server's own machine.
fn is_pod_address(ip: &str) -> bool {
    let Ok(ip) = ip.parse::<std::net::IpAddr>() else { return false };
    let link_local = match ip {
        std::net::IpAddr::V4(ip) => ip.is_link_local(),
        std::net::IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !ip.is_loopback() && !ip.is_multicast() && !ip.is_unspecified() && !link_local
}

/// One of the Service's ready endpoints, by chance.
fn service_proxy(context: &Context, query: &str) -> Result<Target, ApiError> {
    let (scheme, name, port) = scheme_name_port(&context.info.name);
    let namespace = context.info.namespace.as_str();
    let caches = &context.server.caches;
    let service = caches
        .get("", "services", namespace, name)
        .ok_or_else(|| ApiError::not_found("", "services", name))?;
    let ports = service["spec"]["ports"].as_array().cloned().unwrap_or_default();
    let chosen = match port {
        "" if ports.len() == 1 => ports.first(),
        "" => None,
        text => ports.iter().find(|have| {
            have["name"] == text || have["port"].as_u64().is_some_and(|n| n.to_string() == text)
        }),
    };
    let none = || ApiError::unavailable(format!("no endpoints available for service {name:?}"));
    let chosen = chosen.ok_or_else(|| {
        ApiError::unavailable(format!("no service port {port:?} found for service {name:?}"))
    })?;
    let port_name = chosen["name"].as_str().unwrap_or_default();
    let found = endpoints(context, namespace, name, port_name);
    if found.is_empty() {
        return Err(none());
    }
    let (ip, number) = found[rand::random_range(0..found.len())].clone();
    if !is_pod_address(&ip) {
        return Err(ApiError::bad_request("address not allowed"));
    }
    let what = format!("service {:?}", meta::text(&service, "name"));
    let mut target = target(what, ip, number, security(scheme)?, rest_path(context, query));
    target.public_prefix = Some(prefix(context));
    Ok(target)
}

fn endpoints(
    context: &Context,
    namespace: &str,
    name: &str,
    port_name: &str,
) -> Vec<(String, u16)> {
    let caches = &context.server.caches;
    let mut found = Vec::new();
    for slice in caches.list("discovery.k8s.io", "endpointslices", Some(namespace)) {
        if slice["metadata"]["labels"]["kubernetes.io/service-name"] != name {
            continue;
        }
        let ports = slice["ports"].as_array().into_iter().flatten();
        let port = ports.into_iter().find(|p| p["name"].as_str().unwrap_or_default() == port_name);
        let Some(port) = port.and_then(|p| u16::try_from(p["port"].as_u64()?).ok()) else {
            continue;
        };
        for endpoint in slice["endpoints"].as_array().into_iter().flatten() {
            if endpoint["conditions"]["ready"].as_bool().unwrap_or(true) {
                let addresses = endpoint["addresses"].as_array().into_iter().flatten();
                let addresses = addresses.filter_map(Value::as_str);
                found.extend(addresses.map(|address| (address.to_owned(), port)));
            }
        }
    }
    if !found.is_empty() {
        return found;
    }
    let Some(endpoints) = caches.get("", "endpoints", namespace, name) else { return found };
    for subset in endpoints["subsets"].as_array().into_iter().flatten() {
        let ports = subset["ports"].as_array().into_iter().flatten();
        let port = ports.into_iter().find(|p| p["name"].as_str().unwrap_or_default() == port_name);
        let Some(port) = port.and_then(|p| u16::try_from(p["port"].as_u64()?).ok()) else {
            continue;
        };
        let addresses = subset["addresses"].as_array().into_iter().flatten();
        let addresses = addresses.filter_map(|address| address["ip"].as_str());
        found.extend(addresses.map(|address| (address.to_owned(), port)));
    }
    found
}
