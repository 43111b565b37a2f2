//! Whether those who serve aggregated APIs are there, and what they serve: looked at when something
//! changes that they depend on, and now and then.
use super::{GROUP, PLURAL, identity, remote, target};
use crate::bootstrap;
use crate::cache::feed::Observer;
use crate::clock;
use crate::proxy::dial::Broken;
use crate::proxy::exchange;
use crate::server::Server;
use crate::verbs::update::{self, Source};
use api::{ApiError, Objects, Value};
use http::{Request, header};
use http_body_util::{BodyExt, Empty, Limited};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use value::json;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_secs(30);
/// Changes that come faster are looked at together.
const APART: Duration = Duration::from_millis(200);
const LIST_MAX_BYTES: usize = 4 << 20;

/// Hears of changes, and keeps what was found.
#[derive(Default)]
pub(crate) struct Follower {
    changed: Notify,
    /// There is something that Services matter to.
    any: AtomicBool,
    /// Resources by APIService, as it lists them itself.
    lists: Mutex<BTreeMap<String, Arc<Value>>>,
}

impl Observer for Follower {
    fn changed(&self, group: &str, plural: &str, _: &str, _: Option<&Value>) {
        let matters = match (group, plural) {
            (GROUP, PLURAL) => true,
            ("", "services") | ("discovery.k8s.io", "endpointslices") => {
                self.any.load(Ordering::Relaxed)
            }
            _ => false,
        };
        if matters {
            self.changed.notify_one();
        }
    }
}

impl Follower {
    fn lists(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Value>>> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The APIService's own `APIResourceList`, as it was when it last answered.
    pub(crate) fn resources(&self, group: &str, version: &str) -> Option<Arc<Value>> {
        self.lists().get(&format!("{version}.{group}")).cloned()
    }
}

/// Goes on until the server stops.
pub(crate) async fn run(server: Server) {
    loop {
        let all = remote(&server, &server.table());
        server.follower.any.store(!all.is_empty(), Ordering::Relaxed);
        let name = |one: &Value| one["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        server.follower.lists().retain(|kept, _| all.iter().any(|one| name(one) == *kept));
        for service in &all {
            if let Err(error) = look(&server, service).await {
                tracing::warn!(%error, service = name(service), "cannot tell whether it is there");
            }
        }
        if all.is_empty() {
            server.follower.changed.notified().await;
        } else {
            tokio::time::sleep(APART).await;
            let _ = tokio::time::timeout(AGAIN, server.follower.changed.notified()).await;
        }
    }
}

async fn look(server: &Server, service: &Value) -> Result<(), ApiError> {
    let (status, reason, message) = match judge(server, service).await {
        Ok(list) => {
            let (group, version) = identity(service);
            server.follower.lists().insert(format!("{version}.{group}"), Arc::new(list));
            ("True", "Passed", "all checks passed".to_owned())
        }
        Err((reason, message)) => ("False", reason, message),
    };
    let conditions = service["status"]["conditions"].as_array().into_iter().flatten();
    let same = conditions.into_iter().any(|one| {
        one["type"] == "Available"
            && (&one["status"], &one["reason"], &one["message"])
                == (&json!(status), &json!(reason), &json!(message))
    });
    if same {
        return Ok(());
    }
    let Some(mut context) = bootstrap::internal(server, "update", service)? else { return Ok(()) };
    context.info.subresource = "status".to_owned();
    let make = move |old: &Value| {
        let mut new = old.clone();
        tell(&mut new, status, reason, &message);
        Ok(new)
    };
    match update::change(&mut context, &Source::Made(Box::new(make))).await {
        Err(error) if error.reason != "NotFound" => Err(error),
        _ => Ok(()),
    }
}

fn tell(service: &mut Value, status: &str, reason: &str, message: &str) {
    let conditions = &mut service["status"]["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Some(list) = conditions.as_array_mut() else { return };
    let found = list.iter_mut().find(|one| one["type"] == "Available");
    let since = found.as_ref().filter(|one| one["status"] == status);
    let since = since.map_or_else(|| clock::now_text().into(), |o| o["lastTransitionTime"].clone());
    let condition = json!({
        "type": "Available", "status": status, "reason": reason, "message": message,
        "lastTransitionTime": since,
    });
    match found {
        Some(found) => *found = condition,
        None => list.push(condition),
    }
}

/// What it serves, or the reason why it is not available.
async fn judge(server: &Server, service: &Value) -> Result<Value, (&'static str, String)> {
    let text = |key: &str| service["spec"]["service"][key].as_str().unwrap_or_default();
    let (namespace, name) = (text("namespace"), text("name"));
    let Some(found) = server.caches.get("", "services", namespace, name) else {
        let message = format!("service/{name} in {namespace:?} is not present");
        return Err(("ServiceNotFound", message));
    };
    let port = service["spec"]["service"]["port"].as_u64().unwrap_or(443);
    let mut ports = found["spec"]["ports"].as_array().into_iter().flatten();
    if !ports.any(|one| one["port"] == port) {
        let message = format!("service/{name} in {namespace:?} is not listening on port {port}");
        return Err(("ServicePortError", message));
    }
    let (group, version) = identity(service);
    let path = format!("/apis/{group}/{version}");
    let target = target(server, service, path.clone()).map_err(|why| match why.as_str() {
        why if why.starts_with("no endpoints") => {
            let message =
                format!("endpoints for service/{name} in {namespace:?} have no addresses");
            ("MissingEndpoints", message)
        }
        why => ("FailedDiscoveryCheck", why.to_owned()),
    })?;
    let url = format!("https://{}:{}{path}", target.host, target.port);
    let failed = |why: String| {
        ("FailedDiscoveryCheck", format!("failing or missing response from {url}: {why}"))
    };
    let request = Request::get(&target.path)
        .header(header::HOST, &target.host_header)
        .header(header::ACCEPT, "application/json")
        .header("x-remote-user", "system:kube-aggregator")
        .header("x-remote-group", "system:masters")
        .body(Empty::new().map_err(|never| match never {}).boxed_unsync())
        .map_err(|error| failed(error.to_string()))?;
    let asked = async {
        let response = exchange(server, &target, request).await.map_err(|broken| match broken {
            Broken::Unreachable(why) => format!("Get {url:?}: {why}"),
            Broken::Api(error) => error.message,
        })?;
        let status = response.status();
        if !status.is_success() {
            return Err(format!("bad status from {url}: {}", status.as_u16()));
        }
        let body = Limited::new(response.into_body(), LIST_MAX_BYTES).collect().await;
        let bytes = body.map_err(|error| error.to_string())?.to_bytes();
        serde_json::from_slice(&bytes).map_err(|error| error.to_string())
    };
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(answered) => answered.map_err(failed),
        Err(_) => Err(failed(format!("Get {url:?}: context deadline exceeded"))),
    }
}
