//! The node's packet rules: what is planned, and what the kernel has.
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use netplan::{Changes, Ruleset, State};

use crate::config::Result;
use crate::firewall::{self, Passes};
use crate::names;
use crate::netlink::Socket;
use crate::nft::{Nft, Transaction};
use crate::rtnl::Rtnl;

/// How often clients are looked for that were remembered with a backend just before it went.
const MEMORY_ROUNDS: usize = 3;

pub(crate) struct Rules {
    pub state: State,
    table: String,
    comment: String,
    ruleset: Ruleset,
    /// The kernel has `ruleset`, so that differences can be applied.
    installed: bool,
    passes: Passes,
    nft: Nft,
    conntrack: Socket,
    rtnl: Rtnl,
}

impl Rules {
    pub(crate) fn open(table: String, config: netplan::Config, passes: Passes) -> Result<Rules> {
        let (pods, services) = (config.cluster_cidr, config.service_cidr);
        Ok(Rules {
            state: State::new(config),
            table,
            comment: format!("pods={pods} services={services}"),
            ruleset: Ruleset::default(),
            installed: false,
            passes,
            nft: Nft::open()?,
            conntrack: Socket::open(libc::NETLINK_NETFILTER as isize)?,
            rtnl: Rtnl::open()?,
        })
    }

    /// Puts the rules of a cluster without Services in place, unless an earlier run left its
    /// rules: those go on serving until everything is known again.
    pub(crate) fn start(&mut self) -> Result<()> {
        if self.is_there()? { Ok(()) } else { self.install() }
    }

    fn is_there(&mut self) -> Result<bool> {
        Ok(self.nft.tables()?.iter().any(|(name, _)| *name == self.table))
    }

    /// To be told by [`firewall::Watch`] of what others do.
    pub(crate) fn port(&self) -> Result<u32> {
        self.nft.port()
    }

    /// Somebody else has changed packet rules: puts back what the cluster needs.
    pub(crate) fn mend(&mut self) -> Result<()> {
        self.pass_firewalls()?;
        if self.installed && !self.is_there()? {
            self.install()?;
        }
        Ok(())
    }

    /// Sees to it that other people's rules let the cluster's packets through.
    pub(crate) fn pass_firewalls(&mut self) -> Result<()> {
        firewall::open(&mut self.nft, &self.passes)
    }

    /// Replaces all rules.
    pub(crate) fn install(&mut self) -> Result<()> {
        self.installed = false;
        self.ruleset = netplan::plan(&self.state);
        self.state.settle();
        let mut transaction = Transaction::new(&self.table);
        transaction.recreate_table(&self.comment);
        transaction.apply(&self.ruleset.create());
        self.remember(&mut transaction)?;
        self.nft.commit(transaction)?;
        self.installed = true;
        let frontends = self.ruleset.udp_frontends();
        self.forget_flows(&frontends)
    }

    /// Carries over what the table to be replaced knows of clients whose backends are still there.
    fn remember(&mut self, transaction: &mut Transaction) -> Result<()> {
        let mut memories = self.ruleset.memories().peekable();
        if memories.peek().is_none() {
            return Ok(());
        }
        let kept = self.nft.sets(&self.table)?;
        for (map, valid) in memories.filter(|(map, _)| kept.contains(*map)) {
            let mut clients = self.nft.clients(&self.table, map)?;
            clients.retain(|it| valid.contains(&it.backend));
            transaction.remember_clients(map, &clients);
        }
        Ok(())
    }

    /// Applies what has changed in the state. After a failure the next call replaces everything.
    pub(crate) fn flush(&mut self) -> Result<()> {
        if !self.installed {
            return self.install();
        }
        let changes = self.state.plan_changes(&mut self.ruleset);
        if changes.is_empty() {
            return Ok(());
        }
        self.installed = false;
        self.apply(&changes)?;
        self.installed = true;
        Ok(())
    }

    /// Like [`Rules::flush`], but leaves the rules of an earlier run alone.
    pub(crate) fn flush_if_installed(&mut self) -> Result<()> {
        if self.installed { self.flush() } else { Ok(()) }
    }

    fn apply(&mut self, changes: &Changes) -> Result<()> {
        if !changes.ops.is_empty() {
            let mut transaction = Transaction::new(&self.table);
            transaction.apply(&changes.ops);
            self.nft.commit(transaction)?;
        }
        for (map, valid) in &changes.memories {
            for _ in 0..MEMORY_ROUNDS {
                let clients = self.nft.clients(&self.table, map)?;
                let strayed = clients.iter().filter(|it| !valid.contains(&it.backend));
                let strayed: Vec<Ipv4Addr> = strayed.map(|it| it.client).collect();
                if strayed.is_empty() {
                    break;
                }
                let mut transaction = Transaction::new(&self.table);
                transaction.forget_clients(map, &strayed);
                self.nft.commit(transaction)?;
            }
        }
        self.forget_flows(&changes.udp)
    }

    fn forget_flows(&mut self, frontends: &[netplan::UdpFrontend]) -> Result<()> {
        if frontends.is_empty() {
            return Ok(());
        }
        let own: Vec<Ipv4Addr> =
            self.rtnl.addresses()?.into_iter().map(|(_, address)| address.addr()).collect();
        let is_local = |ip: Ipv4Addr| own.contains(&ip) || ip.is_loopback();
        crate::conntrack::forget_stale(&mut self.conntrack, frontends, &is_local)?;
        Ok(())
    }
}

/// Whether some cluster has packet rules here.
pub(crate) fn any() -> Result<bool> {
    Ok(Nft::open()?.tables()?.iter().any(|(table, _)| table.starts_with(names::TABLES)))
}

/// Removes the cluster's tables; returns the networks that they were for.
pub(crate) fn remove(cluster_id: &str) -> Result<Vec<Ipv4Net>> {
    let mut nft = Nft::open()?;
    let names =
        [names::table(cluster_id), names::lab_table(cluster_id), names::host_table(cluster_id)];
    firewall::close(&mut nft, &names)?;
    let mut networks = Vec::new();
    for (table, comment) in nft.tables()? {
        if !names.contains(&table) {
            continue;
        }
        let values = comment.split(' ').filter_map(|word| word.split_once('='));
        networks.extend(values.filter_map(|(_, value)| value.parse::<Ipv4Net>().ok()));
        let mut transaction = Transaction::new(&table);
        transaction.delete_table();
        nft.commit(transaction)?;
    }
    Ok(networks)
}
