//! One HTTP/2 connection to a server, kept lean: what is measured is the server more than the
//! client.
use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use client::{HttpsConfig, Identity};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use h2::RecvStream;
use h2::client::SendRequest;
use http::{HeaderValue, Request, Response, Uri, header};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

/// So much may be on its way to a stream, and to all of them: few frames need be spent on telling
/// of room. Go's clients do the same.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 1 << 30;

/// Connects when it is first asked.
#[derive(Clone)]
pub(crate) struct Client(Arc<Inner>);

struct Inner {
    tls: TlsConnector,
    authority: String,
    host: ServerName<'static>,
    bearer: Option<HeaderValue>,
    live: Mutex<Option<Live>>,
}

#[derive(Clone)]
struct Live {
    sender: SendRequest<Bytes>,
    tasks: mpsc::UnboundedSender<Task>,
}

type Task = BoxFuture<'static, ()>;

/// A connection, and what is to be done with what comes over it at once.
struct Driver<C> {
    connection: C,
    begun: mpsc::UnboundedReceiver<Task>,
    tasks: FuturesUnordered<Task>,
}

impl<C: Future + Unpin> Future for Driver<C> {
    type Output = C::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<C::Output> {
        while let Poll::Ready(Some(task)) = self.begun.poll_recv(cx) {
            self.tasks.push(task);
        }
        let ended = Pin::new(&mut self.connection).poll(cx);
        while let Poll::Ready(Some(())) = self.tasks.poll_next_unpin(cx) {}
        ended
    }
}

/// The body of an answer.
pub(crate) struct Body(RecvStream);

impl Client {
    pub(crate) fn new(access: &HttpsConfig) -> Result<Self> {
        let server: Uri = access.server.parse().context("the server's URL")?;
        let authority = server.authority().context("the server's URL has no host")?;
        let bearer = match &access.identity {
            Identity::Token(token) => Some(HeaderValue::from_str(&format!("Bearer {token}"))?),
            _ => None,
        };
        Ok(Self(Arc::new(Inner {
            tls: TlsConnector::from(Arc::new(client::tls_config(access, &access.identity)?)),
            host: ServerName::try_from(authority.host().to_owned())?,
            authority: authority.to_string(),
            bearer,
            live: Mutex::default(),
        })))
    }

    pub(crate) async fn send(&self, request: Request<Bytes>) -> Result<Response<Body>> {
        let Live { sender, .. } = self.connected().await?;
        let (mut parts, body) = request.into_parts();
        parts.uri = format!("https://{}{}", self.0.authority, parts.uri).parse()?;
        if let Some(bearer) = &self.0.bearer {
            parts.headers.insert(header::AUTHORIZATION, bearer.clone());
        }
        let answer = async {
            let mut sender = sender.ready().await?;
            let last = body.is_empty();
            let (answer, mut stream) = sender.send_request(Request::from_parts(parts, ()), last)?;
            if !last {
                stream.send_data(body, true)?;
            }
            answer.await
        };
        match answer.await {
            Ok(response) => Ok(response.map(Body)),
            Err(error) => {
                // The next request tries a new one.
                *self.live() = None;
                bail!("no answer from {}: {error}", self.0.authority)
            }
        }
    }

    /// Runs in the connection's own task: what comes is seen when it comes, not when all else that
    /// is ready has had its turn.
    pub(crate) async fn follow(
        &self,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> Result<()> {
        let Live { tasks, .. } = self.connected().await?;
        tasks.send(Box::pin(task)).map_err(|_| anyhow::anyhow!("the connection has ended"))
    }

    async fn connected(&self) -> Result<Live> {
        let live = self.live().clone();
        match live {
            Some(live) => Ok(live),
            None => self.connect().await,
        }
    }

    async fn connect(&self) -> Result<Live> {
        let tcp = TcpStream::connect(&self.0.authority).await?;
        tcp.set_nodelay(true)?;
        let stream = self.0.tls.connect(self.0.host.clone(), tcp).await?;
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        ensure!(http2, "{} does not speak HTTP/2", self.0.authority);
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(STREAM_WINDOW);
        builder.initial_connection_window_size(CONNECTION_WINDOW);
        let (sender, connection) = builder.handshake(stream).await?;
        let (tasks, begun) = mpsc::unbounded_channel();
        let driver = Driver { connection, begun, tasks: FuturesUnordered::new() };
        // What ends the connection is told to those who use it.
        tokio::spawn(async move { drop(driver.await) });
        let live = Live { sender, tasks };
        *self.live() = Some(live.clone());
        Ok(live)
    }

    fn live(&self) -> MutexGuard<'_, Option<Live>> {
        self.0.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Body {
    /// The next piece; nothing at the end.
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes>> {
        let piece = self.0.data().await?;
        Some(piece.map_err(anyhow::Error::from).inspect(|piece| {
            // Fails only for more than was taken.
            let _ = self.0.flow_control().release_capacity(piece.len());
        }))
    }
}
