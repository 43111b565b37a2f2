//! Container logs: read from the files that the runtime writes, as they were or as they grow.
//!
//! A line of the file is `TIME STREAM TAG TEXT`; the tag `P` marks a part that the next line goes
//! on. Rotated files (`NAME.TIME`, oldest first) are read before the current one.
use crate::handler::{Body, empty};
use crate::{LogTarget, Refusal};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use tokio::sync::{mpsc, watch};

/// Blocks on their way to the client; the reader waits when it does not take them.
const QUEUE: usize = 8;
const BLOCK: usize = 64 * 1024;
/// A longer line in a file is not one that the runtime wrote.
const LINE_MAX: u64 = 1 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogStream {
    #[default]
    All,
    Stdout,
    Stderr,
}

/// The query of a log request.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LogOptions {
    pub follow: bool,
    pub previous: bool,
    pub timestamps: bool,
    pub tail: Option<usize>,
    /// Nanoseconds since 1970.
    pub since: Option<i128>,
    pub limit_bytes: Option<u64>,
    pub stream: LogStream,
}

impl LogOptions {
    pub(crate) fn from_query(pairs: &[(String, String)]) -> Result<Self, Refusal> {
        let mut options = Self::default();
        let invalid = |name: &str, value: &str| {
            Refusal::bad_request(format!("query parameter {name:?}: {value:?} is not valid"))
        };
        for (name, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
            let number = || value.parse::<u64>().map_err(|_| invalid(name, value));
            let flag = || Ok(matches!(value.as_str(), "true" | "1" | "t" | "T" | "TRUE" | "True"));
            match name.as_str() {
                "follow" => options.follow = flag()?,
                "previous" => options.previous = flag()?,
                "timestamps" => options.timestamps = flag()?,
                "tailLines" => {
                    options.tail = Some(usize::try_from(number()?).unwrap_or(usize::MAX))
                }
                "limitBytes" => options.limit_bytes = Some(number()?),
                "sinceSeconds" => {
                    let now = jiff::Timestamp::now().as_nanosecond();
                    options.since = Some(now - i128::from(number()?) * 1_000_000_000);
                }
                "sinceTime" => {
                    let time: jiff::Timestamp = value.parse().map_err(|_| invalid(name, value))?;
                    options.since = Some(time.as_nanosecond());
                }
                "stream" => {
                    options.stream = match value.as_str() {
                        "All" => LogStream::All,
                        "Stdout" => LogStream::Stdout,
                        "Stderr" => LogStream::Stderr,
                        _ => return Err(invalid(name, value)),
                    }
                }
                _ => {}
            }
        }
        Ok(options)
    }
}

/// The answer, whose body is read as the client takes it.
pub(crate) fn respond(target: LogTarget, options: LogOptions) -> Result<Response<Body>, Refusal> {
    let mut response = Response::new(Channel(read(target, options)?).boxed_unsync());
    let kind = http::HeaderValue::from_static("text/plain");
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    Ok(response)
}

/// The log as messages over WebSocket.
pub(crate) fn respond_web(
    request: &mut Request<Incoming>,
    target: LogTarget,
    options: LogOptions,
) -> Result<Response<Body>, Refusal> {
    let (response, pending) = streaming::output::accept(request)
        .map_err(|refused| Refusal::new(refused.status, refused.message))?;
    let mut pieces = read(target, options)?;
    tokio::spawn(async move {
        let Ok(mut output) = pending.open().await else { return };
        loop {
            tokio::select! {
                piece = pieces.recv() => {
                    let Some(piece) = piece else { break };
                    if output.send(piece).await.is_err() {
                        return;
                    }
                }
                () = output.closed.wait() => return,
            }
        }
        output.finish().await;
    });
    Ok(empty(response))
}

/// What is in the log, and with `follow` what comes, as fast as it is taken.
fn read(target: LogTarget, options: LogOptions) -> Result<mpsc::Receiver<Bytes>, Refusal> {
    let files = files(&target.file)
        .map_err(|error| Refusal::internal(format!("failed to open the log: {error}")))?;
    let (send, receive) = mpsc::channel(QUEUE);
    let handle = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || {
        let out = Sender { send, left: options.limit_bytes, pending: Vec::new() };
        let mut reader = Reader { options, out, partial: false };
        if let Err(error) = reader.run(&target, files, &handle)
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            tracing::warn!(%error, file = %target.file.display(), "cannot read a container's log");
        }
    });
    Ok(receive)
}

struct Channel(mpsc::Receiver<Bytes>);

impl http_body::Body for Channel {
    type Data = Bytes;
    type Error = io::Error;
    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<io::Result<http_body::Frame<Bytes>>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| Ok(http_body::Frame::data(piece))))
    }
}

/// The rotated files, oldest first, then the current one.
fn files(current: &Path) -> io::Result<Vec<PathBuf>> {
    let missing = || io::Error::from(io::ErrorKind::NotFound);
    let name = current.file_name().and_then(|name| name.to_str()).ok_or_else(missing)?;
    let folder = current.parent().ok_or_else(missing)?;
    let prefix = format!("{name}.");
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder)?
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(|n| n.starts_with(&prefix)))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found.push(current.to_owned());
    Ok(found)
}

struct Sender {
    send: mpsc::Sender<Bytes>,
    left: Option<u64>,
    pending: Vec<u8>,
}

impl Sender {
    fn push(&mut self, data: &[u8]) -> io::Result<()> {
        let mut data = data;
        if let Some(left) = &mut self.left {
            data = &data[..data.len().min(usize::try_from(*left).unwrap_or(usize::MAX))];
            *left -= data.len() as u64;
        }
        self.pending.extend_from_slice(data);
        if self.pending.len() >= BLOCK || self.left == Some(0) {
            self.flush()?;
        }
        if self.left == Some(0) { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }
    fn flush(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let block = Bytes::from(std::mem::take(&mut self.pending));
        self.send.blocking_send(block).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

struct Reader {
    options: LogOptions,
    out: Sender,
    /// The last line sent was a part: the next one goes on without a new time stamp.
    partial: bool,
}

impl Reader {
    fn run(
        &mut self,
        target: &LogTarget,
        files: Vec<PathBuf>,
        handle: &tokio::runtime::Handle,
    ) -> io::Result<()> {
        let mut current = match self.options.tail {
            Some(lines) => self.tail(&files, lines)?,
            None => {
                let mut last = None;
                for path in &files {
                    let Some(file) = open(path)? else { continue };
                    let mut file = BufReader::new(file);
                    self.copy(&mut file)?;
                    last = Some(file);
                }
                last
            }
        };
        self.out.flush()?;
        if !self.options.follow {
            return Ok(());
        }
        let mut follow = Follow::new(&target.file, target.ended.clone())?;
        loop {
            let ended = *target.ended.borrow();
            if current.is_none() {
                current = open(&target.file)?.map(BufReader::new);
            }
            if let Some(file) = &mut current {
                self.copy(file)?;
                if follow.replaced(file.get_ref())? {
                    // Written to its end before it was rotated away: go on with the new one.
                    self.copy(file)?;
                    current = None;
                    continue;
                }
            }
            self.out.flush()?;
            if ended {
                return Ok(());
            }
            if !handle.block_on(follow.wait(&self.out.send)) {
                return Ok(());
            }
        }
    }

    /// Sends every whole line from here to the end of the file.
    fn copy(&mut self, file: &mut BufReader<File>) -> io::Result<()> {
        let mut line = Vec::new();
        loop {
            line.clear();
            let n = file.by_ref().take(LINE_MAX).read_until(b'\n', &mut line)?;
            if n == 0 {
                return Ok(());
            }
            if line.last() != Some(&b'\n') {
                // A line that is being written: read it again when it is whole.
                file.seek_relative(-i64::try_from(n).unwrap_or(0))?;
                return Ok(());
            }
            self.line(&line)?;
        }
    }

    fn line(&mut self, raw: &[u8]) -> io::Result<()> {
        let Some(line) = Line::parse(raw) else { return Ok(()) };
        if !line.wanted(&self.options) {
            return Ok(());
        }
        if self.options.timestamps && !self.partial {
            self.out.push(line.time)?;
            self.out.push(b" ")?;
        }
        self.out.push(line.text)?;
        self.partial = line.part;
        if line.part { Ok(()) } else { self.out.push(b"\n") }
    }

    /// Sends the last whole lines of all files; yields the current file at its end.
    fn tail(&mut self, files: &[PathBuf], lines: usize) -> io::Result<Option<BufReader<File>>> {
        let mut kept: VecDeque<Vec<u8>> = VecDeque::new();
        let mut ends = 0;
        let mut current = None;
        let mut opened = Vec::new();
        // From the newest file back, until there are enough lines.
        for path in files.iter().rev() {
            let Some(file) = open(path)? else { continue };
            let (found, whole, file) = last_lines(file, lines.saturating_sub(ends), &self.options)?;
            ends += whole;
            for line in found.into_iter().rev() {
                kept.push_front(line);
            }
            opened.push(file);
            if ends >= lines {
                break;
            }
        }
        if !opened.is_empty() {
            current = Some(opened.swap_remove(0));
        }
        for line in kept {
            self.line(&line)?;
        }
        Ok(current)
    }
}

/// The last lines of a file that count, how many whole ones there are, and the file at the end of
/// its last whole line.
fn last_lines(
    file: File,
    wanted: usize,
    options: &LogOptions,
) -> io::Result<(VecDeque<Vec<u8>>, usize, BufReader<File>)> {
    let mut file = BufReader::new(file);
    let (mut kept, mut whole, mut at) = (VecDeque::new(), 0usize, 0u64);
    let mut line = Vec::new();
    loop {
        line.clear();
        let n = file.by_ref().take(LINE_MAX).read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            file.seek(SeekFrom::Start(at))?;
            return Ok((kept, whole.min(wanted), file));
        }
        at += n as u64;
        let Some(parsed) = Line::parse(&line).filter(|line| line.wanted(options)) else { continue };
        whole += usize::from(!parsed.part);
        kept.push_back(line.clone());
        while whole > wanted {
            let Some(first) = kept.pop_front() else { break };
            whole -= usize::from(Line::parse(&first).is_some_and(|line| !line.part));
        }
    }
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

struct Line<'a> {
    time: &'a [u8],
    stream: &'a [u8],
    part: bool,
    text: &'a [u8],
}

impl<'a> Line<'a> {
    fn parse(raw: &'a [u8]) -> Option<Self> {
        let raw = raw.strip_suffix(b"\n")?;
        let mut fields = raw.splitn(4, |byte| *byte == b' ');
        let (time, stream, tag) = (fields.next()?, fields.next()?, fields.next()?);
        Some(Self { time, stream, part: tag.starts_with(b"P"), text: fields.next().unwrap_or(b"") })
    }
    fn wanted(&self, options: &LogOptions) -> bool {
        let stream = match options.stream {
            LogStream::All => true,
            LogStream::Stdout => self.stream == b"stdout",
            LogStream::Stderr => self.stream == b"stderr",
        };
        let recent = options.since.is_none_or(|since| {
            let time = std::str::from_utf8(self.time).ok();
            let time = time.and_then(|text| text.parse::<jiff::Timestamp>().ok());
            time.is_some_and(|time| time.as_nanosecond() >= since)
        });
        stream && recent
    }
}

/// Tells when there may be more to read.
struct Follow {
    path: PathBuf,
    /// An inotify descriptor: read like a pipe.
    events: tokio::net::unix::pipe::Receiver,
    buffer: Vec<u8>,
    ended: watch::Receiver<bool>,
}

impl Follow {
    /// Watches the folder: the file may be replaced.
    fn new(path: &Path, ended: watch::Receiver<bool>) -> io::Result<Self> {
        use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
        let events = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let folder = path.parent().unwrap_or(Path::new("/"));
        let flags =
            AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        events.add_watch(folder, flags)?;
        let events = tokio::net::unix::pipe::Receiver::from_file_unchecked(File::from(
            std::os::fd::OwnedFd::from(events),
        ))?;
        Ok(Self { path: path.to_owned(), events, buffer: vec![0; 4096], ended })
    }

    /// Whether the path is another file by now.
    fn replaced(&self, file: &File) -> io::Result<bool> {
        use std::os::unix::fs::MetadataExt;
        let ours = file.metadata()?;
        match std::fs::metadata(&self.path) {
            Ok(theirs) => Ok((ours.dev(), ours.ino()) != (theirs.dev(), theirs.ino())),
            Err(_) => Ok(false),
        }
    }

    /// Waits for a change or the end of the container; false when the client is gone.
    async fn wait(&mut self, client: &mpsc::Sender<Bytes>) -> bool {
        tokio::select! {
            // What it was does not matter: the files are looked at again.
            _ = tokio::io::AsyncReadExt::read(&mut self.events, &mut self.buffer) => true,
            _ = self.ended.changed() => true,
            () = client.closed() => false,
        }
    }
}

#[cfg(test)]
mod tests;
