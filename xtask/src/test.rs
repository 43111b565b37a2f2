//! `cargo xtask test`: what must be green before anything lands.
use crate::{conformance, e2e, pairs, shell, tidy, tools};
use anyhow::Result;
use std::time::{Duration, Instant};

/// CI ends what takes longer than 45 minutes; a little of that is over when this begins.
const BOUND: Duration = Duration::from_secs(41 * 60);

pub(crate) fn run() -> Result<()> {
    let deadline = Instant::now() + BOUND;
    tools::install_debian()?;
    tools::kubectl()?;
    tidy::run()?;
    shell::run(&mut shell::cargo(&["test", "--workspace", "--quiet"]))?;
    pairs::run(&[])?;
    e2e::run(&[])?;
    if !tools::has_go() {
        println!("skipped: Kubernetes' own suite needs `go`, which is not there");
        return Ok(());
    }
    conformance::fast(deadline)
}
