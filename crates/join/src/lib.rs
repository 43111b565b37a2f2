//! A node's identity: from a bootstrap token to a client and a serving certificate, renewed in
//! time.
//!
//! Both certificates come through CertificateSigningRequests, whoever runs the node: the client one
//! as
//! `system:node:NAME` in `system:nodes`, the serving one for the node's names and addresses. Keys
//! are made here and never leave the node; files have mode 0600. Waiting is by watch, never by
//! time.
mod csr;
mod store;

pub use csr::{Purpose, request};
pub use store::{Credential, Store};

use client::{Client, Https, HttpsConfig, Identity};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {what} {path}")]
    File {
        what: &'static str,
        path: String,
        #[source]
        source: pki::Error,
    },
    #[error("cannot make a key: {0}")]
    Key(String),
    #[error("the server does not take the join token: it has expired or is for another cluster")]
    Token,
    #[error("cannot ask for a certificate")]
    Api(#[from] client::Error),
    #[error("the certificate signing request {name} was {how}: {why}")]
    Refused { name: String, how: &'static str, why: String },
    #[error("the certificate signing request {0} was deleted before it was answered")]
    Gone(String),
    #[error("{path} is not a usable certificate; remove it to join anew")]
    Damaged { path: String },
    #[error("no certificate for this node yet: give --token")]
    NoToken,
}

/// What is known before a node has joined.
#[derive(Debug, Clone)]
pub struct JoinConfig {
    pub node: String,
    /// `https://HOST:PORT`
    pub server: String,
    pub ca_pem: String,
    /// `id.secret`; not needed once there is a certificate.
    pub bootstrap_token: Option<String>,
    /// For the serving certificate, besides the node's name.
    pub addresses: Vec<IpAddr>,
}

/// A joined node: its client, and the certificate that it serves with.
pub struct Member {
    pub client: Client,
    pub https: Arc<Https>,
    pub serving: watch::Receiver<Arc<Credential>>,
    renewals: Renewals,
}

struct Renewals {
    config: JoinConfig,
    store: Store,
    client_until: SystemTime,
    serving: watch::Sender<Arc<Credential>>,
}

/// Loads the node's certificates from `pki_dir`, or asks for them.
pub async fn join(config: JoinConfig, pki_dir: &Path) -> Result<Member, Error> {
    let store = Store::new(pki_dir)?;
    let known = store.load("client")?.filter(|found| found.usable_as(&csr::user_of(&config.node)));
    let own = match known {
        Some(own) => own,
        None => {
            let token = config.bootstrap_token.clone().ok_or(Error::NoToken)?;
            let bootstrap = transport(&config, Identity::Token(token))?;
            let client = Client::new(bootstrap).named("kybern-join");
            let own = request(&client, &config, Purpose::Client).await.map_err(token_refused)?;
            store.save("client", &own)?;
            own
        }
    };
    let https = transport(&config, identity(&own))?;
    let client = Client::new(https.clone() as Arc<dyn client::Transport>).named("kybern-agent");
    let served = store.load("serving")?;
    let serving = match served.filter(|found| found.serves(&config.node, &config.addresses)) {
        Some(serving) => serving,
        None => {
            let serving = request(&client, &config, Purpose::Serving).await?;
            store.save("serving", &serving)?;
            serving
        }
    };
    let client_until = own.renew_at();
    let (send, receive) = watch::channel(Arc::new(serving));
    let renewals = Renewals { config, store, client_until, serving: send };
    Ok(Member { client, https, serving: receive, renewals })
}

fn token_refused(error: Error) -> Error {
    match error {
        Error::Api(client::Error::Api(status)) if status.code == 401 => Error::Token,
        other => other,
    }
}

fn transport(config: &JoinConfig, identity: Identity) -> Result<Arc<Https>, Error> {
    let mut https = HttpsConfig::new(config.server.clone());
    https.ca_pem = config.ca_pem.clone().into_bytes();
    https.identity = identity;
    Ok(Arc::new(Https::new(https)?))
}

fn identity(own: &Credential) -> Identity {
    Identity::ClientCert {
        cert_pem: own.cert_pem.clone().into_bytes(),
        key_pem: own.key_pem.clone().into_bytes(),
    }
}

/// After a renewal that failed.
const RETRY: Duration = Duration::from_secs(60);

impl Member {
    /// Renews each certificate when four fifths of its life are over. Runs until it is dropped.
    pub async fn keep_renewed(mut self) {
        loop {
            let serving_until = self.renewals.serving.borrow().renew_at();
            let due = serving_until.min(self.renewals.client_until);
            let wait = due.duration_since(SystemTime::now()).unwrap_or_default();
            tokio::time::sleep(wait).await;
            if let Err(error) = self.renew().await {
                tracing::warn!(%error, "cannot renew a certificate of this node yet");
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    async fn renew(&mut self) -> Result<(), Error> {
        let now = SystemTime::now();
        let renewals = &mut self.renewals;
        if renewals.client_until <= now {
            let own = request(&self.client, &renewals.config, Purpose::Client).await?;
            renewals.store.save("client", &own)?;
            self.https.set_identity(identity(&own))?;
            renewals.client_until = own.renew_at();
            tracing::info!("client certificate renewed");
        }
        if renewals.serving.borrow().renew_at() <= now {
            let serving = request(&self.client, &renewals.config, Purpose::Serving).await?;
            renewals.store.save("serving", &serving)?;
            renewals.serving.send_replace(Arc::new(serving));
            tracing::info!("serving certificate renewed");
        }
        Ok(())
    }
}
