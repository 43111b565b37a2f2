//! Services, ports of nodes, proxies and other people's firewalls, as users meet them.
use e2e::{Cluster, until};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

/// What a GET of `/` answers, if somebody does.
fn http(address: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

/// A deployment of echo servers behind a Service with a port on the nodes: that port.
fn web(cluster: &Cluster, replicas: &str) -> u64 {
    let image = "--image=kybern.local/toolbox";
    let replicas = format!("--replicas={replicas}");
    cluster.kubectl(&["create", "deployment", "web", image, &replicas, "--", "toolbox", "serve"]);
    cluster.rollout("deployment/web");
    cluster.kubectl(&[
        "expose",
        "deployment",
        "web",
        "--port=80",
        "--target-port=8080",
        "--type=NodePort",
    ]);
    cluster.get(&["service", "web"])["spec"]["ports"][0]["nodePort"].as_u64().unwrap()
}

#[test]
fn ports_of_nodes_answer_on_loopback() {
    for nodes in ["1", "2"] {
        let Some(cluster) = Cluster::up(&["--nodes", nodes]) else { return };
        let port = web(&cluster, "2");
        for address in [format!("127.0.0.1:{port}"), format!("10.90.0.1:{port}")] {
            let answer = until(&address, || http(&address).filter(|text| !text.is_empty()));
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
        let mut seen = std::collections::BTreeSet::new();
        until("both pods have answered", || {
            let answer = http(&format!("127.0.0.1:{port}"))?;
            seen.extend(
                answer.lines().find(|line| line.starts_with("Hostname:")).map(str::to_owned),
            );
            (seen.len() == 2).then_some(())
        });
    }
}

#[test]
fn clients_with_affinity_stay_when_the_agent_starts_again() {
    let Some(cluster) = Cluster::up(&[]) else { return };
    web(&cluster, "3");
    cluster.kubectl(&[
        "patch",
        "service",
        "web",
        "-p",
        r#"{"spec":{"sessionAffinity":"ClientIP"}}"#,
    ]);
    let address = |name: &str| {
        let service = cluster.get(&["service", name]);
        format!("{}:80", service["spec"]["clusterIP"].as_str().unwrap())
    };
    let host = |address: &str| {
        let answer = http(address)?;
        answer.lines().find(|line| line.starts_with("Hostname:")).map(str::to_owned)
    };
    let web = address("web");
    let first = until("the Service keeps to one pod", || {
        let first = host(&web)?;
        (0..10).all(|_| host(&web).as_ref() == Some(&first)).then_some(first)
    });
    let agent = || {
        let status = cluster.status();
        let mut components = status["components"].as_array().unwrap().iter();
        components.find(|c| c["name"] == "agent-kybern").unwrap()["pid"].as_i64()
    };
    let pid = agent().unwrap();
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
    until("the agent is started again", || agent().filter(|now| *now != pid));
    // A Service that is new to it answers: it has made all rules anew.
    cluster.kubectl(&[
        "expose",
        "deployment",
        "web",
        "--name=late",
        "--port=80",
        "--target-port=8080",
    ]);
    let late = address("late");
    until("a later Service", || host(&late));
    for _ in 0..10 {
        assert_eq!(host(&web).as_ref(), Some(&first));
    }
}

#[test]
fn proxies_lead_to_pods_and_services() {
    let Some(cluster) = Cluster::up(&[]) else { return };
    web(&cluster, "1");
    let pods = cluster.get(&["pods", "-l", "app=web"]);
    let pod = pods["items"][0]["metadata"]["name"].as_str().unwrap();
    // kubectl follows the redirect to the root.
    for path in [
        format!("pods/{pod}:8080/proxy"),
        format!("pods/http:{pod}:8080/proxy/a/b?c=d"),
        "services/web/proxy".to_owned(),
        "services/web:80/proxy/x".to_owned(),
    ] {
        let answer =
            cluster.kubectl(&["get", "--raw", &format!("/api/v1/namespaces/default/{path}")]);
        assert!(answer.contains(&format!("Hostname: {pod}")), "{path}: {answer}");
    }
    for (path, why) in [
        (format!("pods/{pod}:9/proxy/"), "connect: connection refused"),
        ("services/web:81/proxy/".to_owned(), "no service port 81 found for service \"web\""),
        ("services/kubernetes/proxy/".to_owned(), "no endpoints available for service"),
    ] {
        let error =
            cluster.kubectl_fails(&["get", "--raw", &format!("/api/v1/namespaces/default/{path}")]);
        assert!(error.contains(why), "{path}: {error}");
    }
}

/// Somebody's firewall, until the test ends.
struct Firewall;

impl Firewall {
    fn new() -> Self {
        nft("add table ip filter");
        nft("add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }");
        nft("add chain ip filter INPUT { type filter hook input priority 0; policy drop; }");
        nft("add rule ip filter INPUT iifname lo accept");
        nft("add rule ip filter INPUT ct state established,related accept");
        Self
    }
}

impl Drop for Firewall {
    fn drop(&mut self) {
        nft("delete table ip filter");
    }
}

fn nft(command: &str) {
    let done = Command::new("nft").args(command.split(' ')).output().unwrap();
    assert!(done.status.success(), "nft {command}: {}", e2e::text(&done.stderr));
}

#[test]
fn pods_pass_a_firewall_that_drops() {
    let Some(cluster) = Cluster::new() else { return };
    let _firewall = Firewall::new();
    cluster.kybern(&["up"]);
    web(&cluster, "2");
    let image = "--image=kybern.local/toolbox";
    cluster.kubectl(&["run", "client", image, "--", "toolbox", "serve"]);
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/client", "--timeout=60s"]);
    let get = |what: &str| {
        let args = ["exec", "client", "--", "toolbox", "get", "http://web"];
        until(what, || cluster.try_kubectl(&args).status.success().then_some(()));
    };
    get("a Service by its name");
    // A reload of the firewall takes every rule that its file does not have.
    nft("flush chain ip filter FORWARD");
    nft("flush chain ip filter INPUT");
    nft("add rule ip filter INPUT iifname lo accept");
    nft("add rule ip filter INPUT ct state established,related accept");
    get("a Service after the firewall's reload");
    cluster.traces().assert_running();
    cluster.kybern(&["down", "--wipe"]);
    cluster.traces().assert_none();
}
