//! Certificate signing requests: approves those of nodes, has the approved signed, and clears up.
//!
//! Whether a requester may have a node's client certificate is asked of the server (an access
//! review), as upstream does. A node's serving certificate is approved for the node itself, for
//! its own name and for addresses that no other node has.
use crate::conditions;
use api::Kind;
use api::k8s::api::certificates::v1::{
    CertificateSigningRequest as Csr, CertificateSigningRequestCondition as CsrCondition,
};
use api::k8s::api::core::v1::Node;
use pki::{Authority, CsrFacts};
use reconcile::{Controller, Effect, Plan, SignRequest, Target, Turn, Watch, World, meta};
use serde_json::json;
use std::time::Duration;

pub(crate) struct Approving;
pub(crate) struct Signing;
pub(crate) struct Cleaning;

const CLIENT_KUBELET: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
const SIGNERS: [&str; 4] = [
    "kubernetes.io/kube-apiserver-client",
    CLIENT_KUBELET,
    KUBELET_SERVING,
    "kubernetes.io/legacy-unknown",
];
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn has(csr: &Csr, kind: &str) -> bool {
    let conditions = csr.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == kind)
}

fn has_certificate(csr: &Csr) -> bool {
    let certificate = csr.status.as_ref().and_then(|status| status.certificate.as_ref());
    certificate.is_some_and(|certificate| !certificate.0.is_empty())
}

impl Controller for Approving {
    fn name(&self) -> &'static str {
        "csrapproving"
    }
    fn watches(&self) -> Vec<Watch> {
        vec![Watch::own::<Csr>()]
    }
    fn reads(&self) -> Vec<Target> {
        vec![Target::of::<Node>()]
    }
    fn reconcile(&self, turn: &Turn<'_>) -> Plan {
        let mut plan = Plan::nothing();
        let Some(csr) = turn.world.get::<Csr>(turn.key) else { return plan };
        if has(csr, "Approved") || has(csr, "Denied") || has(csr, "Failed") || has_certificate(csr)
        {
            return plan;
        }
        let Some((message, subresource)) = recognize(csr, turn.world) else { return plan };
        let mut approved = Csr::clone(csr);
        let condition =
            conditions::Condition::make("Approved", "True", "AutoApproved", message, turn.now);
        conditions::set(&mut approved.status.get_or_insert_default().conditions, condition);
        let effect = Effect::PutSub {
            target: Target::of::<Csr>(),
            key: turn.key.clone(),
            subresource: "approval",
            object: serde_json::to_value(&approved).expect("kinds always serialize"),
        };
        plan.push(match subresource {
            Some(subresource) => {
                Effect::IfAllowed { review: review(csr, subresource), then: Box::new(effect) }
            }
            None => effect,
        });
        plan
    }
}

/// What the approval says, and the right that it takes.
fn recognize(csr: &Csr, world: &World) -> Option<(&'static str, Option<&'static str>)> {
    let pem = std::str::from_utf8(&csr.spec.request.0).ok()?;
    let facts = Authority::inspect(pem).ok()?;
    let usages: Vec<&str> = csr.spec.usages.iter().flatten().map(String::as_str).collect();
    let node = facts.common_name.strip_prefix("system:node:").filter(|name| !name.is_empty())?;
    if facts.organizations != ["system:nodes"] {
        return None;
    }
    let among = |allowed: &[&str], needed: &str| {
        usages.iter().all(|usage| allowed.contains(usage)) && usages.contains(&needed)
    };
    let is_self = csr.spec.username.as_deref() == Some(facts.common_name.as_str());
    match csr.spec.signer_name.as_str() {
        CLIENT_KUBELET => {
            let allowed = ["digital signature", "key encipherment", "client auth"];
            if !among(&allowed, "client auth") || has_alternative_names(&facts) {
                return None;
            }
            Some(if is_self {
                let text = "Auto approving self kubelet client certificate after \
                            SubjectAccessReview.";
                (text, Some("selfnodeclient"))
            } else {
                let text = "Auto approving kubelet client certificate after SubjectAccessReview.";
                (text, Some("nodeclient"))
            })
        }
        KUBELET_SERVING => {
            let allowed = ["digital signature", "key encipherment", "server auth"];
            let member = csr.spec.groups.iter().flatten().any(|group| group == "system:nodes");
            let fine = among(&allowed, "server auth")
                && is_self
                && member
                && facts.emails.is_empty()
                && facts.uris.is_empty()
                && names_are_its_own(&facts, node, world);
            fine.then_some(("Auto approving kubelet serving certificate of the node itself.", None))
        }
        _ => None,
    }
}

fn has_alternative_names(facts: &CsrFacts) -> bool {
    !facts.dns_names.is_empty()
        || !facts.addresses.is_empty()
        || !facts.emails.is_empty()
        || !facts.uris.is_empty()
}

fn names_are_its_own(facts: &CsrFacts, node: &str, world: &World) -> bool {
    let addresses = |node: &Node| -> Vec<String> {
        let status = node.status.as_ref();
        let all = status.and_then(|status| status.addresses.as_ref()).into_iter().flatten();
        all.map(|address| address.address.clone()).collect()
    };
    let own = world.named::<Node>(node).map(|node| addresses(node)).unwrap_or_default();
    let names_fine = facts.dns_names.iter().all(|name| name == node || own.contains(name));
    let texts: Vec<String> = facts.addresses.iter().map(ToString::to_string).collect();
    let taken = world
        .all::<Node>()
        .filter(|other| meta::name(&other.metadata) != node)
        .any(|other| addresses(other).iter().any(|address| texts.contains(address)));
    names_fine && !taken
}

fn review(csr: &Csr, subresource: &str) -> serde_json::Value {
    json!({
        "user": csr.spec.username,
        "uid": csr.spec.uid,
        "groups": csr.spec.groups,
        "extra": csr.spec.extra,
        "resourceAttributes": {
            "group": "certificates.k8s.io", "version": "*",
            "resource": "certificatesigningrequests", "subresource": subresource, "verb": "create",
        },
    })
}

impl Controller for Signing {
    fn name(&self) -> &'static str {
        "csrsigning"
    }
    fn watches(&self) -> Vec<Watch> {
        vec![Watch::own::<Csr>()]
    }
    fn reconcile(&self, turn: &Turn<'_>) -> Plan {
        let mut plan = Plan::nothing();
        let Some(csr) = turn.world.get::<Csr>(turn.key) else { return plan };
        let due = has(csr, "Approved") && !has(csr, "Denied") && !has(csr, "Failed");
        if due && !has_certificate(csr) && SIGNERS.contains(&csr.spec.signer_name.as_str()) {
            plan.push(Effect::Sign(Box::new(SignRequest {
                key: csr.key(),
                uid: csr.uid().to_owned(),
                signer_name: csr.spec.signer_name.clone(),
                request: csr.spec.request.0.clone(),
                usages: csr.spec.usages.clone().unwrap_or_default(),
                expiration_seconds: csr.spec.expiration_seconds.and_then(|s| s.try_into().ok()),
            })));
        }
        plan
    }
}

impl Controller for Cleaning {
    fn name(&self) -> &'static str {
        "csrcleaner"
    }
    fn watches(&self) -> Vec<Watch> {
        vec![Watch::own::<Csr>()]
    }
    /// Answered requests go after an hour, unanswered ones after a day.
    fn reconcile(&self, turn: &Turn<'_>) -> Plan {
        let mut plan = Plan::nothing();
        let Some(csr) = turn.world.get::<Csr>(turn.key) else { return plan };
        let created = csr.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let answered = csr.status.as_ref().and_then(|status| status.conditions.as_ref());
        let answered = answered.into_iter().flatten().filter_map(|condition: &CsrCondition| {
            let time =
                condition.last_update_time.as_ref().or(condition.last_transition_time.as_ref());
            time.map(|time| time.0)
        });
        let (since, life) = match answered.max() {
            Some(at) => (Some(at), HOUR),
            None => (created, DAY),
        };
        let Some(due) = since.and_then(|since| since.checked_add(life).ok()) else { return plan };
        if due <= turn.now {
            plan.push(Effect::delete(&**csr));
        } else {
            plan.look_again_at(due, turn.now);
        }
        plan
    }
}

#[cfg(test)]
mod tests;
