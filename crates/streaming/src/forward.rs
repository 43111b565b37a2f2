//! Port forwarding: connections that a client opens to ports of a pod.
//!
//! Three ways: SPDY (a data and an error stream per connection), SPDY tunnelled through WebSocket
//! messages, and WebSocket channels (two per port that the query names).
use crate::spdy::{self, Stream};
use crate::upgrade::{self, Accepted, Refused, Transport};
use crate::ws::{self, ChannelRules};
use crate::{Closed, Io, Out, QUEUE, Reader, Writer};
use bytes::Bytes;
use http::{Request, Response};
use std::collections::HashMap;
use std::io;
use tokio::sync::mpsc;

const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
const WEB_PROTOCOLS: &[&str] = &[TUNNEL, "v4.channel.k8s.io", "v4.base64.channel.k8s.io"];
const SPDY_PROTOCOLS: &[&str] = &["portforward.k8s.io"];
/// Streams whose other half has not arrived yet.
const MAX_HALVES: usize = 1024;
/// Ports that one WebSocket request can name: a channel's number is one byte, 255 is reserved.
const MAX_WEB_PORTS: usize = 64;

/// The connections of one client.
pub struct Forward {
    pub conns: mpsc::Receiver<ForwardConn>,
    pub closed: Closed,
    /// Keeps the connection open as long as this lives.
    _out: mpsc::Sender<Out>,
}

/// One connection to a port.
pub struct ForwardConn {
    pub port: u16,
    pub reader: Reader,
    pub writer: Writer,
    error: Writer,
    hold_until_finished: Hold,
}

/// What ends with a connection to a port.
enum Hold {
    /// The client's half of the error stream.
    ErrorStream(#[expect(dead_code, reason = "held")] Reader),
    /// When the last of them is gone, the client's connection is closed.
    LastOne(#[expect(dead_code, reason = "held")] mpsc::Sender<()>),
}

impl ForwardConn {
    /// Ends the connection; a failure is told to the client.
    pub async fn finish(self, failure: Option<String>) {
        if let Some(text) = failure {
            let _ = self.error.write(Bytes::from(text)).await;
        }
        let _ = self.error.finish().await;
        let _ = self.writer.finish().await;
        drop(self.hold_until_finished);
    }
}

/// A forwarding whose connection is not open yet.
pub struct PendingForward {
    accepted: Accepted,
    ports: Vec<u16>,
}

/// Answers the request. `ports` are those of the query; only WebSocket channels need them.
pub fn accept<B>(
    request: &mut Request<B>,
    ports: Vec<u16>,
) -> Result<(Response<()>, PendingForward), Refused> {
    let mut accepted = upgrade::accept(request, WEB_PROTOCOLS, SPDY_PROTOCOLS)?;
    let channels = accepted.transport == Transport::WebSocket && accepted.protocol != TUNNEL;
    if channels && (ports.is_empty() || ports.len() > MAX_WEB_PORTS) {
        let message = match ports.len() {
            0 => "query parameter \"port\" is required".to_owned(),
            n => format!("{n} ports in one request: at most {MAX_WEB_PORTS} are possible"),
        };
        let status = http::StatusCode::BAD_REQUEST;
        return Err(Refused { status, message, accepted: Vec::new() });
    }
    let response = std::mem::take(&mut accepted.response);
    Ok((response, PendingForward { accepted, ports }))
}

impl PendingForward {
    pub async fn open(self) -> io::Result<Forward> {
        let (transport, protocol) = (self.accepted.transport, self.accepted.protocol.clone());
        let io = self.accepted.connection().await?;
        match transport {
            Transport::Spdy => Ok(over_spdy(io)),
            Transport::WebSocket if protocol == TUNNEL => Ok(over_spdy(ws::tunnel(io))),
            Transport::WebSocket => over_channels(io, &protocol, &self.ports).await,
        }
    }
}

/// Connections over SPDY: pairs the streams by their request.
pub fn over_spdy<I: Io>(io: I) -> Forward {
    let mut connection = spdy::serve(io);
    let (found, conns) = mpsc::channel(QUEUE);
    let (closed, out) = (connection.closed.clone(), connection.sender());
    tokio::spawn(async move {
        let mut halves: HashMap<String, Stream> = HashMap::new();
        while let Some(stream) = connection.streams.recv().await {
            let Some(conn) = pair(&mut halves, stream).await else { continue };
            if found.send(conn).await.is_err() {
                break;
            }
        }
    });
    Forward { conns, closed, _out: out }
}

/// The whole connection if `stream` is its second half.
async fn pair(halves: &mut HashMap<String, Stream>, stream: Stream) -> Option<ForwardConn> {
    // Old clients give no request number: their error stream comes just before the data stream.
    let (id, kind) = (stream.id, stream.header("streamtype").unwrap_or_default());
    let request = match stream.header("requestid") {
        Some(request) => request.to_owned(),
        None if kind == "data" => id.wrapping_sub(2).to_string(),
        None => id.to_string(),
    };
    let Some(other) = halves.remove(&request) else {
        if halves.len() < MAX_HALVES {
            halves.insert(request, stream);
        }
        return None;
    };
    let (data, error) = if kind == "data" { (stream, other) } else { (other, stream) };
    let port = data.header("port").and_then(|port| port.parse::<u16>().ok());
    let Some(port) = port.filter(|port| *port > 0) else {
        let named = data.header("port").unwrap_or_default();
        let text = format!("unable to parse {named:?} as a port: it must be between 1 and 65535");
        let _ = error.writer.write(Bytes::from(text)).await;
        let _ = error.writer.finish().await;
        let _ = data.writer.finish().await;
        return None;
    };
    Some(ForwardConn {
        port,
        reader: data.reader,
        writer: data.writer,
        error: error.writer,
        hold_until_finished: Hold::ErrorStream(error.reader),
    })
}

/// Connections over WebSocket channels: data on channel `2n`, errors on `2n+1`; each begins with
/// the port, low byte first.
pub async fn over_channels<I: Io>(io: I, protocol: &str, ports: &[u16]) -> io::Result<Forward> {
    let rules = ChannelRules {
        readable: (0..ports.len() * 2).map(|n| n % 2 == 0).collect(),
        base64: protocol.contains("base64"),
        close_signal: false,
    };
    let mut channels = ws::serve(io, rules);
    let (found, conns) = mpsc::channel(ports.len().max(1));
    let (open, mut all_ended) = mpsc::channel(1);
    for (n, &port) in ports.iter().enumerate() {
        let data = (n * 2) as u8;
        let (writer, error) = (channels.writer(data), channels.writer(data + 1));
        let name = Bytes::copy_from_slice(&port.to_le_bytes());
        writer.write(name.clone()).await?;
        error.write(name).await?;
        let Some(reader) = channels.take_reader(data) else { continue };
        let hold_until_finished = Hold::LastOne(open.clone());
        let conn = ForwardConn { port, reader, writer, error, hold_until_finished };
        found.send(conn).await.map_err(|_| crate::closed_error())?;
    }
    drop(open);
    let (out, closed) = (channels.sender(), channels.closed.clone());
    let goodbye = (out.clone(), closed.clone());
    // A channel has no end of its own: the client learns of it by the end of them all.
    tokio::spawn(async move {
        let _: Option<()> = all_ended.recv().await;
        ws::close_with(&goodbye.0, goodbye.1).await;
    });
    Ok(Forward { conns, closed, _out: out })
}

#[cfg(test)]
mod tests;
