//! Damaged frames: whatever a peer sends is a message, an error or an end; never a panic, never a
//! connection that hangs or that makes more of it than was sent. The damage is the same every time.
#![allow(clippy::unwrap_used)]
use std::time::Duration;
use streaming::{spdy, ws};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

const ROUNDS: u64 = 600;
/// Only for what hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Numbers that look random (an LCG of Knuth's).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as usize % bound.max(1)
    }

    /// Some bytes changed, cut out or doubled, or the end lost.
    fn damage(&mut self, wire: &[u8]) -> Vec<u8> {
        let mut out = wire.to_vec();
        for _ in 0..1 + self.below(4) {
            let at = self.below(out.len());
            match self.below(5) {
                0 => out.truncate(at),
                1 => drop(out.drain(at..(at + self.below(9)).min(out.len()))),
                2 => out.extend_from_within(at..),
                3 if at < out.len() => out[at] ^= 1 << self.below(8),
                _ if at < out.len() => out[at] = self.below(256) as u8,
                _ => {}
            }
        }
        out
    }
}

fn spdy_wire() -> Vec<u8> {
    let mut deflate = spdy::headers::Deflate::default();
    let mut wire = Vec::new();
    for (id, kind) in [(1, "error"), (3, "stdin"), (5, "stdout"), (7, "resize")] {
        let block = deflate.block(&[("streamtype", kind), ("port", "80")]).unwrap();
        wire.extend_from_slice(&spdy::frame::syn_stream(id, 0, &block));
    }
    wire.extend_from_slice(&spdy::frame::data(3, false, b"some input"));
    wire.extend_from_slice(&spdy::frame::ping(1));
    wire.extend_from_slice(&spdy::frame::data(7, true, br#"{"Width":80,"Height":24}"#));
    wire.extend_from_slice(&spdy::frame::data(3, true, b""));
    wire.extend_from_slice(&spdy::frame::goaway());
    wire
}

fn ws_wire() -> Vec<u8> {
    let mut wire = Vec::new();
    for body in [&b"\x00input"[..], &[b'x'; 300], b"\x04{\"Width\":80}", b"\xff\x00"] {
        wire.extend_from_slice(&ws::binary(body));
    }
    wire.extend_from_slice(&ws::close(1000));
    wire
}

/// Sends all of it, and reads until the other side ends.
async fn client(far: DuplexStream, wire: &[u8]) {
    let (mut answers, mut to) = tokio::io::split(far);
    let send = async {
        // It may have ended in the middle.
        let _ = to.write_all(wire).await;
        let _ = to.shutdown().await;
    };
    let mut said = Vec::new();
    let _ = tokio::join!(send, answers.read_to_end(&mut said));
}

#[tokio::test]
async fn spdy_connections_end_whatever_comes() {
    let (whole, mut numbers) = (spdy_wire(), Numbers(1));
    for round in 0..ROUNDS {
        let wire = if round == 0 { whole.clone() } else { numbers.damage(&whole) };
        let (near, far) = tokio::io::duplex(1 << 16);
        let mut connection = spdy::serve(near);
        let server = async {
            let (mut opened, mut got) = (0, 0);
            while let Some(mut stream) = connection.streams.recv().await {
                opened += 1;
                while let Some(piece) = stream.reader.next().await {
                    got += piece.len();
                }
            }
            connection.close().await;
            (opened, got)
        };
        let both = async { tokio::join!(client(far, &wire), server).1 };
        let (opened, got) = tokio::time::timeout(PATIENCE, both).await.expect("it hangs");
        assert!(opened <= wire.len() / 18 && got <= wire.len(), "{opened} {got}");
        assert!(round > 0 || (opened, got) == (4, 34), "{opened} {got}");
    }
}

#[tokio::test]
async fn web_socket_messages_are_no_more_than_was_sent() {
    let (whole, mut numbers) = (ws_wire(), Numbers(2));
    for round in 0..ROUNDS * 5 {
        let wire = if round == 0 { whole.clone() } else { numbers.damage(&whole) };
        let mut messages = ws::Messages::new(&wire[..]);
        let (mut count, mut bytes) = (0, 0);
        while let Ok(message) = messages.next().await {
            count += 1;
            if let ws::Message::Data(data) = message {
                bytes += data.len();
            }
        }
        assert!(bytes <= wire.len() && count <= wire.len() / 2 + 1, "{bytes} {count}");
        assert!(round > 0 || count == 5, "{count}");
    }
}

#[tokio::test]
async fn channels_end_whatever_comes() {
    let (whole, mut numbers) = (ws_wire(), Numbers(3));
    for round in 0..ROUNDS {
        let readable = vec![true, false, false, false, true];
        let rules = ws::ChannelRules { readable, base64: round % 2 == 1, close_signal: true };
        let (near, far) = tokio::io::duplex(1 << 16);
        let mut channels = ws::serve(near, rules);
        let mut input = channels.take_reader(0).unwrap();
        // Nobody reads the other one: what comes for it may not hold up this one for ever.
        drop(channels.take_reader(4));
        let server = async move {
            let mut got = 0;
            while let Some(piece) = input.next().await {
                got += piece.len();
            }
            drop(channels);
            got
        };
        let wire = if round == 0 { whole.clone() } else { numbers.damage(&whole) };
        let both = async { tokio::join!(client(far, &wire), server).1 };
        let got = tokio::time::timeout(PATIENCE, both).await.expect("it hangs");
        assert!(got <= wire.len(), "{got}");
        assert!(round > 0 || got == 5, "{got}");
    }
}
