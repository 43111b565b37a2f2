use super::*;
use crate::spdy::tests::{Client, Got};
use crate::ws::Message;
use crate::ws::tests::{client, masked};
use tokio::io::AsyncWriteExt;

const ALL: ExecOptions = ExecOptions { stdin: true, stdout: true, stderr: true, tty: false };
const TTY: ExecOptions = ExecOptions { stdin: true, stdout: true, stderr: false, tty: true };

fn data(bytes: &'static [u8]) -> Message {
    Message::Data(Bytes::from_static(bytes))
}

#[test]
fn options_from_a_query() {
    let query = [("stdin", "1"), ("stdout", "true"), ("stderr", "true"), ("tty", "0")];
    assert_eq!(ExecOptions::from_query(query), ALL);
    let query = [("input", "1"), ("output", "1"), ("error", "1"), ("tty", "1")];
    assert_eq!(ExecOptions::from_query(query), TTY);
}

#[tokio::test]
async fn a_web_session_ends_with_its_exit_code() {
    let (near, far) = tokio::io::duplex(1 << 16);
    let mut session = open_web(near, "v5.channel.k8s.io", TTY).await.unwrap();
    let (mut from, mut to) = client(far);
    assert_eq!(from.next().await.unwrap(), data(b"\x01"));
    to.write_all(&masked(2, true, b"\x04{\"Width\":80,\"Height\":24}\n")).await.unwrap();
    to.write_all(&masked(2, true, b"\x00ls\n")).await.unwrap();
    let size = session.resize.as_mut().unwrap().next().await;
    assert_eq!(size, Some(TermSize { width: 80, height: 24 }));
    assert_eq!(session.stdin.as_mut().unwrap().next().await.unwrap(), "ls\n");
    session.stdout.as_ref().unwrap().write(Bytes::from_static(b"a\n")).await.unwrap();
    let end = tokio::spawn(session.finish(Outcome::ExitCode(3)));
    assert_eq!(from.next().await.unwrap(), data(b"\x01a\n"));
    let Message::Data(status) = from.next().await.unwrap() else { panic!("no status") };
    assert_eq!(status[0], 3);
    let status: serde_json::Value = serde_json::from_slice(&status[1..]).unwrap();
    assert_eq!(status["reason"], "NonZeroExitCode");
    assert_eq!(status["details"]["causes"][0]["message"], "3");
    assert_eq!(from.next().await.unwrap(), Message::Close);
    to.write_all(&masked(8, true, &[3, 232])).await.unwrap();
    end.await.unwrap();
}

#[tokio::test]
async fn the_first_version_tells_failures_as_text() {
    let (near, far) = tokio::io::duplex(1 << 16);
    let session = open_web(near, "channel.k8s.io", ALL).await.unwrap();
    let (mut from, _to) = client(far);
    let end = tokio::spawn(session.finish(Outcome::Failed("no such container".into())));
    assert_eq!(from.next().await.unwrap(), data(b"\x01"));
    let want = data(b"\x03Internal error occurred: no such container");
    assert_eq!(from.next().await.unwrap(), want);
    drop((from, _to));
    end.await.unwrap();
}

#[tokio::test]
async fn a_spdy_session_waits_for_its_streams() {
    let (near, far) = tokio::io::duplex(1 << 16);
    let mut client = Client::new(far);
    for (id, kind) in [(1, "error"), (3, "stdin"), (5, "stdout"), (7, "stderr")] {
        client.open(id, &[("streamtype", kind)]).await;
    }
    let mut session = open_spdy(near, "v4.channel.k8s.io", ALL).await.unwrap();
    for id in [1, 3, 5, 7] {
        assert_eq!(client.next().await, Got::Reply(id));
    }
    client.send(3, true, b"in").await;
    assert_eq!(session.stdin.as_mut().unwrap().next().await.unwrap(), "in");
    assert_eq!(session.stdin.as_mut().unwrap().next().await, None);
    let end = tokio::spawn(session.finish(Outcome::Success));
    let Got::Data(1, status, false) = client.next().await else { panic!("no status") };
    let status: serde_json::Value = serde_json::from_slice(&status).unwrap();
    assert_eq!(status["status"], "Success");
    for id in [1, 5, 7] {
        assert_eq!(client.next().await, Got::Data(id, Vec::new(), true));
    }
    drop(client);
    end.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_spdy_client_that_opens_nothing_is_given_up() {
    let (near, _far) = tokio::io::duplex(1 << 16);
    let error = open_spdy(near, "v4.channel.k8s.io", ALL).await.err().unwrap();
    assert_eq!(error.to_string(), "timed out waiting for client to create streams");
}

#[tokio::test]
async fn an_unknown_stream_type_is_refused() {
    let (near, far) = tokio::io::duplex(1 << 16);
    let mut client = Client::new(far);
    client.open(1, &[("streamtype", "resize")]).await;
    let error = open_spdy(near, "v4.channel.k8s.io", ALL).await.err().unwrap();
    assert_eq!(error.to_string(), "unexpected stream type: \"resize\"");
}

#[test]
fn the_handshake_of_rfc_6455() {
    let mut request = http::Request::builder()
        .header("Connection", "keep-alive, Upgrade")
        .header("Upgrade", "WebSocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("Sec-WebSocket-Protocol", "v9.channel.k8s.io, v4.channel.k8s.io")
        .body(())
        .unwrap();
    let (response, _) = accept(&mut request, ALL).unwrap();
    assert_eq!(response.status(), 101);
    assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_eq!(response.headers()["sec-websocket-protocol"], "v4.channel.k8s.io");
}

#[test]
fn negotiation_of_spdy_protocols() {
    let request = |version: &str| {
        http::Request::builder()
            .header("Connection", "Upgrade")
            .header("Upgrade", "SPDY/3.1")
            .header("X-Stream-Protocol-Version", version)
            .body(())
            .unwrap()
    };
    let (response, _) = accept(&mut request("v4.channel.k8s.io"), ALL).unwrap();
    assert_eq!(response.headers()["x-stream-protocol-version"], "v4.channel.k8s.io");
    let refused = accept(&mut request("v99.channel.k8s.io"), ALL).err().unwrap();
    assert_eq!(refused.status, 403);
    let plain = accept(&mut http::Request::new(()), ALL).err().unwrap();
    assert_eq!(plain.status, 400);
}
