//! A watch as a stream of events, decoded one line at a time.
use crate::{ApiStatus, Body, Error};
use bytes::{Buf, Bytes, BytesMut};
use futures_core::Stream;
use http_body::Body as _;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

#[derive(Debug, Clone, PartialEq)]
pub enum WatchEvent<K> {
    Added(K),
    Modified(K),
    /// The object as it was last.
    Deleted(K),
    /// All events up to this revision have been sent.
    Bookmark {
        resource_version: String,
        initial_events_end: bool,
    },
}

/// One event may not be larger than this: an object is at most 3 MiB.
const EVENT_MAX_BYTES: usize = 16 << 20;

/// Ends when the server ends it; an error is the last item.
pub struct WatchStream<K> {
    body: Option<Body>,
    buffer: BytesMut,
    /// How much of `buffer` is known to hold no line end.
    scanned: usize,
    decode: fn(&Bytes) -> Result<WatchEvent<K>, Error>,
}

impl<K: DeserializeOwned> WatchStream<K> {
    pub(crate) fn new(body: Body) -> Self {
        Self::with(body, decode::<K>)
    }
}

impl WatchStream<Bytes> {
    /// Objects as they are on the wire, neither decoded nor copied.
    pub(crate) fn raw(body: Body) -> Self {
        Self::with(body, take_apart)
    }
}

impl<K> WatchStream<K> {
    fn with(body: Body, decode: fn(&Bytes) -> Result<WatchEvent<K>, Error>) -> Self {
        Self { body: Some(body), buffer: BytesMut::new(), scanned: 0, decode }
    }
    fn take_line(&mut self) -> Option<Bytes> {
        loop {
            let found = self.buffer[self.scanned..].iter().position(|&byte| byte == b'\n');
            let Some(at) = found else {
                self.scanned = self.buffer.len();
                return None;
            };
            let line = self.buffer.split_to(self.scanned + at).freeze();
            self.buffer.advance(1);
            self.scanned = 0;
            if !line.is_empty() {
                return Some(line);
            }
        }
    }
    fn fail(&mut self, error: Error) -> Poll<Option<Result<WatchEvent<K>, Error>>> {
        self.body = None;
        self.buffer.clear();
        self.scanned = 0;
        Poll::Ready(Some(Err(error)))
    }
    fn deliver(&mut self, line: &Bytes) -> Poll<Option<Result<WatchEvent<K>, Error>>> {
        match (self.decode)(line) {
            Ok(event) => Poll::Ready(Some(Ok(event))),
            Err(error) => self.fail(error),
        }
    }
}

/// A line that is all there is.
fn whole_line(data: &Bytes) -> Option<Bytes> {
    let end = data.iter().position(|&byte| byte == b'\n')?;
    (end > 0 && end + 1 == data.len()).then(|| data.slice(..end))
}

impl<K> Stream for WatchStream<K> {
    type Item = Result<WatchEvent<K>, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(line) = this.take_line() {
                return this.deliver(&line);
            }
            let Some(body) = this.body.as_mut() else { return Poll::Ready(None) };
            match ready!(Pin::new(body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        // A server in this process sends event by event: nothing is copied.
                        if this.buffer.is_empty()
                            && let Some(line) = whole_line(&data)
                        {
                            return this.deliver(&line);
                        }
                        this.buffer.extend_from_slice(&data);
                    }
                    if this.buffer.len() > EVENT_MAX_BYTES && !this.buffer.contains(&b'\n') {
                        let why = format!("a watch event is over {EVENT_MAX_BYTES} bytes");
                        return this.fail(Error::Transport(why.into()));
                    }
                }
                Some(Err(error)) => return this.fail(Error::Transport(error)),
                None => {
                    this.body = None;
                    let rest = this.buffer.split().freeze();
                    this.scanned = 0;
                    if rest.iter().all(u8::is_ascii_whitespace) {
                        return Poll::Ready(None);
                    }
                    return this.deliver(&rest);
                }
            }
        }
    }
}

#[derive(Deserialize)]
struct Wire<'a> {
    r#type: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    #[serde(default)]
    resource_version: String,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct OnlyMeta {
    metadata: Meta,
}

fn decode<K: DeserializeOwned>(line: &Bytes) -> Result<WatchEvent<K>, Error> {
    Ok(match take_apart(line)? {
        WatchEvent::Added(object) => WatchEvent::Added(crate::decode(&object)?),
        WatchEvent::Modified(object) => WatchEvent::Modified(crate::decode(&object)?),
        WatchEvent::Deleted(object) => WatchEvent::Deleted(crate::decode(&object)?),
        WatchEvent::Bookmark { resource_version, initial_events_end } => {
            WatchEvent::Bookmark { resource_version, initial_events_end }
        }
    })
}

/// An event as servers write nearly all of them: only the object in it need be read. Should more
/// follow the object, reading it will tell.
fn usual(line: &Bytes) -> Option<WatchEvent<Bytes>> {
    let heads: [(&[u8], fn(Bytes) -> WatchEvent<Bytes>); 3] = [
        (br#"{"type":"ADDED","object":{"#, WatchEvent::Added),
        (br#"{"type":"MODIFIED","object":{"#, WatchEvent::Modified),
        (br#"{"type":"DELETED","object":{"#, WatchEvent::Deleted),
    ];
    let (head, event) = heads.into_iter().find(|(head, _)| line.starts_with(head))?;
    line.ends_with(b"}}").then(|| event(line.slice(head.len() - 1..line.len() - 1)))
}

fn take_apart(line: &Bytes) -> Result<WatchEvent<Bytes>, Error> {
    if let Some(event) = usual(line) {
        return Ok(event);
    }
    let wire: Wire<'_> = serde_json::from_slice(line).map_err(Error::Decode)?;
    let object = line.slice_ref(wire.object.get().as_bytes());
    Ok(match wire.r#type {
        "ADDED" => WatchEvent::Added(object),
        "MODIFIED" => WatchEvent::Modified(object),
        "DELETED" => WatchEvent::Deleted(object),
        "BOOKMARK" => {
            let object: OnlyMeta = crate::decode(&object)?;
            let end = object.metadata.annotations.get("k8s.io/initial-events-end");
            WatchEvent::Bookmark {
                resource_version: object.metadata.resource_version,
                initial_events_end: end.is_some_and(|value| value == "true"),
            }
        }
        _ => return Err(Error::Api(Box::new(ApiStatus::from_body(500, &object)))),
    })
}
