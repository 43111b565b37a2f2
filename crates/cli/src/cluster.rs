//! `cluster.json`: what is decided when a cluster is first started, and kept for its life.
use crate::datastore::Etcd;
use crate::kubeconfig;
use crate::paths::DataDir;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The format of the data folder. A folder of a newer one is refused, never guessed at.
pub(crate) const FORMAT: u32 = 1;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Cluster {
    pub(crate) format: u32,
    /// Short and unique on this machine: part of the names of links and tables.
    pub(crate) id: String,
    /// The address that clients on this machine use.
    pub(crate) listen: String,
    pub(crate) pod_cidr: String,
    pub(crate) service_cidr: String,
    /// The network between the nodes of this machine.
    pub(crate) node_cidr: String,
    /// A single node has an address of the cluster's own instead of the machine's, where another
    /// cluster's node has that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) own_node_address: bool,
    /// Nodes on this machine, in order.
    pub(crate) nodes: Vec<String>,
    pub(crate) datastore: String,
    /// What else the API server's certificate is for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) tls_sans: Vec<String>,
    #[serde(default, skip_serializing_if = "Etcd::is_default")]
    pub(crate) etcd: Etcd,
}

impl Cluster {
    /// The address under which nodes and pods reach the API server.
    pub(crate) fn advertise_ip(&self) -> Result<std::net::Ipv4Addr> {
        nth(&self.node_cidr, 1)
    }
    pub(crate) fn dns_ip(&self) -> Result<std::net::Ipv4Addr> {
        nth(&self.service_cidr, 10)
    }
    pub(crate) fn port(&self) -> u16 {
        self.listen.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(6443)
    }
    /// Its name in a kubeconfig where another cluster is `kybern` already.
    pub(crate) fn second_context(dir: &DataDir) -> String {
        let folder = dir.root().file_name().unwrap_or_default();
        format!("{}-{}", kubeconfig::CONTEXT, folder.to_string_lossy())
    }
    pub(crate) fn advertise_url(&self) -> Result<String> {
        Ok(format!("https://{}:{}", self.advertise_ip()?, self.port()))
    }
}

/// The `n`th address of a range.
fn nth(cidr: &str, n: u32) -> Result<std::net::Ipv4Addr> {
    let (base, _) = cidr.split_once('/').with_context(|| format!("{cidr} is no address range"))?;
    let base: std::net::Ipv4Addr =
        base.parse().with_context(|| format!("{cidr} is no address range"))?;
    Ok(std::net::Ipv4Addr::from(u32::from(base) + n))
}

/// Six letters and digits that follow from the folder: stable, and different beside each other.
pub(crate) fn id_of(root: &Path) -> String {
    let digest = Sha256::digest(root.as_os_str().as_encoded_bytes());
    digest.iter().take(3).map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn load(dir: &DataDir) -> Result<Option<Cluster>> {
    let path = dir.cluster();
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    #[derive(Deserialize)]
    struct Probe {
        format: u32,
    }
    let damaged = || format!("{} is damaged; restore it or start over with --wipe", path.display());
    let probe: Probe = serde_json::from_slice(&text).with_context(damaged)?;
    if probe.format > FORMAT {
        bail!(
            "{} was written by a newer kybern (data format {}, this one reads up to {FORMAT}): \
             use that version, or another --data-dir",
            dir.root().display(),
            probe.format,
        );
    }
    serde_json::from_slice(&text).with_context(damaged).map(Some)
}

/// The cluster that must be there.
pub(crate) fn existing(dir: &DataDir) -> Result<Cluster> {
    load(dir)?
        .with_context(|| format!("no cluster in {}: `kybern up` makes one", dir.root().display()))
}

/// Replaces the file in one step: a crash leaves the old one or the new one.
pub(crate) fn save(dir: &DataDir, cluster: &Cluster) -> Result<()> {
    let text = serde_json::to_vec_pretty(cluster).context("cannot encode cluster.json")?;
    write_private(&dir.cluster(), &text)
}

/// Writes a file that only its owner reads, atomically and durably.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> Result<()> {
    let temporary = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn sample() -> Cluster {
        Cluster {
            format: FORMAT,
            id: "a1b2c3".into(),
            listen: "127.0.0.1:6443".into(),
            pod_cidr: "10.244.0.0/16".into(),
            service_cidr: "10.96.0.0/16".into(),
            node_cidr: "10.90.0.0/24".into(),
            nodes: vec!["kybern".into()],
            datastore: String::new(),
            tls_sans: Vec::new(),
            own_node_address: false,
            etcd: Etcd::default(),
        }
    }

    #[test]
    fn a_newer_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let dir = DataDir::new(folder.path()).unwrap();
        assert_eq!(load(&dir).unwrap(), None);
        save(&dir, &sample()).unwrap();
        assert_eq!(load(&dir).unwrap(), Some(sample()));
        save(&dir, &Cluster { format: FORMAT + 1, ..sample() }).unwrap();
        assert!(load(&dir).unwrap_err().to_string().contains("newer kybern"));
    }

    #[test]
    fn addresses_follow_from_the_ranges() {
        let cluster = sample();
        assert_eq!(cluster.advertise_url().unwrap(), "https://10.90.0.1:6443");
        assert_eq!(cluster.dns_ip().unwrap().to_string(), "10.96.0.10");
    }
}
