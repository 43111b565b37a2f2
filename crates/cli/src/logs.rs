//! `kybern logs`: the log of one component, or the last lines of all.
use crate::paths::DataDir;
use crate::{Folder, cluster, output};
use anyhow::{Context, Result, bail};
use clap::Args;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::io::{Read, Seek, SeekFrom};

/// Shown of each file without `--follow`.
const TAIL_BYTES: u64 = 64 * 1024;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  kybern logs\n  kybern logs -f server\n  kybern logs -f agent")]
pub(crate) struct Logs {
    #[command(flatten)]
    folder: Folder,
    /// Go on as lines are written
    #[arg(long, short)]
    follow: bool,
    /// `server`, `agent-NODE`, or `agent` for every node's; all of them if left out
    component: Option<String>,
}

impl Logs {
    pub(crate) fn run(self) -> Result<()> {
        let dir = self.folder.open()?;
        cluster::existing(&dir)?;
        let names = components(&dir)?;
        let chosen = match &self.component {
            Some(name) => chosen(&names, name),
            None => names.clone(),
        };
        if let (Some(name), true) = (&self.component, chosen.is_empty()) {
            bail!("no component {name:?}: there are {}", names.join(", "));
        }
        let mut files = Vec::new();
        for name in chosen {
            let path = dir.log(&name);
            let mut file = std::fs::File::open(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            let size = file.metadata().map(|meta| meta.len()).unwrap_or_default();
            file.seek(SeekFrom::Start(size.saturating_sub(TAIL_BYTES)))
                .with_context(|| format!("cannot read {}", path.display()))?;
            files.push((name, path, file));
        }
        let headed = files.len() > 1;
        let copy = |files: &mut Vec<(String, std::path::PathBuf, std::fs::File)>| {
            for (name, _, file) in files {
                let mut text = Vec::new();
                if file.read_to_end(&mut text).is_ok() && !text.is_empty() {
                    if headed {
                        output::print(&format!("==> {name} <==\n"));
                    }
                    output::print(&String::from_utf8_lossy(&text));
                }
            }
        };
        copy(&mut files);
        if !self.follow {
            return Ok(());
        }
        let watch = Inotify::init(InitFlags::IN_CLOEXEC).context("cannot watch files")?;
        for (_, path, _) in &files {
            watch
                .add_watch(path, AddWatchFlags::IN_MODIFY)
                .with_context(|| format!("cannot watch {}", path.display()))?;
        }
        loop {
            watch.read_events().context("cannot watch files")?;
            copy(&mut files);
        }
    }
}

/// A component by its name, or all of a sort.
fn chosen(names: &[String], wanted: &str) -> Vec<String> {
    let of_sort = |name: &str| name.strip_prefix(wanted).is_some_and(|rest| rest.starts_with('-'));
    match names.iter().find(|name| *name == wanted) {
        Some(name) => vec![name.clone()],
        None => names.iter().filter(|name| of_sort(name)).cloned().collect(),
    }
}

fn components(dir: &DataDir) -> Result<Vec<String>> {
    let mut names: Vec<String> = std::fs::read_dir(dir.logs())
        .with_context(|| format!("no logs in {}: is there a cluster?", dir.root().display()))?
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            name.strip_suffix(".log").map(str::to_owned)
        })
        .collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_chosen_by_name_or_by_sort() {
        let names = ["agent-a", "agent-b", "server"].map(str::to_owned);
        assert_eq!(chosen(&names, "server"), ["server"]);
        assert_eq!(chosen(&names, "agent"), ["agent-a", "agent-b"]);
        assert_eq!(chosen(&names, "agent-b"), ["agent-b"]);
        assert!(chosen(&names, "serv").is_empty() && chosen(&names, "agents").is_empty());
    }
}
