//! `kybern logs`: the log of one component, or the last lines of all.
use crate::paths::DataDir;
use crate::{Folder, output};
use anyhow::{Context, Result, bail};
use clap::Args;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::io::{Read, Seek, SeekFrom};

/// Shown of each file without `--follow`.
const TAIL_BYTES: u64 = 64 * 1024;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  kybern logs\n  kybern logs -f server\n  kybern logs agent-kybern"
)]
pub(crate) struct Logs {
    #[command(flatten)]
    folder: Folder,
    /// Go on as lines are written
    #[arg(long, short)]
    follow: bool,
    /// `server`, or `agent-NODE`; all of them if left out
    component: Option<String>,
}

impl Logs {
    pub(crate) fn run(self) -> Result<()> {
        let dir = self.folder.open()?;
        let names = components(&dir)?;
        let chosen: Vec<String> = match &self.component {
            Some(name) if names.contains(name) => vec![name.clone()],
            Some(name) => bail!("no component {name:?}: there are {}", names.join(", ")),
            None => names,
        };
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
