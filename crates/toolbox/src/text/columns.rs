//! `cut`, `tr`, `sort`, `uniq`, `seq`.
use std::io::{Read, Write};

use crate::common::{Done, Fault, Options, each_line, number, open, out, read_line, usage};
use crate::pattern;

/// `cut -f LIST [-d C] [-s]`, `cut -c LIST`.
pub(crate) fn cut(args: &[String]) -> Done {
    let options = Options::parse(args, "f:c:b:d:s", &[("fields", 'f'), ("delimiter", 'd')])?;
    let by_field = options.value('f');
    let list = by_field.or(options.value('c')).or(options.value('b'));
    let list = ranges(list.ok_or_else(|| usage("usage: cut -f LIST [-d C] [-s] | -c LIST"))?)?;
    let wanted = |n: usize| list.iter().any(|(from, to)| (*from..=*to).contains(&n));
    let delimiter = options.value('d').and_then(|d| d.chars().next()).unwrap_or('\t');
    let mut out = out()?;
    each_line(&options.rest, |line| {
        let line = String::from_utf8_lossy(line);
        if by_field.is_none() {
            let chars = line.chars().enumerate().filter(|(i, _)| wanted(i + 1));
            writeln!(out, "{}", chars.map(|(_, c)| c).collect::<String>())?;
        } else if line.contains(delimiter) {
            let fields = line.split(delimiter).enumerate().filter(|(i, _)| wanted(i + 1));
            let fields: Vec<&str> = fields.map(|(_, field)| field).collect();
            writeln!(out, "{}", fields.join(&delimiter.to_string()))?;
        } else if !options.has('s') {
            writeln!(out, "{line}")?;
        }
        Ok(true)
    })?;
    out.flush()?;
    Ok(0)
}

/// `1,3-5,7-`.
fn ranges(text: &str) -> Result<Vec<(usize, usize)>, Fault> {
    let bound = |text: &str, default| if text.is_empty() { Ok(default) } else { number(text) };
    let one = |part: &str| match part.split_once('-') {
        Some((from, to)) => Ok((bound(from, 1)?, bound(to, usize::MAX)?)),
        None => number(part).map(|n| (n, n)),
    };
    text.split(',').map(one).collect()
}

/// `tr [-cds] SET1 [SET2]`.
pub(crate) fn tr(args: &[String]) -> Done {
    let options = Options::parse(args, "+cCds", &[])?;
    let (first, second) = match options.rest.as_slice() {
        [first] => (set(first), Vec::new()),
        [first, second] => (set(first), set(second)),
        _ => return Err(usage("usage: tr [-cds] SET1 [SET2]")),
    };
    let complement = options.has('c') || options.has('C');
    let (delete, squeeze) = (options.has('d'), options.has('s'));
    let place = |c: char| match (first.iter().position(|f| *f == c), complement) {
        (found, false) => found,
        (Some(_), true) => None,
        (None, true) => Some(usize::MAX),
    };
    let squeezed = if second.is_empty() { None } else { Some(&second) };
    let mut out = out()?;
    let mut last = None;
    let mut write = |text: &str| -> Result<(), Fault> {
        let mut done = String::with_capacity(text.len());
        for c in text.chars() {
            let found = place(c);
            if delete && found.is_some() {
                continue;
            }
            let new = match found {
                Some(i) if !delete && !second.is_empty() => second[i.min(second.len() - 1)],
                _ => c,
            };
            let repeats = match squeezed {
                Some(set) => set.contains(&new),
                None => found.is_some(),
            };
            if squeeze && repeats && last == Some(new) {
                continue;
            }
            last = Some(new);
            done.push(new);
        }
        out.write_all(done.as_bytes())?;
        Ok(out.flush()?)
    };
    // Characters that are cut by a block's end wait for the next one.
    let mut input = crate::common::stdin()?;
    let mut pending = Vec::new();
    let mut block = [0; 8192];
    loop {
        let n = input.read(&mut block)?;
        pending.extend_from_slice(&block[..n]);
        let end = match std::str::from_utf8(&pending) {
            Err(e) if n > 0 && e.error_len().is_none() => e.valid_up_to(),
            _ => pending.len(),
        };
        write(&String::from_utf8_lossy(&pending[..end]))?;
        pending.drain(..end);
        if n == 0 {
            return Ok(0);
        }
    }
}

/// The characters of a set: ranges, classes, escapes.
fn set(text: &str) -> Vec<char> {
    let mut chars = Vec::new();
    let mut rest = text;
    while let Some(class) = rest.find("[:") {
        let Some(end) = rest[class..].find(":]") else { break };
        chars.extend(plain(&rest[..class]));
        let name = &rest[class + 2..class + end];
        chars.extend((0..=127u8).map(char::from).filter(|c| pattern::class(name, *c)));
        rest = &rest[class + end + 2..];
    }
    chars.extend(plain(rest));
    chars
}

fn plain(text: &str) -> Vec<char> {
    let text: Vec<char> = super::echo::unescape(text).0.chars().collect();
    let mut chars = Vec::new();
    let mut i = 0;
    while i < text.len() {
        if i + 2 < text.len() && text[i + 1] == '-' && text[i] <= text[i + 2] {
            chars.extend(text[i]..=text[i + 2]);
            i += 3;
        } else {
            chars.push(text[i]);
            i += 1;
        }
    }
    chars
}

/// `sort [-nruh] [-t C] [-k FIELD[,FIELD]] [FILE…]`.
pub(crate) fn sort(args: &[String]) -> Done {
    let options = Options::parse(args, "nrufhVbst:k:o:", &[("reverse", 'r'), ("unique", 'u')])?;
    let mut lines: Vec<String> = Vec::new();
    each_line(&options.rest, |line| {
        lines.push(String::from_utf8_lossy(line).into_owned());
        Ok(true)
    })?;
    let separator = options.value('t').and_then(|t| t.chars().next());
    let mut keys = Vec::new();
    for text in options.values('k') {
        keys.push(Key::parse(text)?);
    }
    let numeric = options.has('n') || options.has('h');
    let fold = options.has('f');
    let reverse = options.has('r');
    let compare = |a: &String, b: &String| {
        let mut order = std::cmp::Ordering::Equal;
        for key in &keys {
            let (a, b) = (key.of(a, separator), key.of(b, separator));
            let by_key = by(&a, &b, numeric || key.numeric, fold);
            let flip = key.reverse || reverse;
            order = order.then(if flip { by_key.reverse() } else { by_key });
        }
        if keys.is_empty() {
            let all = by(a, b, numeric, fold);
            order = if reverse { all.reverse() } else { all };
        }
        order
    };
    let whole = |a: &String, b: &String| if reverse { b.cmp(a) } else { a.cmp(b) };
    if options.has('u') {
        lines.sort_by(compare);
        lines.dedup_by(|a, b| compare(a, b).is_eq());
    } else if options.has('s') {
        lines.sort_by(compare);
    } else {
        lines.sort_by(|a, b| compare(a, b).then_with(|| whole(a, b)));
    }
    let text: String = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
    if let Some(path) = options.value('o') {
        std::fs::write(path, text).map_err(crate::common::about(path))?;
        return Ok(0);
    }
    let mut out = out()?;
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(0)
}

struct Key {
    from: usize,
    to: usize,
    numeric: bool,
    reverse: bool,
}

impl Key {
    fn parse(text: &str) -> Result<Key, Fault> {
        let flags: String = text.chars().filter(char::is_ascii_alphabetic).collect();
        let digits: String = text.chars().filter(|c| !c.is_ascii_alphabetic()).collect();
        let (from, to) =
            digits.split_once(',').map_or((digits.as_str(), None), |(a, b)| (a, Some(b)));
        let field = |text: &str| number::<usize>(text.split('.').next().unwrap_or_default());
        Ok(Key {
            from: field(from)?.max(1),
            to: to.map(field).transpose()?.unwrap_or(usize::MAX),
            numeric: flags.contains('n') || flags.contains('h'),
            reverse: flags.contains('r'),
        })
    }

    fn of(&self, line: &str, separator: Option<char>) -> String {
        let fields: Vec<&str> = match separator {
            Some(c) => line.split(c).collect(),
            None => line.split_whitespace().collect(),
        };
        let end = self.to.min(fields.len());
        fields.get(self.from - 1..end).map_or_else(String::new, |f| f.join(" "))
    }
}

fn by(a: &str, b: &str, numeric: bool, fold: bool) -> std::cmp::Ordering {
    if numeric {
        return leading_number(a).total_cmp(&leading_number(b));
    }
    if fold { a.to_lowercase().cmp(&b.to_lowercase()) } else { a.cmp(b) }
}

/// The number a text starts with, with `K`, `M`, `G` or `T` after it.
fn leading_number(text: &str) -> f64 {
    let text = text.trim_start();
    let end = text
        .char_indices()
        .find(|(i, c)| !(c.is_ascii_digit() || *c == '.' || *i == 0 && *c == '-'))
        .map_or(text.len(), |(i, _)| i);
    let value: f64 = text[..end].parse().unwrap_or(0.0);
    let power = text[end..].chars().next().and_then(|c| "KMGT".find(c.to_ascii_uppercase()));
    power.map_or(value, |p| value * 1024f64.powi(p as i32 + 1))
}

/// `uniq [-cdu] [FILE]`.
pub(crate) fn uniq(args: &[String]) -> Done {
    let options = Options::parse(args, "cdui", &[("count", 'c'), ("repeated", 'd')])?;
    let mut reader = open(options.rest.first().map_or("-", String::as_str))?;
    let mut out = out()?;
    let fold = |line: &[u8]| {
        if options.has('i') { line.to_ascii_lowercase() } else { line.to_vec() }
    };
    let mut show = |line: &[u8], count: u64| -> std::io::Result<()> {
        if options.has('d') && count < 2 || options.has('u') && count > 1 {
            return Ok(());
        }
        if options.has('c') {
            write!(out, "{count:>7} ")?;
        }
        out.write_all(line)?;
        out.write_all(b"\n")
    };
    let mut last: Option<(Vec<u8>, u64)> = None;
    let mut line = Vec::new();
    while read_line(&mut reader, &mut line)? {
        match &mut last {
            Some((same, count)) if fold(same) == fold(&line) => *count += 1,
            other => {
                if let Some((line, count)) = other.take() {
                    show(&line, count)?;
                }
                *other = Some((line.clone(), 1));
            }
        }
    }
    if let Some((line, count)) = last {
        show(&line, count)?;
    }
    out.flush()?;
    Ok(0)
}

/// `seq [-s SEPARATOR] [-w] [FIRST [STEP]] LAST`.
pub(crate) fn seq(args: &[String]) -> Done {
    let (mut separator, mut wide) = ("\n".to_owned(), false);
    let mut numbers = Vec::new();
    let mut rest = args[1..].iter();
    while let Some(arg) = rest.next() {
        match arg.as_str() {
            "-w" => wide = true,
            "-s" => separator = rest.next().cloned().unwrap_or_default(),
            text => numbers.push(number::<i64>(text)?),
        }
    }
    let (first, step, last) = match numbers.as_slice() {
        [last] => (1, 1, *last),
        [first, last] => (*first, 1, *last),
        [first, step, last] if *step != 0 => (*first, *step, *last),
        _ => return Err(usage("usage: seq [-w] [-s SEPARATOR] [FIRST [STEP]] LAST")),
    };
    let width = if wide { first.to_string().len().max(last.to_string().len()) } else { 0 };
    let mut out = out()?;
    let mut n = first;
    while if step > 0 { n <= last } else { n >= last } {
        let end = if n == first { "" } else { separator.as_str() };
        write!(out, "{end}{n:0width$}")?;
        let Some(next) = n.checked_add(step) else { break };
        n = next;
    }
    if if step > 0 { first <= last } else { first >= last } {
        writeln!(out)?;
    }
    out.flush()?;
    Ok(0)
}
