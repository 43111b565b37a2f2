//! Discovery: which groups, versions and resources there are; one by one, and all at once.
use crate::aggregate;
use crate::body::{self, Body};
use crate::reply;
use crate::server::Server;
use crate::table::{Group, Row, Table};
use api::{ApiError, Value};
use http::{Request, Response, StatusCode, header};
use registry::Subresource;
use sha2::{Digest, Sha512};
use value::json;

pub(crate) fn answer(
    server: &Server,
    request: &Request<Body>,
    parts: &[&str],
) -> Result<Response<Body>, ApiError> {
    let table = server.table();
    let value = match parts {
        ["api"] | ["apis"] => {
            if let Some(version) = aggregated_version(request) {
                return aggregated(server, &table, request, version, parts[0] == "api");
            }
            if parts[0] == "api" { api_versions(server) } else { group_list(server, &table) }
        }
        ["api", version] => resource_list(&table, "", version)?,
        ["apis", group] => {
            let groups = aggregate::groups(server, &table);
            let found = groups.iter().find(|have| have.name == *group && !group.is_empty());
            let mut value = group_value(found.ok_or_else(ApiError::no_such_path)?);
            value["kind"] = "APIGroup".into();
            value["apiVersion"] = "v1".into();
            value
        }
        ["apis", group, version] if !group.is_empty() => resource_list(&table, group, version)?,
        _ => return Err(ApiError::no_such_path()),
    };
    Ok(reply::json(StatusCode::OK, &value))
}

fn api_versions(server: &Server) -> Value {
    let (address, port) = server.config.advertise;
    json!({
        "kind": "APIVersions", "versions": ["v1"],
        "serverAddressByClientCIDRs": [{
            "clientCIDR": "0.0.0.0/0",
            "serverAddress": std::net::SocketAddr::new(address, port).to_string(),
        }],
    })
}

fn group_value(group: &Group) -> Value {
    let version = |version: &String| json!({ "groupVersion": format!("{}/{version}", group.name), "version": version });
    json!({
        "name": group.name,
        "versions": group.versions.iter().map(version).collect::<Vec<_>>(),
        "preferredVersion": group.versions.first().map(version),
    })
}

fn group_list(server: &Server, table: &Table) -> Value {
    let groups = aggregate::groups(server, table);
    let groups = groups.iter().filter(|group| !group.name.is_empty());
    json!({
        "kind": "APIGroupList", "apiVersion": "v1",
        "groups": groups.map(group_value).collect::<Vec<_>>(),
    })
}

fn resource_list(table: &Table, group: &str, version: &str) -> Result<Value, ApiError> {
    if !table.has_version(group, version) {
        return Err(ApiError::no_such_path());
    }
    let mut resources = Vec::new();
    for row in table.of_version(group, version) {
        let info = row.info();
        let mut value = json!({
            "name": info.plural, "singularName": info.singular(), "namespaced": info.namespaced(),
            "kind": info.gvk.kind, "verbs": info.verbs.names(),
        });
        if !row.short_names().is_empty() {
            value["shortNames"] = json!(row.short_names());
        }
        if !row.categories().is_empty() {
            value["categories"] = json!(row.categories());
        }
        if row.is_stored() {
            value["storageVersionHash"] = storage_hash(row).into();
        }
        resources.push(value);
        for sub in info.subresources {
            let mut value = json!({
                "name": format!("{}/{}", info.plural, sub.name), "singularName": "",
                "namespaced": info.namespaced(), "kind": info.gvk.kind, "verbs": verbs(sub),
            });
            if let Some(gvk) = &sub.kind {
                value["kind"] = gvk.kind.as_ref().into();
                if gvk.group != info.gvk.group || gvk.version != info.gvk.version {
                    value["group"] = gvk.group.as_ref().into();
                    value["version"] = gvk.version.as_ref().into();
                }
            }
            resources.push(value);
        }
    }
    resources.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
    let group_version =
        if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    Ok(json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version,
        "resources": resources,
    }))
}

fn verbs(sub: &Subresource) -> Vec<&'static str> {
    sub.verbs.names()
}

fn storage_hash(row: &Row) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let (group, plural) = row.info().storage();
    let digest = sha2::Sha256::digest(format!("{group}/{plural}"));
    STANDARD.encode(&digest[..8])
}

/// `v2` or `v2beta1`, if the client asks for everything at once.
fn aggregated_version(request: &Request<Body>) -> Option<&'static str> {
    let accept = request.headers().get(header::ACCEPT)?.to_str().ok()?;
    for wish in accept.split(',') {
        let parts: Vec<&str> = wish.split(';').map(str::trim).collect();
        if parts.first() != Some(&"application/json") {
            continue;
        }
        let asks = |part: &str| parts.contains(&part);
        if !asks("as=APIGroupDiscoveryList") || !asks("g=apidiscovery.k8s.io") {
            // A plain wish that comes first is met first.
            if parts.len() == 1 {
                return None;
            }
            continue;
        }
        for version in ["v2", "v2beta1"] {
            if asks(&format!("v={version}")) {
                return Some(version);
            }
        }
    }
    None
}

fn aggregated(
    server: &Server,
    table: &Table,
    request: &Request<Body>,
    version: &str,
    core: bool,
) -> Result<Response<Body>, ApiError> {
    let groups = aggregate::groups(server, table);
    let groups = groups.iter().filter(|group| group.name.is_empty() == core);
    let items: Vec<Value> = groups
        .map(|group| {
            let versions = group.versions.iter().map(|version| {
                if !table.has_version(&group.name, version) {
                    return of_others(server, &group.name, version);
                }
                let rows = table.of_version(&group.name, version);
                let mut resources: Vec<Value> = rows.map(aggregated_row).collect();
                resources.sort_by(|a, b| a["resource"].as_str().cmp(&b["resource"].as_str()));
                json!({ "version": version, "resources": resources, "freshness": "Current" })
            });
            let mut metadata = json!({ "creationTimestamp": null });
            if !group.name.is_empty() {
                metadata["name"] = group.name.as_str().into();
            }
            json!({ "metadata": metadata, "versions": versions.collect::<Vec<_>>() })
        })
        .collect();
    let value = json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {}, "items": items,
    });
    let media =
        format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
    Ok(tagged(request, &media, value.to_string().into()))
}

/// A version that is served elsewhere, as its own list tells of it.
fn of_others(server: &Server, group: &str, version: &str) -> Value {
    let list = server.follower.resources(group, version);
    let freshness = if list.is_some() { "Current" } else { "Stale" };
    let mut resources: Vec<Value> = Vec::new();
    let all = list.as_deref().map(|list| list["resources"].as_array().cloned());
    for one in all.flatten().unwrap_or_default() {
        let or = |field: &str, own: &str| {
            let text = one[field].as_str().filter(|text| !text.is_empty());
            text.unwrap_or(own).to_owned()
        };
        let kind = json!({
            "group": or("group", group), "version": or("version", version), "kind": one["kind"],
        });
        let name = one["name"].as_str().unwrap_or_default();
        match name.split_once('/') {
            None => resources.push(json!({
                "resource": name, "responseKind": kind, "verbs": one["verbs"],
                "scope": if one["namespaced"] == true { "Namespaced" } else { "Cluster" },
                "singularResource": one["singularName"],
                "shortNames": one["shortNames"], "categories": one["categories"],
            })),
            Some((parent, sub)) => {
                let found = resources.iter_mut().find(|have| have["resource"] == parent);
                let Some(parent) = found else { continue };
                let sub =
                    json!({ "subresource": sub, "responseKind": kind, "verbs": one["verbs"] });
                match parent["subresources"].as_array_mut() {
                    Some(list) => list.push(sub),
                    None => parent["subresources"] = json!([sub]),
                }
            }
        }
    }
    for resource in resources.iter_mut().filter_map(Value::as_object_mut) {
        resource.retain(|_, value| !value.is_null());
    }
    json!({ "version": version, "resources": resources, "freshness": freshness })
}

fn aggregated_row(row: &Row) -> Value {
    let info = row.info();
    let kind =
        |gvk: &api::Gvk| json!({ "group": gvk.group, "version": gvk.version, "kind": gvk.kind });
    let mut value = json!({
        "resource": info.plural, "responseKind": kind(&info.gvk),
        "scope": if info.namespaced() { "Namespaced" } else { "Cluster" },
        "singularResource": info.singular(), "verbs": info.verbs.names(),
    });
    if !row.short_names().is_empty() {
        value["shortNames"] = json!(row.short_names());
    }
    if !row.categories().is_empty() {
        value["categories"] = json!(row.categories());
    }
    let subresources = info.subresources.iter().map(|sub| {
        json!({
            "subresource": sub.name, "verbs": verbs(sub),
            "responseKind": kind(sub.kind.as_ref().unwrap_or(&info.gvk)),
        })
    });
    let subresources: Vec<Value> = subresources.collect();
    if !subresources.is_empty() {
        value["subresources"] = Value::from(subresources);
    }
    value
}

/// An answer that the client may have already.
pub(crate) fn tagged(request: &Request<Body>, media: &str, bytes: bytes::Bytes) -> Response<Body> {
    let tag = tag_of(&bytes);
    if has_tag(request, &tag) { not_modified(&tag) } else { with_tag(&tag, media, bytes) }
}

pub(crate) fn tag_of(bytes: &[u8]) -> String {
    Sha512::digest(bytes).iter().map(|byte| format!("{byte:02X}")).collect()
}

pub(crate) fn has_tag(request: &Request<Body>, tag: &str) -> bool {
    let have = request.headers().get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    have.is_some_and(|have| have.split(',').any(|one| one.trim().trim_matches('"') == tag))
}

/// Without a content type: clients put the headers of this answer over those that they have kept.
pub(crate) fn not_modified(tag: &str) -> Response<Body> {
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    if let Ok(tag) = format!("\"{tag}\"").parse() {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

pub(crate) fn with_tag(tag: &str, media: &str, bytes: bytes::Bytes) -> Response<Body> {
    let builder = Response::builder().header(header::ETAG, format!("\"{tag}\""));
    reply::finish(builder.header(header::VARY, "Accept"), media, body::full(bytes))
}
