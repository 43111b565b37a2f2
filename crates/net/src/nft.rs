//! Packet rules in the kernel: nftables over netlink, one transaction per change.
//!
//! Knows the wire format of what `netplan` can say. A transaction is applied whole or not at all.
mod expr;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};

use netplan::{Chain, Hook, KeyPart, MapKey, Op, Rule, SetKind, Value};

use crate::config::{Error, Result};
use crate::netlink::{
    Answer, Buf, Message, NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP, Socket, as_text, attr, attrs,
    kernel_error,
};

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEWTABLE: u16 = 0;
const GETTABLE: u16 = 1;
const DELTABLE: u16 = 2;
const NEWCHAIN: u16 = 3;
const DELCHAIN: u16 = 5;
const NEWRULE: u16 = 6;
const DELRULE: u16 = 8;
const NEWSET: u16 = 9;
const GETSET: u16 = 10;
const DELSET: u16 = 11;
const NEWSETELEM: u16 = 12;
const GETSETELEM: u16 = 13;
const DELSETELEM: u16 = 14;

const TABLE_NAME: u16 = 1;
const TABLE_USERDATA: u16 = 6;
const ELEMENT_EXPIRATION: u16 = 5;
const SET_MAP: u32 = 8;
const SET_TIMEOUT: u32 = 0x10;
const SET_EVAL: u32 = 0x20;
const DATA_VERDICT: u32 = 0xffff_ff00;
const VERDICT_JUMP: i32 = -3;
const VERDICT_GOTO: i32 = -4;
const VERDICT_RETURN: i32 = -5;
const VERDICT_DROP: i32 = 0;
const VERDICT_ACCEPT: i32 = 1;
/// Types as `nft` numbers them, for its listings only.
const TYPE_ADDR: u32 = 7;
const TYPE_PROTO: u32 = 12;
const TYPE_PORT: u32 = 13;
const TYPE_MARK: u32 = 19;
/// Elements per message: an attribute cannot be longer than 64 KiB.
const ELEMENTS_PER_MESSAGE: usize = 400;
/// The kernel's limit for a table's comment, and other programs' for a rule's.
const COMMENT_BYTES: usize = 128;

/// A chain of somebody else's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub family: u8,
    pub table: String,
    pub chain: String,
}

/// A transaction on one table, as it is being written.
pub(crate) struct Transaction {
    table: String,
    buf: Buf,
    sequence: u32,
    set_id: u32,
    /// What each message was for, by sequence number.
    what: Vec<String>,
}

impl Transaction {
    pub(crate) fn new(table: &str) -> Transaction {
        let mut this = Transaction {
            table: table.to_owned(),
            buf: Buf::default(),
            sequence: 0,
            set_id: 0,
            what: Vec::new(),
        };
        this.batch_mark(BATCH_BEGIN, "commit the packet rules");
        this
    }

    /// Makes an empty table, whether there was one or not.
    pub(crate) fn recreate_table(&mut self, comment: &str) {
        self.add_table(comment);
        self.delete_table();
        self.add_table(comment);
    }

    pub(crate) fn delete_table(&mut self) {
        let table = self.table.clone();
        self.message(DELTABLE, 0, "delete the table", |buf| buf.attr_str(TABLE_NAME, &table));
    }

    fn add_table(&mut self, comment: &str) {
        let table = self.table.clone();
        self.message(NEWTABLE, NLM_F_CREATE, "create the table", |buf| {
            buf.attr_str(TABLE_NAME, &table);
            buf.attr(TABLE_USERDATA, &comment_bytes(comment));
        });
    }

    pub(crate) fn apply(&mut self, ops: &[Op]) {
        for op in ops {
            match op {
                Op::AddChain(chain) => self.add_chain(chain),
                Op::AddSet { name, key, kind } => self.add_set(name, *key, *kind),
                Op::SetRules { chain, rules } => self.set_rules(chain, rules),
                Op::DeleteChain(chain) => self.named(DELCHAIN, "delete chain", 3, chain),
                Op::DeleteSet(set) => self.named(DELSET, "delete map", 2, set),
                Op::AddElements { set, elements } => self.elements(NEWSETELEM, set, elements),
                Op::DeleteElements { set, elements } => self.elements(DELSETELEM, set, elements),
            }
        }
    }

    pub(crate) fn forget_clients(&mut self, map: &str, clients: &[Ipv4Addr]) {
        for part in clients.chunks(ELEMENTS_PER_MESSAGE) {
            self.element_message(DELSETELEM, map, part, |buf, client| {
                buf.nest(1, |key| key.attr(1, &client.octets()));
            });
        }
    }

    /// Puts clients of before into a memory that has just been made.
    pub(crate) fn remember_clients(&mut self, map: &str, clients: &[Remembered]) {
        for part in clients.chunks(ELEMENTS_PER_MESSAGE) {
            self.element_message(NEWSETELEM, map, part, |buf, it| {
                buf.nest(1, |key| key.attr(1, &it.client.octets()));
                buf.nest(2, |data| data.attr(1, &backend_bytes(&it.backend)));
                buf.attr(ELEMENT_EXPIRATION, &it.left_ms.to_be_bytes());
            });
        }
    }

    /// Puts a rule at the head of a chain of somebody else's.
    pub(crate) fn insert_rule(&mut self, place: &Place, rule: &Rule, comment: &str) {
        let what = format!("add a rule to chain {}", place.chain);
        self.message_in(place.family, NEWRULE, NLM_F_CREATE, &what, |buf| {
            buf.attr_str(1, &place.table);
            buf.attr_str(2, &place.chain);
            buf.nest(4, |list| {
                if i32::from(place.family) != libc::NFPROTO_IPV4 {
                    expr::only_ipv4(list);
                }
                for stmt in rule {
                    expr::encode(list, stmt);
                }
            });
            buf.attr(7, &comment_bytes(comment));
        });
    }

    pub(crate) fn delete_rule(&mut self, place: &Place, handle: u64) {
        let what = format!("delete a rule of chain {}", place.chain);
        self.message_in(place.family, DELRULE, 0, &what, |buf| {
            buf.attr_str(1, &place.table);
            buf.attr_str(2, &place.chain);
            buf.attr(3, &handle.to_be_bytes());
        });
    }

    /// A chain as other programs make them.
    #[cfg(test)]
    pub(crate) fn foreign(&mut self, place: &Place, hook: i32, policy: u32) {
        self.message_in(place.family, NEWTABLE, NLM_F_CREATE, "create the table", |buf| {
            buf.attr_str(TABLE_NAME, &place.table);
        });
        self.message_in(place.family, NEWCHAIN, NLM_F_CREATE, "create the chain", |buf| {
            buf.attr_str(1, &place.table);
            buf.attr_str(3, &place.chain);
            buf.nest(4, |nest| {
                nest.attr_be32(1, hook as u32);
                nest.attr_be32(2, 0);
            });
            buf.attr_be32(5, policy);
            buf.attr_str(7, "filter");
        });
    }

    fn batch_mark(&mut self, kind: u16, what: &str) {
        self.sequence += 1;
        self.what.push(what.to_owned());
        self.buf.begin(kind, 0, self.sequence);
        self.buf.put(&[0, 0, 0, SUBSYSTEM as u8]);
        self.buf.end();
    }

    fn message(&mut self, kind: u16, flags: u16, what: &str, fill: impl FnOnce(&mut Buf)) {
        self.message_in(libc::NFPROTO_IPV4 as u8, kind, flags, what, fill);
    }

    fn message_in(
        &mut self,
        family: u8,
        kind: u16,
        flags: u16,
        what: &str,
        fill: impl FnOnce(&mut Buf),
    ) {
        self.sequence += 1;
        self.what.push(what.to_owned());
        self.buf.begin(SUBSYSTEM << 8 | kind, flags, self.sequence);
        self.buf.put(&[family, 0, 0, 0]);
        fill(&mut self.buf);
        self.buf.end();
    }

    fn named(&mut self, kind: u16, what: &str, attribute: u16, name: &str) {
        let table = self.table.clone();
        self.message(kind, 0, &format!("{what} {name}"), |buf| {
            buf.attr_str(1, &table);
            buf.attr_str(attribute, name);
        });
    }

    fn add_chain(&mut self, chain: &Chain) {
        let table = self.table.clone();
        self.message(NEWCHAIN, NLM_F_CREATE, &format!("create chain {}", chain.name), |buf| {
            buf.attr_str(1, &table);
            buf.attr_str(3, &chain.name);
            if let Some(hook) = chain.hook {
                let (kind, number, priority) = hook_numbers(hook);
                buf.nest(4, |hook| {
                    hook.attr_be32(1, number);
                    hook.attr_be32(2, priority as u32);
                });
                buf.attr_str(7, kind);
            }
        });
        for rule in &chain.rules {
            self.add_rule(&chain.name, rule);
        }
    }

    fn set_rules(&mut self, chain: &str, rules: &[Rule]) {
        self.named(DELRULE, "empty chain", 2, chain);
        for rule in rules {
            self.add_rule(chain, rule);
        }
    }

    fn add_rule(&mut self, chain: &str, rule: &Rule) {
        let table = self.table.clone();
        let flags = NLM_F_CREATE | NLM_F_APPEND;
        self.message(NEWRULE, flags, &format!("add a rule to chain {chain}"), |buf| {
            buf.attr_str(1, &table);
            buf.attr_str(2, chain);
            buf.nest(4, |list| {
                for stmt in rule {
                    expr::encode(list, stmt);
                }
            });
        });
    }

    fn add_set(&mut self, name: &str, key: MapKey, kind: SetKind) {
        let table = self.table.clone();
        self.set_id += 1;
        let id = self.set_id;
        let (key_type, key_bytes) = key_shape(key);
        self.message(NEWSET, NLM_F_CREATE, &format!("create map {name}"), |buf| {
            buf.attr_str(1, &table);
            buf.attr_str(2, name);
            let flags = match kind {
                SetKind::Members => 0,
                SetKind::Verdicts | SetKind::Backends => SET_MAP,
                SetKind::Remembered(_) => SET_MAP | SET_TIMEOUT | SET_EVAL,
            };
            buf.attr_be32(3, flags);
            buf.attr_be32(4, key_type);
            buf.attr_be32(5, key_bytes);
            match kind {
                SetKind::Members => {}
                SetKind::Verdicts => buf.attr_be32(6, DATA_VERDICT),
                SetKind::Backends | SetKind::Remembered(_) => {
                    buf.attr_be32(6, TYPE_ADDR << 6 | TYPE_PORT);
                    buf.attr_be32(7, 8);
                }
            }
            buf.attr_be32(10, id);
            if let SetKind::Remembered(seconds) = kind {
                buf.attr(11, &milliseconds(seconds));
                // Bounds what clients can make the kernel remember.
                buf.nest(9, |desc| desc.attr_be32(1, REMEMBERED_CLIENTS));
            }
        });
    }

    fn elements(&mut self, kind: u16, set: &str, elements: &[(Vec<KeyPart>, Value)]) {
        for part in elements.chunks(ELEMENTS_PER_MESSAGE) {
            self.element_message(kind, set, part, |buf, (key, value)| {
                buf.nest(1, |data| data.attr(1, &key_bytes(key)));
                match value {
                    Value::Member => {}
                    Value::Goto(chain) => {
                        buf.nest(2, |data| verdict(data, VERDICT_GOTO, Some(chain)));
                    }
                    Value::Drop => buf.nest(2, |data| verdict(data, VERDICT_DROP, None)),
                    Value::Backend(at) => buf.nest(2, |data| data.attr(1, &backend_bytes(at))),
                }
            });
        }
    }

    fn element_message<T>(
        &mut self,
        kind: u16,
        set: &str,
        elements: &[T],
        fill: impl Fn(&mut Buf, &T),
    ) {
        let table = self.table.clone();
        let verb = if kind == DELSETELEM { "delete elements of" } else { "add elements to" };
        self.message(kind, NLM_F_CREATE, &format!("{verb} map {set}"), |buf| {
            buf.attr_str(1, &table);
            buf.attr_str(2, set);
            buf.nest(3, |list| {
                for element in elements {
                    list.nest(1, |buf| fill(buf, element));
                }
            });
        });
    }
}

/// A rules socket of one network namespace.
pub(crate) struct Nft {
    socket: Socket,
}

impl Nft {
    /// In the calling thread's network namespace.
    pub(crate) fn open() -> Result<Nft> {
        Ok(Nft { socket: Socket::open(libc::NETLINK_NETFILTER as isize)? })
    }

    pub(crate) fn commit(&mut self, mut transaction: Transaction) -> Result<()> {
        // One acknowledgement, of the last message, tells that all went well.
        transaction.buf.acknowledge_last();
        transaction.batch_mark(BATCH_END, "commit the packet rules");
        let answers = self.socket.batch(&transaction.buf)?;
        let failed = |answer: &&Answer| answer.errno != 0;
        if let Some(answer) = answers.iter().find(failed) {
            let index = (answer.sequence as usize).saturating_sub(1);
            let what = transaction.what.get(index).map_or("change the packet rules", |w| w);
            let table = &transaction.table;
            let what = format!("cannot {what} in nftables table {table}");
            return Err(kernel_error(&what, answer.errno, &answer.reason));
        }
        if answers.is_empty() {
            return Err(Error::Invalid("the kernel did not acknowledge the packet rules".into()));
        }
        Ok(())
    }

    /// By which listeners know its changes.
    pub(crate) fn port(&self) -> Result<u32> {
        self.socket.port()
    }

    pub(crate) fn query(&mut self, what: &str, buf: Buf) -> Result<Vec<Message>> {
        self.socket.query(what, buf)
    }

    /// The IPv4 tables with their comments.
    pub(crate) fn tables(&mut self) -> Result<Vec<(String, String)>> {
        let buf = request(GETTABLE, NLM_F_DUMP);
        let answers = self.socket.query("cannot list nftables tables", buf)?;
        let parse = |body: &[u8]| {
            let tail = body.get(4..)?;
            let name = as_text(attr(tail, TABLE_NAME)?);
            let comment = attr(tail, TABLE_USERDATA).and_then(|data| data.get(2..)).map(as_text);
            Some((name, comment.unwrap_or_default()))
        };
        Ok(answers.iter().filter_map(|m| parse(&m.body)).collect())
    }

    /// The names of a table's sets and maps; none without the table.
    pub(crate) fn sets(&mut self, table: &str) -> Result<BTreeSet<String>> {
        let mut buf = request(GETSET, NLM_F_DUMP);
        buf.attr_str(1, table);
        let answers = match self.socket.query("cannot list nftables maps", buf) {
            Err(Error::Kernel { errno: libc::ENOENT, .. }) => Vec::new(),
            other => other?,
        };
        let name = |body: &[u8]| Some(as_text(attr(body.get(4..)?, 2)?));
        Ok(answers.iter().filter_map(|m| name(&m.body)).collect())
    }

    /// The clients in a memory.
    pub(crate) fn clients(&mut self, table: &str, map: &str) -> Result<Vec<Remembered>> {
        let mut buf = request(GETSETELEM, NLM_F_DUMP);
        buf.attr_str(1, table);
        buf.attr_str(2, map);
        let answers = self.socket.query(&format!("cannot list map {map}"), buf)?;
        let lists = answers.iter().filter_map(|m| attr(m.body.get(4..)?, 3));
        let elements = lists.flat_map(attrs);
        Ok(elements.filter_map(|(_, element)| remembered(element)).collect())
    }
}

/// How many clients one Service port remembers at most.
const REMEMBERED_CLIENTS: u32 = 65_536;

/// A client that a memory has.
pub(crate) struct Remembered {
    pub client: Ipv4Addr,
    pub backend: SocketAddrV4,
    /// Until it is forgotten.
    pub left_ms: u64,
}

fn remembered(element: &[u8]) -> Option<Remembered> {
    let value = |kind| attr(element, kind).and_then(|data| attr(data, 1));
    let left = attr(element, ELEMENT_EXPIRATION)?;
    Some(Remembered {
        client: address(value(1)?)?,
        backend: backend(value(2)?)?,
        left_ms: u64::from_be_bytes(left.try_into().ok()?),
    })
}

fn request(kind: u16, flags: u16) -> Buf {
    request_in(libc::NFPROTO_IPV4 as u8, kind, flags)
}

pub(crate) fn request_in(family: u8, kind: u16, flags: u16) -> Buf {
    let mut buf = Buf::request(SUBSYSTEM << 8 | kind, flags);
    buf.put(&[family, 0, 0, 0]);
    buf
}

/// A comment is one type-length-value of type 0.
fn comment_bytes(comment: &str) -> Vec<u8> {
    let text = &comment.as_bytes()[..comment.len().min(COMMENT_BYTES)];
    let mut bytes = vec![0, text.len() as u8 + 1];
    bytes.extend_from_slice(text);
    bytes.push(0);
    bytes
}

pub(crate) fn as_be32(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

fn hook_numbers(hook: Hook) -> (&'static str, u32, i32) {
    match hook {
        Hook::RawPrerouting => ("filter", libc::NF_INET_PRE_ROUTING as u32, -300),
        Hook::NatPrerouting => ("nat", libc::NF_INET_PRE_ROUTING as u32, -100),
        Hook::NatOutput => ("nat", libc::NF_INET_LOCAL_OUT as u32, -100),
        Hook::NatPostrouting => ("nat", libc::NF_INET_POST_ROUTING as u32, 100),
        Hook::FilterForward => ("filter", libc::NF_INET_FORWARD as u32, 0),
        Hook::FilterOutput => ("filter", libc::NF_INET_LOCAL_OUT as u32, 0),
    }
}

fn key_shape(key: MapKey) -> (u32, u32) {
    match key {
        MapKey::AddrProtoPort => ((TYPE_ADDR << 6 | TYPE_PROTO) << 6 | TYPE_PORT, 12),
        MapKey::ProtoPort => (TYPE_PROTO << 6 | TYPE_PORT, 8),
        MapKey::SrcDst => (TYPE_ADDR << 6 | TYPE_ADDR, 8),
        MapKey::Src => (TYPE_ADDR, 4),
        MapKey::Number => (TYPE_MARK, 4),
    }
}

/// Each part of a key is padded to four bytes.
fn key_bytes(key: &[KeyPart]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(12);
    for part in key {
        match part {
            KeyPart::Addr(ip) => bytes.extend_from_slice(&ip.octets()),
            KeyPart::Proto(proto) => bytes.extend_from_slice(&[proto.number(), 0, 0, 0]),
            KeyPart::Number(number) => bytes.extend_from_slice(&number.to_ne_bytes()),
            KeyPart::Port(port) => {
                bytes.extend_from_slice(&port.to_be_bytes());
                bytes.extend_from_slice(&[0, 0]);
            }
        }
    }
    bytes
}

fn backend_bytes(at: &SocketAddrV4) -> Vec<u8> {
    key_bytes(&[KeyPart::Addr(*at.ip()), KeyPart::Port(at.port())])
}

fn backend(bytes: &[u8]) -> Option<SocketAddrV4> {
    let port = u16::from_be_bytes(bytes.get(4..6)?.try_into().ok()?);
    Some(SocketAddrV4::new(address(bytes.get(..4)?)?, port))
}

fn address(bytes: &[u8]) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?))
}

fn milliseconds(seconds: u32) -> [u8; 8] {
    (u64::from(seconds) * 1000).to_be_bytes()
}

fn verdict(buf: &mut Buf, code: i32, chain: Option<&str>) {
    buf.nest(2, |verdict| {
        verdict.attr_be32(1, code as u32);
        if let Some(chain) = chain {
            verdict.attr_str(2, chain);
        }
    });
}
