//! Compressed name/value blocks of SPDY/3.
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use std::sync::OnceLock;

/// The largest block after decompression, and the most headers in one.
const MAX_BLOCK: usize = 64 * 1024;
const MAX_HEADERS: usize = 256;

/// Names and values that begin the dictionary, each with its length before it.
const WORDS: &str = "options head post put delete trace accept accept-charset accept-encoding \
    accept-language accept-ranges age allow authorization cache-control connection content-base \
    content-encoding content-language content-length content-location content-md5 content-range \
    content-type date etag expect expires from host if-match if-modified-since if-none-match \
    if-range if-unmodified-since last-modified location max-forwards pragma proxy-authenticate \
    proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade \
    user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url \
    public set-cookie keep-alive origin";

/// The rest of the dictionary, as plain text.
const TAIL: &str = "1001012012022052063003023033043053063074024054064074084094104114124134144154\
    16417502504505203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad \
    Request401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented\
    503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, \
    Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,\
    application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdch\
    charset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

/// The dictionary that both sides know.
pub fn dictionary() -> &'static [u8] {
    static DICTIONARY: OnceLock<Vec<u8>> = OnceLock::new();
    DICTIONARY.get_or_init(|| {
        let mut out = Vec::with_capacity(1423);
        for word in WORDS.split_ascii_whitespace() {
            out.extend_from_slice(&(word.len() as u32).to_be_bytes());
            out.extend_from_slice(word.replace('_', " ").as_bytes());
        }
        out.extend_from_slice(TAIL.as_bytes());
        out
    })
}

/// Compresses the blocks of one direction.
pub struct Deflate(Compress);

impl Default for Deflate {
    fn default() -> Self {
        let mut compress = Compress::new(Compression::best(), true);
        // It can fail only after data has been compressed.
        let _ = compress.set_dictionary(dictionary());
        Self(compress)
    }
}

impl Deflate {
    pub fn block(&mut self, headers: &[(&str, &str)]) -> Result<Vec<u8>, &'static str> {
        let mut plain = (headers.len() as u32).to_be_bytes().to_vec();
        for (name, value) in headers {
            for text in [name, value] {
                plain.extend_from_slice(&(text.len() as u32).to_be_bytes());
                plain.extend_from_slice(text.as_bytes());
            }
        }
        // Room for what does not shrink, so that one flush writes everything.
        let mut out = Vec::with_capacity(plain.len() + plain.len() / 8 + 128);
        self.0
            .compress_vec(&plain, &mut out, FlushCompress::Sync)
            .map_err(|_| "headers cannot be compressed")?;
        Ok(out)
    }
}

/// Decompresses the blocks of one direction.
pub struct Inflate(Decompress);

impl Default for Inflate {
    fn default() -> Self {
        Self(Decompress::new(true))
    }
}

impl Inflate {
    pub fn block(&mut self, block: &[u8]) -> Result<Vec<(String, String)>, &'static str> {
        parse(&self.inflate(block)?)
    }

    fn inflate(&mut self, block: &[u8]) -> Result<Vec<u8>, &'static str> {
        let mut out = Vec::with_capacity(block.len() * 4 + 256);
        let begin = self.0.total_in();
        loop {
            let used = (self.0.total_in() - begin) as usize;
            let before = self.0.total_out();
            if out.len() == out.capacity() {
                out.reserve(out.len());
            }
            match self.0.decompress_vec(&block[used..], &mut out, FlushDecompress::Sync) {
                Ok(_) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    let set = self.0.set_dictionary(dictionary());
                    set.map_err(|_| "headers use another dictionary")?;
                    continue;
                }
                Err(_) => return Err("headers cannot be decompressed"),
            }
            if out.len() > MAX_BLOCK {
                return Err("headers are too large");
            }
            let used = (self.0.total_in() - begin) as usize;
            let full = out.len() == out.capacity();
            if used == block.len() && !full {
                return Ok(out);
            }
            if !full && self.0.total_out() == before {
                return Err("headers end in the middle");
            }
        }
    }
}

fn parse(plain: &[u8]) -> Result<Vec<(String, String)>, &'static str> {
    let mut rest = plain;
    let count = take_len(&mut rest)?;
    if count > MAX_HEADERS {
        return Err("too many headers");
    }
    let mut headers = Vec::with_capacity(count);
    for _ in 0..count {
        let name = take_text(&mut rest)?;
        let value = take_text(&mut rest)?;
        // Several values of a name are divided by NUL; the first is the one that counts.
        let first = value.split('\0').next().unwrap_or_default().to_owned();
        headers.push((name, first));
    }
    Ok(headers)
}

fn take_len(rest: &mut &[u8]) -> Result<usize, &'static str> {
    let (head, tail) = rest.split_first_chunk::<4>().ok_or("headers are cut off")?;
    *rest = tail;
    Ok(u32::from_be_bytes(*head) as usize)
}

fn take_text(rest: &mut &[u8]) -> Result<String, &'static str> {
    let len = take_len(rest)?;
    let (text, tail) = rest.split_at_checked(len).ok_or("headers are cut off")?;
    *rest = tail;
    String::from_utf8(text.to_vec()).map_err(|_| "a header is not UTF-8")
}
