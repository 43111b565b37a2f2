//! Making room: images that nobody uses go, the one that was used longest ago first.
//!
//! When an image was used last is the time of its configuration's file, so that all processes of
//! the machine agree on it and it outlives them.
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use nix::fcntl::{Flock, FlockArg};

use crate::error::at;
use crate::store::Record;
use crate::{Error, Images};

/// What came of making room.
#[derive(Debug, Default)]
pub struct Freed {
    pub bytes: u64,
    pub images: Vec<String>,
    /// One line for each image that could not be removed.
    pub failures: Vec<String>,
}

impl Record {
    /// Older records do not say it, but what has no digest came from no registry.
    pub(crate) fn is_pinned(&self) -> bool {
        self.pinned || self.repo_digests.is_empty()
    }
}

impl Images {
    /// Whether anybody uses the image; lower layers may be used through other images.
    pub(crate) fn is_held(&self, record: &Record) -> bool {
        let top = record.layers.last().and_then(|top| File::open(self.layer_path(top)).ok());
        top.is_some_and(|top| Flock::lock(top, FlockArg::LockExclusiveNonblock).is_err())
    }

    /// Notes that an image is used now. One that is gone by now is no error.
    pub fn mark_used(&self, id: &str) -> Result<(), Error> {
        let path = self.config_path(id);
        let file = match File::options().write(true).open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(at(&path))?,
        };
        file.set_modified(SystemTime::now()).map_err(at(&path))
    }

    /// The same for every image whose topmost layer is one of these, as containers name it.
    pub fn mark_layers_used(&self, topmost: &[PathBuf]) -> Result<(), Error> {
        for (id, record) in self.index()?.images {
            let top = record.layers.last().map(|top| self.layer_path(top));
            if self.is_held(&record) || top.is_some_and(|top| topmost.contains(&top)) {
                self.mark_used(&id)?;
            }
        }
        Ok(())
    }

    /// Removes images until `bytes` are free: never one that is in use, that was brought by hand,
    /// or that was used within `min_age` (it may be about to be used again).
    pub fn free(&self, bytes: u64, min_age: Duration) -> Result<Freed, Error> {
        let index = self.index()?;
        let now = SystemTime::now();
        let candidates = index.images.iter().filter_map(|(id, record)| {
            let used = std::fs::metadata(self.config_path(id)).and_then(|m| m.modified()).ok()?;
            let age = now.duration_since(used).unwrap_or_default();
            (!record.is_pinned() && age >= min_age && !self.is_held(record))
                .then(|| (used, id.as_str(), record))
        });
        let mut candidates: Vec<(SystemTime, &str, &Record)> = candidates.collect();
        candidates.sort_by_key(|(used, id, _)| (*used, *id));
        let mut freed = Freed::default();
        for (_, id, record) in candidates {
            if freed.bytes >= bytes {
                break;
            }
            match self.remove(id) {
                Ok(()) => {
                    freed.bytes += record.size;
                    freed.images.push(id.to_owned());
                }
                // A container was faster.
                Err(Error::InUse(_) | Error::NotFound(_)) => {}
                Err(error) => freed.failures.push(error.to_string()),
            }
        }
        Ok(freed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{self, Brought};
    use std::path::Path;

    fn add(images: &Images, name: &str, hours_ago: u64, brought: Brought) -> String {
        let layer = store::digest(name.as_bytes());
        let folder = images.layer_path(&layer);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("file"), [0; 100]).unwrap();
        let config = format!(r#"{{"rootfs": {{"diff_ids": ["{layer}"]}}}}"#);
        let digest = format!("r.test/{name}@{layer}");
        let image = images.add_image(config.as_bytes(), None, Some(digest), brought).unwrap();
        let used = SystemTime::now() - Duration::from_secs(hours_ago * 3600);
        let file = File::options().write(true).open(images.config_path(&image.id)).unwrap();
        file.set_modified(used).unwrap();
        image.id
    }

    fn left(images: &Images) -> Vec<String> {
        images.list().unwrap().into_iter().map(|image| image.id).collect()
    }

    #[test]
    fn what_was_used_longest_ago_goes_first_and_some_never() {
        let dir = tempfile::tempdir().unwrap();
        let images = Images::open(dir.path()).unwrap();
        let pulled = Brought::FromRegistry;
        let (old, older) = (add(&images, "old", 2, pulled), add(&images, "older", 3, pulled));
        let (young, held) = (add(&images, "young", 0, pulled), add(&images, "held", 9, pulled));
        let waiting = add(&images, "waiting", 9, pulled);
        let pinned = add(&images, "pinned", 9, Brought::ByHand);
        let layers = |id: &str| images.get(id).unwrap().unwrap().layers;
        let lock = File::open(&layers(&held)[0]).unwrap();
        let flag = nix::fcntl::FlockArg::LockShared;
        let lock = nix::fcntl::Flock::lock(lock, flag).map_err(|(_, e)| e).unwrap();
        // That of a container which waits to be started again.
        images.mark_layers_used(&layers(&waiting)).unwrap();
        let age = Duration::from_secs(120);
        let freed = images.free(1, age).unwrap();
        assert_eq!((freed.bytes, freed.images), (100, vec![older]));
        let freed = images.free(u64::MAX, age).unwrap();
        assert_eq!((freed.bytes, freed.images), (100, vec![old]));
        let mut kept = [young, held, waiting, pinned];
        kept.sort();
        assert_eq!(left(&images), kept);
        drop(lock);
        assert!(images.free(u64::MAX, age).unwrap().images.is_empty(), "it was used a moment ago");
        assert_eq!(images.free(u64::MAX, Duration::ZERO).unwrap().images.len(), 3);
        assert_eq!(left(&images), [kept.into_iter().find(|id| is_pinned(dir.path(), id)).unwrap()]);
    }

    fn is_pinned(root: &Path, id: &str) -> bool {
        Images::open(root).unwrap().get(id).unwrap().is_some_and(|image| image.pinned)
    }
}
