//! One CertificateSigningRequest, from a fresh key to the signed certificate.
use crate::{Credential, Error, JoinConfig};
use api::Key;
use api::k8s::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestSpec as Spec,
};
use api::k8s::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use client::{Client, WatchEvent, WatchParams};
use futures_util::StreamExt;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Client,
    Serving,
}

/// The user that a node's client certificate names.
pub(crate) fn user_of(node: &str) -> String {
    format!("system:node:{node}")
}

/// Makes a key, asks, and waits for the answer.
pub async fn request(
    client: &Client,
    config: &JoinConfig,
    purpose: Purpose,
) -> Result<Credential, Error> {
    let key = KeyPair::generate().map_err(|error| Error::Key(error.to_string()))?;
    let pem = request_pem(config, purpose, &key)?;
    let asked = client.create(&object(pem, purpose)).await?;
    let name = asked.metadata.name.clone().unwrap_or_default();
    let cert_pem = answer(client, &name).await?;
    Ok(Credential { cert_pem, key_pem: key.serialize_pem() })
}

fn request_pem(config: &JoinConfig, purpose: Purpose, key: &KeyPair) -> Result<String, Error> {
    let refused = |error: rcgen::Error| Error::Key(error.to_string());
    let mut names = Vec::new();
    if purpose == Purpose::Serving {
        names.push(config.node.clone());
    }
    let mut params = CertificateParams::new(names).map_err(refused)?;
    if purpose == Purpose::Serving {
        params.subject_alt_names.extend(config.addresses.iter().copied().map(SanType::IpAddress));
    }
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
    params.distinguished_name.push(DnType::CommonName, user_of(&config.node));
    params.serialize_request(key).and_then(|request| request.pem()).map_err(refused)
}

fn object(pem: String, purpose: Purpose) -> CertificateSigningRequest {
    let (signer, usage) = match purpose {
        Purpose::Client => ("kubernetes.io/kube-apiserver-client-kubelet", "client auth"),
        Purpose::Serving => ("kubernetes.io/kubelet-serving", "server auth"),
    };
    CertificateSigningRequest {
        metadata: ObjectMeta { generate_name: Some("csr-".to_owned()), ..ObjectMeta::default() },
        spec: Spec {
            request: api::k8s::ByteString(pem.into_bytes()),
            signer_name: signer.to_owned(),
            usages: Some(vec!["digital signature".to_owned(), usage.to_owned()]),
            ..Spec::default()
        },
        status: None,
    }
}

/// Watches the request until it is answered one way or the other.
async fn answer(client: &Client, name: &str) -> Result<String, Error> {
    loop {
        let asked: CertificateSigningRequest = client.get(&Key::new("", name)).await?;
        if let Some(done) = judged(&asked, name)? {
            return Ok(done);
        }
        let params = WatchParams {
            field_selector: format!("metadata.name={name}"),
            resource_version: asked.metadata.resource_version.clone().unwrap_or_default(),
            ..WatchParams::default()
        };
        let mut events = client.watch::<CertificateSigningRequest>(None, &params).await?;
        while let Some(event) = events.next().await {
            match event {
                Ok(WatchEvent::Added(asked) | WatchEvent::Modified(asked)) => {
                    if let Some(done) = judged(&asked, name)? {
                        return Ok(done);
                    }
                }
                Ok(WatchEvent::Deleted(_)) => return Err(Error::Gone(name.to_owned())),
                Ok(WatchEvent::Bookmark { .. }) => {}
                // The server ended the watch: look again, and watch on.
                Err(_) => break,
            }
        }
    }
}

fn judged(asked: &CertificateSigningRequest, name: &str) -> Result<Option<String>, Error> {
    let Some(status) = &asked.status else { return Ok(None) };
    for condition in status.conditions.iter().flatten() {
        let how = match condition.type_.as_str() {
            "Denied" => "denied",
            "Failed" => "not signed",
            _ => continue,
        };
        let why = condition.message.clone().unwrap_or_default();
        return Err(Error::Refused { name: name.to_owned(), how, why });
    }
    let certificate = status.certificate.as_ref().filter(|bytes| !bytes.0.is_empty());
    Ok(certificate.map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned()))
}
