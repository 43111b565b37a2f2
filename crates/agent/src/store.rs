//! The machine's image store as the agent's source of images.
use crate::collector::MIN_AGE;
use crate::seams::{Image, Images, PullError, Pulled};
use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use images::{Auth, ImageRef, PullOptions};
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;

/// Images under this name are built in or brought by hand; nothing is ever fetched for them.
const LOCAL_HOST: &str = "kybern.local";

/// See the module.
#[derive(Clone)]
pub struct Store {
    images: Arc<images::Images>,
}

impl Store {
    pub fn new(images: Arc<images::Images>) -> Self {
        Self { images }
    }
}

#[async_trait]
impl Images for Store {
    async fn find(&self, reference: &str) -> Result<Option<Arc<Image>>, PullError> {
        let found = self.look_up(&parse(reference)?).await?;
        Ok(found.map(|image| Arc::new(converted(image))))
    }

    async fn pull(&self, reference: &str, logins: &[Vec<u8>]) -> Result<Pulled, PullError> {
        let parsed = parse(reference)?;
        if let Some(image) = self.made_here(&parsed).await? {
            let bytes = image.size;
            return Ok(Pulled { image: Arc::new(converted(image)), bytes });
        }
        if parsed.host == LOCAL_HOST {
            return Err(PullError::Failed(format!(
                "{reference:?} is not on this machine, and {LOCAL_HOST} is no registry: bring it \
                 with 'kybern image import' or 'build'"
            )));
        }
        let auths = logins.iter().flat_map(|login| logins_for(login, &parsed)).collect();
        let options = PullOptions { auths, ..PullOptions::default() };
        let image = self.images.pull(&parsed, &options, None).await.map_err(|e| failed(&e))?;
        let bytes = image.size;
        Ok(Pulled { image: Arc::new(converted(image)), bytes })
    }

    async fn list(&self) -> Vec<Arc<Image>> {
        let images = self.images.clone();
        let all = tokio::task::spawn_blocking(move || images.list()).await;
        match all {
            Ok(Ok(all)) => all.into_iter().map(|image| Arc::new(converted(image))).collect(),
            Ok(Err(error)) => {
                tracing::warn!(error = crate::seams::chain(&error), "the images cannot be listed");
                Vec::new()
            }
            Err(_) => Vec::new(),
        }
    }

    async fn mark_used(&self, topmost: Vec<PathBuf>) -> Result<(), String> {
        let images = self.images.clone();
        let done = tokio::task::spawn_blocking(move || images.mark_layers_used(&topmost)).await;
        done.map_err(|_| "interrupted".to_owned())?.map_err(|error| crate::seams::chain(&error))
    }

    async fn free(&self, bytes: i64) -> Result<i64, String> {
        let (images, wanted) = (self.images.clone(), u64::try_from(bytes).unwrap_or_default());
        let freed = tokio::task::spawn_blocking(move || images.free(wanted, MIN_AGE)).await;
        let freed = freed.map_err(|_| "interrupted".to_owned())?;
        let freed = freed.map_err(|error| crate::seams::chain(&error))?;
        for id in &freed.images {
            tracing::info!(image = id, "an unused image is removed");
        }
        if !freed.failures.is_empty() {
            return Err(format!(
                "wanted to free {bytes} bytes, but freed {} bytes space with errors in image \
                 deletion: [{}]",
                freed.bytes,
                freed.failures.join(", ")
            ));
        }
        Ok(i64::try_from(freed.bytes).unwrap_or(i64::MAX))
    }
}

impl Store {
    /// The image, which is about to be used.
    async fn look_up(&self, reference: &ImageRef) -> Result<Option<images::Image>, PullError> {
        let (images, reference) = (self.images.clone(), reference.clone());
        let found = tokio::task::spawn_blocking(move || {
            let found = images.resolve(&reference)?;
            found.iter().try_for_each(|image| images.mark_used(&image.id))?;
            Ok(found)
        });
        match found.await {
            Ok(found) => found.map_err(|error| failed(&error)),
            Err(_) => Err(PullError::Failed("looking for the image was interrupted".to_owned())),
        }
    }

    /// An image that was imported or built on this machine: no registry knows it better.
    async fn made_here(&self, reference: &ImageRef) -> Result<Option<images::Image>, PullError> {
        let found = self.look_up(reference).await?;
        Ok(found.filter(|image| image.repo_digests.is_empty()))
    }
}

fn parse(reference: &str) -> Result<ImageRef, PullError> {
    reference.parse().map_err(|error: images::RefError| PullError::InvalidName(error.to_string()))
}

fn failed(error: &images::Error) -> PullError {
    match error {
        images::Error::Reference(error) => PullError::InvalidName(error.to_string()),
        other => PullError::Failed(crate::seams::chain(other)),
    }
}

fn converted(image: images::Image) -> Image {
    let id = image.repo_digests.first().cloned().unwrap_or_else(|| image.id.clone());
    let names = image.repo_digests.iter().chain(&image.tags).cloned().collect();
    let config = image.config;
    Image {
        id,
        names,
        size_bytes: i64::try_from(image.size).unwrap_or(i64::MAX),
        layers: image.layers,
        entrypoint: config.entrypoint,
        cmd: config.cmd,
        env: config.env,
        cwd: config.working_dir,
        user: config.user,
        stop_signal: config.stop_signal,
    }
}

/// The credentials of a `.dockerconfigjson` (or `.dockercfg`) that are for the image's registry.
fn logins_for(json: &[u8], image: &ImageRef) -> Vec<Auth> {
    let Ok(document) = serde_json::from_slice::<Value>(json) else { return Vec::new() };
    let auths = document.get("auths").unwrap_or(&document);
    let entries = auths.as_object().into_iter().flatten();
    let mut found: Vec<(usize, Auth)> = entries
        .filter(|(key, _)| matches(key, image))
        .filter_map(|(key, entry)| Some((key.len(), auth(entry)?)))
        .collect();
    // The most specific first.
    found.sort_by_key(|(len, _)| std::cmp::Reverse(*len));
    found.into_iter().map(|(_, auth)| auth).collect()
}

/// A key is a host, maybe with a scheme, a path below it, or `*` for parts of the host's name.
fn matches(key: &str, image: &ImageRef) -> bool {
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
    let path = path.trim_end_matches('/');
    let docker = image.host == "docker.io" && matches!(host, "index.docker.io" | "docker.io");
    if docker {
        return true;
    }
    let parts = |host: &str| host.split('.').map(str::to_owned).collect::<Vec<_>>();
    let (want, have) = (parts(host), parts(&image.host));
    let same = want.len() == have.len()
        && want.iter().zip(&have).all(|(want, have)| match want.split_once('*') {
            Some((head, tail)) => {
                have.len() >= head.len() + tail.len()
                    && have.starts_with(head)
                    && have.ends_with(tail)
            }
            None => want == have,
        });
    // Registries' own paths (v1, v2) are no part of a repository.
    let whole = path.is_empty() || matches!(path, "v1" | "v2");
    same && (whole || image.repository == path || image.repository.starts_with(&format!("{path}/")))
}

fn auth(entry: &Value) -> Option<Auth> {
    let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    let mut auth = Auth {
        username: text("username"),
        password: text("password"),
        identity_token: text("identitytoken"),
        registry_token: text("registrytoken"),
    };
    if let Some(both) = entry["auth"].as_str().and_then(|both| STANDARD.decode(both.trim()).ok()) {
        let both = String::from_utf8(both).ok()?;
        let (user, password) = both.split_once(':')?;
        auth.username = user.to_owned();
        auth.password = password.trim_end_matches('\0').to_owned();
    }
    (auth != Auth::default()).then_some(auth)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn users(document: Value, image: &str) -> Vec<String> {
        let image: ImageRef = image.parse().unwrap();
        let found = logins_for(document.to_string().as_bytes(), &image);
        found.into_iter().map(|auth| format!("{}:{}", auth.username, auth.password)).collect()
    }

    #[test]
    fn logins_by_registry_and_path() {
        let login = |name: &str| json!({"auth": STANDARD.encode(format!("{name}:pw"))});
        let document = json!({"auths": {
            "https://index.docker.io/v1/": login("hub"),
            "r.test:5000": login("all"),
            "r.test:5000/team": login("team"),
            "*.example.test": {"username": "wild", "password": "pw"},
        }});
        for (image, want) in [
            ("busybox", vec!["hub:pw"]),
            ("r.test:5000/team/app", vec!["team:pw", "all:pw"]),
            ("r.test:5000/teamwork/app", vec!["all:pw"]),
            ("a.example.test/x", vec!["wild:pw"]),
            ("a.b.example.test/x", vec![]),
        ] {
            assert_eq!(users(document.clone(), image), want, "{image}");
        }
        let old = json!({"r.test:5000": login("old")});
        assert_eq!(users(old, "r.test:5000/x"), ["old:pw"]);
        assert!(users(json!("nonsense"), "x").is_empty());
    }
}
