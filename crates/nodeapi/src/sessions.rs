//! Exec and attach: the client's streams joined to those of a process in a container.
use crate::Refusal;
use crate::handler::{Body, empty};
use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use runtime::session::{Reader, Resize, Wait, Writer};
use runtime::{AttachConfig, ExecConfig, Runtime};
use std::sync::Arc;
use streaming::{ExecOptions, Outcome, Session};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Read from a process at once.
const CHUNK: usize = 32 * 1024;

pub(crate) fn exec(
    request: &mut Request<Incoming>,
    runtime: Arc<dyn Runtime>,
    id: String,
    pairs: &[(String, String)],
) -> Result<Response<Body>, Refusal> {
    let options = options(pairs);
    let args: Vec<String> =
        pairs.iter().filter(|(name, _)| name == "command").map(|(_, v)| v.clone()).collect();
    if args.is_empty() {
        return Err(Refusal::bad_request("you must specify at least 1 command"));
    }
    let config = ExecConfig {
        args,
        env: Vec::new(),
        tty: options.tty,
        stdin: options.stdin,
        stdout: options.stdout,
        stderr: options.stderr,
    };
    open(request, options, async move {
        let started = runtime.exec(&id, &config).await.map_err(|error| error.to_string())?;
        Ok(Process {
            stdin: started.stdin,
            stdout: started.stdout,
            stderr: started.stderr,
            resize: started.resize,
            wait: started.wait,
        })
    })
}

pub(crate) fn attach(
    request: &mut Request<Incoming>,
    runtime: Arc<dyn Runtime>,
    id: Option<String>,
    pairs: &[(String, String)],
) -> Result<Response<Body>, Refusal> {
    let options = options(pairs);
    let config =
        AttachConfig { stdin: options.stdin, stdout: options.stdout, stderr: options.stderr };
    open(request, options, async move {
        let Some(id) = id else { return Ok(Process::ended()) };
        let joined = match runtime.attach(&id, &config).await {
            Ok(joined) => joined,
            // It has ended since it was looked up.
            Err(runtime::Error::State(_)) => return Ok(Process::ended()),
            Err(error) => return Err(error.to_string()),
        };
        let wait = joined.wait;
        Ok(Process {
            stdin: joined.stdin,
            stdout: joined.stdout,
            stderr: joined.stderr,
            resize: joined.resize,
            // How a container ended is told by its status and not by those who looked on.
            wait: Box::pin(async move { wait.await.map(|_| 0) }),
        })
    })
}

fn options(pairs: &[(String, String)]) -> ExecOptions {
    ExecOptions::from_query(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())))
}

struct Process {
    stdin: Option<Writer>,
    stdout: Option<Reader>,
    stderr: Option<Reader>,
    resize: Option<Resize>,
    wait: Wait,
}

impl Process {
    /// Of a container that says nothing more.
    fn ended() -> Self {
        let wait = Box::pin(std::future::ready(Ok(0)));
        Self { stdin: None, stdout: None, stderr: None, resize: None, wait }
    }
}

/// Answers the request at once; the process starts when the client has opened its streams.
fn open(
    request: &mut Request<Incoming>,
    options: ExecOptions,
    start: impl Future<Output = Result<Process, String>> + Send + 'static,
) -> Result<Response<Body>, Refusal> {
    let accepted = streaming::exec::accept(request, options);
    let (response, pending) = match accepted {
        Ok(accepted) => accepted,
        Err(refused) => {
            return Ok(refused.response().map(|message| {
                use http_body_util::BodyExt;
                let body = http_body_util::Full::new(Bytes::from(message));
                body.map_err(|never| match never {}).boxed_unsync()
            }));
        }
    };
    tokio::spawn(async move {
        let session = match pending.open().await {
            Ok(session) => session,
            Err(error) => {
                tracing::debug!(%error, "a client went away before its streams were open");
                return;
            }
        };
        match start.await {
            Ok(process) => join(session, process).await,
            Err(message) => session.finish(Outcome::Failed(message)).await,
        }
    });
    Ok(empty(response))
}

/// Copies until the process ends and all its output is out, or the client goes away.
async fn join(mut session: Session, process: Process) {
    let Process { stdin, stdout, stderr, resize, wait } = process;
    let input = session.stdin.take().zip(stdin);
    let sizes = session.resize.take().zip(resize);
    let input_task = tokio::spawn(async move {
        let Some((mut from, mut to)) = input else { return };
        while let Some(piece) = from.next().await {
            if to.write_all(&piece).await.is_err() || to.flush().await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    });
    let resize_task = tokio::spawn(async move {
        let Some((mut sizes, resize)) = sizes else { return };
        while let Some(size) = sizes.next().await {
            let _ = resize(size.width, size.height);
        }
    });
    let output = async {
        let out = copy(stdout, session.stdout.clone());
        let err = copy(stderr, session.stderr.clone());
        let ((), (), code) = tokio::join!(out, err, wait);
        code
    };
    let mut closed = session.closed.clone();
    let ended = tokio::select! {
        code = output => Some(code),
        // Dropping the process's end kills a command that nobody listens to any more.
        () = closed.wait() => None,
    };
    input_task.abort();
    resize_task.abort();
    let outcome = match ended {
        None => return,
        Some(Ok(0)) => Outcome::Success,
        Some(Ok(code)) => Outcome::ExitCode(code),
        Some(Err(error)) => Outcome::Failed(error.to_string()),
    };
    session.finish(outcome).await;
}

async fn copy(from: Option<Reader>, to: Option<streaming::Writer>) {
    let Some(mut from) = from else { return };
    let mut buffer = vec![0; CHUNK];
    loop {
        let n = match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(n) => n,
        };
        let Some(to) = &to else { continue };
        if to.write(Bytes::copy_from_slice(&buffer[..n])).await.is_err() {
            return;
        }
    }
}
