//! Where a cluster keeps what it has: the layout of the data folder, and nothing else.
use std::path::{Path, PathBuf};

/// The data folder of one cluster on this machine.
#[derive(Debug, Clone)]
pub(crate) struct DataDir(PathBuf);

impl DataDir {
    /// Makes the path absolute, so that two spellings of a folder are one cluster.
    pub(crate) fn new(path: &Path) -> std::io::Result<Self> {
        let path = std::path::absolute(path)?;
        Ok(Self(path.canonicalize().unwrap_or(path)))
    }
    pub(crate) fn root(&self) -> &Path {
        &self.0
    }
    pub(crate) fn cluster(&self) -> PathBuf {
        self.0.join("cluster.json")
    }
    pub(crate) fn pki(&self) -> PathBuf {
        self.0.join("pki")
    }
    pub(crate) fn store(&self) -> PathBuf {
        self.0.join("store")
    }
    pub(crate) fn images(&self) -> PathBuf {
        self.0.join("images")
    }
    pub(crate) fn nodes(&self) -> PathBuf {
        self.0.join("nodes")
    }
    pub(crate) fn node(&self, name: &str) -> PathBuf {
        self.nodes().join(name)
    }
    pub(crate) fn run(&self) -> PathBuf {
        self.0.join("run")
    }
    pub(crate) fn logs(&self) -> PathBuf {
        self.0.join("logs")
    }
    pub(crate) fn log(&self, component: &str) -> PathBuf {
        self.logs().join(format!("{component}.log"))
    }
    pub(crate) fn pid_file(&self, component: &str) -> PathBuf {
        self.run().join(format!("{component}.pid"))
    }
    /// Only while nodes are started.
    pub(crate) fn join_token(&self) -> PathBuf {
        self.run().join("join-token")
    }
    pub(crate) fn admin_kubeconfig(&self) -> PathBuf {
        self.0.join("admin.kubeconfig")
    }
}
