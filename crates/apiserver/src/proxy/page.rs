//! The body of a proxied HTML page, with its links mended on the way.
use super::links::Page;
use crate::body::BoxError;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::{DeflateDecoder, DeflateEncoder, GzEncoder, MultiGzDecoder};
use http::{HeaderMap, header};
use http_body::{Body, Frame};
use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Unpacked at once: what little can become much is met in pieces.
const PIECE_BYTES: usize = 4 << 10;

/// How a page is packed on its way.
pub(crate) enum Packing {
    None,
    Gzip(Box<MultiGzDecoder<Vec<u8>>>, Box<GzEncoder<Vec<u8>>>),
    Deflate(Box<DeflateDecoder<Vec<u8>>>, Box<DeflateEncoder<Vec<u8>>>),
}

impl Packing {
    /// `None` for one that is not known here: such a page passes as it is.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let fast = Compression::fast();
        match headers.get(header::CONTENT_ENCODING).map(|value| value.as_bytes()) {
            None | Some(b"") => Some(Self::None),
            Some(b"gzip") => Some(Self::Gzip(
                Box::new(MultiGzDecoder::new(Vec::new())),
                Box::new(GzEncoder::new(Vec::new(), fast)),
            )),
            Some(b"deflate") => Some(Self::Deflate(
                Box::new(DeflateDecoder::new(Vec::new())),
                Box::new(DeflateEncoder::new(Vec::new(), fast)),
            )),
            Some(_) => None,
        }
    }

    fn unpack(&mut self, piece: &[u8]) -> std::io::Result<Vec<u8>> {
        Ok(match self {
            Self::None => piece.to_vec(),
            Self::Gzip(decoder, _) => {
                decoder.write_all(piece)?;
                decoder.flush()?;
                std::mem::take(decoder.get_mut())
            }
            Self::Deflate(decoder, _) => {
                decoder.write_all(piece)?;
                decoder.flush()?;
                std::mem::take(decoder.get_mut())
            }
        })
    }

    fn pack(&mut self, bytes: Vec<u8>, end: bool, out: &mut Vec<u8>) -> std::io::Result<()> {
        match self {
            Self::None => out.extend_from_slice(&bytes),
            Self::Gzip(_, encoder) => {
                encoder.write_all(&bytes)?;
                if end {
                    encoder.try_finish()?
                } else {
                    encoder.flush()?
                };
                out.append(encoder.get_mut());
            }
            Self::Deflate(_, encoder) => {
                encoder.write_all(&bytes)?;
                if end {
                    encoder.try_finish()?
                } else {
                    encoder.flush()?
                };
                out.append(encoder.get_mut());
            }
        }
        Ok(())
    }
}

pub(crate) struct Mended<B> {
    inner: B,
    page: Page,
    packing: Packing,
    ended: bool,
}

impl<B> Mended<B> {
    pub(crate) fn new(inner: B, page: Page, packing: Packing) -> Self {
        Self { inner, page, packing, ended: false }
    }

    fn part(&mut self, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut out = Vec::new();
        for piece in bytes.chunks(PIECE_BYTES) {
            let plain = self.packing.unpack(piece)?;
            let mended = self.page.feed(&plain);
            if !mended.is_empty() {
                self.packing.pack(mended, false, &mut out)?;
            }
        }
        Ok(out)
    }

    fn end(&mut self) -> std::io::Result<Vec<u8>> {
        let mut out = Vec::new();
        let left = self.page.finish();
        self.packing.pack(left, true, &mut out)?;
        Ok(out)
    }
}

impl<B> Body for Mended<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        while !this.ended {
            let part = match ready!(Pin::new(&mut this.inner).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => this.part(&data),
                    // Trailers would speak of another body.
                    Err(_) => continue,
                },
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => {
                    this.ended = true;
                    this.end()
                }
            };
            match part {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => return Poll::Ready(Some(Ok(Frame::data(bytes.into())))),
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
        }
        Poll::Ready(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::links::Links;
    use http_body_util::{BodyExt, Full, StreamBody};
    use std::io::Read;

    fn page() -> Page {
        let links = Links { prefix: "/p".into(), target: "t".into(), asked: "a".into() };
        Page::new(links)
    }

    async fn through(encoding: &str, parts: Vec<Bytes>) -> Bytes {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_ENCODING, encoding.parse().unwrap());
        let packing = Packing::of(&headers).unwrap();
        let frames = parts.into_iter().map(|part| Ok::<_, BoxError>(Frame::data(part)));
        let inner = StreamBody::new(futures_util::stream::iter(frames));
        Mended::new(inner, page(), packing).collect().await.unwrap().to_bytes()
    }

    #[tokio::test]
    async fn packed_pages_are_mended_and_packed_again() {
        let plain = "<a href=\"/x\">".repeat(5_000);
        let want = "<a href=\"/p/x\">".repeat(5_000);
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(plain.as_bytes()).unwrap();
        let parts = gzip.finish().unwrap().chunks(7).map(Bytes::copy_from_slice).collect();
        let mut text = String::new();
        let out = through("gzip", parts).await;
        flate2::read::GzDecoder::new(&out[..]).read_to_string(&mut text).unwrap();
        assert!(text == want, "{} bytes", text.len());
        let mut deflate = DeflateEncoder::new(Vec::new(), Compression::fast());
        deflate.write_all(plain.as_bytes()).unwrap();
        let out = through("deflate", vec![deflate.finish().unwrap().into()]).await;
        text.clear();
        flate2::read::DeflateDecoder::new(&out[..]).read_to_string(&mut text).unwrap();
        assert!(text == want, "{} bytes", text.len());
        assert!(through("", vec![plain.into()]).await == want);
    }

    #[tokio::test]
    async fn a_page_that_is_not_packed_as_it_says_breaks_off() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_ENCODING, "gzip".parse().unwrap());
        let body = Full::new(Bytes::from_static(b"this is no gzip at all, not even nearly"));
        let body = Mended::new(body, page(), Packing::of(&headers).unwrap());
        assert!(body.collect().await.is_err());
        headers.insert(header::CONTENT_ENCODING, "br".parse().unwrap());
        assert!(Packing::of(&headers).is_none());
    }
}
