//! Shell patterns: `*`, `?`, `[…]`, and a backslash before what means itself.
//!
//! Matching takes at most length × length steps: a star that matched is only lengthened.

/// Whether the whole text matches.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    matches_chars(&pattern, &text)
}

pub(crate) fn matches_chars(pattern: &[char], text: &[char]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        if p < pattern.len() && pattern[p] == '*' {
            star = Some((p + 1, t));
            p += 1;
            continue;
        }
        if t == text.len() && p == pattern.len() {
            return true;
        }
        if t < text.len()
            && p < pattern.len()
            && let Some(next) = one(pattern, p, text[t])
        {
            p = next;
            t += 1;
            continue;
        }
        match star {
            Some((after, from)) if from < text.len() => {
                star = Some((after, from + 1));
                p = after;
                t = from + 1;
            }
            _ => return false,
        }
    }
}

/// Where the pattern goes on when its next element matches this character.
fn one(pattern: &[char], p: usize, c: char) -> Option<usize> {
    match pattern[p] {
        '?' => Some(p + 1),
        '\\' if p + 1 < pattern.len() => (pattern[p + 1] == c).then_some(p + 2),
        '[' => match bracket(pattern, p, c) {
            Some((true, next)) => Some(next),
            Some((false, _)) => None,
            None => (c == '[').then_some(p + 1),
        },
        literal => (literal == c).then_some(p + 1),
    }
}

/// A bracket expression: whether it holds the character, and where it ends. `None` when unclosed.
pub(crate) fn bracket(pattern: &[char], start: usize, c: char) -> Option<(bool, usize)> {
    let mut i = start + 1;
    let negated = matches!(pattern.get(i), Some('!' | '^'));
    i += usize::from(negated);
    let first = i;
    let mut found = false;
    loop {
        let mut low = *pattern.get(i)?;
        if low == ']' && i > first {
            return Some((found != negated, i + 1));
        }
        if low == '[' && pattern.get(i + 1) == Some(&':') {
            let close = pattern[i + 2..].iter().position(|c| *c == ':')? + i + 2;
            if pattern.get(close + 1) == Some(&']') {
                let name: String = pattern[i + 2..close].iter().collect();
                found |= class(&name, c);
                i = close + 2;
                continue;
            }
        }
        if low == '\\' {
            i += 1;
            low = *pattern.get(i)?;
        }
        i += 1;
        if pattern.get(i) == Some(&'-') && pattern.get(i + 1).is_some_and(|c| *c != ']') {
            let high = pattern[i + 1];
            found |= (low..=high).contains(&c);
            i += 2;
        } else {
            found |= low == c;
        }
    }
}

/// The character classes of POSIX.
pub(crate) fn class(name: &str, c: char) -> bool {
    match name {
        "alpha" => c.is_alphabetic(),
        "digit" => c.is_ascii_digit(),
        "alnum" => c.is_alphanumeric(),
        "upper" => c.is_uppercase(),
        "lower" => c.is_lowercase(),
        "space" => c.is_whitespace(),
        "blank" => c == ' ' || c == '\t',
        "punct" => c.is_ascii_punctuation(),
        "print" => !c.is_control(),
        "graph" => !c.is_control() && c != ' ',
        "cntrl" => c.is_control(),
        "xdigit" => c.is_ascii_hexdigit(),
        _ => false,
    }
}

/// Whether the text holds an unescaped special character.
pub(crate) fn is_pattern(text: &str) -> bool {
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '*' | '?' | '[' => return true,
            '\\' => drop(chars.next()),
            _ => {}
        }
    }
    false
}

/// The paths that match, sorted; none when nothing does.
pub(crate) fn glob(pattern: &str) -> Vec<String> {
    let (mut found, rest) = match pattern.strip_prefix('/') {
        Some(rest) => (vec!["/".to_owned()], rest.trim_start_matches('/')),
        None => (vec![String::new()], pattern),
    };
    let parts: Vec<&str> = rest.split('/').collect();
    for (i, part) in parts.iter().enumerate() {
        let last = i + 1 == parts.len();
        let mut next = Vec::new();
        for base in found {
            step(&base, part, last, &mut next);
        }
        found = next;
    }
    found.sort_unstable();
    found
}

/// Goes one path element down.
fn step(base: &str, part: &str, last: bool, next: &mut Vec<String>) {
    let end = if last { "" } else { "/" };
    if !is_pattern(part) {
        let path = format!("{base}{}", unescape(part));
        if part.is_empty() || std::fs::symlink_metadata(&path).is_ok() {
            next.push(path + end);
        }
        return;
    }
    let folder = if base.is_empty() { "." } else { base };
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let hidden = part.starts_with('.');
    let pattern: Vec<char> = part.chars().collect();
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name.starts_with('.') && !hidden {
            continue;
        }
        let chars: Vec<char> = name.chars().collect();
        let path = format!("{base}{name}");
        if matches_chars(&pattern, &chars) && (last || std::path::Path::new(&path).is_dir()) {
            next.push(path + end);
        }
    }
}

fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    out
}
