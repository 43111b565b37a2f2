//! What a node does to pods that want more than they may have.
use e2e::registry::{PASSWORD, Registry, USER};
use e2e::{Cluster, kill, text, until};
use serde_json::Value;
use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

#[test]
fn a_pod_that_keeps_too_much_is_evicted() {
    let Some(cluster) = Cluster::up(&[]) else { return };
    cluster.apply(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: hoarder}\nspec:\n  \
         volumes: [{name: data, emptyDir: {sizeLimit: 1Mi}}]\n  containers:\n  \
         - name: c\n    image: kybern.local/toolbox\n    \
         command: [sh, -c, 'dd if=/dev/zero of=/data/big bs=1048576 count=4; sleep 3600']\n    \
         volumeMounts: [{name: data, mountPath: /data}]\n",
    );
    let failed = "--for=jsonpath={.status.phase}=Failed";
    cluster.kubectl(&["wait", failed, "pod/hoarder", "--timeout=40s"]);
    let status = &cluster.get(&["pod", "hoarder"])["status"];
    let message = "Usage of EmptyDir volume \"data\" exceeds the limit \"1Mi\". ";
    assert_eq!(status["reason"], "Evicted");
    assert_eq!(status["message"], message);
    let conditions = status["conditions"].as_array().unwrap();
    let target = conditions.iter().find(|c| c["type"] == "DisruptionTarget").unwrap();
    assert_eq!(target["reason"], "TerminationByKubelet");
    until("the event", || {
        let told = cluster.kubectl(&["describe", "pod", "hoarder"]);
        (told.contains("Evicted") && told.contains(message.trim())).then_some(())
    });
}

#[test]
fn what_the_node_cannot_do_is_refused() {
    let Some(cluster) = Cluster::up(&[]) else { return };
    let pod = |name: &str, more: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  {more}\n  \
             containers: [{{name: c, image: kybern.local/toolbox, command: [sleep, '99']}}]\n"
        )
    };
    for (name, more, reason) in [
        ("users", "hostUsers: false", "UserNamespaces"),
        ("claims", "resourceClaims: [{name: gpu, resourceClaimName: gpu}]", "DynamicResources"),
        ("armor", "securityContext: {appArmorProfile: {type: RuntimeDefault}}", "AppArmor"),
    ] {
        cluster.apply(&pod(name, more));
        let pod = format!("pod/{name}");
        cluster.kubectl(&["wait", "--for=jsonpath={.status.phase}=Failed", &pod, "--timeout=40s"]);
        let status = &cluster.get(&["pod", name])["status"];
        assert_eq!(status["reason"], reason, "{status}");
        assert!(!status["message"].as_str().unwrap_or_default().is_empty(), "{status}");
    }
}

fn pod(name: &str, more: &str, container: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  {more}\n  containers:\n  \
         - name: c\n    image: kybern.local/toolbox\n    {container}\n"
    )
}

fn condition(cluster: &Cluster, kind: &str) -> Value {
    let node = cluster.get(&["node", "kybern"]);
    let conditions = node["status"]["conditions"].as_array().unwrap();
    conditions.iter().find(|condition| condition["type"] == kind).unwrap().clone()
}

fn events_of_node(cluster: &Cluster) -> String {
    let about = ["--field-selector", "involvedObject.kind=Node"];
    cluster.kubectl(&[&["get", "events", "-A"][..], &about].concat())
}

/// The agent anew, with other arguments; what runs goes on.
fn restart_agent(cluster: &Cluster, args: &[&str]) {
    let status = cluster.status();
    let components = status["components"].as_array().unwrap();
    let agent = components.iter().find(|c| c["name"] == "agent-kybern").unwrap();
    for pid in ["supervisorPid", "pid"] {
        kill(i32::try_from(agent[pid].as_i64().unwrap()).unwrap());
    }
    cluster.kybern(&[&["up"], args].concat());
}

#[test]
fn a_node_short_of_memory_says_so_and_evicts() {
    let Some(cluster) = Cluster::up(&[]) else { return };
    assert_eq!(condition(&cluster, "MemoryPressure")["reason"], "KubeletHasSufficientMemory");
    let sleep = "command: [sleep, '3600']";
    let asks = "command: [sleep, '3600']\n    resources: {requests: {memory: 32Mi}}";
    cluster.apply(&pod("cheap", "priority: 0", sleep));
    cluster.apply(&pod("asks", "priority: 0", asks));
    let critical = pod("critical", "priorityClassName: system-node-critical", sleep);
    cluster.apply(&critical);
    for name in ["pod/cheap", "pod/asks", "pod/critical"] {
        cluster.kubectl(&["wait", "--for=condition=Ready", name, "--timeout=60s"]);
    }
    // Whatever machine this is, less of its memory is free.
    restart_agent(&cluster, &["--eviction-hard", "memory.available<99.9%"]);
    let pressure = "--for=condition=MemoryPressure";
    cluster.kubectl(&["wait", pressure, "node/kybern", "--timeout=60s"]);
    let told = condition(&cluster, "MemoryPressure");
    assert_eq!(told["reason"], "KubeletHasInsufficientMemory");
    assert_eq!(told["message"], "kubelet has insufficient memory available");
    for name in ["cheap", "asks"] {
        let failed = "--for=jsonpath={.status.phase}=Failed";
        cluster.kubectl(&["wait", failed, &format!("pod/{name}"), "--timeout=60s"]);
        let status = &cluster.get(&["pod", name])["status"];
        let message = status["message"].as_str().unwrap();
        assert_eq!(status["reason"], "Evicted");
        let low = "The node was low on resource: memory. Threshold quantity: ";
        assert!(message.starts_with(low) && message.contains(", available: "), "{message}");
        let conditions = status["conditions"].as_array().unwrap();
        let target = conditions.iter().find(|c| c["type"] == "DisruptionTarget").unwrap();
        assert_eq!(target["reason"], "TerminationByKubelet");
    }
    // The one that uses more than it asks for went first, and says so.
    let status = cluster.get(&["pod", "cheap"])["status"].clone();
    let used = "Container c was using ";
    assert!(status["message"].as_str().unwrap().contains(used), "{status}");
    let ended = |name: &str| {
        let pod = cluster.get(&["pod", name]);
        let ended = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
        ended["finishedAt"].as_str().unwrap().to_owned()
    };
    assert!(ended("cheap") <= ended("asks"));
    assert_eq!(cluster.get(&["pod", "critical"])["status"]["phase"], "Running");
    until("the taint", || {
        let taints = cluster.get(&["node", "kybern"])["spec"]["taints"].to_string();
        taints.contains("node.kubernetes.io/memory-pressure").then_some(())
    });
    cluster.apply(&pod("late", "nodeName: kybern", sleep));
    let failed = "--for=jsonpath={.status.phase}=Failed";
    cluster.kubectl(&["wait", failed, "pod/late", "--timeout=60s"]);
    assert_eq!(
        cluster.get(&["pod", "late"])["status"]["message"],
        "Pod was rejected: The node had condition: [MemoryPressure]. "
    );
    let events = events_of_node(&cluster);
    for told in ["NodeHasInsufficientMemory", "Attempting to reclaim memory"] {
        assert!(events.contains(told), "{told}: {events}");
    }
}

#[test]
fn a_full_disk_costs_unused_images_first_and_pods_then() {
    let Some(cluster) = Cluster::on_small_disk(150) else { return };
    let spare = cluster.home().join("spare");
    std::fs::write(&spare, vec![7; 8 << 20]).unwrap();
    let registry = Registry::start(&spare);
    std::fs::remove_file(spare).unwrap();
    cluster.kybern(&["up", "--eviction-hard", "nodefs.available<10%,imagefs.available<15%"]);
    let pulled = format!("{}/team/app:v1", registry.host());
    let mut pull = cluster.command(&["image", "pull", &pulled, "--username", USER]);
    let pull = pull.args(["--quiet", "--password-stdin"]).stdin(Stdio::piped());
    let mut pull = pull.spawn().unwrap();
    pull.stdin.take().unwrap().write_all(PASSWORD.as_bytes()).unwrap();
    assert!(pull.wait().unwrap().success());
    let folder = cluster.home().join("brought");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("file"), "x").unwrap();
    let folder = folder.to_string_lossy().into_owned();
    cluster.kybern(&["image", "build", &folder, "--name", "brought/here:1"]);
    // As if it had been used last an hour ago.
    let an_hour_ago = SystemTime::now() - Duration::from_secs(3600);
    for entry in std::fs::read_dir(cluster.data_dir().join("images/configs")).unwrap().flatten() {
        let file = std::fs::File::options().write(true).open(entry.path()).unwrap();
        file.set_modified(an_hour_ago).unwrap();
    }
    let images = || cluster.kybern(&["image", "list"]);
    assert!(images().contains("team/app") && images().contains("brought/here"));
    let fill = "command: [sh, -c, 'dd if=/dev/zero of=/data/big bs=1048576; sleep 3600']\n    \
                volumeMounts: [{name: data, mountPath: /data}]";
    cluster.apply(&pod("filler", "volumes: [{name: data, emptyDir: {}}]", fill));
    cluster.kubectl(&[
        "wait",
        "--for=jsonpath={.status.phase}=Failed",
        "pod/filler",
        "--timeout=60s",
    ]);
    let status = &cluster.get(&["pod", "filler"])["status"];
    let message = status["message"].as_str().unwrap();
    assert_eq!(status["reason"], "Evicted");
    assert!(message.starts_with("The node was low on resource: ephemeral-storage. "), "{message}");
    // On a disk that is full the node's own words have to wait too.
    until("the node says that its disk is short", || {
        let told = condition(&cluster, "DiskPressure");
        (told["status"] == "True" && told["reason"] == "KubeletHasDiskPressure").then_some(())
    });
    let left = images();
    assert!(!left.contains("team/app"), "it can be had again: {left}");
    assert!(left.contains("brought/here") && left.contains("kybern.local/toolbox"), "{left}");
    until("there is room again", || {
        let made = cluster.try_kubectl(&["create", "configmap", "c", "--from-literal=a=b"]);
        (made.status.success() || text(&made.stderr).contains("already exists")).then_some(())
    });
}

#[test]
fn what_a_node_tells_of_itself() {
    let Some(cluster) = Cluster::up(&[]) else { return };
    cluster.apply(&pod("busy", "priority: 0", "command: [toolbox, serve]"));
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/busy", "--timeout=60s"]);
    let raw = |path: &str| {
        cluster.kubectl(&["get", "--raw", &format!("/api/v1/nodes/kybern/proxy/{path}")])
    };
    assert_eq!(raw("healthz"), "ok");
    let metrics = raw("metrics/resource");
    for line in [
        "# TYPE node_cpu_usage_seconds_total counter",
        "# HELP node_memory_working_set_bytes [STABLE] Current working set of the node in bytes",
        "pod_memory_working_set_bytes{namespace=\"default\",pod=\"busy\"} ",
        "container_cpu_usage_seconds_total{container=\"c\",namespace=\"default\",pod=\"busy\"} ",
        "container_start_time_seconds{container=\"c\",namespace=\"default\",pod=\"busy\"} ",
        "resource_scrape_error 0",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    let summary: Value = serde_json::from_str(&raw("stats/summary")).unwrap();
    let node = &summary["node"];
    for path in [
        "/cpu/usageCoreNanoSeconds",
        "/memory/availableBytes",
        "/memory/workingSetBytes",
        "/fs/availableBytes",
        "/fs/inodesFree",
        "/runtime/imageFs/capacityBytes",
        "/rlimit/maxpid",
    ] {
        assert!(node.pointer(path).and_then(Value::as_u64).unwrap_or(0) > 0, "{path}: {node}");
    }
    let pods = summary["pods"].as_array().unwrap();
    let busy = pods.iter().find(|pod| pod["podRef"]["name"] == "busy").unwrap();
    for path in ["/memory/workingSetBytes", "/process_stats/process_count"] {
        assert!(busy.pointer(path).and_then(Value::as_u64).unwrap_or(0) > 0, "{path}: {busy}");
    }
    assert!(busy["containers"][0]["rootfs"]["usedBytes"].is_u64(), "{busy}");
    let config: Value = serde_json::from_str(&raw("configz")).unwrap();
    assert_eq!(config["kubeletconfig"]["evictionHard"]["memory.available"], "100Mi");
    let status = &cluster.get(&["node", "kybern"])["status"];
    let handlers = status["runtimeHandlers"].as_array().unwrap();
    let names: Vec<&str> = handlers.iter().filter_map(|h| h["name"].as_str()).collect();
    assert_eq!(names, ["", "kybern", "runc"]);
    assert_eq!(status["features"]["supplementalGroupsPolicy"], true);
}
