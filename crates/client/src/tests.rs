use super::*;
use api::k8s::api::core::v1::ConfigMap;
use futures_util::{FutureExt, StreamExt, stream};
use http_body::Frame;
use http_body_util::StreamBody;
use std::sync::Mutex;

/// Answers everything with the same code and chunks, and keeps what it was asked.
struct Canned {
    code: u16,
    chunks: Vec<&'static str>,
    asked: Mutex<Vec<String>>,
}

impl Canned {
    fn client(code: u16, chunks: &[&'static str]) -> (Arc<Self>, Client) {
        let asked = Mutex::new(Vec::new());
        let this = Arc::new(Self { code, chunks: chunks.to_vec(), asked });
        (this.clone(), Client::new(this))
    }
}

impl Transport for Canned {
    fn call(&self, request: Request<Bytes>) -> BoxFuture<'_, Result<Response<Body>, BoxError>> {
        let accept = request.headers().get(header::ACCEPT);
        let line = format!(
            "{} {} {} {}",
            request.method(),
            request.uri(),
            accept.map_or("", |value| value.to_str().unwrap()),
            String::from_utf8_lossy(request.body())
        );
        self.asked.lock().unwrap().push(line);
        let frames: Vec<Result<Frame<Bytes>, BoxError>> = self
            .chunks
            .iter()
            .map(|chunk| Ok(Frame::data(Bytes::from_static(chunk.as_bytes()))))
            .collect();
        let body = Body::new(StreamBody::new(stream::iter(frames)));
        let response = Response::builder().status(self.code).body(body).unwrap();
        Box::pin(async move { Ok(response) })
    }
}

fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("nothing here waits")
}

#[test]
fn errors_are_statuses() {
    let body = r#"{"kind":"Status","reason":"AlreadyExists","message":"x exists","code":409,
        "details":{"retryAfterSeconds":3}}"#;
    let (_, client) = Canned::client(409, &[body]);
    let error = now(client.get::<ConfigMap>(&Key::new("a", "b"))).unwrap_err();
    assert!(error.is_already_exists() && !error.is_conflict());
    assert_eq!(error.to_string(), "x exists");
    assert_eq!(error.retry_after().unwrap().as_secs(), 3);
    let (_, client) = Canned::client(502, &["<html>"]);
    let error = now(client.get::<ConfigMap>(&Key::new("a", "b"))).unwrap_err();
    assert_eq!(error.to_string(), "the server answered 502: <html>");
    assert!(error.is_transient());
}

#[test]
fn watch_lines_may_be_cut_anywhere() {
    let (canned, client) = Canned::client(
        200,
        &[
            "{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"a\"}}}\n{\"type\":\"BOOK",
            "MARK\",\"object\":{\"kind\":\"ConfigMap\",\"metadata\":{\"resourceVersion\":\"7\",",
            "\"annotations\":{\"k8s.io/initial-events-end\":\"true\"}}}}\n",
            "{\"type\":\"ERROR\",\"object\":{\"reason\":\"Expired\",\"message\":\"old\",\"code\":410}}\n",
            "{\"type\":\"ADDED\",\"object\":{}}\n",
        ],
    );
    let params = WatchParams { send_initial_events: true, ..Default::default() };
    let watch = now(client.watch::<ConfigMap>(Some("n"), &params)).unwrap();
    let events: Vec<_> = now(watch.collect());
    assert_eq!(events.len(), 3, "nothing follows an error");
    assert!(
        matches!(&events[0], Ok(WatchEvent::Added(map)) if map.metadata.name.as_deref() == Some("a"))
    );
    assert!(
        matches!(&events[1], Ok(WatchEvent::Bookmark { resource_version, initial_events_end: true })
        if resource_version == "7")
    );
    assert!(events[2].as_ref().unwrap_err().is_expired());
    let want = "GET /api/v1/namespaces/n/configmaps?watch=true&allowWatchBookmarks=true\
        &sendInitialEvents=true&resourceVersionMatch=NotOlderThan application/json ";
    assert_eq!(*canned.asked.lock().unwrap(), [want]);
}

#[test]
fn lists_and_deletes() {
    let (_, client) = Canned::client(
        200,
        &[
            r#"{"metadata":{"resourceVersion":"9","continue":"c"},"items":[{"metadata":{"name":"a"}}]}"#,
        ],
    );
    let list = now(client.list::<ConfigMap>(None, &ListParams::default())).unwrap();
    assert_eq!((list.items.len(), &*list.resource_version, &*list.continue_token), (1, "9", "c"));
    let (canned, client) = Canned::client(200, &["{}"]);
    let params = DeleteParams::of_uid("u").grace(0).propagation(Propagation::Foreground);
    now(client.delete::<ConfigMap>(&Key::new("a", "b"), &params)).unwrap();
    let want = "DELETE /api/v1/namespaces/a/configmaps/b application/json {\"gracePeriodSeconds\":0,\
        \"propagationPolicy\":\"Foreground\",\"preconditions\":{\"uid\":\"u\"}}";
    assert_eq!(*canned.asked.lock().unwrap(), [want]);
}
