//! SPDY/3.1 frames as bytes.
use bytes::{BufMut, Bytes, BytesMut};

pub const SYN_STREAM: u16 = 1;
pub const SYN_REPLY: u16 = 2;
pub const RST_STREAM: u16 = 3;
pub const PING: u16 = 6;
pub const GOAWAY: u16 = 7;
pub const HEADERS: u16 = 8;

pub const FLAG_FIN: u8 = 1;

const VERSION: u16 = 3;
const CONTROL_BIT: u16 = 0x8000;
const ID_MASK: u32 = 0x7fff_ffff;

/// Why a stream is ended early.
#[derive(Debug, Clone, Copy)]
pub enum RstStatus {
    Refused = 3,
}

/// The first eight bytes of a frame.
#[derive(Debug, PartialEq, Eq)]
pub enum Head {
    Data { stream: u32, flags: u8, len: usize },
    Control { kind: u16, flags: u8, len: usize },
}

impl Head {
    pub fn parse(bytes: [u8; 8]) -> Result<Self, &'static str> {
        let [a, b, c, d, flags, x, y, z] = bytes;
        let len = u32::from_be_bytes([0, x, y, z]) as usize;
        let first = u16::from_be_bytes([a, b]);
        if first & CONTROL_BIT == 0 {
            return Ok(Self::Data { stream: u32::from_be_bytes([a, b, c, d]), flags, len });
        }
        if first & !CONTROL_BIT != VERSION {
            return Err("the version is not 3");
        }
        Ok(Self::Control { kind: u16::from_be_bytes([c, d]), flags, len })
    }
}

pub fn data(stream: u32, fin: bool, body: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(8 + body.len());
    out.put_u32(stream & ID_MASK);
    put_len(&mut out, u8::from(fin), body.len());
    out.put_slice(body);
    out.freeze()
}

pub fn syn_stream(stream: u32, flags: u8, block: &[u8]) -> Bytes {
    let mut out = control(SYN_STREAM, flags, 10 + block.len());
    out.put_u32(stream & ID_MASK);
    out.put_u32(0);
    out.put_u16(0);
    out.put_slice(block);
    out.freeze()
}

pub fn syn_reply(stream: u32, block: &[u8]) -> Bytes {
    let mut out = control(SYN_REPLY, 0, 4 + block.len());
    out.put_u32(stream & ID_MASK);
    out.put_slice(block);
    out.freeze()
}

pub fn rst_stream(stream: u32, status: RstStatus) -> Bytes {
    let mut out = control(RST_STREAM, 0, 8);
    out.put_u32(stream & ID_MASK);
    out.put_u32(status as u32);
    out.freeze()
}

pub fn ping(id: u32) -> Bytes {
    let mut out = control(PING, 0, 4);
    out.put_u32(id);
    out.freeze()
}

pub fn goaway() -> Bytes {
    let mut out = control(GOAWAY, 0, 8);
    out.put_u64(0);
    out.freeze()
}

/// The number that begins the body of most control frames.
pub fn word(body: &[u8]) -> Result<u32, &'static str> {
    let head = body.first_chunk::<4>().ok_or("a frame is too short")?;
    Ok(u32::from_be_bytes(*head))
}

pub fn stream_id(body: &[u8]) -> Result<u32, &'static str> {
    Ok(word(body)? & ID_MASK)
}

fn control(kind: u16, flags: u8, len: usize) -> BytesMut {
    let mut out = BytesMut::with_capacity(8 + len);
    out.put_u16(CONTROL_BIT | VERSION);
    out.put_u16(kind);
    put_len(&mut out, flags, len);
    out
}

fn put_len(out: &mut BytesMut, flags: u8, len: usize) {
    out.put_u32(u32::from(flags) << 24 | (len as u32 & 0x00ff_ffff));
}
