//! Statements as the register machine of nf_tables runs them.
//!
//! Registers are numbered in words of four bytes from [`R0`]; every statement starts afresh there.
use ipnet::Ipv4Net;
use netplan::rule::MASQUERADE_MARK;
use netplan::{MapKey, Pool, Stmt};

use super::{
    VERDICT_ACCEPT, VERDICT_DROP, VERDICT_GOTO, VERDICT_JUMP, VERDICT_RETURN, milliseconds, verdict,
};
use crate::netlink::Buf;

const R0: u32 = 8;
const R1: u32 = 9;
const R2: u32 = 10;
const R4: u32 = 12;
const REG_VERDICT: u32 = 0;
const CMP_EQ: u32 = 0;
const CMP_NEQ: u32 = 1;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
const META_MARK: u32 = 3;
const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;
const CT_STATE: u32 = 0;
const CT_STATUS: u32 = 2;
const CT_STATE_INVALID: u32 = 1;
const CT_STATUS_DNAT: u32 = 1 << 5;
const SADDR: u32 = 12;
const DADDR: u32 = 16;
const NAT_FULLY_RANDOM: u32 = 1 << 4;
const RTN_LOCAL: u32 = 2;

pub(super) fn encode(list: &mut Buf, stmt: &Stmt) {
    match stmt {
        Stmt::Src { net, negate } => in_network(list, SADDR, *net, *negate),
        Stmt::Dst { net, negate } => in_network(list, DADDR, *net, *negate),
        Stmt::SrcLocal => local(list, 1),
        Stmt::DstLocal => local(list, 2),
        Stmt::OutLoopback => loopback(list, META_OIFNAME, CMP_EQ),
        Stmt::NotInLoopback => loopback(list, META_IIFNAME, CMP_NEQ),
        Stmt::Tcp => {
            meta(list, META_L4PROTO, R0);
            compare(list, CMP_EQ, &[libc::IPPROTO_TCP as u8]);
        }
        Stmt::CtDnat => conntrack_bit(list, CT_STATUS, CT_STATUS_DNAT),
        Stmt::CtInvalid => conntrack_bit(list, CT_STATE, CT_STATE_INVALID),
        Stmt::Marked => {
            meta(list, META_MARK, R0);
            bitwise(list, &MASQUERADE_MARK.to_ne_bytes(), &[0; 4]);
            compare(list, CMP_NEQ, &[0; 4]);
        }
        Stmt::Mark => change_mark(list, !MASQUERADE_MARK, MASQUERADE_MARK),
        Stmt::Unmark => change_mark(list, !MASQUERADE_MARK, 0),
        Stmt::InSet { key, set } => lookup(list, *key, set, None),
        Stmt::Vmap { key, map } => lookup(list, *key, map, Some(REG_VERDICT)),
        Stmt::DnatMap { key, map } => {
            lookup(list, *key, map, Some(R0));
            dnat(list, R0);
        }
        Stmt::Dnat { pool } => {
            choose(list, pool, R0);
            dnat(list, R0);
        }
        Stmt::DnatRemembered { map, timeout_seconds } => {
            lookup(list, MapKey::Src, map, Some(R2));
            remember(list, map, *timeout_seconds);
            dnat(list, R2);
        }
        Stmt::DnatRemember { map, timeout_seconds, pool } => {
            choose(list, pool, R2);
            payload(list, NETWORK_HEADER, SADDR, 4, R0);
            remember(list, map, *timeout_seconds);
            dnat(list, R2);
        }
        Stmt::Snat(ip) => {
            immediate(list, R0, &ip.octets());
            nat(list, 0, R0, None, NAT_FULLY_RANDOM);
        }
        Stmt::Masquerade => expr(list, "masq", |e| e.attr_be32(1, NAT_FULLY_RANDOM)),
        Stmt::RejectReset => expr(list, "reject", |e| {
            e.attr_be32(1, 1);
            e.attr(2, &[0]);
        }),
        Stmt::RejectPort => expr(list, "reject", |e| {
            e.attr_be32(1, 0);
            // ICMP code 3: port unreachable.
            e.attr(2, &[3]);
        }),
        Stmt::Jump(chain) => decide(list, VERDICT_JUMP, Some(chain)),
        Stmt::Goto(chain) => decide(list, VERDICT_GOTO, Some(chain)),
        Stmt::Return => decide(list, VERDICT_RETURN, None),
        Stmt::Accept => decide(list, VERDICT_ACCEPT, None),
        Stmt::Drop => decide(list, VERDICT_DROP, None),
    }
}

/// Tables of several protocols see more than IPv4.
pub(super) fn only_ipv4(list: &mut Buf) {
    meta(list, META_NFPROTO, R0);
    compare(list, CMP_EQ, &[libc::NFPROTO_IPV4 as u8]);
}

fn expr(list: &mut Buf, name: &str, fill: impl FnOnce(&mut Buf)) {
    list.nest(1, |e| {
        e.attr_str(1, name);
        e.nest(2, fill);
    });
}

fn payload(list: &mut Buf, base: u32, offset: u32, length: u32, register: u32) {
    expr(list, "payload", |e| {
        e.attr_be32(1, register);
        e.attr_be32(2, base);
        e.attr_be32(3, offset);
        e.attr_be32(4, length);
    });
}

fn meta(list: &mut Buf, key: u32, register: u32) {
    expr(list, "meta", |e| {
        e.attr_be32(1, register);
        e.attr_be32(2, key);
    });
}

/// Compares a link's name with the loopback link's.
fn loopback(list: &mut Buf, key: u32, op: u32) {
    let mut name = [0u8; 16];
    name[..2].copy_from_slice(b"lo");
    meta(list, key, R0);
    compare(list, op, &name);
}

fn compare(list: &mut Buf, op: u32, value: &[u8]) {
    expr(list, "cmp", |e| {
        e.attr_be32(1, R0);
        e.attr_be32(2, op);
        e.nest(3, |data| data.attr(1, value));
    });
}

fn bitwise(list: &mut Buf, mask: &[u8; 4], xor: &[u8; 4]) {
    expr(list, "bitwise", |e| {
        e.attr_be32(1, R0);
        e.attr_be32(2, R0);
        e.attr_be32(3, 4);
        e.nest(4, |data| data.attr(1, mask));
        e.nest(5, |data| data.attr(1, xor));
    });
}

fn in_network(list: &mut Buf, offset: u32, net: Ipv4Net, negate: bool) {
    payload(list, NETWORK_HEADER, offset, 4, R0);
    if net.prefix_len() < 32 {
        bitwise(list, &net.netmask().octets(), &[0; 4]);
    }
    let op = if negate { CMP_NEQ } else { CMP_EQ };
    compare(list, op, &net.network().octets());
}

fn local(list: &mut Buf, which: u32) {
    expr(list, "fib", |e| {
        e.attr_be32(1, R0);
        e.attr_be32(2, 3);
        e.attr_be32(3, which);
    });
    compare(list, CMP_EQ, &RTN_LOCAL.to_ne_bytes());
}

fn conntrack_bit(list: &mut Buf, key: u32, bit: u32) {
    expr(list, "ct", |e| {
        e.attr_be32(1, R0);
        e.attr_be32(2, key);
    });
    bitwise(list, &bit.to_ne_bytes(), &[0; 4]);
    compare(list, CMP_NEQ, &[0; 4]);
}

fn change_mark(list: &mut Buf, mask: u32, xor: u32) {
    meta(list, META_MARK, R0);
    bitwise(list, &mask.to_ne_bytes(), &xor.to_ne_bytes());
    expr(list, "meta", |e| {
        e.attr_be32(2, META_MARK);
        e.attr_be32(3, R0);
    });
}

/// Looks a key up; it is put in the registers from [`R0`] on.
fn lookup(list: &mut Buf, key: MapKey, set: &str, to: Option<u32>) {
    let transport = |list: &mut Buf, register: u32| {
        meta(list, META_L4PROTO, register);
        payload(list, TRANSPORT_HEADER, 2, 2, register + 1);
    };
    match key {
        MapKey::AddrProtoPort => {
            payload(list, NETWORK_HEADER, DADDR, 4, R0);
            transport(list, R1);
        }
        MapKey::ProtoPort => transport(list, R0),
        MapKey::SrcDst => {
            payload(list, NETWORK_HEADER, SADDR, 4, R0);
            payload(list, NETWORK_HEADER, DADDR, 4, R1);
        }
        MapKey::Src => payload(list, NETWORK_HEADER, SADDR, 4, R0),
        // Numbers are not in packets; see [`choose`].
        MapKey::Number => {}
    }
    expr(list, "lookup", |e| {
        e.attr_str(1, set);
        e.attr_be32(2, R0);
        if let Some(register) = to {
            e.attr_be32(3, register);
        }
    });
}

/// Puts one backend of the pool into `register` and the next.
fn choose(list: &mut Buf, pool: &Pool, register: u32) {
    match pool {
        Pool::Slots { map, first, count } => {
            expr(list, "numgen", |e| {
                e.attr_be32(1, R4);
                e.attr_be32(2, *count);
                e.attr_be32(3, 1);
                e.attr_be32(4, *first);
            });
            expr(list, "lookup", |e| {
                e.attr_str(1, map);
                e.attr_be32(2, R4);
                e.attr_be32(3, register);
            });
        }
        // Only plans have them; what is carried out has slots.
        Pool::Backends(_) => {}
    }
}

/// Stores (or renews) the client in [`R0`] with the backend in [`R2`].
fn remember(list: &mut Buf, map: &str, timeout_seconds: u32) {
    expr(list, "dynset", |e| {
        e.attr_str(1, map);
        e.attr_be32(3, 1);
        e.attr_be32(4, R0);
        e.attr_be32(5, R2);
        e.attr(6, &milliseconds(timeout_seconds));
    });
}

fn immediate(list: &mut Buf, register: u32, value: &[u8]) {
    expr(list, "immediate", |e| {
        e.attr_be32(1, register);
        e.nest(2, |data| data.attr(1, value));
    });
}

fn dnat(list: &mut Buf, register: u32) {
    nat(list, 1, register, Some(register + 1), 0);
}

fn nat(list: &mut Buf, kind: u32, address: u32, port: Option<u32>, flags: u32) {
    expr(list, "nat", |e| {
        e.attr_be32(1, kind);
        e.attr_be32(2, libc::NFPROTO_IPV4 as u32);
        e.attr_be32(3, address);
        if let Some(port) = port {
            e.attr_be32(5, port);
        }
        if flags != 0 {
            e.attr_be32(7, flags);
        }
    });
}

fn decide(list: &mut Buf, code: i32, chain: Option<&str>) {
    expr(list, "immediate", |e| {
        e.attr_be32(1, REG_VERDICT);
        e.nest(2, |data| verdict(data, code, chain));
    });
}
