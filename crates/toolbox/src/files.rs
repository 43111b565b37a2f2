//! Tools on files.
pub(crate) mod dd;
pub(crate) mod find;
pub(crate) mod ls;
pub(crate) mod meta;
pub(crate) mod tree;

use std::io::{Read, Write};

use sha2::{Digest, Sha256};

use crate::common::{Done, Options, complain, open, out, pump};

/// `cat [-n] [FILE…]`.
pub(crate) fn cat(args: &[String]) -> Done {
    let options = Options::parse(args, "nubvetAs", &[])?;
    let stdin = ["-".to_owned()];
    let files = if options.rest.is_empty() { &stdin[..] } else { &options.rest };
    let mut out = out()?;
    let mut status = 0;
    let mut number = 0;
    for path in files {
        let mut reader = match open(path) {
            Ok(reader) => reader,
            Err(e) => {
                eprintln!("cat: {e}");
                status = 1;
                continue;
            }
        };
        if options.has('n') {
            let mut line = Vec::new();
            while crate::common::read_line(&mut reader, &mut line)? {
                number += 1;
                write!(out, "{number:>6}\t")?;
                out.write_all(&line)?;
                writeln!(out)?;
            }
        } else if let Err(e) = pump(&mut reader, &mut out) {
            if e.kind() == std::io::ErrorKind::BrokenPipe {
                return Err(e.into());
            }
            status = complain("cat", path, &e);
        }
        out.flush()?;
    }
    Ok(status)
}

/// `sha256sum [-c] [FILE…]`.
pub(crate) fn sha256sum(args: &[String]) -> Done {
    let options = Options::parse(args, "c", &[("check", 'c')])?;
    let stdin = ["-".to_owned()];
    let files = if options.rest.is_empty() { &stdin[..] } else { &options.rest };
    if options.has('c') {
        return check(files);
    }
    let mut out = out()?;
    for path in files {
        writeln!(out, "{}  {path}", digest(path)?)?;
    }
    out.flush()?;
    Ok(0)
}

fn digest(path: &str) -> Result<String, crate::common::Fault> {
    let mut reader = open(path)?;
    let mut hash = Sha256::new();
    let mut block = vec![0; 64 << 10];
    loop {
        let n = reader.read(&mut block).map_err(crate::common::about(path))?;
        if n == 0 {
            break;
        }
        hash.update(&block[..n]);
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn check(files: &[String]) -> Done {
    let mut wrong = 0;
    crate::common::each_line(files, |line| {
        let line = String::from_utf8_lossy(line);
        if let Some((sum, path)) = line.split_once("  ") {
            let good = digest(path).is_ok_and(|d| d == sum);
            println!("{path}: {}", if good { "OK" } else { "FAILED" });
            wrong += i32::from(!good);
        }
        Ok(true)
    })?;
    Ok(i32::from(wrong > 0))
}
