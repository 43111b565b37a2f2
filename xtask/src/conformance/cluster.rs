//! The cluster that is judged: a fresh one in a network namespace without a way out, or any other.
use super::{Cache, images};
use crate::shell;
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) enum Cluster {
    Own(Own),
    /// Somebody else's, by its kubeconfig.
    Other(PathBuf),
}

/// A two-node cluster, wiped when dropped.
pub(crate) struct Own {
    namespace: String,
    binary: PathBuf,
    data_dir: PathBuf,
    keep: bool,
}

impl Cluster {
    pub(crate) fn other(kubeconfig: &Path) -> Result<Self> {
        let path = std::path::absolute(kubeconfig)?;
        ensure!(path.exists(), "--against {}: no such file", path.display());
        Ok(Self::Other(path))
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        match self {
            Self::Own(own) => own.data_dir.join("admin.kubeconfig"),
            Self::Other(path) => path.clone(),
        }
    }

    /// A command that sees the cluster's network.
    pub(crate) fn command(&self, program: &Path) -> Command {
        match self {
            Self::Own(own) => own.inside(program),
            Self::Other(_) => Command::new(program),
        }
    }
}

impl Own {
    pub(crate) fn start(cache: &Cache, folder: &Path, keep: bool) -> Result<Self> {
        ensure!(crate::e2e::is_root(), "a cluster needs root: run this as root");
        let binary = binary()?;
        let namespace = format!("kyconf-{}", std::process::id());
        shell::run(Command::new("ip").args(["netns", "add", &namespace]))?;
        // From here on, dropping it cleans up.
        let own = Self { namespace, binary, data_dir: folder.join("cluster"), keep };
        shell::run(own.inside(Path::new("ip")).args(["link", "set", "lo", "up"]))?;
        images::import(cache, &own.binary, &own.data_dir)?;
        let mut up = own.inside(&own.binary);
        up.args(["up", "--nodes", "2", "--no-merge-kubeconfig"]);
        // A disk that is nearly full is no reason to judge nothing.
        up.args(["--eviction-hard", "memory.available<50Mi", "--data-dir"]);
        shell::run(up.arg(&own.data_dir)).context("the cluster did not come up")?;
        Ok(own)
    }

    /// `ip netns exec` would hide the cgroup mounts, which the nodes need.
    fn inside(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.namespace)).arg("--").arg(program);
        // What clients keep of one cluster's discovery says nothing of the next one's.
        command.env("HOME", self.data_dir.with_file_name("home"));
        command
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if self.keep {
            println!("the cluster stays: {} in {}", self.data_dir.display(), self.namespace);
            return;
        }
        let mut down = self.inside(&self.binary);
        down.args(["down", "--wipe", "--quiet", "--data-dir"]).arg(&self.data_dir);
        if let Err(error) = shell::output(&mut down) {
            eprintln!("the cluster was not ended cleanly: {error}");
        }
        let mut remove = Command::new("ip");
        if let Err(error) = shell::output(remove.args(["netns", "delete", &self.namespace])) {
            eprintln!("{error}");
        }
    }
}

/// The release binary, built now unless `KYBERN_BINARY` names one.
fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("KYBERN_BINARY") {
        return Ok(std::path::absolute(path)?);
    }
    shell::run(&mut shell::cargo(&["build", "--release", "--package", "kybern"]))?;
    shell::release_binary()
}
