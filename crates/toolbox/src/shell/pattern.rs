//! Patterns of the shell (`*`, `?`, `[a-z]`), and the files that match them.
use std::path::Path;

/// A character and whether it was quoted, which takes any special meaning from it.
pub(super) type Char = (char, bool);

pub(super) fn is_pattern(text: &[Char]) -> bool {
    text.iter().any(|(c, quoted)| !quoted && "*?[".contains(*c))
}

/// Whether a text matches as a whole. Linear but for the last `*`, which is tried again from
/// further on.
pub(super) fn matches(pattern: &[Char], text: &[char]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut retry = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(('*', false)) => {
                p += 1;
                retry = Some((p, t));
                continue;
            }
            Some(one) => {
                let (hit, width) = matches_one(*one, &pattern[p..], text[t]);
                if hit {
                    p += width;
                    t += 1;
                    continue;
                }
            }
            None => {}
        }
        match retry {
            Some((after, from)) => {
                p = after;
                t = from + 1;
                retry = Some((after, t));
            }
            None => return false,
        }
    }
    pattern[p..].iter().all(|c| *c == ('*', false))
}

fn matches_one(first: Char, pattern: &[Char], c: char) -> (bool, usize) {
    match first {
        ('?', false) => (true, 1),
        ('[', false) => {
            let mut at = 1;
            let negated = matches!(pattern.get(at), Some(('!' | '^', false)));
            at += usize::from(negated);
            let start = at;
            let mut hit = false;
            while let Some((low, _)) = pattern.get(at).copied() {
                if low == ']' && at > start {
                    return (hit != negated, at + 1);
                }
                let range = matches!(pattern.get(at + 1), Some(('-', false)));
                match pattern.get(at + 2) {
                    Some((high, _)) if range && *high != ']' => {
                        hit |= low <= c && c <= *high;
                        at += 3;
                    }
                    _ => {
                        hit |= low == c;
                        at += 1;
                    }
                }
            }
            (c == '[', 1)
        }
        (literal, _) => (literal == c, 1),
    }
}

/// The paths that match, in order; empty when none does.
pub(super) fn files(pattern: &[Char]) -> Vec<String> {
    let mut found = vec![String::new()];
    let parts: Vec<&[Char]> = pattern.split(|(c, _)| *c == '/').collect();
    for (index, part) in parts.iter().enumerate() {
        let last = index + 1 == parts.len();
        let mut next = Vec::new();
        for base in &found {
            let literal: String = part.iter().map(|(c, _)| *c).collect();
            if !is_pattern(part) {
                let path = format!("{base}{literal}");
                if literal.is_empty() || Path::new(&path).symlink_metadata().is_ok() {
                    next.push(if last { path } else { format!("{path}/") });
                }
                continue;
            }
            let folder = if base.is_empty() { "." } else { base };
            let hidden = part.first().is_some_and(|(c, _)| *c == '.');
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let chars: Vec<char> = name.chars().collect();
                if (hidden || !name.starts_with('.')) && matches(part, &chars) {
                    let path = format!("{base}{name}");
                    if last {
                        next.push(path);
                    } else if Path::new(&path).is_dir() {
                        next.push(format!("{path}/"));
                    }
                }
            }
        }
        found = next;
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text, want) in [
            ("*", "", true),
            ("*", "abc", true),
            ("a*c", "abbc", true),
            ("a*c", "abcd", false),
            ("?", "", false),
            ("a?c", "abc", true),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("*.log", "a.log.log", true),
            ("a[", "a[", true),
            ("[]]", "]", true),
            ("*a*b*", "xaxbx", true),
        ] {
            let pattern: Vec<Char> = pattern.chars().map(|c| (c, false)).collect();
            let chars: Vec<char> = text.chars().collect();
            assert_eq!(matches(&pattern, &chars), want, "{pattern:?} {text}");
        }
        assert!(!matches(&[('*', true)], &['a']), "quoted");
        let long: Vec<Char> = "*a".repeat(30).chars().map(|c| (c, false)).collect();
        assert!(!matches(&long, &['a'; 20]));
    }
}
