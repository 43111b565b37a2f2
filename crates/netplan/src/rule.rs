//! The vocabulary of rules: just what the plans need, each with its `nft` notation as `Display`.
use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};

use ipnet::Ipv4Net;

use crate::facts::Protocol;

/// The bit of the packet mark that asks for source translation.
pub const MASQUERADE_MARK: u32 = 0x4000;

/// Where a base chain is attached, in the kernel's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Before connections are tracked.
    RawPrerouting,
    NatPrerouting,
    NatOutput,
    NatPostrouting,
    FilterForward,
    FilterOutput,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    pub name: String,
    pub hook: Option<Hook>,
    pub rules: Vec<Rule>,
}

pub type Rule = Vec<Stmt>;

/// What a packet is looked up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MapKey {
    AddrProtoPort,
    ProtoPort,
    SrcDst,
    Src,
    Number,
}

/// One part of an element's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyPart {
    Addr(Ipv4Addr),
    Proto(Protocol),
    Port(u16),
    Number(u32),
}

/// What a translation chooses from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pool {
    /// As planned.
    Backends(Vec<SocketAddrV4>),
    /// As carried out: these many numbers from `first` on, in a map of endpoints.
    Slots { map: String, first: u32, count: u32 },
}

/// What an element maps to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Member,
    Goto(String),
    Drop,
    Backend(SocketAddrV4),
}

/// One match or action; a rule's statements are evaluated in order until one does not match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stmt {
    Src {
        net: Ipv4Net,
        negate: bool,
    },
    Dst {
        net: Ipv4Net,
        negate: bool,
    },
    SrcLocal,
    DstLocal,
    OutLoopback,
    /// Came in by a link, not from this machine itself.
    NotInLoopback,
    Tcp,
    CtDnat,
    CtInvalid,
    Marked,
    Mark,
    Unmark,
    InSet {
        key: MapKey,
        set: String,
    },
    Vmap {
        key: MapKey,
        map: String,
    },
    /// Translates to the backend that the map has for the packet; no match without one.
    DnatMap {
        key: MapKey,
        map: String,
    },
    /// Translates to a backend chosen at random.
    Dnat {
        pool: Pool,
    },
    /// Translates to the client's remembered backend and renews the memory; no match without one.
    DnatRemembered {
        map: String,
        timeout_seconds: u32,
    },
    /// Translates to a backend chosen at random and remembers it for the client.
    DnatRemember {
        map: String,
        timeout_seconds: u32,
        pool: Pool,
    },
    Snat(Ipv4Addr),
    Masquerade,
    RejectReset,
    RejectPort,
    Jump(String),
    Goto(String),
    Return,
    Accept,
    Drop,
}

impl Hook {
    pub fn describe(self) -> &'static str {
        match self {
            Hook::RawPrerouting => "type filter hook prerouting priority raw",
            Hook::NatPrerouting => "type nat hook prerouting priority dstnat",
            Hook::NatOutput => "type nat hook output priority dstnat",
            Hook::NatPostrouting => "type nat hook postrouting priority srcnat",
            Hook::FilterForward => "type filter hook forward priority filter",
            Hook::FilterOutput => "type filter hook output priority filter",
        }
    }
}

impl MapKey {
    pub fn expression(self) -> &'static str {
        match self {
            MapKey::AddrProtoPort => "ip daddr . meta l4proto . th dport",
            MapKey::ProtoPort => "meta l4proto . th dport",
            MapKey::SrcDst => "ip saddr . ip daddr",
            MapKey::Src => "ip saddr",
            MapKey::Number => "number",
        }
    }

    pub fn types(self) -> &'static str {
        match self {
            MapKey::AddrProtoPort => "ipv4_addr . inet_proto . inet_service",
            MapKey::ProtoPort => "inet_proto . inet_service",
            MapKey::SrcDst => "ipv4_addr . ipv4_addr",
            MapKey::Src => "ipv4_addr",
            MapKey::Number => "mark",
        }
    }
}

impl fmt::Display for KeyPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyPart::Addr(ip) => write!(f, "{ip}"),
            KeyPart::Proto(proto) => write!(f, "{proto}"),
            KeyPart::Port(port) => write!(f, "{port}"),
            KeyPart::Number(number) => write!(f, "{number}"),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Member => Ok(()),
            Value::Goto(chain) => write!(f, " : goto {chain}"),
            Value::Drop => write!(f, " : drop"),
            Value::Backend(at) => write!(f, " : {} . {}", at.ip(), at.port()),
        }
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let backends = match self {
            Pool::Slots { map, first, count } => {
                return write!(f, "numgen random mod {count} offset {first} map @{map}");
            }
            Pool::Backends(backends) => backends,
        };
        if let [only] = backends.as_slice() {
            return write!(f, "{only}");
        }
        let choices: Vec<String> = backends.iter().map(SocketAddrV4::to_string).collect();
        write!(f, "random of {{ {} }}", choices.join(", "))
    }
}

impl fmt::Display for Stmt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let not = |negate: &bool| if *negate { "!= " } else { "" };
        match self {
            Stmt::Src { net, negate } => write!(f, "ip saddr {}{net}", not(negate)),
            Stmt::Dst { net, negate } => write!(f, "ip daddr {}{net}", not(negate)),
            Stmt::SrcLocal => write!(f, "fib saddr type local"),
            Stmt::DstLocal => write!(f, "fib daddr type local"),
            Stmt::OutLoopback => write!(f, "oifname lo"),
            Stmt::NotInLoopback => write!(f, "iifname != lo"),
            Stmt::Tcp => write!(f, "meta l4proto tcp"),
            Stmt::CtDnat => write!(f, "ct status dnat"),
            Stmt::CtInvalid => write!(f, "ct state invalid"),
            Stmt::Marked => write!(f, "meta mark & {MASQUERADE_MARK:#x} != 0"),
            Stmt::Mark => write!(f, "meta mark set mark | {MASQUERADE_MARK:#x}"),
            Stmt::Unmark => write!(f, "meta mark set mark & ~{MASQUERADE_MARK:#x}"),
            Stmt::InSet { key, set } => write!(f, "{} @{set}", key.expression()),
            Stmt::Vmap { key, map } => write!(f, "{} vmap @{map}", key.expression()),
            Stmt::DnatMap { key, map } => write!(f, "dnat to {} map @{map}", key.expression()),
            Stmt::Dnat { pool } => write!(f, "dnat to {pool}"),
            Stmt::DnatRemembered { map, timeout_seconds } => {
                write!(f, "dnat to ip saddr map @{map} renew {timeout_seconds}s")
            }
            Stmt::DnatRemember { pool, .. } => {
                write!(f, "dnat to {pool} remember")
            }
            Stmt::Snat(ip) => write!(f, "snat to {ip} fully-random"),
            Stmt::Masquerade => write!(f, "masquerade fully-random"),
            Stmt::RejectReset => write!(f, "reject with tcp reset"),
            Stmt::RejectPort => write!(f, "reject with icmp port-unreachable"),
            Stmt::Jump(chain) => write!(f, "jump {chain}"),
            Stmt::Goto(chain) => write!(f, "goto {chain}"),
            Stmt::Return => write!(f, "return"),
            Stmt::Accept => write!(f, "accept"),
            Stmt::Drop => write!(f, "drop"),
        }
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "chain {} {{", self.name)?;
        if let Some(hook) = self.hook {
            writeln!(f, "  {};", hook.describe())?;
        }
        for rule in &self.rules {
            let words: Vec<String> = rule.iter().map(Stmt::to_string).collect();
            writeln!(f, "  {}", words.join(" "))?;
        }
        writeln!(f, "}}")
    }
}
