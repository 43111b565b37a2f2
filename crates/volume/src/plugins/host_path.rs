//! A file or folder of the node itself.
use crate::{Error, Mounted, Request, VolumePlugin};
use api::k8s::api::core::v1::Volume;
use async_trait::async_trait;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

pub struct HostPath;

#[async_trait]
impl VolumePlugin for HostPath {
    fn name(&self) -> &'static str {
        "kubernetes.io~host-path"
    }
    fn claims(&self, volume: &Volume) -> bool {
        volume.host_path.is_some()
    }
    async fn set_up(&self, request: &Request<'_>) -> Result<Mounted, Error> {
        let source = request.volume.host_path.clone().unwrap_or_default();
        let path = PathBuf::from(&source.path);
        if path.components().any(|part| part == std::path::Component::ParentDir) {
            return Err(Error::Refused(format!("{} must not contain '..'", source.path)));
        }
        let (kind, checked) = (source.type_.unwrap_or_default(), path.clone());
        let done = tokio::task::spawn_blocking(move || check(&checked, &kind)).await;
        done.map_err(|_| Error::Refused("checking the path was interrupted".to_owned()))??;
        Ok(Mounted { path, readonly: false, refresh_at: None })
    }
}

fn check(path: &Path, kind: &str) -> Result<(), Error> {
    match kind {
        "" => return Ok(()),
        "DirectoryOrCreate" if !path.exists() => {
            let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(path);
            made.map_err(Error::io("make the folder", path))?;
        }
        "FileOrCreate" if !path.exists() => {
            let made = fs::OpenOptions::new().create(true).append(true).mode(0o644).open(path);
            made.map_err(Error::io("make the file", path))?;
        }
        _ => {}
    }
    let found = fs::metadata(path).ok().map(|meta| meta.file_type());
    type Test = fn(&fs::FileType) -> bool;
    let (test, name): (Test, &str) = match kind {
        "Directory" | "DirectoryOrCreate" => (fs::FileType::is_dir, "a directory"),
        "File" | "FileOrCreate" => (fs::FileType::is_file, "a file"),
        "Socket" => (FileTypeExt::is_socket, "a socket file"),
        "CharDevice" => (FileTypeExt::is_char_device, "a character device"),
        "BlockDevice" => (FileTypeExt::is_block_device, "a block device"),
        _ => return Err(Error::Refused(format!("{kind} is an invalid volume type"))),
    };
    if found.as_ref().is_some_and(test) {
        return Ok(());
    }
    let path = path.display();
    Err(Error::Refused(format!("hostPath type check failed: {path} is not {name}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types() {
        let dir = tempfile::tempdir().unwrap();
        let (file, folder) = (dir.path().join("f"), dir.path().join("a/b"));
        let text = |path: &Path, kind| check(path, kind).map_err(|error| error.text());
        assert_eq!(text(&file, ""), Ok(()));
        let want = format!("hostPath type check failed: {} is not a file", file.display());
        assert_eq!(text(&file, "File"), Err(want));
        assert_eq!(text(&file, "FileOrCreate"), Ok(()));
        assert_eq!(text(&file, "File"), Ok(()));
        assert_eq!(text(&folder, "DirectoryOrCreate"), Ok(()));
        assert_eq!(text(&folder, "Directory"), Ok(()));
        assert!(text(&folder, "Socket").is_err());
        assert_eq!(text(Path::new("/dev/null"), "CharDevice"), Ok(()));
        assert_eq!(text(&file, "Odd"), Err("Odd is an invalid volume type".to_owned()));
    }
}
