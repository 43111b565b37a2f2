//! `read`.
use super::super::{Flow, Shell};

/// `read [-r] [-p PROMPT] [NAME…]`: one line of standard input, split over the names.
pub(super) fn read(shell: &mut Shell, args: &[String]) -> Result<i32, Flow> {
    let mut raw = false;
    let mut names = Vec::new();
    let mut rest = args[1..].iter();
    while let Some(arg) = rest.next() {
        match arg.as_str() {
            "-r" => raw = true,
            "-p" => eprint!("{}", rest.next().map_or("", String::as_str)),
            name => names.push(name.to_owned()),
        }
    }
    let mut text: Vec<(char, bool)> = Vec::new();
    let mut complete;
    loop {
        let bytes = shell.read_line_unbuffered()?;
        let line = String::from_utf8_lossy(&bytes);
        complete = line.ends_with('\n');
        let mut chars = line.trim_end_matches('\n').chars();
        let mut joined = false;
        while let Some(c) = chars.next() {
            if c == '\\' && !raw {
                match chars.next() {
                    Some(c) => text.push((c, true)),
                    None => joined = complete,
                }
            } else {
                text.push((c, false));
            }
        }
        if !joined {
            break;
        }
    }
    if names.is_empty() {
        names.push("REPLY".to_owned());
    }
    let ifs = shell.get("IFS").unwrap_or_else(|| " \t\n".to_owned());
    for (name, value) in names.iter().zip(split(&text, &ifs, names.len())) {
        shell.set(name, value)?;
    }
    Ok(i32::from(!complete))
}

/// Splits into `count` values; the last takes the rest with its separators.
fn split(text: &[(char, bool)], ifs: &str, count: usize) -> Vec<String> {
    let blank = |(c, escaped): &(char, bool)| !escaped && c.is_whitespace() && ifs.contains(*c);
    let sign = |(c, escaped): &(char, bool)| !escaped && !c.is_whitespace() && ifs.contains(*c);
    let mut values = Vec::new();
    let mut at = text.iter().position(|c| !blank(c)).unwrap_or(text.len());
    while values.len() + 1 < count && at < text.len() {
        let end =
            text[at..].iter().position(|c| blank(c) || sign(c)).map_or(text.len(), |n| at + n);
        values.push(text[at..end].iter().map(|(c, _)| c).collect());
        at = end;
        let mut signs = 0;
        while at < text.len() && (blank(&text[at]) || signs == 0 && sign(&text[at])) {
            signs += usize::from(sign(&text[at]));
            at += 1;
        }
    }
    let end = text.iter().rposition(|c| !blank(c)).map_or(at, |n| (n + 1).max(at));
    let mut rest: &[(char, bool)] = &text[at.min(end)..end];
    // A single separator at the very end belongs to the last field.
    if let Some((last, before)) = rest.split_last()
        && sign(last)
        && !before.iter().any(sign)
    {
        rest = before;
    }
    values.push(rest.iter().map(|(c, _)| c).collect());
    values.resize(count, String::new());
    values
}
