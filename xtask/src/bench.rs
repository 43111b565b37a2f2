//! `cargo xtask bench`: builds the release binary and hands over to the `bench` crate.
use crate::{e2e, shell, tools};
use anyhow::{Result, ensure};

pub(crate) fn run(args: &[String]) -> Result<()> {
    tools::install_debian()?;
    ensure!(e2e::is_root(), "the benchmarks run containers: run them as root");
    shell::run(&mut shell::cargo(&[
        "build",
        "--release",
        "--package",
        "kybern",
        "--package",
        "bench",
    ]))?;
    let binary = shell::release_binary()?;
    let mut command = std::process::Command::new(binary.with_file_name("bench"));
    command.args(args).env("KYBERN_BENCH_BINARY", &binary).current_dir(shell::root());
    shell::run(&mut command)
}
