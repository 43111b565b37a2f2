//! Who calls the node.
use x509_parser::prelude::{FromDer, X509Certificate};

/// The name in the certificate with which the API server calls nodes.
const API_SERVER: &str = "kube-apiserver-kubelet-client";
const MASTERS: &str = "system:masters";

/// A caller that has shown who it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caller {
    pub user: String,
    pub groups: Vec<String>,
}

impl Caller {
    /// From a client certificate that TLS has verified already.
    pub(crate) fn of_certificate(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let subject = certificate.subject();
        let user = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
        let groups = subject.iter_organization().filter_map(|name| name.as_str().ok());
        Some(Self { user, groups: groups.map(str::to_owned).collect() })
    }
    /// The control plane itself need not be asked about.
    pub(crate) fn is_control_plane(&self) -> bool {
        self.user == API_SERVER || self.groups.iter().any(|group| group == MASTERS)
    }
}
