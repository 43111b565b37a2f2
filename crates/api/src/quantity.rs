//! Resource quantities: exact decimal or binary amounts, as in `500m`, `1Gi`, `2e3`.
//!
//! A quantity is kept in billionths (nano units) as an `i128`, which holds every value that the API
//! accepts; finer fractions round up, as upstream does.
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

const NANO: i128 = 1_000_000_000;

/// How the quantity is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `12`, `500m`, `3k`
    DecimalSi,
    /// `1Ki`, `2Gi`
    BinarySi,
    /// `12e6`
    DecimalExponent,
}

/// An amount of a resource. Compares by value, not by how it is written.
#[derive(Debug, Clone, Copy)]
pub struct Quantity {
    nano: i128,
    format: Format,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error(
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    )]
    Format,
    #[error("unable to parse quantity's suffix")]
    Suffix,
    #[error("quantity is out of range")]
    Range,
}

impl Quantity {
    pub const ZERO: Self = Self { nano: 0, format: Format::DecimalSi };

    pub fn from_units(units: i64) -> Self {
        Self { nano: i128::from(units) * NANO, format: Format::DecimalSi }
    }
    pub fn from_milli(milli: i64) -> Self {
        Self { nano: i128::from(milli) * 1_000_000, format: Format::DecimalSi }
    }
    /// Bytes, written with binary suffixes.
    pub fn from_bytes(bytes: i64) -> Self {
        Self { nano: i128::from(bytes) * NANO, format: Format::BinarySi }
    }
    /// Whole units, rounded up.
    pub fn value(&self) -> i64 {
        clamp(ceil_div(self.nano, NANO))
    }
    /// Thousandths, rounded up.
    pub fn milli_value(&self) -> i64 {
        clamp(ceil_div(self.nano, 1_000_000))
    }
    pub fn is_zero(&self) -> bool {
        self.nano == 0
    }
    pub fn sign(&self) -> i32 {
        self.nano.signum() as i32
    }
    /// True if the amount is a whole number of units.
    pub fn is_whole(&self) -> bool {
        self.nano % NANO == 0
    }
    /// True if the amount is a whole number of thousandths.
    pub fn is_whole_milli(&self) -> bool {
        self.nano % 1_000_000 == 0
    }
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self { nano: self.nano.saturating_add(other.nano), format }
    }
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self { nano: self.nano.saturating_sub(other.nano), format }
    }
    #[must_use]
    pub fn times(&self, n: i64) -> Self {
        Self { nano: self.nano.saturating_mul(i128::from(n)), format: self.format }
    }
}

fn ceil_div(a: i128, b: i128) -> i128 {
    a.div_euclid(b) + i128::from(a.rem_euclid(b) != 0)
}

fn clamp(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let (sign, rest) = match text.as_bytes().first() {
            Some(b'+') => (1, &text[1..]),
            Some(b'-') => (-1, &text[1..]),
            _ => (1, text),
        };
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (digits, suffix) = rest.split_at(end);
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return Err(QuantityError::Format);
        }
        let (mul, div, format) = scale(suffix)?;
        let mut nano = amount(whole, fraction, mul, div)?;
        if format == Format::BinarySi {
            // Upstream caps what has a binary suffix at 2^63-1 units.
            nano = nano.min(i128::from(i64::MAX) * NANO);
        }
        Ok(Self { nano: sign * nano, format })
    }
}

/// `whole.fraction * mul / div`, in nano units, rounded up.
fn amount(whole: &str, fraction: &str, mul: i128, div: i128) -> Result<i128, QuantityError> {
    let parse = |text: &str| -> Result<i128, QuantityError> {
        if text.is_empty() { Ok(0) } else { text.parse().map_err(|_| QuantityError::Range) }
    };
    let trimmed = fraction.trim_end_matches('0');
    let kept = &trimmed[..trimmed.len().min(18)];
    let range = QuantityError::Range;
    let scaled = |n: i128| n.checked_mul(mul).and_then(|n| n.checked_mul(NANO));
    let whole = scaled(parse(whole)?).ok_or(range.clone())?;
    let below = 10i128.pow(kept.len() as u32);
    let part = scaled(parse(kept)?).ok_or(range.clone())?;
    let total = whole.checked_add(ceil_div(part, below)).ok_or(range)?;
    Ok(ceil_div(total, div))
}

fn scale(suffix: &str) -> Result<(i128, i128, Format), QuantityError> {
    use Format::{BinarySi, DecimalExponent, DecimalSi};
    let decimal = |n: u32| Ok((10i128.pow(n), 1, DecimalSi));
    let below = |n: u32| Ok((1, 10i128.pow(n), DecimalSi));
    let binary = |n: u32| Ok((1i128 << n, 1, BinarySi));
    match suffix {
        "" => decimal(0),
        "n" => below(9),
        "u" => below(6),
        "m" => below(3),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E']).ok_or(QuantityError::Suffix)?;
            let exponent: i32 = exponent.parse().map_err(|_| QuantityError::Suffix)?;
            match exponent {
                0..=18 => Ok((10i128.pow(exponent as u32), 1, DecimalExponent)),
                -18..=-1 => Ok((1, 10i128.pow(-exponent as u32), DecimalExponent)),
                _ => Err(QuantityError::Range),
            }
        }
    }
}

impl fmt::Display for Quantity {
    /// The canonical form: no fraction, the largest suffix that keeps it exact.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
        const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
        if self.nano == 0 {
            return f.write_str("0");
        }
        let big = self.nano.abs() >= 1024 * NANO;
        if self.format == Format::BinarySi && self.is_whole() && big {
            let (mut n, mut i) = (self.nano / NANO, 0);
            while n % 1024 == 0 && i + 1 < BINARY.len() {
                n /= 1024;
                i += 1;
            }
            return write!(f, "{n}{}", BINARY[i]);
        }
        let (mut n, mut i) = (self.nano, 0);
        while n % 1000 == 0 && i + 1 < DECIMAL.len() {
            n /= 1000;
            i += 1;
        }
        match (self.format, i) {
            (Format::DecimalExponent, 3) => write!(f, "{n}"),
            (Format::DecimalExponent, i) => write!(f, "{n}e{}", (i as i32 - 3) * 3),
            (_, i) => write!(f, "{n}{}", DECIMAL[i]),
        }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
    }
}
impl Eq for Quantity {}
impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nano.cmp(&other.nano)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_form() {
        for (text, want) in [
            ("0", "0"),
            ("100m", "100m"),
            ("0.1", "100m"),
            ("1000m", "1"),
            ("1.5Gi", "1536Mi"),
            ("1024", "1024"),
            ("1Ki", "1Ki"),
            ("1000k", "1M"),
            ("1e3", "1e3"),
            ("12e6", "12e6"),
            ("0.5Ki", "512"),
            ("-5", "-5"),
            ("1.23456789012", "1234567891n"),
            ("2Gi", "2Gi"),
            ("128974848", "128974848"),
            ("123Mi", "123Mi"),
            ("0.0001Mi", "104857600u"),
            ("100000000000000000000", "100E"),
            ("9Ei", "9223372036854775807"),
        ] {
            assert_eq!(text.parse::<Quantity>().unwrap().to_string(), want, "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_quantity() {
        for text in ["", "x", "1.2.3", "1Zi", "e3", "1e", "--1", "1 Gi", "."] {
            assert!(text.parse::<Quantity>().is_err(), "{text}");
        }
    }

    #[test]
    fn rounds_up() {
        assert_eq!("1500m".parse::<Quantity>().unwrap().value(), 2);
        assert_eq!("1n".parse::<Quantity>().unwrap().milli_value(), 1);
    }
}
