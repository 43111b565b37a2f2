//! What a controller sees and what it may ask for. Pure: no clock, no client, no async.
//!
//! A controller is asked about one key and answers with a [`Plan`]. The shell that runs it is
//! elsewhere: it alone writes, and it does not ask again before the caches show what it wrote.
mod diff;
mod effect;
mod kind;
mod lean;
pub mod meta;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
mod watch;
mod world;

pub use diff::merge_diff;
pub use effect::{Effect, Note, NoteKind, Notes, SignRequest, Signer, object_reference};
pub use kind::{Stored, Target};
pub use watch::Watch;
pub use world::{Declare, Index, World};

use api::Key;
use std::time::Duration;

/// Decides, from one consistent view, what should happen next to one object.
pub trait Controller: Send + Sync {
    /// As upstream names it in an event's source, for example `replicaset-controller`.
    fn name(&self) -> &'static str;
    /// What makes a key worth another look.
    fn watches(&self) -> Vec<Watch>;
    /// The indexes that [`Self::reconcile`] looks things up by.
    fn indexes(&self) -> Vec<Declare> {
        Vec::new()
    }
    /// Kinds that are looked up, but whose changes alone are no reason to look again.
    fn reads(&self) -> Vec<Target> {
        Vec::new()
    }
    /// Must not fail: trouble becomes a condition, an event or a later retry in the plan.
    /// Returns all effects that are safe now; it is asked again after they have been observed.
    fn reconcile(&self, turn: &Turn<'_>) -> Plan;
}

/// What a controller is told for one look at one key.
#[derive(Clone, Copy)]
pub struct Turn<'a> {
    pub world: &'a World,
    pub key: &'a Key,
    pub now: Now,
    /// What went wrong with the previous plan for this key, if anything did.
    pub failed: Option<&'a Failure>,
}

/// An effect that the API refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// `Effect::verb` of the effect.
    pub verb: &'static str,
    pub message: String,
}

pub type Now = jiff::Timestamp;

/// Effects in order, plus when to look again if nothing changes before.
///
/// Neighbouring creations (or deletions) of one kind are carried out beside each other, the first
/// alone and then in batches that double, so that a refusal stops them early.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    pub effects: Vec<Effect>,
    pub again_after: Option<Duration>,
}

impl Plan {
    pub fn nothing() -> Self {
        Self::default()
    }
    pub fn push(&mut self, effect: impl Into<Option<Effect>>) {
        self.effects.extend(effect.into());
    }
    /// The earliest of all wishes counts.
    pub fn look_again_after(&mut self, wait: Duration) {
        self.again_after = Some(self.again_after.map_or(wait, |before| before.min(wait)));
    }
    /// As [`Self::look_again_after`], at a point in time.
    pub fn look_again_at(&mut self, at: Now, now: Now) {
        let wait = Duration::try_from(at.duration_since(now)).unwrap_or_default();
        self.look_again_after(wait);
    }
    /// Nothing to do, not even later.
    pub fn is_settled(&self) -> bool {
        self.effects.is_empty()
    }
}
