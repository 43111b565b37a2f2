use super::*;
use std::os::unix::fs::PermissionsExt;
use value::json;

#[test]
fn keys_are_private_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let first = Pki::load_or_create(dir.path()).unwrap();
    for name in ["ca.key", "sa.key"] {
        let mode = std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let profile =
        Profile::server("kube-apiserver", &["kubernetes"], &["10.96.0.1".parse().unwrap()]);
    let made = first.certificate("apiserver", &profile).unwrap();
    let second = Pki::load_or_create(dir.path()).unwrap();
    assert_eq!(first.ca.cert_pem(), second.ca.cert_pem());
    assert_eq!(second.certificate("apiserver", &profile).unwrap().cert_pem, made.cert_pem);
    let mut other = profile.clone();
    other.addresses.push("127.0.0.1".parse().unwrap());
    assert_ne!(second.certificate("apiserver", &other).unwrap().cert_pem, made.cert_pem);
}

#[test]
fn tokens_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::load_or_create(dir.path()).unwrap();
    let token = pki.tokens.sign(&json!({ "sub": "x", "exp": 200, "nbf": 100 })).unwrap();
    assert_eq!(pki.tokens.verify(&token, 150).unwrap()["sub"], "x");
    assert_eq!(pki.tokens.verify(&token, 200), Err(JwtError::Expired));
    assert_eq!(pki.tokens.verify(&token, 10), Err(JwtError::NotYet));
    let mut forged: Vec<char> = token.chars().collect();
    let at = token.find('.').unwrap() + 3;
    forged[at] = if forged[at] == 'A' { 'B' } else { 'A' };
    let forged: String = forged.into_iter().collect();
    assert_eq!(pki.tokens.verify(&forged, 150), Err(JwtError::Signature));
    assert_eq!(pki.tokens.verify("a.b", 150), Err(JwtError::Malformed));
}

#[test]
fn requests_are_signed_for_what_was_judged() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::load_or_create(dir.path()).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["node-1".to_owned()]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "system:node:node-1");
    params.distinguished_name.push(rcgen::DnType::OrganizationName, "system:nodes");
    let csr = params.serialize_request(&key).unwrap().pem().unwrap();
    let facts = Authority::inspect(&csr).unwrap();
    assert_eq!(facts.common_name, "system:node:node-1");
    assert_eq!(facts.organizations, ["system:nodes"]);
    assert_eq!(facts.dns_names, ["node-1"]);
    let profile = Profile::client("system:node:node-1", &["system:nodes"]);
    let cert = pki.ca.sign_csr(&csr, &profile).unwrap();
    assert!(pki.ca.still_good(&cert, &profile));
    assert!(!pki.ca.still_good(&cert, &Profile::client("admin", &["system:masters"])));
    assert!(Authority::inspect("garbage").is_err());
}
