//! Whether the kernel has what the network needs, tried out in a namespace that nobody else sees.
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;

use netplan::{Chain, Hook, MapKey, Op, Pool, SetKind, Stmt};
use nix::sched::{CloneFlags, unshare};

use crate::config::{Error, Result};
use crate::netlink::io_error;
use crate::nft::{Nft, Transaction};
use crate::rtnl::{Rtnl, Veth};

const TABLE: &str = "kybern-probe";
const MAP: &str = "map";
const MTU: u32 = 1500;

/// A kind of link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    Veth,
    Bridge,
    Vxlan,
}

/// A part of the packet rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rules {
    Tables,
    Conntrack,
    Fib,
    Maps,
    Masquerade,
    Nat,
    Numgen,
    Reject,
}

/// A network namespace that goes with this.
pub struct Sandbox {
    namespace: File,
    rtnl: Rtnl,
    nft: Nft,
}

impl Sandbox {
    pub fn open() -> Result<Sandbox> {
        let open = || {
            let what = "cannot make a network namespace";
            unshare(CloneFlags::CLONE_NEWNET).map_err(|e| io_error(what)(e.into()))?;
            let namespace = File::open("/proc/thread-self/ns/net").map_err(io_error(what))?;
            Ok(Sandbox { namespace, rtnl: Rtnl::open()?, nft: Nft::open()? })
        };
        std::thread::scope(|scope| scope.spawn(open).join())
            .unwrap_or_else(|_| Err(Error::Invalid("making a network namespace panicked".into())))
    }

    pub fn link(&mut self, kind: Link) -> Result<()> {
        match kind {
            Link::Bridge => self.rtnl.create_bridge("bridge", "probe"),
            Link::Veth => self.rtnl.create_veth(&Veth {
                name: "veth",
                alias: "probe",
                mac: None,
                mtu: MTU,
                peer_name: "peer",
                peer_mac: None,
                peer_netns: self.namespace.as_fd(),
            }),
            Link::Vxlan => {
                let local = Ipv4Addr::LOCALHOST;
                self.rtnl.create_vxlan("vxlan", "probe", (1, 8472), local, ([2; 6], MTU))
            }
        }
    }

    pub fn rules(&mut self, part: Rules) -> Result<()> {
        let (hook, kind, stmt) = sample(part);
        let mut transaction = Transaction::new(TABLE);
        transaction.recreate_table("probe");
        if let Some(kind) = kind {
            let key = if kind == SetKind::Backends { MapKey::Number } else { MapKey::Src };
            transaction.apply(&[Op::AddSet { name: MAP.to_owned(), key, kind }]);
        }
        let rules = stmt.map(|stmt| vec![stmt]).into_iter().collect();
        let chain = Chain { name: "chain".to_owned(), hook: Some(hook), rules };
        transaction.apply(&[Op::AddChain(chain)]);
        self.nft.commit(transaction)
    }
}

/// The least that needs that part.
fn sample(part: Rules) -> (Hook, Option<SetKind>, Option<Stmt>) {
    let map = || MAP.to_owned();
    match part {
        Rules::Tables => (Hook::FilterForward, None, None),
        Rules::Conntrack => (Hook::FilterForward, None, Some(Stmt::CtInvalid)),
        Rules::Fib => (Hook::FilterOutput, None, Some(Stmt::DstLocal)),
        Rules::Maps => {
            let remember = Stmt::DnatRemembered { map: map(), timeout_seconds: 1 };
            (Hook::NatPrerouting, Some(SetKind::Remembered(1)), Some(remember))
        }
        Rules::Masquerade => (Hook::NatPostrouting, None, Some(Stmt::Masquerade)),
        Rules::Nat => (Hook::NatPostrouting, None, Some(Stmt::Snat(Ipv4Addr::LOCALHOST))),
        Rules::Numgen => {
            let pool = Pool::Slots { map: map(), first: 0, count: 2 };
            (Hook::NatPrerouting, Some(SetKind::Backends), Some(Stmt::Dnat { pool }))
        }
        Rules::Reject => (Hook::FilterForward, None, Some(Stmt::RejectPort)),
    }
}
