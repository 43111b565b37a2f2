//! `echo`, `printf`, `yes`.
use std::io::Write;

use crate::common::{Done, Fault, out, usage};

/// `echo [-neE] TEXT…`.
pub(crate) fn echo(args: &[String]) -> Done {
    let mut words = &args[1..];
    let (mut newline, mut escapes) = (true, false);
    while let Some(flags) = words.first().and_then(|w| w.strip_prefix('-')) {
        if flags.is_empty() || !flags.chars().all(|c| "neE".contains(c)) {
            break;
        }
        for flag in flags.chars() {
            match flag {
                'n' => newline = false,
                'e' => escapes = true,
                _ => escapes = false,
            }
        }
        words = &words[1..];
    }
    let mut text = words.join(" ");
    if escapes {
        let (done, stopped) = unescape(&text);
        text = done;
        newline &= !stopped;
    }
    if newline {
        text.push('\n');
    }
    let mut out = out()?;
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(0)
}

/// Replaces backslash escapes; true when `\c` ended the text.
pub(crate) fn unescape(text: &str) -> (String, bool) {
    let mut out = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        let digits = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>, radix, max: usize| {
            let mut digits = String::new();
            while digits.len() < max
                && let Some(c) = chars.next_if(|c: &char| c.is_digit(radix))
            {
                digits.push(c);
            }
            u32::from_str_radix(&digits, radix).ok().and_then(char::from_u32)
        };
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some('a') => out.push('\x07'),
            Some('b') => out.push('\x08'),
            Some('e') => out.push('\x1b'),
            Some('f') => out.push('\x0c'),
            Some('v') => out.push('\x0b'),
            Some('\\') => out.push('\\'),
            Some('c') => return (out, true),
            Some('x') => out.extend(digits(&mut chars, 16, 2)),
            Some('u') => out.extend(digits(&mut chars, 16, 4)),
            Some('0') => out.push(digits(&mut chars, 8, 3).unwrap_or('\0')),
            Some(c @ '1'..='7') => {
                let mut number = c.to_digit(8).unwrap_or(0);
                for _ in 0..2 {
                    if let Some(c) = chars.next_if(|c| c.is_digit(8)) {
                        number = number * 8 + c.to_digit(8).unwrap_or(0);
                    }
                }
                out.extend(char::from_u32(number & 0xff));
            }
            Some(c) => out.extend(['\\', c]),
            None => out.push('\\'),
        }
    }
    (out, false)
}

/// `printf FORMAT [ARGUMENT…]`: the format is used again while arguments are left.
pub(crate) fn printf(args: &[String]) -> Done {
    let skip = usize::from(args.get(1).is_some_and(|arg| arg == "--"));
    let Some(format) = args.get(1 + skip) else {
        return Err(usage("usage: printf FORMAT [ARGUMENT...]"));
    };
    let (format, _) = unescape(&format.replace("%%", "\u{0}"));
    let mut values = args[2 + skip..].iter();
    let mut text = String::new();
    let mut bad = None;
    loop {
        let before = values.len();
        let over = round(&format, &mut values, &mut text, &mut bad)?;
        if over || values.len() == 0 || values.len() == before {
            break;
        }
    }
    let mut out = out()?;
    out.write_all(text.replace('\u{0}', "%").as_bytes())?;
    out.flush()?;
    match bad {
        None => Ok(0),
        Some(text) => Err(Fault::new(format!("{text}: expected numeric value"))),
    }
}

/// Once through the format; true when `\c` in an argument ended the output.
fn round(
    format: &str,
    values: &mut std::slice::Iter<'_, String>,
    text: &mut String,
    bad: &mut Option<String>,
) -> Result<bool, Fault> {
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        let mut spec = Spec::default();
        while let Some(flag) = chars.next_if(|c| "-+ 0#".contains(*c)) {
            spec.flags.push(flag);
        }
        let amount = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
                      values: &mut std::slice::Iter<'_, String>| {
            if chars.next_if_eq(&'*').is_some() {
                return values.next().and_then(|v| v.parse::<i64>().ok()).unwrap_or(0);
            }
            let mut number = 0;
            while let Some(c) = chars.next_if(char::is_ascii_digit) {
                number = (number * 10 + i64::from(c.to_digit(10).unwrap_or(0))).min(65_536);
            }
            number
        };
        let width = amount(&mut chars, values);
        if width < 0 {
            spec.flags.push('-');
        }
        spec.width = width.unsigned_abs().min(65_536) as usize;
        if chars.next_if_eq(&'.').is_some() {
            spec.precision = Some(amount(&mut chars, values).clamp(0, 65_536) as usize);
        }
        while chars.next_if(|c| "lhjzt".contains(*c)).is_some() {}
        let Some(kind) = chars.next() else {
            return Err(Fault::new("the format ends in the middle of a conversion"));
        };
        let value = values.next().map_or("", String::as_str);
        if kind == 'b' {
            let (value, stop) = unescape(value);
            spec.pad(&value, text);
            if stop {
                return Ok(true);
            }
            continue;
        }
        spec.convert(kind, value, text, bad)?;
    }
    Ok(false)
}

#[derive(Default)]
struct Spec {
    flags: String,
    width: usize,
    precision: Option<usize>,
}

impl Spec {
    fn has(&self, flag: char) -> bool {
        self.flags.contains(flag)
    }

    fn pad(&self, value: &str, text: &mut String) {
        let fill = " ".repeat(self.width.saturating_sub(value.chars().count()));
        if self.has('-') {
            text.push_str(value);
            text.push_str(&fill);
        } else {
            text.push_str(&fill);
            text.push_str(value);
        }
    }

    fn convert(
        &self,
        kind: char,
        value: &str,
        text: &mut String,
        bad: &mut Option<String>,
    ) -> Result<(), Fault> {
        let mut integer = || {
            number(value).unwrap_or_else(|| {
                *bad = Some(value.to_owned());
                0
            })
        };
        match kind {
            's' => {
                let cut = self.precision.unwrap_or(usize::MAX);
                self.pad(&value.chars().take(cut).collect::<String>(), text);
            }
            'c' => self.pad(&value.chars().take(1).collect::<String>(), text),
            'd' | 'i' => {
                let n = integer();
                self.digits(n < 0, &n.unsigned_abs().to_string(), text);
            }
            'u' => self.digits(false, &(integer() as u64).to_string(), text),
            'x' => self.digits(false, &format!("{:x}", integer()), text),
            'X' => self.digits(false, &format!("{:X}", integer()), text),
            'o' => self.digits(false, &format!("{:o}", integer()), text),
            'f' | 'F' | 'e' | 'E' | 'g' | 'G' => {
                let n: f64 = if value.is_empty() { 0.0 } else { value.parse().unwrap_or(f64::NAN) };
                if n.is_nan() {
                    *bad = Some(value.to_owned());
                }
                let n = if n.is_nan() { 0.0 } else { n };
                let precision = self.precision.unwrap_or(6);
                let shown = match kind {
                    'e' | 'E' => format!("{:.precision$e}", n.abs()),
                    'g' | 'G' => format!("{}", n.abs()),
                    _ => format!("{:.precision$}", n.abs()),
                };
                self.digits(n < 0.0, &shown, text);
            }
            other => return Err(Fault::new(format!("%{other}: invalid directive"))),
        }
        Ok(())
    }

    /// A number with its sign, filled up with zeros or blanks.
    fn digits(&self, negative: bool, digits: &str, text: &mut String) {
        let sign = match (negative, self.has('+'), self.has(' ')) {
            (true, _, _) => "-",
            (false, true, _) => "+",
            (false, false, true) => " ",
            _ => "",
        };
        let fill = if self.has('0') && !self.has('-') {
            "0".repeat(self.width.saturating_sub(sign.len() + digits.len()))
        } else {
            let whole = !digits.contains('.');
            let least = self.precision.filter(|_| whole).unwrap_or(0);
            "0".repeat(least.saturating_sub(digits.len()))
        };
        self.pad(&format!("{sign}{fill}{digits}"), text);
    }
}

fn number(text: &str) -> Option<i64> {
    let mut chars = text.chars();
    if let Some(quote) = chars.next()
        && matches!(quote, '\'' | '"')
    {
        return chars.next().map(|c| i64::from(u32::from(c)));
    }
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if digits.is_empty() {
        return text.is_empty().then_some(0);
    }
    let value = match digits.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(hex, 16),
        None if digits.len() > 1 && digits.starts_with('0') => i64::from_str_radix(digits, 8),
        None => digits.parse(),
    };
    value.ok().map(|value| sign * value)
}

/// `yes [TEXT]`.
pub(crate) fn yes(args: &[String]) -> Done {
    let text = if args.len() > 1 { args[1..].join(" ") } else { "y".to_owned() };
    let block = format!("{text}\n").repeat((8192 / (text.len() + 1)).max(1));
    let mut out = out()?;
    loop {
        out.write_all(block.as_bytes())?;
    }
}
