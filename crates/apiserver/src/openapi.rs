//! `/openapi/v3` (one document a group and version) and `/openapi/v2` (one for all).
//!
//! Documents are made when asked for and not kept: they are large and asked for seldom. Their tags
//! are of what they are made from, so a client that has one is answered without making it.
use crate::aggregate;
use crate::body::Body;
use crate::cache::{feed::Caches, item::Item};
use crate::discovery::{self, tag_of};
use crate::reply;
use crate::server::Server;
use crate::table::{Row, Table};
use crate::wellknown::GIT_VERSION;
use api::ApiError;
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use schema::{Custom, PathInfo, SubPath};
use std::sync::Arc;
use value::{Map, json};

/// Clients ask for `…v2@v1.0…` too, which is no media type that they could read in an answer.
const V2_PROTO: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// What a request for OpenAPI asks for: read from the request before anything is awaited.
pub(crate) enum Wish {
    Now(Response<Body>),
    Make { media: String, tag: String, make: Box<dyn FnOnce() -> Vec<u8> + Send> },
}

pub(crate) async fn answer(wish: Wish) -> Result<Response<Body>, ApiError> {
    let (media, tag, make) = match wish {
        Wish::Now(response) => return Ok(response),
        Wish::Make { media, tag, make } => (media, tag, make),
    };
    let bytes = tokio::task::spawn_blocking(make).await.map_err(ApiError::internal)?;
    Ok(discovery::with_tag(&tag, &media, Bytes::from(bytes)))
}

pub(crate) fn wish(
    server: &Server,
    request: &Request<Body>,
    rest: &[&str],
) -> Result<Wish, ApiError> {
    let table = server.table();
    let caches = &server.caches;
    match rest {
        ["v3"] => {
            let mut paths = Map::new();
            for (group, version) in versions(&table) {
                let path = path_of(&group, &version);
                let url = format!("/openapi/v3/{path}?hash={}", hash(&table, &group, &version));
                paths.insert(path, json!({ "serverRelativeURL": url }));
            }
            // Where others serve a version, they tell of it themselves.
            for (group, version) in aggregate::answering(server, &table) {
                let path = path_of(&group, &version);
                let url = format!("/openapi/v3/{path}");
                paths.insert(path, json!({ "serverRelativeURL": url }));
            }
            Ok(Wish::Now(reply::json(StatusCode::OK, &json!({ "paths": paths }))))
        }
        ["v3", "api", version] => v3(&table, caches, request, "", version),
        ["v3", "apis", group, version] => v3(&table, caches, request, group, version),
        ["v2"] => Ok(v2(&table, caches, request)),
        _ => Err(ApiError::no_such_path()),
    }
}

fn v3(
    table: &Table,
    caches: &Caches,
    request: &Request<Body>,
    group: &str,
    version: &str,
) -> Result<Wish, ApiError> {
    if !table.has_version(group, version) {
        return Err(ApiError::no_such_path());
    }
    let tag = hash(table, group, version);
    if discovery::has_tag(request, &tag) {
        return Ok(Wish::Now(discovery::not_modified(&tag)));
    }
    let rows: Vec<Source> = table.of_version(group, version).map(|r| source(r, caches)).collect();
    let (group, version) = (group.to_owned(), version.to_owned());
    let make = Box::new(move || {
        let rows: Vec<PathInfo> = rows.into_iter().map(Source::whole).collect();
        schema::openapi_v3(schema::builtin(), &group, &version, &rows).to_string().into_bytes()
    });
    Ok(Wish::Make { media: "application/json".into(), tag, make })
}

fn v2(table: &Table, caches: &Caches, request: &Request<Body>) -> Wish {
    let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let proto = accept.is_some_and(|accept| accept.contains("proto-openapi.spec.v2"));
    let all: String =
        versions(table).iter().map(|(group, version)| hash(table, group, version)).collect();
    let tag = tag_of(format!("{all}{proto}").as_bytes());
    if discovery::has_tag(request, &tag) {
        return Wish::Now(discovery::not_modified(&tag));
    }
    let rows: Vec<Source> = table.rows.iter().map(|row| source(row, caches)).collect();
    let media = if proto { V2_PROTO } else { "application/json" };
    let make = Box::new(move || {
        let rows: Vec<PathInfo> = rows.into_iter().map(Source::whole).collect();
        let graph = schema::builtin();
        if proto {
            schema::openapi_v2_proto(graph, &rows)
        } else {
            schema::openapi_v2(graph, &rows).to_string().into_bytes()
        }
    });
    Wish::Make { media: media.into(), tag, make }
}

fn versions(table: &Table) -> Vec<(String, String)> {
    let groups = table.groups.iter();
    let pairs =
        groups.flat_map(|group| group.versions.iter().map(|v| (group.name.clone(), v.clone())));
    pairs.collect()
}

fn path_of(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// A tag of all that a document is made from.
fn hash(table: &Table, group: &str, version: &str) -> String {
    let rows: Vec<PathInfo> = table.of_version(group, version).map(path_info).collect();
    tag_of(format!("{GIT_VERSION} {group} {version} {rows:?}").as_bytes())
}

fn path_info(row: &Row) -> PathInfo {
    let info = row.info();
    let own = |verbs: registry::Verbs| verbs.names().into_iter().map(str::to_owned).collect();
    let subresources = info.subresources.iter().map(|sub| {
        let streams = matches!(sub.name, "exec" | "attach" | "portforward" | "proxy");
        SubPath {
            name: sub.name.to_owned(),
            gvk: sub.kind.clone().unwrap_or_else(|| info.gvk.clone()),
            verbs: if streams { vec!["connect".to_owned()] } else { own(sub.verbs) },
        }
    });
    PathInfo {
        gvk: info.gvk.clone(),
        plural: info.plural.to_string(),
        namespaced: info.namespaced(),
        verbs: own(info.verbs),
        subresources: subresources.collect(),
        custom: row.origin().map(|origin| Custom {
            list_kind: row.list_kind().into_owned(),
            revision: format!("{} {:x}", origin.uid, origin.spec),
            schema: Arc::default(),
        }),
    }
}

/// A row, and the definition that has its schema: read only when the document is made.
struct Source {
    info: PathInfo,
    definition: Option<Arc<Item>>,
}

fn source(row: &Row, caches: &Caches) -> Source {
    let definition = row.origin().and_then(|origin| {
        let definitions = caches.of("apiextensions.k8s.io", "customresourcedefinitions")?;
        definitions.get(&origin.definition)
    });
    Source { info: path_info(row), definition }
}

impl Source {
    fn whole(mut self) -> PathInfo {
        if let (Some(custom), Some(definition)) = (&mut self.info.custom, self.definition) {
            let mut definition = definition.value();
            let versions = definition["spec"]["versions"].as_array_mut().into_iter().flatten();
            let named = versions.into_iter().find(|v| v["name"] == *self.info.gvk.version);
            let schema = named.map(|version| version["schema"]["openAPIV3Schema"].take());
            custom.schema = Arc::new(schema.unwrap_or_default());
        }
        self.info
    }
}
