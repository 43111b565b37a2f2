//! Images from files: OCI layouts, docker archives, plain root file systems; and built from a
//! folder. Blocking.
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use serde::Deserialize;
use sys::mount::{Resolve, open_at, open_place};

use crate::error::at;
use crate::manifest::{self, Descriptor, Index, Manifest};
use crate::reference::is_digest;
use crate::store::{self, Brought, ConfigFile, Hashing, MAX_CONFIG, RootFs};
use crate::{BuildSpec, Error, Image, ImageConfig, ImageRef, Images};

const MAX_JSON: u64 = 8 << 20;

/// One image of a `docker save` archive.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: PathBuf,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<PathBuf>,
}

impl Images {
    /// Imports a folder or an archive (plain, gzip or zstd), whatever of the known formats it is.
    /// `name` names the image; a layout or archive of several keeps its own names.
    pub fn import(&self, path: &Path, name: Option<&ImageRef>) -> Result<Vec<Image>, Error> {
        let _adding = self.adding()?;
        if path.is_dir() {
            return match self.import_folder(path, name)? {
                Some(images) => Ok(images),
                None => Ok(vec![self.import_rootfs_folder(path, name)?]),
            };
        }
        let file = File::open(path).map_err(at(path))?;
        self.import_reader(file, name)
    }

    /// As [`Images::import`], from a stream.
    pub fn import_reader(
        &self,
        source: impl Read,
        name: Option<&ImageRef>,
    ) -> Result<Vec<Image>, Error> {
        let _adding = self.adding()?;
        let folder = self.temporary()?;
        let source = decompress(source)
            .map_err(|e| Error::Invalid(format!("cannot read the archive: {e}")))?;
        let diff_id = store::unpack_hashed(source, &folder.path)?;
        if let Some(images) = self.import_folder(&folder.path, name)? {
            return Ok(images);
        }
        let empty = std::fs::read_dir(&folder.path).map_err(at(&folder.path))?.next().is_none();
        if empty {
            return Err(Error::Invalid("the archive is empty, or no tar archive".to_owned()));
        }
        self.keep_layer(&diff_id, &folder)?;
        Ok(vec![self.record(vec![diff_id], ImageConfig::default(), name)?])
    }

    /// Makes an image from a folder and names it.
    pub fn build(&self, spec: &BuildSpec) -> Result<Image, Error> {
        let name = spec.name.parse::<ImageRef>()?;
        if !spec.folder.is_dir() {
            return Err(Error::Invalid(format!("{} is no folder", spec.folder.display())));
        }
        let _adding = self.adding()?;
        let layer = self.layer_of(&spec.folder)?;
        self.record(vec![layer], spec.config.clone(), Some(&name))
    }

    fn import_rootfs_folder(&self, path: &Path, name: Option<&ImageRef>) -> Result<Image, Error> {
        let layer = self.layer_of(path)?;
        self.record(vec![layer], ImageConfig::default(), name)
    }

    /// Records an image of layers that are here, with a configuration written for it.
    pub(crate) fn record(
        &self,
        diff_ids: Vec<String>,
        config: ImageConfig,
        name: Option<&ImageRef>,
    ) -> Result<Image, Error> {
        let file = ConfigFile {
            architecture: manifest::architecture().to_owned(),
            os: "linux".to_owned(),
            config: Some(config),
            rootfs: RootFs { kind: "layers".to_owned(), diff_ids },
        };
        let bytes = serde_json::to_vec(&file).expect("plain data has a JSON form");
        self.add_image(&bytes, name, None, Brought::ByHand)
    }

    /// Packs a folder into a tar stream and unpacks it as a layer, in one go: the layer is what
    /// it would be if the image had travelled.
    fn layer_of(&self, folder: &Path) -> Result<String, Error> {
        let target = self.temporary()?;
        let (reader, writer) = io::pipe().map_err(at(folder))?;
        let source = folder.to_owned();
        let packer = std::thread::spawn(move || {
            let mut builder = tar::Builder::new(io::BufWriter::with_capacity(1 << 16, writer));
            builder.follow_symlinks(false);
            builder.mode(tar::HeaderMode::Complete);
            append(&mut builder, &source, Path::new(""))?;
            io::Write::flush(&mut builder.into_inner()?)
        });
        let unpacked = store::unpack_hashed(reader, &target.path);
        let packed = packer.join().map_err(|_| io::Error::other("the packer panicked"));
        // A broken pipe only says that unpacking failed, which says why.
        let diff_id = unpacked?;
        packed.and_then(|result| result).map_err(at(folder))?;
        self.keep_layer(&diff_id, &target)?;
        Ok(diff_id)
    }

    /// `None`: it is neither an OCI layout nor a docker archive.
    fn import_folder(
        &self,
        folder: &Path,
        name: Option<&ImageRef>,
    ) -> Result<Option<Vec<Image>>, Error> {
        let source = Source { root: open_place(folder).map_err(at(folder))? };
        if folder.join("oci-layout").is_file() && folder.join("index.json").is_file() {
            return self.import_layout(&source, name).map(Some);
        }
        let Ok(saved) = source.json::<Vec<Saved>>(Path::new("manifest.json")) else {
            return Ok(None);
        };
        saved
            .iter()
            .map(|one| self.import_saved(&source, one, name))
            .collect::<Result<_, _>>()
            .map(Some)
    }

    fn import_saved(
        &self,
        source: &Source,
        saved: &Saved,
        name: Option<&ImageRef>,
    ) -> Result<Image, Error> {
        let config = source.bytes(&saved.config, MAX_CONFIG)?;
        let diff_ids = diff_ids(&config, saved.layers.len())?;
        for (diff_id, path) in diff_ids.iter().zip(&saved.layers) {
            self.add_compressed(diff_id, source.open(path)?)?;
        }
        let tags = saved.repo_tags.iter().flatten().map(|t| t.parse::<ImageRef>());
        let tags = tags.collect::<Result<Vec<_>, _>>()?;
        let names: Vec<&ImageRef> = name.into_iter().chain(&tags).collect();
        let mut image = self.add_image(&config, names.first().copied(), None, Brought::ByHand)?;
        for more in names.iter().skip(1) {
            self.tag(&image.id, more)?;
            image.tags.push(more.to_string());
        }
        Ok(image)
    }

    fn import_layout(&self, source: &Source, name: Option<&ImageRef>) -> Result<Vec<Image>, Error> {
        let index: Index = source.json(Path::new("index.json"))?;
        if index.manifests.is_empty() {
            return Err(Error::Invalid("the layout holds no image".to_owned()));
        }
        let mut images = Vec::new();
        for entry in &index.manifests {
            let own = layout_name(&entry.annotations, name);
            let (descriptor, manifest) = source.manifest(entry)?;
            let config = source.blob(&manifest.config)?;
            let diff_ids = diff_ids(&config, manifest.layers.len())?;
            for (diff_id, layer) in diff_ids.iter().zip(&manifest.layers) {
                self.add_compressed(diff_id, source.open(&blob_path(&layer.digest)?)?)?;
            }
            let repo_digest = own.as_ref().map(|n| format!("{}@{}", n.name(), descriptor));
            let brought = Brought::ByHand;
            images.push(self.add_image(&config, own.as_ref(), repo_digest, brought)?);
        }
        Ok(images)
    }

    pub(crate) fn add_compressed(&self, diff_id: &str, source: impl Read) -> Result<(), Error> {
        let source = decompress(source)
            .map_err(|e| Error::Invalid(format!("cannot read layer {diff_id}: {e}")))?;
        self.add_layer(diff_id, source)
    }
}

/// A folder of somebody else's making: links in it lead nowhere else.
struct Source {
    root: std::os::fd::OwnedFd,
}

impl Source {
    fn open(&self, path: &Path) -> Result<File, Error> {
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
        let opened = open_at(&self.root, path, flags.bits(), 0, Resolve::InRoot);
        let file = File::from(opened.map_err(at(path))?);
        let meta = file.metadata().map_err(at(path))?;
        if meta.is_file() {
            Ok(file)
        } else {
            Err(Error::Invalid(format!("{} is no file", path.display())))
        }
    }

    fn bytes(&self, path: &Path, most: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        let mut file = self.open(path)?.take(most + 1);
        file.read_to_end(&mut bytes).map_err(at(path))?;
        if bytes.len() as u64 > most {
            return Err(Error::Invalid(format!("{} is larger than {most} bytes", path.display())));
        }
        Ok(bytes)
    }

    fn json<T: serde::de::DeserializeOwned>(&self, path: &Path) -> Result<T, Error> {
        let bytes = self.bytes(path, MAX_JSON)?;
        serde_json::from_slice(&bytes)
            .map_err(|e| Error::Invalid(format!("{}: {e}", path.display())))
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        let bytes = self.bytes(&blob_path(&descriptor.digest)?, MAX_JSON)?;
        let found = store::digest(&bytes);
        if found != descriptor.digest {
            let wanted = &descriptor.digest;
            return Err(Error::Invalid(format!("blob {wanted} is damaged: its digest is {found}")));
        }
        Ok(bytes)
    }

    /// The manifest for this machine, and the digest of what the layout's index names.
    fn manifest(&self, entry: &Descriptor) -> Result<(String, Manifest), Error> {
        let mut bytes = self.blob(entry)?;
        // An index may name an index; nothing sensible nests deeper.
        for _ in 0..3 {
            match manifest::parse(&bytes).map_err(Error::Invalid)? {
                manifest::Document::Manifest(manifest) => {
                    return Ok((entry.digest.clone(), manifest));
                }
                manifest::Document::Index(index) => {
                    let chosen = index.choose("").map_err(Error::Invalid)?;
                    bytes = self.blob(chosen)?;
                }
            }
        }
        Err(Error::Invalid("indexes are nested too deeply".to_owned()))
    }
}

fn blob_path(digest: &str) -> Result<PathBuf, Error> {
    if !is_digest(digest) {
        return Err(Error::Invalid(format!("{digest:?} is no digest")));
    }
    Ok(Path::new("blobs").join("sha256").join(&digest["sha256:".len()..]))
}

/// The name that a layout gives, in one of the two customary ways, or the caller.
fn layout_name(
    annotations: &BTreeMap<String, String>,
    name: Option<&ImageRef>,
) -> Option<ImageRef> {
    let full = annotations.get("io.containerd.image.name").and_then(|n| n.parse().ok());
    let reference = annotations.get("org.opencontainers.image.ref.name");
    let named = || reference.filter(|r| r.contains(['/', ':'])).and_then(|r| r.parse().ok());
    name.cloned().or(full).or_else(named)
}

/// The layers' ids that a configuration names: as many as there are layers.
pub(crate) fn diff_ids(config: &[u8], layers: usize) -> Result<Vec<String>, Error> {
    let file: ConfigFile = serde_json::from_slice(config)
        .map_err(|e| Error::Invalid(format!("the image's configuration is broken: {e}")))?;
    let ids = file.rootfs.diff_ids;
    if ids.len() != layers {
        let text =
            format!("the image has {layers} layers but names {} in its configuration", ids.len());
        return Err(Error::Invalid(text));
    }
    Ok(ids)
}

/// A reader of what is inside gzip, zstd or nothing, told by the first bytes.
pub(crate) fn decompress<'a>(source: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut source = BufReader::with_capacity(1 << 16, source);
    let start = {
        use io::BufRead;
        let start = source.fill_buf()?;
        [0, 1, 2, 3].map(|i| start.get(i).copied().unwrap_or(0))
    };
    Ok(match start {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::Decoder::with_buffer(source)?),
        _ => Box::new(source),
    })
}

/// Everything below a folder, in the order of names, so that the same folder makes the same image.
fn append(
    builder: &mut tar::Builder<impl io::Write>,
    folder: &Path,
    name: &Path,
) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt;
    let mut entries = std::fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by(|a, b| a.file_name().as_bytes().cmp(b.file_name().as_bytes()));
    for entry in entries {
        let (path, name) = (entry.path(), name.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_socket() {
            continue;
        }
        builder.append_path_with_name(&path, &name)?;
        if kind.is_dir() {
            append(builder, &path, &name)?;
        }
    }
    Ok(())
}

/// The digest of a file's bytes.
pub(crate) fn file_digest(path: &Path) -> Result<String, Error> {
    let mut hashing = Hashing::new(File::open(path).map_err(at(path))?);
    let mut buffer = vec![0; 1 << 18];
    while hashing.read(&mut buffer).map_err(at(path))? > 0 {}
    Ok(hashing.digest())
}
