//! Output without input over WebSocket: a log as messages, as `binary.k8s.io` and its base64 kind.
use crate::upgrade::{self, Accepted, Refused};
use crate::ws::{self, ChannelRules};
use crate::{CHUNK, Closed, Io, Out};
use bytes::Bytes;
use http::{Request, Response};
use std::io;
use tokio::sync::mpsc;

const PROTOCOLS: &[&str] = &["binary.k8s.io", "base64.binary.k8s.io", ""];

/// An output whose connection is not open yet.
pub struct PendingOutput(Accepted);

/// Messages to a client.
pub struct Output {
    pub closed: Closed,
    out: mpsc::Sender<Out>,
    base64: bool,
}

/// Answers the request; send the response, then [`PendingOutput::open`] gives the connection.
pub fn accept<B>(request: &mut Request<B>) -> Result<(Response<()>, PendingOutput), Refused> {
    let mut accepted = upgrade::accept(request, PROTOCOLS, &[])?;
    let response = std::mem::take(&mut accepted.response);
    Ok((response, PendingOutput(accepted)))
}

impl PendingOutput {
    pub async fn open(self) -> io::Result<Output> {
        let base64 = self.0.protocol.starts_with("base64.");
        Ok(Output::over(self.0.connection().await?, base64))
    }
}

impl Output {
    pub(crate) fn over<I: Io>(io: I, base64: bool) -> Self {
        let rules = ChannelRules { readable: Vec::new(), base64: false, close_signal: false };
        let channels = ws::serve(io, rules);
        Self { closed: channels.closed.clone(), out: channels.sender(), base64 }
    }

    /// Sends `data`, waiting while the connection is full.
    pub async fn send(&self, data: Bytes) -> io::Result<()> {
        for piece in data.chunks(CHUNK) {
            let frame = ws::message(piece, self.base64);
            self.out.send(Out::Frame(frame)).await.map_err(|_| crate::closed_error())?;
        }
        Ok(())
    }

    /// Nothing follows.
    pub async fn finish(self) {
        ws::close_with(&self.out, self.closed).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ws::Message;
    use crate::ws::tests::client;

    #[tokio::test]
    async fn messages_in_both_kinds() {
        for (base64, want) in [(false, "log\n"), (true, "bG9nCg==")] {
            let (near, far) = tokio::io::duplex(1 << 12);
            let output = Output::over(near, base64);
            let (mut from, to) = client(far);
            output.send(Bytes::from_static(b"log\n")).await.unwrap();
            assert_eq!(
                from.next().await.unwrap(),
                Message::Data(Bytes::from_static(want.as_bytes()))
            );
            let end = tokio::spawn(output.finish());
            assert_eq!(from.next().await.unwrap(), Message::Close);
            drop((from, to));
            end.await.unwrap();
        }
    }
}
