//! Remote commands: the streams of an exec or attach session and how its end is told.
use crate::spdy::{self, Stream};
use crate::upgrade::{self, Accepted, Refused, Transport};
use crate::ws::{self, ChannelRules};
use crate::{Closed, Io, Out, Reader, Writer};
use bytes::Bytes;
use http::{Request, Response};
use serde_json::json;
use std::io;
use std::time::Duration;
use tokio::sync::mpsc;

/// How long the end of a session waits for the peer to hang up.
pub(crate) const LINGER: Duration = Duration::from_secs(5);
/// How long a SPDY client may take to open the streams it has announced.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;

const WEB_PROTOCOLS: &[&str] = &[
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "channel.k8s.io",
    "base64.channel.k8s.io",
    "",
];
const SPDY_PROTOCOLS: &[&str] =
    &["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];

/// Which streams the client wants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExecOptions {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

impl ExecOptions {
    /// From a query such as `stdin=1&stdout=true&tty=0`; a terminal has no stderr of its own.
    pub fn from_query<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut options = Self::default();
        for (name, value) in pairs {
            let on = matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True");
            match name {
                "stdin" | "input" => options.stdin = on,
                "stdout" | "output" => options.stdout = on,
                "stderr" | "error" => options.stderr = on,
                "tty" => options.tty = on,
                _ => {}
            }
        }
        options.stderr &= !options.tty;
        options
    }
}

/// A terminal's size, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TermSize {
    pub width: u16,
    pub height: u16,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Success,
    /// The command ran and ended with this code, which is not zero.
    ExitCode(i32),
    /// The command could not be run, or its end is not known.
    Failed(String),
}

impl Outcome {
    fn status(&self) -> Bytes {
        let status = match self {
            Self::Success => json!({"metadata": {}, "status": "Success"}),
            Self::ExitCode(code) => json!({
                "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
                "message": self.text(),
                "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
            }),
            Self::Failed(_) => json!({
                "metadata": {}, "status": "Failure", "reason": "InternalError",
                "message": self.text(), "code": 500,
                "details": {"causes": [{"message": self.detail()}]},
            }),
        };
        Bytes::from(status.to_string())
    }

    fn detail(&self) -> String {
        match self {
            Self::Success => String::new(),
            Self::ExitCode(code) => {
                format!("command terminated with non-zero exit code: exit code {code}")
            }
            Self::Failed(text) => text.clone(),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Failed(text) => format!("Internal error occurred: {text}"),
            other => other.detail(),
        }
    }
}

/// The streams of one remote command.
pub struct Session {
    pub stdin: Option<Reader>,
    pub stdout: Option<Writer>,
    pub stderr: Option<Writer>,
    pub resize: Option<Resizes>,
    pub closed: Closed,
    error: Writer,
    /// The end is told as a Status (since v4) and not as text.
    structured: bool,
    out: mpsc::Sender<Out>,
    transport: Transport,
}

impl Session {
    /// Tells how the command ended, after all output, and ends the connection.
    pub async fn finish(self, outcome: Outcome) {
        let told = match (&outcome, self.structured) {
            (_, true) => self.error.write(outcome.status()).await,
            (Outcome::Success, false) => Ok(()),
            (_, false) => self.error.write(Bytes::from(outcome.text())).await,
        };
        if told.is_err() {
            return;
        }
        for stream in [Some(&self.error), self.stdout.as_ref(), self.stderr.as_ref()] {
            if let Some(stream) = stream {
                let _ = stream.finish().await;
            }
        }
        match self.transport {
            Transport::WebSocket => ws::close_with(&self.out, self.closed).await,
            Transport::Spdy => spdy::close_with(&self.out, self.closed).await,
        }
    }
}

/// The sizes that the client's terminal takes.
pub struct Resizes(Reader);

impl Resizes {
    /// The next size; `None` when no more will follow.
    pub async fn next(&mut self) -> Option<TermSize> {
        let mut pending = Vec::new();
        while let Some(piece) = self.0.next().await {
            pending.extend_from_slice(&piece);
            match parse_size(&pending) {
                Some(size) => return Some(size),
                None if pending.len() > 256 => pending.clear(),
                None => {}
            }
        }
        None
    }
}

fn parse_size(text: &[u8]) -> Option<TermSize> {
    // Several sizes may arrive in one piece: the last whole one counts.
    let mut sizes = serde_json::Deserializer::from_slice(text).into_iter::<serde_json::Value>();
    let value = std::iter::from_fn(|| sizes.next().and_then(Result::ok)).last()?;
    let side = |name: &str| value[name].as_u64().and_then(|n| u16::try_from(n).ok());
    Some(TermSize { width: side("Width")?, height: side("Height")? })
}

/// A session whose streams are not open yet.
pub struct PendingExec {
    accepted: Accepted,
    options: ExecOptions,
}

/// Answers the request; send the response, then [`PendingExec::open`] gives the streams.
pub fn accept<B>(
    request: &mut Request<B>,
    options: ExecOptions,
) -> Result<(Response<()>, PendingExec), Refused> {
    let mut accepted = upgrade::accept(request, WEB_PROTOCOLS, SPDY_PROTOCOLS)?;
    let response = std::mem::take(&mut accepted.response);
    Ok((response, PendingExec { accepted, options }))
}

impl PendingExec {
    pub async fn open(self) -> io::Result<Session> {
        let (transport, options) = (self.accepted.transport, self.options);
        let protocol = self.accepted.protocol.clone();
        let io = self.accepted.connection().await?;
        match transport {
            Transport::WebSocket => open_web(io, &protocol, options).await,
            Transport::Spdy => open_spdy(io, &protocol, options).await,
        }
    }
}

/// A session over a WebSocket connection.
pub async fn open_web<I: Io>(io: I, protocol: &str, options: ExecOptions) -> io::Result<Session> {
    let structured = protocol.starts_with("v4.") || protocol.starts_with("v5.");
    let rules = ChannelRules {
        readable: vec![options.stdin, false, false, false, options.tty],
        base64: protocol.contains("base64"),
        close_signal: protocol.starts_with("v5."),
    };
    let mut channels = ws::serve(io, rules);
    let session = Session {
        stdin: channels.take_reader(STDIN),
        stdout: options.stdout.then(|| channels.writer(STDOUT)),
        stderr: options.stderr.then(|| channels.writer(STDERR)),
        resize: channels.take_reader(RESIZE).map(Resizes),
        closed: channels.closed.clone(),
        error: channels.writer(ERROR),
        structured,
        out: channels.sender(),
        transport: Transport::WebSocket,
    };
    // An empty message on the first channel that can be written says that the session is open.
    let hello = session.stdout.as_ref().or(session.stderr.as_ref()).unwrap_or(&session.error);
    hello.write_empty().await?;
    Ok(session)
}

/// A session over a SPDY connection: waits for the streams that `options` announce.
pub async fn open_spdy<I: Io>(io: I, protocol: &str, options: ExecOptions) -> io::Result<Session> {
    let version = protocol.strip_prefix('v').and_then(|rest| rest.get(..1));
    let version: u8 = version.and_then(|digit| digit.parse().ok()).unwrap_or(1);
    let mut connection = spdy::serve(io);
    let mut wanted = vec!["error"];
    wanted.extend(options.stdin.then_some("stdin"));
    wanted.extend(options.stdout.then_some("stdout"));
    wanted.extend(options.stderr.then_some("stderr"));
    wanted.extend((options.tty && version >= 3).then_some("resize"));
    let mut streams: Vec<(&str, Stream)> = Vec::new();
    let open_all = async {
        while streams.len() < wanted.len() {
            let stream = connection.streams.recv().await.ok_or_else(crate::closed_error)?;
            let kind = stream.header("streamtype").unwrap_or_default();
            let Some(kind) = wanted.iter().find(|name| **name == kind) else {
                return Err(io::Error::other(format!("unexpected stream type: {kind:?}")));
            };
            streams.push((kind, stream));
        }
        Ok(())
    };
    tokio::time::timeout(OPEN_TIMEOUT, open_all)
        .await
        .map_err(|_| io::Error::other("timed out waiting for client to create streams"))??;
    let mut take = |name: &str| {
        let at = streams.iter().position(|(kind, _)| *kind == name)?;
        Some(streams.swap_remove(at).1)
    };
    let error = take("error").ok_or_else(crate::closed_error)?.writer;
    Ok(Session {
        stdin: take("stdin").map(|stream| stream.reader),
        stdout: take("stdout").map(|stream| stream.writer),
        stderr: take("stderr").map(|stream| stream.writer),
        resize: take("resize").map(|stream| Resizes(stream.reader)),
        closed: connection.closed.clone(),
        error,
        structured: version >= 4,
        out: connection.sender(),
        transport: Transport::Spdy,
    })
}

#[cfg(test)]
mod tests;
