//! Addresses and ports of Services: which are taken, kept in memory and rebuilt from the cache.
//!
//! A request reserves what it needs; the reservation becomes the stored Service's when the write
//! has happened (the cache says so), and is let go when it has not ([`Lease`]).
use crate::cache::feed::Observer;
use crate::config::{Cidr, Config};
use crate::table::Row;
use api::{FieldError, FieldErrors, Value, access::text};
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use value::json;

/// Addresses below this are given only to those who ask for them by number.
const STATIC_BAND: u32 = 256;
const RANDOM_TRIES: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Thing {
    Address(u32),
    Port(u16),
}

#[derive(Default)]
struct State {
    /// By namespace/name of the stored Service.
    of_service: HashMap<String, Vec<Thing>>,
    /// With the Service that has it.
    stored: HashMap<Thing, String>,
    /// Reserved by requests that are under way.
    pending: HashSet<Thing>,
}

pub(crate) struct Allocator {
    cidr: Cidr,
    ports: std::ops::RangeInclusive<u16>,
    state: Arc<Mutex<State>>,
}

/// What one request has reserved.
#[derive(Default)]
pub(crate) struct Lease {
    things: Vec<Thing>,
    owner: String,
    state: Option<Arc<Mutex<State>>>,
}

impl Lease {
    /// The Service is stored: what it has is its own.
    pub(crate) fn commit(mut self) {
        let Some(state) = self.state.take() else { return };
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        for thing in &self.things {
            state.pending.remove(thing);
            // The cache will say the same soon; nobody may take it in between.
            state.stored.entry(*thing).or_insert_with(|| self.owner.clone());
            let of_service = state.of_service.entry(self.owner.clone()).or_default();
            if !of_service.contains(thing) {
                of_service.push(*thing);
            }
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(state) = self.state.take() else { return };
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        for thing in &self.things {
            state.pending.remove(thing);
        }
    }
}

impl Observer for Allocator {
    fn changed(&self, group: &str, plural: &str, key: &str, new: Option<&Value>) {
        if (group, plural) != ("", "services") {
            return;
        }
        let things = new.map(|service| self.things(service)).unwrap_or_default();
        let mut state = self.lock();
        for thing in state.of_service.remove(key).unwrap_or_default() {
            if state.stored.get(&thing).is_some_and(|owner| owner == key) {
                state.stored.remove(&thing);
            }
        }
        for thing in &things {
            state.stored.entry(*thing).or_insert_with(|| key.to_owned());
        }
        if !things.is_empty() {
            state.of_service.insert(key.to_owned(), things);
        }
    }
}

impl Allocator {
    pub(crate) fn new(config: &Config) -> Self {
        Self { cidr: config.service_cidr, ports: config.node_ports.clone(), state: Arc::default() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a Service has.
    fn things(&self, service: &Value) -> Vec<Thing> {
        let ips = service["spec"]["clusterIPs"].as_array().into_iter().flatten();
        let mut things: Vec<Thing> = ips
            .filter_map(|ip| self.cidr.index(ip.as_str()?.parse::<IpAddr>().ok()?))
            .map(Thing::Address)
            .collect();
        let ports = service["spec"]["ports"].as_array().into_iter().flatten();
        let ports = ports.map(|port| &port["nodePort"]);
        let ports = ports.chain([&service["spec"]["healthCheckNodePort"]]);
        let ports = ports.filter_map(|port| u16::try_from(port.as_u64()?).ok());
        things.extend(ports.filter(|port| *port > 0).map(Thing::Port));
        things
    }

    /// Gives a Service that is about to be written the addresses and ports that it lacks.
    pub(crate) fn allocate(
        &self,
        row: &Row,
        service: &mut Value,
        old: Option<&Value>,
        dry_run: bool,
        errors: &mut FieldErrors,
    ) -> Lease {
        if !row.group().is_empty() || row.plural() != "services" {
            return Lease::default();
        }
        let owner =
            format!("{}/{}", text(service, "/metadata/namespace"), text(service, "/metadata/name"));
        let mut lease =
            Lease { things: Vec::new(), owner, state: (!dry_run).then(|| Arc::clone(&self.state)) };
        let mut state = self.lock();
        let had = old.map(|old| self.things(old)).unwrap_or_default();
        self.address(&mut state, &mut lease, service, &had, errors);
        self.node_ports(&mut state, &mut lease, service, &had, errors);
        if !dry_run {
            state.pending.extend(&lease.things);
        }
        lease
    }

    fn address(
        &self,
        state: &mut State,
        lease: &mut Lease,
        service: &mut Value,
        had: &[Thing],
        errors: &mut FieldErrors,
    ) {
        let spec = &mut service["spec"];
        let headless = spec["clusterIP"] == "None";
        if spec["type"] == "ExternalName" || headless {
            return;
        }
        let asked = spec["clusterIP"].as_str().filter(|ip| !ip.is_empty()).map(str::to_owned);
        let mut refuse = |ip: &str, why: &str| {
            let why = format!("failed to allocate IP {ip}: {why}");
            errors.push(FieldError::invalid("spec.clusterIPs", json!([ip]), why));
        };
        let Some(asked) = asked else {
            let Some(index) = self.free_address(state) else {
                return errors.push(FieldError::internal(
                    "spec.clusterIPs",
                    "failed to allocate a serviceIP: range is full",
                ));
            };
            lease.things.push(Thing::Address(index));
            let ip = self.cidr.nth(index).to_string();
            spec["clusterIPs"] = json!([ip]);
            spec["clusterIP"] = ip.into();
            return;
        };
        // What is no address at all is the row's business to say.
        let Ok(ip) = asked.parse::<IpAddr>() else { return };
        match self.cidr.index(ip).map(Thing::Address) {
            Some(thing) if had.contains(&thing) => {}
            Some(thing) if state.is_free(thing) => lease.things.push(thing),
            Some(_) => refuse(&asked, "provided IP is already allocated"),
            None => {
                let range = format!("{}/{}", self.cidr.base, self.cidr.bits);
                refuse(
                    &asked,
                    &format!(
                        "the provided IP ({asked}) is not in the valid range. The \
                                         range of valid IPs is {range}"
                    ),
                );
            }
        }
        if spec["clusterIPs"].as_array().is_none_or(Vec::is_empty) {
            spec["clusterIPs"] = json!([asked]);
        }
    }

    fn free_address(&self, state: &State) -> Option<u32> {
        let last = self.cidr.size().saturating_sub(1);
        let first = STATIC_BAND.min(last / 16).max(2).min(last);
        if first >= last {
            return None;
        }
        let free = |index: &u32| state.is_free(Thing::Address(*index));
        let random = (0..RANDOM_TRIES).map(|_| rand::random_range(first..last)).find(free);
        random.or_else(|| (first..last).chain(2..first).find(free))
    }

    fn node_ports(
        &self,
        state: &mut State,
        lease: &mut Lease,
        service: &mut Value,
        had: &[Thing],
        errors: &mut FieldErrors,
    ) {
        let spec = &mut service["spec"];
        let kind = spec["type"].as_str().unwrap_or_default().to_owned();
        let balanced = kind == "LoadBalancer"
            && spec["allocateLoadBalancerNodePorts"].as_bool() != Some(false);
        let wanted = kind == "NodePort" || balanced;
        let local = kind == "LoadBalancer" && spec["externalTrafficPolicy"] == "Local";
        // The same number may serve several protocols of one Service.
        let mut own: Vec<(u16, String)> = Vec::new();
        let empty = &mut Vec::new();
        let ports = spec["ports"].as_array_mut().unwrap_or(empty);
        for (index, port) in ports.iter_mut().enumerate() {
            let asked = port["nodePort"].as_u64().unwrap_or_default();
            let protocol = port["protocol"].as_str().unwrap_or("TCP").to_owned();
            let field = format!("spec.ports[{index}].nodePort");
            if asked == 0 {
                if !wanted {
                    continue;
                }
                let Some(number) = self.free_port(state, &lease.things) else {
                    errors.push(FieldError::internal(
                        field,
                        "failed to allocate a nodePort: range \
                                                             is full",
                    ));
                    continue;
                };
                lease.things.push(Thing::Port(number));
                own.push((number, protocol));
                port["nodePort"] = number.into();
                continue;
            }
            let Ok(number) = u16::try_from(asked) else { continue };
            let thing = Thing::Port(number);
            let shared = own.iter().any(|(have, with)| *have == number && *with != protocol);
            let mine = had.contains(&thing) || shared;
            self.take_port(state, lease, &field, number, mine, errors);
            own.push((number, protocol));
        }
        let asked = spec["healthCheckNodePort"].as_u64().unwrap_or_default();
        if local && asked == 0 {
            if let Some(number) = self.free_port(state, &lease.things) {
                lease.things.push(Thing::Port(number));
                spec["healthCheckNodePort"] = number.into();
            }
        } else if let Ok(number) = u16::try_from(asked)
            && number > 0
        {
            let mine = had.contains(&Thing::Port(number));
            self.take_port(state, lease, "spec.healthCheckNodePort", number, mine, errors);
        }
    }

    fn take_port(
        &self,
        state: &State,
        lease: &mut Lease,
        field: &str,
        number: u16,
        mine: bool,
        errors: &mut FieldErrors,
    ) {
        let thing = Thing::Port(number);
        if mine {
        } else if !self.ports.contains(&number) {
            let (low, high) = (self.ports.start(), self.ports.end());
            errors.push(FieldError::invalid(
                field,
                number,
                format!(
                    "provided port is not in the valid range. The range of valid ports is \
                         {low}-{high}"
                ),
            ));
        } else if !state.is_free(thing) || lease.things.contains(&thing) {
            errors.push(FieldError::invalid(field, number, "provided port is already allocated"));
        } else {
            lease.things.push(thing);
        }
    }

    fn free_port(&self, state: &State, taken: &[Thing]) -> Option<u16> {
        let free =
            |port: &u16| state.is_free(Thing::Port(*port)) && !taken.contains(&Thing::Port(*port));
        let random = (0..RANDOM_TRIES).map(|_| rand::random_range(self.ports.clone())).find(free);
        random.or_else(|| self.ports.clone().find(free))
    }
}

impl State {
    fn is_free(&self, thing: Thing) -> bool {
        !self.stored.contains_key(&thing) && !self.pending.contains(&thing)
    }
}
