//! The built-in image: the kybern binary itself as a multi-tool, so that the first minute needs
//! no registry.
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use nix::fcntl::{AT_FDCWD, AtFlags};
use serde::{Deserialize, Serialize};

use crate::error::at;
use crate::{Error, Image, ImageConfig, ImageRef, Images, import, store};

/// Its name.
pub const TOOLBOX: &str = "kybern.local/toolbox:latest";
/// Part of its identity: raised when what is written here changes.
const VERSION: &str = "kybern toolbox 1";

/// Which binary the image was made from.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
struct Origin {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    tools: Vec<String>,
    image: String,
}

impl Images {
    /// Makes the built-in image from the binary `exe`, which does the work of `tools` under their
    /// names, unless that was done already. Blocking; about 0.1 s once per binary, which is
    /// read for its digest.
    pub fn ensure_toolbox(&self, exe: &Path, tools: &[&str]) -> Result<Image, Error> {
        let name: ImageRef = TOOLBOX.parse()?;
        let _lock = self.lock("toolbox")?;
        let meta = fs::metadata(exe).map_err(at(exe))?;
        let note = self.root().join("toolbox.json");
        let mut origin = Origin {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            tools: tools.iter().map(|t| (*t).to_owned()).collect(),
            image: String::new(),
        };
        if let (Some(image), Ok(noted)) = (self.resolve(&name)?, store::read_json::<Origin>(&note))
        {
            origin.image.clone_from(&image.id);
            if origin == noted && image.layers.iter().all(|l| l.is_dir()) {
                return Ok(image);
            }
        }
        let adding = self.adding()?;
        // The layer is identified by what it is made from; it never travels as a tar stream.
        let binary = import::file_digest(exe)?;
        let layer = store::digest(format!("{VERSION}\n{binary}\n{}", tools.join(" ")).as_bytes());
        if !self.layer_path(&layer).is_dir() {
            let folder = self.temporary()?;
            fill(&folder.path, exe, tools).map_err(at(&folder.path))?;
            self.keep_layer(&layer, &folder)?;
        }
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let config = ImageConfig {
            env: vec![format!("PATH={path}")],
            cmd: vec!["toolbox".to_owned(), "serve".to_owned()],
            ..ImageConfig::default()
        };
        let old = self.resolve(&name)?;
        let image = self.record(vec![layer], config, Some(&name))?;
        drop(adding);
        // The image of an earlier binary stays for as long as containers run from it.
        if let Some(old) = old.filter(|o| o.id != image.id) {
            match self.remove(&old.id) {
                Ok(()) | Err(Error::InUse(_) | Error::NotFound(_)) => {}
                Err(e) => return Err(e),
            }
        }
        origin.image.clone_from(&image.id);
        let bytes = serde_json::to_vec(&origin).expect("plain data has a JSON form");
        store::write_whole(&note, &bytes)?;
        Ok(image)
    }
}

/// Gives the binary a further name where the two can never come to differ unnoticed: the kernel
/// lets nobody write to a program that runs, and an upgrade that replaces the file leaves this name
/// with the old one. Root must own it, and alone may write to it. Elsewhere it is copied, which
/// costs nothing either where the file system shares blocks.
fn link_or_copy(exe: &Path, to: &Path) -> io::Result<()> {
    let meta = fs::metadata(exe)?;
    let safe = meta.is_file() && meta.uid() == 0 && meta.mode() & 0o7777 == 0o755;
    let follow = AtFlags::AT_SYMLINK_FOLLOW;
    if safe && nix::unistd::linkat(AT_FDCWD, exe, AT_FDCWD, to, follow).is_ok() {
        return Ok(());
    }
    fs::copy(exe, to)?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o755))
}

fn fill(root: &Path, exe: &Path, tools: &[&str]) -> io::Result<()> {
    for folder in ["bin", "etc", "root", "tmp", "usr", "var"] {
        fs::create_dir(root.join(folder))?;
    }
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    mode(&root.join("tmp"), 0o1777)?;
    mode(&root.join("root"), 0o700)?;
    let binary = root.join("bin/toolbox");
    link_or_copy(exe, &binary)?;
    for tool in tools.iter().filter(|t| **t != "toolbox" && !t.contains('/')) {
        symlink("toolbox", root.join("bin").join(tool))?;
    }
    symlink("../bin", root.join("usr/bin"))?;
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
    )?;
    fs::write(root.join("etc/group"), "root:x:0:\nnobody:x:65534:\n")
}
