//! `kybern down`: ends the cluster and leaves nothing of it behind but, without `--wipe`, its data.
use crate::cluster::{self, Cluster};
use crate::output::Progress;
use crate::paths::DataDir;
use crate::{Folder, kubeconfig, process, up};
use anyhow::{Context, Result};
use clap::Args;
use std::time::Duration;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  kybern down\n  kybern down --wipe")]
pub(crate) struct Down {
    #[command(flatten)]
    folder: Folder,
    /// Remove the data too: objects, images, volumes, certificates
    #[arg(long)]
    wipe: bool,
    /// Print no progress
    #[arg(long, short)]
    quiet: bool,
}

impl Down {
    pub(crate) fn run(self) -> Result<()> {
        crate::require_root("down")?;
        let dir = self.folder.open()?;
        let progress = Progress::new(!self.quiet);
        if !dir.run().exists() {
            progress.line(&format!("there is no cluster in {}", dir.root().display()));
            return Ok(());
        }
        let lock = process::lock(&dir.run().join("lock"))?;
        let cluster = cluster::load(&dir)?;
        // Agents first: whoever restarts containers must be gone before the containers are.
        for (component, running) in process::all_running(&dir).into_iter().rev() {
            progress.line(&format!("stopping {component}"));
            process::stop(running, Duration::from_secs(10));
        }
        if let Some(cluster) = &cluster {
            progress.line("ending pods, mounts and networks");
            end_workloads(&dir, cluster)?;
            if let Some(path) = kubeconfig::users_file() {
                kubeconfig::remove(&path, "kybern", &up::cluster_url(cluster))?;
            }
        }
        drop(lock);
        let removed = if self.wipe { dir.root().to_path_buf() } else { dir.run() };
        std::fs::remove_dir_all(&removed)
            .with_context(|| format!("cannot remove {}", removed.display()))?;
        progress.line(if self.wipe { "down; the data is removed" } else { "down" });
        Ok(())
    }
}

/// Containers, their mounts and cgroups, then links and packet rules.
pub(crate) fn end_workloads(dir: &DataDir, cluster: &Cluster) -> Result<()> {
    for entry in std::fs::read_dir(dir.nodes()).into_iter().flatten().flatten() {
        runtime::cleanup_all(&entry.path())
            .with_context(|| format!("cannot end the pods under {}", entry.path().display()))?;
    }
    net::cleanup(&cluster.id, dir.root()).context("cannot remove the cluster's network")
}
