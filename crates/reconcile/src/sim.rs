//! A cluster small enough for a controller's test: a table of objects, and no time but the given.
//!
//! [`Sim::settle`] runs a controller until it plans nothing; [`crash_everywhere`] shows that it
//! gets to the same end whichever effect was the last one before a crash.
use crate::diff::merge;
use crate::{Controller, Effect, Failure, Note, Now, Plan, Target, Turn, World};
use api::{Key, Kind, Revision};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};

/// More turns than any controller needs for a small world.
const TURNS_MAX: usize = 200;

pub struct Sim {
    pub world: World,
    pub now: Now,
    pub events: Vec<Note>,
    objects: HashMap<(Target, Key), Value>,
    revision: u64,
    names: u64,
}

impl Default for Sim {
    fn default() -> Self {
        Self {
            world: World::default(),
            now: Now::UNIX_EPOCH + jiff::SignedDuration::from_hours(24 * 365 * 50),
            events: Vec::new(),
            objects: HashMap::new(),
            revision: 0,
            names: 0,
        }
    }
}

impl Sim {
    /// A world with a controller's kinds and indexes, and these objects.
    pub fn new(controller: &dyn Controller) -> Self {
        let mut sim = Self::default();
        sim.admit(controller);
        sim
    }
    pub fn admit(&mut self, controller: &dyn Controller) {
        for watch in controller.watches() {
            self.world.register(watch.target);
        }
        for target in controller.reads() {
            self.world.register(target);
        }
        for declare in controller.indexes() {
            self.world.declare(declare);
        }
    }
    /// Creates or replaces an object from JSON; metadata the server would add is added.
    pub fn put<K: Kind>(&mut self, object: Value) -> Key {
        self.write(Target::of::<K>(), object)
    }
    pub fn get<K: Kind>(&self, key: &Key) -> &K {
        self.world.get::<K>(key).unwrap_or_else(|| panic!("no {} {key}", K::KIND))
    }
    pub fn remove<K: Kind>(&mut self, key: &Key) {
        self.objects.remove(&(Target::of::<K>(), key.clone()));
        self.world.remove(Target::of::<K>(), key);
    }
    /// Changes an object by a merge patch, as its user, the node or another controller would.
    pub fn patch<K: Kind>(&mut self, key: &Key, patch: &Value) {
        let target = Target::of::<K>();
        let mut object = self.objects[&(target, key.clone())].clone();
        merge(&mut object, patch);
        self.write(target, object);
    }
    pub fn plan(&self, controller: &dyn Controller, key: &Key) -> Plan {
        self.plan_after(controller, key, None)
    }
    pub fn plan_after(
        &self,
        controller: &dyn Controller,
        key: &Key,
        failed: Option<&Failure>,
    ) -> Plan {
        controller.reconcile(&Turn { world: &self.world, key, now: self.now, failed })
    }
    /// Carries a plan's effects out.
    pub fn apply(&mut self, effects: impl IntoIterator<Item = Effect>) {
        for effect in effects {
            self.execute(effect);
        }
    }
    /// Turns until nothing is planned. Returns how many turns did something.
    pub fn settle(&mut self, controller: &dyn Controller, key: &Key) -> usize {
        for turn in 0..TURNS_MAX {
            let plan = self.plan(controller, key);
            if plan.is_settled() {
                return turn;
            }
            self.apply(plan.effects);
        }
        let plan = self.plan(controller, key);
        panic!("{} never settles: {plan:#?}", controller.name());
    }
    pub fn all<K: Kind>(&self) -> Vec<&K> {
        self.world.all::<K>().map(|object| &**object).collect()
    }
    pub fn event_texts(&self) -> Vec<String> {
        self.events.iter().map(|note| format!("{} {}", note.reason, note.message)).collect()
    }

    fn write(&mut self, target: Target, mut object: Value) -> Key {
        self.revision += 1;
        object["apiVersion"] = json!(target.api_version());
        object["kind"] = json!(target.kind());
        let meta = &mut object["metadata"];
        if meta["name"].is_null() {
            self.names += 1;
            let prefix = meta["generateName"].as_str().unwrap_or("x-").to_owned();
            meta["name"] = json!(format!("{prefix}{:05}", self.names));
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let key = Key::new(text(&meta["namespace"]), text(&meta["name"]));
        if meta["uid"].is_null() {
            meta["uid"] = json!(format!("uid-{}-{key}", target.kind()));
        }
        if meta["creationTimestamp"].is_null() {
            meta["creationTimestamp"] = json!(self.now.to_string());
        }
        meta["resourceVersion"] = json!(self.revision.to_string());
        let gone = !meta["deletionTimestamp"].is_null()
            && meta["finalizers"].as_array().is_none_or(Vec::is_empty)
            && meta["deletionGracePeriodSeconds"].as_u64().unwrap_or(0) == 0;
        let json = serde_json::to_vec(&object).expect("a value is JSON");
        if gone {
            self.objects.remove(&(target, key.clone()));
            self.world.remove(target, &key);
            return key;
        }
        let stored = target.decode(&json).unwrap_or_else(|e| panic!("{target:?} {key}: {e}"));
        self.world.upsert(target, stored);
        self.world.advance(target, Revision(self.revision));
        self.objects.insert((target, key.clone()), object);
        key
    }

    fn execute(&mut self, effect: Effect) {
        match effect {
            Effect::Create { target, object, notes } => {
                let generated = object["metadata"]["name"].is_null();
                let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
                let key = Key::new(text("namespace"), text("name"));
                let taken = self.objects.contains_key(&(target, key));
                assert!(generated || !taken, "creates {target:?} twice");
                let mut object = object;
                bump_generation(&mut object);
                let key = self.write(target, object);
                self.events.extend(notes.and_then(|notes| notes.on_done(&key.name)));
            }
            Effect::Patch { target, key, mut patch, subresource, .. } => {
                let Some(object) = self.objects.get(&(target, key.clone())) else { return };
                let mut object = object.clone();
                let meta = &patch["metadata"];
                let same =
                    |field: &str| meta[field].is_null() || meta[field] == object["metadata"][field];
                assert!(same("uid") && same("resourceVersion"), "stale patch of {target:?} {key}");
                if subresource.is_none() && !patch["spec"].is_null() {
                    bump_generation(&mut object);
                }
                if let Some(meta) = patch["metadata"].as_object_mut() {
                    meta.remove("resourceVersion");
                }
                merge(&mut object, &patch);
                self.write(target, object);
            }
            Effect::PutSub { target, key, object, .. } => {
                if self.objects.contains_key(&(target, key)) {
                    self.write(target, object);
                }
            }
            Effect::IfAllowed { then, .. } => self.execute(*then),
            Effect::PostSub { .. } | Effect::Sign(_) | Effect::Empty { .. } => {}
            Effect::Delete { target, key, uid, grace_seconds, notes } => {
                let Some(object) = self.objects.get(&(target, key.clone())) else { return };
                assert_eq!(object["metadata"]["uid"], json!(uid), "deletes another {key}");
                let mut object = object.clone();
                object["metadata"]["deletionTimestamp"] = json!(self.now.to_string());
                if let Some(seconds) = grace_seconds {
                    object["metadata"]["deletionGracePeriodSeconds"] = json!(seconds);
                }
                self.write(target, object);
                self.events.extend(notes.and_then(|notes| notes.on_done(&key.name)));
            }
            Effect::Event(note) => self.events.push(*note),
        }
    }

    /// Everything that is there, without what differs from run to run.
    pub fn summary(&self) -> BTreeMap<String, Value> {
        let mut out: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for ((target, key), object) in &self.objects {
            let mut object = object.clone();
            let generated = !object["metadata"]["generateName"].is_null();
            let meta = object["metadata"].as_object_mut().expect("written with metadata");
            for field in ["resourceVersion", "uid", "creationTimestamp", "generation"] {
                meta.remove(field);
            }
            let name = match generated {
                true => meta["generateName"].as_str().unwrap_or_default().to_owned(),
                false => key.name.clone(),
            };
            meta.remove("name");
            out.entry(format!("{target:?} {}/{name}", key.namespace)).or_default().push(object);
        }
        out.into_iter()
            .map(|(name, mut objects)| {
                objects.sort_by_key(ToString::to_string);
                (name, Value::Array(objects))
            })
            .collect()
    }
}

fn bump_generation(object: &mut Value) {
    let generation = object["metadata"]["generation"].as_i64().unwrap_or(0);
    object["metadata"]["generation"] = json!(generation + 1);
}

/// Stops after each effect in turn, starts afresh, and expects the end of an undisturbed run.
pub fn crash_everywhere(controller: &dyn Controller, make: impl Fn() -> (Sim, Key)) {
    let (mut sim, key) = make();
    sim.settle(controller, &key);
    let want = sim.summary();
    for crash_after in 0..TURNS_MAX {
        let (mut sim, key) = make();
        let mut left = crash_after;
        let crashed = loop {
            let effects = sim.plan(controller, &key).effects;
            if effects.is_empty() {
                break false;
            }
            let stop = effects.len() > left;
            let take = left.min(effects.len());
            left -= take;
            sim.apply(effects.into_iter().take(take));
            if stop {
                break true;
            }
        };
        sim.settle(controller, &key);
        pretty_eq(&sim.summary(), &want, crash_after);
        if !crashed {
            return;
        }
    }
    panic!("more than {TURNS_MAX} effects");
}

fn pretty_eq(got: &BTreeMap<String, Value>, want: &BTreeMap<String, Value>, after: usize) {
    if got != want {
        let text = |map| serde_json::to_string_pretty(map).unwrap_or_default();
        panic!("after a crash at effect {after}:\n{}\nwant:\n{}", text(got), text(want));
    }
}
