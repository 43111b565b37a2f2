//! `healthCheckNodePort`: tells a load balancer whether this node has endpoints of its own.
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use netplan::HealthCheck;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

const REQUEST_TIME: Duration = Duration::from_secs(5);
const REQUEST_BYTES: usize = 8 << 10;
/// Requests answered at the same time, for each port.
const REQUESTS: usize = 64;

/// The listening ports; dropping it closes them.
#[derive(Default)]
pub(crate) struct HealthServers {
    ports: BTreeMap<u16, Server>,
}

struct Server {
    answer: watch::Sender<HealthCheck>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl HealthServers {
    /// Serves exactly these.
    pub(crate) fn set(&mut self, checks: BTreeMap<u16, HealthCheck>) {
        self.ports.retain(|port, server| checks.contains_key(port) && !server.task.is_finished());
        for (port, check) in checks {
            match self.ports.get(&port) {
                Some(server) => {
                    server.answer.send_if_modified(|now| {
                        let changed = *now != check;
                        *now = check;
                        changed
                    });
                }
                None => {
                    let (answer, current) = watch::channel(check);
                    let task = tokio::spawn(serve(port, current));
                    self.ports.insert(port, Server { answer, task });
                }
            }
        }
    }
}

async fn serve(port: u16, current: watch::Receiver<HealthCheck>) {
    let listener = match TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await {
        Ok(listener) => listener,
        Err(error) => {
            let service = current.borrow().service.to_string();
            tracing::warn!(%error, port, service, "cannot serve a healthCheckNodePort");
            return;
        }
    };
    let permits = Arc::new(Semaphore::new(REQUESTS));
    while let Ok((stream, _)) = listener.accept().await {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let answer = response(&current.borrow());
        tokio::spawn(async move {
            let _ = tokio::time::timeout(REQUEST_TIME, exchange(stream, answer)).await;
            drop(permit);
        });
    }
}

/// Whatever the request is, the answer is the same; it is only read to its end.
async fn exchange(mut stream: TcpStream, answer: String) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|w| w == b"\r\n\r\n") {
        if request.len() > REQUEST_BYTES || stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

fn response(check: &HealthCheck) -> String {
    let count = check.local_endpoints;
    let status = if count > 0 { "200 OK" } else { "503 Service Unavailable" };
    let body = serde_json::json!({
        "service": { "namespace": check.service.namespace, "name": check.service.name },
        "localEndpoints": count,
        "serviceProxyHealthy": true,
    })
    .to_string();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\n\
         X-Content-Type-Options: nosniff\r\nX-Load-Balancing-Endpoint-Weight: {count}\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}
