//! `cargo xtask conformance`: Kubernetes' own suite is the judge; this builds it, runs it against a
//! clean cluster with no way out, and keeps the ledger of what it said.
//!
//! Nothing of upstream is in the repository: the Go module `conformance/` names what is compiled,
//! and all that is made goes to the cache folder.
mod build;
mod cluster;
mod fast;
mod images;
mod ledger;
mod recipes;
mod report;
mod run;

use crate::shell;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::time::Instant;

const USAGE: &str = "usage: cargo xtask conformance COMMAND

commands:
  build             compile the suite and the programs of its images (needs Go; minutes, once)
  images            make the suite's images from those programs and Debian's packages
  run [--group G]... [--focus RE] [--serial] [--procs N]
      [--against KUBECONFIG] [--ledger FILE] [--keep]
                    run the suite, against a clean two-node cluster or the one that is named;
                    --serial leaves out what can run beside others; --keep leaves the cluster up
  fast [--within MINUTES]
                    what CI runs: builds all that it needs, runs what passed before of the groups
                    without long waits, and fails if a test does not pass any more
  groups            show the groups and how many tests each has
  diff OLD NEW      compare two ledgers; fails if a test passed before and fails now";

/// Where everything that is built and made lies.
pub(crate) struct Cache(PathBuf);

impl Cache {
    fn open() -> Result<Self> {
        let base = std::env::var_os("KYBERN_CACHE").map_or_else(shell::target, PathBuf::from);
        let folder = std::path::absolute(base.join("conformance")).context("no current folder")?;
        for part in ["bin", "images", "runs"] {
            let path = folder.join(part);
            std::fs::create_dir_all(&path)
                .with_context(|| format!("cannot create {}", path.display()))?;
        }
        Ok(Self(folder))
    }

    /// A program that `build` made.
    fn program(&self, name: &str) -> PathBuf {
        self.0.join("bin").join(name)
    }

    /// A program that must be there already.
    fn built(&self, name: &str) -> Result<PathBuf> {
        let path = self.program(name);
        if !path.exists() {
            bail!("{} is missing: run `cargo xtask conformance build` first", path.display());
        }
        Ok(path)
    }

    fn images(&self) -> PathBuf {
        self.0.join("images")
    }

    fn runs(&self) -> PathBuf {
        self.0.join("runs")
    }
}

/// The folder of the Go module, with the tables beside it.
pub(crate) fn module() -> PathBuf {
    shell::root().join("conformance")
}

/// What CI runs of the suite, until then.
pub(crate) fn fast(deadline: Instant) -> Result<()> {
    fast::run(&Cache::open()?, deadline)
}

pub(crate) fn run(args: &[String]) -> Result<()> {
    let rest = args.get(1..).unwrap_or_default();
    match args.first().map(String::as_str) {
        Some("build") => build::run(&Cache::open()?),
        Some("images") => images::make(&Cache::open()?),
        Some("run") => run::run(&Cache::open()?, &run::Options::parse(rest)?),
        Some("fast") => fast(fast::deadline(rest)?),
        Some("groups") => ledger::show_groups(&ledger::groups()?),
        Some("diff") => match rest {
            [old, new] => ledger::diff(Path::new(old), Path::new(new)),
            _ => bail!("diff: give two ledgers, the old and the new\n\n{USAGE}"),
        },
        _ => bail!("{USAGE}"),
    }
}
