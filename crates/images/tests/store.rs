//! The store from outside: imports of every format, pulls from a registry on loopback, removal.
#![allow(clippy::unwrap_used, reason = "these are tests")]
use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use images::{Auth, BuildSpec, Error, ImageConfig, ImageRef, Images, PullOptions};
use sha2::{Digest, Sha256};

fn root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: layers keep owners, which needs root");
    }
    root
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

fn reference(text: &str) -> ImageRef {
    text.parse().unwrap()
}

fn layer(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, path, text.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An image of two layers, one gzip and one zstd, behind an index of two platforms.
struct Made {
    blobs: HashMap<String, Vec<u8>>,
    index: String,
    id: String,
    layers: Vec<String>,
}

fn made() -> Made {
    let plain = [layer(&[("a", "low"), ("b", "kept")]), layer(&[("a", "high")])];
    let packed = [gzip(&plain[0]), zstd::encode_all(&plain[1][..], 1).unwrap()];
    let diff_ids: Vec<_> = plain.iter().map(|l| digest(l)).collect();
    let config = serde_json::to_vec(&serde_json::json!({
        "os": "linux", "architecture": "amd64",
        "config": {"Env": ["A=1"], "Entrypoint": ["/a"], "Cmd": null, "User": "web"},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }))
    .unwrap();
    let describe = |b: &[u8]| serde_json::json!({"digest": digest(b), "size": b.len()});
    let manifest = serde_json::to_vec(&serde_json::json!({
        "schemaVersion": 2, "config": describe(&config),
        "layers": [describe(&packed[0]), describe(&packed[1])],
    }))
    .unwrap();
    let platform = |os: &str, arch: &str| serde_json::json!({"os": os, "architecture": arch});
    let mut own = describe(&manifest);
    own["platform"] =
        platform("linux", if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" });
    let mut other = describe(b"nothing");
    other["platform"] = platform("linux", "s390x");
    let index =
        serde_json::to_vec(&serde_json::json!({"schemaVersion": 2, "manifests": [other, own]}))
            .unwrap();
    let id = digest(&config);
    let layers = packed.iter().map(|l| digest(l)).collect();
    let name = digest(&index);
    let all = packed.into_iter().chain([config, manifest, index]);
    Made { blobs: all.map(|b| (digest(&b), b)).collect(), index: name, id, layers }
}

/// A registry on loopback. With a token it wants one, given for the password `secret` only.
#[derive(Clone)]
struct Registry {
    blobs: Arc<Mutex<HashMap<String, Vec<u8>>>>,
    asked: Arc<Mutex<Vec<String>>>,
    index: String,
    private: bool,
    port: u16,
}

impl Registry {
    fn start(made: &Made, private: bool) -> Registry {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (blobs, index) = (Arc::new(Mutex::new(made.blobs.clone())), made.index.clone());
        let registry = Registry { blobs, asked: Arc::default(), index, private, port };
        let serving = registry.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serving = serving.clone();
                std::thread::spawn(move || drop(serving.answer(stream)));
            }
        });
        registry
    }

    fn answer(&self, mut stream: std::net::TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let Some(first) = lines.next() else { return Ok(()) };
        let first = first?;
        // A TLS hello is no text: the client then tries without.
        let Some(path) = first.split(' ').nth(1).map(str::to_owned) else { return Ok(()) };
        let mut authorization = String::new();
        for line in lines {
            let line = line?;
            if line.is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("authorization")
            {
                value.trim().clone_into(&mut authorization);
            }
        }
        self.asked.lock().unwrap().push(path.clone());
        let (status, extra, body) = self.reply(&path, &authorization);
        let length = body.len();
        write!(
            stream,
            "HTTP/1.1 {status}\r\n{extra}Content-Length: {length}\r\nConnection: close\r\n\r\n"
        )?;
        stream.write_all(&body)
    }

    fn reply(&self, path: &str, authorization: &str) -> (&'static str, String, Vec<u8>) {
        if path.starts_with("/token?") {
            // "user:secret"
            let known = authorization == "Basic dXNlcjpzZWNyZXQ=";
            let scoped = path.contains("scope=repository%3Ateam%2Fapp%3Apull");
            return match known && scoped {
                true => ("200 OK", String::new(), br#"{"token":"t0ken"}"#.to_vec()),
                false => ("401 Unauthorized", String::new(), Vec::new()),
            };
        }
        if self.private && authorization != "Bearer t0ken" {
            let realm = format!("http://127.0.0.1:{}/token", self.port);
            let challenge = format!("WWW-Authenticate: Bearer realm=\"{realm}\",service=\"r\"\r\n");
            return ("401 Unauthorized", challenge, Vec::new());
        }
        let what = path.strip_prefix("/v2/team/app/").unwrap_or_default();
        let (_, name) = what.split_once('/').unwrap_or_default();
        let name = if name == "v1" { &self.index } else { name };
        let (name, stored) = match name.strip_suffix("?stored") {
            Some(name) => (name, true),
            None => (name, false),
        };
        let found = self.blobs.lock().unwrap().get(name).cloned();
        match found {
            // Blobs lie elsewhere, as with most registries.
            Some(_) if what.starts_with("blobs/") && !stored => {
                ("307 Temporary Redirect", format!("Location: {path}?stored\r\n"), Vec::new())
            }
            Some(bytes) => ("200 OK", String::new(), bytes),
            None => ("404 Not Found", String::new(), Vec::new()),
        }
    }

    fn name(&self) -> ImageRef {
        reference(&format!("127.0.0.1:{}/team/app:v1", self.port))
    }
}

fn check(image: &images::Image, id: &str) {
    assert_eq!(image.id, id);
    assert_eq!(image.layers.len(), 2);
    assert_eq!(fs::read_to_string(image.layers[0].join("b")).unwrap(), "kept");
    assert_eq!(fs::read_to_string(image.layers[1].join("a")).unwrap(), "high");
    assert_eq!(image.config.argv(&[], &[]), ["/a"]);
    assert_eq!((image.config.user.as_str(), image.size), ("web", 11));
}

fn leftovers(dir: &Path) -> usize {
    fs::read_dir(dir.join("tmp")).unwrap().count()
}

#[tokio::test]
async fn pulls_and_fetches_nothing_twice() {
    if !root() {
        return;
    }
    let (dir, made) = (tempfile::tempdir().unwrap(), made());
    let images = Images::open(dir.path()).unwrap();
    let registry = Registry::start(&made, false);
    let name = registry.name();
    let image = images.pull(&name, &PullOptions::default(), None).await.unwrap();
    check(&image, &made.id);
    assert_eq!(image.tags, [name.to_string()]);
    assert_eq!(image.repo_digests, [format!("{}@{}", name.name(), made.index)]);
    registry.asked.lock().unwrap().clear();
    images.pull(&name, &PullOptions::default(), None).await.unwrap();
    let asked = registry.asked.lock().unwrap().clone();
    assert!(!asked.iter().any(|p| made.layers.iter().any(|l| p.contains(l))), "{asked:?}");
    let by_digest = reference(&image.repo_digests[0]);
    assert_eq!(images.resolve(&by_digest).unwrap(), Some(image.clone()));
    images.pull(&by_digest, &PullOptions::default(), None).await.unwrap();
    assert_eq!(leftovers(dir.path()), 0);
    // A container of it holds a lock on its topmost layer.
    let held = nix::fcntl::Flock::lock(
        fs::File::open(&image.layers[1]).unwrap(),
        nix::fcntl::FlockArg::LockShared,
    );
    assert!(matches!(images.remove(&image.id), Err(Error::InUse(_))));
    drop(held);
    images.remove(&image.id).unwrap();
    assert!(images.list().unwrap().is_empty() && !image.layers[0].exists());
    assert_eq!(fs::read_dir(dir.path().join("configs")).unwrap().count(), 0);
    assert!(matches!(images.remove(&image.id), Err(Error::NotFound(_))));
}

#[tokio::test]
async fn answers_challenges_with_the_credentials_that_fit() {
    if !root() {
        return;
    }
    let (dir, made) = (tempfile::tempdir().unwrap(), made());
    let images = Images::open(dir.path()).unwrap();
    let registry = Registry::start(&made, true);
    let name = registry.name();
    let none = images.pull(&name, &PullOptions::default(), None).await;
    assert!(matches!(none, Err(Error::Unauthorized { .. })), "{none:?}");
    let auth = |password: &str| Auth {
        username: "user".into(),
        password: password.into(),
        ..Auth::default()
    };
    let options = PullOptions { auths: vec![auth("wrong"), auth("secret")], ..<_>::default() };
    check(&images.pull(&name, &options, None).await.unwrap(), &made.id);
}

#[tokio::test]
async fn what_is_damaged_or_missing_never_becomes_an_image() {
    if !root() {
        return;
    }
    let (dir, made) = (tempfile::tempdir().unwrap(), made());
    let images = Images::open(dir.path()).unwrap();
    let missing = Registry::start(&made, false);
    let gone = reference(&format!("127.0.0.1:{}/team/app:v2", missing.port));
    let error = images.pull(&gone, &PullOptions::default(), None).await;
    assert!(matches!(error, Err(Error::Missing { .. })), "{error:?}");
    for blob in made.blobs.keys() {
        // What is here already is not fetched again: each time a store of nothing.
        let images = Images::open(tempfile::tempdir_in(dir.path()).unwrap().keep()).unwrap();
        let registry = Registry::start(&made, false);
        let changed = {
            let mut blobs = registry.blobs.lock().unwrap();
            let bytes = blobs.get_mut(blob).unwrap();
            // A manifest asked for by its tag may be anything; by digest it may not.
            *bytes.last_mut().unwrap() ^= 1;
            digest(bytes)
        };
        assert_ne!(changed, *blob);
        let pinned = format!("127.0.0.1:{}/team/app@{}", registry.port, made.index);
        let error = images.pull(&reference(&pinned), &PullOptions::default(), None).await;
        assert!(error.is_err(), "{blob} was taken");
        assert!(images.list().unwrap().is_empty());
    }
    let options = PullOptions { platform: "linux/riscv64".into(), ..<_>::default() };
    let error = images.pull(&missing.name(), &options, None).await.unwrap_err();
    assert!(error.to_string().contains("no match for platform linux/riscv64"), "{error}");
    assert_eq!(leftovers(dir.path()), 0);
}

#[tokio::test]
async fn a_mirror_is_asked_first_and_may_be_down() {
    if !root() {
        return;
    }
    let made = made();
    let (mirror, origin) = (Registry::start(&made, false), Registry::start(&made, false));
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for (url, uses_mirror) in [
        (format!("http://127.0.0.1:{}", mirror.port), true),
        (format!("http://127.0.0.1:{free}"), false),
    ] {
        let dir = tempfile::tempdir().unwrap();
        origin.asked.lock().unwrap().clear();
        let options = PullOptions { mirrors: vec![url], ..<_>::default() };
        let images = Images::open(dir.path()).unwrap();
        let image = images.pull(&origin.name(), &options, None).await.unwrap();
        check(&image, &made.id);
        assert_eq!(image.tags, [origin.name().to_string()], "the name stays the origin's");
        assert_eq!(origin.asked.lock().unwrap().is_empty(), uses_mirror);
    }
}

fn layout(dir: &Path, made: &Made) -> PathBuf {
    let at = dir.join("layout");
    fs::create_dir_all(at.join("blobs/sha256")).unwrap();
    for (name, bytes) in &made.blobs {
        fs::write(at.join("blobs/sha256").join(&name[7..]), bytes).unwrap();
    }
    fs::write(at.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [{
        "digest": made.index, "size": 1,
        "annotations": {"org.opencontainers.image.ref.name": "registry.example/team/app:v3"},
    }]});
    fs::write(at.join("index.json"), index.to_string()).unwrap();
    at
}

fn packed(folder: &Path, to: &Path) -> PathBuf {
    let mut builder = tar::Builder::new(fs::File::create(to).unwrap());
    builder.append_dir_all("", folder).unwrap();
    builder.finish().unwrap();
    to.to_owned()
}

#[test]
fn imports_every_format() {
    if !root() {
        return;
    }
    let (dir, made) = (tempfile::tempdir().unwrap(), made());
    let folder = layout(dir.path(), &made);
    let archive = packed(&folder, &dir.path().join("layout.tar"));
    for path in [&folder, &archive] {
        let images = Images::open(tempfile::tempdir_in(dir.path()).unwrap().keep()).unwrap();
        let all = images.import(path, None).unwrap();
        check(&all[0], &made.id);
        assert_eq!(all[0].tags, ["registry.example/team/app:v3"]);
        let renamed = images.import(path, Some(&reference("mine:1"))).unwrap();
        assert!(renamed[0].tags.contains(&"docker.io/library/mine:1".to_owned()));
    }
    // docker save, with the layers uncompressed and one of them behind a link.
    let saved = dir.path().join("saved");
    fs::create_dir_all(saved.join("x")).unwrap();
    let low = layer(&[("a", "low"), ("b", "kept")]);
    fs::write(saved.join("x/layer.tar"), &low).unwrap();
    std::os::unix::fs::symlink("x/layer.tar", saved.join("link.tar")).unwrap();
    let config = serde_json::json!({"config": {}, "rootfs": {"diff_ids": [digest(&low)]}});
    fs::write(saved.join("c.json"), config.to_string()).unwrap();
    let manifest = serde_json::json!([{"Config": "c.json", "RepoTags": ["one:1", "two:2"],
        "Layers": ["link.tar"]}]);
    fs::write(saved.join("manifest.json"), manifest.to_string()).unwrap();
    let images = Images::open(dir.path().join("store")).unwrap();
    let all = images.import(&saved, None).unwrap();
    assert_eq!(all[0].tags, ["docker.io/library/one:1", "docker.io/library/two:2"]);
    images.remove("one:1").unwrap();
    assert!(images.resolve(&reference("two:2")).unwrap().is_some(), "another name is left");
    // A plain root file system, as gzip.
    let rootfs = dir.path().join("rootfs.tar.gz");
    fs::write(&rootfs, gzip(&low)).unwrap();
    let image = &images.import(&rootfs, Some(&reference("plain"))).unwrap()[0];
    assert_eq!(image.layers, all[0].layers, "the same layer is kept once");
    images.remove("two:2").unwrap();
    assert!(image.layers[0].exists(), "it has another user");
    assert_eq!(leftovers(&dir.path().join("store")), 0);
}

#[test]
fn what_is_no_image_is_refused() {
    if !root() {
        return;
    }
    let (dir, made) = (tempfile::tempdir().unwrap(), made());
    let images = Images::open(dir.path().join("store")).unwrap();
    let write = |name: &str, bytes: &[u8]| {
        fs::write(dir.path().join(name), bytes).unwrap();
        dir.path().join(name)
    };
    for path in [
        write("empty", b""),
        write("text", b"this is no archive at all, only text"),
        write("cut.gz", &gzip(&[1; 5000])[..20]),
        dir.path().join("absent"),
    ] {
        assert!(images.import(&path, None).is_err(), "{}", path.display());
    }
    let folder = layout(dir.path(), &made);
    for blob in made.blobs.keys() {
        let path = folder.join("blobs/sha256").join(&blob[7..]);
        let good = fs::read(&path).unwrap();
        fs::write(&path, &good[..good.len() / 2]).unwrap();
        // Opening the store collects the layers of the last time, which no image names.
        let images = Images::open(dir.path().join("store")).unwrap();
        assert_eq!(fs::read_dir(dir.path().join("store/layers")).unwrap().count(), 0);
        assert!(images.import(&folder, None).is_err(), "{blob} was taken");
        fs::write(&path, good).unwrap();
    }
    assert!(images.list().unwrap().is_empty());
    assert_eq!(leftovers(&dir.path().join("store")), 0);
}

#[test]
fn builds_and_makes_the_toolbox() {
    if !root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let images = Images::open(dir.path().join("store")).unwrap();
    let folder = dir.path().join("folder");
    fs::create_dir_all(folder.join("bin")).unwrap();
    fs::write(folder.join("bin/run"), "x").unwrap();
    std::os::unix::fs::symlink("run", folder.join("bin/also")).unwrap();
    let config = ImageConfig { entrypoint: vec!["/bin/run".into()], ..ImageConfig::default() };
    let spec = BuildSpec { folder, config, name: "mine/app".into() };
    let image = images.build(&spec).unwrap();
    assert_eq!(images.build(&spec).unwrap().id, image.id, "the same folder, the same image");
    assert_eq!(fs::read_link(image.layers[0].join("bin/also")).unwrap(), Path::new("run"));
    assert_eq!(images.resolve(&reference("mine/app")).unwrap(), Some(image));

    let exe = dir.path().join("kybern");
    fs::write(&exe, "one").unwrap();
    let first = images.ensure_toolbox(&exe, &["sh", "cat"]).unwrap();
    assert_eq!(images.ensure_toolbox(&exe, &["sh", "cat"]).unwrap(), first);
    assert_eq!(fs::read_link(first.layers[0].join("bin/sh")).unwrap(), Path::new("toolbox"));
    let named = images.resolve(&reference("kybern.local/toolbox")).unwrap();
    assert_eq!(named.as_ref(), Some(&first));
    fs::write(&exe, "another").unwrap();
    let second = images.ensure_toolbox(&exe, &["sh", "cat"]).unwrap();
    assert_ne!(first.id, second.id);
    assert!(!first.layers[0].exists(), "no container used the old one");
    assert_eq!(fs::read_to_string(second.layers[0].join("bin/toolbox")).unwrap(), "another");
}

#[test]
fn the_toolbox_shares_the_binary_where_that_is_safe() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    if !root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let images = Images::open(dir.path().join("store")).unwrap();
    let exe = dir.path().join("kybern");
    let install = |text: &str, mode: u32| {
        // As package managers do: the new file takes the place of the old one.
        let new = dir.path().join("new");
        fs::write(&new, text).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(mode)).unwrap();
        fs::rename(&new, &exe).unwrap();
        let image = images.ensure_toolbox(&exe, &["sh"]).unwrap();
        let inside = image.layers[0].join("bin/toolbox");
        assert_eq!(fs::read_to_string(&inside).unwrap(), text);
        let meta = fs::metadata(&inside).unwrap();
        assert_eq!(meta.mode() & 0o7777, 0o755);
        (inside, meta.ino() == fs::metadata(&exe).unwrap().ino())
    };
    let (first, shared) = install("one", 0o755);
    assert!(shared);
    // A container that runs from the first image.
    let top = fs::File::open(first.ancestors().nth(2).unwrap()).unwrap();
    let flag = nix::fcntl::FlockArg::LockShared;
    let lock = nix::fcntl::Flock::lock(top, flag).map_err(|(_, e)| e).unwrap();
    let (second, shared) = install("two", 0o755);
    assert!(shared && first != second);
    assert_eq!(fs::read_to_string(&first).unwrap(), "one", "an upgrade leaves it alone");
    drop(lock);
    // Others might change it, or could not execute it.
    for mode in [0o775, 0o700, 0o4755] {
        assert!(!install(&format!("{mode}"), mode).1);
    }
}
