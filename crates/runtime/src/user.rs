//! Users and groups by name, from an image's own `/etc/passwd` and `/etc/group`.
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use sys::mount::{Resolve, open_at, open_place};

use crate::{Error, User};

/// Longest passwd or group file that is read; the rest of a longer one is ignored.
const MAX_FILE: u64 = 4 << 20;

/// What a pod and an image say about a container's user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserSpec {
    /// The image's `User`: `user[:group]`, names or numbers; empty: root.
    pub image_user: String,
    pub run_as_user: Option<u32>,
    pub run_as_group: Option<u32>,
    /// `supplementalGroups` and `fsGroup` of the pod.
    pub groups: Vec<u32>,
    /// `supplementalGroupsPolicy: Strict`: no groups from the image.
    pub strict_groups: bool,
}

/// Finds the numbers. Blocking: reads files of the image.
pub fn resolve(layers: &[PathBuf], spec: &UserSpec) -> Result<User, Error> {
    let passwd = read(layers, Path::new("etc/passwd"));
    let group = read(layers, Path::new("etc/group"));
    let (image_user, image_group) = match spec.image_user.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (spec.image_user.as_str(), None),
    };
    let by_image = |name: &str| -> Result<u32, Error> {
        if name.is_empty() {
            return Ok(0);
        }
        let named = lines(&passwd).find(|f| f.first() == Some(&name)).and_then(|f| number(&f, 2));
        named.or_else(|| name.parse().ok()).ok_or_else(|| {
            Error::Config(format!("unable to find user {name}: no matching entries in passwd file"))
        })
    };
    let uid = spec.run_as_user.map_or_else(|| by_image(image_user), Ok)?;
    let entry = lines(&passwd).find(|f| number(f, 2) == Some(uid));
    let gid = match (spec.run_as_group, spec.run_as_user, image_group) {
        (Some(gid), _, _) => gid,
        (None, None, Some(name)) if !name.is_empty() => {
            let named = lines(&group).find(|f| f.first() == Some(&name));
            named.and_then(|f| number(&f, 2)).or_else(|| name.parse().ok()).ok_or_else(|| {
                Error::Config(format!(
                    "unable to find group {name}: no matching entries in group file"
                ))
            })?
        }
        _ => entry.as_ref().and_then(|f| number(f, 3)).unwrap_or(0),
    };
    let mut groups = spec.groups.clone();
    if let (false, Some(name)) = (spec.strict_groups, entry.as_ref().and_then(|f| f.first())) {
        let member = |f: &Vec<&str>| f.get(3).is_some_and(|m| m.split(',').any(|m| m == *name));
        groups.extend(lines(&group).filter(member).filter_map(|f| number(&f, 2)));
    }
    // The primary group is one of a process's groups for every purpose but this list.
    groups.insert(0, gid);
    let mut seen = std::collections::BTreeSet::new();
    groups.retain(|g| seen.insert(*g));
    Ok(User { uid, gid, groups })
}

/// The home folder of a user in the file system at `root`.
pub(crate) fn home(root: &Path, uid: u32) -> Option<String> {
    let text = read(&[root.to_owned()], Path::new("etc/passwd"));
    let entry = lines(&text).find(|f| number(f, 2) == Some(uid))?;
    entry.get(5).filter(|home| !home.is_empty()).map(|home| (*home).to_owned())
}

/// The file as the topmost layer that has it shows it; links are followed inside that layer only.
fn read(layers: &[PathBuf], path: &Path) -> String {
    for layer in layers.iter().rev() {
        let Ok(root) = open_place(layer) else { continue };
        let Ok(found) =
            open_at(&root, path, nix::fcntl::OFlag::O_NONBLOCK.bits(), 0, Resolve::InRoot)
        else {
            continue;
        };
        let file = File::from(found);
        if !file.metadata().is_ok_and(|m| m.is_file()) {
            // A whiteout or something odd: the lower layers' file does not show.
            break;
        }
        let mut bytes = Vec::new();
        if file.take(MAX_FILE).read_to_end(&mut bytes).is_ok() {
            return String::from_utf8_lossy(&bytes).into_owned();
        }
    }
    String::new()
}

fn lines(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().filter(|l| !l.starts_with('#')).map(|l| l.trim_end().split(':').collect())
}

fn number(fields: &[&str], at: usize) -> Option<u32> {
    fields.get(at)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> (tempfile::TempDir, Vec<PathBuf>) {
        let dir = tempfile::tempdir().unwrap();
        let layers = vec![dir.path().join("low"), dir.path().join("high")];
        for layer in &layers {
            std::fs::create_dir_all(layer.join("etc")).unwrap();
        }
        std::fs::write(
            layers[0].join("etc/passwd"),
            "root:x:0:0::/root:/bin/sh\nold:x:5:5::/:/x\n",
        )
        .unwrap();
        std::fs::write(
            layers[1].join("etc/passwd"),
            "root:x:0:0::/root:/bin/sh\nweb:x:101:102:w:/srv/web:/bin/sh\n12:x:7:7::/:/x\n",
        )
        .unwrap();
        std::fs::write(
            layers[0].join("etc/group"),
            "web:x:102:\nlog:x:50:web,other\nz:x:60:other\n",
        )
        .unwrap();
        (dir, layers)
    }

    #[test]
    fn names_become_numbers() {
        let (_dir, layers) = image();
        let user = |uid, gid, groups: &[u32]| User { uid, gid, groups: groups.to_vec() };
        let spec = |image_user: &str| UserSpec { image_user: image_user.into(), ..<_>::default() };
        let ok = |spec: &UserSpec| resolve(&layers, spec).unwrap();
        assert_eq!(ok(&spec("")), user(0, 0, &[0]));
        assert_eq!(ok(&spec("web")), user(101, 102, &[102, 50]));
        assert_eq!(ok(&spec("101")), user(101, 102, &[102, 50]));
        assert_eq!(ok(&spec("12")), user(7, 7, &[7]), "a name of digits is a name first");
        assert_eq!(ok(&spec("web:log")), user(101, 50, &[50]));
        assert_eq!(ok(&spec("9000:9001")), user(9000, 9001, &[9001]));
        let strict = UserSpec { strict_groups: true, groups: vec![2000], ..spec("web") };
        assert_eq!(ok(&strict), user(101, 102, &[102, 2000]));
        let pod = UserSpec { run_as_user: Some(101), groups: vec![7], ..spec("nobody:nogroup") };
        assert_eq!(ok(&pod), user(101, 102, &[102, 7, 50]));
        for unknown in ["old", "nobody", "web:nogroup"] {
            assert!(resolve(&layers, &spec(unknown)).is_err(), "{unknown}");
        }
        assert_eq!(home(&layers[1], 101).as_deref(), Some("/srv/web"));
        assert_eq!(home(&layers[1], 5), None);
    }
}
