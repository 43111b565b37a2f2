//! Ending what shims hold when they cannot or shall not do it themselves.
//!
//! Works from the folders alone, so that it needs no agent. Never signals a process that is not
//! proven to be a shim of this root: its start time and the boot it belongs to must match.
use std::fs::File;
use std::io;
use std::path::Path;

use sys::cgroup::Cgroups;

use crate::embedded::{folders, remove_tree, system};
use crate::layout::{self, ShimRecord};
use crate::{Error, SandboxConfig};

const END_TIMEOUT_MS: u16 = 10_000;

/// Ends every sandbox below `root` and removes all that belongs to them: processes, cgroups,
/// folders. Blocking. Goes on after an error and reports the first.
pub fn cleanup_all(root: &Path) -> Result<(), Error> {
    let mut result = Ok(());
    for (_, folder) in folders(&layout::sandboxes(root)) {
        result = result.and(sandbox(root, &folder));
    }
    result
}

/// Ends one sandbox and removes its folder.
pub(crate) fn sandbox(root: &Path, folder: &Path) -> Result<(), Error> {
    debug_assert!(folder.starts_with(root), "only what is below the root is removed");
    if !folder.is_dir() {
        return Ok(());
    }
    let _birth = no_birth(folder)?;
    end_known_shim(folder)?;
    remove_tree(folder)
}

/// Ends a sandbox's shim with everything in its cgroup. One that is gone is no error.
pub(crate) fn end_shim(folder: &Path) -> Result<(), Error> {
    let _birth = no_birth(folder)?;
    end_known_shim(folder)
}

/// While this is held, no shim of the sandbox is about to be born: without its `config.json`, none
/// can be, and one that is on its way is in `shim.json` by then.
fn no_birth(folder: &Path) -> Result<Option<File>, Error> {
    match layout::lock(&folder.join("config.json")) {
        Ok(file) => Ok(Some(file)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(system("cannot lock the sandbox", &e)),
    }
}

fn end_known_shim(folder: &Path) -> Result<(), Error> {
    let shim: io::Result<ShimRecord> = layout::read_json(&folder.join("shim.json"));
    if let Ok(shim) = shim {
        let process = &shim.process;
        if process.is_running() {
            let fail = |e: io::Error| system(&format!("cannot end shim {}", process.pid), &e);
            // Between the descriptor and the second look, the number cannot come to mean another.
            let pidfd = sys::process::pidfd_open(process.pid).map_err(fail)?;
            if process.is_running() {
                // One that was asked to stop is about to end by itself; this only makes sure.
                sys::process::pidfd_signal(&pidfd, nix::libc::SIGKILL)
                    .or_else(already_gone)
                    .map_err(fail)?;
                if !sys::process::pidfd_wait(&pidfd, END_TIMEOUT_MS).map_err(fail)? {
                    return Err(fail(io::Error::from_raw_os_error(nix::libc::ETIMEDOUT)));
                }
            }
        }
    }
    let Ok(config) = layout::read_json::<SandboxConfig>(&folder.join("config.json")) else {
        return Ok(());
    };
    let fail = |e: sys::cgroup::Error| Error::System(e.to_string());
    let cgroups = Cgroups::detect().map_err(fail)?;
    if config.cgroup.is_empty() || !cgroups.exists(&config.cgroup).map_err(fail)? {
        return Ok(());
    }
    cgroups.kill(&config.cgroup, END_TIMEOUT_MS).map_err(fail)?;
    cgroups.remove(&config.cgroup).map_err(fail)
}

fn already_gone(e: io::Error) -> io::Result<()> {
    if e.raw_os_error() == Some(nix::libc::ESRCH) { Ok(()) } else { Err(e) }
}
