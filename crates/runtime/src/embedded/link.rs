//! The agent's end of a shim's socket: requests matched with answers, events passed on.
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex};

use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::oneshot;

use crate::wire::{Answer, Call, Failure, Inbox, Message, Request, frame};
use crate::{Error, Event, Exit};

/// What the shim says unasked.
pub(super) enum Notice {
    Event(Event),
    Gone,
}

type Reply = (Result<Answer, Failure>, Vec<OwnedFd>);

/// A connection to one shim; a copy is the same connection.
#[derive(Clone)]
pub(super) struct Link {
    sandbox: Arc<str>,
    stream: Arc<UnixStream>,
    /// Held while a message is being sent, so that two never mix.
    sending: Arc<tokio::sync::Mutex<u64>>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    gone: bool,
    replies: HashMap<u64, oneshot::Sender<Reply>>,
    execs: HashMap<u64, oneshot::Sender<i32>>,
    /// Ended before anyone asked.
    ended_execs: HashMap<u64, i32>,
    exits: HashMap<String, Vec<oneshot::Sender<Exit>>>,
}

impl Link {
    /// Connects, introduces the caller's mount namespace, and starts to listen.
    pub(super) async fn open(
        sandbox: &str,
        socket: &Path,
        notice: impl Fn(Notice) + Send + 'static,
    ) -> Result<Link, Error> {
        let fail = |e: io::Error| {
            Error::System(format!(
                "cannot reach the shim at {}: {}",
                socket.display(),
                sys::reason(&e)
            ))
        };
        let stream = sys::socket::connect(socket).map_err(|e| match e.kind() {
            // Nobody listens any more, even if the process has yet to vanish.
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
                Error::Gone(sandbox.to_owned())
            }
            _ => fail(e),
        })?;
        stream.set_nonblocking(true).map_err(fail)?;
        let link = Link {
            sandbox: sandbox.into(),
            stream: Arc::new(UnixStream::from_std(stream).map_err(fail)?),
            sending: Arc::default(),
            state: Arc::default(),
        };
        tokio::spawn(listen(link.stream.clone(), link.state.clone(), link.sandbox.clone(), notice));
        let mounts = OwnedFd::from(sys::ns::open(0, "mnt").map_err(fail)?);
        link.call(Request::Hello, &[mounts.as_fd()]).await?;
        Ok(link)
    }

    pub(super) fn is_gone(&self) -> bool {
        self.state().gone
    }

    /// Sends a request and waits for its answer.
    pub(super) async fn call(
        &self,
        request: Request,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(Answer, Vec<OwnedFd>), Error> {
        let gone = || Error::Gone(self.sandbox.to_string());
        let receiver = {
            let mut next = self.sending.lock().await;
            *next += 1;
            let (sender, receiver) = oneshot::channel();
            {
                let mut state = self.state();
                if state.gone {
                    return Err(gone());
                }
                state.replies.insert(*next, sender);
            }
            let bytes = frame(&Call { id: *next, fds: fds.len(), request });
            self.send(&bytes, fds).await.map_err(|_| gone())?;
            receiver
        };
        let (result, fds) = receiver.await.map_err(|_| gone())?;
        Ok((result?, fds))
    }

    /// Whole or not at all: a caller that gives up half-way must not leave half a message, so the
    /// rest is sent by a task of its own.
    async fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let stream = &self.stream;
        let first = stream
            .async_io(Interest::WRITABLE, || sys::socket::send(stream.as_fd(), bytes, fds))
            .await?;
        if first == bytes.len() {
            return Ok(());
        }
        let (stream, rest) = (self.stream.clone(), bytes[first..].to_vec());
        let sent = tokio::spawn(async move {
            let mut at = 0;
            while at < rest.len() {
                let send = || sys::socket::send(stream.as_fd(), &rest[at..], &[]);
                at += stream.async_io(Interest::WRITABLE, send).await?;
            }
            io::Result::Ok(())
        });
        sent.await.map_err(io::Error::other)?
    }

    /// The exit code of a process that `Exec` started.
    pub(super) fn exec_exit(&self, exec: u64) -> oneshot::Receiver<i32> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state();
        match state.ended_execs.remove(&exec) {
            Some(code) => drop(sender.send(code)),
            None if state.gone => {}
            None => drop(state.execs.insert(exec, sender)),
        }
        receiver
    }

    /// Told when the container exits, if it does so from now on.
    pub(super) fn container_exit(&self, container: &str) -> oneshot::Receiver<Exit> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state();
        if !state.gone {
            state.exits.entry(container.to_owned()).or_default().push(sender);
        }
        receiver
    }

    /// Kills a process that `Exec` started, without waiting for it.
    pub(super) fn kill_exec(&self, exec: u64) {
        let link = self.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let request = Request::SignalExec { exec, signal: nix::libc::SIGKILL };
                // A shim that is gone took the process with it.
                let _ = link.call(request, &[]).await;
            });
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// Nothing panics while it holds this lock.
fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

async fn listen(
    stream: Arc<UnixStream>,
    state: Arc<Mutex<State>>,
    sandbox: Arc<str>,
    notice: impl Fn(Notice) + Send + 'static,
) {
    let mut inbox = Inbox::default();
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let mut fds = Vec::new();
        let read = stream
            .async_io(Interest::READABLE, || {
                sys::socket::receive(stream.as_fd(), &mut buffer, &mut fds)
            })
            .await;
        match read {
            Ok(n) if n > 0 => inbox.push(&buffer[..n], fds),
            _ => break,
        }
        let handled = loop {
            match inbox.next::<Message>() {
                Ok(Some(message)) => {
                    if let Err(why) = handle(message, &mut inbox, &state, &sandbox, &notice) {
                        break Err(why);
                    }
                }
                Ok(None) => break Ok(()),
                Err(why) => break Err(why),
            }
        };
        if let Err(error) = handled {
            tracing::warn!(sandbox = &*sandbox, error, "shim speaks another language");
            break;
        }
    }
    let mut state = lock(&state);
    state.gone = true;
    state.replies.clear();
    state.execs.clear();
    state.exits.clear();
    drop(state);
    notice(Notice::Gone);
}

fn handle(
    message: Message,
    inbox: &mut Inbox,
    state: &Mutex<State>,
    sandbox: &str,
    notice: &impl Fn(Notice),
) -> Result<(), String> {
    let sandbox = sandbox.to_owned();
    match message {
        Message::Answer { id, fds, result } => {
            let fds = inbox.take(fds)?;
            if let Some(sender) = lock(state).replies.remove(&id) {
                // Whoever asked may have given up; a process started for it must not live on.
                let _ = sender.send((result, fds));
            }
        }
        Message::Started { container, pid } => {
            notice(Notice::Event(Event::ContainerStarted { sandbox, id: container, pid }));
        }
        Message::Exited { container, exit } => {
            for waiter in lock(state).exits.remove(&container).into_iter().flatten() {
                let _ = waiter.send(exit.clone());
            }
            notice(Notice::Event(Event::ContainerExited { sandbox, id: container, exit }));
        }
        Message::ExecExited { exec, code } => {
            let mut state = lock(state);
            match state.execs.remove(&exec) {
                Some(sender) => drop(sender.send(code)),
                None => drop(state.ended_execs.insert(exec, code)),
            }
        }
    }
    Ok(())
}
