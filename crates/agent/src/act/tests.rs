use super::*;
use hyper::service::service_fn;
use serde_json::json;
use std::convert::Infallible;
use tokio::net::TcpListener;

const SOON: Duration = Duration::from_secs(5);

fn target(ports: serde_json::Value) -> Target {
    let container = json!({"name": "c", "ports": ports});
    Target {
        host: "127.0.0.1".into(),
        container_id: "id".into(),
        container: Arc::new(serde_json::from_value(container).unwrap()),
    }
}

/// Serves one answer per connection: the status is the path's number.
async fn serve_http() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(|request: Request<hyper::body::Incoming>| async move {
                let status = request.uri().path()[1..].parse().unwrap();
                let good = request.headers()["x-test"] == "yes";
                let answer = http::Response::builder().status(if good { status } else { 400 });
                Ok::<_, Infallible>(answer.body(Full::new(Bytes::from("body"))).unwrap())
            });
            let server = hyper::server::conn::http1::Builder::new();
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        }
    });
    port
}

#[tokio::test]
async fn http_answers_are_judged() {
    let port = serve_http().await;
    let target = target(json!([{"name": "web", "containerPort": port}]));
    for (path, want) in [
        ("/200", Ok(())),
        ("302", Ok(())),
        ("/404", Err("HTTP probe failed with statuscode: 404".to_owned())),
        ("/500", Err("HTTP probe failed with statuscode: 500".to_owned())),
    ] {
        let action: HTTPGetAction = serde_json::from_value(json!({
            "path": path, "port": "web", "httpHeaders": [{"name": "X-Test", "value": "yes"}],
        }))
        .unwrap();
        assert_eq!(http_get(&target, &action, "kube-probe/1.37", SOON, true).await, want);
    }
    let action: HTTPGetAction = serde_json::from_value(json!({"port": "nope"})).unwrap();
    let error = http_get(&target, &action, "x", SOON, true).await.unwrap_err();
    assert_eq!(error, "couldn't find port: \"nope\"");
}

#[tokio::test]
async fn refused_connections_are_told_as_usual() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let action: TCPSocketAction = serde_json::from_value(json!({"port": port})).unwrap();
    assert_eq!(tcp(&target(json!([])), &action, SOON).await, Ok(()));
    drop(listener);
    let want = format!("dial tcp 127.0.0.1:{port}: connect: connection refused");
    assert_eq!(tcp(&target(json!([])), &action, SOON).await, Err(want.clone()));
    let action: HTTPGetAction = serde_json::from_value(json!({"port": port})).unwrap();
    let error = http_get(&target(json!([])), &action, "x", SOON, true).await.unwrap_err();
    assert_eq!(error, format!("Get \"http://127.0.0.1:{port}/\": {want}"));
}

#[tokio::test]
async fn silence_times_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let action: HTTPGetAction = serde_json::from_value(json!({"port": port})).unwrap();
    let wait = Duration::from_millis(50);
    let error = http_get(&target(json!([])), &action, "x", wait, true).await.unwrap_err();
    assert!(error.contains("context deadline exceeded"), "{error}");
}

#[tokio::test]
async fn grpc_health() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(|request: Request<hyper::body::Incoming>| async move {
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let status = if body.ends_with(b"down") { 2 } else { 1 };
                let frame = Bytes::from(vec![0, 0, 0, 0, 2, 8, status]);
                let answer = http::Response::builder().header("grpc-status", "0");
                Ok::<_, Infallible>(answer.body(Full::new(frame)).unwrap())
            });
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        }
    });
    let of = |service: &str| GRPCAction {
        port: i32::from(port),
        service: Some(service.into()),
        ..GRPCAction::default()
    };
    let target = target(json!([]));
    assert_eq!(grpc(&target, &of("up"), SOON).await, Ok(()));
    let want = "service unhealthy (responded with \"NOT_SERVING\")".to_owned();
    assert_eq!(grpc(&target, &of("down"), SOON).await, Err(want));
}
