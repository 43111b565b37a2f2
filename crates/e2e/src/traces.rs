//! What a cluster has left on the machine, whatever else goes on there.
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Everything that carries a cluster's id or has to do with its data folder, a line each.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Traces {
    pub mounts: Vec<String>,
    pub links: Vec<String>,
    pub routes: Vec<String>,
    pub rules: Vec<String>,
    pub cgroups: Vec<String>,
    pub processes: Vec<String>,
    /// Of those processes, other than the test's own.
    pub namespaces: Vec<String>,
}

impl Traces {
    /// `ranges` are how the addresses begin that are the cluster's.
    pub(crate) fn of(data_dir: &Path, ranges: &[String]) -> Self {
        let id = id_of(data_dir);
        let folder = data_dir.to_string_lossy().into_owned();
        let processes = processes(&folder, &id);
        let own = network_namespace("self");
        let mut namespaces: Vec<String> =
            processes.iter().filter_map(|pid| network_namespace(pid)).collect();
        namespaces.retain(|namespace| Some(namespace) != own.as_ref());
        namespaces.sort();
        namespaces.dedup();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        // Marked with Kybern's number; other clusters have other addresses.
        let mut routes = lines_with(&output("ip", &["-o", "route"]), "proto 107");
        routes.retain(|route| {
            let to = route.split(' ').find(|word| *word != "unreachable").unwrap_or_default();
            ranges.iter().any(|range| to.starts_with(range))
        });
        let mut cgroups = Vec::new();
        find_folders(Path::new("/sys/fs/cgroup"), &format!("kybern-{id}"), &mut cgroups);
        Self {
            mounts: lines_with(&mounts, &folder),
            links: lines_with(&output("ip", &["-o", "link"]), &format!("kybern/{id}/")),
            routes,
            rules: lines_with(&output("nft", &["list", "ruleset"]), &format!("kybern-{id}")),
            cgroups,
            processes: processes.iter().map(|pid| command_line(pid)).collect(),
            namespaces,
        }
    }

    /// A cluster that runs pods shows everywhere: so that a look which sees nothing fails.
    #[track_caller]
    pub fn assert_running(&self) {
        for (what, found) in [
            ("mounts", &self.mounts),
            ("links", &self.links),
            ("routes", &self.routes),
            ("rules", &self.rules),
            ("cgroups", &self.cgroups),
            ("processes", &self.processes),
            ("namespaces", &self.namespaces),
        ] {
            assert!(!found.is_empty(), "no {what} of a running cluster: {self:#?}");
        }
    }

    #[track_caller]
    pub fn assert_none(&self) {
        assert_eq!(*self, Self::default());
    }
}

/// How the cluster's addresses begin, as far as its folder tells.
pub(crate) fn ranges(data_dir: &Path) -> Vec<String> {
    let Some(known) = known(data_dir) else { return Vec::new() };
    let start = |name: &str| {
        let (address, bits) = known[name].as_str()?.split_once('/')?;
        let whole: Vec<&str> = address.split('.').take(bits.parse::<usize>().ok()? / 8).collect();
        Some(whole.join(".") + ".")
    };
    ["podCidr", "serviceCidr", "nodeCidr"].map(|name| start(name).expect("a range")).to_vec()
}

fn known(data_dir: &Path) -> Option<serde_json::Value> {
    let text = std::fs::read_to_string(data_dir.join("cluster.json")).ok()?;
    let known: serde_json::Value = serde_json::from_str(&text).ok()?;
    known["id"].is_string().then_some(known)
}

/// As clusters are called after their folders.
fn id_of(data_dir: &Path) -> String {
    let digest = Sha256::digest(data_dir.as_os_str().as_encoded_bytes());
    let id = hex::encode(&digest[..3]);
    if let Some(known) = known(data_dir) {
        assert_eq!(known["id"], id.as_str(), "the cluster is called otherwise");
    }
    id
}

fn lines_with(text: &str, what: &str) -> Vec<String> {
    text.lines().filter(|line| line.contains(what)).map(|line| line.trim().to_owned()).collect()
}

fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}: install it"));
    assert!(output.status.success(), "{program} {args:?}: {}", crate::text(&output.stderr));
    crate::text(&output.stdout)
}

fn find_folders(root: &Path, name: &str, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let path: PathBuf = entry.path();
        if entry.file_name().to_string_lossy() == name {
            found.push(path.display().to_string());
        }
        find_folders(&path, name, found);
    }
}

/// Those that were started for the folder, or are in the cluster's cgroups.
fn processes(folder: &str, id: &str) -> Vec<String> {
    let own = std::process::id().to_string();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let group = format!("/kybern-{id}");
    let concerns = |pid: &String| {
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        // A process that has ended and waits for its parent has none.
        let command = command_line(pid);
        !command.is_empty() && (command.contains(folder) || groups.contains(&group))
    };
    pids.filter(|pid| pid.parse::<u32>().is_ok() && *pid != own).filter(concerns).collect()
}

fn command_line(pid: &str) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    crate::text(&bytes).replace('\0', " ")
}

fn network_namespace(pid: &str) -> Option<String> {
    let link = std::fs::read_link(format!("/proc/{pid}/ns/net")).ok()?;
    Some(link.display().to_string())
}
