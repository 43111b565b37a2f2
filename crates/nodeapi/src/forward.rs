//! Port-forward: connections of the client, made anew inside the pod's network namespace.
use crate::Refusal;
use crate::handler::{Body, empty};
use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use streaming::ForwardConn;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const CHUNK: usize = 32 * 1024;

pub(crate) fn forward(
    request: &mut Request<Incoming>,
    netns: Option<PathBuf>,
    pairs: &[(String, String)],
) -> Result<Response<Body>, Refusal> {
    let ports = pairs
        .iter()
        .filter(|(name, _)| name == "port" || name == "ports")
        .flat_map(|(_, value)| value.split(','))
        .map(|text| text.parse::<u16>().ok().filter(|port| *port > 0))
        .collect::<Option<Vec<u16>>>()
        .ok_or_else(|| Refusal::bad_request("a port is not a number from 1 to 65535"))?;
    let accepted = streaming::forward::accept(request, ports);
    let (response, pending) =
        accepted.map_err(|refused| Refusal::new(refused.status, refused.message))?;
    tokio::spawn(async move {
        let mut forward = match pending.open().await {
            Ok(forward) => forward,
            Err(error) => {
                tracing::debug!(%error, "a client went away before its ports were open");
                return;
            }
        };
        while let Some(conn) = forward.conns.recv().await {
            tokio::spawn(carry(conn, netns.clone()));
        }
    });
    Ok(empty(response))
}

async fn carry(mut conn: ForwardConn, netns: Option<PathBuf>) {
    let port = conn.port;
    let stream = match connect(netns, port).await {
        Ok(stream) => stream,
        Err(error) => {
            let message = format!("failed to connect to localhost:{port} inside the pod: {error}");
            return conn.finish(Some(message)).await;
        }
    };
    let _ = stream.set_nodelay(true);
    let (mut from_pod, mut to_pod) = stream.into_split();
    let writer = conn.writer.clone();
    let down = async {
        let mut buffer = vec![0; CHUNK];
        loop {
            match from_pod.read(&mut buffer).await {
                Ok(0) => break None,
                Ok(n) => {
                    if writer.write(Bytes::copy_from_slice(&buffer[..n])).await.is_err() {
                        break None;
                    }
                }
                Err(error) => break Some(error.to_string()),
            }
        }
    };
    let up = async {
        while let Some(piece) = conn.reader.next().await {
            if to_pod.write_all(&piece).await.is_err() {
                return;
            }
        }
        let _ = to_pod.shutdown().await;
        // The client is done sending; the pod may still answer.
        std::future::pending::<()>().await;
    };
    let failure = tokio::select! {
        failure = down => failure,
        () = up => None,
    };
    conn.finish(failure).await;
}

/// Connects to the port on loopback as seen from inside the namespace.
async fn connect(netns: Option<PathBuf>, port: u16) -> io::Result<TcpStream> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let Some(netns) = netns else {
        let connecting = TcpStream::connect(address);
        return tokio::time::timeout(CONNECT_TIMEOUT, connecting).await?;
    };
    let (send, receive) = tokio::sync::oneshot::channel();
    // A thread of its own: the namespace that it enters dies with it.
    std::thread::Builder::new().name("port-forward".into()).spawn(move || {
        let connected = (|| {
            let file = std::fs::File::open(&netns)?;
            nix::sched::setns(&file, nix::sched::CloneFlags::CLONE_NEWNET)?;
            let stream = std::net::TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
            stream.set_nonblocking(true)?;
            Ok(stream)
        })();
        let _ = send.send(connected);
    })?;
    let stream: io::Result<std::net::TcpStream> =
        receive.await.map_err(|_| io::Error::other("the connecting thread ended"))?;
    TcpStream::from_std(stream?)
}
