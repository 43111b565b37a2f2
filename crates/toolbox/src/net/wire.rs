//! HTTP/1.1 messages as bytes, for the server and the client. Everything read is bounded.
use std::io::{self, BufRead, Read, Write};

/// A start line and headers may not be longer than this.
const HEAD_MAX: u64 = 64 << 10;

/// The head of a request or a response.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) start: String,
    pub(super) headers: Vec<(String, String)>,
}

impl Head {
    /// Reads one; `None` when the peer closed before it.
    pub(super) fn read(reader: &mut impl BufRead) -> io::Result<Option<Head>> {
        let mut reader = reader.take(HEAD_MAX);
        let mut head = Head { start: String::new(), headers: Vec::new() };
        let mut line = Vec::new();
        loop {
            line.clear();
            let n = reader.read_until(b'\n', &mut line)?;
            if n == 0 && head.start.is_empty() {
                return Ok(None);
            }
            if line.last() != Some(&b'\n') {
                return Err(bad("the head of the message is cut or too long"));
            }
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end_matches(['\r', '\n']);
            match (text.is_empty(), head.start.is_empty()) {
                (true, true) => {}
                (true, false) => return Ok(Some(head)),
                (false, true) => text.clone_into(&mut head.start),
                (false, false) => {
                    let (name, value) =
                        text.split_once(':').ok_or_else(|| bad("a header has no colon"))?;
                    head.headers.push((name.trim().to_owned(), value.trim().to_owned()));
                }
            }
        }
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub(super) fn has_token(&self, name: &str, token: &str) -> bool {
        self.header(name)
            .is_some_and(|value| value.split(',').any(|t| t.trim().eq_ignore_ascii_case(token)))
    }

    /// How long the body is, as far as the head says.
    pub(super) fn length(&self) -> io::Result<Length> {
        if self.has_token("Transfer-Encoding", "chunked") {
            return Ok(Length::Chunked);
        }
        match self.header("Content-Length") {
            Some(text) => {
                Ok(Length::Known(text.parse().map_err(|_| bad("Content-Length is no number"))?))
            }
            None => Ok(Length::Unsaid),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Length {
    Known(u64),
    Chunked,
    Unsaid,
}

pub(super) fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Copies a body of known shape to `to`; at most `limit` bytes.
pub(super) fn copy_body(
    reader: &mut impl BufRead,
    length: &Length,
    to: &mut impl Write,
    limit: u64,
) -> io::Result<()> {
    match length {
        Length::Known(n) if *n > limit => Err(bad("the body is too long")),
        Length::Known(n) => copy_exactly(reader, *n, to),
        Length::Unsaid => {
            let copied = io::copy(&mut reader.take(limit), to)?;
            if copied == limit && limit != u64::MAX {
                Err(bad("the body is too long"))
            } else {
                Ok(())
            }
        }
        Length::Chunked => copy_chunks(reader, to, limit),
    }
}

fn copy_exactly(reader: &mut impl BufRead, n: u64, to: &mut impl Write) -> io::Result<()> {
    if io::copy(&mut reader.take(n), to)? < n {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the body is cut"));
    }
    Ok(())
}

fn copy_chunks(reader: &mut impl BufRead, to: &mut impl Write, limit: u64) -> io::Result<()> {
    let mut left = limit;
    loop {
        let line = short_line(reader)?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(digits, 16).map_err(|_| bad("a chunk has no size"))?;
        if size == 0 {
            while !short_line(reader)?.is_empty() {}
            return Ok(());
        }
        left = left.checked_sub(size).ok_or_else(|| bad("the body is too long"))?;
        copy_exactly(reader, size, to)?;
        to.flush()?;
        if !short_line(reader)?.is_empty() {
            return Err(bad("a chunk does not end where it should"));
        }
    }
}

fn short_line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    reader.take(4096).read_until(b'\n', &mut line)?;
    if line.last() != Some(&b'\n') {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the body is cut"));
    }
    Ok(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned())
}

/// The words of a status code.
pub(super) fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        418 => "I'm a teapot",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Status",
    }
}
