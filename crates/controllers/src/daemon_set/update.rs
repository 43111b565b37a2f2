//! A rolling update: pods of older templates go, within the bounds on what may be missing
//! (`maxUnavailable`) or on what may be there twice (`maxSurge`).
use super::*;
use crate::amount;
use api::k8s::apimachinery::pkg::util::intstr::IntOrString;

/// The pods of a node that count: one of the new template, one of an older one.
struct Pair<'a> {
    new: Option<&'a Arc<Pod>>,
    old: Option<&'a Arc<Pod>>,
}

impl<'a> Look<'a> {
    pub(super) fn is_rolling(&self) -> bool {
        let strategy = self.set.spec.update_strategy.as_ref();
        strategy.and_then(|strategy| strategy.type_.as_deref()) != Some("OnDelete")
    }
    fn bound(&self, surge: bool) -> i32 {
        let strategy = self.set.spec.update_strategy.as_ref();
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let given = rolling.and_then(|rolling| match surge {
            true => rolling.max_surge.as_ref(),
            false => rolling.max_unavailable.as_ref(),
        });
        let wanted = self.nodes.iter().filter(|place| place.wanted).count();
        let fallback = IntOrString::Int(i32::from(!surge));
        let wanted = i32::try_from(wanted).unwrap_or(i32::MAX);
        amount::resolve(given.unwrap_or(&fallback), wanted, true)
    }
    pub(super) fn max_surge(&self) -> i32 {
        self.bound(true)
    }
    fn max_unavailable(&self) -> i32 {
        let unavailable = self.bound(false);
        if unavailable == 0 && self.max_surge() == 0 { 1 } else { unavailable }
    }

    pub(super) fn roll(&mut self) {
        if self.max_surge() > 0 { self.roll_with_surge() } else { self.roll_in_place() }
    }

    /// What is unavailable anyway goes at once; what is available goes as far as the bound allows.
    fn roll_in_place(&mut self) {
        let mut unavailable = 0;
        let (mut replaced, mut candidates) = (Vec::new(), Vec::new());
        for at in 0..self.nodes.len() {
            if !self.nodes[at].wanted {
                continue;
            }
            match self.pair(at) {
                Some(Pair { new: Some(new), old: None }) => {
                    unavailable += i32::from(!self.is_available(new));
                }
                Some(Pair { new: None, old: Some(old) }) => {
                    if meta::is_deleting(&old.metadata) {
                        unavailable += 1;
                    } else if self.is_available(old) {
                        candidates.push(old);
                    } else {
                        unavailable += 1;
                        replaced.push(old);
                    }
                }
                _ => unavailable += 1,
            }
        }
        let left = usize::try_from(self.max_unavailable() - unavailable).unwrap_or(0);
        self.delete_more(replaced.into_iter().chain(candidates.into_iter().take(left)));
    }

    /// A new pod comes beside the old one, which goes when the new one is available.
    fn roll_with_surge(&mut self) {
        let mut surge = 0;
        let (mut at_once, mut candidates, mut done) = (Vec::new(), Vec::new(), Vec::new());
        for at in 0..self.nodes.len() {
            let node = self.nodes[at].node;
            match self.pair(at) {
                Some(Pair { old: None, .. }) => {}
                Some(Pair { new: None, old: Some(old) }) => {
                    if !self.nodes[at].wanted {
                        continue;
                    }
                    if self.is_available(old) {
                        candidates.push(&**node);
                    } else {
                        at_once.push(&**node);
                    }
                }
                Some(Pair { new: Some(new), old: Some(old) }) => {
                    if self.is_available(new) {
                        done.push(old)
                    } else {
                        surge += 1
                    }
                }
                None => surge += 1,
            }
        }
        let left = usize::try_from(self.max_surge() - surge).unwrap_or(0);
        self.create.extend(at_once.into_iter().chain(candidates.into_iter().take(left)));
        self.delete_more(done);
    }

    fn delete_more(&mut self, pods: impl IntoIterator<Item = &'a Arc<Pod>>) {
        for pod in pods {
            if !self.delete.iter().any(|has| has.uid() == pod.uid()) {
                self.delete.push(pod);
            }
        }
    }

    /// Nothing if there is more than one of either: that is put right first.
    fn pair(&self, at: usize) -> Option<Pair<'a>> {
        let live = self.nodes[at].pods.iter().copied();
        let live = live.filter(|pod| !self.delete.iter().any(|gone| gone.uid() == pod.uid()));
        let (new, old): (Vec<_>, Vec<_>) = live.partition(|pod| self.is_new(pod));
        let is_single = new.len() <= 1 && old.len() <= 1;
        is_single.then(|| Pair { new: new.first().copied(), old: old.first().copied() })
    }
}
