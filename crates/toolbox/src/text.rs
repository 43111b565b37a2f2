//! Tools for text, times and conditions.
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::{Options, Outcome, at};

pub(crate) fn echo(args: &[String]) -> Outcome {
    let mut args = args;
    let (mut newline, mut escapes) = (true, false);
    while let Some((first, rest)) = args.split_first() {
        match first.as_str() {
            "-n" => newline = false,
            "-e" => escapes = true,
            "-ne" | "-en" => (newline, escapes) = (false, true),
            _ => break,
        }
        args = rest;
    }
    let text = args.join(" ");
    let mut out = io::stdout().lock();
    let bytes = if escapes { unescape(&text) } else { text.into_bytes() };
    out.write_all(&bytes).map_err(at("output"))?;
    if newline {
        out.write_all(b"\n").map_err(at("output"))?;
    }
    out.flush().map_err(at("output"))?;
    Ok(0)
}

fn unescape(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let next = bytes.get(at + 1).copied();
        if bytes[at] != b'\\' || next.is_none() {
            out.push(bytes[at]);
            at += 1;
            continue;
        }
        at += 2;
        match next.unwrap_or_default() {
            b'n' => out.push(b'\n'),
            b't' => out.push(b'\t'),
            b'r' => out.push(b'\r'),
            b'a' => out.push(7),
            b'e' => out.push(27),
            b'\\' => out.push(b'\\'),
            b'0'..=b'7' => {
                at -= 1;
                let digits = bytes[at..].iter().take(4).take_while(|b| (b'0'..=b'7').contains(b));
                let (mut value, mut count) = (0_u32, 0);
                digits.for_each(|b| (value, count) = (value * 8 + u32::from(b - b'0'), count + 1));
                out.push(value as u8);
                at += count;
            }
            b'x' => {
                let hex = text.get(at..at + 2).and_then(|h| u8::from_str_radix(h, 16).ok());
                out.extend(hex);
                at += if hex.is_some() { 2 } else { 0 };
            }
            other => out.extend([b'\\', other]),
        }
    }
    out
}

pub(crate) fn printf(args: &[String]) -> Outcome {
    let (format, args) = args.split_first().ok_or("missing format")?;
    let mut args = args.iter();
    let mut out = Vec::new();
    loop {
        let before = args.len();
        let mut chars = format.chars().peekable();
        let mut plain = String::new();
        while let Some(c) = chars.next() {
            if c != '%' {
                plain.push(c);
                continue;
            }
            out.extend(unescape(&std::mem::take(&mut plain)));
            let mut spec = String::new();
            while let Some(c) = chars.next_if(|c| "-+ 0123456789.".contains(*c)) {
                spec.push(c);
            }
            match chars.next() {
                Some('%') => out.push(b'%'),
                Some(kind @ ('s' | 'd' | 'i' | 'u' | 'x' | 'o' | 'c' | 'b')) => {
                    let value = args.next().map_or("", String::as_str);
                    out.extend(directive(kind, &spec, value)?);
                }
                other => return Err(format!("unknown directive %{}", other.unwrap_or(' '))),
            }
        }
        out.extend(unescape(&plain));
        // The format is used again for what is left.
        if args.len() == 0 || args.len() == before {
            break;
        }
    }
    io::stdout().write_all(&out).map_err(at("output"))?;
    Ok(0)
}

fn directive(kind: char, spec: &str, value: &str) -> Result<Vec<u8>, String> {
    let number = || match value {
        "" => Ok(0),
        _ => value.parse::<i64>().map_err(|_| format!("{value:?} is no number")),
    };
    let text = match kind {
        's' => value.as_bytes().to_vec(),
        'b' => unescape(value),
        'c' => value.chars().take(1).collect::<String>().into_bytes(),
        'x' => format!("{:x}", number()?).into_bytes(),
        'o' => format!("{:o}", number()?).into_bytes(),
        _ => number()?.to_string().into_bytes(),
    };
    let width = spec.trim_start_matches(['-', '+', ' ', '0']).split('.').next().unwrap_or("");
    // A width is there to line things up, not to fill memory.
    let width = width.parse::<usize>().unwrap_or(0).min(4096);
    let padding = width.saturating_sub(text.len());
    let fill = if spec.starts_with('0') && kind != 's' { b'0' } else { b' ' };
    Ok(if spec.starts_with('-') {
        [text, vec![b' '; padding]].concat()
    } else {
        [vec![fill; padding], text].concat()
    })
}

fn open(path: &str) -> Result<Box<dyn BufRead>, String> {
    Ok(match path {
        "-" => Box::new(io::stdin().lock()),
        _ => Box::new(BufReader::new(File::open(path).map_err(at(path))?)),
    })
}

/// `-5` is short for `-n 5`.
fn old_style(args: &[String]) -> Vec<String> {
    let mut out = Vec::new();
    for arg in args {
        match arg.strip_prefix('-').filter(|n| n.parse::<u64>().is_ok()) {
            Some(n) => out.extend(["-n".to_owned(), n.to_owned()]),
            None => out.push(arg.clone()),
        }
    }
    out
}

fn count(options: &Options, letter: char, default: u64) -> Result<u64, String> {
    let Some(text) = options.value(letter) else { return Ok(default) };
    text.parse().map_err(|_| format!("{text:?} is no number"))
}

fn or_stdin(mut options: Options) -> Options {
    if options.rest.is_empty() {
        options.rest.push("-".to_owned());
    }
    options
}

pub(crate) fn head(args: &[String]) -> Outcome {
    let options = or_stdin(Options::parse(&old_style(args), "n:c:")?);
    let lines = count(&options, 'n', 10)?;
    options.each("head", |path| {
        let mut input = open(path)?;
        let mut out = io::stdout().lock();
        if options.has('c') {
            let bytes = count(&options, 'c', 0)?;
            return io::copy(&mut input.take(bytes), &mut out).map_err(at(path)).map(drop);
        }
        let mut line = Vec::new();
        for _ in 0..lines {
            line.clear();
            if input.read_until(b'\n', &mut line).map_err(at(path))? == 0 {
                break;
            }
            out.write_all(&line).map_err(at("output"))?;
        }
        Ok(())
    })
}

pub(crate) fn tail(args: &[String]) -> Outcome {
    let options = or_stdin(Options::parse(&old_style(args), "n:")?);
    let lines = usize::try_from(count(&options, 'n', 10)?).unwrap_or(usize::MAX);
    options.each("tail", |path| {
        let mut input = open(path)?;
        let mut kept = std::collections::VecDeque::new();
        loop {
            let mut line = Vec::new();
            if input.read_until(b'\n', &mut line).map_err(at(path))? == 0 {
                break;
            }
            kept.push_back(line);
            if kept.len() > lines {
                kept.pop_front();
            }
        }
        let mut out = io::stdout().lock();
        kept.iter().try_for_each(|l| out.write_all(l)).map_err(at("output"))
    })
}

pub(crate) fn wc(args: &[String]) -> Outcome {
    let options = or_stdin(Options::parse(args, "lwc")?);
    options.each("wc", |path| {
        let mut bytes = Vec::new();
        open(path)?.read_to_end(&mut bytes).map_err(at(path))?;
        let words = bytes.split(u8::is_ascii_whitespace).filter(|w| !w.is_empty()).count();
        let lines = bytes.iter().filter(|b| **b == b'\n').count();
        let all = [('l', lines), ('w', words), ('c', bytes.len())];
        let shown = all.iter().filter(|(l, _)| options.set.is_empty() || options.has(*l));
        let shown: Vec<_> = shown.map(|(_, n)| n.to_string()).collect();
        let name = if path == "-" { String::new() } else { format!(" {path}") };
        println!("{}{name}", shown.join(" "));
        Ok(())
    })
}

pub(crate) fn tee(args: &[String]) -> Outcome {
    let options = Options::parse(args, "a")?;
    let mut files = Vec::new();
    for path in &options.rest {
        let append = options.has('a');
        let file =
            File::options().create(true).write(true).append(append).truncate(!append).open(path);
        files.push(file.map_err(at(path))?);
    }
    let mut buffer = [0; 8192];
    loop {
        let n = io::stdin().read(&mut buffer).map_err(at("input"))?;
        if n == 0 {
            return Ok(0);
        }
        let mut out = io::stdout();
        out.write_all(&buffer[..n]).and_then(|()| out.flush()).map_err(at("output"))?;
        files.iter_mut().try_for_each(|f| f.write_all(&buffer[..n])).map_err(at("output"))?;
    }
}

pub(crate) fn seq(args: &[String]) -> Outcome {
    let parse = |t: &String| t.parse::<i64>().map_err(|_| format!("{t:?} is no number"));
    let numbers = args.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    let (first, step, last) = match numbers[..] {
        [last] => (1, 1, last),
        [first, last] => (first, 1, last),
        [first, step, last] if step != 0 => (first, step, last),
        _ => return Err("usage: seq [FIRST [STEP]] LAST".to_owned()),
    };
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut at_number = first;
    while if step > 0 { at_number <= last } else { at_number >= last } {
        writeln!(out, "{at_number}").map_err(at("output"))?;
        let Some(next) = at_number.checked_add(step) else { break };
        at_number = next;
    }
    out.flush().map_err(at("output"))?;
    Ok(0)
}

pub(crate) fn date(args: &[String]) -> Outcome {
    let mut format = "%a %b %e %H:%M:%S UTC %Y";
    for arg in args {
        match arg.as_str() {
            "-u" => {}
            "-Iseconds" | "--iso-8601=seconds" => format = "%Y-%m-%dT%H:%M:%S+00:00",
            "-I" => format = "%Y-%m-%d",
            other => {
                format =
                    other.strip_prefix('+').ok_or_else(|| format!("unknown argument {arg:?}"))?;
            }
        }
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let format = format.replace("%N", &format!("{:09}", now.subsec_nanos()));
    println!("{}", time_text(i64::try_from(now.as_secs()).unwrap_or(i64::MAX), &format));
    Ok(0)
}

/// A time by a format of `date`, in UTC.
pub(crate) fn time_text(seconds: i64, format: &str) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    let weekday = DAYS[days.rem_euclid(7) as usize];
    let month_name = MONTHS[(month - 1) as usize];
    let mut text = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        let directive = if c == '%' { chars.next() } else { None };
        match directive {
            None => text.push(c),
            Some('Y') => text.push_str(&format!("{year:04}")),
            Some('m') => text.push_str(&format!("{month:02}")),
            Some('d') => text.push_str(&format!("{day:02}")),
            Some('e') => text.push_str(&format!("{day:2}")),
            Some('H') => text.push_str(&format!("{hour:02}")),
            Some('M') => text.push_str(&format!("{minute:02}")),
            Some('S') => text.push_str(&format!("{:02}", second % 60)),
            Some('F') => text.push_str(&format!("{year:04}-{month:02}-{day:02}")),
            Some('T') => text.push_str(&format!("{hour:02}:{minute:02}:{:02}", second % 60)),
            Some('a') => text.push_str(weekday),
            Some('b') => text.push_str(month_name),
            Some('Z') => text.push_str("UTC"),
            Some('z') => text.push_str("+0000"),
            Some('s') => text.push_str(&seconds.to_string()),
            Some('n') => text.push('\n'),
            Some(other) => text.push(other),
        }
    }
    text
}

/// Year, month and day of a count of days since 1970, by counting years from March.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let years = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * years + years / 4 - years / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (years + era * 400 + i64::from(month <= 2), month, day)
}

pub(crate) fn bracket(args: &[String]) -> Outcome {
    match args.split_last() {
        Some((last, rest)) if last == "]" => test(rest),
        _ => Ok(report("missing ]")),
    }
}

pub(crate) fn test(args: &[String]) -> Outcome {
    let mut words = args;
    match or(&mut words) {
        Ok(_) if !words.is_empty() => Ok(report(&format!("unexpected {:?}", words[0]))),
        Ok(true) => Ok(0),
        Ok(false) => Ok(1),
        Err(message) => Ok(report(&message)),
    }
}

/// A condition that cannot be understood is neither true nor false.
fn report(message: &str) -> i32 {
    eprintln!("test: {message}");
    2
}

fn take<'a>(words: &mut &'a [String]) -> Option<&'a str> {
    let (first, rest) = words.split_first()?;
    *words = rest;
    Some(first)
}

fn or(words: &mut &[String]) -> Result<bool, String> {
    let mut value = and(words)?;
    while words.first().is_some_and(|w| w == "-o") {
        take(words);
        value |= and(words)?;
    }
    Ok(value)
}

fn and(words: &mut &[String]) -> Result<bool, String> {
    let mut value = not(words)?;
    while words.first().is_some_and(|w| w == "-a") {
        take(words);
        value &= not(words)?;
    }
    Ok(value)
}

fn not(words: &mut &[String]) -> Result<bool, String> {
    let binary = words.get(1).is_some_and(|w| is_comparison(w)) && words.len() >= 3;
    match words.first().map(String::as_str) {
        None => Ok(false),
        Some("!") if words.len() > 1 && !binary => {
            take(words);
            not(words).map(|v| !v)
        }
        Some("(") if words.len() > 2 && !binary => {
            take(words);
            let value = or(words)?;
            if take(words) == Some(")") { Ok(value) } else { Err("missing )".to_owned()) }
        }
        Some(_) if binary => {
            let (left, op, right) = (take(words), take(words), take(words));
            compare(left.unwrap_or(""), op.unwrap_or(""), right.unwrap_or(""))
        }
        Some(op) if op.len() == 2 && op.starts_with('-') && words.len() > 1 => {
            let op = take(words).unwrap_or("");
            unary(op, take(words).unwrap_or(""))
        }
        Some(_) => Ok(!take(words).unwrap_or("").is_empty()),
    }
}

fn is_comparison(word: &str) -> bool {
    ["=", "==", "!=", "<", ">", "-eq", "-ne", "-lt", "-le", "-gt", "-ge", "-nt", "-ot"]
        .contains(&word)
}

fn compare(left: &str, op: &str, right: &str) -> Result<bool, String> {
    let number = |t: &str| t.trim().parse::<i64>().map_err(|_| format!("{t:?} is no number"));
    let time = |p: &str| fs::metadata(p).and_then(|m| m.modified()).ok();
    Ok(match op {
        "=" | "==" => left == right,
        "!=" => left != right,
        "<" => left < right,
        ">" => left > right,
        "-eq" => number(left)? == number(right)?,
        "-ne" => number(left)? != number(right)?,
        "-lt" => number(left)? < number(right)?,
        "-le" => number(left)? <= number(right)?,
        "-gt" => number(left)? > number(right)?,
        "-ge" => number(left)? >= number(right)?,
        "-nt" => time(left) > time(right),
        _ => time(left) < time(right),
    })
}

fn unary(op: &str, value: &str) -> Result<bool, String> {
    use nix::unistd::{AccessFlags, access};
    use std::os::unix::fs::{FileTypeExt, PermissionsExt};
    let meta = || fs::metadata(value).ok();
    let kind = |is: fn(&fs::FileType) -> bool| meta().is_some_and(|m| is(&m.file_type()));
    Ok(match op {
        "-n" => !value.is_empty(),
        "-z" => value.is_empty(),
        "-e" => meta().is_some(),
        "-f" => kind(fs::FileType::is_file),
        "-d" => kind(fs::FileType::is_dir),
        "-p" => kind(FileTypeExt::is_fifo),
        "-S" => kind(FileTypeExt::is_socket),
        "-b" => kind(FileTypeExt::is_block_device),
        "-c" => kind(FileTypeExt::is_char_device),
        "-L" | "-h" => fs::symlink_metadata(value).is_ok_and(|m| m.is_symlink()),
        "-s" => meta().is_some_and(|m| m.len() > 0),
        "-u" => meta().is_some_and(|m| m.permissions().mode() & 0o4000 != 0),
        "-r" => access(value, AccessFlags::R_OK).is_ok(),
        "-w" => access(value, AccessFlags::W_OK).is_ok(),
        "-x" => access(value, AccessFlags::X_OK).is_ok(),
        "-t" => match value {
            "0" => io::IsTerminal::is_terminal(&io::stdin()),
            "1" => io::IsTerminal::is_terminal(&io::stdout()),
            _ => io::IsTerminal::is_terminal(&io::stderr()),
        },
        _ => return Err(format!("unknown condition {op:?}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(|w| w.replace('_', "")).collect()
    }

    #[test]
    fn conditions() {
        for (text, want) in [
            ("a = a", 0),
            ("a != a", 1),
            ("2 -lt 10", 0),
            ("! 2 -lt 10", 1),
            ("-n _", 1),
            ("-z _", 0),
            ("-d /", 0),
            ("-f /", 1),
            ("x", 0),
            ("_", 1),
            ("( a = b ) -o 1 -eq 1", 0),
            ("a = a -a a = b", 1),
            ("x -eq 1", 2),
            ("-q x", 2),
            ("! -e /no/such", 0),
            ("-n = -n", 0),
        ] {
            assert_eq!(test(&words(text)), Ok(want), "{text}");
        }
        assert_eq!(test(&[]), Ok(1));
        assert_eq!(bracket(&words("a = a ]")), Ok(0));
        assert_eq!(bracket(&words("a = a")), Ok(2));
    }

    #[test]
    fn formats() {
        assert_eq!(
            time_text(951_827_696, "%F %T %a %b %e %s"),
            "2000-02-29 12:34:56 Tue Feb 29 951827696"
        );
        assert_eq!(time_text(0, "%a%%"), "Thu%");
        assert_eq!(unescape("a\\tb\\n\\0101\\x41\\q\\"), b"a\tb\nAA\\q\\");
        assert_eq!(directive('d', "05", "42"), Ok(b"00042".to_vec()));
        assert_eq!(directive('s', "-4", "ab"), Ok(b"ab  ".to_vec()));
        assert!(directive('d', "", "x").is_err());
    }
}
