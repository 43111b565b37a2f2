//! A folder that lives as long as the pod, on disk, in memory or in huge pages.
use crate::{Error, Mounted, Request, VolumePlugin};
use api::Quantity;
use api::k8s::api::core::v1::{EmptyDirVolumeSource, Volume};
use async_trait::async_trait;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

pub struct EmptyDir;

#[async_trait]
impl VolumePlugin for EmptyDir {
    fn name(&self) -> &'static str {
        "kubernetes.io~empty-dir"
    }
    fn claims(&self, volume: &Volume) -> bool {
        volume.empty_dir.is_some()
    }
    async fn set_up(&self, request: &Request<'_>) -> Result<Mounted, Error> {
        let source = request.volume.empty_dir.clone().unwrap_or_default();
        let (path, group) = (request.dir(self.name()), request.fs_group());
        let dir = path.clone();
        let made = tokio::task::spawn_blocking(move || make(&dir, &source, group)).await;
        made.map_err(|_| Error::Refused("making the folder was interrupted".to_owned()))??;
        Ok(Mounted { path, readonly: false, refresh_at: None })
    }
    fn tear_down(&self, dir: &Path) -> io::Result<()> {
        unmount(dir)
    }
}

fn make(dir: &Path, source: &EmptyDirVolumeSource, group: Option<u32>) -> Result<(), Error> {
    fs::create_dir_all(dir).map_err(Error::io("make the folder", dir))?;
    let medium = source.medium.as_deref().unwrap_or_default();
    let mounted = is_mount_point(dir).map_err(Error::io("read", dir))?;
    if !medium.is_empty() && !mounted {
        let limit = source.size_limit.as_ref().and_then(|q| q.0.parse::<Quantity>().ok());
        let (kind, options) = mount_options(medium, limit)?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("kybern"), dir, Some(kind), flags, Some(options.as_str()))
            .map_err(|errno| Error::io("mount", dir)(errno.into()))?;
    }
    let mode = match group {
        Some(gid) => {
            std::os::unix::fs::chown(dir, None, Some(gid)).map_err(Error::io("chown", dir))?;
            0o2777
        }
        None => 0o777,
    };
    fs::set_permissions(dir, fs::Permissions::from_mode(mode)).map_err(Error::io("chmod", dir))
}

fn mount_options(medium: &str, limit: Option<Quantity>) -> Result<(&'static str, String), Error> {
    let limit = limit.map(|limit| limit.value()).filter(|bytes| *bytes > 0);
    match medium.strip_prefix("HugePages") {
        None if medium == "Memory" => {
            let size = limit.map(|bytes| format!("size={bytes},")).unwrap_or_default();
            Ok(("tmpfs", format!("{size}mode=0777")))
        }
        Some(size) => {
            let page = match size.strip_prefix('-') {
                Some(page) => page.parse::<Quantity>().ok().map(|page| page.value()),
                None => Some(2 << 20),
            };
            let page = page.filter(|bytes| *bytes > 0).ok_or_else(|| unknown(medium))?;
            Ok(("hugetlbfs", format!("pagesize={page},mode=0777")))
        }
        None => Err(unknown(medium)),
    }
}

fn unknown(medium: &str) -> Error {
    Error::Refused(format!("unknown storage medium {medium:?}"))
}

/// Lets go of everything that is mounted on the folder.
pub(crate) fn unmount(dir: &Path) -> io::Result<()> {
    while is_mount_point(dir)? {
        umount2(dir, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)?;
    }
    Ok(())
}

pub(crate) fn is_mount_point(dir: &Path) -> io::Result<bool> {
    let Some(parent) = dir.parent() else { return Ok(true) };
    Ok(fs::symlink_metadata(dir)?.dev() != fs::metadata(parent)?.dev())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_media() {
        let limit = |text: &str| Some(text.parse::<Quantity>().unwrap());
        let shown = |medium, limit| mount_options(medium, limit).map_err(|e| e.to_string());
        assert_eq!(shown("Memory", None), Ok(("tmpfs", "mode=0777".to_owned())));
        let want = ("tmpfs", "size=67108864,mode=0777".to_owned());
        assert_eq!(shown("Memory", limit("64Mi")), Ok(want));
        let want = ("hugetlbfs", "pagesize=1073741824,mode=0777".to_owned());
        assert_eq!(shown("HugePages-1Gi", None), Ok(want));
        assert_eq!(shown("Disk", None), Err("unknown storage medium \"Disk\"".to_owned()));
        assert!(shown("HugePages-x", None).is_err());
    }
}
