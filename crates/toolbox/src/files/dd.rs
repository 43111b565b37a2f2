//! `dd if= of= bs= count= skip= seek= conv=notrunc,fsync status=none`.
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::time::Instant;

use crate::common::{Done, Fault, about, usage};

const BLOCK_MAX: u64 = 1 << 30;

pub(crate) fn main(args: &[String]) -> Done {
    let (mut from, mut to) = (None, None);
    let (mut bs, mut count, mut skip, mut seek) = (512, u64::MAX, 0, 0);
    let (mut truncate, mut sync, mut quiet) = (true, false, false);
    for arg in &args[1..] {
        let (name, value) =
            arg.split_once('=').ok_or_else(|| usage(format!("bad operand '{arg}'")))?;
        match name {
            "if" => from = Some(value),
            "of" => to = Some(value),
            "bs" | "ibs" | "obs" => bs = size(value)?,
            "count" => count = size(value)?,
            "skip" => skip = size(value)?,
            "seek" => seek = size(value)?,
            "conv" => {
                truncate = !value.split(',').any(|c| c == "notrunc");
                sync = value.split(',').any(|c| c == "fsync" || c == "fdatasync");
            }
            "status" => quiet = value == "none",
            "iflag" | "oflag" => {}
            _ => return Err(usage(format!("bad operand '{arg}'"))),
        }
    }
    if bs == 0 || bs > BLOCK_MAX {
        return Err(usage("bs must be from 1 to 1G"));
    }
    let mut input = match from {
        Some(path) => File::open(path).map_err(about(path))?,
        None => crate::common::stdin()?,
    };
    if skip > 0 && input.seek(SeekFrom::Start(skip.saturating_mul(bs))).is_err() {
        let n = skip.saturating_mul(bs);
        io::copy(&mut (&mut input).take(n), &mut io::sink())?;
    }
    let mut output = match to {
        Some(path) => {
            let mut how = File::options();
            how.write(true).create(true).truncate(truncate && seek == 0);
            how.open(path).map_err(about(path))?
        }
        None => crate::common::out()?.into_inner().map_err(io::IntoInnerError::into_error)?,
    };
    if seek > 0 {
        let start = seek.saturating_mul(bs);
        if truncate {
            output.set_len(start)?;
        }
        output.seek(SeekFrom::Start(start))?;
    }
    let start = Instant::now();
    let (whole, partial, bytes) = copy(&mut input, &mut output, bs, count)?;
    if sync {
        output.sync_all()?;
    }
    if !quiet {
        let seconds = start.elapsed().as_secs_f64();
        let rate = crate::info::human((bytes as f64 / seconds.max(1e-9)) as u64);
        eprintln!("{whole}+{partial} records in\n{whole}+{partial} records out");
        eprintln!("{bytes} bytes copied, {seconds:.6} s, {rate}B/s");
    }
    Ok(0)
}

/// Whole blocks, partial blocks, bytes.
fn copy(
    input: &mut File,
    output: &mut File,
    bs: u64,
    count: u64,
) -> Result<(u64, u64, u64), Fault> {
    let mut block = vec![0; bs as usize];
    let (mut whole, mut partial, mut bytes) = (0, 0, 0);
    while whole + partial < count {
        let n = match input.read(&mut block) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e.into()),
        };
        output.write_all(&block[..n])?;
        bytes += n as u64;
        if n as u64 == bs { whole += 1 } else { partial += 1 }
    }
    Ok((whole, partial, bytes))
}

/// `4k`, `1M`, `2G`.
fn size(text: &str) -> Result<u64, Fault> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "c" => 1,
        "w" => 2,
        "b" => 512,
        "k" | "K" | "kiB" | "KiB" => 1 << 10,
        "kB" => 1000,
        "M" | "MiB" => 1 << 20,
        "MB" => 1_000_000,
        "G" | "GiB" => 1 << 30,
        _ => return Err(usage(format!("invalid number '{text}'"))),
    };
    let n: u64 = crate::common::number(digits)?;
    n.checked_mul(unit).ok_or_else(|| usage(format!("invalid number '{text}'")))
}
