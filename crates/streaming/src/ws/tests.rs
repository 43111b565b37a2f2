use super::*;
use tokio::io::DuplexStream;

/// A frame as a client sends it: masked.
pub(crate) fn masked(opcode: u8, fin: bool, body: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    put_header(&mut out, opcode, body.len(), 0x80);
    if !fin {
        out[0] &= 0x7f;
    }
    let mask = [1u8, 2, 3, 4];
    out.put_slice(&mask);
    out.extend(body.iter().enumerate().map(|(n, byte)| byte ^ mask[n % 4]));
    out.to_vec()
}

pub(crate) fn client(io: DuplexStream) -> (Messages<impl AsyncRead + Unpin>, impl AsyncWriteExt) {
    let (read, write) = tokio::io::split(io);
    (Messages::new(read), write)
}

#[tokio::test]
async fn frames_of_all_lengths_survive() {
    for len in [0, 1, 125, 126, 65_535, 65_536, 200_000] {
        let body = vec![7u8; len];
        let wire = frame(BINARY, &[], &body);
        let got = Messages::new(&wire[..]).next().await.unwrap();
        assert_eq!(got, Message::Data(Bytes::from(body.clone())), "sent by a server, {len}");
        let wire = masked(BINARY, true, &body);
        let got = Messages::new(&wire[..]).next().await.unwrap();
        assert_eq!(got, Message::Data(Bytes::from(body)), "sent by a client, {len}");
    }
}

#[tokio::test]
async fn fragments_are_joined_around_a_ping() {
    let mut wire = masked(BINARY, false, b"ab");
    wire.extend(masked(PING, true, b"x"));
    wire.extend(masked(CONTINUATION, true, b"cd"));
    let mut messages = Messages::new(&wire[..]);
    assert_eq!(messages.next().await.unwrap(), Message::Ping(Bytes::from_static(b"x")));
    assert_eq!(messages.next().await.unwrap(), Message::Data(Bytes::from_static(b"abcd")));
}

#[tokio::test]
async fn broken_frames_are_errors() {
    let huge = [0x82, 127, 0, 0, 0, 1, 0, 0, 0, 0];
    for wire in [&huge[..], &[0xc2, 0], &[0x83, 0], &[0x80, 0], &[0x09, 0], &[0x89, 126, 0, 200]] {
        let error = Messages::new(wire).next().await.unwrap_err();
        assert!(matches!(error, WsError::Protocol(_)), "{wire:x?}: {error}");
    }
    let cut = Messages::new(&[0x82, 5, 1][..]).next().await.unwrap_err();
    assert!(matches!(cut, WsError::Io(_)));
}

#[tokio::test]
async fn channels_carry_data_both_ways_and_close() {
    let (near, far) = tokio::io::duplex(1 << 16);
    let rules = ChannelRules { readable: vec![true, false], base64: false, close_signal: true };
    let mut channels = serve(near, rules);
    let mut stdin = channels.take_reader(0).unwrap();
    let (mut from, mut to) = client(far);
    to.write_all(&masked(BINARY, true, b"\0hello")).await.unwrap();
    to.write_all(&masked(BINARY, true, b"\x01not readable")).await.unwrap();
    to.write_all(&masked(BINARY, true, b"\xff\0")).await.unwrap();
    assert_eq!(stdin.next().await.unwrap(), "hello");
    assert_eq!(stdin.next().await, None, "the close signal ends the channel");
    channels.writer(1).write(Bytes::from_static(b"out")).await.unwrap();
    assert_eq!(from.next().await.unwrap(), Message::Data(Bytes::from_static(b"\x01out")));
    to.write_all(&masked(CLOSE, true, &[])).await.unwrap();
    channels.closed.wait().await;
    assert_eq!(from.next().await.unwrap(), Message::Close);
}

#[tokio::test]
async fn base64_channels() {
    let (near, far) = tokio::io::duplex(1 << 16);
    let rules = ChannelRules { readable: vec![true], base64: true, close_signal: false };
    let mut channels = serve(near, rules);
    let (mut from, mut to) = client(far);
    to.write_all(&masked(TEXT, true, b"0Zm9vCg==")).await.unwrap();
    assert_eq!(channels.take_reader(0).unwrap().next().await.unwrap(), "foo\n");
    channels.writer(1).write(Bytes::from_static(b"\n")).await.unwrap();
    assert_eq!(from.next().await.unwrap(), Message::Data(Bytes::from_static(b"1Cg==")));
    to.write_all(&masked(TEXT, true, b"0***")).await.unwrap();
    channels.closed.wait().await;
}

#[tokio::test]
async fn a_tunnel_is_a_byte_stream() {
    let (near, far) = tokio::io::duplex(1 << 16);
    let mut inner = tunnel(near);
    let (mut from, mut to) = client(far);
    to.write_all(&masked(BINARY, true, b"ab")).await.unwrap();
    to.write_all(&masked(BINARY, true, b"cd")).await.unwrap();
    let mut got = [0; 4];
    inner.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"abcd");
    inner.write_all(b"back").await.unwrap();
    assert_eq!(from.next().await.unwrap(), Message::Data(Bytes::from_static(b"back")));
    drop(inner);
    assert_eq!(from.next().await.unwrap(), Message::Close);
}
