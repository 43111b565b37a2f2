//! `ip addr`, `ip link`, `ip route`: shows what `/proc` knows; changes nothing.
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::common::{Done, Fault, about, out, usage};

pub(crate) fn main(args: &[String]) -> Done {
    let mut words: Vec<&str> = args[1..].iter().map(String::as_str).collect();
    let family = words.iter().find(|w| matches!(**w, "-4" | "-6")).copied();
    words.retain(|w| !w.starts_with('-'));
    let shows = |words: &[&str]| {
        let verb = words.get(1).copied().unwrap_or("show");
        matches!(verb, "show" | "list" | "s" | "ls" | "l")
    };
    match words.first().copied() {
        Some("a" | "addr" | "address") if shows(&words) => addresses(&words, family, true),
        Some("l" | "link") if shows(&words) => addresses(&words, family, false),
        Some("r" | "route") if shows(&words) && family == Some("-6") => routes6(),
        Some("r" | "route") if shows(&words) => routes(),
        _ => Err(usage("usage: ip [-4 | -6] addr | link | route [show [dev NAME]]")),
    }
}

/// A line of `/proc/net/route`.
struct Route {
    device: String,
    to: u32,
    via: u32,
    mask: u32,
}

fn route_table() -> Result<Vec<Route>, Fault> {
    let text = std::fs::read_to_string("/proc/net/route").map_err(about("/proc/net/route"))?;
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        // The kernel prints the bytes as they lie in memory.
        let number = |i: usize| {
            let n = u32::from_str_radix(words.get(i)?, 16).ok()?;
            Some(u32::from_be_bytes(n.to_ne_bytes()))
        };
        let device = (*words.first()?).to_owned();
        Some(Route { device, to: number(1)?, via: number(2)?, mask: number(7)? })
    };
    Ok(text.lines().skip(1).filter_map(line).collect())
}

/// The IPv4 addresses of this host: the leaves of the routing trie that are local.
fn local_addresses(trie: &str) -> BTreeSet<Ipv4Addr> {
    let mut found = BTreeSet::new();
    let mut last: Option<Ipv4Addr> = None;
    for line in trie.lines() {
        if let Some(leaf) = line.trim_start().strip_prefix("|-- ") {
            last = leaf.parse().ok();
        } else if line.contains("/32 host LOCAL") {
            found.extend(last);
        }
    }
    found
}

/// Where an address is: the link whose network holds it, else the one that leads out.
fn link_of(address: Ipv4Addr, routes: &[Route]) -> Option<(String, u32)> {
    if address.is_loopback() {
        return Some(("lo".to_owned(), 8));
    }
    let holds = |r: &&Route| r.via == 0 && r.mask != 0 && u32::from(address) & r.mask == r.to;
    if let Some(route) = routes.iter().filter(holds).max_by_key(|r| r.mask) {
        return Some((route.device.clone(), route.mask.count_ones()));
    }
    routes.iter().find(|r| r.mask == 0).map(|route| (route.device.clone(), 32))
}

/// Addresses and their lengths by link.
fn address_table() -> Result<BTreeMap<String, Vec<(IpAddr, u32)>>, Fault> {
    let mut table: BTreeMap<String, Vec<(IpAddr, u32)>> = BTreeMap::new();
    let routes = route_table()?;
    let trie = std::fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    for address in local_addresses(&trie) {
        if let Some((link, length)) = link_of(address, &routes) {
            table.entry(link).or_default().push((address.into(), length));
        }
    }
    for line in std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default().lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [address, _, length, .., link] = words.as_slice() else { continue };
        let parsed = (u128::from_str_radix(address, 16), u32::from_str_radix(length, 16));
        if let (Ok(address), Ok(length)) = parsed {
            let address = Ipv6Addr::from(address).into();
            table.entry((*link).to_owned()).or_default().push((address, length));
        }
    }
    Ok(table)
}

fn flags(hex: &str) -> String {
    let bits = u32::from_str_radix(hex.trim_start_matches("0x"), 16).unwrap_or(0);
    let names = [
        (0x8, "LOOPBACK"),
        (0x2, "BROADCAST"),
        (0x10, "POINTOPOINT"),
        (0x1000, "MULTICAST"),
        (0x1, "UP"),
        (0x40, "LOWER_UP"),
    ];
    let set: Vec<&str> = names.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, n)| *n).collect();
    set.join(",")
}

fn addresses(words: &[&str], family: Option<&str>, all: bool) -> Done {
    let only = words.iter().skip(2).find(|w| **w != "dev").copied();
    let mut out = out()?;
    let read = |name: &str, file: &str| {
        let text = std::fs::read_to_string(format!("/sys/class/net/{name}/{file}"));
        text.map(|t| t.trim().to_owned()).unwrap_or_default()
    };
    let text = std::fs::read_to_string("/proc/net/dev").map_err(about("/proc/net/dev"))?;
    let names = text.lines().filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()));
    let mut links: Vec<(u32, String)> =
        names.map(|name| (read(&name, "ifindex").parse().unwrap_or(0), name)).collect();
    links.sort();
    links.retain(|(_, name)| only.is_none_or(|only| only == name));
    let table = address_table()?;
    for (index, name) in &links {
        let (mtu, state) = (read(name, "mtu"), read(name, "operstate").to_uppercase());
        let flags = flags(&read(name, "flags"));
        writeln!(out, "{index}: {name}: <{flags}> mtu {mtu} state {state}")?;
        let kind = if flags.contains("LOOPBACK") { "loopback" } else { "ether" };
        writeln!(out, "    link/{kind} {}", read(name, "address"))?;
        for (address, length) in table.get(name).into_iter().flatten().filter(|_| all) {
            let (word, other) = if address.is_ipv4() { ("inet", "-6") } else { ("inet6", "-4") };
            if family != Some(other) {
                let scope = if address.is_loopback() { "host" } else { "global" };
                writeln!(out, "    {word} {address}/{length} scope {scope} {name}")?;
            }
        }
    }
    out.flush()?;
    match (links.is_empty(), only) {
        (true, Some(only)) => Err(Fault::new(format!("can't find device '{only}'"))),
        _ => Ok(0),
    }
}

fn routes() -> Done {
    let mut out = out()?;
    for Route { device, to, via, mask } in route_table()? {
        let target = match mask {
            0 => "default".to_owned(),
            mask => format!("{}/{}", Ipv4Addr::from(to), mask.count_ones()),
        };
        let via = match via {
            0 => String::new(),
            via => format!(" via {}", Ipv4Addr::from(via)),
        };
        writeln!(out, "{target}{via} dev {device}")?;
    }
    out.flush()?;
    Ok(0)
}

fn routes6() -> Done {
    let text = std::fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default();
    let mut out = out()?;
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [to, length, _, _, via, .., device] = words.as_slice() else { continue };
        let ip = |hex: &str| u128::from_str_radix(hex, 16).map(Ipv6Addr::from).ok();
        let (Some(to), Some(via), Ok(length)) = (ip(to), ip(via), u32::from_str_radix(length, 16))
        else {
            continue;
        };
        let target = if length == 0 { "default".into() } else { format!("{to}/{length}") };
        let via = if via.is_unspecified() { String::new() } else { format!(" via {via}") };
        writeln!(out, "{target}{via} dev {device}")?;
    }
    out.flush()?;
    Ok(0)
}
