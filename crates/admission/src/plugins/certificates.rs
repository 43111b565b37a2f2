//! Who may approve and sign for a signer, and what no client certificate may claim.
use crate::{Operation, Plugin, Request, World};
use api::{ApiError, Attributes, Value, access::text};

pub(crate) struct Certificates;

const GROUP: &str = "certificates.k8s.io";

impl Plugin for Certificates {
    fn name(&self) -> &'static str {
        "CertificateApproval"
    }
    fn validate(&self, world: &World<'_>, ask: &Request<'_>, csr: &Value) -> Result<(), ApiError> {
        if ask.kind.group != GROUP || ask.resource != "certificatesigningrequests" {
            return Ok(());
        }
        let signer = text(csr, "/spec/signerName");
        let (verb, doing) = match (ask.operation, ask.subresource) {
            (Operation::Update, "approval") => ("approve", "approve"),
            (Operation::Update, "status") if signs(ask, csr) => ("sign", "sign"),
            _ => return Ok(()),
        };
        if allowed(world, ask, verb, signer) {
            return Ok(());
        }
        Err(ask.forbidden(format!(
            "user not permitted to {doing} requests with signerName {signer:?}"
        )))
    }
}

fn signs(ask: &Request<'_>, csr: &Value) -> bool {
    let old = ask.old.map_or("", |old| text(old, "/status/certificate"));
    text(csr, "/status/certificate") != old
}

/// The permission is on the signer by its name, or on all of its domain.
fn allowed(world: &World<'_>, ask: &Request<'_>, verb: &str, signer: &str) -> bool {
    let domain = signer.split_once('/').map_or(signer, |(domain, _)| domain);
    [signer.to_owned(), format!("{domain}/*")].into_iter().any(|name| {
        let asked = Attributes {
            verb: verb.to_owned(),
            group: GROUP.to_owned(),
            version: "*".to_owned(),
            resource: "signers".to_owned(),
            name,
            ..Attributes::default()
        };
        world.authorizer.authorize(ask.user, &asked).allowed()
    })
}
