//! gRPC as a client, as far as etcd needs it: calls with one answer, and one kind of stream, over
//! the one connection that [`crate::connect`] keeps.
use crate::{
    config::Config,
    connect::{Connection, reason},
    messages,
    wire::Malformed,
};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::{body::Incoming, client::conn::http2::SendRequest};
use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    sync::{Mutex, mpsc},
    time::{Instant, error::Elapsed, sleep, timeout},
};

const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// An election takes about a second.
const READ_PATIENCE: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// etcd itself takes 1.5 MiB a write; what it sends is bounded by how much is asked for at once.
const MESSAGE_LIMIT: usize = 256 << 20;

/// Codes of gRPC.
const INVALID_ARGUMENT: u32 = 3;
const PERMISSION_DENIED: u32 = 7;
const UNIMPLEMENTED: u32 = 12;
const UNAVAILABLE: u32 = 14;
const UNAUTHENTICATED: u32 = 16;

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    #[error("cannot reach etcd: {0}")]
    Unreachable(String),
    /// It may have been done all the same.
    #[error("the connection to etcd failed: {0}")]
    Broken(String),
    #[error("what answers is not etcd: {0}")]
    Stranger(String),
    #[error("{}", told(*code, message))]
    Status { code: u32, message: String },
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// What etcd refuses, in words that say what to do.
fn told(code: u32, message: &str) -> String {
    let hint = match code {
        INVALID_ARGUMENT if message.contains("user name is empty") => {
            "it wants a user and a password, or a client certificate that names a user"
        }
        INVALID_ARGUMENT if message.contains("authentication failed") => {
            "the user or the password is wrong"
        }
        PERMISSION_DENIED => "grant the user `readwrite` on all keys that begin with the prefix",
        UNIMPLEMENTED => "etcd 3.3 or later is needed",
        _ => return format!("etcd: {message} (code {code})"),
    };
    format!("etcd: {message}: {hint}")
}

impl CallError {
    /// Another endpoint may do better.
    fn is_of_endpoint(&self) -> bool {
        match self {
            CallError::Broken(_) => true,
            CallError::Status { code, .. } => *code == UNAVAILABLE,
            _ => false,
        }
    }

    /// Tokens run out, and end with changes of users; etcd looks at them before it does anything.
    fn is_of_token(&self) -> bool {
        match self {
            CallError::Status { code: UNAUTHENTICATED, .. } => true,
            CallError::Status { code: INVALID_ARGUMENT, message } => {
                message.contains("auth store is old") || message.contains("user name is empty")
            }
            _ => false,
        }
    }
}

pub(crate) struct Channel {
    config: Config,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    connection: Connection,
    token: Token,
}

/// A connection, and who we are on it.
#[derive(Clone)]
struct Ready {
    sender: SendRequest<Outgoing>,
    endpoint: usize,
    token: Option<HeaderValue>,
}

/// What tells etcd whose calls these are.
#[derive(Default)]
enum Token {
    #[default]
    Unknown,
    /// It asks nobody.
    Unneeded,
    Known(HeaderValue),
}

impl Channel {
    pub(crate) fn new(config: Config) -> Channel {
        Channel { config, state: Mutex::default() }
    }

    /// A call with one answer, which is done at most once.
    pub(crate) async fn call(&self, path: &str, message: Bytes) -> Result<Bytes, CallError> {
        match self.attempt(path, message.clone()).await {
            Err(error) if error.is_of_token() && self.config.login.is_some() => {
                self.state.lock().await.token = Token::Unknown;
                self.attempt(path, message).await
            }
            answer => answer,
        }
    }

    /// A call that changes nothing: asked again, of the next endpoint, while members come and go.
    pub(crate) async fn read(&self, path: &str, message: Bytes) -> Result<Bytes, CallError> {
        let deadline = Instant::now() + READ_PATIENCE;
        let mut pause = FIRST_PAUSE;
        loop {
            match self.call(path, message.clone()).await {
                Err(error) if error.is_of_endpoint() && Instant::now() + pause < deadline => {
                    sleep(pause).await;
                    pause *= 2;
                }
                answer => return answer,
            }
        }
    }

    /// What is behind a call that has just failed.
    pub(crate) async fn explained(&self, error: CallError) -> CallError {
        let CallError::Broken(_) = error else { return error };
        let ended = self.state.lock().await.connection.ended(&self.config).await;
        ended.map_or(error, CallError::Unreachable)
    }

    async fn attempt(&self, path: &str, message: Bytes) -> Result<Bytes, CallError> {
        let ready = self.ready().await?;
        let endpoint = ready.endpoint;
        let call = async { single(self.send(ready, path, Outgoing::once(&message)).await?).await };
        self.judged(endpoint, timeout(CALL_TIMEOUT, call).await).await
    }

    /// A call that sends what comes through the channel.
    pub(crate) async fn stream(
        &self,
        path: &str,
        messages: mpsc::Receiver<Bytes>,
    ) -> Result<Answers, CallError> {
        let ready = self.ready().await?;
        let endpoint = ready.endpoint;
        let call = self.send(ready, path, Outgoing::Stream(messages));
        self.judged(endpoint, timeout(CALL_TIMEOUT, call).await).await.map(Answers::new)
    }

    /// Leaves an endpoint that does not do what it should.
    async fn judged<T>(
        &self,
        endpoint: usize,
        outcome: Result<Result<T, CallError>, Elapsed>,
    ) -> Result<T, CallError> {
        let outcome = outcome.unwrap_or_else(|_| Err(broken("no answer in time")));
        if outcome.as_ref().is_err_and(CallError::is_of_endpoint) {
            tracing::debug!(endpoint, "etcd: trying another endpoint");
            self.state.lock().await.connection.leave(endpoint, &self.config);
        }
        outcome
    }

    async fn ready(&self) -> Result<Ready, CallError> {
        let ready = timeout(CALL_TIMEOUT, self.connected()).await;
        ready.unwrap_or_else(|_| Err(CallError::Unreachable("no endpoint answers".to_owned())))
    }

    async fn connected(&self) -> Result<Ready, CallError> {
        let mut state = self.state.lock().await;
        let (sender, endpoint) = state.connection.sender(&self.config).await?;
        let ready = Ready { sender, endpoint, token: None };
        let Some(login) = &self.config.login else { return Ok(ready) };
        if matches!(state.token, Token::Unknown) {
            let message = messages::authenticate(&login.user, &login.password);
            let (once, anonymous) = (Outgoing::once(&message), ready.clone());
            let answer =
                async { single(self.send(anonymous, messages::AUTHENTICATE, once).await?).await };
            state.token = match answer.await {
                Ok(answer) => {
                    let mut token = HeaderValue::try_from(messages::token(answer)?)
                        .map_err(|_| CallError::Malformed(Malformed))?;
                    token.set_sensitive(true);
                    Token::Known(token)
                }
                Err(CallError::Status { message, .. }) if message.contains("not enabled") => {
                    tracing::warn!("etcd asks nobody for a password: the one given is not used");
                    Token::Unneeded
                }
                Err(error) => return Err(error),
            };
        }
        let token = match &state.token {
            Token::Known(token) => Some(token.clone()),
            Token::Unknown | Token::Unneeded => None,
        };
        Ok(Ready { token, ..ready })
    }

    async fn send(
        &self,
        mut ready: Ready,
        path: &str,
        body: Outgoing,
    ) -> Result<http::Response<Incoming>, CallError> {
        let scheme = if self.config.tls.is_some() { "https" } else { "http" };
        let uri = Uri::builder().scheme(scheme).authority("etcd").path_and_query(path).build();
        let mut request = Request::post(uri.map_err(broken)?)
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            // A member that has lost the others says so, and ends its watches.
            .header("hasleader", "true");
        if let Some(token) = ready.token {
            request = request.header("token", token);
        }
        let request = request.body(body).map_err(broken)?;
        let response = ready.sender.send_request(request).await.map_err(|e| failed(&e))?;
        if response.status() != StatusCode::OK {
            return Err(CallError::Stranger(format!("HTTP status {}", response.status())));
        }
        check_status(response.headers())?;
        Ok(response)
    }
}

/// The answer, once the status that comes after it is known.
async fn single(response: http::Response<Incoming>) -> Result<Bytes, CallError> {
    let mut answers = Answers::new(response);
    let answer = answers.next().await?.ok_or_else(|| broken("it ended early"))?;
    answers.next().await?;
    Ok(answer)
}

/// What a call sends.
pub(crate) enum Outgoing {
    Once(Option<Bytes>),
    Stream(mpsc::Receiver<Bytes>),
}

impl Outgoing {
    fn once(message: &Bytes) -> Outgoing {
        Outgoing::Once(Some(framed(message)))
    }
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
                Some(frame) => match frame.map_err(|e| failed(&e))?.into_data() {
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

fn failed(error: &hyper::Error) -> CallError {
    CallError::Broken(reason(error))
}
