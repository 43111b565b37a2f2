//! Packs endpoints into slices.
//!
//! Endpoints stay in the slice they are in; new ones fill slices that have room before a slice is
//! added.
use api::Kind;
use api::k8s::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use api::k8s::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use reconcile::{Effect, Plan};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";
const SLICE_MAX: usize = 100;

/// Endpoints that share their ports, by what identifies each.
pub(crate) type Group = BTreeMap<(String, Option<String>), Endpoint>;

/// What the slices of one owner and one address family have in common.
pub(crate) struct Packing<'a> {
    pub(crate) family: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) prefix: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) owner: OwnerReference,
    /// Put on slices whose endpoints change.
    pub(crate) annotations: BTreeMap<String, String>,
    /// There is a slice even if it is empty.
    pub(crate) never_none: bool,
}

/// What filling the slices of one set of ports leaves over.
struct Filled<'a> {
    surplus: Vec<&'a Arc<EndpointSlice>>,
    missing: Vec<Vec<Endpoint>>,
}

/// Adds an endpoint to the group of its ports.
pub(crate) fn insert(
    groups: &mut Vec<(Vec<EndpointPort>, Group)>,
    ports: Vec<EndpointPort>,
    endpoint: Endpoint,
) {
    let at = groups.iter().position(|(its, _)| *its == ports).unwrap_or_else(|| {
        groups.push((ports, Group::new()));
        groups.len() - 1
    });
    groups[at].1.insert(identity(&endpoint), endpoint);
}

fn identity(endpoint: &Endpoint) -> (String, Option<String>) {
    let uid = endpoint.target_ref.as_ref().and_then(|target| target.uid.clone());
    (endpoint.addresses.first().cloned().unwrap_or_default(), uid)
}

impl Packing<'_> {
    pub(crate) fn reconcile(
        &self,
        existing: &[&Arc<EndpointSlice>],
        mut groups: Vec<(Vec<EndpointPort>, Group)>,
        plan: &mut Plan,
    ) {
        let mut rest: Vec<&Arc<EndpointSlice>> = existing.to_vec();
        if groups.is_empty() && self.never_none {
            groups.push((Vec::new(), Group::new()));
        }
        let mut surplus = Vec::new();
        let mut missing = Vec::new();
        for (ports, group) in groups {
            let same = |slice: &&Arc<EndpointSlice>| {
                slice.ports.as_deref().unwrap_or_default() == ports.as_slice()
            };
            let slices: Vec<_> = rest.iter().copied().filter(same).collect();
            rest.retain(|slice| !same(slice));
            let filled = self.fill(&slices, &ports, group, plan);
            surplus.extend(filled.surplus);
            missing.extend(filled.missing.into_iter().map(|endpoints| (ports.clone(), endpoints)));
        }
        surplus.extend(rest);
        // A slice that is not needed for what it held is used for what needs one.
        let mut surplus = surplus.into_iter();
        for (ports, endpoints) in missing {
            match surplus.next() {
                Some(slice) => self.update(slice, ports, endpoints, plan),
                None => plan.push(Effect::create(&self.slice(ports, endpoints))),
            }
        }
        for slice in surplus {
            plan.push(Effect::delete(&**slice));
        }
    }

    /// Brings the slices of one set of ports up to date.
    fn fill<'a>(
        &self,
        existing: &[&'a Arc<EndpointSlice>],
        ports: &[EndpointPort],
        mut wanted: Group,
        plan: &mut Plan,
    ) -> Filled<'a> {
        let mut kept: Vec<(&'a Arc<EndpointSlice>, Vec<Endpoint>)> = Vec::new();
        for slice in existing {
            let mut here = Vec::new();
            for endpoint in slice.endpoints.iter().flatten() {
                if here.len() < SLICE_MAX {
                    here.extend(wanted.remove(&identity(endpoint)));
                }
            }
            kept.push((*slice, here));
        }
        let mut fresh = wanted.into_values().peekable();
        for (_, endpoints) in &mut kept {
            while endpoints.len() < SLICE_MAX
                && let Some(endpoint) = fresh.next()
            {
                endpoints.push(endpoint);
            }
        }
        let filled = kept.iter().any(|(_, endpoints)| !endpoints.is_empty());
        let placeholder = self.never_none && !filled && fresh.peek().is_none();
        let mut kept_empty = false;
        let mut result = Filled { surplus: Vec::new(), missing: Vec::new() };
        for (slice, endpoints) in kept {
            if endpoints.is_empty() {
                if !placeholder || kept_empty {
                    result.surplus.push(slice);
                    continue;
                }
                kept_empty = true;
            }
            self.update(slice, ports.to_vec(), endpoints, plan);
        }
        let mut fresh: Vec<Endpoint> = fresh.collect();
        if placeholder && !kept_empty {
            result.missing.push(Vec::new());
        }
        while !fresh.is_empty() {
            let rest = fresh.split_off(fresh.len().min(SLICE_MAX));
            result.missing.push(std::mem::replace(&mut fresh, rest));
        }
        result
    }

    fn update(
        &self,
        seen: &Arc<EndpointSlice>,
        ports: Vec<EndpointPort>,
        endpoints: Vec<Endpoint>,
        plan: &mut Plan,
    ) {
        let mut new = EndpointSlice::clone(seen);
        if seen.ports.as_deref().unwrap_or_default() != ports.as_slice() {
            new.ports = Some(ports);
        }
        new.metadata.labels = Some(self.labels.clone());
        // An empty list and none are the same.
        if seen.endpoints.as_deref().unwrap_or_default() != endpoints.as_slice() {
            new.endpoints = Some(endpoints);
            if !self.annotations.is_empty() {
                let annotations = new.metadata.annotations.get_or_insert_default();
                annotations.extend(self.annotations.clone());
            }
        }
        plan.push(Effect::update(&**seen, &new));
    }

    fn slice(&self, ports: Vec<EndpointPort>, endpoints: Vec<Endpoint>) -> EndpointSlice {
        EndpointSlice {
            metadata: ObjectMeta {
                namespace: Some(self.namespace.to_owned()),
                generate_name: Some(self.prefix.clone()),
                labels: Some(self.labels.clone()),
                annotations: Some(self.annotations.clone()).filter(|a| !a.is_empty()),
                owner_references: Some(vec![self.owner.clone()]),
                ..ObjectMeta::default()
            },
            address_type: self.family.to_owned(),
            endpoints: Some(endpoints),
            ports: Some(ports),
        }
    }
}

/// The slices of an address family, in the order of their names.
pub(crate) fn of_family<'a>(
    existing: &[&'a Arc<EndpointSlice>],
    family: &str,
) -> Vec<&'a Arc<EndpointSlice>> {
    let mut slices: Vec<_> =
        existing.iter().copied().filter(|slice| slice.address_type == family).collect();
    slices.sort_by_key(|slice| slice.key());
    slices
}
