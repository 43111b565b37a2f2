//! What goes wrong on a machine, and what a user is told of it.
use e2e::{Cluster, text, until};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

#[test]
fn without_root_it_says_what_to_do() {
    let Some(cluster) = Cluster::new() else { return };
    let copy = cluster.home().join("kybern");
    std::fs::copy(&cluster.binary, &copy).unwrap();
    for path in [cluster.home(), &copy] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    for command in ["up", "down", "server"] {
        let output = Command::new(&copy).arg(command).uid(65_534).gid(65_534).output().unwrap();
        let error = text(&output.stderr);
        assert!(!output.status.success());
        let told = error.contains(&format!("sudo kybern {command}"));
        assert!(told && error.lines().count() == 1, "{error}");
    }
}

#[test]
fn a_folder_of_a_newer_version_is_left_alone() {
    let Some(cluster) = Cluster::new() else { return };
    std::fs::create_dir_all(cluster.data_dir()).unwrap();
    let file = cluster.data_dir().join("cluster.json");
    let written = r#"{"format": 9999, "what": "nobody knows"}"#;
    std::fs::write(&file, written).unwrap();
    let error = cluster.kybern_fails(&["up", "--quiet"]);
    assert!(error.contains("newer kybern") && error.lines().count() == 1, "{error}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), written);
    cluster.traces().assert_none();
    std::fs::remove_file(file).unwrap();
}

/// The node's port is taken: the server and the networks are there by then.
#[test]
fn a_start_that_fails_half_way_leaves_nothing() {
    let Some(cluster) = Cluster::new() else { return };
    let taken = std::net::TcpListener::bind("0.0.0.0:10250").unwrap();
    let error = cluster.kybern_fails(&["up", "--quiet"]);
    assert!(error.contains("10250") && error.lines().count() == 1, "{error}");
    cluster.traces().assert_none();
    assert!(!cluster.home().join(".kube/config").exists());
    cluster.kybern(&["down", "--wipe"]);
    assert!(!cluster.data_dir().exists(), "what the failed start has made goes too");
    drop(taken);
    cluster.kybern(&["up"]);
}

#[test]
fn a_full_disk_refuses_writes_and_recovers() {
    let Some(cluster) = Cluster::new() else { return };
    let store = cluster.data_dir().join("store");
    std::fs::create_dir_all(&store).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"])
        .arg(&store)
        .status()
        .unwrap();
    assert!(mounted.success());
    cluster.kybern(&["up"]);
    let value = format!("--from-literal=x={}", "x".repeat(100_000));
    let mut made = 0;
    let refused = loop {
        let name = format!("c{made}");
        let output = cluster.try_kubectl(&["create", "configmap", &name, &value]);
        if !output.status.success() {
            break text(&output.stderr);
        }
        made += 1;
        assert!(made < 500, "the disk never fills");
    };
    assert!(refused.contains("no space left for the cluster's state"), "{refused}");
    assert_eq!(refused.lines().count(), 1, "{refused}");
    assert!(made > 0);
    let kept = cluster.get(&["configmap", "c0"]);
    assert_eq!(kept["data"]["x"].as_str().unwrap().len(), 100_000);
    let larger = ["-o", "remount,size=64m"];
    let grown = Command::new("mount").args(larger).arg(&store).status().unwrap();
    assert!(grown.success());
    until("writes are taken again", || {
        cluster.try_kubectl(&["create", "configmap", "late", &value]).status.success().then_some(())
    });
    cluster.kybern(&["down"]);
    // `down` unmounts what is below its folder: the disk of the test went with it.
}

/// Something else has filled the disk, and gives it back.
#[test]
fn a_disk_that_is_freed_is_used_again_without_a_restart() {
    let Some(cluster) = Cluster::on_small_disk(100) else { return };
    cluster.kybern(&["up"]);
    let value = format!("--from-literal=x={}", "x".repeat(100_000));
    let create = |name: &str| cluster.try_kubectl(&["create", "configmap", name, &value]);
    assert!(create("before").status.success());
    let server = |cluster: &Cluster| {
        std::fs::read_to_string(cluster.data_dir().join("run/server.pid")).unwrap()
    };
    let same = server(&cluster);
    let ballast = cluster.home().join("ballast");
    let filled = Command::new("sh")
        .args(["-c", "exec cat /dev/zero > \"$1\" 2>/dev/null", "sh"])
        .arg(&ballast)
        .status()
        .unwrap();
    assert!(!filled.success(), "the disk is full");
    let refused = create("while");
    assert!(!refused.status.success());
    let error = text(&refused.stderr);
    assert!(error.contains("no space left for the cluster's state"), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(cluster.kubectl(&["get", "configmaps"]).contains("before"));
    cluster.kubectl(&["get", "--raw", "/readyz"]);
    std::fs::remove_file(&ballast).unwrap();
    until("writes are taken again", || create("after").status.success().then_some(()));
    assert!(cluster.kubectl(&["get", "configmaps"]).contains("before"));
    assert_eq!(server(&cluster), same, "nothing was started again");
}

#[test]
fn containers_that_cannot_run_say_why() {
    let Some(cluster) = Cluster::up(&[]) else { return };
    let image = "--image=kybern.local/toolbox";
    cluster.kubectl(&["run", "missing", "--image=127.0.0.1:9/none:1"]);
    // kubectl run would refuse it by itself.
    cluster.apply(
        r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "wrong"},
            "spec": {"containers": [{"name": "wrong", "image": "Not A Name"}]}}"#,
    );
    cluster.kubectl(&["run", "fails", image, "--", "toolbox", "sh", "-c", "exit 3"]);
    cluster.kubectl(&["run", "nothing", image, "--", "/no/such/program"]);
    for (pod, reasons) in [
        ("missing", &["ErrImagePull", "ImagePullBackOff"][..]),
        ("wrong", &["InvalidImageName"]),
        ("fails", &["CrashLoopBackOff"]),
        ("nothing", &["RunContainerError", "CrashLoopBackOff"]),
    ] {
        until(pod, || {
            let found = cluster.get(&["pod", pod]);
            let state = &found["status"]["containerStatuses"][0]["state"]["waiting"];
            reasons.contains(&state["reason"].as_str()?).then_some(())
        });
    }
    let fails = cluster.get(&["pod", "fails"]);
    let last = &fails["status"]["containerStatuses"][0]["lastState"]["terminated"];
    assert_eq!(last["exitCode"], 3);
}
