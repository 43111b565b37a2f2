//! The README's tour, as a new user types it.
use e2e::{Cluster, text, until};
use std::io::{BufRead, BufReader};

#[test]
fn a_deployment_is_deployed_reached_scaled_inspected_and_healed() {
    let Some(cluster) = Cluster::up(&[]) else { return };
    assert!(cluster.kubectl(&["get", "nodes"]).contains("Ready"));
    cluster.kubectl(&[
        "create",
        "deployment",
        "hello",
        "--image=kybern.local/toolbox",
        "--replicas=3",
        "--",
        "toolbox",
        "serve",
    ]);
    cluster.rollout("deployment/hello");
    cluster.kubectl(&["expose", "deployment", "hello", "--port=80", "--target-port=8080"]);
    let get = [
        "run",
        "probe",
        "--image=kybern.local/toolbox",
        "--restart=Never",
        "--rm",
        "-i",
        "--quiet",
        "--",
        "toolbox",
        "get",
        "http://hello.default.svc.cluster.local",
    ];
    let page = cluster.kubectl(&get);
    assert!(page.contains("hello-"), "{page}");

    let all = cluster.kubectl(&["get", "all", "-A", "-o", "wide"]);
    for wanted in ["deployment.apps/hello", "replicaset.apps/hello-", "pod/hello-", "service/hello"]
    {
        assert!(all.contains(wanted), "{wanted} in {all}");
    }
    let described = cluster.kubectl(&["describe", "deployment", "hello"]);
    assert!(described.contains("ScalingReplicaSet"), "{described}");
    let described = cluster.kubectl(&["describe", "pods", "-l", "app=hello"]);
    assert!(described.contains("Started"), "{described}");

    cluster.kubectl(&["scale", "deployment", "hello", "--replicas=5"]);
    cluster.rollout("deployment/hello");
    let pods = cluster.get(&["pods", "-l", "app=hello"]);
    assert_eq!(pods["items"].as_array().unwrap().len(), 5);

    let victim = pods["items"][0]["metadata"]["name"].as_str().unwrap().to_owned();
    cluster.kubectl(&["delete", "pod", &victim, "--wait=false"]);
    cluster.rollout("deployment/hello");
    cluster.kubectl(&["set", "image", "deployment/hello", "toolbox=kybern.local/toolbox:latest"]);
    cluster.rollout("deployment/hello");
    cluster.kubectl(&["rollout", "undo", "deployment/hello"]);
    cluster.rollout("deployment/hello");
    assert!(cluster.kubectl(&["rollout", "history", "deployment/hello"]).contains("REVISION"));
}

#[test]
fn a_pod_is_looked_into() {
    let Some(cluster) = Cluster::up(&[]) else { return };
    cluster.kubectl(&[
        "run",
        "web",
        "--image=kybern.local/toolbox",
        "--port=8080",
        "--",
        "toolbox",
        "serve",
    ]);
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/web", "--timeout=60s"]);
    assert_eq!(cluster.kubectl(&["exec", "web", "--", "sh", "-c", "echo out; exit 0"]), "out\n");
    let failed = cluster.try_kubectl(&["exec", "web", "--", "sh", "-c", "exit 7"]);
    assert_eq!(failed.status.code(), Some(7));
    let piped = cluster.with_input(&["exec", "-i", "web", "--", "cat"], "through\nthe pipe\n");
    assert_eq!(text(&piped.stdout), "through\nthe pipe\n");

    std::fs::write(cluster.home().join("file"), "copied").unwrap();
    let from = cluster.home().join("file");
    cluster.kubectl(&["cp", from.to_str().unwrap(), "web:/tmp/file"]);
    assert_eq!(cluster.kubectl(&["exec", "web", "--", "cat", "/tmp/file"]), "copied");
    let back = cluster.home().join("back");
    cluster.kubectl(&["cp", "web:/tmp/file", back.to_str().unwrap()]);
    assert_eq!(std::fs::read_to_string(back).unwrap(), "copied");

    let mut forward = cluster.background(&["port-forward", "pod/web", "18080:8080"]);
    let mut line = String::new();
    // Kept: kubectl goes on writing to it.
    let mut told = BufReader::new(forward.0.stdout.take().unwrap());
    told.read_line(&mut line).unwrap();
    assert!(line.contains("Forwarding from"), "{line}");
    let page = until("an answer through the forwarded port", || {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect("127.0.0.1:18080").ok()?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
        let mut page = String::new();
        stream.read_to_string(&mut page).ok()?;
        page.contains("web").then_some(page)
    });
    assert!(page.starts_with("HTTP/1."), "{page}");

    cluster.kubectl(&[
        "run",
        "talker",
        "--image=kybern.local/toolbox",
        "--restart=Never",
        "--",
        "sh",
        "-c",
        "echo one; echo two; sleep 3600",
    ]);
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/talker", "--timeout=60s"]);
    let mut follow = cluster.background(&["logs", "-f", "talker"]);
    let lines: Vec<String> = BufReader::new(follow.0.stdout.take().unwrap())
        .lines()
        .take(2)
        .map(|line| line.unwrap())
        .collect();
    assert_eq!(lines, ["one", "two"]);
}

#[test]
fn objects_are_changed_in_every_way_kubectl_knows() {
    let Some(cluster) = Cluster::up(&[]) else { return };
    let manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {a: '1'}\n";
    assert_eq!(cluster.apply(manifest), "configmap/settings created\n");
    assert_eq!(cluster.apply(manifest), "configmap/settings unchanged\n");
    assert_eq!(cluster.apply(&manifest.replace("'1'", "'2'")), "configmap/settings configured\n");
    let args = ["apply", "--server-side", "--field-manager=other", "-f", "-"];
    let refused = cluster.with_input(&args, &manifest.replace("'1'", "'3'"));
    assert!(text(&refused.stderr).contains("conflict with"), "{}", text(&refused.stderr));
    let diff = cluster.with_input(&["diff", "-f", "-"], &manifest.replace("'1'", "'4'"));
    assert!(text(&diff.stdout).contains("+  a: \"4\""), "{}", text(&diff.stdout));
    cluster.kubectl(&["label", "configmap", "settings", "tier=front"]);
    cluster.kubectl(&["annotate", "configmap", "settings", "note=x"]);
    assert_eq!(
        cluster.kubectl(&["get", "cm", "-l", "tier=front", "-o", "name"]),
        "configmap/settings\n"
    );
    let patch = [
        "patch",
        "cm",
        "settings",
        "--type=json",
        "-p",
        r#"[{"op":"add","path":"/data/b","value":"5"}]"#,
    ];
    cluster.kubectl(&patch);
    assert_eq!(cluster.get(&["cm", "settings"])["data"]["b"], "5");
    assert!(cluster.kubectl(&["explain", "deployment.spec.replicas"]).contains("FIELD: replicas"));
    assert!(cluster.kubectl(&["api-resources"]).contains("deployments"));
    let bad = manifest.replace("\ndata:", "\ndat:");
    let output = cluster.with_input(&["apply", "-f", "-"], &bad);
    assert!(text(&output.stderr).contains("unknown field \"dat\""), "{}", text(&output.stderr));
}
