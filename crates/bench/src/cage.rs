//! The namespaces that the benchmarks run in: a network with loopback only, processes that the
//! kernel ends with this program, and mounts that go with them.
use anyhow::{Context, Result, ensure};
use std::convert::Infallible;
use std::os::unix::process::CommandExt;
use std::process::Command;

const MARK: &str = "KYBERN_BENCH_INSIDE";
/// Brings loopback up in the fresh namespace, then becomes this program again.
const INSIDE: &str = "ip link set lo up && exec \"$@\"";

pub(crate) fn inside() -> bool {
    std::env::var_os(MARK).is_some()
}

/// Becomes this program again, inside; returns only if that fails. Who ends what started it ends
/// all of it.
pub(crate) fn enter() -> Result<Infallible> {
    ensure!(nix::unistd::geteuid().is_root(), "the benchmarks make namespaces: run them as root");
    let own = std::env::current_exe().context("cannot find the path of this program")?;
    let error = Command::new("unshare")
        .args(["--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--", "sh", "-c"])
        .args([INSIDE, "sh"])
        .arg(own)
        .args(std::env::args_os().skip(1))
        .env(MARK, "1")
        .exec();
    Err(error).context("cannot run unshare (util-linux)")
}
