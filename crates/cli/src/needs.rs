//! What a node needs of the machine's kernel, tried out before anything is started: a kernel loads
//! what it has as modules when it is asked. What is missing gets one line that says what to do.
use anyhow::{Result, bail};
use net::probe::{Link, Rules, Sandbox};
use std::cell::OnceCell;
use std::path::{Path, PathBuf};

/// Something that a kernel, or the way this machine is set up, may lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Feature {
    Namespace(&'static str),
    Overlay,
    Seccomp,
    Cgroups,
    Controller(&'static str),
    Link(Link),
    Rules(Rules),
    /// Legacy iptables does not drop what is forwarded.
    Forwarding,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weight {
    Required,
    /// A node runs without, and is told what it misses.
    Optional,
    /// Optional for those whose other nodes may be on other machines, of no use to the rest.
    Machines,
}

struct Need {
    feature: Feature,
    weight: Weight,
    what: &'static str,
    whose: &'static str,
    remedy: &'static str,
}

const fn need(
    feature: Feature,
    weight: Weight,
    what: &'static str,
    whose: &'static str,
    remedy: &'static str,
) -> Need {
    Need { feature, weight, what, whose, remedy }
}

use Weight::{Machines, Optional, Required};

const KERNEL: &str = "use a kernel with it";
const NEEDS: &[Need] = &[
    need(Feature::Namespace("mnt"), Required, "mount namespaces", "containers", KERNEL),
    need(Feature::Namespace("pid"), Required, "process namespaces (CONFIG_PID_NS)", "pods", KERNEL),
    need(Feature::Namespace("net"), Required, "network namespaces (CONFIG_NET_NS)", "pods", KERNEL),
    need(Feature::Namespace("ipc"), Required, "IPC namespaces (CONFIG_IPC_NS)", "pods", KERNEL),
    need(Feature::Namespace("uts"), Required, "UTS namespaces (CONFIG_UTS_NS)", "pods", KERNEL),
    need(
        Feature::Overlay,
        Required,
        "overlayfs (CONFIG_OVERLAY_FS)",
        "the file systems of containers",
        "use a kernel with it, and a --data-dir on ext4, xfs or the like",
    ),
    need(
        Feature::Seccomp,
        Required,
        "system call filters (CONFIG_SECCOMP_FILTER)",
        "containers with a seccomp profile",
        KERNEL,
    ),
    need(
        Feature::Cgroups,
        Required,
        "control groups (CONFIG_CGROUPS)",
        "pods",
        "use a kernel with them, and mount them at /sys/fs/cgroup",
    ),
    need(Feature::Controller("cpu"), Optional, "the cpu cgroup controller", "CPU limits", ENABLE),
    need(
        Feature::Controller("memory"),
        Optional,
        "the memory cgroup controller",
        "memory limits",
        "add cgroup_enable=memory to the kernel's command line",
    ),
    need(
        Feature::Controller("pids"),
        Optional,
        "the pids cgroup controller",
        "limits of processes",
        ENABLE,
    ),
    link(Link::Veth, Required, "veth links (CONFIG_VETH, module veth)", "the links of pods"),
    link(Link::Bridge, Required, "bridges (CONFIG_BRIDGE, module bridge)", "the nodes' network"),
    link(
        Link::Vxlan,
        Machines,
        "VXLAN links (CONFIG_VXLAN, module vxlan)",
        "pods of nodes that a router is between",
    ),
    rules(Rules::Tables, "nf_tables (CONFIG_NF_TABLES_IPV4, module nf_tables)"),
    rules(Rules::Nat, "translation by nf_tables (CONFIG_NFT_NAT, module nft_nat)"),
    rules(Rules::Masquerade, "masquerading by nf_tables (CONFIG_NFT_MASQ, module nft_masq)"),
    rules(Rules::Conntrack, "connections in nf_tables (CONFIG_NFT_CT, module nft_ct)"),
    rules(Rules::Fib, "routes in nf_tables (CONFIG_NFT_FIB_IPV4, module nft_fib_ipv4)"),
    rules(Rules::Numgen, "random numbers in nf_tables (CONFIG_NFT_NUMGEN, module nft_numgen)"),
    rules(Rules::Maps, "maps that nf_tables fills itself (CONFIG_NF_TABLES, module nf_tables)"),
    rules(Rules::Reject, "refusals by nf_tables (CONFIG_NFT_REJECT_IPV4, module nft_reject_ipv4)"),
    need(
        Feature::Forwarding,
        Optional,
        "forwarding past legacy iptables",
        "pods that speak to each other or to other networks",
        "let iptables-legacy accept what goes to and comes from the pods' network in FORWARD, or \
         use its nft variant, which Kybern opens by itself",
    ),
];

const ENABLE: &str = "let the kernel and whoever started this have it";

const fn link(kind: Link, weight: Weight, what: &'static str, whose: &'static str) -> Need {
    need(Feature::Link(kind), weight, what, whose, KERNEL)
}

const fn rules(part: Rules, what: &'static str) -> Need {
    need(Feature::Rules(part), Required, what, "Services", KERNEL)
}

/// Tries a feature out; why it does not work.
trait Machine {
    fn attempt(&mut self, feature: Feature) -> Result<(), String>;
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Missing {
    required: Vec<String>,
    optional: Vec<String>,
}

fn missing(machine: &mut dyn Machine, several_machines: bool) -> Missing {
    let mut missing = Missing::default();
    for need in NEEDS {
        if need.weight == Weight::Machines && !several_machines {
            continue;
        }
        let Err(why) = machine.attempt(need.feature) else { continue };
        let Need { what, whose, remedy, .. } = need;
        let line = format!("no {what} ({why}), which is needed for {whose}: {remedy}");
        match need.weight {
            Weight::Required => missing.required.push(line),
            Weight::Optional | Weight::Machines => missing.optional.push(line),
        }
    }
    missing
}

/// Says what is missing on this machine for nodes whose data is in that folder, and fails if they
/// cannot do without.
pub(crate) fn check(folder: &Path, several_machines: bool) -> Result<()> {
    let mut machine =
        ThisOne { folder: folder.to_path_buf(), sandbox: None, groups: OnceCell::new() };
    let missing = missing(&mut machine, several_machines);
    for line in &missing.optional {
        eprintln!("warning: {line}");
    }
    match missing.required.as_slice() {
        [] => Ok(()),
        [only] => bail!("this machine cannot run a node: {only}"),
        all => {
            for line in all {
                eprintln!("missing: {line}");
            }
            bail!("this machine cannot run a node: it lacks the {} things above", all.len())
        }
    }
}

struct ThisOne {
    folder: PathBuf,
    sandbox: Option<Result<Sandbox, String>>,
    groups: OnceCell<Result<Vec<String>, String>>,
}

impl ThisOne {
    fn sandbox(&mut self) -> Result<&mut Sandbox, String> {
        let open = || Sandbox::open().map_err(|error| text(&error));
        self.sandbox.get_or_insert_with(open).as_mut().map_err(|why| why.clone())
    }

    fn controllers(&self) -> Result<&[String], String> {
        let detect = || {
            let groups = sys::cgroup::Cgroups::detect().map_err(|error| text(&error))?;
            Ok(groups.controllers().into_iter().map(str::to_owned).collect())
        };
        let found: &Result<Vec<String>, String> = self.groups.get_or_init(detect);
        found.as_deref().map_err(String::clone)
    }
}

impl Machine for ThisOne {
    fn attempt(&mut self, feature: Feature) -> Result<(), String> {
        match feature {
            Feature::Namespace(name) => there(&format!("/proc/self/ns/{name}")),
            Feature::Overlay => overlay(&self.folder),
            Feature::Seccomp => there("/proc/sys/kernel/seccomp/actions_avail"),
            Feature::Cgroups => self.controllers().map(drop),
            Feature::Controller(name) => match self.controllers() {
                Ok(all) if !all.iter().any(|have| have == name) => Err("not enabled".to_owned()),
                // Told of already.
                _ => Ok(()),
            },
            Feature::Link(kind) => self.sandbox()?.link(kind).map_err(|error| text(&error)),
            Feature::Rules(part) => self.sandbox()?.rules(part).map_err(|error| text(&error)),
            Feature::Forwarding => match sys::iptables::forward_policy_is_drop() {
                Ok(true) => Err("the policy of its FORWARD chain is DROP".to_owned()),
                _ => Ok(()),
            },
        }
    }
}

fn there(path: &str) -> Result<(), String> {
    std::fs::metadata(path).map(drop).map_err(|_| format!("{path} is not there"))
}

/// Mounts one where only this thread sees it.
fn overlay(folder: &Path) -> Result<(), String> {
    let base = folder.join(format!("run/probe-{}", std::process::id()));
    let [lower, upper, work, target] = ["lower", "upper", "work", "target"].map(|n| base.join(n));
    let attempt = || -> std::io::Result<()> {
        for path in [&lower, &upper, &work, &target] {
            std::fs::create_dir_all(path)?;
        }
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?;
        let private = nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE;
        nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>)?;
        sys::mount::overlay(&[&lower], &upper, &work, &target)?;
        Ok(nix::mount::umount2(&target, nix::mount::MntFlags::MNT_DETACH)?)
    };
    let done = std::thread::scope(|scope| scope.spawn(attempt).join());
    let _ = std::fs::remove_dir_all(&base);
    match done {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(format!("in {}: {}", folder.display(), sys::reason(&error))),
        Err(_) => Err("trying it panicked".to_owned()),
    }
}

fn text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    if let Some(source) = error.source() {
        text += &format!(": {source}");
    }
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Lacking(&'static [Feature]);

    impl Machine for Lacking {
        fn attempt(&mut self, feature: Feature) -> Result<(), String> {
            if self.0.contains(&feature) { Err("no such device".to_owned()) } else { Ok(()) }
        }
    }

    #[test]
    fn what_is_missing_gets_a_line() {
        assert_eq!(missing(&mut Lacking(&[]), true), Missing::default());
        let lacking = &[
            Feature::Overlay,
            Feature::Rules(Rules::Numgen),
            Feature::Controller("memory"),
            Feature::Link(Link::Vxlan),
        ];
        let found = missing(&mut Lacking(lacking), true);
        assert_eq!(
            found.required,
            [
                "no overlayfs (CONFIG_OVERLAY_FS) (no such device), which is needed for the file \
                 systems of containers: use a kernel with it, and a --data-dir on ext4, xfs or the \
                 like",
                "no random numbers in nf_tables (CONFIG_NFT_NUMGEN, module nft_numgen) (no such \
                 device), which is needed for Services: use a kernel with it",
            ]
        );
        assert_eq!(found.optional.len(), 2);
        assert!(found.optional[0].contains("cgroup_enable=memory"), "{:?}", found.optional);
        assert!(found.optional[1].contains("VXLAN"), "{:?}", found.optional);
        // One machine needs no tunnel.
        assert_eq!(missing(&mut Lacking(lacking), false).optional.len(), 1);
    }

    #[test]
    fn every_feature_is_tried_once() {
        for (index, need) in NEEDS.iter().enumerate() {
            let again = NEEDS[index + 1..].iter().any(|other| other.feature == need.feature);
            assert!(!again, "{:?}", need.feature);
        }
    }

    #[test]
    fn this_machine_has_what_it_takes() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: needs root to make namespaces");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let groups = OnceCell::new();
        let mut machine = ThisOne { folder: folder.path().to_path_buf(), sandbox: None, groups };
        assert_eq!(missing(&mut machine, true).required, Vec::<String>::new());
        // Nothing stays, and a folder where no overlay can be is noticed.
        assert_eq!(std::fs::read_dir(folder.path().join("run")).unwrap().count(), 0);
        machine.folder = PathBuf::from("/proc");
        let why = machine.attempt(Feature::Overlay).unwrap_err();
        assert!(why.starts_with("in /proc: "), "{why}");
    }
}
