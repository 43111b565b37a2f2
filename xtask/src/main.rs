//! Tasks of the project: `cargo xtask TASK`.
//!
//! Everything that a test needs beside Rust is installed here, by package name, and said so.
mod bench;
mod conformance;
mod e2e;
mod job;
mod pairs;
mod shell;
mod test;
mod tidy;
mod tools;
mod vm;

use anyhow::{Result, bail};
use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask TASK

tasks:
  tidy              check style and layering (sizes, names, who may depend on whom)
  test              everything: tidy, unit and integration tests, end-to-end tests, and what of
                    Kubernetes' own suite fits into the time (needs Go)
  pairs [SEED]      fresh objects of every kind, as upstream writes them (needs Go)
  e2e [FILTER]      the end-to-end tests only: real kubectl, real containers
  bench [--peer upstream] [--json FILE] [ROW...]
                    measure, beside upstream's own control plane if asked
  conformance build|images|run|fast|groups|diff
                    Kubernetes' own suite (needs Go): see docs/conformance.md
  vm                cgroup v2 in a virtual machine (installs qemu and a kernel)
  codegen           make the table of schema facts anew (needs Go)";

/// As a shell tells of a program that an interrupt ended.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    match task() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            let interrupted = error.is::<job::Interrupted>();
            if interrupted { ExitCode::from(INTERRUPTED) } else { ExitCode::FAILURE }
        }
    }
}

fn task() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let rest = args.get(1..).unwrap_or_default();
    match args.first().map(String::as_str) {
        Some("tidy") => tidy::run(),
        Some("test") => test::run(),
        Some("e2e") => e2e::run(rest),
        Some("pairs") => pairs::run(rest),
        Some("bench") => bench::run(rest),
        Some("conformance") => conformance::run(rest),
        Some("vm") => vm::run(),
        Some("codegen") => tools::codegen(),
        Some("help" | "--help" | "-h") => {
            println!("{USAGE}");
            Ok(())
        }
        _ => bail!("{USAGE}"),
    }
}
