//! APIs that others serve: an `APIService` with a Service has the requests for its group and
//! version handed on, with the user's name beside them; discovery tells of it while it is there.
mod watch;

pub(crate) use watch::{Follower, run};

use crate::body::{self, Body};
use crate::proxy::dial::Broken;
use crate::proxy::target::{self, Security, Target};
use crate::proxy::{exchange, is_upgrade, joined, outgoing, strip_hop_headers};
use crate::server::Server;
use crate::table::{Group, Table};
use api::{ApiError, Objects, User, Value};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use std::sync::Arc;

const GROUP: &str = "apiregistration.k8s.io";
const PLURAL: &str = "apiservices";
const REMOTE: &str = "x-remote-";

/// The group and version that a path is about.
fn named(path: &str) -> Option<(&str, &str)> {
    let path = path.strip_prefix("/openapi/v3").unwrap_or(path);
    let mut parts = path.strip_prefix("/apis/")?.split('/');
    let (group, version) = (parts.next()?, parts.next()?);
    (!group.is_empty() && !version.is_empty()).then_some((group, version))
}

/// The APIService that the path's requests are handed on to. What this server has is its own.
pub(crate) fn claimed(server: &Server, path: &str) -> Option<Arc<Value>> {
    let (group, version) = named(path)?;
    if server.caches.of(GROUP, PLURAL).is_none_or(|cache| cache.is_empty()) {
        return None;
    }
    let found = server.caches.get(GROUP, PLURAL, "", &format!("{version}.{group}"))?;
    let remote =
        found["spec"]["service"].is_object() && !server.table().has_version(group, version);
    remote.then_some(found)
}

/// Every APIService whose requests are handed on.
fn remote(server: &Server, table: &Table) -> Vec<Arc<Value>> {
    let mut all = server.caches.list(GROUP, PLURAL, None);
    all.retain(|one| {
        let (group, version) = identity(one);
        one["spec"]["service"].is_object() && !table.has_version(group, version)
    });
    all
}

fn identity(service: &Value) -> (&str, &str) {
    let text = |field: &str| service["spec"][field].as_str().unwrap_or_default();
    (text("group"), text("version"))
}

/// The table's groups, and those of others after them, the more important ones first.
pub(crate) fn groups(server: &Server, table: &Table) -> Vec<Group> {
    let mut groups = table.groups.clone();
    let mut others = remote(server, table);
    let priority = |one: &Value, field: &str| one["spec"][field].as_i64().unwrap_or_default();
    others.sort_by_key(|one| {
        let (group, version) = identity(one);
        let first = -priority(one, "groupPriorityMinimum");
        (first, group.to_owned(), -priority(one, "versionPriority"), version.to_owned())
    });
    for one in &others {
        let (name, version) = identity(one);
        match groups.iter_mut().find(|group| group.name == name) {
            Some(group) => group.versions.push(version.to_owned()),
            None => {
                groups.push(Group { name: name.to_owned(), versions: vec![version.to_owned()] });
            }
        }
    }
    groups
}

/// Groups and versions that others serve and are there to.
pub(crate) fn answering(server: &Server, table: &Table) -> Vec<(String, String)> {
    let all = remote(server, table).into_iter().filter(|one| is_available(one));
    let owned = |one: Arc<Value>| {
        let (group, version) = identity(&one);
        (group.to_owned(), version.to_owned())
    };
    all.map(owned).collect()
}

fn is_available(service: &Value) -> bool {
    let conditions = service["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|one| one["type"] == "Available" && one["status"] == "True")
}

/// Hands a request on, and its answer back.
pub(crate) async fn forward(
    server: &Server,
    user: &User,
    mut request: Request<Body>,
    service: &Value,
) -> Result<Response<Body>, ApiError> {
    if !is_available(service) {
        return Err(ApiError::unavailable("service unavailable"));
    }
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let unreachable = |why| ApiError::unavailable(format!("error trying to reach service: {why}"));
    let target = target(server, service, path).map_err(unreachable)?;
    let upgraded = is_upgrade(request.headers());
    let client_side = upgraded.then(|| hyper::upgrade::on(&mut request));
    let headers = request.headers_mut();
    strip_hop_headers(headers, upgraded);
    let host = target.host_header.parse().map_err(ApiError::internal)?;
    headers.insert(header::HOST, host);
    introduce(headers, user)?;
    let forwarded = outgoing(request, &target.path)?;
    let mut response = match exchange(server, &target, forwarded).await {
        Ok(response) => response,
        Err(Broken::Api(error)) => return Err(error),
        Err(Broken::Unreachable(why)) => return Err(unreachable(why)),
    };
    match client_side {
        Some(client_side) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
            Ok(joined(client_side, response))
        }
        _ => {
            strip_hop_headers(response.headers_mut(), false);
            Ok(response.map(body::boxed))
        }
    }
}

/// Who asks, for those who trust this server's word for it.
fn introduce(headers: &mut http::HeaderMap, user: &User) -> Result<(), ApiError> {
    for name in headers.keys().cloned().collect::<Vec<_>>() {
        let name = name.as_str();
        if name.starts_with(REMOTE) || name.starts_with("impersonate-") || name == "authorization" {
            headers.remove(name);
        }
    }
    let mut add = |name: &str, value: &str| {
        let name = HeaderName::try_from(format!("{REMOTE}{name}")).map_err(ApiError::internal)?;
        headers.append(name, HeaderValue::from_str(value).map_err(ApiError::internal)?);
        Ok::<_, ApiError>(())
    };
    add("user", &user.name)?;
    if !user.uid.is_empty() {
        add("uid", &user.uid)?;
    }
    user.groups.iter().try_for_each(|group| add("group", group))?;
    for (key, values) in &user.extra {
        let key = format!("extra-{}", escaped(key));
        values.iter().try_for_each(|value| add(&key, value))?;
    }
    Ok(())
}

/// What may not be in a header's name is written as in a URL.
fn escaped(key: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(byte);
    let mut out = String::new();
    for byte in key.to_ascii_lowercase().as_bytes() {
        match plain(byte) {
            true => out.push(char::from(*byte)),
            false => out += &format!("%{byte:02X}"),
        }
    }
    out
}

fn target(server: &Server, service: &Value, path: String) -> Result<Target, String> {
    let spec = &service["spec"];
    let text = |key: &str| spec["service"][key].as_str().unwrap_or_default();
    let (namespace, name) = (text("namespace"), text("name"));
    let port = spec["service"]["port"].as_u64().and_then(|port| u16::try_from(port).ok());
    let port = port.unwrap_or(443);
    let security = match spec["insecureSkipTLSVerify"] == true {
        true => server.authorities.unverified(server)?,
        false => {
            let bundle = spec["caBundle"].as_str().unwrap_or_default();
            server.authorities.for_front(server, bundle)?
        }
    };
    let (host, found) = target::of_service(&server.caches, namespace, name, port)?;
    let tls_name = format!("{name}.{namespace}.svc");
    Ok(Target {
        host,
        port: found,
        security: Security::Authorities(security),
        host_header: format!("{tls_name}:{port}"),
        tls_name,
        path,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_a_group_and_a_version() {
        for (path, want) in [
            ("/apis/a.b/v1/things", Some(("a.b", "v1"))),
            ("/apis/a.b/v1", Some(("a.b", "v1"))),
            ("/openapi/v3/apis/a.b/v1", Some(("a.b", "v1"))),
            ("/apis/a.b", None),
            ("/apis/a.b/", None),
            ("/api/v1/pods", None),
            ("/openapi/v3", None),
        ] {
            assert_eq!(named(path), want, "{path}");
        }
    }

    #[test]
    fn users_are_introduced_and_cannot_introduce_themselves() {
        let mut headers = http::HeaderMap::new();
        headers.insert("x-remote-user", HeaderValue::from_static("root"));
        headers.insert("x-remote-extra-scopes", HeaderValue::from_static("all"));
        headers.insert("accept", HeaderValue::from_static("*/*"));
        let mut user = User::new("jane", &["dev", "ops"]);
        user.extra.insert("example.org/Key".into(), vec!["v".into()]);
        introduce(&mut headers, &user).unwrap();
        let all = |name: &str| headers.get_all(name).iter().collect::<Vec<_>>();
        assert_eq!(all("x-remote-user"), ["jane"]);
        assert_eq!(all("x-remote-group"), ["dev", "ops"]);
        assert_eq!(all("x-remote-extra-example.org%2fkey"), ["v"]);
        assert!(all("x-remote-extra-scopes").is_empty());
        assert_eq!(all("accept"), ["*/*"]);
    }
}
