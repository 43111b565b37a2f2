//! Where things lie below the runtime's root, and how they are written so that a reader never
//! sees half of one.
//!
//! `<root>/sandboxes/<id>/` holds `config.json`, `shim.json`, `shim.sock`, `shim.log` and
//! `containers/<id>/` with `config.json`, `state.json` and the writable layer.
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Exit;

pub(crate) fn sandboxes(root: &Path) -> PathBuf {
    root.join("sandboxes")
}

pub(crate) fn containers(sandbox: &Path) -> PathBuf {
    sandbox.join("containers")
}

pub(crate) fn container(sandbox: &Path, id: &str) -> PathBuf {
    containers(sandbox).join(id)
}

pub(crate) fn socket(sandbox: &Path) -> PathBuf {
    sandbox.join("shim.sock")
}

/// Names one process for good, reboots included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProcessId {
    pub(crate) pid: i32,
    pub(crate) start_time: u64,
    pub(crate) boot: String,
}

impl ProcessId {
    pub(crate) fn of(pid: i32) -> Option<Self> {
        Some(ProcessId { pid, start_time: sys::process::start_time(pid)?, boot: boot()? })
    }

    pub(crate) fn is_running(&self) -> bool {
        boot().as_ref() == Some(&self.boot)
            && sys::process::start_time(self.pid) == Some(self.start_time)
    }
}

fn boot() -> Option<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
}

/// `shim.json`: who holds the sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ShimRecord {
    #[serde(flatten)]
    pub(crate) process: ProcessId,
    pub(crate) created_at: i64,
}

/// `state.json` of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Record {
    pub(crate) created_at: i64,
    pub(crate) pid: Option<i32>,
    pub(crate) started_at: i64,
    pub(crate) exit: Option<Exit>,
}

/// Replaces a file as a whole. Safe against the death of any process, not of the machine: after
/// that no container runs anyway.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let bytes = serde_json::to_vec(value)?;
    let temporary = path.with_extension("tmp");
    let mut file = fs::File::options();
    let mut file = file.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    io::Write::write_all(&mut file, &bytes)?;
    fs::rename(&temporary, path)
}

/// The file, locked by this process and its forks alone: waits for whoever holds it, and fails
/// with `NotFound` if that one removed it.
pub(crate) fn lock(path: &Path) -> io::Result<fs::File> {
    let file = fs::File::open(path)?;
    file.lock()?;
    if file.metadata()?.nlink() == 0 { Err(io::ErrorKind::NotFound.into()) } else { Ok(file) }
}

pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

/// Makes a folder and its parents, for root's eyes only.
pub(crate) fn make_private_dir(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Ids become names of folders and cgroups.
pub(crate) fn is_id(id: &str) -> bool {
    (8..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Nanoseconds since 1970.
pub(crate) fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
}
