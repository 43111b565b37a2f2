//! Clients that ask as fast as they are answered, and watches.
//!
//! One client at a time has one connection; more share at most [`CONNECTIONS_MAX`], as servers
//! bound the streams of one. Answers are read whole but not decoded, so that what is measured is
//! the server more than the client.
use crate::connection::{Body, Client};
use crate::stats::Samples;
use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use client::HttpsConfig;
use http::{Method, Request, header};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const CONNECTIONS_MAX: usize = 32;
pub(crate) const JSON: &str = "application/json";
pub(crate) const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// Connections to one server.
#[derive(Clone)]
pub(crate) struct Wire(Arc<[Client]>);

impl Wire {
    pub(crate) fn new(access: &HttpsConfig, clients: usize) -> Result<Self> {
        let connections = clients.clamp(1, CONNECTIONS_MAX);
        let made: Result<Vec<Client>> = (0..connections).map(|_| Client::new(access)).collect();
        Ok(Self(made.context("cannot make a client")?.into()))
    }
    pub(crate) fn of(&self, index: usize) -> &Client {
        &self.0[index % self.0.len()]
    }
    /// Every connection is made before anything is measured.
    pub(crate) async fn warm(&self) -> Result<()> {
        for client in self.0.iter() {
            call(client, &Ask::get("/version")).await?;
        }
        Ok(())
    }
}

/// A request.
pub(crate) struct Ask {
    method: Method,
    path: String,
    accept: &'static str,
    content_type: &'static str,
    body: Bytes,
}

impl Ask {
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path.into(), Bytes::new())
    }
    pub(crate) fn post(path: impl Into<String>, object: &Value) -> Self {
        Self::new(Method::POST, path.into(), object.to_string().into())
    }
    pub(crate) fn put(path: impl Into<String>, object: &Value) -> Self {
        Self::new(Method::PUT, path.into(), object.to_string().into())
    }
    pub(crate) fn merge(path: impl Into<String>, patch: &Value) -> Self {
        let content_type = "application/merge-patch+json";
        Self { content_type, ..Self::new(Method::PATCH, path.into(), patch.to_string().into()) }
    }
    pub(crate) fn delete(path: impl Into<String>) -> Self {
        let body = r#"{"kind":"DeleteOptions","apiVersion":"v1","gracePeriodSeconds":0}"#;
        Self::new(Method::DELETE, path.into(), body.into())
    }
    pub(crate) fn accept(mut self, accept: &'static str) -> Self {
        self.accept = accept;
        self
    }
    fn new(method: Method, path: String, body: Bytes) -> Self {
        Self { method, path, accept: JSON, content_type: JSON, body }
    }
    fn request(&self) -> Result<Request<Bytes>> {
        let mut builder = Request::builder()
            .method(self.method.clone())
            .uri(&self.path)
            .header(header::ACCEPT, self.accept);
        if !self.body.is_empty() {
            builder = builder.header(header::CONTENT_TYPE, self.content_type);
        }
        builder.body(self.body.clone()).context("cannot make a request")
    }
}

/// The body of a success, in the pieces in which it came; an error for all else.
pub(crate) async fn call(client: &Client, ask: &Ask) -> Result<Vec<Bytes>> {
    let response = client.send(ask.request()?).await?;
    let status = response.status();
    let mut body = response.into_body();
    let mut pieces = Vec::new();
    while let Some(piece) = body.next().await {
        pieces.push(piece?);
    }
    if !status.is_success() {
        let text = pieces.concat();
        let text = String::from_utf8_lossy(&text[..text.len().min(500)]).into_owned();
        bail!("{} {}: {status}: {text}", ask.method, ask.path);
    }
    Ok(pieces)
}

pub(crate) async fn fetch<T: DeserializeOwned>(client: &Client, ask: &Ask) -> Result<T> {
    let bytes = call(client, ask).await?.concat();
    serde_json::from_slice(&bytes)
        .with_context(|| format!("the answer to {} {}", ask.method, ask.path))
}

/// When a load ends.
#[derive(Clone, Copy)]
pub(crate) enum Until {
    Elapsed(Duration),
    /// So many operations in all.
    Count(u64),
}

pub(crate) struct Load {
    pub(crate) latencies: Samples,
    pub(crate) seconds: f64,
}

impl Load {
    pub(crate) fn per_second(&self) -> f64 {
        self.latencies.len() as f64 / self.seconds
    }
}

/// `clients` that each do one operation after the other; `operation` is told which client it is
/// and a number that is given once.
pub(crate) async fn run<F, Fut>(clients: usize, until: Until, operation: F) -> Result<Load>
where
    F: Fn(usize, u64) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<()>> + Send,
{
    let next = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for client in 0..clients {
        let (next, operation) = (next.clone(), operation.clone());
        tasks.spawn(async move {
            let mut latencies = Samples::default();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let more = match until {
                    Until::Elapsed(time) => start.elapsed() < time,
                    Until::Count(count) => number < count,
                };
                if !more {
                    return anyhow::Ok(latencies);
                }
                let begun = Instant::now();
                operation(client, number).await?;
                latencies.push_millis(begun.elapsed());
            }
        });
    }
    let mut latencies = Samples::default();
    while let Some(done) = tasks.join_next().await {
        latencies.extend(done.context("a client panicked")??);
    }
    Ok(Load { latencies, seconds: start.elapsed().as_secs_f64() })
}

/// An open watch, line by line.
pub(crate) struct Watch {
    client: Client,
    path: String,
    body: Body,
    buffer: Vec<u8>,
    /// Where the next line starts.
    at: usize,
}

impl Watch {
    pub(crate) async fn open(client: &Client, path: &str) -> Result<Self> {
        let body = Self::body(client, path).await?;
        let (client, path) = (client.clone(), path.to_owned());
        Ok(Self { client, path, body, buffer: Vec::new(), at: 0 })
    }
    async fn body(client: &Client, path: &str) -> Result<Body> {
        let response = client.send(Ask::get(path).request()?).await?;
        ensure!(response.status().is_success(), "{path}: {}", response.status());
        Ok(response.into_body())
    }
    /// The next event. A server may end a watch, of a slow watcher above all: it is opened again
    /// and tells once more what there is.
    pub(crate) async fn next<T: DeserializeOwned>(&mut self) -> Result<T> {
        loop {
            if let Some(end) = self.buffer[self.at..].iter().position(|byte| *byte == b'\n') {
                let line = &self.buffer[self.at..self.at + end];
                let event = serde_json::from_slice(line).context("an event of a watch")?;
                self.at += end + 1;
                return Ok(event);
            }
            self.buffer.drain(..self.at);
            self.at = 0;
            let Some(piece) = self.body.next().await else {
                self.buffer.clear();
                self.body = Self::body(&self.client, &self.path).await?;
                continue;
            };
            self.buffer.extend_from_slice(&piece.context("a watch broke")?);
        }
    }
    /// Waits for the end of one event, undecoded.
    pub(crate) async fn skip(&mut self) -> Result<()> {
        loop {
            let piece = self.body.next().await.context("the watch ended")?;
            if piece.context("a watch broke")?.contains(&b'\n') {
                return Ok(());
            }
        }
    }
}
