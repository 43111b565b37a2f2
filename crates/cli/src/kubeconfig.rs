//! Kubeconfig files: the cluster's own, and the entry in the user's, as `kind` keeps it.
use crate::cluster::write_private;
use anyhow::{Context, Result, bail};
use api::Value;
use schema::to_yaml;
use std::path::{Path, PathBuf};
use value::json;

/// The name of the cluster, its user and its context.
pub(crate) const CONTEXT: &str = "kybern";

/// What a client needs to reach a cluster as its administrator.
pub(crate) struct Access<'a> {
    pub(crate) server: &'a str,
    pub(crate) ca_pem: &'a str,
    pub(crate) cert_pem: &'a str,
    pub(crate) key_pem: &'a str,
}

/// The lists of a kubeconfig, with the field that each entry has beside its name.
const LISTS: [&str; 3] = ["clusters", "users", "contexts"];

pub(crate) fn config(access: &Access<'_>) -> Value {
    let name = CONTEXT;
    json!({
        "apiVersion": "v1", "kind": "Config", "preferences": {}, "current-context": name,
        "clusters": [{"name": name, "cluster": {
            "server": access.server,
            "certificate-authority-data": base64(access.ca_pem),
        }}],
        "users": [{"name": name, "user": {
            "client-certificate-data": base64(access.cert_pem),
            "client-key-data": base64(access.key_pem),
        }}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
    })
}

fn base64(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// The files of `$KUBECONFIG`, else `~/.kube/config`.
pub(crate) fn users_files() -> Vec<PathBuf> {
    match std::env::var_os("KUBECONFIG").filter(|list| !list.is_empty()) {
        Some(list) => {
            std::env::split_paths(&list).filter(|path| !path.as_os_str().is_empty()).collect()
        }
        None => std::env::home_dir().map(|home| home.join(".kube/config")).into_iter().collect(),
    }
}

/// Where an entry is added, as kind does it: the first file that is there, else the last one.
pub(crate) fn merged_into(mut files: Vec<PathBuf>) -> Option<PathBuf> {
    let place = files.iter().position(|path| path.exists());
    match place {
        Some(place) => Some(files.swap_remove(place)),
        None => files.pop(),
    }
}

/// Adds or replaces the entries of `ours`, makes its context the current one, and leaves all else.
/// Where another cluster has the name, it gets the second one. Yields the context's name.
pub(crate) fn merge(path: &Path, ours: &Value, second: &str) -> Result<String> {
    let mut theirs = read(path)?.unwrap_or_else(|| json!({"apiVersion": "v1", "kind": "Config"}));
    let server = &ours["clusters"][0]["cluster"]["server"];
    let mut named = theirs["clusters"].as_array().into_iter().flatten();
    let taken =
        named.any(|entry| entry["name"] == CONTEXT && entry["cluster"]["server"] != *server);
    let name = if taken { second } else { CONTEXT };
    for list in LISTS {
        for entry in ours[list].as_array().into_iter().flatten() {
            let mut entry = entry.clone();
            entry["name"] = name.into();
            if list == "contexts" {
                entry["context"]["cluster"] = name.into();
                entry["context"]["user"] = name.into();
            }
            let entries = entries(&mut theirs, list, path)?;
            entries.retain(|other| other["name"] != name);
            entries.push(entry);
        }
    }
    theirs["current-context"] = name.into();
    write(path, &theirs)?;
    Ok(name.to_owned())
}

/// Takes the entries of either name out again, if they are those of `server`.
pub(crate) fn remove(path: &Path, second: &str, server: &str) -> Result<()> {
    let Some(mut theirs) = read(path)? else { return Ok(()) };
    let is_ours = |name: &str| {
        let mut clusters = theirs["clusters"].as_array().into_iter().flatten();
        clusters.any(|entry| entry["name"] == name && entry["cluster"]["server"] == server)
    };
    let Some(name) = [CONTEXT, second].into_iter().find(|name| is_ours(name)) else {
        return Ok(());
    };
    for list in LISTS {
        entries(&mut theirs, list, path)?.retain(|entry| entry["name"] != name);
    }
    if theirs["current-context"] == name {
        theirs["current-context"] = json!("");
    }
    let empty = LISTS.iter().all(|list| theirs[*list].as_array().is_none_or(Vec::is_empty));
    if empty && theirs["extensions"].is_null() {
        return std::fs::remove_file(path)
            .with_context(|| format!("cannot remove {}", path.display()));
    }
    write(path, &theirs)
}

fn entries<'a>(config: &'a mut Value, list: &str, path: &Path) -> Result<&'a mut Vec<Value>> {
    let slot = &mut config[list];
    if slot.is_null() {
        *slot = json!([]);
    }
    let entries = slot.as_array_mut();
    entries.with_context(|| format!("{}: {list} is not a list; mend or move it", path.display()))
}

fn read(path: &Path) -> Result<Option<Value>> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    if text.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    let (value, _) = schema::yaml_to_json(&text)
        .with_context(|| format!("{} is not valid YAML; mend or move it", path.display()))?;
    if !value.is_object() {
        bail!("{} is not a kubeconfig; mend or move it", path.display());
    }
    Ok(Some(value))
}

fn write(path: &Path, config: &Value) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
    }
    write_private(path, to_yaml(config).as_bytes())
}

/// Writes the cluster's own kubeconfig.
pub(crate) fn write_admin(path: &Path, config: &Value) -> Result<()> {
    write(path, config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(server: &str) -> Value {
        config(&Access { server, ca_pem: "ca", cert_pem: "cert", key_pem: "key" })
    }

    #[test]
    fn of_several_files_the_first_that_is_there_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let files: Vec<_> = ["a", "b", "c"].map(|name| folder.path().join(name)).into();
        assert_eq!(merged_into(files.clone()), Some(files[2].clone()));
        std::fs::write(&files[1], "").unwrap();
        std::fs::write(&files[2], "").unwrap();
        assert_eq!(merged_into(files.clone()), Some(files[1].clone()));
        assert_eq!(merged_into(Vec::new()), None);
    }

    #[test]
    fn merging_and_removing_leaves_the_rest_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sub/config");
        let (first, second) = ("https://127.0.0.1:6443", "https://127.0.0.1:7443");
        assert_eq!(merge(&path, &access(first), "kybern-one").unwrap(), "kybern");
        let before = std::fs::read_to_string(&path).unwrap();
        // Another cluster takes nobody's name; the same one keeps its own.
        assert_eq!(merge(&path, &access(second), "kybern-two").unwrap(), "kybern-two");
        assert_eq!(merge(&path, &access(second), "kybern-two").unwrap(), "kybern-two");
        let both = read(&path).unwrap().unwrap();
        assert_eq!(both["contexts"].as_array().unwrap().len(), 2);
        assert_eq!(both["contexts"][1]["context"]["user"], "kybern-two");
        assert_eq!(both["current-context"], "kybern-two");
        remove(&path, "kybern-two", "https://elsewhere:1").unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), both);
        remove(&path, "kybern-two", second).unwrap();
        let after = std::fs::read_to_string(&path).unwrap();
        assert_eq!(after.replace("current-context: \"\"", "current-context: kybern"), before);
        remove(&path, "kybern-one", first).unwrap();
        assert!(!path.exists());
    }
}
