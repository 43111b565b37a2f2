//! What a person or a script reads: progress lines, tables that align, `--output json|yaml`.
use api::Value;
use clap::ValueEnum;
use std::io::{IsTerminal, Write};
use std::time::Instant;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    #[default]
    Text,
    Json,
    Yaml,
}

/// Writes to standard output; a reader that has gone away is no error.
pub(crate) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}

/// The value as asked for; `text` makes the form for people.
pub(crate) fn show(format: Format, value: &Value, text: impl FnOnce() -> String) {
    match format {
        Format::Text => print(&text()),
        Format::Json => {
            let json = serde_json::to_string_pretty(value).expect("a JSON value can be written");
            print(&(json + "\n"));
        }
        Format::Yaml => print(&schema::to_yaml(value)),
    }
}

/// Left-aligned columns, three spaces apart, as kubectl prints them.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let widths: Vec<usize> = (0..header.len())
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            let widest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
            widest.max(header[column].len())
        })
        .collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> =
            cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        padded.join("   ").trim_end().to_owned() + "\n"
    };
    let mut out = line(&mut header.iter().copied());
    for row in rows {
        out += &line(&mut row.iter().map(String::as_str));
    }
    out
}

pub(crate) fn bytes(n: u64) -> String {
    const MIB: u64 = 1024 * 1024;
    if n >= 10 * MIB {
        format!("{} MiB", n / MIB)
    } else {
        format!("{:.1} MiB", n as f64 / MIB as f64)
    }
}

/// Short lines about what is going on, with the time that has passed; on standard error.
pub(crate) struct Progress {
    start: Instant,
    shown: bool,
    colours: bool,
}

impl Progress {
    pub(crate) fn new(shown: bool) -> Self {
        let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { start: Instant::now(), shown, colours }
    }
    pub(crate) fn line(&self, text: &str) {
        if !self.shown {
            return;
        }
        let passed = self.start.elapsed().as_secs_f64();
        let (dim, reset) = if self.colours { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
        let _ = writeln!(std::io::stderr(), "{dim}{passed:6.2}s{reset}  {text}");
    }
    pub(crate) fn seconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }
}
