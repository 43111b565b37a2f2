use super::*;

#[test]
fn reads_mountinfo() {
    let v1 = "31 24 0:27 / /sys/fs/cgroup/cpu\\040x rw,nosuid - cgroup cgroup rw,cpu,cpuacct";
    let found = parse_mount(v1).expect("a hierarchy");
    assert_eq!(found.controllers, ["cpu", "cpuacct"]);
    assert_eq!(found.base, Path::new("/sys/fs/cgroup/cpu x"));
    let named = "9 8 0:9 / /c/systemd rw - cgroup cgroup rw,xattr,release_agent=/x,name=systemd";
    assert_eq!(parse_mount(named).expect("named").controllers, ["name=systemd"]);
    assert!(parse_mount("1 2 0:3 / /c rw shared:4 - cgroup2 none rw").expect("v2").v2);
    assert!(parse_mount("1 2 0:3 / /proc rw - proc proc rw").is_none());
    assert!(parse_mount("").is_none());
}

#[test]
fn paths_lead_nowhere_else() {
    for bad in ["", "/", "a", "/a/../b", "/./a", "//"] {
        assert!(parts(bad).is_err(), "{bad:?}");
    }
    assert_eq!(parts("/a//b/").expect("plain"), ["a", "b"]);
}

/// On the machine's own hierarchies; needs root.
#[test]
fn a_group_lives_and_dies() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: cgroups need root");
        return;
    }
    let cgroups = Cgroups::detect().expect("cgroups");
    let group = format!("/kybern-test-{}/pod", std::process::id());
    let parent = format!("/kybern-test-{}", std::process::id());
    cgroups.create(&group).expect("create");
    cgroups.create(&group).expect("again");
    let limits = Limits { pids: Some(50), memory_bytes: Some(64 << 20), ..Limits::default() };
    cgroups.apply(&group, &limits).expect("limits");
    let lower = Limits { memory_bytes: Some(32 << 20), ..Limits::default() };
    cgroups.apply(&group, &lower).expect("lower");
    assert_eq!(cgroups.stats(&group).expect("stats").memory_limit, Some(32 << 20));
    cgroups.apply(&group, &limits).expect("higher");
    cgroups.allow_devices(&group, &DeviceRule::standard()).expect("devices");
    if let Some((_, path)) = cgroups.paths(&group).expect("paths").find(|(h, _)| h.v2) {
        devices::attach_v2(&path, &DeviceRule::standard()).expect("the verifier accepts it");
    }
    let mut child = std::process::Command::new("/proc/self/exe")
        .args(["--ignored", "--exact", "cgroup::tests::waits_to_be_killed"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("child");
    cgroups.join(&group, child.id() as i32).expect("join");
    assert_eq!(cgroups.processes(&parent).expect("processes"), [child.id() as i32]);
    assert!(cgroups.remove(&parent).is_err(), "a group in use is not removed");
    let waiter = std::thread::spawn(move || child.wait());
    cgroups.kill(&parent, 5000).expect("kill");
    waiter.join().expect("thread").expect("child");
    cgroups.remove(&parent).expect("remove");
    assert!(!cgroups.exists(&parent).expect("exists"));
}

/// Not a test: the process that the test above kills.
#[test]
#[ignore = "helper of another test"]
fn waits_to_be_killed() {
    let mut line = String::new();
    let _ = std::io::stdin().read_line(&mut line);
}

/// As under `ip netns exec`: no hierarchy is mounted where this process looks.
#[test]
fn finds_hidden_hierarchies() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: cgroups need root");
        return;
    }
    let mut hidden = Cgroups { hierarchies: Vec::new(), _mounts: Vec::new() };
    hidden.open_hidden().expect("opened");
    let group = format!("/kybern-hidden-{}", std::process::id());
    hidden.create(&group).expect("create");
    assert!(Cgroups::detect().expect("visible").exists(&group).expect("exists"));
    hidden.remove(&group).expect("remove");
}

#[test]
fn a_cpuset_that_another_has_just_made_is_filled_too() {
    let base = std::env::temp_dir().join(format!("cpuset-{}", std::process::id()));
    let inner = base.join("pods/one");
    fs::create_dir_all(&inner).unwrap();
    for (folder, cpus, mems) in
        [(base.clone(), "0-1\n", "0\n"), (base.join("pods"), "\n", "\n"), (inner.clone(), "", "")]
    {
        fs::write(folder.join("cpuset.cpus"), cpus).unwrap();
        fs::write(folder.join("cpuset.mems"), mems).unwrap();
    }
    let controllers = vec!["cpuset".to_owned()];
    let hierarchy = Hierarchy { controllers, base: base.clone(), v2: false };
    let groups = Cgroups { hierarchies: vec![hierarchy], _mounts: Vec::new() };
    let made = groups.create("/pods/one");
    let cpus = fs::read_to_string(inner.join("cpuset.cpus")).unwrap();
    fs::remove_dir_all(&base).unwrap();
    made.unwrap();
    assert_eq!(cpus, "0-1");
}
