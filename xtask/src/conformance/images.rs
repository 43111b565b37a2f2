//! Makes the suite's images under the names and tags that the suite itself says (`--list-images`).
//!
//! An image is a folder in the cache with its root file system and a description; `import` brings
//! all of them into a cluster's image store, which all its nodes share.
use super::recipes::{self, Recipe};
use super::{Cache, build};
use crate::{shell, tools};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

const SEARCH_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(crate) fn make(cache: &Cache) -> Result<()> {
    tools::install(&recipes::PACKAGES)?;
    let suite = cache.built("e2e.test")?;
    let list = shell::output(Command::new(suite).arg("--list-images"))?;
    let mut wanted: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    // What stands for an image that needs credentials must not be here for everybody.
    let public = |line: &&str| line.contains('/') && !line.contains("authenticated");
    for reference in list.lines().map(str::trim).filter(public) {
        wanted.entry(base_name(reference)).or_default().push(reference);
    }
    for (name, references) in wanted {
        let Some(recipe) = recipes::recipe(name) else {
            println!("no recipe, no conformance test runs it: {}", references.join(" "));
            continue;
        };
        one(cache, name, &references, &recipe).with_context(|| format!("image {name}"))?;
        println!("made {}", references.join(" "));
    }
    Ok(())
}

/// Brings every image that was made into the image store of a cluster.
pub(crate) fn import(cache: &Cache, kybern: &Path, data_dir: &Path) -> Result<()> {
    let mut made = 0;
    for folder in entries(&cache.images())? {
        let Ok(text) = fs::read(folder.join("image.json")) else { continue };
        let image: Value = serde_json::from_slice(&text).context("image.json")?;
        for name in words(&image["names"]) {
            let mut command = Command::new(kybern);
            command.args(["image", "build"]).arg(folder.join("rootfs")).args(["--name", name]);
            for word in words(&image["entrypoint"]) {
                command.args(["--entrypoint", word]);
            }
            for word in words(&image["cmd"]) {
                command.args(["--cmd", word]);
            }
            if let Some(user) = image["user"].as_str().filter(|user| !user.is_empty()) {
                command.args(["--user", user]);
            }
            command.args(["--env", SEARCH_PATH, "--data-dir"]).arg(data_dir);
            shell::output(&mut command)?;
            made += 1;
        }
    }
    ensure!(made > 0, "no images: run `cargo xtask conformance images` first");
    println!("{made} images imported");
    Ok(())
}

fn words(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// The image's name without host, path and tag.
fn base_name(reference: &str) -> &str {
    let last = reference.rsplit('/').next().unwrap_or(reference);
    last.split([':', '@']).next().unwrap_or(last)
}

fn one(cache: &Cache, name: &str, references: &[&str], recipe: &Recipe) -> Result<()> {
    let folder = cache.images().join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    let root = folder.join("rootfs");
    fs::create_dir_all(&root)?;
    fill(cache, &root, recipe)?;
    let description = json!({
        "names": references,
        "entrypoint": recipe.entrypoint,
        "cmd": recipe.cmd,
        "user": recipe.user,
    });
    // Last: an image without its description is not imported.
    fs::write(folder.join("image.json"), description.to_string())?;
    Ok(())
}

fn fill(cache: &Cache, root: &Path, recipe: &Recipe) -> Result<()> {
    fs::create_dir_all(root.join("tmp"))?;
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777))?;
    for (path, text) in recipes::COMMON_FILES {
        write(root, path, text.as_bytes())?;
    }
    if !recipe.bare {
        userland(cache, root, recipe)?;
    }
    for folder in recipe.folders {
        fs::create_dir_all(root.join(folder))?;
    }
    for folder in recipe.host_folders {
        copy_folder(Path::new(folder), &within(root, folder))?;
    }
    for program in recipe.host_programs {
        with_libraries(Path::new(program), root)?;
    }
    for (program, path) in recipe.built {
        copy(&cache.built(program)?, &root.join(path))?;
    }
    for (module, from, to) in recipe.module_files {
        copy(&module_folder(module)?.join(from), &root.join(to))?;
    }
    for (path, text) in recipe.files {
        write(root, path, text.as_bytes())?;
    }
    for (target, path) in recipe.links {
        let link = root.join(path);
        make_way(&link)?;
        symlink(target, &link)?;
    }
    for path in recipe.setuid {
        chown(root.join(path), Some(0), Some(0))?;
        fs::set_permissions(root.join(path), fs::Permissions::from_mode(0o6755))?;
    }
    Ok(())
}

/// A shell and its tools: busybox under all its names, each in `/bin` too, where the real image
/// has them all. Its shell takes its own tools before those of the image, and in Debian's build
/// drops variables like `data-1`: an image with tools of its own has bash, and in others `sh`
/// chooses.
fn userland(cache: &Cache, root: &Path, recipe: &Recipe) -> Result<()> {
    let busybox = Path::new("/bin/busybox");
    copy(busybox, &root.join("bin/busybox"))?;
    let list = shell::output(Command::new(busybox).arg("--list-full"))?;
    for path in list.lines().filter(|path| !path.ends_with("busybox")) {
        let name = path.rsplit('/').next().unwrap_or(path);
        let mut places = vec![root.join(path), root.join("bin").join(name)];
        places.dedup();
        for link in places {
            make_way(&link)?;
            symlink("/bin/busybox", &link)?;
        }
    }
    with_libraries(Path::new("/bin/bash"), root)?;
    let own_tools = !recipe.host_programs.is_empty();
    let shell = if own_tools { PathBuf::from("/bin/bash") } else { cache.built("sh")? };
    copy(&shell, &root.join("bin/sh"))
}

/// Copies a program and every library that it is linked with.
fn with_libraries(program: &Path, root: &Path) -> Result<()> {
    let shown = program.to_string_lossy();
    copy(program, &within(root, &shown))?;
    let Ok(list) = shell::output(Command::new("ldd").arg(program)) else {
        return Ok(()); // A static program.
    };
    for word in list.split_whitespace().filter(|word| word.starts_with('/')) {
        let place = within(root, word);
        if !place.exists() {
            copy(Path::new(word), &place)?;
        }
    }
    Ok(())
}

fn module_folder(module: &str) -> Result<PathBuf> {
    let folder = shell::output(&mut build::go(&["list", "-m", "-f", "{{.Dir}}", module]))?;
    Ok(PathBuf::from(folder.trim()))
}

fn within(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// The folder above is there, and nothing is at the place itself.
fn make_way(place: &Path) -> Result<()> {
    if let Some(above) = place.parent() {
        fs::create_dir_all(above)?;
    }
    if place.symlink_metadata().is_ok() {
        fs::remove_file(place).with_context(|| format!("{}", place.display()))?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    make_way(to)?;
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(())
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    for entry in entries(from)? {
        let Some(name) = entry.file_name() else { continue };
        if entry.is_dir() {
            copy_folder(&entry, &to.join(name))?;
        } else {
            copy(&entry, &to.join(name))?;
        }
    }
    Ok(())
}

fn write(root: &Path, path: &str, bytes: &[u8]) -> Result<()> {
    let place = root.join(path);
    make_way(&place)?;
    fs::write(&place, bytes).with_context(|| format!("cannot write {}", place.display()))
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let shown = || format!("cannot read {}", folder.display());
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).with_context(shown)? {
        paths.push(entry.with_context(shown)?.path());
    }
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_known_by_its_last_word() {
        for (reference, name) in [
            ("host.example/suite/agnhost:2.66.1", "agnhost"),
            ("host.example:5000/pause:3.10", "pause"),
            ("host.example/a/b/etcd@sha256:00", "etcd"),
        ] {
            assert_eq!(base_name(reference), name);
        }
    }
}
