//! Manifests and indexes, of OCI and of Docker's schema 2, which mean the same.
use std::collections::BTreeMap;

use serde::Deserialize;

/// What a registry is asked for, the best first.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const MAX_LAYERS: usize = 500;

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    pub(crate) digest: String,
    #[serde(default)]
    pub(crate) size: u64,
    #[serde(default)]
    pub(crate) platform: Option<Platform>,
    #[serde(default)]
    pub(crate) annotations: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Platform {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    #[serde(default)]
    variant: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Index {
    pub(crate) manifests: Vec<Descriptor>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

pub(crate) enum Document {
    Index(Index),
    Manifest(Manifest),
}

/// Tells the two apart by what they hold: media types are often missing or wrong.
pub(crate) fn parse(bytes: &[u8]) -> Result<Document, String> {
    let value: serde_json::Value =
        serde_json::from_slice(bytes).map_err(|e| format!("the manifest is broken: {e}"))?;
    let broken = |e: serde_json::Error| format!("the manifest is broken: {e}");
    if value.get("manifests").is_some() {
        return serde_json::from_value(value).map(Document::Index).map_err(broken);
    }
    if value.get("schemaVersion").and_then(serde_json::Value::as_u64) == Some(1) {
        return Err("the manifest is of Docker's schema 1, which is no longer supported".to_owned());
    }
    let manifest: Manifest = serde_json::from_value(value).map_err(broken)?;
    if manifest.layers.len() > MAX_LAYERS {
        return Err(format!("the image has more than {MAX_LAYERS} layers"));
    }
    Ok(Document::Manifest(manifest))
}

/// This machine's architecture as images name it.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

impl Index {
    /// The manifest for a platform (`os/architecture[/variant]`; empty: this machine's).
    pub(crate) fn choose(&self, platform: &str) -> Result<&Descriptor, String> {
        let mut parts = platform.split('/').filter(|p| !p.is_empty());
        let os = parts.next().unwrap_or("linux");
        let architecture = parts.next().unwrap_or(architecture());
        let variant = parts.next();
        let fits = |d: &&Descriptor| {
            d.platform.as_ref().is_none_or(|p| {
                p.os == os
                    && p.architecture == architecture
                    && variant.is_none_or(|v| p.variant == v || p.variant.is_empty())
            })
        };
        let exact = |d: &&Descriptor| d.platform.is_some() && fits(d);
        let found = self.manifests.iter().find(exact).or_else(|| self.manifests.iter().find(fits));
        found.ok_or_else(|| format!("no match for platform {os}/{architecture} in manifest"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chooses_the_machines_own() {
        let index = |json: &str| match parse(json.as_bytes()) {
            Ok(Document::Index(index)) => index,
            _ => panic!("an index"),
        };
        let two = index(
            r#"{"manifests":[
            {"digest":"w","size":1,"platform":{"os":"windows","architecture":"amd64"}},
            {"digest":"a","size":1,"platform":{"os":"linux","architecture":"amd64"}},
            {"digest":"r","size":1,"platform":{"os":"linux","architecture":"arm64","variant":"v8"}}]}"#,
        );
        assert_eq!(two.choose("linux/amd64").unwrap().digest, "a");
        assert_eq!(two.choose("linux/arm64").unwrap().digest, "r");
        assert_eq!(two.choose("linux/arm64/v8").unwrap().digest, "r");
        let error = two.choose("linux/riscv64").unwrap_err();
        assert_eq!(error, "no match for platform linux/riscv64 in manifest");
        assert!(parse(br#"{"schemaVersion":1,"fsLayers":[]}"#).is_err());
        assert!(parse(b"[]").is_err());
    }
}
