//! `find [PATH…] [-name P] [-path P] [-type T] [-maxdepth N] [-mindepth N] [-newer F] [-size N]
//! [-delete] [-print0] [-exec COMMAND {} ;]`: tests joined by "and", `!` negates one.
use std::fs::{self, Metadata};
use std::io::Write;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::SystemTime;

use crate::common::{Done, Fault, about, complain, number, out, usage};
use crate::pattern;

enum Test {
    Name(String, bool),
    Path(String),
    Kind(char),
    Newer(SystemTime),
    /// Older than (+), younger than (-) or as old as so many units of so many seconds.
    Age(char, u64, u64),
    Size(char, u64, u64),
    Empty,
}

enum Action {
    Print(char),
    Delete,
    Exec(Vec<String>),
}

#[derive(Default)]
struct Find {
    tests: Vec<(bool, Test)>,
    actions: Vec<Action>,
    least: usize,
    most: usize,
}

pub(crate) fn main(args: &[String]) -> Done {
    let split = args[1..].iter().position(|arg| arg.starts_with('-') || arg == "!");
    let (paths, rest) = args[1..].split_at(split.unwrap_or(args.len() - 1));
    let mut find = Find { most: 256, ..Find::default() };
    find.parse(rest)?;
    if find.actions.is_empty() {
        find.actions.push(Action::Print('\n'));
    }
    let here = [".".to_owned()];
    let mut out = out()?;
    let mut status = 0;
    for path in if paths.is_empty() { &here[..] } else { paths } {
        status |= find.walk(Path::new(path), 0, &mut out)?;
    }
    out.flush()?;
    Ok(status)
}

impl Find {
    fn parse(&mut self, rest: &[String]) -> Result<(), Fault> {
        let mut rest = rest.iter();
        let mut negated = false;
        while let Some(word) = rest.next() {
            let mut value = || {
                rest.next().cloned().ok_or_else(|| usage(format!("{word} requires an argument")))
            };
            let test = match word.as_str() {
                "!" | "-not" => {
                    negated = !negated;
                    continue;
                }
                "-a" | "-xdev" | "-depth" => continue,
                "-maxdepth" => {
                    self.most = number::<usize>(&value()?)?.min(256);
                    continue;
                }
                "-mindepth" => {
                    self.least = number(&value()?)?;
                    continue;
                }
                "-print" | "-print0" | "-delete" | "-exec" => {
                    self.actions.push(match word.as_str() {
                        "-print" => Action::Print('\n'),
                        "-print0" => Action::Print('\0'),
                        "-delete" => Action::Delete,
                        _ => {
                            let end = |word: &&String| *word != ";" && *word != "+";
                            Action::Exec(rest.by_ref().take_while(end).cloned().collect())
                        }
                    });
                    continue;
                }
                "-name" => Test::Name(value()?, false),
                "-iname" => Test::Name(value()?.to_lowercase(), true),
                "-path" => Test::Path(value()?),
                "-type" => Test::Kind(value()?.chars().next().unwrap_or('f')),
                "-empty" => Test::Empty,
                "-newer" => {
                    let path = value()?;
                    Test::Newer(fs::metadata(&path).map_err(about(&path))?.modified()?)
                }
                "-mtime" | "-mmin" => {
                    let (sign, n, _) = amount(&value()?)?;
                    Test::Age(sign, n, if word == "-mtime" { 86_400 } else { 60 })
                }
                "-size" => {
                    let (sign, n, unit) = amount(&value()?)?;
                    Test::Size(sign, n, unit)
                }
                other => return Err(usage(format!("unrecognized: {other}"))),
            };
            self.tests.push((negated, test));
            negated = false;
        }
        Ok(())
    }

    fn walk(&self, path: &Path, depth: usize, out: &mut impl Write) -> Result<i32, Fault> {
        let shown = path.display().to_string();
        let meta = match fs::symlink_metadata(path) {
            Ok(meta) => meta,
            Err(e) => return Ok(complain("find", &shown, &e)),
        };
        let mut status = 0;
        let fits = depth >= self.least
            && self.tests.iter().all(|(negated, test)| test.holds(path, &meta) != *negated);
        let deletes = self.actions.iter().any(|a| matches!(a, Action::Delete));
        // What is deleted is looked into first.
        if fits && !deletes {
            status |= self.act(&shown, &meta, out)?;
        }
        if meta.is_dir() && depth < self.most {
            match fs::read_dir(path) {
                Ok(entries) => {
                    let mut below: Vec<_> = entries.flatten().map(|e| e.file_name()).collect();
                    below.sort_unstable();
                    for name in below {
                        status |= self.walk(&path.join(name), depth + 1, out)?;
                    }
                }
                Err(e) => status = complain("find", &shown, &e),
            }
        }
        if fits && deletes {
            status |= self.act(&shown, &meta, out)?;
        }
        Ok(status)
    }

    fn act(&self, path: &str, meta: &Metadata, out: &mut impl Write) -> Result<i32, Fault> {
        for action in &self.actions {
            match action {
                Action::Print(end) => write!(out, "{path}{end}")?,
                Action::Delete if path == "." => {}
                Action::Delete => {
                    let removed =
                        if meta.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) };
                    if let Err(e) = removed {
                        return Ok(complain("find", path, &e));
                    }
                }
                Action::Exec(words) => {
                    out.flush()?;
                    let words: Vec<String> = words.iter().map(|w| w.replace("{}", path)).collect();
                    if crate::process::run(&words)? != 0 {
                        return Ok(0);
                    }
                }
            }
        }
        Ok(0)
    }
}

impl Test {
    fn holds(&self, path: &Path, meta: &Metadata) -> bool {
        let name = || match path.file_name() {
            Some(name) => name.to_string_lossy().into_owned(),
            None => path.display().to_string(),
        };
        match self {
            Test::Name(wanted, false) => pattern::matches(wanted, &name()),
            Test::Name(wanted, true) => pattern::matches(wanted, &name().to_lowercase()),
            Test::Path(wanted) => pattern::matches(wanted, &path.display().to_string()),
            Test::Kind(letter) => match letter {
                'd' => meta.is_dir(),
                'l' => meta.is_symlink(),
                'p' => meta.file_type().is_fifo(),
                's' => meta.file_type().is_socket(),
                'c' => meta.file_type().is_char_device(),
                'b' => meta.file_type().is_block_device(),
                _ => meta.is_file(),
            },
            Test::Newer(time) => meta.modified().is_ok_and(|m| m > *time),
            Test::Age(sign, n, unit) => {
                let age = meta.modified().ok().and_then(|m| m.elapsed().ok());
                compare(*sign, age.unwrap_or_default().as_secs() / unit, *n)
            }
            Test::Size(sign, n, unit) => compare(*sign, meta.len().div_ceil(*unit), *n),
            Test::Empty if meta.is_dir() => {
                fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
            }
            Test::Empty => meta.len() == 0,
        }
    }
}

fn compare(sign: char, have: u64, want: u64) -> bool {
    match sign {
        '+' => have > want,
        '-' => have < want,
        _ => have == want,
    }
}

/// `+5k`: sign, number, unit in bytes.
fn amount(text: &str) -> Result<(char, u64, u64), Fault> {
    let sign = text.chars().next().filter(|c| "+-".contains(*c));
    let digits = text.trim_start_matches(['+', '-']);
    let unit = match digits.chars().last() {
        Some('c') => 1,
        Some('k') => 1 << 10,
        Some('M') => 1 << 20,
        Some('G') => 1 << 30,
        _ => 512,
    };
    let digits = digits.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    Ok((sign.unwrap_or('='), number(digits)?, unit))
}
