//! An API small enough for tests of whatever uses a client: objects in a map, watches, no rules.
//!
//! It knows no kinds, defaults, validation or access control; preconditions, generated names,
//! merge patches, graceless deletion and watches with resumption are the real thing.
use crate::{Body, BoxError, BoxFuture, Transport};
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio::sync::mpsc;

/// Cheap to clone; all clones are the same API.
#[derive(Clone, Default)]
pub struct Memory {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    revision: u64,
    /// By collection (without namespace) and `namespace/name`.
    objects: BTreeMap<(String, String), Value>,
    history: Vec<(u64, String, &'static str, Value)>,
    watchers: Vec<Watcher>,
    /// Answers to give instead, by method and a part of the path.
    refusals: Vec<(Method, String, u16, Value)>,
    /// Namespaces in which nothing can be made any more.
    terminating: Vec<String>,
}

struct Watcher {
    collection: String,
    namespace: String,
    sender: mpsc::UnboundedSender<Bytes>,
}

/// A path taken apart.
struct Place {
    collection: String,
    namespace: String,
    name: String,
    subresource: String,
}

type Answer = (u16, Value);

impl Memory {
    pub fn client(&self) -> crate::Client {
        crate::Client::new(Arc::new(self.clone()))
    }
    /// The next request with this method whose path holds `part` is refused.
    pub fn refuse(&self, method: Method, part: &str, code: u16, reason: &str, message: &str) {
        let status = status(code, reason, message);
        self.lock().refusals.push((method, part.to_owned(), code, status));
    }
    /// From now on nothing can be made in the namespace, as in one that is being deleted.
    pub fn terminate(&self, namespace: &str) {
        self.lock().terminating.push(namespace.to_owned());
    }
    /// Ends all watches, as a server does from time to time.
    pub fn cut_watches(&self) {
        self.lock().watchers.clear();
    }
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }
    fn answer(&self, request: &Request<Bytes>) -> Response<Body> {
        let query = query(request.uri().query().unwrap_or_default());
        let Some(place) = place(request.uri().path()) else {
            return respond(404, &status(404, "NotFound", "no such path"));
        };
        let mut state = self.lock();
        let refusal = state.refusals.iter().position(|(method, part, _, _)| {
            method == request.method() && request.uri().path().contains(part.as_str())
        });
        if let Some(at) = refusal {
            let (_, _, code, status) = state.refusals.remove(at);
            return respond(code, &status);
        }
        if request.method() == Method::GET && query.contains_key("watch") {
            return state.watch(&place, &query);
        }
        let body: Value = serde_json::from_slice(request.body()).unwrap_or_default();
        let (code, value) = match *request.method() {
            Method::GET if place.name.is_empty() => (200, state.list(&place)),
            Method::GET => state.get(&place),
            Method::POST if place.subresource == "binding" => state.bind(&place, &body),
            Method::POST => state.create(&place, body),
            Method::PUT => state.put(&place, body),
            Method::PATCH => state.patch(&place, &body),
            Method::DELETE => state.delete(&place, &body),
            _ => (405, status(405, "MethodNotAllowed", "not here")),
        };
        respond(code, &value)
    }
}

impl Transport for Memory {
    fn call(&self, request: Request<Bytes>) -> BoxFuture<'_, Result<Response<Body>, BoxError>> {
        let response = self.answer(&request);
        Box::pin(async move { Ok(response) })
    }
}

impl State {
    fn list(&self, place: &Place) -> Value {
        let items: Vec<&Value> = self.within(place).collect();
        json!({ "metadata": { "resourceVersion": self.revision.to_string() }, "items": items })
    }
    fn within<'a>(&'a self, place: &'a Place) -> impl Iterator<Item = &'a Value> {
        let all = self.objects.iter().filter(|((c, _), _)| *c == place.collection);
        let here = |object: &&Value| {
            place.namespace.is_empty() || object["metadata"]["namespace"] == json!(place.namespace)
        };
        all.map(|(_, object)| object).filter(here)
    }
    fn get(&self, place: &Place) -> Answer {
        match self.objects.get(&place.key()) {
            Some(object) => (200, object.clone()),
            None => (404, status(404, "NotFound", &format!("{:?} not found", place.name))),
        }
    }
    fn create(&mut self, place: &Place, mut object: Value) -> Answer {
        let meta = &mut object["metadata"];
        if meta["name"].is_null() {
            let prefix = meta["generateName"].as_str().unwrap_or_default().to_owned();
            meta["name"] = json!(format!("{prefix}{:05}", self.revision + 1));
        }
        if !place.namespace.is_empty() {
            meta["namespace"] = json!(place.namespace);
        }
        if self.terminating.contains(&place.namespace) {
            let mut refused = status(403, "Forbidden", "the namespace is being terminated");
            refused["details"]["causes"] = json!([{ "reason": "NamespaceTerminating" }]);
            return (403, refused);
        }
        let name = meta["name"].as_str().unwrap_or_default().to_owned();
        meta["uid"] = json!(format!("uid-{}", self.revision + 1));
        meta["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
        let place = Place { name, ..place.clone() };
        if self.objects.contains_key(&place.key()) {
            let text = format!("{:?} already exists", place.name);
            return (409, status(409, "AlreadyExists", &text));
        }
        (201, self.write(&place, "ADDED", object))
    }
    fn put(&mut self, place: &Place, object: Value) -> Answer {
        let Some(old) = self.objects.get(&place.key()) else { return self.get(place) };
        let version = &object["metadata"]["resourceVersion"];
        if !version.is_null() && *version != old["metadata"]["resourceVersion"] {
            return conflict();
        }
        (200, self.write(place, "MODIFIED", object))
    }
    fn patch(&mut self, place: &Place, patch: &Value) -> Answer {
        let Some(old) = self.objects.get(&place.key()) else { return self.get(place) };
        for field in ["uid", "resourceVersion"] {
            let wanted = &patch["metadata"][field];
            if !wanted.is_null() && *wanted != old["metadata"][field] {
                return conflict();
            }
        }
        let mut new = old.clone();
        merge(&mut new, patch);
        if new == *old {
            return (200, new);
        }
        (200, self.write(place, "MODIFIED", new))
    }
    fn bind(&mut self, place: &Place, binding: &Value) -> Answer {
        let place = Place { subresource: String::new(), ..place.clone() };
        let Some(old) = self.objects.get(&place.key()) else { return self.get(&place) };
        let mut new = old.clone();
        if !new["spec"]["nodeName"].is_null() {
            return conflict();
        }
        new["spec"]["nodeName"] = binding["target"]["name"].clone();
        self.write(&place, "MODIFIED", new);
        (201, json!({ "kind": "Status", "status": "Success" }))
    }
    fn delete(&mut self, place: &Place, params: &Value) -> Answer {
        let Some(old) = self.objects.get(&place.key()) else { return self.get(place) };
        let uid = &params["preconditions"]["uid"];
        if !uid.is_null() && *uid != old["metadata"]["uid"] {
            return conflict();
        }
        let old = old.clone();
        if old["metadata"]["finalizers"].as_array().is_some_and(|list| !list.is_empty()) {
            let mut new = old;
            new["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            return (200, self.write(place, "MODIFIED", new));
        }
        (200, self.write(place, "DELETED", old))
    }
    fn write(&mut self, place: &Place, event: &'static str, mut object: Value) -> Value {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let meta = &object["metadata"];
        let going = !meta["deletionTimestamp"].is_null();
        let held = meta["finalizers"].as_array().is_some_and(|list| !list.is_empty());
        let event = if going && !held { "DELETED" } else { event };
        if event == "DELETED" {
            self.objects.remove(&place.key());
        } else {
            self.objects.insert(place.key(), object.clone());
        }
        let line = line(event, &object);
        self.watchers.retain(|watcher| {
            let here = watcher.namespace.is_empty()
                || object["metadata"]["namespace"] == json!(watcher.namespace);
            if watcher.collection != place.collection || !here {
                return !watcher.sender.is_closed();
            }
            watcher.sender.send(line.clone()).is_ok()
        });
        self.history.push((self.revision, place.collection.clone(), event, object.clone()));
        object
    }
    fn watch(&mut self, place: &Place, query: &BTreeMap<String, String>) -> Response<Body> {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let bookmark = |initial: bool| {
            let mut meta = json!({ "resourceVersion": self.revision.to_string() });
            if initial {
                meta["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
            }
            line("BOOKMARK", &json!({ "metadata": meta }))
        };
        let mut first = Vec::new();
        if query.contains_key("sendInitialEvents") {
            first.extend(self.within(place).map(|object| line("ADDED", object)));
            first.push(bookmark(true));
        } else {
            let after: u64 =
                query.get("resourceVersion").and_then(|v| v.parse().ok()).unwrap_or_default();
            let missed = self.history.iter();
            let missed = missed.filter(|(at, c, _, _)| *at > after && *c == place.collection);
            first.extend(missed.map(|(_, _, event, object)| line(event, object)));
            first.push(bookmark(false));
        }
        for line in first {
            let _ = sender.send(line);
        }
        let (collection, namespace) = (place.collection.clone(), place.namespace.clone());
        self.watchers.push(Watcher { collection, namespace, sender });
        let frames = futures_util::stream::poll_fn(move |cx| {
            receiver.poll_recv(cx).map(|line| line.map(|line| Ok::<_, BoxError>(Frame::data(line))))
        });
        Response::new(StreamBody::new(frames).boxed_unsync())
    }
}

impl Clone for Place {
    fn clone(&self) -> Self {
        Self {
            collection: self.collection.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            subresource: self.subresource.clone(),
        }
    }
}

impl Place {
    fn key(&self) -> (String, String) {
        (self.collection.clone(), format!("{}/{}", self.namespace, self.name))
    }
}

/// `/apis/GROUP/VERSION[/namespaces/NAMESPACE]/PLURAL[/NAME[/SUB]]`
fn place(path: &str) -> Option<Place> {
    let mut parts = path.trim_matches('/').split('/').peekable();
    let mut collection = String::new();
    let root = parts.next()?;
    for _ in 0..if root == "api" { 1 } else { 2 } {
        collection = format!("{collection}/{}", parts.next()?);
    }
    let mut first = parts.next()?.to_owned();
    let mut namespace = String::new();
    let rest: Vec<&str> = parts.collect();
    let mut rest = rest.into_iter();
    if first == "namespaces" && rest.len() >= 2 && rest.as_slice()[1] != "status" {
        namespace = rest.next()?.to_owned();
        first = rest.next()?.to_owned();
    }
    let name = rest.next().unwrap_or_default().to_owned();
    let subresource = rest.next().unwrap_or_default().to_owned();
    Some(Place { collection: format!("{collection}/{first}"), namespace, name, subresource })
}

fn query(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn line(event: &str, object: &Value) -> Bytes {
    Bytes::from(format!("{}\n", json!({ "type": event, "object": object })))
}

fn respond(code: u16, value: &Value) -> Response<Body> {
    let body = Full::new(Bytes::from(value.to_string()));
    let mut response = Response::new(body.map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or_default();
    response
}

fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({ "kind": "Status", "status": "Failure", "code": code, "reason": reason,
        "message": message })
}

fn conflict() -> Answer {
    (409, status(409, "Conflict", "the object has been modified"))
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}
