//! A deployment that changes size in the middle of a rollout: all its sets change in proportion.
use super::rollout::At;
use super::*;
use crate::amount;
use api::k8s::apimachinery::pkg::util::intstr::IntOrString;

/// How many more, and how many fewer, pods than asked for there may be. Never both zero.
pub(super) fn bounds(deployment: &Deployment) -> (i32, i32) {
    let replicas = replicas(deployment);
    let strategy = deployment.spec.strategy.as_ref();
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate") {
        return (0, 0);
    }
    let surge = rolling.and_then(|rolling| rolling.max_surge.as_ref());
    let unavailable = rolling.and_then(|rolling| rolling.max_unavailable.as_ref());
    let surge = resolve(surge, replicas, true);
    let mut unavailable = resolve(unavailable, replicas, false);
    if surge == 0 && unavailable == 0 {
        unavailable = 1;
    }
    (surge, unavailable.min(replicas))
}

pub(super) fn surge(deployment: &Deployment) -> i32 {
    bounds(deployment).0
}

/// A quarter if nothing is said.
fn resolve(value: Option<&IntOrString>, whole: i32, round_up: bool) -> i32 {
    let quarter = IntOrString::String("25%".to_owned());
    amount::resolve(value.unwrap_or(&quarter), whole, round_up)
}

impl Look<'_> {
    pub(super) fn scale_in_proportion(&mut self) {
        let wanted = self.replicas();
        if let Some(only) = self.only_active() {
            self.resize(only, wanted);
            return;
        }
        if self.is_saturated() {
            for at in 0..self.sets.old.len() {
                self.resize(At::Old(at), 0);
            }
            return;
        }
        if self.is_recreate() {
            return;
        }
        let (surge, _) = bounds(self.deployment);
        let allowed = if wanted > 0 { wanted + surge } else { 0 };
        let change = allowed - self.sets.total();
        let mut active = self.active();
        // The largest take the most; among equals, newer ones grow and older ones shrink.
        active.sort_by_key(|(at, size)| {
            let age = match at {
                At::Newest => i64::MAX,
                At::Old(at) => *at as i64,
            };
            (-size, if change > 0 { -age } else { age })
        });
        let mut given = 0;
        let mut sizes: Vec<(At, i32)> = Vec::new();
        for (at, size) in active {
            let share = if change == 0 { 0 } else { self.share(at, size, change, given) };
            given += share;
            sizes.push((at, size + share));
        }
        if let Some((_, first)) = sizes.first_mut() {
            *first = (*first + change - given).max(0);
        }
        for (at, size) in sizes {
            if !self.resize(at, size) {
                self.remember_size(at);
            }
        }
    }

    fn active(&self) -> Vec<(At, i32)> {
        let old = self.sets.old.iter().enumerate();
        let mut active: Vec<_> = old.map(|(at, set)| (At::Old(at), set.replicas())).collect();
        active.extend(self.sets.newest.iter().map(|set| (At::Newest, set.replicas())));
        active.retain(|(_, replicas)| *replicas > 0);
        active
    }

    /// The one set with pods; without any, the newest there is.
    fn only_active(&self) -> Option<At> {
        match self.active().as_slice() {
            [] if self.sets.newest.is_some() => Some(At::Newest),
            [] => self.sets.old.len().checked_sub(1).map(At::Old),
            [(only, _)] => Some(*only),
            _ => None,
        }
    }

    /// The newest set has all pods that are wanted, and they are available.
    fn is_saturated(&self) -> bool {
        let wanted = self.replicas();
        self.sets.newest.as_ref().is_some_and(|set| {
            set.replicas() == wanted
                && annotations::desired(&set.new) == Some(wanted)
                && set.available() == wanted
        })
    }

    /// A set's part of the change, in proportion to its size before.
    fn share(&self, at: At, size: i32, change: i32, given: i32) -> i32 {
        let left = change - given;
        if left == 0 {
            return 0;
        }
        let wanted = self.replicas();
        let set = match at {
            At::Newest => self.sets.newest.as_ref(),
            At::Old(at) => self.sets.old.get(at),
        };
        let fraction = if wanted == 0 {
            -size
        } else {
            let after = f64::from(wanted + surge(self.deployment));
            let status = self.deployment.status.as_ref();
            let before = set
                .and_then(|set| annotations::max(&set.new))
                .or_else(|| status.and_then(|status| status.replicas))
                .filter(|before| *before > 0);
            let Some(before) = before else { return 0 };
            (f64::from(size) * after / f64::from(before)).round() as i32 - size
        };
        if change > 0 { fraction.min(left) } else { fraction.max(left) }
    }

    fn remember_size(&mut self, at: At) {
        let (desired, max) = (self.replicas(), self.replicas() + surge(self.deployment));
        let set = match at {
            At::Newest => self.sets.newest.as_mut(),
            At::Old(at) => self.sets.old.get_mut(at),
        };
        if let Some(set) = set {
            annotations::set_size(&mut set.new, desired, max);
        }
    }
}
