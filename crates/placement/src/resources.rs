//! Amounts of resources, in the units in which they are compared.
use api::Quantity;
use api::k8s::api::core::v1::PodSpec;
use api::k8s::apimachinery::pkg::api::resource::Quantity as Text;
use std::collections::BTreeMap;

/// CPU in thousandths, everything else in whole units. What every decision looks at has a field.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    pub milli_cpu: i64,
    pub memory: i64,
    pub ephemeral_storage: i64,
    pub pods: i64,
    /// All others, sorted by name.
    others: Vec<(Box<str>, i64)>,
}

/// What a container that asks for nothing counts as when nodes are ranked.
const DEFAULT_MILLI_CPU: i64 = 100;
const DEFAULT_MEMORY: i64 = 200 << 20;

impl Resources {
    pub fn of(map: Option<&BTreeMap<String, Text>>) -> Self {
        let mut all = Self::default();
        for (name, text) in map.into_iter().flatten() {
            let Ok(amount) = text.0.parse::<Quantity>() else { continue };
            let value = if name == "cpu" { amount.milli_value() } else { amount.value() };
            *all.slot(name) = value;
        }
        all
    }
    pub fn get(&self, name: &str) -> i64 {
        match name {
            "cpu" => self.milli_cpu,
            "memory" => self.memory,
            "ephemeral-storage" => self.ephemeral_storage,
            "pods" => self.pods,
            _ => self
                .others
                .binary_search_by(|(have, _)| (**have).cmp(name))
                .map_or(0, |at| self.others[at].1),
        }
    }
    /// What has no field of its own.
    pub(crate) fn others(&self) -> &[(Box<str>, i64)] {
        &self.others
    }
    fn slot(&mut self, name: &str) -> &mut i64 {
        match name {
            "cpu" => &mut self.milli_cpu,
            "memory" => &mut self.memory,
            "ephemeral-storage" => &mut self.ephemeral_storage,
            "pods" => &mut self.pods,
            _ => {
                let at = match self.others.binary_search_by(|(have, _)| (**have).cmp(name)) {
                    Ok(at) => at,
                    Err(at) => {
                        self.others.insert(at, (name.into(), 0));
                        at
                    }
                };
                &mut self.others[at].1
            }
        }
    }
    /// Each amount of `other` is taken into the one here.
    fn join(&mut self, other: &Self, mut with: impl FnMut(&mut i64, i64)) {
        with(&mut self.milli_cpu, other.milli_cpu);
        with(&mut self.memory, other.memory);
        with(&mut self.ephemeral_storage, other.ephemeral_storage);
        with(&mut self.pods, other.pods);
        for (name, value) in &other.others {
            with(self.slot(name), *value);
        }
    }
    pub(crate) fn add(&mut self, other: &Self, sign: i64) {
        self.join(other, |here, value| *here = here.saturating_add(sign * value));
    }
    fn raise(&mut self, other: &Self) {
        self.join(other, |here, value| *here = (*here).max(value));
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
        let amounts = Self::of(whole);
        for name in whole.into_iter().flat_map(BTreeMap::keys) {
            *running.slot(name) = amounts.get(name);
        }
        running.add(&Self::of(spec.overhead.as_ref()), 1);
        running.others.retain(|(_, value)| *value != 0);
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
        let cpu = self.milli_cpu + silent("cpu") * DEFAULT_MILLI_CPU;
        (cpu, self.memory + silent("memory") * DEFAULT_MEMORY)
    }
}
