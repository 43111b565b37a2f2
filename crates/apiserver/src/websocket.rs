//! Watches over WebSocket (RFC 6455): each event is one message. Only what a server that sends
//! needs: the handshake, its own frames, and reading the client's to see that it closes.
use crate::body::{self, Body};
use crate::negotiate::{Encoding, Wanted};
use api::ApiError;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_core::Stream;
use futures_util::StreamExt;
use http::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;

pub(crate) fn is_asked_for(request: &Request<Body>) -> bool {
    let upgrade = request.headers().get(header::UPGRADE).and_then(|value| value.to_str().ok());
    upgrade.is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
}

pub(crate) fn stream(
    mut request: Request<Body>,
    wanted: Wanted,
    frames: impl Stream<Item = Bytes> + Send + 'static,
) -> Result<Response<Body>, ApiError> {
    let key = request.headers().get("sec-websocket-key").and_then(|key| key.to_str().ok());
    let key = key.ok_or_else(|| ApiError::bad_request("Sec-WebSocket-Key is missing"))?;
    let accept =
        STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{GUID}").as_bytes()));
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let (mut read, mut write) = tokio::io::split(TokioIo::new(upgraded));
        // Whatever the client sends after the handshake is a close, or noise.
        let mut scrap = [0u8; 512];
        let closed = async move { while !matches!(read.read(&mut scrap).await, Ok(0) | Err(_)) {} };
        let binary = wanted.encoding == Encoding::Protobuf;
        let sent = async move {
            let mut frames = std::pin::pin!(frames);
            while let Some(event) = frames.next().await {
                let event = event.strip_suffix(b"\n").unwrap_or(&event);
                let opcode = if binary { BINARY } else { TEXT };
                if write.write_all(&frame(opcode, event)).await.is_err() {
                    return;
                }
            }
            // Normal closure; nothing is left to say if it cannot be written.
            let _ = write.write_all(&frame(CLOSE, &1000u16.to_be_bytes())).await;
            let _ = write.shutdown().await;
        };
        tokio::select! {
            () = closed => {}
            () = sent => {}
        }
    });
    let response = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header("sec-websocket-accept", accept)
        .body(body::empty());
    response.map_err(ApiError::internal)
}

fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 10);
    out.push(opcode);
    match payload.len() {
        length @ 0..126 => out.push(length as u8),
        length @ 126..0x1_0000 => {
            out.push(126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths() {
        assert_eq!(frame(TEXT, b"hi"), b"\x81\x02hi");
        assert_eq!(frame(TEXT, &[0; 126])[..4], [0x81, 126, 0, 126]);
        assert_eq!(frame(TEXT, &[0; 65536])[..4], [0x81, 127, 0, 0]);
    }
}
