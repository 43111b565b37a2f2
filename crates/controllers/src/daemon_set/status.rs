//! What a daemon set tells of its pods.
use super::*;

impl Look<'_> {
    pub(super) fn report(mut self) {
        let (mut desired, mut current, mut misplaced) = (0, 0, 0);
        let (mut ready, mut available, mut updated) = (0, 0, 0);
        for at in 0..self.nodes.len() {
            let (wanted, first) = (self.nodes[at].wanted, self.nodes[at].pods.first().copied());
            desired += i32::from(wanted);
            let Some(pod) = first else { continue };
            if !wanted {
                misplaced += 1;
                continue;
            }
            current += 1;
            updated += i32::from(self.is_new(pod));
            if pods::is_ready(pod) {
                ready += 1;
                available += i32::from(self.is_available(pod));
            }
        }
        let some = |count: i32| (count != 0).then_some(count);
        let mut new = DaemonSet::clone(self.set);
        let status = new.status.get_or_insert_default();
        status.desired_number_scheduled = desired;
        status.current_number_scheduled = current;
        status.number_misscheduled = misplaced;
        status.number_ready = ready;
        status.number_available = some(available);
        status.number_unavailable = some(desired - available);
        status.updated_number_scheduled = some(updated);
        status.observed_generation = self.set.metadata.generation;
        self.plan.push(Effect::status(&**self.set, &new));
    }
}
