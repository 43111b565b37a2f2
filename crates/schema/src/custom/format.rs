//! `format`: the ones that upstream checks. Others are let be, as upstream does.
use crate::gotext;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

#[derive(Clone, Copy)]
pub(super) struct Format(&'static (&'static str, Check));

enum Check {
    Text(fn(&str) -> bool),
    Range(f64, f64),
}

impl std::fmt::Debug for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

const FORMATS: &[(&str, Check)] = &[
    ("int32", Check::Range(i32::MIN as f64, i32::MAX as f64)),
    ("int64", Check::Range(i64::MIN as f64, i64::MAX as f64)),
    ("bsonobjectid", Check::Text(|text| text.len() == 24 && is_hex(text))),
    ("uri", Check::Text(uri)),
    ("email", Check::Text(email)),
    ("hostname", Check::Text(hostname)),
    ("ipv4", Check::Text(|text| text.parse::<Ipv4Addr>().is_ok())),
    ("ipv6", Check::Text(|text| text.parse::<Ipv6Addr>().is_ok())),
    ("cidr", Check::Text(cidr)),
    ("mac", Check::Text(mac)),
    ("uuid", Check::Text(|text| uuid(text, None))),
    ("uuid3", Check::Text(|text| uuid(text, Some('3')))),
    ("uuid4", Check::Text(|text| uuid(text, Some('4')))),
    ("uuid5", Check::Text(|text| uuid(text, Some('5')))),
    ("isbn", Check::Text(|text| isbn10(text) || isbn13(text))),
    ("isbn10", Check::Text(isbn10)),
    ("isbn13", Check::Text(isbn13)),
    ("creditcard", Check::Text(credit_card)),
    ("ssn", Check::Text(ssn)),
    ("hexcolor", Check::Text(hex_color)),
    ("rgbcolor", Check::Text(rgb_color)),
    ("byte", Check::Text(|text| gotext::decode_base64(text).is_ok())),
    ("password", Check::Text(|_| true)),
    ("date", Check::Text(date)),
    ("duration", Check::Text(duration)),
    ("datetime", Check::Text(date_time)),
    ("date-time", Check::Text(date_time)),
    ("k8s-short-name", Check::Text(label)),
    ("k8s-long-name", Check::Text(|text| text.len() <= 253 && text.split('.').all(label))),
];

impl Format {
    pub(super) fn named(name: &str) -> Option<Self> {
        FORMATS.iter().find(|(known, _)| *known == name).map(Self)
    }
    pub(super) fn name(self) -> &'static str {
        self.0.0
    }
    pub(super) fn fits(self, text: &str) -> bool {
        match self.0.1 {
            Check::Text(fits) => fits(text),
            Check::Range(..) => true,
        }
    }
    /// Of a number.
    pub(super) fn range(self) -> Option<(f64, f64)> {
        match self.0.1 {
            Check::Range(low, high) => Some((low, high)),
            Check::Text(_) => None,
        }
    }
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A whole URI, or an absolute path.
fn uri(text: &str) -> bool {
    if text.is_empty() || text.chars().any(|c| c.is_control() || c == ' ') {
        return false;
    }
    if text.starts_with('/') {
        return true;
    }
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let mut letters = scheme.chars();
    letters.next().is_some_and(|c| c.is_ascii_alphabetic())
        && letters.all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
        && !rest.is_empty()
}

fn email(text: &str) -> bool {
    let Some((local, host)) = text.rsplit_once('@') else { return false };
    let plain = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c);
    let quoted = local.len() > 2 && local.starts_with('"') && local.ends_with('"');
    let dots = local.starts_with('.') || local.ends_with('.') || local.contains("..");
    (quoted || !local.is_empty() && local.chars().all(plain) && !dots) && hostname(host)
}

fn hostname(text: &str) -> bool {
    let part = |part: &str| {
        let inner = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_');
        let ends = !part.starts_with('-') && !part.ends_with('-');
        !part.is_empty() && part.len() <= 63 && part.chars().all(inner) && ends
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    !name.is_empty() && name.len() <= 255 && name.split('.').all(part)
}

fn cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let max = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    is_digits(bits) && bits.parse::<u8>().is_ok_and(|bits| bits <= max)
}

fn mac(text: &str) -> bool {
    let pairs = |separator| {
        let parts: Vec<&str> = text.split(separator).collect();
        matches!(parts.len(), 6 | 8 | 20) && parts.iter().all(|p| p.len() == 2 && is_hex(p))
    };
    let fours: Vec<&str> = text.split('.').collect();
    pairs(':')
        || pairs('-')
        || matches!(fours.len(), 3 | 4 | 10) && fours.iter().all(|p| p.len() == 4 && is_hex(p))
}

fn uuid(text: &str, version: Option<char>) -> bool {
    let plain = text.replace('-', "");
    let parts: Vec<usize> = text.split('-').map(str::len).collect();
    let shape = parts == [8, 4, 4, 4, 12] || version.is_none() && plain.len() == 32;
    shape && is_hex(&plain) && version.is_none_or(|v| plain.chars().nth(12) == Some(v))
}

fn isbn10(text: &str) -> bool {
    let text: String = text.chars().filter(|c| !matches!(c, '-' | ' ')).collect();
    if text.len() != 10 {
        return false;
    }
    let mut sum = 0;
    for (place, c) in text.chars().enumerate() {
        let digit = match c {
            'X' | 'x' if place == 9 => Some(10),
            c => c.to_digit(10),
        };
        let Some(digit) = digit else { return false };
        sum += (place as u32 + 1) * digit;
    }
    sum.is_multiple_of(11)
}

fn isbn13(text: &str) -> bool {
    let text: String = text.chars().filter(|c| !matches!(c, '-' | ' ')).collect();
    if text.len() != 13 || !is_digits(&text) {
        return false;
    }
    let weighed = text.bytes().enumerate();
    let sum: u32 = weighed
        .map(|(place, byte)| u32::from(byte - b'0') * if place % 2 == 0 { 1 } else { 3 })
        .sum();
    sum.is_multiple_of(10)
}

/// The sum of Luhn.
fn credit_card(text: &str) -> bool {
    let text: String = text.chars().filter(|c| !matches!(c, '-' | ' ')).collect();
    if !(13..=19).contains(&text.len()) || !is_digits(&text) {
        return false;
    }
    let sum: u32 = text
        .bytes()
        .rev()
        .enumerate()
        .map(|(place, byte)| match (place % 2, u32::from(byte - b'0')) {
            (0, digit) => digit,
            (_, digit) if digit > 4 => digit * 2 - 9,
            (_, digit) => digit * 2,
        })
        .sum();
    sum.is_multiple_of(10)
}

fn ssn(text: &str) -> bool {
    let parts: Vec<&str> = text.split(['-', ' ']).collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    lengths == [3, 2, 4] && parts.iter().all(|part| is_digits(part))
}

fn hex_color(text: &str) -> bool {
    let digits = text.strip_prefix('#').unwrap_or(text);
    matches!(digits.len(), 3 | 6) && is_hex(digits)
}

fn rgb_color(text: &str) -> bool {
    let inner = text.strip_prefix("rgb(").and_then(|text| text.strip_suffix(')'));
    let Some(inner) = inner else { return false };
    let parts: Vec<&str> = inner.split(',').map(str::trim).collect();
    parts.len() == 3 && parts.iter().all(|part| is_digits(part) && part.parse::<u8>().is_ok())
}

fn date(text: &str) -> bool {
    text.len() == 10 && gotext::parse_time(&format!("{text}T00:00:00Z"), false).is_ok()
}

fn date_time(text: &str) -> bool {
    let upper = text.to_ascii_uppercase().replacen(' ', "T", 1);
    gotext::parse_time(&upper, false).is_ok()
        || gotext::parse_time(&format!("{upper}Z"), false).is_ok()
}

/// Go's form, or a number and a word such as `3 days`.
fn duration(text: &str) -> bool {
    const WORDS: [&str; 21] = [
        "ns", "nano", "us", "µs", "micro", "ms", "milli", "s", "sec", "second", "m", "min",
        "minute", "h", "hr", "hour", "d", "day", "w", "week", "wk",
    ];
    if gotext::parse_duration(text).is_ok() {
        return true;
    }
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, word) = text.split_at(at);
    let word = word.trim().trim_end_matches('s');
    number.parse::<f64>().is_ok() && WORDS.contains(&word)
}

fn label(text: &str) -> bool {
    let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(ok)
        && !text.starts_with('-')
        && !text.ends_with('-')
}
