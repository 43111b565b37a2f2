//! What every tool needs: faults, options, buffered output.
use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::os::fd::AsFd;

/// What a tool returns: its exit code, or what went wrong.
pub(crate) type Done = Result<i32, Fault>;

/// A tool's failure, in one line.
#[derive(Debug)]
pub(crate) struct Fault {
    message: String,
    code: i32,
    silent: bool,
}

impl Fault {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Fault { message: message.into(), code: 1, silent: false }
    }

    pub(crate) fn with_code(mut self, code: i32) -> Self {
        self.code = code;
        self
    }

    pub(crate) fn code(&self) -> i32 {
        self.code
    }

    /// Whether nobody is left to be told: the reader of the output went away.
    pub(crate) fn silent(&self) -> bool {
        self.silent
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        let silent = error.kind() == io::ErrorKind::BrokenPipe;
        Fault { message: reason(&error), code: 1, silent }
    }
}

impl From<nix::errno::Errno> for Fault {
    fn from(error: nix::errno::Errno) -> Self {
        io::Error::from(error).into()
    }
}

impl From<String> for Fault {
    fn from(message: String) -> Self {
        Fault::new(message)
    }
}

impl From<&str> for Fault {
    fn from(message: &str) -> Self {
        Fault::new(message)
    }
}

/// An error as C programs word it, without Rust's "(os error N)".
pub(crate) fn reason(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(code) => nix::errno::Errno::from_raw(code).desc().to_owned(),
        None => error.to_string(),
    }
}

/// Names what an error is about.
pub(crate) fn about<'a>(what: &'a str) -> impl Fn(io::Error) -> Fault + 'a {
    move |error| Fault::new(format!("{what}: {}", reason(&error)))
}

/// Tells of one failed item of several: the others go on. Returns the exit code for that.
pub(crate) fn complain(tool: &str, what: &str, error: &io::Error) -> i32 {
    eprintln!("{tool}: {what}: {}", reason(error));
    1
}

/// Standard output, buffered. Flush it before the tool returns.
pub(crate) fn out() -> io::Result<BufWriter<File>> {
    let fd = io::stdout().as_fd().try_clone_to_owned()?;
    Ok(BufWriter::new(File::from(fd)))
}

/// Standard input as an unbuffered file.
pub(crate) fn stdin() -> io::Result<File> {
    Ok(File::from(io::stdin().as_fd().try_clone_to_owned()?))
}

/// Opens a file for reading; `-` is standard input.
pub(crate) fn open(path: &str) -> Result<BufReader<File>, Fault> {
    let file = if path == "-" { stdin() } else { File::open(path) };
    Ok(BufReader::with_capacity(64 << 10, file.map_err(about(path))?))
}

/// Calls `each` with every line without its end, of the named files or of standard input.
pub(crate) fn each_line(
    paths: &[String],
    mut each: impl FnMut(&[u8]) -> Result<bool, Fault>,
) -> Result<(), Fault> {
    let stdin = ["-".to_owned()];
    for path in if paths.is_empty() { &stdin[..] } else { paths } {
        let mut reader = open(path)?;
        let mut line = Vec::new();
        while read_line(&mut reader, &mut line).map_err(about(path))? {
            if !each(&line)? {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Reads one line without its end; false at the end of the file.
pub(crate) fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    if reader.read_until(b'\n', line)? == 0 {
        return Ok(false);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    Ok(true)
}

/// Copies until the end, handing on what arrives at once.
pub(crate) fn pump(from: &mut impl io::Read, to: &mut impl Write) -> io::Result<u64> {
    let mut buffer = vec![0; 64 << 10];
    let mut total = 0;
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(total),
            Ok(n) => {
                to.write_all(&buffer[..n])?;
                to.flush()?;
                total += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// Parsed options: short ones, and long ones by the letter they stand for.
#[derive(Debug, Default)]
pub(crate) struct Options {
    given: Vec<(char, String)>,
    pub(crate) rest: Vec<String>,
}

impl Options {
    /// `letters` as for getopt: a colon after those that take a value, and a `+` first when the
    /// first operand ends the options. `long` maps long names to letters.
    pub(crate) fn parse(
        args: &[String],
        letters: &str,
        long: &[(&str, char)],
    ) -> Result<Options, Fault> {
        let (stop_early, letters) = match letters.strip_prefix('+') {
            Some(letters) => (true, letters),
            None => (false, letters),
        };
        let takes_value = |c: char| {
            letters.find(c).filter(|_| c != ':').map(|i| letters[i + 1..].starts_with(':'))
        };
        let mut options = Options::default();
        let mut args: VecDeque<String> = args.iter().skip(1).cloned().collect();
        while let Some(arg) = args.pop_front() {
            if arg == "--" {
                options.rest.extend(args);
                break;
            }
            if let Some(name) = arg.strip_prefix("--") {
                let (name, value) = match name.split_once('=') {
                    Some((name, value)) => (name, Some(value.to_owned())),
                    None => (name, None),
                };
                let known = long.iter().find(|(long, _)| *long == name);
                let Some((_, c)) = known else {
                    return Err(usage(format!("unrecognized option '--{name}'")));
                };
                let value = match (takes_value(*c) == Some(true), value) {
                    (true, None) => args
                        .pop_front()
                        .ok_or_else(|| usage(format!("option '--{name}' requires an argument")))?,
                    (true, Some(value)) => value,
                    (false, value) => value.unwrap_or_default(),
                };
                options.given.push((*c, value));
                continue;
            }
            if arg.len() < 2 || !arg.starts_with('-') {
                options.rest.push(arg);
                if stop_early {
                    options.rest.extend(args);
                    break;
                }
                continue;
            }
            options.cluster(&arg[1..], &mut args, takes_value)?;
        }
        Ok(options)
    }

    /// Letters behind one dash; the rest of the word or the next one is a value.
    fn cluster(
        &mut self,
        word: &str,
        args: &mut VecDeque<String>,
        takes_value: impl Fn(char) -> Option<bool>,
    ) -> Result<(), Fault> {
        let mut letters = word.chars();
        while let Some(c) = letters.next() {
            match takes_value(c) {
                None => return Err(usage(format!("unrecognized option '-{c}'"))),
                Some(false) => self.given.push((c, String::new())),
                Some(true) => {
                    let joined = letters.as_str();
                    let value = if joined.is_empty() {
                        args.pop_front()
                            .ok_or_else(|| usage(format!("option '-{c}' requires an argument")))?
                    } else {
                        joined.to_owned()
                    };
                    self.given.push((c, value));
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    pub(crate) fn has(&self, letter: char) -> bool {
        self.given.iter().any(|(c, _)| *c == letter)
    }

    /// The last value given.
    pub(crate) fn value(&self, letter: char) -> Option<&str> {
        self.given.iter().rev().find(|(c, _)| *c == letter).map(|(_, value)| value.as_str())
    }

    pub(crate) fn values(&self, letter: char) -> impl Iterator<Item = &str> {
        self.given.iter().filter(move |(c, _)| *c == letter).map(|(_, value)| value.as_str())
    }

    /// A number given as an option's value.
    pub(crate) fn number<T: std::str::FromStr>(&self, letter: char) -> Result<Option<T>, Fault> {
        self.value(letter).map(|text| number(text)).transpose()
    }
}

/// A wrong call: exit code 2.
pub(crate) fn usage(message: impl Into<String>) -> Fault {
    Fault::new(message).with_code(2)
}

pub(crate) fn number<T: std::str::FromStr>(text: &str) -> Result<T, Fault> {
    text.parse().map_err(|_| usage(format!("invalid number '{text}'")))
}

/// A duration such as `5`, `0.5`, `1m`, `2h`, `1d`; `infinity` is none.
pub(crate) fn duration(text: &str) -> Result<Option<std::time::Duration>, Fault> {
    if matches!(text, "inf" | "infinity") {
        return Ok(None);
    }
    let unit = match text.chars().last() {
        Some('s') => 1.0,
        Some('m') => 60.0,
        Some('h') => 3600.0,
        Some('d') => 86400.0,
        _ => 0.0,
    };
    let digits = if unit > 0.0 { &text[..text.len() - 1] } else { text };
    let fault = || usage(format!("invalid number '{text}'"));
    let seconds: f64 = digits.parse().map_err(|_| fault())?;
    let seconds = if unit > 0.0 { seconds * unit } else { seconds };
    std::time::Duration::try_from_secs_f64(seconds).map(Some).map_err(|_| fault())
}
