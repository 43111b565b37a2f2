//! `grep`.
use std::io::Write;

use super::regex::Regex;
use crate::common::{Done, Fault, Options, complain, open, out, read_line, usage};

struct Grep {
    patterns: Vec<Regex>,
    options: Options,
    /// Stop after so many lines of a file.
    most: u64,
    named: bool,
}

/// `grep [-viqcnEFolLhHwxrs] [-m N] [-e PATTERN] PATTERN [FILE…]`: exit 0 when a line matched.
pub(crate) fn main(args: &[String]) -> Done {
    let long = [
        ("ignore-case", 'i'),
        ("invert-match", 'v'),
        ("quiet", 'q'),
        ("count", 'c'),
        ("line-number", 'n'),
        ("only-matching", 'o'),
        ("recursive", 'r'),
        ("color", 'K'),
    ];
    let options = Options::parse(args, "viqcnEFolLhHwxrsm:e:K", &long)?;
    let mut rest = options.rest.clone();
    let mut texts: Vec<String> = options.values('e').map(str::to_owned).collect();
    if texts.is_empty() {
        if rest.is_empty() {
            return Err(usage("usage: grep [-viqcnEFolLhHwxrs] [-m N] PATTERN [FILE...]"));
        }
        texts.push(rest.remove(0));
    }
    let mut patterns = Vec::new();
    for text in texts.iter().flat_map(|text| text.split('\n')) {
        let (fold, fixed) = (options.has('i'), options.has('F'));
        let regex = if fixed {
            Ok(Regex::fixed(text, fold))
        } else {
            Regex::new(text, options.has('E'), fold)
        };
        patterns.push(regex.map_err(|e| usage(format!("bad regex '{text}': {e}")))?);
    }
    let mut files = Vec::new();
    let recursive = options.has('r');
    if rest.is_empty() {
        rest.push(if recursive { "." } else { "-" }.to_owned());
    }
    for path in rest {
        if recursive && std::path::Path::new(&path).is_dir() {
            walk(&path, &mut files, 0);
        } else {
            files.push(path);
        }
    }
    let named = options.has('H') || (files.len() > 1 || recursive) && !options.has('h');
    let most = options.number('m')?.unwrap_or(u64::MAX);
    let quiet = options.has('s');
    let grep = Grep { patterns, options, most, named };
    let mut out = out()?;
    let (mut found, mut failed) = (false, false);
    for path in &files {
        match grep.file(path, &mut out) {
            Ok(matched) => found |= matched,
            Err(e) if e.silent() => return Err(e),
            Err(e) => {
                failed = true;
                if !quiet {
                    eprintln!("grep: {e}");
                }
            }
        }
        if found && grep.options.has('q') {
            return Ok(0);
        }
    }
    out.flush()?;
    Ok(if failed { 2 } else { i32::from(!found) })
}

fn walk(folder: &str, files: &mut Vec<String>, depth: usize) {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) => {
            complain("grep", folder, &e);
            return;
        }
    };
    let mut entries: Vec<_> = entries.flatten().collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path =
            format!("{}/{}", folder.trim_end_matches('/'), entry.file_name().to_string_lossy());
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && depth < 64 => walk(&path, files, depth + 1),
            Ok(kind) if kind.is_file() => files.push(path),
            _ => {}
        }
    }
}

impl Grep {
    fn file(&self, path: &str, out: &mut impl Write) -> Result<bool, Fault> {
        let mut reader = open(path)?;
        let shown = if path == "-" { "(standard input)" } else { path };
        let prefix = if self.named { format!("{shown}:") } else { String::new() };
        let silent = ['q', 'c', 'l', 'L'].iter().any(|c| self.options.has(*c));
        let (mut count, mut number) = (0, 0);
        let mut line = Vec::new();
        while count < self.most && read_line(&mut reader, &mut line)? {
            number += 1;
            let text: Vec<char> = String::from_utf8_lossy(&line).chars().collect();
            let matched = self.matches(&text);
            if matched.is_some() == self.options.has('v') {
                continue;
            }
            count += 1;
            if self.options.has('q') {
                return Ok(true);
            }
            if silent {
                continue;
            }
            let place = if self.options.has('n') { format!("{number}:") } else { String::new() };
            if !self.options.has('o') {
                write!(out, "{prefix}{place}")?;
                out.write_all(&line)?;
                writeln!(out)?;
                continue;
            }
            let mut from = 0;
            while let Some((start, end)) = self.first(&text, from) {
                if end > start {
                    let part: String = text[start..end].iter().collect();
                    writeln!(out, "{prefix}{place}{part}")?;
                }
                from = end.max(start + 1);
            }
        }
        if self.options.has('c') {
            writeln!(out, "{prefix}{count}")?;
        }
        if self.options.has('l') && count > 0 || self.options.has('L') && count == 0 {
            writeln!(out, "{shown}")?;
        }
        Ok(count > 0)
    }

    fn first(&self, text: &[char], from: usize) -> Option<(usize, usize)> {
        let found = self.patterns.iter().filter_map(|p| p.find(text, from));
        found.min_by_key(|(start, end)| (*start, usize::MAX - end))
    }

    fn matches(&self, text: &[char]) -> Option<(usize, usize)> {
        let word = |i: usize| text.get(i).is_some_and(|c| c.is_alphanumeric() || *c == '_');
        let mut from = 0;
        loop {
            let (start, end) = self.first(text, from)?;
            let whole = !self.options.has('x') || start == 0 && end == text.len();
            let alone = !self.options.has('w')
                || end > start && !(start > 0 && word(start - 1)) && !word(end);
            if whole && alone {
                return Some((start, end));
            }
            if start >= text.len() {
                return None;
            }
            from = start + 1;
        }
    }
}
