//! Several nodes on one machine: each a network namespace on a bridge of the host's.
//!
//! A namespace is kept by a bind mount under `<data dir>/run/netns/<node>`, so it outlives the
//! process that made it.
use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;
use netplan::{Chain, Hook, Op, Stmt};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use crate::config::{Error, Result};
use crate::firewall::{self, Passes, Watch};
use crate::names;
use crate::netlink::io_error;
use crate::nft::{Nft, Transaction};
use crate::node::{overlap, rtnl_in, sysctl, uplink_address, used_networks};
use crate::rtnl::{Route, Rtnl, Veth};

const LOOPBACK: u32 = 1;
const MTU: u32 = 1500;

/// A node's namespace.
#[derive(Debug, Clone)]
pub struct NodeNs {
    /// Persistent: give it to `kybern agent --netns` (or [`enter`] it).
    pub path: PathBuf,
    pub ip: Ipv4Addr,
    /// The host's address on the bridge: where the API server listens for the nodes.
    pub host_ip: Ipv4Addr,
}

/// Makes (or finds) the bridge `kybn<id>` and gives the host the first address of `subnet` on it:
/// an address of the machine that every one of the cluster's `pods` and nodes can reach.
pub fn ensure_host(cluster_id: &str, subnet: Ipv4Net, pods: Ipv4Net) -> Result<Ipv4Addr> {
    names::check_id(cluster_id)?;
    let host_ip = Ipv4Addr::from(u32::from(subnet.network()) + 1);
    ensure_bridge(&mut Rtnl::open()?, cluster_id, host_ip, subnet)?;
    firewall::open(&mut Nft::open()?, &passes(cluster_id, subnet, pods, host_ip))?;
    Ok(host_ip)
}

/// Keeps other programs' firewalls open for what [`ensure_host`] has made, whatever they do.
pub async fn keep_host(cluster_id: String, subnet: Ipv4Net, pods: Ipv4Net) -> Result<()> {
    let host_ip = Ipv4Addr::from(u32::from(subnet.network()) + 1);
    let passes = std::sync::Arc::new(passes(&cluster_id, subnet, pods, host_ip));
    let mut watch = Watch::open()?;
    let mut nft = Nft::open()?;
    let port = nft.port()?;
    loop {
        let passes = passes.clone();
        let open = tokio::task::spawn_blocking(move || (firewall::open(&mut nft, &passes), nft));
        let panicked = |_| Error::Invalid("opening the firewall panicked".to_owned());
        let (done, same) = open.await.map_err(panicked)?;
        nft = same;
        let _ = done.inspect_err(|error| tracing::warn!(%error, "firewalls are not open"));
        watch.changed(port).await?;
    }
}

fn passes(cluster_id: &str, subnet: Ipv4Net, pods: Ipv4Net, host_ip: Ipv4Addr) -> Passes {
    Passes {
        mark: names::lab_table(cluster_id),
        // What goes from node to node over the bridge may have to pass, too.
        networks: vec![subnet, pods],
        own: vec![host_ip],
    }
}

/// Makes (or finds) node `index` (0, 1, ...) of the cluster: the host gets the first address of
/// `subnet` on bridge `kybn<id>`, the node the (index + 2)th.
pub fn create_node_ns(
    cluster_id: &str,
    data_dir: &Path,
    node: &str,
    index: u32,
    subnet: Ipv4Net,
) -> Result<NodeNs> {
    names::check_id(cluster_id)?;
    let base = u32::from(subnet.network());
    let (host_ip, ip) = (Ipv4Addr::from(base + 1), Ipv4Addr::from(base + 2 + index));
    if !subnet.contains(&ip) || ip == subnet.broadcast() {
        return Err(Error::Invalid(format!("{subnet} has no room for node number {}", index + 1)));
    }
    let mut host = Rtnl::open()?;
    let bridge = ensure_bridge(&mut host, cluster_id, host_ip, subnet)?;
    let path = keep_namespace(data_dir, node)?;
    let namespace = File::open(&path).map_err(io_error(format!("open {}", path.display())))?;
    let mut inner = rtnl_in(&namespace)?;
    let link = names::node_link(cluster_id, index);
    if inner.link("eth0")?.is_none() || host.link(&link)?.is_none() {
        host.delete_link(&link)?;
        host.create_veth(&Veth {
            name: &link,
            alias: &format!("{}node/{node}", names::alias_prefix(cluster_id)),
            mac: None,
            mtu: MTU,
            peer_name: "eth0",
            peer_mac: None,
            peer_netns: namespace.as_fd(),
        })?;
    }
    let missing = || Error::Invalid(format!("the link of node {node} has vanished: try again"));
    let outer = host.link(&link)?.ok_or_else(missing)?.index;
    let eth0 = inner.link("eth0")?.ok_or_else(missing)?.index;
    host.set_master(outer, bridge)?;
    host.set_up(outer)?;
    inner.set_up(LOOPBACK)?;
    inner.add_address(eth0, network_address(ip, subnet))?;
    inner.set_up(eth0)?;
    let mut default = Route::to(Ipv4Net::default());
    default.via = Some(host_ip);
    default.oif = Some(eth0);
    inner.set_route(&default)?;
    host.await_ready(&link)?;
    inner.await_ready("eth0")?;
    Ok(NodeNs { path, ip, host_ip })
}

/// Removes a node's namespace.
pub fn delete_node_ns(data_dir: &Path, node: &str) -> Result<()> {
    let path = namespaces(data_dir).join(node);
    match umount2(&path, MntFlags::MNT_DETACH) {
        // Not mounted, or not there: as wanted.
        Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => {}
        Err(e) => {
            return Err(io_error(format!("cannot unmount {}", path.display()))(e.into()));
        }
    }
    match fs::remove_file(&path) {
        Err(e) if e.kind() != ErrorKind::NotFound => {
            Err(io_error(format!("cannot remove {}", path.display()))(e))
        }
        _ => Ok(()),
    }
}

/// A subnet for the nodes that no route of the machine uses: 10.90.0.0/24 if it is free.
pub fn free_subnet() -> Result<Ipv4Net> {
    let used = used_networks()?;
    (0..=255)
        .map(|octet| Ipv4Net::new_assert(Ipv4Addr::new(10, 90, octet, 0), 24))
        .find(|net| !used.iter().any(|u| overlap(u, net)))
        .ok_or_else(|| Error::Invalid("no free network for nodes in 10.90.0.0/16".to_owned()))
}

/// Lets the host itself (the API server) reach `cidr` (a node's pods, or the ClusterIPs) by way
/// of a node.
pub fn route(cluster_id: &str, cidr: Ipv4Net, via: Ipv4Addr) -> Result<()> {
    let mut rtnl = Rtnl::open()?;
    let name = names::bridge_link(cluster_id);
    let bridge = rtnl.link(&name)?.ok_or_else(|| {
        Error::Invalid(format!("there is no bridge {name}: make the nodes' namespaces first"))
    })?;
    let mut route = Route::to(cidr.trunc());
    route.via = Some(via);
    route.oif = Some(bridge.index);
    rtnl.set_route(&route)
}

/// Moves the calling thread into a network namespace. A process that is to be there as a whole
/// calls it before it starts any other thread.
pub fn enter(netns: &Path) -> Result<()> {
    let what = || format!("cannot enter the network namespace {}", netns.display());
    let file = File::open(netns).map_err(io_error(what()))?;
    setns(&file, CloneFlags::CLONE_NEWNET).map_err(|e| io_error(what())(e.into()))
}

/// Removes all nodes' namespaces.
pub(crate) fn delete_all(data_dir: &Path) -> Result<()> {
    let dir = namespaces(data_dir);
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(io_error(format!("cannot list {}", dir.display()))(e)),
    };
    for entry in entries.flatten() {
        delete_node_ns(data_dir, &entry.file_name().to_string_lossy())?;
    }
    Ok(())
}

fn namespaces(data_dir: &Path) -> PathBuf {
    data_dir.join("run/netns")
}

fn network_address(ip: Ipv4Addr, subnet: Ipv4Net) -> Ipv4Net {
    Ipv4Net::new(ip, subnet.prefix_len()).expect("a network's own prefix length")
}

fn ensure_bridge(
    host: &mut Rtnl,
    cluster_id: &str,
    host_ip: Ipv4Addr,
    subnet: Ipv4Net,
) -> Result<u32> {
    let name = names::bridge_link(cluster_id);
    let index = match host.link(&name)? {
        Some(link) => link.index,
        None => {
            let alias = format!("{}bridge", names::alias_prefix(cluster_id));
            host.create_bridge(&name, &alias)?;
            let made = host.link(&name)?;
            made.ok_or_else(|| Error::Invalid(format!("bridge {name} has vanished")))?.index
        }
    };
    host.add_address(index, network_address(host_ip, subnet))?;
    host.set_up(index)?;
    if uplink_address(host)?.is_some() {
        let _ = share_uplink(cluster_id, subnet)
            .inspect_err(|e| tracing::warn!(error = %e, "the nodes will not reach other networks"));
    }
    Ok(index)
}

/// The nodes leave the machine under the machine's own address.
fn share_uplink(cluster_id: &str, subnet: Ipv4Net) -> Result<()> {
    sysctl("net/ipv4/ip_forward", "1")?;
    let mut transaction = Transaction::new(&names::lab_table(cluster_id));
    transaction.recreate_table(&format!("nodes={subnet}"));
    transaction.apply(&[Op::AddChain(Chain {
        name: "postrouting".to_owned(),
        hook: Some(Hook::NatPostrouting),
        rules: vec![vec![
            Stmt::Src { net: subnet, negate: false },
            Stmt::Dst { net: subnet, negate: true },
            Stmt::Masquerade,
        ]],
    })]);
    Nft::open()?.commit(transaction)
}

/// Makes a namespace and mounts it on its file, if that has not been done.
fn keep_namespace(data_dir: &Path, node: &str) -> Result<PathBuf> {
    let dir = namespaces(data_dir);
    let path = dir.join(node);
    fs::create_dir_all(&dir).map_err(io_error(format!("cannot create {}", dir.display())))?;
    if File::open(&path).is_ok_and(|file| is_namespace(&file)) {
        return Ok(path);
    }
    File::create(&path).map_err(io_error(format!("cannot create {}", path.display())))?;
    let make = || -> nix::Result<()> {
        unshare(CloneFlags::CLONE_NEWNET)?;
        let own = "/proc/thread-self/ns/net";
        mount(Some(own), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
    };
    let done = std::thread::scope(|scope| scope.spawn(make).join());
    match done {
        Ok(Ok(())) => Ok(path),
        Ok(Err(e)) => {
            let what = format!("cannot keep a network namespace at {}", path.display());
            Err(io_error(what)(e.into()))
        }
        Err(_) => Err(Error::Invalid("making a network namespace panicked".to_owned())),
    }
}

fn is_namespace(file: &File) -> bool {
    nix::sys::statfs::fstatfs(file)
        .is_ok_and(|fs| fs.filesystem_type() == nix::sys::statfs::NSFS_MAGIC)
}
