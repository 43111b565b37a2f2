//! The encoding of protobuf, as far as the few messages of etcd need it.
use bytes::{BufMut, Bytes, BytesMut};

/// A message is not what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("etcd sent a message that cannot be read")]
pub(crate) struct Malformed;

#[derive(Default)]
pub(crate) struct Writer(BytesMut);

impl Writer {
    /// A number; zero is left out, as it is the default.
    pub(crate) fn number(mut self, field: u32, value: u64) -> Writer {
        if value != 0 {
            self.varint(u64::from(field) << 3);
            self.varint(value);
        }
        self
    }

    pub(crate) fn flag(self, field: u32, value: bool) -> Writer {
        self.number(field, u64::from(value))
    }

    pub(crate) fn bytes(mut self, field: u32, value: &[u8]) -> Writer {
        if !value.is_empty() {
            self = self.message(field, Writer(value.into()));
        }
        self
    }

    /// A message is written though it is empty: that it is there says something.
    pub(crate) fn message(mut self, field: u32, message: Writer) -> Writer {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(message.0.len() as u64);
        self.0.extend_from_slice(&message.0);
        self
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.put_u8(value as u8);
    }

    pub(crate) fn finish(self) -> Bytes {
        self.0.freeze()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Number(u64),
    Bytes(Bytes),
}

impl Value {
    pub(crate) fn number(self) -> Result<u64, Malformed> {
        match self {
            Value::Number(number) => Ok(number),
            Value::Bytes(_) => Err(Malformed),
        }
    }

    pub(crate) fn flag(self) -> Result<bool, Malformed> {
        Ok(self.number()? != 0)
    }

    pub(crate) fn bytes(self) -> Result<Bytes, Malformed> {
        match self {
            Value::Bytes(bytes) => Ok(bytes),
            Value::Number(_) => Err(Malformed),
        }
    }

    pub(crate) fn text(self) -> Result<String, Malformed> {
        String::from_utf8(self.bytes()?.into()).map_err(|_| Malformed)
    }
}

/// Gives each field of the message in turn. Values are parts of the message, not copies.
pub(crate) fn read(
    mut message: Bytes,
    mut each: impl FnMut(u32, Value) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let field = u32::try_from(tag >> 3).map_err(|_| Malformed)?;
        match tag & 7 {
            0 => each(field, Value::Number(varint(&mut message)?))?,
            2 => {
                let length = usize::try_from(varint(&mut message)?).map_err(|_| Malformed)?;
                each(field, Value::Bytes(take(&mut message, length)?))?;
            }
            // Fixed-width numbers: etcd's messages have none that matter here.
            1 => drop(take(&mut message, 8)?),
            5 => drop(take(&mut message, 4)?),
            _ => return Err(Malformed),
        }
    }
    Ok(())
}

fn take(message: &mut Bytes, length: usize) -> Result<Bytes, Malformed> {
    if length > message.len() {
        return Err(Malformed);
    }
    Ok(message.split_to(length))
}

fn varint(message: &mut Bytes) -> Result<u64, Malformed> {
    let mut value = 0;
    for (index, byte) in message.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let _ = message.split_to(index + 1);
            return Ok(value);
        }
    }
    Err(Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_as_written() {
        let inner = Writer::default().bytes(1, b"abc").number(2, 300);
        let message = Writer::default()
            .number(1, u64::MAX)
            .number(2, 0)
            .message(3, inner)
            .flag(4, true)
            .message(15, Writer::default())
            .finish();
        let mut seen = Vec::new();
        read(message, |field, value| {
            seen.push((field, value));
            Ok(())
        })
        .unwrap();
        let inner = Bytes::from_static(b"\x0a\x03abc\x10\xac\x02");
        assert_eq!(
            seen,
            [
                (1, Value::Number(u64::MAX)),
                (3, Value::Bytes(inner)),
                (4, Value::Number(1)),
                (15, Value::Bytes(Bytes::new())),
            ]
        );
    }

    #[test]
    fn what_is_cut_short_or_unknown_is_refused() {
        let whole = Writer::default().bytes(1, &[7; 200]).number(2, 1 << 40).finish();
        for length in (1..whole.len()).filter(|length| *length != 203) {
            let cut = whole.slice(..length);
            assert_eq!(read(cut, |_, _| Ok(())), Err(Malformed), "cut to {length}");
        }
        for bad in [&b"\x0b"[..], b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", b"\x09\x01"] {
            assert_eq!(read(Bytes::from_static(bad), |_, _| Ok(())), Err(Malformed));
        }
    }
}
