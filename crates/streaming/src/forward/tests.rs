use super::*;
use crate::spdy::tests::{Client, Got};
use crate::ws::Message;
use crate::ws::tests::{client, masked};
use tokio::io::AsyncWriteExt;

async fn open_pair(client: &mut Client, id: u32, port: &str, request: &str) {
    let headers = |kind| [("streamtype", kind), ("port", port), ("requestid", request)];
    client.open(id, &headers("error")).await;
    client.open(id + 2, &headers("data")).await;
    assert_eq!(client.next().await, Got::Reply(id));
    assert_eq!(client.next().await, Got::Reply(id + 2));
}

#[tokio::test]
async fn spdy_streams_are_paired_by_request() {
    let (near, far) = tokio::io::duplex(1 << 16);
    let mut client = Client::new(far);
    let mut forward = over_spdy(near);
    open_pair(&mut client, 1, "80", "0").await;
    open_pair(&mut client, 5, "443", "1").await;
    let mut first = forward.conns.recv().await.unwrap();
    let second = forward.conns.recv().await.unwrap();
    assert_eq!((first.port, second.port), (80, 443));
    client.send(3, true, b"GET").await;
    assert_eq!(first.reader.next().await.unwrap(), "GET");
    assert_eq!(first.reader.next().await, None);
    first.writer.write(Bytes::from_static(b"200")).await.unwrap();
    first.finish(None).await;
    assert_eq!(client.next().await, Got::Data(3, b"200".to_vec(), false));
    assert_eq!(client.next().await, Got::Data(1, Vec::new(), true));
    assert_eq!(client.next().await, Got::Data(3, Vec::new(), true));
    second.finish(Some("refused".into())).await;
    assert_eq!(client.next().await, Got::Data(5, b"refused".to_vec(), false));
}

#[tokio::test]
async fn a_bad_port_is_told_on_the_error_stream() {
    let (near, far) = tokio::io::duplex(1 << 16);
    let mut client = Client::new(far);
    let _forward = over_spdy(near);
    open_pair(&mut client, 1, "0", "0").await;
    let Got::Data(1, text, false) = client.next().await else { panic!("no error") };
    assert!(String::from_utf8(text).unwrap().contains("between 1 and 65535"));
}

#[tokio::test]
async fn old_clients_without_request_numbers() {
    let (near, far) = tokio::io::duplex(1 << 16);
    let mut client = Client::new(far);
    let mut forward = over_spdy(near);
    client.open(1, &[("streamtype", "error"), ("port", "80")]).await;
    client.open(3, &[("streamtype", "data"), ("port", "80")]).await;
    assert_eq!(forward.conns.recv().await.unwrap().port, 80);
}

#[tokio::test]
async fn web_channels_begin_with_their_port() {
    let (near, far) = tokio::io::duplex(1 << 16);
    let mut forward = over_channels(near, "v4.channel.k8s.io", &[80]).await.unwrap();
    let (mut from, mut to) = client(far);
    assert_eq!(from.next().await.unwrap(), Message::Data(Bytes::from_static(&[0, 80, 0])));
    assert_eq!(from.next().await.unwrap(), Message::Data(Bytes::from_static(&[1, 80, 0])));
    let mut conn = forward.conns.recv().await.unwrap();
    to.write_all(&masked(2, true, b"\0hi")).await.unwrap();
    assert_eq!(conn.reader.next().await.unwrap(), "hi");
    conn.writer.write(Bytes::from_static(b"yo")).await.unwrap();
    assert_eq!(from.next().await.unwrap(), Message::Data(Bytes::from_static(b"\0yo")));
    // The end of the last port is the end of the connection.
    let end = tokio::spawn(conn.finish(None));
    assert_eq!(from.next().await.unwrap(), Message::Close);
    drop((from, to));
    end.await.unwrap();
}

#[test]
fn web_channels_need_a_port() {
    let mut request = http::Request::builder()
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("Sec-WebSocket-Protocol", "v4.channel.k8s.io")
        .body(())
        .unwrap();
    let refused = accept(&mut request, Vec::new()).err().unwrap();
    assert_eq!(refused.message, "query parameter \"port\" is required");
}
