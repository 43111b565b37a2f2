//! A node's certificates are renewed before they run out, while the node works.
use e2e::{Cluster, until};
use pki::{Authority, Profile};
use std::net::IpAddr;
use std::time::Duration;

const NODE: &str = "kybern";

#[test]
fn certificates_near_their_end_are_renewed() {
    let Some(cluster) = Cluster::up(&[]) else { return };
    let node = cluster.get(&["node", NODE]);
    let addresses = node["status"]["addresses"].as_array().unwrap();
    let addresses = addresses.iter().filter(|address| address["type"] == "InternalIP");
    let addresses: Vec<IpAddr> =
        addresses.map(|address| address["address"].as_str().unwrap().parse().unwrap()).collect();
    cluster.kybern(&["down"]);

    // They have less than a fifth of their life left, but enough to begin with.
    let pki = cluster.data_dir().join("pki");
    let authority = Authority::load_or_create(&pki.join("ca.crt"), &pki.join("ca.key")).unwrap();
    let life = Some(Duration::from_secs(60));
    let user = format!("system:node:{NODE}");
    let client = Profile { life, ..Profile::client(&user, &["system:nodes"]) };
    let serving = Profile {
        organizations: vec!["system:nodes".to_owned()],
        life,
        ..Profile::server(&user, &[NODE], &addresses)
    };
    let own = cluster.data_dir().join("nodes").join(NODE).join("pki");
    let written = [("client", client), ("serving", serving)].map(|(name, profile)| {
        let path = own.join(format!("{name}.pem"));
        assert!(path.exists(), "{}", path.display());
        let issued = authority.issue(&profile).unwrap();
        let text = format!("{}{}", issued.cert_pem, issued.key_pem);
        pki::write_secret(&path, text.as_bytes()).unwrap();
        (path, text)
    });

    cluster.kybern(&["up"]);
    for (path, old) in written {
        until("a new certificate", || {
            let text = std::fs::read_to_string(&path).ok()?;
            (text != old).then_some(())
        });
    }
    let image = "--image=kybern.local/toolbox";
    cluster.kubectl(&["run", "p", image, "--", "toolbox", "serve"]);
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/p", "--timeout=60s"]);
    // Through the node's own API: what it serves with is good, and so is what it asks with.
    assert!(cluster.kubectl(&["logs", "p"]).contains("serving HTTP"));
    let requests = cluster.kubectl(&["get", "csr"]);
    assert!(requests.matches("Approved,Issued").count() >= 4, "{requests}");
}
