//! `cargo xtask bench`: what Kybern costs and how fast it is, and upstream beside it.
//!
//! All runs inside a network namespace without a way out and a process namespace that ends with
//! this program, so that nothing measured reaches anything else or outlives the run. The client
//! shares the machine with the server: compare ratios within one run, not numbers between machines.
mod cage;
mod connection;
mod load;
mod machine;
mod objects;
mod peer;
mod plane;
mod processes;
mod report;
mod rows;
mod stats;

use anyhow::{Context, Result, bail};
use clap::Parser;
use report::Report;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, Parser)]
#[command(about = "Measures Kybern, and upstream's control plane beside it")]
struct Args {
    /// Which rows to run; all of them if none is named
    rows: Vec<String>,
    /// Print the names of the rows and end
    #[arg(long)]
    list: bool,
    /// Write the results to a file too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fewer and shorter measurements
    #[arg(long)]
    quick: bool,
    /// Run the rows of the control plane against `upstream` as well, built from its Go modules
    #[arg(long, value_name = "NAME", value_parser = ["upstream"])]
    peer: Option<String>,
    /// Measure a cold release build of the binary too (minutes)
    #[arg(long)]
    build: bool,
    /// The release binary of kybern
    #[arg(long, value_name = "FILE", env = "KYBERN_BENCH_BINARY")]
    binary: PathBuf,
    /// Where the peer's binaries are kept
    #[arg(long, value_name = "FOLDER", default_value = "target/peer")]
    peer_cache: PathBuf,
    /// Where the data folders are made: the disk that durable writes go to
    #[arg(long, value_name = "FOLDER", default_value = "/var/tmp")]
    scratch: PathBuf,
}

/// What every row gets.
struct Bench {
    binary: PathBuf,
    scratch: PathBuf,
    quick: bool,
    peer: Option<peer::Binaries>,
    report: Report,
}

impl Bench {
    /// One of two numbers, by whether the run is a quick one.
    fn pick<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every row could be measured.
fn run() -> Result<bool> {
    let args = Args::parse();
    if args.list {
        for row in rows::ALL {
            println!("{:<10} {}", row.name, row.about);
        }
        return Ok(true);
    }
    let chosen = choose(&args)?;
    if !cage::inside() {
        // The peer's modules and a build may come over the network, so they come first.
        if args.peer.is_some() {
            peer::build(&args.peer_cache)?;
        }
        match cage::enter()? {}
    }
    let binary = args
        .binary
        .canonicalize()
        .with_context(|| format!("{} is not there: build kybern first", args.binary.display()))?;
    let peer = args.peer.as_ref().map(|_| peer::Binaries::find(&args.peer_cache)).transpose()?;
    let report = Report::new(machine::facts(&binary, &args.scratch)?);
    let mut bench = Bench { binary, scratch: args.scratch, quick: args.quick, peer, report };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    let mut failed = Vec::new();
    for row in chosen {
        eprintln!("# {}: {}", row.name, row.about);
        if let Err(error) = runtime.block_on(row.run(&mut bench)) {
            eprintln!("# {}: {error:#}", row.name);
            failed.push(row.name);
        }
    }
    print!("{}", bench.report.table());
    if let Some(path) = args.json {
        let text = bench.report.json().context("cannot encode the results")?;
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if !failed.is_empty() {
        eprintln!("rows that failed: {}", failed.join(" "));
    }
    Ok(failed.is_empty())
}

fn choose(args: &Args) -> Result<Vec<&'static rows::Row>> {
    for name in &args.rows {
        if !rows::ALL.iter().any(|row| row.name == name) {
            bail!("there is no row {name:?}: see --list");
        }
    }
    let named = |row: &rows::Row| args.rows.iter().any(|name| name == row.name);
    Ok(rows::ALL
        .iter()
        .filter(|row| match row.name {
            "build" => args.build || named(row),
            _ => args.rows.is_empty() && !args.build || named(row),
        })
        .collect())
}
