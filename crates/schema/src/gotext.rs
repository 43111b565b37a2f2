//! The textual scalars: times, durations, quantities, base64, read and written as Go does.
use api::Quantity;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Go's zero time, which is null in JSON.
pub(crate) const ZERO_TIME: i64 = -62_135_596_800;
const SECOND: &str = "2006-01-02T15:04:05Z07:00";
const MICRO: &str = "2006-01-02T15:04:05.000000Z07:00";

/// Seconds since 1970 and microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Instant {
    pub(crate) seconds: i64,
    pub(crate) micros: u32,
}

/// Reads an RFC 3339 time; with `micro`, one with exactly six digits of fraction.
pub(crate) fn parse_time(text: &str, micro: bool) -> Result<Instant, String> {
    let mut reader = TimeReader { rest: text, text, layout: if micro { MICRO } else { SECOND } };
    let year = reader.number(4, "2006")?;
    reader.literal("-")?;
    let month = reader.ranged(2, "01", 1..=12, "month")?;
    reader.literal("-")?;
    let day = reader.number(2, "02")?;
    reader.literal("T")?;
    let hour = reader.ranged(2, "15", 0..=23, "hour")?;
    reader.literal(":")?;
    let minute = reader.ranged(2, "04", 0..=59, "minute")?;
    reader.literal(":")?;
    let second = reader.ranged(2, "05", 0..=59, "second")?;
    let micros = reader.fraction(micro)?;
    let offset = reader.zone()?;
    if !reader.rest.is_empty() {
        let rest = reader.rest;
        return Err(reader.error(&format!(": extra text: {rest:?}")));
    }
    if day < 1 || day > days_in(year, month) {
        return Err(reader.error(": day out of range"));
    }
    let days = days_from_civil(year, month, day);
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second - offset;
    Ok(Instant { seconds, micros })
}

struct TimeReader<'t> {
    text: &'t str,
    rest: &'t str,
    layout: &'static str,
}

impl TimeReader<'_> {
    fn error(&self, what: &str) -> String {
        format!("parsing time {:?}{what}", self.text)
    }
    fn unread(&self, part: &str) -> String {
        let (text, layout, rest) = (self.text, self.layout, self.rest);
        format!("parsing time {text:?} as {layout:?}: cannot parse {rest:?} as {part:?}")
    }
    fn number(&mut self, digits: usize, part: &str) -> Result<i64, String> {
        let found = self.rest.get(..digits).filter(|t| t.bytes().all(|b| b.is_ascii_digit()));
        let value = found.and_then(|text| text.parse().ok()).ok_or_else(|| self.unread(part))?;
        self.rest = &self.rest[digits..];
        Ok(value)
    }
    fn ranged(
        &mut self,
        digits: usize,
        part: &str,
        range: std::ops::RangeInclusive<i64>,
        name: &str,
    ) -> Result<i64, String> {
        let value = self.number(digits, part)?;
        match range.contains(&value) {
            true => Ok(value),
            false => Err(self.error(&format!(": {name} out of range"))),
        }
    }
    fn literal(&mut self, text: &str) -> Result<(), String> {
        self.rest = self.rest.strip_prefix(text).ok_or_else(|| self.unread(text))?;
        Ok(())
    }
    fn fraction(&mut self, required: bool) -> Result<u32, String> {
        let digits = match self.rest.strip_prefix(['.', ',']) {
            Some(rest) => rest.bytes().take_while(u8::is_ascii_digit).count(),
            None => 0,
        };
        if required && digits != 6 {
            return Err(self.unread(".000000"));
        }
        if digits == 0 {
            return Ok(0);
        }
        let text = &self.rest[1..=digits];
        let micros = text.bytes().chain(std::iter::repeat(b'0')).take(6);
        self.rest = &self.rest[1 + digits..];
        Ok(micros.fold(0, |n, digit| n * 10 + u32::from(digit - b'0')))
    }
    fn zone(&mut self) -> Result<i64, String> {
        if let Some(rest) = self.rest.strip_prefix('Z') {
            self.rest = rest;
            return Ok(0);
        }
        let sign = match self.rest.as_bytes().first() {
            Some(b'+') => 1,
            Some(b'-') => -1,
            _ => return Err(self.unread("Z07:00")),
        };
        let zone = self.rest.as_bytes().get(1..6).ok_or_else(|| self.unread("Z07:00"))?;
        let digit = |at: usize| match zone[at] {
            b @ b'0'..=b'9' => Some(i64::from(b - b'0')),
            _ => None,
        };
        let pair = |at| Some(digit(at)? * 10 + digit(at + 1)?);
        let read = (zone[2] == b':').then(|| Some((pair(0)?, pair(3)?))).flatten();
        let (hours, minutes) = read.ok_or_else(|| self.unread("Z07:00"))?;
        if hours > 24 || minutes > 60 {
            return Err(self.error(": time zone offset out of range"));
        }
        self.rest = self.rest.get(6..).unwrap_or_default();
        Ok(sign * (hours * 3600 + minutes * 60))
    }
}

/// The canonical text in UTC, none for Go's zero time.
pub(crate) fn format_time(instant: Instant, micro: bool) -> Option<String> {
    if instant.seconds == ZERO_TIME && instant.micros == 0 {
        return None;
    }
    let (days, time) = (instant.seconds.div_euclid(86_400), instant.seconds.rem_euclid(86_400));
    let (year, month, day) = civil_from_days(days);
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    let date = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    Some(match micro {
        true => format!("{date}.{:06}Z", instant.micros),
        false => format!("{date}Z"),
    })
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970 of a day of the proleptic Gregorian calendar (years that begin in March).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days.saturating_add(719_468);
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

/// The canonical form of a quantity.
pub(crate) fn quantity(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err(api::quantity::QuantityError::Format.to_string());
    }
    text.parse().map(|quantity: Quantity| quantity.to_string()).map_err(|e| e.to_string())
}

pub(crate) fn decode_base64(text: &str) -> Result<Vec<u8>, String> {
    // Go skips line ends inside base64.
    let decoded = if text.contains(['\r', '\n']) {
        STANDARD.decode(text.replace(['\r', '\n'], ""))
    } else {
        STANDARD.decode(text)
    };
    decoded.map_err(|error| {
        let at = match error {
            base64::DecodeError::InvalidByte(at, _) => at,
            base64::DecodeError::InvalidLastSymbol(at, _) => at,
            _ => text.len() / 4 * 4,
        };
        format!("illegal base64 data at input byte {at}")
    })
}

pub(crate) fn encode_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

const UNITS: [(&str, i128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads a duration such as `1h2m3.5s`, in nanoseconds.
pub(crate) fn parse_duration(text: &str) -> Result<i64, String> {
    let bad = |what: &str| format!("time: {what} duration {text:?}");
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(bad("invalid"));
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return Err(bad("invalid"));
        }
        let end = tail.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, after) = tail.split_at(end);
        if unit.is_empty() {
            return Err(bad("missing unit in"));
        }
        let scale = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale);
        let scale =
            scale.ok_or_else(|| format!("time: unknown unit {unit:?} in duration {text:?}"))?;
        let whole = if whole.is_empty() { Ok(0) } else { whole.parse::<i64>() };
        total += i128::from(whole.map_err(|_| bad("invalid"))?) * scale;
        let kept = &fraction[..fraction.len().min(18)];
        if !kept.is_empty() {
            let part: i128 = kept.parse().map_err(|_| bad("invalid"))?;
            total += part * scale / 10i128.pow(kept.len() as u32);
        }
        if total > i128::from(i64::MAX) {
            return Err(bad("invalid"));
        }
        rest = after;
    }
    Ok(if negative { -(total as i64) } else { total as i64 })
}

/// Writes a duration as Go does: `1h2m3.5s`, `1.5ms`, `0s`.
pub(crate) fn format_duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let n = nanos.unsigned_abs();
    let decimal = |n: u64, unit: u64| {
        let (whole, part) = (n / unit, n % unit);
        let digits = unit.ilog10() as usize;
        let fraction = format!("{part:0digits$}");
        match fraction.trim_end_matches('0') {
            "" => whole.to_string(),
            fraction => format!("{whole}.{fraction}"),
        }
    };
    if n == 0 {
        return "0s".to_owned();
    }
    if n < 1_000_000_000 {
        let (unit, name) = match n {
            0..1_000 => return format!("{sign}{n}ns"),
            1_000..1_000_000 => (1_000, "µs"),
            _ => (1_000_000, "ms"),
        };
        return format!("{sign}{}{name}", decimal(n, unit));
    }
    let minutes = n / 60_000_000_000;
    let seconds = decimal(n % 60_000_000_000, 1_000_000_000);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
        (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> Result<String, String> {
        parse_time(text, false).map(|t| format_time(t, false).unwrap_or_else(|| "null".into()))
    }

    #[test]
    fn times_become_utc() {
        for (text, want) in [
            ("2024-02-29T12:00:00Z", "2024-02-29T12:00:00Z"),
            ("2024-02-29T01:30:00.75+02:00", "2024-02-28T23:30:00Z"),
            ("1969-12-31T23:59:59-00:01", "1970-01-01T00:00:59Z"),
            ("0001-01-01T00:00:00Z", "null"),
            ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(seconds(text).unwrap(), want, "{text}");
        }
    }

    #[test]
    fn bad_times_are_told_as_go_does() {
        for (text, want) in [
            ("x", r#"parsing time "x" as "2006-01-02T15:04:05Z07:00": cannot parse "x" as "2006""#),
            (
                "2024-01-01",
                r#"parsing time "2024-01-01" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "T""#,
            ),
            ("2023-02-29T00:00:00Z", r#"parsing time "2023-02-29T00:00:00Z": day out of range"#),
            ("2024-13-01T00:00:00Z", r#"parsing time "2024-13-01T00:00:00Z": month out of range"#),
        ] {
            assert_eq!(seconds(text).unwrap_err(), want);
        }
        for text in ["2024-01-01T00:00:00+0é:00", "2024-01-01T00:00:00+", "é", "2024-é1"] {
            assert!(seconds(text).is_err());
        }
        assert!(parse_time("2024-01-01T00:00:00Z", true).unwrap_err().contains(".000000"));
    }

    #[test]
    fn durations() {
        for (text, want) in [
            ("1h", "1h0m0s"),
            ("90s", "1m30s"),
            ("1.5ms", "1.5ms"),
            ("0", "0s"),
            ("-2m", "-2m0s"),
            ("100us", "100µs"),
            ("1h2m3.25s", "1h2m3.25s"),
            ("7ns", "7ns"),
        ] {
            assert_eq!(format_duration(parse_duration(text).unwrap()), want, "{text}");
        }
        for text in ["", "5", "1x", "-", ".s", "99999999999h", "1..2s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
