//! Sessions over the pipes and terminals of containers.
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::net::unix::pipe;

use super::EXEC_OUTPUT;
use super::link::Link;
use crate::session::{Reader, Resize, Writer};
use crate::wire::{self, Answer, Request};
use crate::{
    AttachConfig, AttachSession, ContainerConfig, Error, ExecConfig, ExecOutput, ExecSession,
};

fn fail(e: io::Error) -> Error {
    super::system("cannot set up streams", &e)
}

/// Our end for writing, the container's for reading.
fn input() -> Result<(Writer, OwnedFd), Error> {
    let (theirs, ours) =
        nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|e| fail(e.into()))?;
    nonblocking(&ours)?;
    Ok((Box::pin(pipe::Sender::from_owned_fd(ours).map_err(fail)?), theirs))
}

/// Our end for reading, the container's for writing.
fn output() -> Result<(Reader, OwnedFd), Error> {
    let (ours, theirs) =
        nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|e| fail(e.into()))?;
    nonblocking(&ours)?;
    Ok((Box::pin(pipe::Receiver::from_owned_fd(ours).map_err(fail)?), theirs))
}

fn nonblocking(fd: impl AsFd) -> Result<(), Error> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let flags = fcntl(fd.as_fd(), FcntlArg::F_GETFL).map_err(|e| fail(e.into()))?;
    let flags = OFlag::from_bits_truncate(flags) | OFlag::O_NONBLOCK;
    fcntl(fd.as_fd(), FcntlArg::F_SETFL(flags)).map_err(|e| fail(e.into())).map(drop)
}

/// The pipes that were asked for: our ends, and theirs in the order of the wire.
#[derive(Default)]
struct Pipes {
    stdin: Option<Writer>,
    stdout: Option<Reader>,
    stderr: Option<Reader>,
    theirs: Vec<OwnedFd>,
}

impl Pipes {
    fn new(stdin: bool, stdout: bool, stderr: bool) -> Result<Self, Error> {
        let mut pipes = Pipes::default();
        if stdin {
            let (ours, theirs) = input()?;
            pipes.stdin = Some(ours);
            pipes.theirs.push(theirs);
        }
        for (wanted, slot) in [(stdout, &mut pipes.stdout), (stderr, &mut pipes.stderr)] {
            if wanted {
                let (ours, theirs) = output()?;
                *slot = Some(ours);
                pipes.theirs.push(theirs);
            }
        }
        Ok(pipes)
    }

    fn borrowed(&self) -> Vec<BorrowedFd<'_>> {
        self.theirs.iter().map(AsFd::as_fd).collect()
    }
}

/// Kills the process when nobody waits for it any more.
struct KillOnDrop {
    link: Link,
    exec: u64,
    ended: bool,
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if !self.ended {
            self.link.kill_exec(self.exec);
        }
    }
}

pub(super) async fn exec(
    link: &Link,
    container: &str,
    config: &ExecConfig,
) -> Result<ExecSession, Error> {
    let piped = !config.tty;
    let mut pipes =
        Pipes::new(piped && config.stdin, piped && config.stdout, piped && config.stderr)?;
    let request = Request::Exec {
        container: container.to_owned(),
        exec: wire::Exec {
            args: config.args.clone(),
            env: config.env.clone(),
            tty: config.tty,
            stdin: config.stdin,
            stdout: config.stdout,
            stderr: config.stderr,
        },
    };
    // Asked by a task of its own: a caller that gives up meanwhile leaves no process behind.
    let (asked, theirs) = (link.clone(), std::mem::take(&mut pipes.theirs));
    let answer = tokio::spawn(async move {
        let fds: Vec<_> = theirs.iter().map(AsFd::as_fd).collect();
        match asked.call(request, &fds).await? {
            (Answer::Exec { exec }, fds) => {
                Ok((KillOnDrop { link: asked, exec, ended: false }, fds))
            }
            (other, _) => Err(Error::System(format!("the shim answered an exec with {other:?}"))),
        }
    });
    let (guard, fds) =
        answer.await.map_err(|e| Error::System(format!("a task ended early: {e}")))??;
    let exit = link.exec_exit(guard.exec);
    let container = container.to_owned();
    let wait = Box::pin(async move {
        // As a whole: a copy of its flag alone would not be dropped with this future.
        let mut guard = guard;
        let code = exit.await;
        guard.ended = true;
        code.map_err(|_| Error::State(format!("container {container} is gone")))
    });
    let mut resize = None;
    if let Some(master) = fds.into_iter().next() {
        nonblocking(&master)?;
        let copy = || master.try_clone().map_err(fail);
        if config.stdin {
            let sender = pipe::Sender::from_owned_fd_unchecked(copy()?).map_err(fail)?;
            pipes.stdin = Some(Box::pin(sender));
        }
        if config.stdout {
            let receiver = pipe::Receiver::from_owned_fd_unchecked(copy()?).map_err(fail)?;
            pipes.stdout = Some(Box::pin(Terminal(receiver)));
        }
        let set = move |columns, rows| {
            sys::pty::resize(&master, columns, rows)
                .map_err(|e| super::system("cannot resize the terminal", &e))
        };
        resize = Some(Arc::new(set) as Resize);
    }
    let Pipes { stdin, stdout, stderr, .. } = pipes;
    Ok(ExecSession { stdin, stdout, stderr, resize, wait })
}

/// Runs a session to its end, keeping the first part of each output stream.
pub(super) async fn collect(
    session: ExecSession,
    args: &[String],
    timeout: Option<Duration>,
) -> Result<ExecOutput, Error> {
    let ExecSession { stdout, stderr, wait, .. } = session;
    let all = async {
        let (code, stdout, stderr) = tokio::join!(wait, head(stdout), head(stderr));
        Ok(ExecOutput { code: code?, stdout, stderr })
    };
    match timeout {
        None => all.await,
        Some(limit) => tokio::time::timeout(limit, all)
            .await
            .unwrap_or_else(|_| Err(Error::Timeout { command: args.join(" ") })),
    }
}

/// The first [`EXEC_OUTPUT`] bytes; the rest is read, so that the process can go on, and forgotten.
async fn head(stream: Option<Reader>) -> Vec<u8> {
    let mut kept = Vec::new();
    let Some(mut stream) = stream else { return kept };
    let mut buffer = vec![0; 4096];
    while let Ok(n @ 1..) = stream.read(&mut buffer).await {
        let room = EXEC_OUTPUT - kept.len();
        kept.extend_from_slice(&buffer[..n.min(room)]);
    }
    kept
}

pub(super) async fn attach(
    link: &Link,
    container: &str,
    config: &ContainerConfig,
    attach: &AttachConfig,
) -> Result<AttachSession, Error> {
    let stdin = attach.stdin && config.stdin;
    let stderr = attach.stderr && !config.tty;
    let pipes = Pipes::new(stdin, attach.stdout, stderr)?;
    let exit = link.container_exit(container);
    let request =
        Request::Attach { container: container.to_owned(), stdin, stdout: attach.stdout, stderr };
    link.call(request, &pipes.borrowed()).await?;
    let (name, resized) = (container.to_owned(), link.clone());
    let resize = config.tty.then(|| {
        let container = name.clone();
        let runtime = tokio::runtime::Handle::current();
        Arc::new(move |columns, rows| {
            let (link, container) = (resized.clone(), container.clone());
            let mut call = Box::pin(async move {
                // A terminal that is gone has no size.
                let _ = link.call(Request::Resize { container, columns, rows }, &[]).await;
            });
            // Begun here, so that sizes and what follows them are asked for in their order.
            let _inside = runtime.enter();
            if call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
                runtime.spawn(call);
            }
            Ok(())
        }) as Resize
    });
    let wait = Box::pin(async move {
        let exit = exit.await.map_err(|_| Error::State(format!("container {name} is gone")))?;
        Ok(exit.code)
    });
    let Pipes { stdin, stdout, stderr, .. } = pipes;
    Ok(AttachSession { stdin, stdout, stderr, resize, wait })
}

/// The output of a terminal's master.
struct Terminal(pipe::Receiver);

impl AsyncRead for Terminal {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.0).poll_read(context, buffer)) {
            // What a terminal says when its last user has gone: the end.
            Err(e) if e.raw_os_error() == Some(nix::libc::EIO) => Poll::Ready(Ok(())),
            other => Poll::Ready(other),
        }
    }
}
