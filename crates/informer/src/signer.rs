//! Signs certificate requests with the cluster's own authority.
//!
//! Each signer has its rules about names and usages; a request that breaks them is not signed,
//! whoever has approved it.
use pki::{Authority, CsrFacts, Pki, Profile};
use reconcile::{SignRequest, Signer};
use std::sync::Arc;
use std::time::Duration;

pub struct ClusterSigner {
    pki: Arc<Pki>,
}

const LIFE_MAX: Duration = Duration::from_secs(365 * 24 * 3600);
const LIFE_MIN: Duration = Duration::from_secs(600);

impl ClusterSigner {
    pub fn new(pki: Arc<Pki>) -> Self {
        Self { pki }
    }
}

impl Signer for ClusterSigner {
    fn sign(&self, request: &SignRequest) -> Result<Vec<u8>, String> {
        let pem = std::str::from_utf8(&request.request).map_err(|_| "the request is not PEM")?;
        let facts = Authority::inspect(pem).map_err(|error| error.to_string())?;
        let mut profile = judge(request, &facts)?;
        let asked = request.expiration_seconds.map_or(LIFE_MAX, |s| Duration::from_secs(s.into()));
        profile.life = Some(asked.clamp(LIFE_MIN, LIFE_MAX));
        let signed = self.pki.ca.sign_csr(pem, &profile).map_err(|error| error.to_string())?;
        Ok(signed.into_bytes())
    }
}

/// What is signed: the names of the request, if the signer's rules allow them.
fn judge(request: &SignRequest, facts: &CsrFacts) -> Result<Profile, String> {
    let usages: Vec<&str> = request.usages.iter().map(String::as_str).collect();
    let only = |allowed: &[&str], needed: &str| {
        let known = usages.iter().all(|usage| allowed.contains(usage));
        if known && usages.contains(&needed) {
            Ok(())
        } else {
            Err(format!("usages {usages:?} are not those of {}", request.signer_name))
        }
    };
    let client = ["digital signature", "key encipherment", "client auth"];
    let server = ["digital signature", "key encipherment", "server auth"];
    let has_names = !facts.dns_names.is_empty() || !facts.addresses.is_empty();
    let mut profile = Profile {
        common_name: facts.common_name.clone(),
        organizations: facts.organizations.clone(),
        ..Profile::default()
    };
    match request.signer_name.as_str() {
        "kubernetes.io/kube-apiserver-client-kubelet" => {
            only(&client, "client auth")?;
            must_be_node(facts)?;
            if has_names || !facts.emails.is_empty() || !facts.uris.is_empty() {
                return Err("a node's client certificate has no alternative names".into());
            }
            profile.client = true;
        }
        "kubernetes.io/kubelet-serving" => {
            only(&server, "server auth")?;
            must_be_node(facts)?;
            if !has_names {
                return Err("a serving certificate needs a DNS name or an address".into());
            }
            if !facts.emails.is_empty() || !facts.uris.is_empty() {
                return Err("a serving certificate has only DNS names and addresses".into());
            }
            profile.dns_names.clone_from(&facts.dns_names);
            profile.addresses.clone_from(&facts.addresses);
            profile.server = true;
        }
        "kubernetes.io/kube-apiserver-client" => {
            only(&client, "client auth")?;
            profile.client = true;
        }
        "kubernetes.io/legacy-unknown" => {
            profile.dns_names.clone_from(&facts.dns_names);
            profile.addresses.clone_from(&facts.addresses);
            profile.server = usages.contains(&"server auth");
            profile.client = usages.contains(&"client auth");
        }
        other => return Err(format!("no signer here is named {other:?}")),
    }
    Ok(profile)
}

fn must_be_node(facts: &CsrFacts) -> Result<(), String> {
    if facts.organizations != ["system:nodes"] {
        return Err("the organization of a node's certificate is system:nodes alone".into());
    }
    match facts.common_name.strip_prefix("system:node:") {
        Some(name) if !name.is_empty() => Ok(()),
        _ => Err("the common name of a node's certificate is system:node:NAME".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(signer: &str, usages: &[&str]) -> SignRequest {
        SignRequest {
            key: api::Key::default(),
            uid: String::new(),
            signer_name: format!("kubernetes.io/{signer}"),
            request: Vec::new(),
            usages: usages.iter().map(|usage| (*usage).to_owned()).collect(),
            expiration_seconds: None,
        }
    }

    #[test]
    fn each_signer_keeps_to_its_rules() {
        let node = CsrFacts {
            common_name: "system:node:a".into(),
            organizations: vec!["system:nodes".into()],
            ..CsrFacts::default()
        };
        let named = CsrFacts { dns_names: vec!["a".into()], ..node.clone() };
        let admin = CsrFacts { organizations: vec!["system:masters".into()], ..node.clone() };
        let client = ["digital signature", "client auth"];
        let server = ["digital signature", "server auth"];
        let kubelet = request("kube-apiserver-client-kubelet", &client);
        assert!(judge(&kubelet, &node).unwrap().client);
        assert!(judge(&kubelet, &named).is_err());
        assert!(judge(&kubelet, &admin).is_err());
        assert!(judge(&request("kube-apiserver-client-kubelet", &server), &node).is_err());
        let serving = request("kubelet-serving", &server);
        assert_eq!(judge(&serving, &named).unwrap().dns_names, ["a"]);
        assert!(judge(&serving, &node).is_err());
        assert!(judge(&request("kubelet-serving", &client), &named).is_err());
        assert!(judge(&request("other", &client), &node).is_err());
    }
}
