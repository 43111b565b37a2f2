//! `cargo xtask test`: what must be green before anything lands.
use crate::{e2e, pairs, shell, tidy, tools};
use anyhow::Result;

pub(crate) fn run() -> Result<()> {
    tools::install_debian()?;
    tools::kubectl()?;
    tidy::run()?;
    shell::run(&mut shell::cargo(&["test", "--workspace", "--quiet"]))?;
    pairs::run(&[])?;
    e2e::run(&[])
}
