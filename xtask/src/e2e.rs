//! `cargo xtask e2e`: the built binary and the real kubectl, in network namespaces with no way out.
use crate::{shell, tools};
use anyhow::{Result, ensure};
use std::process::Command;

/// Brings loopback up in the fresh namespace, then becomes the tests.
const INSIDE: &str = "ip link set lo up && exec \"$@\"";

pub(crate) fn run(args: &[String]) -> Result<()> {
    tools::install_debian()?;
    let kubectl = tools::kubectl()?;
    ensure!(is_root(), "the end-to-end tests run containers: run them as root");
    shell::run(&mut shell::cargo(&["build", "--release", "--package", "kybern"]))?;
    let binary = shell::release_binary()?;
    let tests = shell::cargo(&["test", "--package", "e2e", "--", "--test-threads=1"]);
    let mut command = Command::new("unshare");
    command
        .args(["--net", "--", "sh", "-c", INSIDE, "sh"])
        .arg(tests.get_program())
        .args(tests.get_args())
        .args(args)
        .current_dir(shell::root())
        .env("KYBERN_E2E_BINARY", binary)
        .env("KYBERN_E2E_KUBECTL", kubectl);
    shell::run(&mut command)
}

pub(crate) fn is_root() -> bool {
    shell::output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}
