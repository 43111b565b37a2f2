//! Gives each node its part of the pod network.
//!
//! All nodes are one key: two turns at once could give the same part away twice.
use api::Key;
use api::k8s::api::core::v1::Node;
use reconcile::{Controller, Effect, NoteKind, Plan, Turn, Watch, meta};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(crate) struct NodeIpam {
    networks: Vec<Network>,
}

/// A pod network that is cut into parts of one size.
struct Network {
    base: IpAddr,
    prefix: u8,
    part_prefix: u8,
}

const V6_PART_PREFIX: u8 = 64;
/// Parts of one network; a part's number fits.
const PARTS_MAX: u64 = 1 << 16;

impl NodeIpam {
    /// `pod_cidrs` have been validated when the configuration was read; what is no network is not
    /// given out.
    pub(crate) fn new(pod_cidrs: &[String], v4_part_prefix: u8) -> Self {
        let networks = pod_cidrs.iter().filter_map(|cidr| Network::parse(cidr, v4_part_prefix));
        Self { networks: networks.collect() }
    }
}

impl Network {
    fn parse(cidr: &str, v4_part_prefix: u8) -> Option<Self> {
        let (base, prefix) = cidr.split_once('/')?;
        let (base, prefix): (IpAddr, u8) = (base.parse().ok()?, prefix.parse().ok()?);
        let part_prefix = if base.is_ipv4() { v4_part_prefix } else { V6_PART_PREFIX };
        (prefix <= part_prefix).then_some(Self { base, prefix, part_prefix })
    }
    fn parts(&self) -> u64 {
        1u64.checked_shl((self.part_prefix - self.prefix).into())
            .unwrap_or(PARTS_MAX)
            .min(PARTS_MAX)
    }
    fn part(&self, n: u64) -> String {
        let prefix = self.part_prefix;
        match self.base {
            IpAddr::V4(base) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                let step = u64::from(32 - prefix);
                let offset = u32::try_from(n.checked_shl(step as u32).unwrap_or(0)).unwrap_or(0);
                format!("{}/{prefix}", Ipv4Addr::from((u32::from(base) & mask) + offset))
            }
            IpAddr::V6(base) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                let offset = u128::from(n).checked_shl(128 - u32::from(prefix)).unwrap_or(0);
                format!("{}/{prefix}", Ipv6Addr::from((u128::from(base) & mask) + offset))
            }
        }
    }
}

impl Controller for NodeIpam {
    fn name(&self) -> &'static str {
        "cidrAllocator"
    }
    fn watches(&self) -> Vec<Watch> {
        vec![Watch::map::<Node>(|world, node| {
            let waits = cidrs(node).is_empty() && !meta::is_deleting(&node.metadata);
            let gone = world.named::<Node>(meta::name(&node.metadata)).is_none();
            (waits || gone).then(Key::default).into_iter().collect()
        })]
    }
    fn reconcile(&self, turn: &Turn<'_>) -> Plan {
        let mut plan = Plan::nothing();
        if self.networks.is_empty() {
            return plan;
        }
        let waiting: Vec<_> = turn
            .world
            .all::<Node>()
            .filter(|node| cidrs(node).is_empty() && !meta::is_deleting(&node.metadata))
            .collect();
        if waiting.is_empty() {
            return plan;
        }
        let taken: BTreeSet<String> = turn.world.all::<Node>().flat_map(|n| cidrs(n)).collect();
        // One walk over the parts for all nodes: each would walk over those before it again.
        let mut free: Vec<_> = self
            .networks
            .iter()
            .map(|network| {
                (0..network.parts()).map(|n| network.part(n)).filter(|part| !taken.contains(part))
            })
            .collect();
        for node in waiting {
            let given: Vec<String> = free.iter_mut().filter_map(Iterator::next).collect();
            if given.len() < self.networks.len() {
                // The first node that goes without tells of it; a thousand would be a flood.
                let name = meta::name(&node.metadata);
                let text = format!("Node {name} status is now: CIDRNotAvailable");
                let warning = Effect::event(&**node, NoteKind::Normal, "CIDRNotAvailable", text);
                if turn.failed.is_none() {
                    plan.push(warning);
                }
                break;
            }
            let mut new = Node::clone(node);
            let spec = new.spec.get_or_insert_default();
            spec.pod_cidr = given.first().cloned();
            spec.pod_cidrs = Some(given);
            plan.push(Effect::update(&**node, &new));
        }
        plan
    }
}

fn cidrs(node: &Node) -> Vec<String> {
    let Some(spec) = &node.spec else { return Vec::new() };
    let all = spec.pod_cidrs.clone().unwrap_or_default();
    if all.is_empty() { spec.pod_cidr.iter().cloned().collect() } else { all }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reconcile::sim::{Sim, crash_everywhere};
    use serde_json::json;

    fn controller() -> NodeIpam {
        NodeIpam::new(&["10.244.0.0/16".into(), "fd00:1::/48".into()], 24)
    }

    #[test]
    fn each_node_gets_its_own_part_and_parts_come_back() {
        let controller = controller();
        let make = || {
            let mut sim = Sim::new(&controller);
            for name in ["a", "b", "c"] {
                sim.put::<Node>(json!({ "metadata": { "name": name } }));
            }
            (sim, Key::default())
        };
        let (mut sim, key) = make();
        sim.settle(&controller, &key);
        let of = |sim: &Sim, name: &str| cidrs(sim.get::<Node>(&Key::new("", name))).join(" ");
        assert_eq!(of(&sim, "a"), "10.244.0.0/24 fd00:1::/64");
        assert_eq!(of(&sim, "c"), "10.244.2.0/24 fd00:1:0:2::/64");
        sim.remove::<Node>(&Key::new("", "b"));
        sim.put::<Node>(json!({ "metadata": { "name": "d" } }));
        sim.settle(&controller, &key);
        assert_eq!(of(&sim, "d"), "10.244.1.0/24 fd00:1:0:1::/64");
        crash_everywhere(&controller, make);
    }

    #[test]
    fn a_full_network_is_told() {
        let controller = NodeIpam::new(&["10.0.0.0/24".into()], 24);
        let mut sim = Sim::new(&controller);
        sim.put::<Node>(
            json!({ "metadata": { "name": "a" }, "spec": { "podCIDR": "10.0.0.0/24" } }),
        );
        sim.put::<Node>(json!({ "metadata": { "name": "b" } }));
        sim.put::<Node>(json!({ "metadata": { "name": "c" } }));
        let plan = sim.plan(&controller, &Key::default());
        sim.apply(plan.effects);
        assert_eq!(sim.event_texts(), ["CIDRNotAvailable Node b status is now: CIDRNotAvailable"]);
    }
}
