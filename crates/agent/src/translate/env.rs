//! A container's environment.
use crate::seams::Image;
use api::Quantity;
use api::k8s::api::core::v1::{Container, EnvVarSource, Pod, Service};
use podlife::downward::{self, Addresses};
use podlife::{PodExt, expand};
use std::collections::BTreeMap;
use std::sync::Arc;
use volume::Objects;

/// What variables can be made from.
pub struct Sources<'a> {
    pub pod: &'a Pod,
    pub objects: &'a dyn Objects,
    pub services: &'a [Arc<Service>],
    pub addresses: Addresses<'a>,
    pub allocatable: &'a BTreeMap<String, Quantity>,
}

/// The variables by name, for expansion, and in order, for the process.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Environment {
    pub by_name: BTreeMap<String, String>,
    pub list: Vec<(String, String)>,
}

impl Environment {
    fn set(&mut self, name: &str, value: String) {
        self.by_name.insert(name.to_owned(), value.clone());
        match self.list.iter_mut().find(|(known, _)| known == name) {
            Some(entry) => entry.1 = value,
            None => self.list.push((name.to_owned(), value)),
        }
    }
}

/// Makes the environment. Services come first, so that everything else overrides and uses them.
pub async fn environment(
    sources: &Sources<'_>,
    container: &Container,
    image: &Image,
) -> Result<Environment, String> {
    let mut env = Environment::default();
    for pair in &image.env {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        env.list.retain(|(known, _)| known != name);
        env.list.push((name.to_owned(), value.to_owned()));
    }
    for (name, value) in service_variables(sources.services, sources.pod) {
        env.set(&name, value);
    }
    from_objects(sources, container, &mut env).await?;
    for variable in container.env.iter().flatten() {
        let value = match &variable.value_from {
            Some(from) => match one(sources, container, from).await? {
                Some(value) => value,
                None => continue,
            },
            None => {
                let text = variable.value.as_deref().unwrap_or_default();
                expand::expand(text, &env.by_name)
            }
        };
        env.set(&variable.name, value);
    }
    Ok(env)
}

async fn from_objects(
    sources: &Sources<'_>,
    container: &Container,
    env: &mut Environment,
) -> Result<(), String> {
    let namespace = sources.pod.namespace();
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        let mut found: Vec<(String, String)> = Vec::new();
        if let Some(source) = &from.config_map_ref {
            match sources.objects.config_map(namespace, &source.name).await? {
                Some(object) => found.extend(object.data.clone().unwrap_or_default()),
                None if source.optional == Some(true) => {}
                None => return Err(format!("configmap {:?} not found", source.name)),
            }
        }
        if let Some(source) = &from.secret_ref {
            match sources.objects.secret(namespace, &source.name).await? {
                Some(object) => {
                    let data = object.data.iter().flatten();
                    found.extend(data.map(|(key, value)| (key.clone(), text(&value.0))));
                }
                None if source.optional == Some(true) => {}
                None => return Err(format!("secret {:?} not found", source.name)),
            }
        }
        for (key, value) in found {
            env.set(&format!("{prefix}{key}"), value);
        }
    }
    Ok(())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

async fn one(
    sources: &Sources<'_>,
    container: &Container,
    from: &EnvVarSource,
) -> Result<Option<String>, String> {
    let pod = sources.pod;
    if let Some(field) = &from.field_ref {
        return downward::field(pod, &field.field_path, &sources.addresses).map(Some);
    }
    if let Some(resource) = &from.resource_field_ref {
        let name = resource.container_name.as_deref().filter(|name| !name.is_empty());
        let named = name.and_then(|name| podlife::pods::find(pod, name));
        let container = named.map_or_else(|| container.clone(), |(_, found)| found);
        return downward::resource(pod, &container, resource, sources.allocatable).map(Some);
    }
    if let Some(key) = &from.config_map_key_ref {
        let optional = key.optional == Some(true);
        return match sources.objects.config_map(pod.namespace(), &key.name).await? {
            Some(object) => {
                let value = object.data.as_ref().and_then(|data| data.get(&key.key)).cloned();
                required(value, optional, || {
                    format!(
                        "couldn't find key {} in ConfigMap {}/{}",
                        key.key,
                        pod.namespace(),
                        key.name
                    )
                })
            }
            None => required(None, optional, || format!("configmap {:?} not found", key.name)),
        };
    }
    if let Some(key) = &from.secret_key_ref {
        let optional = key.optional == Some(true);
        return match sources.objects.secret(pod.namespace(), &key.name).await? {
            Some(object) => {
                let value = object.data.as_ref().and_then(|data| data.get(&key.key));
                required(value.map(|value| text(&value.0)), optional, || {
                    format!(
                        "couldn't find key {} in Secret {}/{}",
                        key.key,
                        pod.namespace(),
                        key.name
                    )
                })
            }
            None => required(None, optional, || format!("secret {:?} not found", key.name)),
        };
    }
    if from.file_key_ref.is_some() {
        return Err("fileKeyRef is not supported by this node".to_owned());
    }
    Ok(Some(String::new()))
}

fn required(
    value: Option<String>,
    optional: bool,
    missing: impl FnOnce() -> String,
) -> Result<Option<String>, String> {
    if value.is_none() && !optional { Err(missing()) } else { Ok(value) }
}

/// Variables that tell where the Services of the pod's namespace are, and the API server.
fn service_variables(services: &[Arc<Service>], pod: &Pod) -> Vec<(String, String)> {
    let links = pod.spec_ref().enable_service_links != Some(false);
    let mut out = Vec::new();
    for service in services {
        let meta = &service.metadata;
        let name = meta.name.as_deref().unwrap_or_default();
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let api_server = namespace == "default" && name == "kubernetes";
        if !(api_server || links && namespace == pod.namespace()) {
            continue;
        }
        let Some(spec) = &service.spec else { continue };
        let ip = spec.cluster_ip.as_deref().unwrap_or_default();
        if ip.is_empty() || ip == "None" {
            continue;
        }
        let upper = |text: &str| text.to_ascii_uppercase().replace(['-', '.'], "_");
        let prefix = upper(name);
        let ports = spec.ports.as_deref().unwrap_or_default();
        let Some(first) = ports.first() else { continue };
        let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
        let url = |port: &api::k8s::api::core::v1::ServicePort| {
            let protocol = port.protocol.as_deref().unwrap_or("TCP").to_ascii_lowercase();
            format!("{protocol}://{host}:{}", port.port)
        };
        out.push((format!("{prefix}_SERVICE_HOST"), ip.to_owned()));
        out.push((format!("{prefix}_SERVICE_PORT"), first.port.to_string()));
        for port in ports {
            if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
                let name = format!("{prefix}_SERVICE_PORT_{}", upper(name));
                out.push((name, port.port.to_string()));
            }
        }
        out.push((format!("{prefix}_PORT"), url(first)));
        for port in ports {
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let one = format!("{prefix}_PORT_{}_{}", port.port, protocol.to_ascii_uppercase());
            out.push((one.clone(), url(port)));
            out.push((format!("{one}_PROTO"), protocol.to_ascii_lowercase()));
            out.push((format!("{one}_PORT"), port.port.to_string()));
            out.push((format!("{one}_ADDR"), ip.to_owned()));
        }
    }
    out
}
