//! The machine that keeps several nodes in namespaces of their own: its programs and those who know
//! only its addresses reach the Services as if it were a node.
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use ipnet::Ipv4Net;
use tokio::sync::mpsc;

use crate::config::{Error, Peer, Result};
use crate::driver::{self, NetEvent, Site};
use crate::firewall::Passes;
use crate::names;
use crate::node::{LOOPBACK, route_ranges};
use crate::rtnl::{CONF_ROUTE_LOCALNET, Rtnl};
use crate::rules::Rules;

const MTU: u32 = 1500;

/// What the machine is told.
#[derive(Debug, Clone)]
pub struct HostConfig {
    pub cluster_id: String,
    /// The nodes in namespaces.
    pub nodes: Vec<String>,
    /// The network that they are on with the machine.
    pub subnet: Ipv4Net,
    pub cluster_cidr: Ipv4Net,
    pub service_cidr: Ipv4Net,
}

/// The machine's own packet rules.
pub struct HostNet {
    rules: Mutex<Rules>,
}

impl HostNet {
    /// In the calling thread's network namespace, where [`crate::hostlab::ensure_host`] has made
    /// the nodes' network.
    pub fn start(config: &HostConfig) -> Result<HostNet> {
        names::check_id(&config.cluster_id)?;
        let own = Ipv4Addr::from(u32::from(config.subnet.network()) + 1);
        let mut rtnl = Rtnl::open()?;
        rtnl.set_up(LOOPBACK)?;
        route_ranges(&mut rtnl, config.cluster_cidr, config.service_cidr, own, MTU)?;
        let table = names::host_table(&config.cluster_id);
        // Other people's firewalls are open already for what uses the network.
        let passes = Passes { mark: table.clone(), networks: Vec::new(), own: Vec::new() };
        let plan = netplan::Config {
            nodes: config.nodes.clone(),
            cluster_cidr: config.cluster_cidr,
            service_cidr: config.service_cidr,
            gateway: own,
        };
        let mut rules = Rules::open(table, plan, passes)?;
        rules.start()?;
        // After the rules that keep neighbours out.
        let name = names::bridge_link(&config.cluster_id);
        let missing = || Error::Invalid(format!("there is no bridge {name}"));
        let bridge = rtnl.link(&name)?.ok_or_else(missing)?;
        rtnl.set_conf(bridge.index, &[(CONF_ROUTE_LOCALNET, 1)])?;
        Ok(HostNet { rules: Mutex::new(rules) })
    }
}

impl Site for HostNet {
    fn rules(&self) -> &Mutex<Rules> {
        &self.rules
    }
    /// The machine's routes to pods are made by who needs them ([`crate::hostlab::route`]).
    fn set_peers(&self, _: Vec<Peer>) -> Result<()> {
        Ok(())
    }
}

/// Like [`crate::run`], for the machine.
pub async fn run_host(net: Arc<HostNet>, events: mpsc::UnboundedReceiver<NetEvent>) -> Result<()> {
    driver::drive(net, events, Vec::new()).await
}
