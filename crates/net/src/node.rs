//! One node's network.
//!
//! Pods are not on a bridge: each has a link of its own to the node, which routes. So every packet
//! passes the node's rules whatever kernel modules are loaded, replies are translated back on their
//! way, and a pod cannot pretend to have another's address.
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use ipnet::Ipv4Net;
use netplan::HostPort;

use crate::config::{Error, NetConfig, Peer, PodNet, Result};
use crate::driver::Site;
use crate::firewall::Passes;
use crate::leases::Leases;
use crate::names;
use crate::netlink::io_error;
use crate::rtnl::{CONF_ROUTE_LOCALNET, CONF_RP_FILTER, Mac, PROTOCOL, Route, Rtnl, Veth};
use crate::rules::Rules;

/// So that any other route to the same place is preferred.
const LAST_METRIC: u32 = 4_000_000_000;
/// The node's end of every pod's link.
const NODE_MAC: Mac = [0xee; 6];
const VXLAN_OVERHEAD: u32 = 50;
pub(crate) const LOOPBACK: u32 = 1;

/// A node's network, ready for pods. Cheap to share in an `Arc`.
pub struct NodeNet {
    config: NetConfig,
    gateway: Ipv4Addr,
    links: Mutex<Links>,
    pub(crate) rules: Mutex<Rules>,
}

struct Links {
    rtnl: Rtnl,
    leases: Leases,
}

impl NodeNet {
    /// Makes the node's network in the calling thread's network namespace; finds what is there
    /// already as it should be.
    pub fn start(config: NetConfig) -> Result<NodeNet> {
        names::check_id(&config.cluster_id)?;
        check_networks(&config)?;
        let gateway = Ipv4Addr::from(u32::from(config.pod_cidr.network()) + 1);
        sysctl("net/ipv4/ip_forward", "1")?;
        let mut rtnl = Rtnl::open()?;
        rtnl.set_up(LOOPBACK)?;
        rtnl.add_address(LOOPBACK, Ipv4Net::from(gateway))?;
        let (pods, services) = (config.cluster_cidr, config.service_cidr);
        route_ranges(&mut rtnl, pods, services, gateway, config.mtu)?;
        let leases = Leases::load(&config.data_dir, config.pod_cidr)?;
        let table = names::table(&config.cluster_id);
        let passes = Passes { mark: table.clone(), networks: vec![pods], own: vec![gateway] };
        let plan = netplan::Config {
            nodes: vec![config.node.clone()],
            cluster_cidr: pods,
            service_cidr: services,
            gateway,
        };
        let mut rules = Rules::open(table, plan, passes)?;
        for (uid, lease) in leases.all() {
            rules.state.set_host_ports(uid, lease.ip, &lease.ports);
        }
        rules.start()?;
        rules.pass_firewalls()?;
        let links = Mutex::new(Links { rtnl, leases });
        Ok(NodeNet { config, gateway, links, rules: Mutex::new(rules) })
    }

    pub fn config(&self) -> &NetConfig {
        &self.config
    }

    /// The node's own address inside the pod network: where node-local services (DNS) listen.
    pub fn gateway(&self) -> Ipv4Addr {
        self.gateway
    }

    /// Connects a pod. `netns` is `/proc/<pid>/ns/net`. Calling it again returns the same address.
    pub fn attach_pod(&self, uid: &str, netns: &Path, ports: &[HostPort]) -> Result<PodNet> {
        let namespace = File::open(netns)
            .map_err(io_error(format!("cannot open the network namespace {}", netns.display())))?;
        let mut pod = rtnl_in(&namespace)?;
        let mut links = lock(&self.links);
        let ip = links.leases.assign(uid, ports)?;
        let name = names::pod_link(&self.config.cluster_id, self.config.pod_cidr, ip);
        let done = self.connect(&mut links.rtnl, &mut pod, &namespace, uid, &name, ip);
        drop(links);
        done?;
        let mut rules = lock(&self.rules);
        rules.state.set_host_ports(uid, ip, ports);
        rules.flush_if_installed()?;
        Ok(PodNet { ip: ip.into(), gateway: self.gateway.into(), link: name })
    }

    /// The address a pod has, if it is attached.
    pub fn pod_address(&self, uid: &str) -> Option<IpAddr> {
        lock(&self.links).leases.get(uid).map(|lease| lease.ip.into())
    }

    /// Removes the pod's link, ports and address. A pod that is not there is not an error.
    pub fn detach_pod(&self, uid: &str) -> Result<()> {
        let mut rules = lock(&self.rules);
        rules.state.set_host_ports(uid, self.gateway, &[]);
        rules.flush_if_installed()?;
        drop(rules);
        let mut links = lock(&self.links);
        if let Some(lease) = links.leases.get(uid) {
            let ip = lease.ip;
            let name = names::pod_link(&self.config.cluster_id, self.config.pod_cidr, ip);
            links.rtnl.delete_link(&name)?;
            links.leases.release(uid)?;
        }
        Ok(())
    }

    /// Frees whatever belongs to pods that are not in `live`.
    pub fn reconcile_pods(&self, live: &BTreeSet<String>) -> Result<()> {
        let leased: Vec<String> = lock(&self.links).leases.all().keys().cloned().collect();
        for uid in leased.iter().filter(|uid| !live.contains(*uid)) {
            self.detach_pod(uid)?;
        }
        let mut links = lock(&self.links);
        let prefix = self.pod_alias("");
        for link in links.rtnl.links()? {
            let owner = link.alias.strip_prefix(&prefix);
            if owner.is_some_and(|uid| links.leases.get(uid).is_none()) {
                links.rtnl.delete_link(&link.name)?;
            }
        }
        Ok(())
    }

    /// Makes routes to exactly these other nodes: direct ones where the node is on a network of
    /// this one's, by the tunnel otherwise.
    pub fn set_peers(&self, peers: Vec<Peer>) -> Result<()> {
        let mut links = lock(&self.links);
        let mut wanted = BTreeSet::new();
        for peer in peers.iter().filter(|peer| peer.node != self.config.node) {
            let IpAddr::V4(node_ip) = peer.node_ip else { continue };
            let mut route = Route::to(peer.pod_cidr.trunc());
            route.src = Some(self.gateway);
            let direct = links.rtnl.lookup(node_ip)?.filter(|found| found.via.is_none());
            match direct {
                Some(found) => {
                    route.via = Some(node_ip);
                    route.oif = found.oif;
                }
                None => self.tunnel_to(&mut links.rtnl, node_ip, &mut route)?,
            }
            wanted.insert(route);
        }
        for route in links.rtnl.routes()? {
            let ours = route.protocol == PROTOCOL && !route.unreachable && route.via.is_some();
            let inside = self.config.cluster_cidr.contains(&route.dst);
            if ours && inside && !wanted.iter().any(|w| w.dst == route.dst) {
                links.rtnl.delete_route(&route)?;
            }
        }
        for route in &wanted {
            links.rtnl.set_route(route)?;
        }
        // Clients on loopback get to the pods of other nodes, too, by ports of this one.
        for link in wanted.iter().filter_map(|route| route.oif).collect::<BTreeSet<u32>>() {
            links.rtnl.set_conf(link, &[(CONF_ROUTE_LOCALNET, 1)])?;
        }
        Ok(())
    }

    /// Changes what the packet rules are made from, and the rules with it, before it returns.
    pub fn update<T>(&self, change: impl FnOnce(&mut netplan::State) -> T) -> Result<T> {
        let mut rules = lock(&self.rules);
        let value = change(&mut rules.state);
        rules.flush()?;
        Ok(value)
    }

    fn pod_alias(&self, uid: &str) -> String {
        let prefix = names::alias_prefix(&self.config.cluster_id);
        format!("{prefix}pod/{}/{uid}", self.config.node)
    }

    fn connect(
        &self,
        rtnl: &mut Rtnl,
        pod: &mut Rtnl,
        namespace: &File,
        uid: &str,
        name: &str,
        ip: Ipv4Addr,
    ) -> Result<()> {
        let [a, b, c, d] = ip.octets();
        let mac = [0x0a, 0x58, a, b, c, d];
        let inside = pod.link("eth0")?.filter(|link| link.mac == mac);
        if rtnl.link(name)?.is_none() || inside.is_none() {
            rtnl.delete_link(name)?;
            rtnl.create_veth(&Veth {
                name,
                alias: &self.pod_alias(uid),
                mac: Some(NODE_MAC),
                mtu: self.config.mtu,
                peer_name: "eth0",
                peer_mac: Some(mac),
                peer_netns: namespace.as_fd(),
            })?;
        }
        let missing = || Error::Invalid(format!("link {name} has vanished: attach the pod again"));
        let outer = rtnl.link(name)?.ok_or_else(missing)?.index;
        let inner = pod.link("eth0")?.ok_or_else(missing)?.index;
        // Nothing that claims another pod's address gets past the node. Clients on loopback get
        // to the pod by ports of the node; the packet rules keep others out.
        rtnl.set_conf(outer, &[(CONF_RP_FILTER, 1), (CONF_ROUTE_LOCALNET, 1)])?;
        rtnl.no_ipv6_address(outer);
        rtnl.set_up(outer)?;
        pod.set_up(LOOPBACK)?;
        pod.add_address(inner, Ipv4Net::from(ip))?;
        pod.set_up(inner)?;
        let mut gateway = Route::to(Ipv4Net::from(self.gateway));
        gateway.oif = Some(inner);
        pod.set_route(&gateway)?;
        let mut default = Route::to(Ipv4Net::default());
        default.via = Some(self.gateway);
        default.oif = Some(inner);
        pod.set_route(&default)?;
        // Both ends are known for good: no address resolution is ever needed.
        pod.set_neighbour(inner, self.gateway, NODE_MAC)?;
        rtnl.set_neighbour(outer, ip, mac)?;
        let mut route = Route::to(Ipv4Net::from(ip));
        route.oif = Some(outer);
        route.src = Some(self.gateway);
        rtnl.set_route(&route)?;
        rtnl.await_ready(name)?;
        pod.await_ready("eth0")
    }

    /// Completes a route that goes by the tunnel. Its ends' hardware addresses follow from the
    /// nodes' pod networks, so they need not be told.
    fn tunnel_to(&self, rtnl: &mut Rtnl, node_ip: Ipv4Addr, route: &mut Route) -> Result<()> {
        let IpAddr::V4(own_ip) = self.config.node_ip else {
            let text = "tunnels between nodes need IPv4 node addresses".to_owned();
            return Err(Error::Invalid(text));
        };
        let name = names::tunnel_link(&self.config.cluster_id);
        let index = match rtnl.link(&name)? {
            Some(link) => link.index,
            None => {
                let alias = format!("{}tunnel", names::alias_prefix(&self.config.cluster_id));
                let id = (self.config.vxlan.vni, self.config.vxlan.port);
                let mac = tunnel_mac(self.config.pod_cidr);
                let mtu = self.config.mtu - VXLAN_OVERHEAD;
                rtnl.create_vxlan(&name, &alias, id, own_ip, (mac, mtu))?;
                rtnl.link(&name)?.map(|link| link.index).unwrap_or_default()
            }
        };
        rtnl.set_up(index)?;
        let mac = tunnel_mac(route.dst);
        let far = Ipv4Addr::from(u32::from(route.dst.network()) + 1);
        rtnl.set_tunnel_end(index, mac, node_ip)?;
        rtnl.set_neighbour(index, far, mac)?;
        route.via = Some(far);
        route.oif = Some(index);
        route.onlink = true;
        Ok(())
    }
}

impl Site for NodeNet {
    fn rules(&self) -> &Mutex<Rules> {
        &self.rules
    }
    fn set_peers(&self, peers: Vec<Peer>) -> Result<()> {
        NodeNet::set_peers(self, peers)
    }
}

/// Routes for what has no better one.
pub(crate) fn route_ranges(
    rtnl: &mut Rtnl,
    pods: Ipv4Net,
    services: Ipv4Net,
    own: Ipv4Addr,
    mtu: u32,
) -> Result<()> {
    // Pod addresses that nobody has must not leave by a default route.
    let mut nowhere = Route::to(pods);
    nowhere.unreachable = true;
    nowhere.metric = LAST_METRIC;
    rtnl.set_route(&nowhere)?;
    // ClusterIPs are translated before they go anywhere; this route is what lets a program on
    // a node without a default route send to them, and gives it a source address.
    let mut route = Route::to(services);
    route.oif = Some(LOOPBACK);
    route.src = Some(own);
    route.metric = LAST_METRIC;
    route.mtu = Some(mtu);
    rtnl.set_route(&route)
}

/// The source address of the default route; without one, any address that is not loopback.
pub fn primary_address() -> Result<Option<IpAddr>> {
    let mut rtnl = Rtnl::open()?;
    if let Some(src) = uplink_address(&mut rtnl)? {
        return Ok(Some(src.into()));
    }
    let addresses = rtnl.addresses()?;
    let other = addresses.iter().find(|(index, a)| *index != LOOPBACK && !a.addr().is_loopback());
    Ok(other.map(|(_, address)| address.addr().into()))
}

/// Chooses (cluster CIDR, service CIDR) that no route or address of this machine uses: the
/// defaults 10.244.0.0/16 and 10.96.0.0/16 if they are free.
pub fn free_networks() -> Result<(Ipv4Net, Ipv4Net)> {
    let used = used_networks()?;
    let pick = |second_octets: &mut dyn Iterator<Item = u8>, what: &str| {
        second_octets
            .map(|octet| Ipv4Net::new_assert(Ipv4Addr::new(10, octet, 0, 0), 16))
            .find(|net| !used.iter().any(|u| overlap(u, net)))
            .ok_or_else(|| {
                Error::Invalid(format!("no free network for {what} in 10.0.0.0/8: give one"))
            })
    };
    let pods = pick(&mut (244..=254).chain(200..244), "pods")?;
    let services = pick(&mut (96..200), "services")?;
    Ok((pods, services))
}

/// Removes everything of that cluster from the calling thread's network namespace, and the node
/// namespaces kept under `<data_dir>/run/netns`. Safe to repeat.
pub fn cleanup(cluster_id: &str, data_dir: &Path) -> Result<()> {
    names::check_id(cluster_id)?;
    crate::hostlab::delete_all(data_dir)?;
    let mut rtnl = Rtnl::open()?;
    let prefix = names::alias_prefix(cluster_id);
    for link in rtnl.links()?.iter().filter(|link| link.alias.starts_with(&prefix)) {
        rtnl.delete_link(&link.name)?;
    }
    let networks = crate::rules::remove(cluster_id)?;
    let ours = |net: &Ipv4Net| networks.iter().any(|n| n.contains(net));
    let alone = !crate::rules::any()?;
    for route in rtnl.routes()? {
        if route.protocol == PROTOCOL && ours(&route.dst) {
            rtnl.delete_route(&route)?;
            if let (true, Some(_), Some(link)) = (alone, route.via, route.oif) {
                // The rules that made it harmless are gone.
                rtnl.set_conf(link, &[(CONF_ROUTE_LOCALNET, 0)])?;
            }
        }
    }
    for (index, address) in rtnl.addresses()? {
        if index == LOOPBACK && ours(&address) {
            rtnl.delete_address(index, address)?;
        }
    }
    Ok(())
}

/// The source address of the default route.
pub(crate) fn uplink_address(rtnl: &mut Rtnl) -> Result<Option<Ipv4Addr>> {
    // An address of the documentation range: nobody has a route of its own for it.
    let outside = Ipv4Addr::new(203, 0, 113, 1);
    Ok(rtnl.lookup(outside)?.and_then(|route| route.src))
}

/// A routing socket in another network namespace. The thread that goes there ends at once; the
/// socket stays.
pub(crate) fn rtnl_in(namespace: &File) -> Result<Rtnl> {
    let open = || {
        nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET)
            .map_err(|e| io_error("cannot enter a network namespace")(e.into()))?;
        Rtnl::open()
    };
    std::thread::scope(|scope| scope.spawn(open).join())
        .unwrap_or_else(|_| Err(Error::Invalid("opening a network namespace panicked".into())))
}

pub(crate) fn sysctl(name: &str, value: &str) -> Result<()> {
    let path = Path::new("/proc/sys").join(name);
    let now = fs::read_to_string(&path).unwrap_or_default();
    if now.trim() == value {
        return Ok(());
    }
    fs::write(&path, value)
        .map_err(io_error(format!("cannot set {} to {value}: set it yourself", path.display())))
}

pub(crate) fn used_networks() -> Result<Vec<Ipv4Net>> {
    let mut rtnl = Rtnl::open()?;
    let mut used: Vec<Ipv4Net> = rtnl.routes()?.into_iter().map(|route| route.dst).collect();
    used.extend(rtnl.addresses()?.into_iter().map(|(_, address)| address));
    used.retain(|net| net.prefix_len() > 0);
    Ok(used)
}

pub(crate) fn overlap(a: &Ipv4Net, b: &Ipv4Net) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn tunnel_mac(pod_cidr: Ipv4Net) -> Mac {
    let [a, b, c, d] = pod_cidr.network().octets();
    [0x0a, 0x6b, a, b, c, d]
}

fn check_networks(config: &NetConfig) -> Result<()> {
    let (pods, all, services) = (config.pod_cidr, config.cluster_cidr, config.service_cidr);
    let complain = |text: String| Err(Error::Invalid(text));
    if !all.contains(&pods) {
        return complain(format!("the node's pod CIDR {pods} is not inside the cluster's {all}"));
    }
    if pods.prefix_len() > 29 || pods.prefix_len() < 16 {
        return complain(format!("the node's pod CIDR {pods} must have a size from /16 to /29"));
    }
    if overlap(&all, &services) {
        return complain(format!("pod CIDR {all} and service CIDR {services} overlap"));
    }
    if !(576..=65_535).contains(&config.mtu) {
        return complain(format!("{} is no usable MTU: use 1500", config.mtu));
    }
    Ok(())
}
