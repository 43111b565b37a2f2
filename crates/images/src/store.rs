//! The store on disk, shared by every process of the machine.
//!
//! `index.json` names the images, `configs/` holds their configurations, `layers/<hex>` their
//! unpacked layers by diff id, `tmp/` what is being made. Invariants: a layer's folder and the
//! index appear whole or not at all; the index is only changed under the lock, after everything it
//! names is there; a layer that a container uses (which holds a shared lock on the topmost layer's
//! folder) is never removed.
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::at;
use crate::reference::is_digest;
use crate::{Error, Image, ImageConfig, ImageRef, unpack};

/// Bytes kept back for writing the index on a full disk.
const RESERVE: usize = 256 << 10;
/// Largest image configuration that is read.
pub(crate) const MAX_CONFIG: u64 = 8 << 20;

/// The image store in one folder. A copy is the same store.
#[derive(Debug, Clone)]
pub struct Images {
    root: PathBuf,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Index {
    pub(crate) images: BTreeMap<String, Record>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Record {
    pub(crate) tags: BTreeSet<String>,
    pub(crate) repo_digests: BTreeSet<String>,
    /// Diff ids, the lowest layer first.
    pub(crate) layers: Vec<String>,
    pub(crate) size: u64,
    /// Brought by hand: no registry may have it, so it goes only by hand.
    pub(crate) pinned: bool,
}

/// How an image came here.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Brought {
    ByHand,
    FromRegistry,
}

/// The parts of an OCI image configuration that are used here.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct ConfigFile {
    #[serde(default)]
    pub(crate) architecture: String,
    #[serde(default)]
    pub(crate) os: String,
    #[serde(default)]
    pub(crate) config: Option<ImageConfig>,
    #[serde(default)]
    pub(crate) rootfs: RootFs,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct RootFs {
    #[serde(rename = "type", default)]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) diff_ids: Vec<String>,
}

/// A folder below `tmp/` that goes when it is not kept.
pub(crate) struct Temporary {
    pub(crate) path: PathBuf,
    _lock: Flock<File>,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

impl Images {
    /// Opens (or makes) the store and throws away what a killed process left half-made.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, Error> {
        let images = Images { root: root.into() };
        for name in ["layers", "configs", "tmp", "locks"] {
            let folder = images.root.join(name);
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&folder)
                .map_err(at(&folder))?;
        }
        // Containers of any user walk through here.
        for folder in [images.root.clone(), images.root.join("layers")] {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o711)).map_err(at(&folder))?;
        }
        images.sweep()?;
        images.collect()?;
        Ok(images)
    }

    /// The image that a reference names, if it is here.
    pub fn resolve(&self, reference: &ImageRef) -> Result<Option<Image>, Error> {
        let index = self.index()?;
        let named = |record: &Record| match &reference.digest {
            Some(digest) => record.repo_digests.contains(&format!("{}@{digest}", reference.name())),
            None => record.tags.contains(&reference.to_string()),
        };
        let found = index.images.iter().find(|(id, record)| {
            named(record) || reference.digest.as_ref().is_some_and(|d| d == *id)
        });
        found.map(|(id, record)| self.image(id, record)).transpose()
    }

    /// The image with this id.
    pub fn get(&self, id: &str) -> Result<Option<Image>, Error> {
        let index = self.index()?;
        index.images.get_key_value(id).map(|(id, record)| self.image(id, record)).transpose()
    }

    pub fn list(&self) -> Result<Vec<Image>, Error> {
        let index = self.index()?;
        index.images.iter().map(|(id, record)| self.image(id, record)).collect()
    }

    /// Gives an image a further name, taking it from the image that had it.
    pub fn tag(&self, id: &str, name: &ImageRef) -> Result<(), Error> {
        self.change(|index| {
            if !index.images.contains_key(id) {
                return Err(Error::NotFound(id.to_owned()));
            }
            index.name(id, name);
            Ok(())
        })
    }

    /// Takes a name from an image; one without any name left is removed with the layers that no
    /// other image has. By id, all names go.
    pub fn remove(&self, what: &str) -> Result<(), Error> {
        let reference = (!is_digest(what)).then(|| what.parse::<ImageRef>()).transpose()?;
        self.change(|index| {
            let found = index.images.iter().find(|(id, record)| match &reference {
                None => id.as_str() == what,
                Some(r) if r.digest.is_some() => record.repo_digests.contains(&r.to_string()),
                Some(r) => record.tags.contains(&r.to_string()),
            });
            let id = found.map(|(id, _)| id.clone());
            let id = id.ok_or_else(|| Error::NotFound(what.to_owned()))?;
            let mut record = index.images.remove(&id).unwrap_or_default();
            if let Some(reference) = &reference {
                record.tags.remove(&reference.to_string());
                record.repo_digests.remove(&reference.to_string());
                // A digest belongs to the repository whose last tag it loses.
                let prefix = format!("{}@", reference.name());
                let tagged = format!("{}:", reference.name());
                if !record.tags.iter().any(|t| t.starts_with(&tagged)) {
                    record.repo_digests.retain(|d| !d.starts_with(&prefix));
                }
                if !record.tags.is_empty() || !record.repo_digests.is_empty() {
                    index.images.insert(id, record);
                    return Ok(());
                }
            }
            self.check_unused(&id, &record)?;
            Ok(())
        })?;
        self.collect()
    }

    fn check_unused(&self, id: &str, record: &Record) -> Result<(), Error> {
        if self.is_held(record) { Err(Error::InUse(id.to_owned())) } else { Ok(()) }
    }

    fn image(&self, id: &str, record: &Record) -> Result<Image, Error> {
        let path = self.config_path(id);
        let file: ConfigFile = read_json(&path)?;
        Ok(Image {
            id: id.to_owned(),
            repo_digests: record.repo_digests.iter().cloned().collect(),
            tags: record.tags.iter().cloned().collect(),
            config: file.config.unwrap_or_default(),
            layers: record.layers.iter().map(|l| self.layer_path(l)).collect(),
            size: record.size,
            pinned: record.is_pinned(),
        })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn layer_path(&self, diff_id: &str) -> PathBuf {
        self.root.join("layers").join(diff_id.strip_prefix("sha256:").unwrap_or(diff_id))
    }

    pub(crate) fn config_path(&self, id: &str) -> PathBuf {
        self.root.join("configs").join(id.strip_prefix("sha256:").unwrap_or(id))
    }

    pub(crate) fn index(&self) -> Result<Index, Error> {
        let path = self.root.join("index.json");
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|e| Error::Invalid(format!("{}: {e}", path.display()))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Index::default()),
            Err(e) => Err(at(&path)(e)),
        }
    }

    /// Changes the index as one step among all processes.
    fn change<T>(&self, change: impl FnOnce(&mut Index) -> Result<T, Error>) -> Result<T, Error> {
        let _lock = self.lock("index")?;
        let mut index = self.index()?;
        let result = change(&mut index)?;
        let bytes = serde_json::to_vec_pretty(&index).expect("plain data has a JSON form");
        let path = self.root.join("index.json");
        match write_whole(&path, &bytes) {
            // Removing images makes room, and must not fail for want of it.
            Err(error) if error.is_full() => {
                let _ = fs::remove_file(self.root.join("reserve"));
                write_whole(&path, &bytes)?;
            }
            other => other?,
        }
        self.keep_reserve();
        Ok(result)
    }

    /// Sets a little room aside for the index. Where there is none, there is none.
    fn keep_reserve(&self) {
        let path = self.root.join("reserve");
        if !path.exists() && fs::write(&path, [0; RESERVE]).is_err() {
            let _ = fs::remove_file(&path);
        }
    }

    /// Held while layers are added that no image names yet, so that they are not collected.
    pub(crate) fn adding(&self) -> Result<Flock<File>, Error> {
        let (path, file) = self.lock_file("adding")?;
        Flock::lock(file, FlockArg::LockShared).map_err(|(_, e)| at(&path)(e.into()))
    }

    /// Removes layers and configurations that no image names: what removals and failed pulls left.
    /// Does nothing while any process adds an image, as it cannot be told which layers are for
    /// that; the next one will.
    fn collect(&self) -> Result<(), Error> {
        let (_, file) = self.lock_file("adding")?;
        let Ok(_alone) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else {
            return Ok(());
        };
        let index = self.index()?;
        let kept: BTreeSet<_> =
            index.images.values().flat_map(|r| &r.layers).map(|l| self.layer_path(l)).collect();
        let layers = self.root.join("layers");
        for entry in fs::read_dir(&layers).map_err(at(&layers))?.flatten() {
            let path = entry.path();
            let Ok(folder) = File::open(&path) else { continue };
            if kept.contains(&path) || Flock::lock(folder, FlockArg::LockExclusiveNonblock).is_err()
            {
                continue;
            }
            // First out of sight: a layer that is there is whole.
            let aside = self.root.join("tmp").join(format!("gone-{}", random()?));
            fs::rename(&path, &aside).map_err(at(&path))?;
            fs::remove_dir_all(&aside).map_err(at(&aside))?;
        }
        let kept: BTreeSet<_> = index.images.keys().map(|id| self.config_path(id)).collect();
        let configs = self.root.join("configs");
        for entry in fs::read_dir(&configs).map_err(at(&configs))?.flatten() {
            if !kept.contains(&entry.path()) {
                fs::remove_file(entry.path()).map_err(at(&entry.path()))?;
            }
        }
        Ok(())
    }

    fn lock_file(&self, name: &str) -> Result<(PathBuf, File), Error> {
        let path = self.root.join("locks").join(name);
        let mut options = File::options();
        let file = options.write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(at(&path))?;
        Ok((path, file))
    }

    /// Waits for and takes a lock among all processes; it ends with what is returned.
    pub(crate) fn lock(&self, name: &str) -> Result<Flock<File>, Error> {
        let (path, file) = self.lock_file(name)?;
        Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| at(&path)(e.into()))
    }

    /// A new folder on the same file system as the layers.
    pub(crate) fn temporary(&self) -> Result<Temporary, Error> {
        let path = self.root.join("tmp").join(random()?);
        fs::DirBuilder::new().mode(0o755).create(&path).map_err(at(&path))?;
        let folder = File::open(&path).map_err(at(&path))?;
        let lock =
            Flock::lock(folder, FlockArg::LockShared).map_err(|(_, e)| at(&path)(e.into()))?;
        Ok(Temporary { path, _lock: lock })
    }

    /// Removes temporary folders that nobody holds.
    fn sweep(&self) -> Result<(), Error> {
        let tmp = self.root.join("tmp");
        for entry in fs::read_dir(&tmp).map_err(at(&tmp))?.flatten() {
            let Ok(folder) = File::open(entry.path()) else { continue };
            // Between its making and its locking a folder is empty: nothing is lost if it goes,
            // but the maker must not fail for it, so young ones stay.
            let young = entry.metadata().and_then(|m| m.modified()).is_ok_and(|t| {
                t.elapsed().map_or(true, |age| age < std::time::Duration::from_secs(60))
            });
            let free = Flock::lock(folder, FlockArg::LockExclusiveNonblock).is_ok();
            if free && !young {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        Ok(())
    }

    /// Unpacks a layer from its uncompressed tar stream unless it is here, and checks its id.
    pub(crate) fn add_layer(&self, diff_id: &str, source: impl Read) -> Result<(), Error> {
        if !is_digest(diff_id) {
            return Err(Error::Invalid(format!("{diff_id:?} is no layer's diff id")));
        }
        let _lock = self.lock(&diff_id["sha256:".len()..])?;
        if self.layer_path(diff_id).is_dir() {
            return Ok(());
        }
        let folder = self.temporary()?;
        let found = unpack_hashed(source, &folder.path)?;
        if found != diff_id {
            let text = format!("layer {diff_id} is damaged: its digest is {found}");
            return Err(Error::Invalid(text));
        }
        self.keep_layer(diff_id, &folder)
    }

    /// Makes a temporary folder the layer with this id; one that is there already is as good.
    pub(crate) fn keep_layer(&self, diff_id: &str, folder: &Temporary) -> Result<(), Error> {
        // On disk before it has its name: after a power cut, a layer that is there is whole.
        let handle = File::open(&folder.path).map_err(at(&folder.path))?;
        nix::unistd::syncfs(handle).map_err(|e| at(&folder.path)(e.into()))?;
        let to = self.layer_path(diff_id);
        match fs::rename(&folder.path, &to) {
            Err(_) if to.is_dir() => Ok(()),
            other => other.map_err(at(&to)),
        }
    }

    /// Records an image whose layers are all here, and names it.
    pub(crate) fn add_image(
        &self,
        config: &[u8],
        name: Option<&ImageRef>,
        repo_digest: Option<String>,
        brought: Brought,
    ) -> Result<Image, Error> {
        let file: ConfigFile = serde_json::from_slice(config)
            .map_err(|e| Error::Invalid(format!("the image's configuration is broken: {e}")))?;
        let id = digest(config);
        let mut size = 0;
        for layer in &file.rootfs.diff_ids {
            let path = self.layer_path(layer);
            if !is_digest(layer) || !path.is_dir() {
                return Err(Error::Invalid(format!("layer {layer:?} is missing")));
            }
            size += tree_size(&path);
        }
        let path = self.config_path(&id);
        write_whole(&path, config)?;
        self.change(|index| {
            let record = index.images.entry(id.clone()).or_default();
            record.layers = file.rootfs.diff_ids.clone();
            record.size = size;
            record.pinned |= brought == Brought::ByHand;
            record.repo_digests.extend(repo_digest);
            if let Some(name) = name {
                index.name(&id, name);
            }
            self.image(&id, &index.images[&id])
        })
    }
}

impl Index {
    fn name(&mut self, id: &str, name: &ImageRef) {
        let named = ImageRef { digest: None, ..name.clone() };
        if named.tag.is_none() {
            return;
        }
        let text = named.to_string();
        for record in self.images.values_mut() {
            record.tags.remove(&text);
        }
        if let Some(record) = self.images.get_mut(id) {
            record.tags.insert(text);
        }
    }
}

/// Unpacks a tar stream and tells its digest, that of all its bytes.
pub(crate) fn unpack_hashed(source: impl Read, folder: &Path) -> Result<String, Error> {
    let mut source = Hashing::new(source);
    unpack::unpack(&mut source, folder)
        .map_err(|e| Error::Invalid(format!("cannot unpack the layer: {}", sys::reason(&e))))?;
    // What follows the end of the archive counts too.
    io::copy(&mut source, &mut io::sink())
        .map_err(|e| Error::Invalid(format!("cannot read the layer: {}", sys::reason(&e))))?;
    Ok(source.digest())
}

/// A reader that takes the digest of what passes.
pub(crate) struct Hashing<R> {
    inner: R,
    hash: Sha256,
}

impl<R> Hashing<R> {
    pub(crate) fn new(inner: R) -> Self {
        Hashing { inner, hash: Sha256::new() }
    }

    pub(crate) fn digest(self) -> String {
        format!("sha256:{}", hex::encode(self.hash.finalize()))
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hash.update(&buffer[..n]);
        Ok(n)
    }
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// Replaces a file as a whole, on disk before it has its name.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let temporary = path.with_file_name(format!(".{}", random()?));
    let write = || {
        let mut file = File::options().write(true).create_new(true).mode(0o644).open(&temporary)?;
        io::Write::write_all(&mut file, bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|e| {
        let _ = fs::remove_file(&temporary);
        at(path)(e)
    })
}

pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(at(path))?;
    file.take(MAX_CONFIG).read_to_end(&mut bytes).map_err(at(path))?;
    serde_json::from_slice(&bytes).map_err(|e| Error::Invalid(format!("{}: {e}", path.display())))
}

pub(crate) fn random() -> Result<String, Error> {
    let mut bytes = [0_u8; 12];
    let path = Path::new("/dev/urandom");
    File::open(path).and_then(|mut f| f.read_exact(&mut bytes)).map_err(at(path))?;
    Ok(hex::encode(bytes))
}

fn tree_size(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let (mut size, mut stack) = (0, vec![path.to_owned()]);
    let mut counted = BTreeSet::new();
    while let Some(folder) = stack.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                stack.push(entry.path());
            } else if meta.is_file() && (meta.nlink() < 2 || counted.insert(meta.ino())) {
                size += meta.len();
            }
        }
    }
    size
}
