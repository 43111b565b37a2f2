use super::*;
use api::k8s::ByteString;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};
use reconcile::sim::Sim;
use serde_json::Value;

/// A request by `user` for a certificate of `node`.
fn csr(signer: &str, user: &str, groups: &[&str], node: &str, addresses: &[&str]) -> Value {
    let key = KeyPair::generate().unwrap();
    let serving = signer == KUBELET_SERVING;
    let names = if serving { vec![node.to_owned()] } else { Vec::new() };
    let mut params = CertificateParams::new(names).unwrap();
    for address in addresses {
        params.subject_alt_names.push(SanType::IpAddress(address.parse().unwrap()));
    }
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
    params.distinguished_name.push(DnType::CommonName, format!("system:node:{node}"));
    let pem = params.serialize_request(&key).unwrap().pem().unwrap();
    let usage = if serving { "server auth" } else { "client auth" };
    json!({
        "metadata": { "name": "csr-1" },
        "spec": {
            "request": ByteString(pem.into_bytes()), "signerName": signer, "username": user,
            "groups": groups, "usages": ["digital signature", usage],
        },
    })
}

fn plan(request: Value) -> Plan {
    let mut sim = Sim::new(&Approving);
    for (name, address) in [("a", "10.0.0.1"), ("b", "10.0.0.2")] {
        sim.put::<Node>(json!({ "metadata": { "name": name },
            "status": { "addresses": [{ "type": "InternalIP", "address": address }] } }));
    }
    let key = sim.put::<Csr>(request);
    sim.plan(&Approving, &key)
}

fn right(plan: &Plan) -> Option<String> {
    match plan.effects.as_slice() {
        [] => None,
        [Effect::IfAllowed { review, then }] => {
            assert_eq!(then.verb(), "update");
            let text = review["resourceAttributes"]["subresource"].as_str();
            Some(text.unwrap_or_default().to_owned())
        }
        [Effect::PutSub { subresource, .. }] => Some((*subresource).to_owned()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn clients_are_approved_as_far_as_they_may() {
    let boot = ["system:bootstrappers"];
    let joins = plan(csr(CLIENT_KUBELET, "system:bootstrap:abcdef", &boot, "a", &[]));
    assert_eq!(right(&joins).as_deref(), Some("nodeclient"));
    let renews = plan(csr(CLIENT_KUBELET, "system:node:a", &["system:nodes"], "a", &[]));
    assert_eq!(right(&renews).as_deref(), Some("selfnodeclient"));
    let named = plan(csr(CLIENT_KUBELET, "system:node:a", &["system:nodes"], "a", &["10.0.0.1"]));
    assert_eq!(right(&named), None);
}

#[test]
fn serving_certificates_are_for_the_node_itself() {
    let nodes = ["system:nodes"];
    let own = plan(csr(KUBELET_SERVING, "system:node:a", &nodes, "a", &["10.0.0.1"]));
    assert_eq!(right(&own).as_deref(), Some("approval"));
    let fresh = plan(csr(KUBELET_SERVING, "system:node:new", &nodes, "new", &["10.0.0.9"]));
    assert_eq!(right(&fresh).as_deref(), Some("approval"));
    let stolen = plan(csr(KUBELET_SERVING, "system:node:a", &nodes, "a", &["10.0.0.2"]));
    assert_eq!(right(&stolen), None, "the address of another node");
    let other = plan(csr(KUBELET_SERVING, "system:node:b", &nodes, "a", &["10.0.0.1"]));
    assert_eq!(right(&other), None);
    let outsider = plan(csr(KUBELET_SERVING, "system:node:a", &[], "a", &["10.0.0.1"]));
    assert_eq!(right(&outsider), None);
}

#[test]
fn approved_ones_are_signed_once_and_cleared_up() {
    let mut sim = Sim::new(&Signing);
    let nodes = ["system:nodes"];
    let key = sim.put::<Csr>(csr(CLIENT_KUBELET, "system:node:a", &nodes, "a", &[]));
    assert!(sim.plan(&Signing, &key).is_settled());
    let now = sim.now.to_string();
    sim.patch::<Csr>(
        &key,
        &json!({ "status": { "conditions": [{ "type": "Approved", "status": "True",
            "lastUpdateTime": now, "lastTransitionTime": now }] } }),
    );
    assert!(matches!(sim.plan(&Signing, &key).effects.as_slice(), [Effect::Sign(_)]));
    assert!(sim.plan(&Approving, &key).is_settled());
    sim.patch::<Csr>(&key, &json!({ "status": { "certificate": ByteString(b"PEM".to_vec()) } }));
    assert!(sim.plan(&Signing, &key).is_settled());
    let plan = sim.plan(&Cleaning, &key);
    assert_eq!(plan.again_after, Some(HOUR));
    assert!(plan.is_settled());
    sim.now += jiff::SignedDuration::from_secs(3601);
    sim.settle(&Cleaning, &key);
    assert!(sim.all::<Csr>().is_empty());
}
