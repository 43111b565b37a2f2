//! Amounts of resources, in the units in which they are compared.
use api::Quantity;
use api::k8s::api::core::v1::PodSpec;
use api::k8s::apimachinery::pkg::api::resource::Quantity as Text;
use std::collections::BTreeMap;

/// CPU in thousandths, everything else in whole units; sorted by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources(Vec<(Box<str>, i64)>);

/// What a container that asks for nothing counts as when nodes are ranked.
const DEFAULT_MILLI_CPU: i64 = 100;
const DEFAULT_MEMORY: i64 = 200 << 20;

impl Resources {
    pub fn of(map: Option<&BTreeMap<String, Text>>) -> Self {
        let mut all = Self::default();
        for (name, text) in map.into_iter().flatten() {
            let Ok(amount) = text.0.parse::<Quantity>() else { continue };
            let value = if name == "cpu" { amount.milli_value() } else { amount.value() };
            all.set(name, value);
        }
        all
    }
    pub fn get(&self, name: &str) -> i64 {
        self.0.binary_search_by(|(have, _)| (**have).cmp(name)).map_or(0, |at| self.0[at].1)
    }
    pub fn iter(&self) -> impl Iterator<Item = (&str, i64)> {
        self.0.iter().map(|(name, value)| (&**name, *value))
    }
    fn slot(&mut self, name: &str) -> &mut i64 {
        let at = match self.0.binary_search_by(|(have, _)| (**have).cmp(name)) {
            Ok(at) => at,
            Err(at) => {
                self.0.insert(at, (name.into(), 0));
                at
            }
        };
        &mut self.0[at].1
    }
    fn set(&mut self, name: &str, value: i64) {
        *self.slot(name) = value;
    }
    pub(crate) fn add(&mut self, other: &Self, sign: i64) {
        for (name, value) in other.iter() {
            let slot = self.slot(name);
            *slot = slot.saturating_add(sign * value);
        }
    }
    fn raise(&mut self, other: &Self) {
        for (name, value) in other.iter() {
            let slot = self.slot(name);
            *slot = (*slot).max(value);
        }
    }

    /// What a pod asks for: its containers and sidecars together, or the init step that needs most,
    /// and its overhead. Pod level requests take the place of the containers' sum.
    pub fn of_pod(spec: &PodSpec) -> Self {
        let mut running = Self::default();
        for container in &spec.containers {
            let asked = container.resources.as_ref().and_then(|r| r.requests.as_ref());
            running.add(&Self::of(asked), 1);
        }
        let (mut sidecars, mut most) = (Self::default(), Self::default());
        for container in spec.init_containers.iter().flatten() {
            let asked = container.resources.as_ref().and_then(|r| r.requests.as_ref());
            let asked = Self::of(asked);
            if container.restart_policy.as_deref() == Some("Always") {
                sidecars.add(&asked, 1);
                most.raise(&sidecars);
            } else {
                let mut step = sidecars.clone();
                step.add(&asked, 1);
                most.raise(&step);
            }
        }
        running.add(&sidecars, 1);
        running.raise(&most);
        let whole = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        for (name, value) in Self::of(whole).iter() {
            running.set(name, value);
        }
        running.add(&Self::of(spec.overhead.as_ref()), 1);
        running.0.retain(|(_, value)| *value != 0);
        running
    }

    /// CPU and memory as they count in ranking, where asking for nothing is not free.
    pub(crate) fn ranked(&self, spec: &PodSpec) -> (i64, i64) {
        let silent = |name: &str| {
            let asks = |c: &api::k8s::api::core::v1::Container| {
                let requests = c.resources.as_ref().and_then(|r| r.requests.as_ref());
                requests.is_some_and(|requests| requests.contains_key(name))
            };
            spec.containers.iter().filter(|container| !asks(container)).count() as i64
        };
        let cpu = self.get("cpu") + silent("cpu") * DEFAULT_MILLI_CPU;
        (cpu, self.get("memory") + silent("memory") * DEFAULT_MEMORY)
    }
}
