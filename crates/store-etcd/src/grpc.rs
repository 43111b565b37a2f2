//! gRPC as a client, as far as etcd needs it: one multiplexed connection to one of the endpoints,
//! calls with one answer, and one kind of stream. A lost connection is made anew by the next call.
use crate::{
    config::{Config, Endpoint},
    wire::Malformed,
};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request, StatusCode, Uri, header};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::{
    body::Incoming,
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    net::TcpStream,
    sync::{Mutex, mpsc},
    time::timeout,
};
use tokio_rustls::TlsConnector;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// etcd itself takes 1.5 MiB a write; what it sends is bounded by how much is asked for at once.
const MESSAGE_LIMIT: usize = 256 << 20;
/// Unread bytes on the way, for each stream.
const STREAM_WINDOW: u32 = 4 << 20;

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    #[error("cannot reach etcd: {0}")]
    Unreachable(String),
    /// It may have been done all the same.
    #[error("the connection to etcd failed: {0}")]
    Broken(String),
    #[error("etcd: {message} (code {code})")]
    Status { code: u32, message: String },
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

pub(crate) struct Channel {
    config: Config,
    connection: Mutex<Connection>,
}

#[derive(Default)]
struct Connection {
    sender: Option<SendRequest<Outgoing>>,
    /// The endpoint to try first.
    endpoint: usize,
}

impl Channel {
    pub(crate) fn new(config: Config) -> Channel {
        Channel { config, connection: Mutex::default() }
    }

    /// A call with one answer.
    pub(crate) async fn call(&self, path: &str, message: Bytes) -> Result<Bytes, CallError> {
        let call = async {
            let response = self.send(path, Outgoing::Once(Some(framed(&message)))).await?;
            let mut answers = Answers::new(response);
            let answer = answers.next().await?.ok_or_else(|| broken("it ended early"))?;
            // The status comes after the answer.
            answers.next().await?;
            Ok(answer)
        };
        timeout(CALL_TIMEOUT, call).await.unwrap_or_else(|_| Err(broken("no answer in time")))
    }

    /// A call that sends what comes through the channel.
    pub(crate) async fn stream(
        &self,
        path: &str,
        messages: mpsc::Receiver<Bytes>,
    ) -> Result<Answers, CallError> {
        let send = self.send(path, Outgoing::Stream(messages));
        let response = timeout(CALL_TIMEOUT, send).await;
        response.unwrap_or_else(|_| Err(broken("no answer in time"))).map(Answers::new)
    }

    async fn send(
        &self,
        path: &str,
        body: Outgoing,
    ) -> Result<http::Response<Incoming>, CallError> {
        let mut sender = self.sender().await?;
        let scheme = if self.config.tls.is_some() { "https" } else { "http" };
        let uri = Uri::builder()
            .scheme(scheme)
            .authority("etcd")
            .path_and_query(path)
            .build()
            .map_err(broken)?;
        let request = Request::post(uri)
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .body(body)
            .map_err(broken)?;
        let response = sender.send_request(request).await.map_err(broken)?;
        if response.status() != StatusCode::OK {
            return Err(broken(format!("HTTP status {}", response.status())));
        }
        check_status(response.headers())?;
        Ok(response)
    }

    async fn sender(&self) -> Result<SendRequest<Outgoing>, CallError> {
        let mut connection = self.connection.lock().await;
        if let Some(sender) = &mut connection.sender
            && sender.ready().await.is_ok()
        {
            return Ok(sender.clone());
        }
        connection.sender = None;
        let mut failures = Vec::new();
        for _ in 0..self.config.endpoints.len() {
            let endpoint = &self.config.endpoints[connection.endpoint];
            match timeout(CONNECT_TIMEOUT, connect(&self.config, endpoint)).await {
                Ok(Ok(sender)) => {
                    connection.sender = Some(sender.clone());
                    return Ok(sender);
                }
                Ok(Err(error)) => failures.push(format!("{endpoint}: {error}")),
                Err(_) => failures.push(format!("{endpoint}: no answer in time")),
            }
            connection.endpoint = (connection.endpoint + 1) % self.config.endpoints.len();
        }
        Err(CallError::Unreachable(failures.join("; ")))
    }
}

async fn connect(
    config: &Config,
    endpoint: &Endpoint,
) -> Result<SendRequest<Outgoing>, Box<dyn std::error::Error + Send + Sync>> {
    let tcp = TcpStream::connect((&*endpoint.host, endpoint.port)).await?;
    tcp.set_nodelay(true)?;
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(STREAM_WINDOW * 2);
    match &config.tls {
        Some(tls) => {
            let name = ServerName::try_from(endpoint.host.clone())?;
            let stream = TlsConnector::from(tls.clone()).connect(name, tcp).await?;
            let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
            drive(connection);
            Ok(sender)
        }
        None => {
            let (sender, connection) = builder.handshake(TokioIo::new(tcp)).await?;
            drive(connection);
            Ok(sender)
        }
    }
}

/// Runs until the connection is lost or nobody holds its other end.
fn drive(connection: impl Future<Output = Result<(), hyper::Error>> + Send + 'static) {
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "the connection to etcd ended");
        }
    });
}

/// What a call sends.
pub(crate) enum Outgoing {
    Once(Option<Bytes>),
    Stream(mpsc::Receiver<Bytes>),
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Outgoing::Once(message) => Poll::Ready(message.take().map(Frame::data).map(Ok)),
            Outgoing::Stream(messages) => {
                let message = std::task::ready!(messages.poll_recv(context));
                Poll::Ready(message.map(|message| Ok(Frame::data(framed(&message)))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Outgoing::Once(None))
    }
}

/// The answers of a call, one by one.
pub(crate) struct Answers {
    body: Incoming,
    read: BytesMut,
}

impl Answers {
    fn new(response: http::Response<Incoming>) -> Answers {
        Answers { body: response.into_body(), read: BytesMut::new() }
    }

    /// `None` once the call has ended well.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, CallError> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            match self.body.frame().await {
                None if self.read.is_empty() => return Ok(None),
                None => return Err(broken("it ended early")),
                Some(frame) => match frame.map_err(broken)?.into_data() {
                    Ok(data) => self.read.extend_from_slice(&data),
                    Err(frame) => {
                        if let Some(trailers) = frame.trailers_ref() {
                            check_status(trailers)?;
                        }
                    }
                },
            }
        }
    }

    fn take(&mut self) -> Result<Option<Bytes>, CallError> {
        let Some(&[compressed, a, b, c, d]) = self.read.first_chunk::<5>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        // Compression was not offered.
        if compressed != 0 || length > MESSAGE_LIMIT {
            return Err(Malformed.into());
        }
        if self.read.len() < 5 + length {
            return Ok(None);
        }
        self.read.advance(5);
        Ok(Some(self.read.split_to(length).freeze()))
    }
}

fn framed(message: &Bytes) -> Bytes {
    let mut framed = BytesMut::with_capacity(5 + message.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).expect("a message is far below 4 GiB"));
    framed.extend_from_slice(message);
    framed.freeze()
}

fn check_status(headers: &HeaderMap) -> Result<(), CallError> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match text("grpc-status").map(str::parse) {
        None | Some(Ok(0)) => Ok(()),
        Some(Ok(code)) => {
            let message = unescape(text("grpc-message").unwrap_or_default());
            Err(CallError::Status { code, message })
        }
        Some(Err(_)) => Err(Malformed.into()),
    }
}

/// gRPC writes what is not plain text as `%xx`.
fn unescape(message: &str) -> String {
    let mut plain = Vec::with_capacity(message.len());
    let mut rest = message.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = tail.get(..2).and_then(|code| str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) if *first == b'%' => {
                plain.push(byte);
                rest = &tail[2..];
            }
            _ => {
                plain.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

fn broken(error: impl ToString) -> CallError {
    CallError::Broken(error.to_string())
}
