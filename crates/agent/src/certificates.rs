//! Certificates for the node's pods: a fresh key, a `PodCertificateRequest` to the signer that the
//! pod names, and what comes of it, for as long as the pod is here.
use api::Key;
use api::k8s::ByteString;
use api::k8s::api::certificates::v1::{PodCertificateRequest, PodCertificateRequestSpec as Spec};
use api::k8s::api::core::v1::{Node, Pod, PodCertificateProjection, ServiceAccount};
use api::k8s::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use client::{Client, ListParams, WatchEvent, WatchParams};
use futures_util::StreamExt;
use jiff::{SignedDuration, Timestamp};
use podlife::PodExt;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Mutex as AsyncMutex;
use volume::Certificate;

/// How long a volume waits for a signer before its pod is told that it does.
const PATIENCE: Duration = Duration::from_secs(30);
/// When a signer does not answer in time while the certificate that is there is still good.
const AGAIN: SignedDuration = SignedDuration::from_secs(30);

/// The pod's uid, its volume, the signer and the path: one projection.
type Place = (String, String, String, String);

pub(crate) struct Certificates {
    client: Client,
    node: String,
    held: Mutex<HashMap<Place, Arc<AsyncMutex<Held>>>>,
}

#[derive(Default)]
struct Held {
    issued: Option<Issued>,
    asked: Option<Asked>,
    /// A signer that has refused is not asked again for this pod.
    refused: Option<String>,
}

#[derive(Clone)]
struct Issued {
    certificate: Certificate,
    expires: Timestamp,
}

struct Asked {
    name: String,
    key: String,
}

impl Certificates {
    pub(crate) fn new(client: Client, node: &str) -> Self {
        Self { client, node: node.to_owned(), held: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Place, Arc<AsyncMutex<Held>>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn forget(&self, pod_uid: &str) {
        self.lock().retain(|(uid, ..), _| uid != pod_uid);
    }

    pub(crate) async fn get(
        &self,
        pod: &Pod,
        volume: &str,
        source: &PodCertificateProjection,
    ) -> Result<Certificate, String> {
        let paths = [&source.credential_bundle_path, &source.key_path];
        let path = paths.into_iter().flatten().next().cloned().unwrap_or_default();
        let place = (pod.uid().to_owned(), volume.to_owned(), source.signer_name.clone(), path);
        let held = Arc::clone(self.lock().entry(place).or_default());
        let mut held = held.lock().await;
        if let Some(why) = &held.refused {
            return Err(why.clone());
        }
        let now = Timestamp::now();
        if let Some(issued) = &held.issued
            && issued.certificate.refresh_at > now
        {
            return Ok(issued.certificate.clone());
        }
        let renewing = tokio::time::timeout(PATIENCE, self.renew(&mut held, pod, source));
        let why = match renewing.await {
            Ok(Ok(issued)) => {
                let certificate = issued.certificate.clone();
                held.issued = Some(issued);
                return Ok(certificate);
            }
            Ok(Err(why)) => why,
            Err(_) => {
                let name = held.asked.as_ref().map_or("", |asked| asked.name.as_str());
                format!(
                    "podcertificaterequest {name:?} is not issued yet by {}",
                    source.signer_name
                )
            }
        };
        match &held.issued {
            Some(issued) if issued.expires > now => {
                tracing::warn!(pod = pod.name(), why, "a pod's certificate is not renewed yet");
                Ok(Certificate { refresh_at: now + AGAIN, ..issued.certificate.clone() })
            }
            _ => Err(why),
        }
    }

    /// Asks, unless that was done already, and waits for the answer.
    async fn renew(
        &self,
        held: &mut Held,
        pod: &Pod,
        source: &PodCertificateProjection,
    ) -> Result<Issued, String> {
        if held.asked.is_none() {
            held.asked = Some(self.ask(pod, source).await?);
        }
        let Some(Asked { name, key }) = &held.asked else { unreachable!("it was asked") };
        let answered = self.answer(pod.namespace(), name).await?;
        let outcome = match answered {
            None => Err((false, format!("podcertificaterequest {name:?} was deleted"))),
            Some(request) => issued(&request, key).map_err(|why| (true, why)),
        };
        held.asked = None;
        outcome.map_err(|(for_good, why)| {
            held.refused = for_good.then(|| why.clone());
            why
        })
    }

    async fn ask(&self, pod: &Pod, source: &PodCertificateProjection) -> Result<Asked, String> {
        let text = |error: client::Error| crate::seams::chain(&error);
        let (key, csr) = pki::nameless_request(&source.key_type).map_err(|e| e.to_string())?;
        let account = pod.spec_ref().service_account_name.clone().filter(|name| !name.is_empty());
        let account = account.unwrap_or_else(|| "default".to_owned());
        let found = self.client.get::<ServiceAccount>(&Key::new(pod.namespace(), &*account)).await;
        let account_uid = api::Kind::uid(&found.map_err(text)?).to_owned();
        let node = self.client.get::<Node>(&Key::new("", &*self.node)).await.map_err(text)?;
        let request = PodCertificateRequest {
            metadata: ObjectMeta {
                namespace: Some(pod.namespace().to_owned()),
                generate_name: Some(format!("req-{}-", pod.name())),
                ..ObjectMeta::default()
            },
            spec: Spec {
                signer_name: source.signer_name.clone(),
                pod_name: pod.name().to_owned(),
                pod_uid: pod.uid().to_owned(),
                service_account_name: account,
                service_account_uid: account_uid,
                node_name: self.node.clone(),
                node_uid: api::Kind::uid(&node).to_owned(),
                max_expiration_seconds: source.max_expiration_seconds,
                stub_pkc_s10_request: ByteString(csr),
                unverified_user_annotations: source.user_annotations.clone(),
            },
            status: None,
        };
        let made = self.client.create(&request).await.map_err(text)?;
        Ok(Asked { name: made.metadata.name.unwrap_or_default(), key })
    }

    /// The request when it has been judged; `None` if it is gone.
    async fn answer(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<PodCertificateRequest>, String> {
        let field_selector = format!("metadata.name={name},spec.nodeName={}", self.node);
        loop {
            let params =
                ListParams { field_selector: field_selector.clone(), ..ListParams::default() };
            let list = self.client.list::<PodCertificateRequest>(Some(namespace), &params).await;
            let list = list.map_err(|error| crate::seams::chain(&error))?;
            let Some(request) = list.items.into_iter().next() else { return Ok(None) };
            if is_judged(&request) {
                return Ok(Some(request));
            }
            let params = WatchParams {
                field_selector: field_selector.clone(),
                resource_version: request.metadata.resource_version.unwrap_or_default(),
                ..WatchParams::default()
            };
            let events = self.client.watch::<PodCertificateRequest>(Some(namespace), &params).await;
            let mut events = events.map_err(|error| crate::seams::chain(&error))?;
            while let Some(event) = events.next().await {
                match event {
                    Ok(WatchEvent::Added(request) | WatchEvent::Modified(request)) => {
                        if is_judged(&request) {
                            return Ok(Some(request));
                        }
                    }
                    Ok(WatchEvent::Deleted(_)) => return Ok(None),
                    Ok(WatchEvent::Bookmark { .. }) => {}
                    // The server ended the watch: look again, and watch on.
                    Err(_) => break,
                }
            }
        }
    }
}

fn is_judged(request: &PodCertificateRequest) -> bool {
    let conditions = request.status.as_ref().and_then(|status| status.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|one| matches!(one.type_.as_str(), "Issued" | "Denied" | "Failed"))
}

/// What the signer gave, or why it did not.
fn issued(request: &PodCertificateRequest, key: &str) -> Result<Issued, String> {
    let status = request.status.clone().unwrap_or_default();
    let name = request.metadata.name.as_deref().unwrap_or_default();
    for condition in status.conditions.iter().flatten() {
        let how = match condition.type_.as_str() {
            "Denied" => "was denied",
            "Failed" => "failed",
            _ => continue,
        };
        let (reason, message) = (&condition.reason, &condition.message);
        return Err(format!("podcertificaterequest {name:?} {how}: {reason}: {message}"));
    }
    let expires = status.not_after.map(|time| time.0);
    let refresh_at = status.begin_refresh_at.map(|time| time.0);
    let (Some(chain), Some(expires)) = (status.certificate_chain, expires) else {
        return Err(format!("podcertificaterequest {name:?} was issued without a certificate"));
    };
    let chain = pki::certificates(&chain).map_err(|error| error.to_string())?.concat();
    if chain.is_empty() {
        return Err(format!("podcertificaterequest {name:?} was issued without a certificate"));
    }
    let refresh_at = refresh_at.unwrap_or(expires).min(expires);
    Ok(Issued { certificate: Certificate { key: key.to_owned(), chain, refresh_at }, expires })
}
