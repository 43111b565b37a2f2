//! Where a request for a stream or proxy goes.
use crate::body::Body;
use crate::cache::feed::Caches;
use crate::server::Context;
use api::{ApiError, Objects, Value};
use http::Request;
use std::sync::Arc;
use value::json;

/// Where a node serves its own API unless it says otherwise.
const NODE_PORT: u16 = 10250;

#[derive(Debug, Clone)]
pub(crate) enum Security {
    Plain,
    /// TLS with the cluster's certificates on both sides.
    Node,
    /// TLS without knowing whose.
    Unverified,
    /// TLS with a certificate of authorities that somebody named.
    Authorities(Arc<rustls::ClientConfig>),
}

#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub host: String,
    pub port: u16,
    pub security: Security,
    pub tls_name: String,
    pub host_header: String,
    /// Path and query.
    pub path: String,
}

pub(crate) fn find(context: &Context, request: &Request<Body>) -> Result<Target, ApiError> {
    let query = request.uri().query().unwrap_or_default();
    match (context.row.plural(), context.info.subresource.as_str()) {
        ("pods", "proxy") => pod_proxy(context, query),
        ("services", "proxy") => service_proxy(context, query),
        ("nodes", "proxy") => node_proxy(context, query),
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
    Ok(target(host, port.unwrap_or(NODE_PORT), Security::Node, path))
}

fn target(host: String, port: u16, security: Security, path: String) -> Target {
    let shown = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    Target {
        tls_name: host.clone(),
        host_header: format!("{shown}:{port}"),
        host,
        port,
        security,
        path,
    }
}

/// `scheme:name:port`, where all but the name may be missing.
fn split<'a>(what: &str, text: &'a str) -> Result<(Security, &'a str, &'a str), ApiError> {
    let parts: Vec<&str> = text.split(':').collect();
    let (scheme, name, port) = match parts.as_slice() {
        [name] => ("", *name, ""),
        [name, port] => ("", *name, *port),
        [scheme, name, port] => (*scheme, *name, *port),
        _ => ("", "", ""),
    };
    let security = match scheme {
        "" | "http" => Some(Security::Plain),
        "https" => Some(Security::Unverified),
        _ => None,
    };
    let valid = security.filter(|_| !name.is_empty());
    let security =
        valid.ok_or_else(|| ApiError::bad_request(format!("invalid {what} request {text:?}")))?;
    Ok((security, name, port))
}

fn rest_path(context: &Context, query: &str) -> String {
    let path = format!("/{}", context.info.rest.trim_start_matches('/'));
    if query.is_empty() { path } else { format!("{path}?{query}") }
}

/// What clients see in front of the target's own paths.
pub(crate) fn prefix(context: &Context) -> &str {
    let path = context.info.path.as_str();
    path.strip_suffix(&context.info.rest).unwrap_or(path).trim_end_matches('/')
}

fn node_proxy(context: &Context, query: &str) -> Result<Target, ApiError> {
    let (security, name, port) = split("node", &context.info.name)?;
    let own = node(context, name, rest_path(context, query))?;
    if port.is_empty() || port.parse() == Ok(own.port) {
        return Ok(own);
    }
    if !is_pod_address(&own.host) {
        return Err(ApiError::bad_request("address not allowed"));
    }
    let port = number_or_named(port, || None)?;
    Ok(target(own.host, port, security, own.path))
}

fn pod_proxy(context: &Context, query: &str) -> Result<Target, ApiError> {
    let (security, name, port) = split("pod", &context.info.name)?;
    let pod = context.server.caches.get("", "pods", &context.info.namespace, name);
    let pod = pod.ok_or_else(|| ApiError::not_found("", "pods", name))?;
    let first = || {
        let containers = pod["spec"]["containers"].as_array()?.iter();
        let port = containers.flat_map(|c| c["ports"].as_array()).flatten().next()?;
        u16::try_from(port["containerPort"].as_u64()?).ok()
    };
    let usual = if matches!(security, Security::Plain) { 80 } else { 443 };
    let number = match port {
        "" => first().unwrap_or(usual),
        text => number_or_named(text, || pod_port(&pod, text))?,
    };
    let ip = pod["status"]["podIP"].as_str().unwrap_or_default();
    if !is_pod_address(ip) {
        return Err(ApiError::bad_request("address not allowed"));
    }
    Ok(target(ip.to_owned(), number, security, rest_path(context, query)))
}

fn number_or_named(text: &str, named: impl Fn() -> Option<u16>) -> Result<u16, ApiError> {
    let number = text.parse().ok().filter(|port: &u16| *port > 0).or_else(named);
    number.ok_or_else(|| {
        let why = format!("dial tcp: lookup tcp/{text}: unknown port");
        ApiError::unavailable(format!("error trying to reach service: {why}"))
    })
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
    let id = context.info.name.as_str();
    let (security, name, port) = split("service", id)?;
    let namespace = context.info.namespace.as_str();
    let service = context.server.caches.get("", "services", namespace, name);
    let service = service.ok_or_else(|| ApiError::not_found("", "services", name))?;
    let port_name = match port.parse::<u64>() {
        Err(_) => port,
        Ok(number) => port_name(&service, name, number).map_err(ApiError::unavailable)?,
    };
    let mut found = endpoints(&context.server.caches, namespace, name, port_name);
    if found.is_empty() {
        let text = format!("no endpoints available for service {id:?}");
        return Err(ApiError::unavailable(text));
    }
    let (ip, number) = found.swap_remove(rand::random_range(0..found.len()));
    Ok(target(ip, number, security, rest_path(context, query)))
}

/// A number is the Service's port; it leads to the endpoints' port of the same name.
fn port_name<'a>(service: &'a Value, name: &str, number: u64) -> Result<&'a str, String> {
    let mut ports = service["spec"]["ports"].as_array().into_iter().flatten();
    let found = ports.find(|port| port["port"].as_u64() == Some(number));
    let found =
        found.ok_or_else(|| format!("no service port {number} found for service {name:?}"))?;
    Ok(found["name"].as_str().unwrap_or_default())
}

/// Where the server itself finds a Service; or why it does not.
pub(crate) fn of_service(
    caches: &Caches,
    namespace: &str,
    name: &str,
    port: u16,
) -> Result<(String, u16), String> {
    let service = caches.get("", "services", namespace, name);
    let service = service.ok_or_else(|| format!("service {name:?} not found"))?;
    let mut found = endpoints(caches, namespace, name, port_name(&service, name, port.into())?);
    if found.is_empty() {
        return Err(format!("no endpoints available for service {name:?}"));
    }
    Ok(found.swap_remove(rand::random_range(0..found.len())))
}

/// The request for a stream or proxy, as the object that admission knows it as.
pub(crate) fn options(context: &Context) -> Value {
    let query = &context.query;
    let sub = context.info.subresource.as_str();
    let kind = match (context.row.plural(), sub) {
        ("services", _) => "ServiceProxyOptions",
        ("nodes", _) => "NodeProxyOptions",
        (_, "exec") => "PodExecOptions",
        (_, "attach") => "PodAttachOptions",
        (_, "portforward") => "PodPortForwardOptions",
        _ => "PodProxyOptions",
    };
    let mut options = json!({ "apiVersion": "v1", "kind": kind });
    match sub {
        "exec" | "attach" => {
            for stream in ["stdin", "stdout", "stderr", "tty"] {
                if query.flag(stream) {
                    options[stream] = true.into();
                }
            }
            if query.has("container") {
                options["container"] = query.get("container").into();
            }
            if sub == "exec" {
                options["command"] = query.all("command").iter().collect();
            }
        }
        "portforward" => {
            let ports: Vec<u16> =
                query.all("ports").iter().filter_map(|port| port.parse().ok()).collect();
            options["ports"] = ports.into();
        }
        _ => {
            let rest = context.info.rest.as_str();
            options["path"] = if rest.is_empty() { "/" } else { rest }.into();
        }
    }
    options
}

/// Addresses of pods: whoever may write endpoints must not send the server elsewhere.
fn endpoints(caches: &Caches, namespace: &str, name: &str, port_name: &str) -> Vec<(String, u16)> {
    let mut found = Vec::new();
    for slice in caches.list("discovery.k8s.io", "endpointslices", Some(namespace)) {
        if slice["metadata"]["labels"]["kubernetes.io/service-name"] != name {
            continue;
        }
        let mut ports = slice["ports"].as_array().into_iter().flatten();
        let port = ports.find(|p| p["name"].as_str().unwrap_or_default() == port_name);
        let Some(port) = port.and_then(|p| u16::try_from(p["port"].as_u64()?).ok()) else {
            continue;
        };
        for endpoint in slice["endpoints"].as_array().into_iter().flatten() {
            let ready = endpoint["conditions"]["ready"].as_bool().unwrap_or(true);
            let address = endpoint["addresses"][0].as_str().filter(|_| ready);
            let target = &endpoint["targetRef"];
            if let Some(address) = address
                && target["kind"] == "Pod"
                && target["namespace"].as_str().is_none_or(|given| given == namespace)
                && let Some(pod) = target["name"].as_str()
                && let Some(pod) = caches.get("", "pods", namespace, pod)
                && pod["status"]["podIP"] == address
                && is_pod_address(address)
            {
                found.push((address.to_owned(), port));
            }
        }
    }
    found
}
