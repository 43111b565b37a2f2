//! Firewalls that are not ours.
//!
//! A packet has to get through every chain at its hook: what our rules let pass, a chain of
//! another table may still drop (Docker's, or that of a firewall program). So each chain that
//! drops what it knows nothing of gets rules at its head that accept the cluster's own packets. A
//! comment marks them as ours, so that they can be found again and removed.
use std::fmt::Write;
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;

use ipnet::Ipv4Net;
use netplan::{Rule, Stmt};

use tokio::io::Interest;
use tokio::net::UnixDatagram;

use crate::config::Result;
use crate::netlink::{Buf, Message, NLM_F_DUMP, Socket, allow, as_text, attr, attrs, io_error};
use crate::nft::{Nft, Place, Transaction, as_be32};

const GETCHAIN: u16 = 4;
const GETRULE: u16 = 7;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const RULE_HANDLE: u16 = 3;
const RULE_EXPRESSIONS: u16 = 4;
const RULE_USERDATA: u16 = 7;
const DROP: u32 = 0;
const WAIT: &str = "cannot wait for changed packet rules";
const RULES_GROUP: u32 = 7;
/// New and deleted tables, chains and rules.
const RULES_CHANGED: [u16; 6] = [0, DELTABLE, 3, 5, 6, 8];
const DELTABLE: u16 = 2;

/// Where packets are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hook {
    Input,
    Forward,
}

/// A chain at one of the hooks.
struct Chain {
    place: Place,
    hook: Hook,
    drops: bool,
}

struct Seen {
    handle: u64,
    comment: String,
    /// Nothing gets past it.
    closing: bool,
}

/// What has to get through other people's chains.
pub(crate) struct Passes {
    /// How the rules are marked.
    pub mark: String,
    /// To and from these networks through this machine.
    pub networks: Vec<Ipv4Net>,
    /// To these addresses of this machine from those networks.
    pub own: Vec<Ipv4Addr>,
}

impl Passes {
    fn rules(&self, hook: Hook) -> Vec<Rule> {
        let from = |net: &Ipv4Net| Stmt::Src { net: *net, negate: false };
        let to = |net: Ipv4Net| Stmt::Dst { net, negate: false };
        match hook {
            Hook::Forward => self
                .networks
                .iter()
                .flat_map(|net| [vec![from(net), Stmt::Accept], vec![to(*net), Stmt::Accept]])
                .collect(),
            Hook::Input => {
                let pairs =
                    self.networks.iter().flat_map(|net| self.own.iter().map(move |own| (net, own)));
                pairs.map(|(net, own)| vec![from(net), to((*own).into()), Stmt::Accept]).collect()
            }
        }
    }

    fn comment(&self, rule: &Rule) -> String {
        let mut text = format!("{}:", self.mark);
        for stmt in rule {
            let _ = write!(text, " {stmt}");
        }
        text
    }
}

/// Lets the cluster's packets through. Chains that are as they should be are not touched.
pub(crate) fn open(nft: &mut Nft, passes: &Passes) -> Result<()> {
    let own = format!("{}:", passes.mark);
    for chain in chains(nft)? {
        let seen = rules(nft, &chain.place)?;
        let shut = chain.drops || seen.last().is_some_and(|rule| rule.closing);
        let wanted = if shut { passes.rules(chain.hook) } else { Vec::new() };
        let comments: Vec<String> = wanted.iter().map(|rule| passes.comment(rule)).collect();
        let ours = |rule: &&Seen| rule.comment.starts_with(&own);
        // Others of Kybern's may come first: if each wanted to be the very first, none would rest.
        let foreign = |rule: &&Seen| !rule.comment.starts_with(crate::names::TABLES);
        let rest = seen.iter().filter(|rule| ours(rule) || foreign(rule));
        let at_head = rest.map(|rule| &rule.comment).take(comments.len()).eq(&comments);
        if at_head && seen.iter().filter(ours).count() == comments.len() {
            continue;
        }
        let mut transaction = Transaction::new(&chain.place.table);
        for rule in seen.iter().filter(ours) {
            transaction.delete_rule(&chain.place, rule.handle);
        }
        for (rule, comment) in wanted.iter().zip(&comments).rev() {
            transaction.insert_rule(&chain.place, rule, comment);
        }
        if let Err(error) = nft.commit(transaction) {
            let Place { table, chain, .. } = &chain.place;
            let networks: Vec<String> = passes.networks.iter().map(Ipv4Net::to_string).collect();
            tracing::warn!(
                %error, table, chain,
                "a firewall drops packets of pods and cannot be opened here: let it accept what \
                 goes to and comes from {}",
                networks.join(" and ")
            );
        }
    }
    Ok(())
}

/// Removes what [`open`] has inserted anywhere under one of the marks.
pub(crate) fn close(nft: &mut Nft, marks: &[String]) -> Result<()> {
    let ours = |rule: &&Seen| {
        let mark = rule.comment.split(':').next().unwrap_or_default();
        marks.iter().any(|own| own == mark)
    };
    for chain in chains(nft)? {
        let seen = rules(nft, &chain.place)?;
        let mut transaction = Transaction::new(&chain.place.table);
        for rule in seen.iter().filter(ours) {
            transaction.delete_rule(&chain.place, rule.handle);
        }
        if seen.iter().any(|rule| ours(&rule)) {
            // Gone meanwhile is as wanted.
            allow(nft.commit(transaction), &[libc::ENOENT])?;
        }
    }
    Ok(())
}

/// Hears when somebody else changes packet rules.
pub(crate) struct Watch {
    socket: Socket,
    /// The same socket: what waits for datagrams does not mind whose they are.
    waiting: UnixDatagram,
}

impl Watch {
    /// In the calling thread's network namespace.
    pub(crate) fn open() -> Result<Watch> {
        let socket = Socket::listen(libc::NETLINK_NETFILTER as isize, RULES_GROUP)?;
        let wait = || UnixDatagram::from_std(socket.as_fd().try_clone_to_owned()?.into());
        let waiting = wait().map_err(io_error(WAIT))?;
        Ok(Watch { socket, waiting })
    }

    /// Returns after tables, chains or rules were changed by another socket than that one.
    /// Cancelled, it has missed nothing.
    pub(crate) async fn changed(&mut self, own: u32) -> Result<()> {
        loop {
            self.waiting.readable().await.map_err(io_error(WAIT))?;
            let mut heard = Ok(Some(Vec::new()));
            // Everything is read at once, so nothing is left to wait for.
            let _ = self.waiting.try_io(Interest::READABLE, || {
                heard = self.socket.heard();
                Err::<(), _>(ErrorKind::WouldBlock.into())
            });
            let other = |m: &Message| m.port != own && matters(m);
            if heard?.is_none_or(|heard| heard.iter().any(other)) {
                return Ok(());
            }
        }
    }
}

/// Whether it is about other programs' rules, or a table of ours (or of another cluster) that went.
fn matters(message: &Message) -> bool {
    let kind = message.kind & 0xff;
    let table = message.body.get(4..).and_then(|tail| attr(tail, CHAIN_TABLE)).map(as_text);
    let ours = table.is_some_and(|table| table.starts_with(crate::names::TABLES));
    RULES_CHANGED.contains(&kind) && (!ours || kind == DELTABLE)
}

/// Other people's chains that filter what comes in or goes through.
fn chains(nft: &mut Nft) -> Result<Vec<Chain>> {
    let buf = crate::nft::request_in(libc::NFPROTO_UNSPEC as u8, GETCHAIN, NLM_F_DUMP);
    let answers = nft.query("cannot list nftables chains", buf)?;
    Ok(answers.iter().filter_map(|message| chain(&message.body)).collect())
}

fn chain(body: &[u8]) -> Option<Chain> {
    let (family, tail) = (*body.first()?, body.get(4..)?);
    let ip = [libc::NFPROTO_IPV4, libc::NFPROTO_INET].iter().any(|f| *f as u8 == family);
    let table = as_text(attr(tail, CHAIN_TABLE)?);
    let hook = match as_be32(attr(attr(tail, CHAIN_HOOK)?, 1)?)? as i32 {
        libc::NF_INET_LOCAL_IN => Hook::Input,
        libc::NF_INET_FORWARD => Hook::Forward,
        _ => return None,
    };
    let drops = attr(tail, CHAIN_POLICY).and_then(as_be32) == Some(DROP);
    let place = Place { family, chain: as_text(attr(tail, CHAIN_NAME)?), table };
    (ip && !place.table.starts_with(crate::names::TABLES)).then_some(Chain { place, hook, drops })
}

fn rules(nft: &mut Nft, place: &Place) -> Result<Vec<Seen>> {
    let mut buf: Buf = crate::nft::request_in(place.family, GETRULE, NLM_F_DUMP);
    buf.attr_str(1, &place.table);
    buf.attr_str(2, &place.chain);
    let answers = nft.query(&format!("cannot list chain {}", place.chain), buf)?;
    Ok(answers.iter().filter_map(|message| seen(message.body.get(4..)?)).collect())
}

fn seen(rule: &[u8]) -> Option<Seen> {
    let handle = u64::from_be_bytes(attr(rule, RULE_HANDLE)?.try_into().ok()?);
    let userdata = attr(rule, RULE_USERDATA).unwrap_or_default();
    let comment = match userdata {
        [0, length, text @ ..] => text.get(..usize::from(*length)).map(as_text),
        _ => None,
    };
    let expressions = attr(rule, RULE_EXPRESSIONS).unwrap_or_default();
    let mut names = attrs(expressions).map(|(_, e)| (attr(e, 1).map(as_text), attr(e, 2)));
    let mut drops = false;
    let unconditional = names.all(|(name, data)| match name.as_deref() {
        Some("counter" | "log") => true,
        Some("reject") => {
            drops = true;
            true
        }
        Some("immediate") => {
            let verdict = data.and_then(|data| attr(attr(attr(data, 2)?, 2)?, 1));
            drops = verdict.and_then(as_be32) == Some(DROP);
            drops
        }
        _ => false,
    });
    Some(Seen { handle, comment: comment.unwrap_or_default(), closing: unconditional && drops })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::fixture::{Node, Ns, PATIENCE, at, root};
    use crate::{NodeNet, nft};

    fn table(ns: &Ns, family: i32, policy: u32, closing: bool) -> Vec<Place> {
        ns.run(|| {
            let place = |chain: &str| Place {
                family: family as u8,
                table: "filter".to_owned(),
                chain: chain.to_owned(),
            };
            let places = vec![place("INPUT"), place("FORWARD")];
            let mut transaction = Transaction::new("filter");
            transaction.foreign(&places[0], libc::NF_INET_LOCAL_IN, policy);
            transaction.foreign(&places[1], libc::NF_INET_FORWARD, policy);
            for place in places.iter().filter(|_| closing) {
                transaction.insert_rule(place, &vec![Stmt::RejectPort], "somebody's");
            }
            Nft::open().unwrap().commit(transaction).unwrap();
            places
        })
    }

    fn comments(ns: &Ns, places: &[Place]) -> Vec<String> {
        let mut nft = ns.run(|| nft::Nft::open().unwrap());
        let all = places.iter().flat_map(|place| rules(&mut nft, place).unwrap());
        all.map(|rule| rule.comment).collect()
    }

    #[test]
    fn pods_pass_firewalls_that_know_nothing_of_them() {
        if !root() {
            return;
        }
        let (ip, inet) = (libc::NFPROTO_IPV4, libc::NFPROTO_INET);
        for (family, policy, closing) in [(ip, DROP, false), (inet, DROP, false), (ip, 1, true)] {
            let ns = Ns::new();
            let places = table(&ns, family, policy, closing);
            let before = comments(&ns, &places);
            let node = Node::start(ns, "node-1", "127.0.0.1", "10.244.0.0/24");
            let (a, b) = (node.pod("a", &[]), node.pod("b", &[]));
            let answer = a.ns.ask(at(&b.ip.to_string(), 80)).unwrap();
            assert_eq!(answer, format!("b {}", a.ip));
            node.ns.serve("node", 53);
            assert!(a.ns.ask_udp(at("10.244.0.1", 53)).unwrap().starts_with("node"));
            let opened = comments(&node.ns, &places);
            assert_eq!(opened.len(), before.len() + 3, "{opened:?}");
            // Once more, as after a restart.
            let Node { ns, net, dir } = node;
            let config = net.config().clone();
            drop(net);
            ns.run(|| NodeNet::start(config)).unwrap();
            assert_eq!(comments(&ns, &places), opened);
            for _ in 0..2 {
                ns.run(|| crate::cleanup("t1", dir.path())).unwrap();
                assert_eq!(comments(&ns, &places), before);
            }
        }
    }

    #[test]
    fn several_who_open_a_firewall_come_to_rest() {
        if !root() {
            return;
        }
        let ns = Ns::new();
        let places = table(&ns, libc::NFPROTO_IPV4, DROP, false);
        let mut nft = ns.run(|| Nft::open().unwrap());
        let passes = |mark: &str| Passes {
            mark: mark.to_owned(),
            networks: vec!["10.244.0.0/16".parse().unwrap()],
            own: vec![Ipv4Addr::new(10, 244, 0, 1)],
        };
        let all = [passes("kybern-a"), passes("kybern-a-lab"), passes("kybern-b")];
        for passes in &all {
            open(&mut nft, passes).unwrap();
        }
        let mut handles = || -> Vec<u64> {
            let all = places.iter().flat_map(|place| rules(&mut nft, place).unwrap());
            all.map(|rule| rule.handle).collect()
        };
        let rest = handles();
        assert_eq!(rest.len(), 9);
        let mut again = ns.run(|| Nft::open().unwrap());
        for passes in &all {
            open(&mut again, passes).unwrap();
        }
        assert_eq!(handles(), rest, "nothing was to be done");
        // A rule of somebody else's before ours is another matter.
        let mut transaction = Transaction::new("filter");
        transaction.insert_rule(&places[1], &vec![Stmt::CtInvalid, Stmt::Drop], "somebody's");
        again.commit(transaction).unwrap();
        open(&mut again, &all[0]).unwrap();
        let comments = comments(&ns, &places[1..]);
        assert!(comments[0].starts_with("kybern-a:"), "{comments:?}");
        close(&mut again, &["kybern-a".to_owned(), "kybern-a-lab".to_owned()]).unwrap();
        assert_eq!(handles().len(), 4, "the other cluster's, and somebody's");
    }

    /// Tries until it works; fails when patience ends.
    fn eventually(what: &str, mut attempt: impl FnMut() -> bool) {
        let started = std::time::Instant::now();
        while !attempt() {
            assert!(started.elapsed() < PATIENCE, "still not: {what}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_others_do_to_packet_rules_is_mended() {
        if !root() {
            return;
        }
        let node = Node::alone();
        let (a, b) = (node.pod("a", &[]), node.pod("b", &[]));
        let (events, receiver) = tokio::sync::mpsc::unbounded_channel();
        let (net, path) = (node.net.clone(), node.ns.path());
        let task = std::thread::spawn(move || {
            crate::hostlab::enter(&path).unwrap();
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(crate::run(net, receiver, Vec::new())).unwrap();
        });
        events.send(crate::NetEvent::Synced).unwrap();
        let mut other = node.ns.run(|| Nft::open().unwrap());
        let mut there = || {
            let tables = other.tables().unwrap();
            tables.iter().any(|(table, comment)| table == "kybern-t1" && comment.contains("10.96"))
        };
        eventually("the rules are there", &mut there);
        let mut transaction = Transaction::new("kybern-t1");
        transaction.delete_table();
        node.ns.run(|| Nft::open().unwrap()).commit(transaction).unwrap();
        eventually("the rules are there again", &mut there);
        let places = table(&node.ns, libc::NFPROTO_IPV4, DROP, false);
        eventually("the firewall is open", || comments(&node.ns, &places).len() == 3);
        assert!(a.ns.ask(at(&b.ip.to_string(), 80)).is_ok());
        drop(events);
        task.join().unwrap();
    }

    #[test]
    fn an_open_firewall_is_left_alone() {
        if !root() {
            return;
        }
        let ns = Ns::new();
        let places = table(&ns, libc::NFPROTO_IPV4, 1, false);
        let node = Node::start(ns, "node-1", "127.0.0.1", "10.244.0.0/24");
        assert!(comments(&node.ns, &places).is_empty());
    }
}
