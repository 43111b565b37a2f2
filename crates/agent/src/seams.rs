//! What the agent needs of the world around it: images and a network, each behind a trait.
use async_trait::async_trait;
use podlife::admit::HostPort;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An image that is on this machine, unpacked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image {
    /// What the status shows: a digest reference.
    pub id: String,
    /// Every name the image has, tags and digests.
    pub names: Vec<String>,
    pub size_bytes: i64,
    /// Unpacked layers, the lowest first.
    pub layers: Vec<PathBuf>,
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    /// `NAME=value`
    pub env: Vec<String>,
    pub cwd: String,
    pub user: String,
    /// Such as `SIGQUIT` or `3`; empty: none.
    pub stop_signal: String,
}

/// What a pull brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    pub image: Arc<Image>,
    pub bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PullError {
    /// The name is not one of an image.
    InvalidName(String),
    Failed(String),
}

/// The machine's image store.
#[async_trait]
pub trait Images: Send + Sync {
    /// The image, if it is there.
    async fn find(&self, reference: &str) -> Result<Option<Arc<Image>>, PullError>;
    /// Gets the image from where its name says. `logins` are contents of `.dockerconfigjson`.
    async fn pull(&self, reference: &str, logins: &[Vec<u8>]) -> Result<Pulled, PullError>;
    /// All images, for the node's status.
    async fn list(&self) -> Vec<Arc<Image>>;
    /// Notes that the images with these topmost layers are in use.
    async fn mark_used(&self, topmost: Vec<PathBuf>) -> Result<(), String>;
    /// Removes images that nobody uses, the one used longest ago first; tells how many bytes that
    /// freed.
    async fn free(&self, bytes: i64) -> Result<i64, String>;
}

/// The node's network, as far as pods go.
#[async_trait]
pub trait PodNetwork: Send + Sync {
    /// Connects a pod; asking again gives the same addresses.
    async fn attach(
        &self,
        uid: &str,
        netns: &Path,
        ports: Vec<PodPort>,
    ) -> Result<Vec<String>, String>;
    async fn detach(&self, uid: &str) -> Result<(), String>;
    /// The addresses of a pod that is attached.
    fn addresses(&self, uid: &str) -> Vec<String>;
    /// Frees what belongs to any other pod.
    async fn keep_only(&self, live: BTreeSet<String>) -> Result<(), String>;
}

/// A port of the node that leads into a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodPort {
    pub host: HostPort,
    pub container_port: u16,
}

#[async_trait]
impl PodNetwork for Arc<net::NodeNet> {
    async fn attach(
        &self,
        uid: &str,
        netns: &Path,
        ports: Vec<PodPort>,
    ) -> Result<Vec<String>, String> {
        let (node, uid, netns) = (self.clone(), uid.to_owned(), netns.to_owned());
        let ports: Vec<net::HostPort> = ports.iter().filter_map(port).collect();
        let done = tokio::task::spawn_blocking(move || node.attach_pod(&uid, &netns, &ports));
        match done.await {
            Ok(Ok(found)) => Ok(vec![found.ip.to_string()]),
            Ok(Err(error)) => Err(chain(&error)),
            Err(_) => Err("connecting the pod was interrupted".to_owned()),
        }
    }
    async fn detach(&self, uid: &str) -> Result<(), String> {
        let (node, uid) = (self.clone(), uid.to_owned());
        let done = tokio::task::spawn_blocking(move || node.detach_pod(&uid)).await;
        match done {
            Ok(result) => result.map_err(|error| chain(&error)),
            Err(_) => Err("disconnecting the pod was interrupted".to_owned()),
        }
    }
    fn addresses(&self, uid: &str) -> Vec<String> {
        self.pod_address(uid).into_iter().map(|ip| ip.to_string()).collect()
    }
    async fn keep_only(&self, live: BTreeSet<String>) -> Result<(), String> {
        let node = self.clone();
        let done = tokio::task::spawn_blocking(move || node.reconcile_pods(&live)).await;
        match done {
            Ok(result) => result.map_err(|error| chain(&error)),
            Err(_) => Err("freeing unused addresses was interrupted".to_owned()),
        }
    }
}

fn port(port: &PodPort) -> Option<net::HostPort> {
    let (address, protocol, number) = &port.host;
    Some(net::HostPort {
        host_ip: address.parse().ok(),
        host_port: u16::try_from(*number).ok()?,
        container_port: port.container_port,
        protocol: match protocol.as_str() {
            "UDP" => net::Protocol::Udp,
            "SCTP" => net::Protocol::Sctp,
            _ => net::Protocol::Tcp,
        },
    })
}

/// An error and its causes on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
