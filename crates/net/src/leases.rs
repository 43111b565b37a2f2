//! Which pod has which address, kept in a file so that a restart forgets nothing.
//!
//! Addresses are handed out in turn, so that a freed one is not used again at once.
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;
use netplan::HostPort;
use serde::{Deserialize, Serialize};

use crate::config::{Error, Result};
use crate::netlink::io_error;

const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct Contents {
    version: u32,
    network: Ipv4Net,
    last: Option<Ipv4Addr>,
    pods: BTreeMap<String, Lease>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lease {
    pub ip: Ipv4Addr,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<HostPort>,
}

pub(crate) struct Leases {
    path: PathBuf,
    contents: Contents,
}

impl Leases {
    /// Leases of another network than `network` are dropped: their pods cannot have survived.
    pub(crate) fn load(dir: &Path, network: Ipv4Net) -> Result<Leases> {
        fs::create_dir_all(dir)
            .map_err(io_error(format!("cannot create the folder {}", dir.display())))?;
        let path = dir.join("leases.json");
        let empty = Contents { version: VERSION, network, last: None, pods: BTreeMap::new() };
        let contents = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice::<Contents>(&bytes).map_err(|e| {
                let hint = "delete the file if no pod runs on this node";
                Error::Invalid(format!("{} is not readable ({e}): {hint}", path.display()))
            })?,
            Err(e) if e.kind() == ErrorKind::NotFound => empty,
            Err(e) => return Err(io_error(format!("cannot read {}", path.display()))(e)),
        };
        if contents.version != VERSION {
            let (path, version) = (path.display(), contents.version);
            let text = format!("{path} has version {version}: a newer kybern wrote it, use that");
            return Err(Error::Invalid(text));
        }
        let contents = match contents.network == network {
            true => contents,
            false => Contents { version: VERSION, network, last: None, pods: BTreeMap::new() },
        };
        Ok(Leases { path, contents })
    }

    pub(crate) fn get(&self, uid: &str) -> Option<&Lease> {
        self.contents.pods.get(uid)
    }

    pub(crate) fn all(&self) -> &BTreeMap<String, Lease> {
        &self.contents.pods
    }

    /// The pod's address: the one it has, or a free one.
    pub(crate) fn assign(&mut self, uid: &str, ports: &[HostPort]) -> Result<Ipv4Addr> {
        if let Some(lease) = self.contents.pods.get_mut(uid) {
            let ip = lease.ip;
            if lease.ports != ports {
                lease.ports = ports.to_vec();
                self.save()?;
            }
            return Ok(ip);
        }
        let ip = self.free()?;
        let lease = Lease { ip, ports: ports.to_vec() };
        self.contents.pods.insert(uid.to_owned(), lease);
        let before = self.contents.last.replace(ip);
        if let Err(e) = self.save() {
            self.contents.pods.remove(uid);
            self.contents.last = before;
            return Err(e);
        }
        Ok(ip)
    }

    pub(crate) fn release(&mut self, uid: &str) -> Result<()> {
        match self.contents.pods.remove(uid) {
            Some(_) => self.save(),
            None => Ok(()),
        }
    }

    /// The first free address after the last one given. Not given: the network's address, the
    /// node's own (the first) and the broadcast address.
    fn free(&self) -> Result<Ipv4Addr> {
        let network = self.contents.network;
        let taken: BTreeSet<Ipv4Addr> = self.contents.pods.values().map(|l| l.ip).collect();
        let first = u32::from(network.network()) + 2;
        let end = u32::from(network.broadcast());
        let start = match self.contents.last.map(u32::from) {
            Some(last) if last >= first && last + 1 < end => last + 1,
            _ => first,
        };
        let candidates = (start..end).chain(first..start).map(Ipv4Addr::from);
        candidates.into_iter().find(|ip| !taken.contains(ip)).ok_or(Error::Exhausted(network))
    }

    fn save(&self) -> Result<()> {
        let bytes = serde_json::to_vec(&self.contents).expect("leases are plain data");
        let temporary = self.path.with_extension("json.new");
        let write = || {
            fs::write(&temporary, bytes)?;
            fs::rename(&temporary, &self.path)
        };
        write().map_err(io_error(format!("cannot write {}", self.path.display())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_survive_a_restart_and_are_used_in_turn() {
        let dir = tempfile::tempdir().unwrap();
        let mut leases = Leases::load(dir.path(), net("10.244.3.0/29")).unwrap();
        let a = leases.assign("a", &[]).unwrap();
        let b = leases.assign("b", &[]).unwrap();
        assert_eq!([a, b], [Ipv4Addr::new(10, 244, 3, 2), Ipv4Addr::new(10, 244, 3, 3)]);
        leases.release("a").unwrap();
        let mut leases = Leases::load(dir.path(), net("10.244.3.0/29")).unwrap();
        assert_eq!(leases.assign("b", &[]).unwrap(), b);
        assert_eq!(leases.assign("c", &[]).unwrap(), Ipv4Addr::new(10, 244, 3, 4));
        assert_eq!(leases.assign("d", &[]).unwrap(), Ipv4Addr::new(10, 244, 3, 5));
        assert_eq!(leases.assign("e", &[]).unwrap(), Ipv4Addr::new(10, 244, 3, 6));
        assert_eq!(leases.assign("f", &[]).unwrap(), a);
        assert!(matches!(leases.assign("g", &[]), Err(Error::Exhausted(_))));
        leases.release("e").unwrap();
        assert_eq!(leases.assign("g", &[]).unwrap(), Ipv4Addr::new(10, 244, 3, 6));
    }

    #[test]
    fn another_network_starts_afresh_and_garbage_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut leases = Leases::load(dir.path(), net("10.244.3.0/24")).unwrap();
        leases.assign("a", &[]).unwrap();
        let leases = Leases::load(dir.path(), net("10.244.4.0/24")).unwrap();
        assert!(leases.all().is_empty());
        fs::write(dir.path().join("leases.json"), "{").unwrap();
        let refused = Leases::load(dir.path(), net("10.244.4.0/24")).err().unwrap();
        assert!(refused.to_string().contains("leases.json is not readable"), "{refused}");
    }
}
