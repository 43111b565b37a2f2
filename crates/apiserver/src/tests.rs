//! The pipeline in process, over the store in memory.
use super::*;
use crate::request_info::Query;
use api::{User, Value};
use bytes::Bytes;
use futures_util::StreamExt;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, BodyStream};
use std::sync::Arc;
use value::json;

mod aggregated;
mod custom;
mod hostile;
mod patches;
mod pods;
mod proxies;
mod reads;
mod services;
mod webhooks;
mod wire;
mod writes;

pub(crate) struct Lab {
    pub server: Server,
    pub user: User,
    dir: tempfile::TempDir,
}

pub(crate) struct Answer {
    pub status: StatusCode,
    pub body: Value,
    pub warnings: Vec<String>,
}

impl Answer {
    pub(crate) fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert!(self.status.is_success(), "{} {}", self.status, self.body);
        self.body
    }
    #[track_caller]
    pub(crate) fn refused(self, code: u16, message: &str) -> Value {
        assert_eq!((self.status.as_u16(), self.message()), (code, message), "{}", self.body);
        self.body
    }
}

impl Lab {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::over(dir, Arc::new(store::mem::Mem::default()), |_| ()).await
    }

    /// With other settings than the usual ones.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::over(dir, Arc::new(store::mem::Mem::default()), change).await
    }

    async fn over(
        dir: tempfile::TempDir,
        store: Arc<dyn store::Store>,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let pki = Arc::new(pki::Pki::load_or_create(dir.path()).unwrap());
        let mut config = Config::new(store, pki, ("10.0.0.1".parse().unwrap(), 6443));
        change(&mut config);
        let server = Server::new(config, Table::built_in()).await.unwrap();
        Self { server, user: User::master("admin"), dir }
    }

    /// Another server over the same store.
    pub(crate) async fn restart(self) -> Self {
        self.server.stop();
        let store = Arc::clone(self.server.caches.store());
        Self::over(self.dir, store, |_| ()).await
    }

    pub(crate) async fn raw(
        &self,
        method: &str,
        uri: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Response<Body> {
        let mut request =
            Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap()).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(crate::body::full(body)).unwrap();
        request.extensions_mut().insert(Caller::InProcess(self.user.clone()));
        self.server.handle(request, ConnInfo::default()).await
    }

    pub(crate) async fn send(&self, method: &str, uri: &str, body: Value) -> Answer {
        let kind = match method {
            "PATCH" => "application/merge-patch+json",
            _ => "application/json",
        };
        let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        answer(self.raw(method, uri, &[("content-type", kind)], body).await).await
    }
    /// A node whose API is at this port of the machine.
    pub(crate) async fn node_at(&self, port: u16) {
        let body = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n" } });
        self.post("/api/v1/nodes", body).await.ok();
        let status = json!({ "status": {
            "addresses": [{ "type": "InternalIP", "address": "127.0.0.1" }],
            "daemonEndpoints": { "kubeletEndpoint": { "Port": port } },
        }});
        self.send("PATCH", "/api/v1/nodes/n/status", status).await.ok();
    }
    pub(crate) async fn get(&self, uri: &str) -> Answer {
        self.send("GET", uri, Value::Null).await
    }
    pub(crate) async fn post(&self, uri: &str, body: Value) -> Answer {
        self.send("POST", uri, body).await
    }
}

pub(crate) async fn answer(response: Response<Body>) -> Answer {
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let warnings = parts.headers.get_all("warning").iter();
    Answer {
        status: parts.status,
        body: serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&bytes))),
        warnings: warnings.map(|value| value.to_str().unwrap().to_owned()).collect(),
    }
}

/// The next event of a JSON watch: its type and object.
pub(crate) struct Events(BodyStream<Body>, Vec<u8>);

impl Events {
    pub(crate) fn new(response: Response<Body>) -> Self {
        assert_eq!(response.status(), 200);
        Self(BodyStream::new(response.into_body()), Vec::new())
    }
    pub(crate) async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some(end) = self.1.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.1.drain(..=end).collect();
                let event: Value = serde_json::from_slice(&line).unwrap();
                return Some((event["type"].as_str().unwrap().into(), event["object"].clone()));
            }
            let frame = self.0.next().await?.unwrap();
            self.1.extend_from_slice(frame.data_ref().unwrap());
        }
    }
    /// Type and name.
    pub(crate) async fn brief(&mut self) -> String {
        let (kind, object) = self.next().await.unwrap();
        format!("{kind} {}", object["metadata"]["name"].as_str().unwrap_or_default())
    }
}

pub(crate) fn config_map(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": {} })
}

pub(crate) const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[test]
fn queries() {
    let query = Query::parse("a=b%20c&a=d+e&watch");
    assert_eq!(query.all("a"), ["b c", "d e"]);
    assert!(query.flag("watch") && !query.flag("x"));
}
