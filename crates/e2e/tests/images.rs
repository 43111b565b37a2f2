//! Images as people use them: from a private registry, from nowhere, and made on the spot.
use e2e::registry::{self, Registry};
use e2e::{Cluster, text, until};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

const BUSYBOX: &str = "/bin/busybox";
const NGINX: &str = "/usr/sbin/nginx";
const NGINX_CONF: &str = "daemon off;
user root;
error_log /dev/stderr;
pid /tmp/nginx.pid;
events {}
http {
    access_log off;
    client_body_temp_path /tmp/body;
    proxy_temp_path /tmp/proxy;
    fastcgi_temp_path /tmp/fastcgi;
    uwsgi_temp_path /tmp/uwsgi;
    scgi_temp_path /tmp/scgi;
    server { listen 80; location / { root /srv; index index.html; } }
}
";

/// A pod that sleeps in an image.
fn pod(name: &str, image: &str, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  \
         terminationGracePeriodSeconds: 0\n  {more}\n  containers:\n  \
         - {{name: c, image: {image:?}, args: [sleep, '3600']}}\n"
    )
}

fn is_ready(cluster: &Cluster, pod: &str) {
    let pod = format!("pod/{pod}");
    cluster.kubectl(&["wait", "--for=condition=Ready", &pod, "--timeout=60s"]);
}

/// Waits until the pod's container waits for `reason`.
fn waits_for(cluster: &Cluster, pod: &str, reason: &str) {
    let path = "{.status.containerStatuses[0].state.waiting.reason}";
    let condition = format!("--for=jsonpath={path}={reason}");
    cluster.kubectl(&["wait", &condition, &format!("pod/{pod}"), "--timeout=60s"]);
}

/// Waits until `kubectl describe` tells of an event.
fn tells(cluster: &Cluster, pod: &str, event: &str) {
    until(&format!("{event:?} about pod {pod}"), || {
        cluster.kubectl(&["describe", "pod", pod]).contains(event).then_some(())
    });
}

#[test]
fn a_private_registry_wants_a_secret() {
    let Some(cluster) = Cluster::up(&[]) else { return };
    let registry = Registry::start(Path::new(BUSYBOX));
    let host = registry.host();
    let image = format!("{host}/team/app:v1");
    let server = format!("--docker-server={host}");
    let user = format!("--docker-username={}", registry::USER);
    let password = format!("--docker-password={}", registry::PASSWORD);
    cluster.kubectl(&["create", "secret", "docker-registry", "login", &server, &user, &password]);

    cluster.apply(&pod("stranger", &image, ""));
    waits_for(&cluster, "stranger", "ErrImagePull");
    tells(&cluster, "stranger", &format!("Pulling image \"{image}\""));
    tells(&cluster, "stranger", &format!("Failed to pull image \"{image}\": "));
    tells(&cluster, "stranger", "Error: ErrImagePull");
    waits_for(&cluster, "stranger", "ImagePullBackOff");
    tells(&cluster, "stranger", &format!("Back-off pulling image \"{image}\""));
    tells(&cluster, "stranger", "Error: ImagePullBackOff");

    cluster.apply(&pod("lost", &image, "imagePullSecrets: [{name: nowhere}]"));
    tells(&cluster, "lost", "Unable to retrieve some image pull secrets (nowhere)");

    cluster.apply(&pod("friend", &image, "imagePullSecrets: [{name: login}]"));
    is_ready(&cluster, "friend");
    tells(&cluster, "friend", &format!("Successfully pulled image \"{image}\" in "));
    let known = cluster.get(&["pod", "friend"]);
    let id = known["status"]["containerStatuses"][0]["imageID"].as_str().unwrap_or_default();
    assert_eq!(id, format!("{host}/team/app@{}", registry.digest));

    let pinned = format!("{host}/team/app@{}", registry.digest);
    cluster.apply(&pod("pinned", &pinned, "imagePullSecrets: [{name: login}]"));
    is_ready(&cluster, "pinned");
    tells(&cluster, "pinned", "already present on machine");
    let gone = format!("{host}/team/app:v9");
    cluster.apply(&pod("gone", &gone, "imagePullSecrets: [{name: login}]"));
    waits_for(&cluster, "gone", "ErrImagePull");
    tells(&cluster, "gone", "not found");
}

#[test]
fn names_that_lead_nowhere_are_told_apart() {
    let Some(cluster) = Cluster::up(&[]) else { return };
    let never =
        pod("never", "absent.test/x:1", "").replace("args:", "imagePullPolicy: Never, args:");
    cluster.apply(&never);
    waits_for(&cluster, "never", "ErrImageNeverPull");
    let words = "Container image \"absent.test/x:1\" is not present with pull policy of Never";
    tells(&cluster, "never", words);
    tells(&cluster, "never", "Error: ErrImageNeverPull");
    cluster.apply(&pod("invalid", "app:not a tag", ""));
    waits_for(&cluster, "invalid", "InvalidImageName");
    tells(&cluster, "invalid", "Error: InvalidImageName");
    tells(&cluster, "invalid", "Failed to apply default image tag \"app:not a tag\": ");
}

/// Copies a program and the libraries it is linked with.
fn copy_program(program: &str, root: &Path) {
    let listed = Command::new("ldd").arg(program).output().unwrap();
    let listed = text(&listed.stdout);
    let libraries = listed.split_whitespace().filter(|word| word.starts_with('/'));
    for path in libraries.chain([program]) {
        let to = root.join(path.trim_start_matches('/'));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(path, to).unwrap();
    }
}

fn build(cluster: &Cluster, root: &Path, name: &str, entrypoint: &str) {
    let root = root.to_str().unwrap();
    cluster.kybern(&["image", "build", root, "--name", name, "--entrypoint", entrypoint]);
}

#[test]
fn what_was_built_from_a_folder_runs() {
    let Some(cluster) = Cluster::up(&[]) else { return };
    let root = cluster.home().join("busybox");
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::copy(BUSYBOX, root.join("bin/busybox")).unwrap();
    for tool in ["sh", "sleep", "wget", "uname"] {
        symlink("busybox", root.join("bin").join(tool)).unwrap();
    }
    build(&cluster, &root, "test/busybox:1", "/bin/busybox");
    cluster.apply(&pod("box", "test/busybox:1", ""));
    is_ready(&cluster, "box");
    assert_eq!(cluster.kubectl(&["exec", "box", "--", "uname"]), "Linux\n");

    let root = cluster.home().join("nginx");
    for folder in ["etc/nginx", "srv", "tmp", "var/log/nginx", "var/lib/nginx"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    copy_program(NGINX, &root);
    fs::write(root.join("etc/nginx/nginx.conf"), NGINX_CONF).unwrap();
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
    fs::write(root.join("etc/group"), "root:x:0:\n").unwrap();
    fs::write(root.join("srv/index.html"), "served by nginx\n").unwrap();
    build(&cluster, &root, "test/nginx:1", NGINX);
    cluster.kubectl(&["create", "deployment", "web", "--image=test/nginx:1", "--replicas=2"]);
    cluster.rollout("deployment/web");
    cluster.kubectl(&["expose", "deployment", "web", "--port=80"]);
    let page = cluster.kubectl(&["exec", "box", "--", "wget", "-qO-", "http://web.default.svc/"]);
    assert_eq!(page, "served by nginx\n");
    let list = cluster.kybern(&["image", "list"]);
    assert!(list.contains("test/nginx"), "{list}");
    // What comes and goes is told as data too.
    let json = |args: &[&str]| serde_json::from_str::<Value>(&cluster.kybern(args)).unwrap();
    let folder = cluster.home().join("empty");
    fs::create_dir(&folder).unwrap();
    let folder = folder.to_str().unwrap();
    let built = json(&["image", "build", folder, "--name", "test/empty:1", "-o", "json"]);
    assert_eq!(built[0]["tags"][0], "docker.io/test/empty:1");
    let removed = json(&["image", "remove", "test/empty:1", "--output", "json"]);
    assert_eq!(removed, json!([{"image": "test/empty:1"}]));
}
