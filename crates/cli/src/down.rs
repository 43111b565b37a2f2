//! `kybern down`: ends the cluster and leaves nothing of it behind but, without `--wipe`, its data.
use crate::cluster::{self, Cluster};
use crate::output::Progress;
use crate::paths::DataDir;
use crate::{Folder, kubeconfig, process, up};
use anyhow::{Context, Result};
use clap::Args;
use std::path::{Path, PathBuf};
use std::time::Duration;

const END_TIMEOUT_MS: u16 = 10_000;

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
        // After `down`, or a first `up` that failed, there is still something for `--wipe`.
        let is_down = !dir.run().exists();
        let has_data = dir.cluster().exists() || dir.pki().join("ca.key").exists();
        if is_down && !(self.wipe && has_data) {
            progress.line(&match dir.cluster().exists() {
                true => format!("the cluster in {} is stopped already", dir.root().display()),
                false => format!("there is no cluster in {}", dir.root().display()),
            });
            return Ok(());
        }
        if is_down {
            std::fs::create_dir(dir.run())
                .with_context(|| format!("cannot create {}", dir.run().display()))?;
        }
        let lock = process::lock(&dir.run().join("lock"))?;
        let cluster = cluster::load(&dir)?;
        // Agents first: whoever restarts containers must be gone before the containers are.
        for component in process::all_running(&dir).iter().rev() {
            progress.line(&format!("stopping {}", component.name));
            process::stop_component(component, Duration::from_secs(10));
        }
        if let Some(cluster) = &cluster {
            progress.line("ending pods, mounts and networks");
            end_workloads(&dir, cluster)?;
        }
        if let Some(cluster) = &cluster {
            let (second, server) = (Cluster::second_context(&dir), up::cluster_url(cluster));
            for path in kubeconfig::users_files() {
                kubeconfig::remove(&path, &second, &server)?;
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

/// Containers with their cgroups, then what is mounted for them, then links and packet rules.
pub(crate) fn end_workloads(dir: &DataDir, cluster: &Cluster) -> Result<()> {
    for entry in std::fs::read_dir(dir.nodes()).into_iter().flatten().flatten() {
        runtime::cleanup_all(&entry.path().join("runtime"))
            .with_context(|| format!("cannot end the pods under {}", entry.path().display()))?;
    }
    unmount_below(dir.root())?;
    let group = cgroup_of(cluster);
    let cgroups = sys::cgroup::Cgroups::detect().context("cannot find the cgroups")?;
    if cgroups.exists(&group).context("cannot look for the cluster's cgroup")? {
        let ended = cgroups.kill(&group, END_TIMEOUT_MS).and_then(|()| cgroups.remove(&group));
        ended.with_context(|| format!("cannot remove the cgroup {group}"))?;
    }
    net::cleanup(&cluster.id, dir.root()).context("cannot remove the cluster's network")
}

/// The cgroup that holds all of a cluster's pods on this machine.
pub(crate) fn cgroup_of(cluster: &Cluster) -> String {
    format!("/kybern-{}", cluster.id)
}

/// Volumes and whatever else is mounted in the data folder, the innermost first.
fn unmount_below(root: &Path) -> Result<()> {
    use nix::mount::{MntFlags, umount2};
    let table =
        std::fs::read_to_string("/proc/self/mountinfo").context("cannot read the mounts")?;
    let mut points: Vec<PathBuf> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|point| PathBuf::from(unescaped(point)))
        .filter(|point| point.starts_with(root) && point != root)
        .collect();
    points.sort();
    for point in points.iter().rev() {
        match umount2(point, MntFlags::MNT_DETACH) {
            // Mounted twice, or shared with one that is gone by now.
            Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => {}
            Err(error) => {
                return Err(error).with_context(|| format!("cannot unmount {}", point.display()));
            }
        }
    }
    Ok(())
}

/// The kernel writes a space as `\040`.
fn unescaped(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        let code = after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                out.push(char::from(code));
                rest = &after[3..];
            }
            None => {
                out.push('\\');
                rest = after;
            }
        }
    }
    out + rest
}
