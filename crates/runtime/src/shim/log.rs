//! A container's log file in the CRI format: `<time> <stream> <F|P> <text>`, one line each.
//!
//! A line longer than [`MAX_LINE`] is written in parts (`P`, the last one `F`). A file that grew
//! past its policy is set aside as `<log>.<time>`, never within a line.
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::LogPolicy;
use crate::layout;

pub(super) const MAX_LINE: usize = 16 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

/// A log file being written. What cannot be written (a full disk) is lost: the container goes on.
pub(super) struct Log {
    path: PathBuf,
    policy: LogPolicy,
    file: Option<File>,
    size: u64,
    /// The unfinished line of each stream, and whether a part of it was written already.
    open: [(Vec<u8>, bool); 2],
}

impl Log {
    pub(super) fn open(path: &Path, policy: &LogPolicy) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut log = Log {
            path: path.to_owned(),
            policy: policy.clone(),
            file: None,
            size: 0,
            open: Default::default(),
        };
        log.reopen()?;
        Ok(log)
    }

    /// Takes output as it comes and writes what are whole lines.
    pub(super) fn push(&mut self, stream: Stream, mut bytes: &[u8]) {
        let time = timestamp(layout::now());
        let mut out = Vec::new();
        while !bytes.is_empty() {
            let room = MAX_LINE - self.open[stream as usize].0.len();
            let newline = bytes.iter().take(room).position(|b| *b == b'\n');
            let (line, partial) = &mut self.open[stream as usize];
            match newline {
                Some(at) => {
                    line.extend_from_slice(&bytes[..at]);
                    bytes = &bytes[at + 1..];
                    entry(&mut out, &time, stream, true, line);
                    (*line, *partial) = (Vec::new(), false);
                }
                None if bytes.len() >= room => {
                    line.extend_from_slice(&bytes[..room]);
                    bytes = &bytes[room..];
                    entry(&mut out, &time, stream, false, line);
                    (*line, *partial) = (Vec::new(), true);
                }
                None => {
                    line.extend_from_slice(bytes);
                    bytes = &[];
                }
            }
        }
        self.write(&out);
    }

    /// The stream ended: an unfinished line stays a partial one, so that a reader adds no newline.
    pub(super) fn finish(&mut self, stream: Stream) {
        let (line, _) = std::mem::take(&mut self.open[stream as usize]);
        if !line.is_empty() {
            let mut out = Vec::new();
            entry(&mut out, &timestamp(layout::now()), stream, false, &line);
            self.write(&out);
        }
    }

    /// Sets the current file aside and starts a new one.
    pub(super) fn rotate(&mut self) -> io::Result<()> {
        self.file = None;
        let name = self.path.as_os_str().to_string_lossy().into_owned();
        let stamp = compact(layout::now());
        let mut aside = PathBuf::from(format!("{name}.{stamp}"));
        for n in 1..1000 {
            if !aside.exists() {
                break;
            }
            aside = PathBuf::from(format!("{name}.{stamp}-{n:03}"));
        }
        match fs::rename(&self.path, &aside) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                self.reopen()?;
                return Err(e);
            }
            _ => {}
        }
        self.reopen()?;
        self.forget_oldest()
    }

    fn reopen(&mut self) -> io::Result<()> {
        use std::os::unix::fs::OpenOptionsExt;
        let file = File::options().append(true).create(true).mode(0o640).open(&self.path)?;
        self.size = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let limit = self.policy.max_bytes;
        let whole = self.open.iter().all(|(_, partial)| !partial);
        if limit > 0 && self.size > 0 && whole && self.size + bytes.len() as u64 > limit {
            // The old file goes on being used when it cannot be set aside.
            let _ = self.rotate();
        }
        let Some(file) = &mut self.file else { return };
        if file.write_all(bytes).is_ok() {
            self.size += bytes.len() as u64;
        }
    }

    fn forget_oldest(&self) -> io::Result<()> {
        let (Some(folder), Some(name)) = (self.path.parent(), self.path.file_name()) else {
            return Ok(());
        };
        let prefix = format!("{}.", name.to_string_lossy());
        let mut old: Vec<PathBuf> = fs::read_dir(folder)?
            .flatten()
            .filter(|e| e.file_name().to_string_lossy().starts_with(&prefix))
            .map(|e| e.path())
            .collect();
        old.sort();
        let keep = self.policy.max_files.max(2) as usize - 1;
        let surplus = old.len().saturating_sub(keep);
        old[..surplus].iter().try_for_each(fs::remove_file)
    }
}

fn entry(out: &mut Vec<u8>, time: &str, stream: Stream, full: bool, line: &[u8]) {
    let name = match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    };
    let _ = write!(out, "{time} {name} {} ", if full { 'F' } else { 'P' });
    out.extend_from_slice(line);
    out.push(b'\n');
}

/// RFC 3339 with nanoseconds, UTC.
fn timestamp(nanoseconds: i64) -> String {
    let (y, mo, d, h, mi, s) = civil(nanoseconds);
    let fraction = nanoseconds.rem_euclid(1_000_000_000);
    format!("{y:04}-{mo:02}-{d:02}T{h:02}:{mi:02}:{s:02}.{fraction:09}Z")
}

fn compact(nanoseconds: i64) -> String {
    let (y, mo, d, h, mi, s) = civil(nanoseconds);
    format!("{y:04}{mo:02}{d:02}-{h:02}{mi:02}{s:02}")
}

/// Year, month, day, hour, minute, second of the proleptic Gregorian calendar. Years are counted
/// from March so that the leap day comes last.
fn civil(nanoseconds: i64) -> (i64, i64, i64, i64, i64, i64) {
    let seconds = nanoseconds.div_euclid(1_000_000_000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day, second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(path: &Path) -> Vec<String> {
        let text = fs::read_to_string(path).unwrap();
        text.lines().map(|l| l.split_once(' ').unwrap().1.to_owned()).collect()
    }

    #[test]
    fn dates_are_right() {
        let at = |seconds: i64| timestamp(seconds * 1_000_000_000 + 7);
        assert_eq!(at(0), "1970-01-01T00:00:00.000000007Z");
        assert_eq!(at(951_827_696), "2000-02-29T12:34:56.000000007Z");
        assert_eq!(at(1_709_251_199), "2024-02-29T23:59:59.000000007Z");
        assert_eq!(at(4_102_444_800), "2100-01-01T00:00:00.000000007Z");
    }

    #[test]
    fn lines_are_split_and_joined() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/0.log");
        let mut log = Log::open(&path, &LogPolicy::default()).unwrap();
        log.push(Stream::Stdout, b"one\ntw");
        log.push(Stream::Stderr, b"err\n");
        log.push(Stream::Stdout, b"o\n\n");
        log.push(Stream::Stdout, &[b'x'; MAX_LINE + 3]);
        log.push(Stream::Stdout, b"\nlast");
        log.finish(Stream::Stdout);
        log.finish(Stream::Stderr);
        let long = format!("stdout P {}", "x".repeat(MAX_LINE));
        let want = [
            "stdout F one",
            "stderr F err",
            "stdout F two",
            "stdout F ",
            &long,
            "stdout F xxx",
            "stdout P last",
        ];
        assert_eq!(texts(&path), want);
    }

    #[test]
    fn rotates_by_size_and_keeps_so_many() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let mut log = Log::open(&path, &LogPolicy { max_bytes: 100, max_files: 3 }).unwrap();
        for n in 0..20 {
            log.push(Stream::Stdout, format!("line number {n}\n").as_bytes());
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
        assert_eq!(texts(&path).last().unwrap(), "stdout F line number 19");
        log.rotate().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"");
        log.push(Stream::Stdout, b"after\n");
        assert_eq!(texts(&path), ["stdout F after"]);
    }
}
