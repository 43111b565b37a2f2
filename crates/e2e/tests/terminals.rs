//! kubectl at a terminal: its keys, its size, its end.
use e2e::terminal::Terminal;
use e2e::{Cluster, text, until};

const IMAGE: &str = "--image=kybern.local/toolbox";

fn ready(cluster: &Cluster, pod: &str, command: &[&str]) {
    let mut args = vec!["run", pod, IMAGE, "--restart=Never", "--"];
    args.extend(command);
    cluster.kubectl(&args);
    let pod = format!("pod/{pod}");
    cluster.kubectl(&["wait", "--for=condition=Ready", &pod, "--timeout=60s"]);
}

#[test]
fn a_shell_in_a_container_has_a_terminal() {
    let Some(cluster) = Cluster::up(&[]) else { return };
    ready(&cluster, "box", &["sleep", "3600"]);
    let exec = ["exec", "-it", "box", "--", "sh"];
    let mut shell = Terminal::run(&cluster, &exec, (80, 24));
    // The echo of what is typed never holds the answer itself.
    shell.type_line("echo got-$((40+2))");
    shell.expect("got-42");
    shell.type_line("stty size");
    shell.expect("24 80");
    shell.resize(132, 50);
    until("the new size in the container", || {
        shell.type_line("stty size");
        shell.expect("\n");
        shell.seen().contains("50 132").then_some(())
    });
    // Ctrl-C ends what runs in the shell, not the session.
    shell.type_line("sleep 1000; echo code-$?");
    shell.expect("sleep 1000");
    until("the signal", || {
        shell.type_keys("\u{3}");
        shell.type_line("echo on-$((1+1))");
        shell.seen().contains("on-2").then_some(())
    });
    shell.type_line("exit 7");
    assert_eq!(shell.wait(), Some(7), "{}", shell.seen());
}

#[test]
fn a_pod_is_run_attached_to_and_debugged_at_a_terminal() {
    let Some(cluster) = Cluster::up(&[]) else { return };
    let run = ["run", "-it", "--rm", "tmp", IMAGE, "--restart=Never", "--", "sh"];
    let mut shell = Terminal::run(&cluster, &run, (100, 30));
    shell.expect("pressing enter");
    shell.type_line("echo got-$((40+2))");
    shell.expect("got-42");
    shell.type_line("exit 0");
    assert_eq!(shell.wait(), Some(0), "{}", shell.seen());
    assert!(shell.seen().contains("pod \"tmp\" deleted"), "{}", shell.seen());

    let manifest = "apiVersion: v1\nkind: Pod\nmetadata: {name: talk}\nspec:\n  containers:\n  \
        - {name: main, image: kybern.local/toolbox, command: [sh], stdin: true, tty: true}\n";
    cluster.apply(manifest);
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/talk", "--timeout=60s"]);
    let mut attached = Terminal::run(&cluster, &["attach", "-it", "talk"], (100, 30));
    attached.expect("pressing enter");
    attached.type_line("echo got-$((50+2))");
    attached.expect("got-52");
    // What it runs is seen from a container that shares its processes.
    attached.type_line("sleep 98765");
    attached.expect("sleep 98765");
    let debug = ["debug", "-it", "talk", IMAGE, "--target=main", "--", "sh"];
    let mut shell = Terminal::run(&cluster, &debug, (100, 30));
    shell.expect("pressing enter");
    shell.type_line("");
    shell.type_line("cat /proc/1/cmdline | tr '\\0' ' '; echo; cat /proc/[0-9]*/cmdline");
    shell.expect("98765");
    shell.type_line("exit 0");
    assert_eq!(shell.wait(), Some(0), "{}", shell.seen());
}

#[test]
fn an_editor_changes_an_object() {
    let Some(cluster) = Cluster::up(&[]) else { return };
    cluster.apply(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {word: before}\n",
    );
    let edit = cluster
        .kubectl_command(&["edit", "configmap", "settings"])
        .env("EDITOR", "sed -i s/before/after/")
        .output()
        .unwrap();
    assert_eq!(text(&edit.stdout), "configmap/settings edited\n", "{}", text(&edit.stderr));
    assert_eq!(cluster.get(&["configmap", "settings"])["data"]["word"], "after");
    let same = cluster
        .kubectl_command(&["edit", "configmap", "settings"])
        .env("EDITOR", "true")
        .output()
        .unwrap();
    assert!(text(&same.stderr).contains("Edit cancelled, no changes made"), "{same:?}");
}

#[test]
fn what_ended_before_a_client_came_is_said_once() {
    let Some(cluster) = Cluster::up(&[]) else { return };
    for _ in 0..20 {
        let run =
            ["run", "--rm", "-i", "--quiet", "x", IMAGE, "--restart=Never", "--", "echo", "hi"];
        assert_eq!(cluster.kubectl(&run), "hi\n");
    }
    let run =
        ["run", "--rm", "-i", "--quiet", "y", IMAGE, "--restart=Never", "--", "sh", "-c", "exit 3"];
    let failed = cluster.try_kubectl(&run);
    assert_eq!(failed.status.code(), Some(3), "{}", text(&failed.stderr));
    assert!(!text(&failed.stderr).contains("couldn't attach"), "{}", text(&failed.stderr));
}
