use super::*;
use bytes::Bytes;
use client::{Body, BoxError, BoxFuture, Transport};
use futures_util::{StreamExt, stream};
use http::{Method, Request, Response};
use http_body_util::StreamBody;
use http_body_util::combinators::UnsyncBoxBody;
use tokio::sync::mpsc;

/// Serves two kinds: one pod whose owner, a replication controller, is not there.
struct Server {
    deleted: mpsc::UnboundedSender<String>,
}

const KINDS: &str = r#"{"resources":[
    {"name":"pods","kind":"Pod","namespaced":true,"verbs":["list","watch","delete"]},
    {"name":"pods/status","kind":"Pod","namespaced":true,"verbs":["get"]},
    {"name":"events","kind":"Event","namespaced":true,"verbs":["list","watch","delete"]},
    {"name":"bindings","kind":"Binding","namespaced":true,"verbs":["create"]},
    {"name":"replicationcontrollers","kind":"ReplicationController","namespaced":true,
     "verbs":["list","watch","delete"]}]}"#;
const POD: &str = concat!(
    r#"{"type":"ADDED","object":{"metadata":{"name":"p","namespace":"a","uid":"u","#,
    r#""resourceVersion":"7","ownerReferences":[{"apiVersion":"v1","#,
    r#""kind":"ReplicationController","name":"rc","uid":"gone"}]}}}"#,
    "\n"
);
const END: &str = concat!(
    r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9","annotations":"#,
    r#"{"k8s.io/initial-events-end":"true"}}}}"#,
    "\n"
);

impl Transport for Server {
    fn call(&self, request: Request<Bytes>) -> BoxFuture<'_, Result<Response<Body>, BoxError>> {
        let path = request.uri().path().to_owned();
        let watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
        let (code, texts) = match (request.method(), &*path) {
            (&Method::DELETE, _) => {
                let body = String::from_utf8_lossy(request.body()).into_owned();
                self.deleted.send(format!("{path} {body}")).unwrap();
                (200, vec!["{}"])
            }
            (_, "/api/v1") => (200, vec![KINDS]),
            (_, "/apis") => (200, vec![r#"{"groups":[]}"#]),
            (_, "/api/v1/pods") if watch => (200, vec![POD, END]),
            (_, "/api/v1/replicationcontrollers") if watch => (200, vec![END]),
            (_, "/api/v1/namespaces/a/replicationcontrollers/rc") => (404, vec!["{}"]),
            other => panic!("asked for {other:?}"),
        };
        let frames = stream::iter(texts).map(|text| {
            Ok::<_, BoxError>(http_body::Frame::data(Bytes::from_static(text.as_bytes())))
        });
        let body = match watch {
            true => UnsyncBoxBody::new(StreamBody::new(frames.chain(stream::pending()))),
            false => UnsyncBoxBody::new(StreamBody::new(frames)),
        };
        Box::pin(async move { Ok(Response::builder().status(code).body(body).unwrap()) })
    }
}

#[tokio::test]
async fn an_orphaned_object_is_deleted_as_it_was_seen() {
    let (deleted, mut told) = mpsc::unbounded_channel();
    let client = Client::new(Arc::new(Server { deleted }));
    let _collector = start(&client, &Caches::new(client.clone()));
    let first = tokio::time::timeout(Duration::from_secs(10), told.recv()).await.unwrap();
    assert_eq!(
        first.unwrap(),
        "/api/v1/namespaces/a/pods/p {\"propagationPolicy\":\"Background\",\
         \"preconditions\":{\"uid\":\"u\",\"resourceVersion\":\"7\"}}"
    );
}
