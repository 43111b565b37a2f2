//! Deletes what has lost all its owners, and holds owners that wait for their dependents.
//!
//! Its world is the graph of who owns whom, over the metadata of every kind. An owner that the
//! graph does not know may only not be seen yet: the plan is then to look, and only an answer that
//! it is not there makes it absent. A uid never comes back, so an absence is remembered.
//!
//! Every write carries the uid and the revision that it was decided from: what was seen late is
//! refused, and decided again when the newer state has been seen.
use api::Key;
use api::k8s::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

#[cfg(test)]
mod tests;

pub const FOREGROUND: &str = "foregroundDeletion";
pub const ORPHAN: &str = "orphan";
/// Absences that are remembered; when more are known, the oldest are asked for again.
const ABSENT_MAX: usize = 10_000;

/// A kind without its version: the versions of a kind are faces of the same objects.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupKind {
    pub group: Arc<str>,
    pub kind: Arc<str>,
}

/// Where an object is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    pub kind: GroupKind,
    pub key: Key,
}

pub type Uid = Arc<str>;

/// What the collector wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Find out whether there is such an object; if not, tell [`Graph::absent`].
    Look { place: Place, uid: Uid },
    /// A merge patch with uid and revision in it.
    Patch { place: Place, patch: Value },
    /// Only of the object of this uid at this revision.
    Delete { place: Place, uid: Uid, revision: String, policy: Policy },
}

/// What becomes of a deleted object's own dependents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    Background,
    Foreground,
    Orphan,
}

/// A reference that can never be right: a namespaced owner in another namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misplaced {
    pub place: Place,
    pub uid: Uid,
    pub message: String,
}

/// Who owns whom.
#[derive(Default)]
pub struct Graph {
    nodes: HashMap<Uid, Node>,
    places: HashMap<Place, Uid>,
    /// By the uid of the owner, which need not be known itself.
    dependents: HashMap<Uid, BTreeSet<Uid>>,
    /// Whether each kind that there is lives in namespaces.
    kinds: HashMap<GroupKind, bool>,
    absent: HashSet<(Place, Uid)>,
    absent_order: VecDeque<(Place, Uid)>,
    misplaced: Vec<Misplaced>,
    /// How many objects of each kind each namespace has, and where that has changed.
    counts: HashMap<(GroupKind, Box<str>), usize>,
    recounted: HashSet<(GroupKind, Box<str>)>,
}

struct Node {
    place: Place,
    revision: String,
    owners: Vec<OwnerReference>,
    finalizers: Vec<String>,
    deleting: bool,
}

/// What is known of an owner.
enum Owner {
    Solid,
    /// It is being deleted and waits for its dependents to go.
    Waiting,
    Absent,
    Unknown(Option<Place>),
}

impl GroupKind {
    pub fn new(group: &str, kind: &str) -> Self {
        Self { group: group.into(), kind: kind.into() }
    }
    fn of(owner: &OwnerReference) -> Self {
        let group = owner.api_version.rsplit_once('/').map_or("", |(group, _)| group);
        Self::new(group, &owner.kind)
    }
}

impl Node {
    fn has(&self, finalizer: &str) -> bool {
        self.finalizers.iter().any(|has| has == finalizer)
    }
    fn waits(&self) -> bool {
        self.deleting && self.has(FOREGROUND)
    }
    fn is_of_interest(&self) -> bool {
        !self.owners.is_empty() || (self.deleting && (self.has(FOREGROUND) || self.has(ORPHAN)))
    }
    fn same(&self, other: &Self) -> bool {
        self.owners == other.owners
            && self.finalizers == other.finalizers
            && self.deleting == other.deleting
    }
    fn patch(&self, uid: &str, mut patch: Value) -> Action {
        patch["metadata"]["uid"] = json!(uid);
        patch["metadata"]["resourceVersion"] = json!(self.revision);
        Action::Patch { place: self.place.clone(), patch }
    }
    fn without_finalizer(&self, uid: &str, finalizer: &str) -> Action {
        let left: Vec<&String> = self.finalizers.iter().filter(|has| *has != finalizer).collect();
        self.patch(uid, json!({ "metadata": { "finalizers": left } }))
    }
    fn with_owners(&self, uid: &str, owners: &[OwnerReference]) -> Action {
        self.patch(uid, json!({ "metadata": { "ownerReferences": owners } }))
    }
}

impl Graph {
    /// The kinds that there are now. Returns what owners of new kinds may decide otherwise.
    pub fn set_kinds(&mut self, kinds: HashMap<GroupKind, bool>) -> Vec<Uid> {
        let known = std::mem::replace(&mut self.kinds, kinds);
        let is_new = |owner: &OwnerReference| {
            let kind = GroupKind::of(owner);
            self.kinds.contains_key(&kind) && !known.contains_key(&kind)
        };
        let nodes = self.nodes.iter().filter(|(_, node)| node.owners.iter().any(is_new));
        nodes.map(|(uid, _)| uid.clone()).collect()
    }

    /// An object as it is now. Returns what to look at again.
    pub fn observe(&mut self, kind: &GroupKind, meta: &ObjectMeta) -> Vec<Uid> {
        let mut again = Vec::new();
        let (Some(uid), Some(name)) = (&meta.uid, &meta.name) else { return again };
        let uid: Uid = uid.as_str().into();
        let key = Key::new(meta.namespace.as_deref().unwrap_or_default(), name);
        let place = Place { kind: kind.clone(), key };
        if let Some(other) = self.places.get(&place).filter(|other| **other != uid).cloned() {
            again.extend(self.remove(&other));
        }
        let node = Node {
            place: place.clone(),
            revision: meta.resource_version.clone().unwrap_or_default(),
            owners: meta.owner_references.clone().unwrap_or_default(),
            finalizers: meta.finalizers.clone().unwrap_or_default(),
            deleting: meta.deletion_timestamp.is_some(),
        };
        if self.places.insert(place.clone(), uid.clone()).is_none() {
            self.count(&place, 1);
        }
        let before = self.nodes.remove(&uid);
        for owner in before.iter().flat_map(|node| &node.owners) {
            self.unlink(&owner.uid, &uid);
        }
        for owner in &node.owners {
            self.dependents.entry(owner.uid.as_str().into()).or_default().insert(uid.clone());
            self.check_place(owner, &node, &uid);
        }
        if before.is_none() {
            self.check_dependents_places(&node, &uid);
        }
        let changed = before.as_ref().is_none_or(|before| !before.same(&node));
        // A write that was refused as late is decided again from every newer revision.
        if node.is_of_interest() {
            again.push(uid.clone());
        }
        if changed {
            let was_waiting = before.as_ref().is_some_and(Node::waits);
            if node.waits() != was_waiting {
                again.extend(self.dependents_of(&uid).cloned());
            }
            again.extend(self.deleting_owners(before.as_ref()));
            again.extend(self.deleting_owners(Some(&node)));
        }
        self.nodes.insert(uid, node);
        again
    }

    /// An object that is gone. Returns what to look at again.
    pub fn forget(&mut self, kind: &GroupKind, key: &Key, uid: Option<&str>) -> Vec<Uid> {
        let place = Place { kind: kind.clone(), key: key.clone() };
        let found = self.places.get(&place).filter(|found| uid.is_none_or(|uid| &***found == uid));
        match found.cloned() {
            Some(uid) => self.remove(&uid),
            None => Vec::new(),
        }
    }

    /// A kind that is not served any more. That says nothing of its objects: nothing becomes
    /// absent.
    pub fn drop_kind(&mut self, kind: &GroupKind) {
        let gone = self.places.extract_if(|place, _| place.kind == *kind);
        let gone: Vec<Uid> = gone.map(|(_, uid)| uid).collect();
        let counted = self.counts.extract_if(|(counted, _), _| counted == kind);
        self.recounted.extend(counted.map(|(of, _)| of));
        for uid in gone {
            let Some(node) = self.nodes.remove(&uid) else { continue };
            for owner in &node.owners {
                self.unlink(&owner.uid, &uid);
            }
        }
    }

    /// Everything known of a kind, for a list that replaces it.
    pub fn keys(&self, kind: &GroupKind) -> HashSet<Key> {
        let places = self.places.keys().filter(|place| place.kind == *kind);
        places.map(|place| place.key.clone()).collect()
    }

    /// The answer to [`Action::Look`] was no. Returns what to look at again.
    pub fn absent(&mut self, place: Place, uid: Uid) -> Vec<Uid> {
        let again = self.dependents_of(&uid).cloned().collect();
        if self.absent.insert((place.clone(), uid.clone())) {
            self.absent_order.push_back((place, uid));
        }
        while self.absent_order.len() > ABSENT_MAX {
            if let Some(oldest) = self.absent_order.pop_front() {
                self.absent.remove(&oldest);
            }
        }
        again
    }

    fn count(&mut self, place: &Place, change: isize) {
        let of = (place.kind.clone(), Box::<str>::from(place.key.namespace.as_str()));
        let count = self.counts.entry(of.clone()).or_default();
        *count = count.saturating_add_signed(change);
        if *count == 0 {
            self.counts.remove(&of);
        }
        self.recounted.insert(of);
    }

    /// Kind, namespace and number, wherever that has changed since the last call.
    pub fn take_recounted(&mut self) -> Vec<(GroupKind, Box<str>, usize)> {
        let changed = std::mem::take(&mut self.recounted).into_iter();
        changed
            .map(|of| {
                let count = self.counts.get(&of).copied().unwrap_or_default();
                (of.0, of.1, count)
            })
            .collect()
    }

    /// References that were seen since the last call and can never be right.
    pub fn take_misplaced(&mut self) -> Vec<Misplaced> {
        std::mem::take(&mut self.misplaced)
    }

    pub fn place(&self, uid: &str) -> Option<&Place> {
        Some(&self.nodes.get(uid)?.place)
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// What to do about one object.
    pub fn plan(&self, uid: &str) -> Vec<Action> {
        let Some(node) = self.nodes.get(uid) else { return Vec::new() };
        if node.deleting {
            if node.has(ORPHAN) {
                return self.orphan(uid, node);
            }
            if node.has(FOREGROUND) {
                return self.release_if_unblocked(uid, node);
            }
            return Vec::new();
        }
        if node.owners.is_empty() { Vec::new() } else { self.judge(uid, node) }
    }

    /// Cuts all dependents loose, and then lets the owner go.
    fn orphan(&self, uid: &str, node: &Node) -> Vec<Action> {
        let cut: Vec<Action> = self
            .dependents_of(uid)
            .filter_map(|dependent| Some((dependent, self.nodes.get(dependent)?)))
            .map(|(dependent, node)| {
                let left: Vec<OwnerReference> =
                    node.owners.iter().filter(|owner| owner.uid != *uid).cloned().collect();
                node.with_owners(dependent, &left)
            })
            .collect();
        if cut.is_empty() { vec![node.without_finalizer(uid, ORPHAN)] } else { cut }
    }

    /// The owner goes when nothing is left that blocks it.
    fn release_if_unblocked(&self, uid: &str, node: &Node) -> Vec<Action> {
        let blocks = |dependent: &Uid| {
            self.nodes.get(dependent).is_some_and(|dependent| {
                dependent
                    .owners
                    .iter()
                    .any(|owner| owner.uid == *uid && owner.block_owner_deletion == Some(true))
            })
        };
        if self.dependents_of(uid).any(blocks) {
            return Vec::new();
        }
        vec![node.without_finalizer(uid, FOREGROUND)]
    }

    fn judge(&self, uid: &str, node: &Node) -> Vec<Action> {
        let (mut solid, mut waiting, mut unknown) = (Vec::new(), false, false);
        let mut looks = Vec::new();
        for owner in &node.owners {
            match self.owner(owner, node) {
                Owner::Solid => solid.push(owner.clone()),
                Owner::Waiting => waiting = true,
                Owner::Absent => {}
                Owner::Unknown(place) => {
                    unknown = true;
                    let uid: Uid = owner.uid.as_str().into();
                    looks.extend(place.map(|place| Action::Look { place, uid }));
                }
            }
        }
        if unknown {
            return looks;
        }
        if !solid.is_empty() {
            let all = solid.len() == node.owners.len();
            return if all { Vec::new() } else { vec![node.with_owners(uid, &solid)] };
        }
        let mut policy = match () {
            () if node.has(ORPHAN) => Policy::Orphan,
            () if node.has(FOREGROUND) => Policy::Foreground,
            () => Policy::Background,
        };
        if waiting && self.dependents_of(uid).next().is_some() {
            policy = Policy::Foreground;
            if let Some(unblock) = self.break_cycle(uid, node) {
                return vec![unblock];
            }
        }
        let (place, revision) = (node.place.clone(), node.revision.clone());
        vec![Action::Delete { place, uid: uid.into(), revision, policy }]
    }

    /// Where a dependent waits for its own dependents, this object may be what it waits for: then
    /// each would wait for the other for ever, unless this one blocks nobody.
    fn break_cycle(&self, uid: &str, node: &Node) -> Option<Action> {
        let waits = |uid: &Uid| self.nodes.get(uid).is_some_and(Node::waits);
        let blocks = |owner: &OwnerReference| owner.block_owner_deletion == Some(true);
        if !node.owners.iter().any(blocks) || !self.dependents_of(uid).any(waits) {
            return None;
        }
        let mut owners = node.owners.clone();
        for owner in owners.iter_mut().filter(|owner| blocks(owner)) {
            owner.block_owner_deletion = Some(false);
        }
        Some(node.with_owners(uid, &owners))
    }

    fn owner(&self, owner: &OwnerReference, node: &Node) -> Owner {
        let kind = GroupKind::of(owner);
        let Some(&namespaced) = self.kinds.get(&kind) else { return Owner::Unknown(None) };
        let namespace = &*node.place.key.namespace;
        if namespaced && namespace.is_empty() {
            // A cluster-scoped object cannot name the namespace of its owner: never collected.
            return Owner::Unknown(None);
        }
        let key = Key::new(if namespaced { namespace } else { "" }, &owner.name);
        let place = Place { kind, key };
        match self.nodes.get(owner.uid.as_str()) {
            Some(found) if found.place == place => {
                if found.waits() {
                    Owner::Waiting
                } else {
                    Owner::Solid
                }
            }
            _ if self.absent.contains(&(place.clone(), owner.uid.as_str().into())) => Owner::Absent,
            _ => Owner::Unknown(Some(place)),
        }
    }

    fn dependents_of(&self, uid: &str) -> impl Iterator<Item = &Uid> {
        self.dependents.get(uid).into_iter().flatten()
    }

    fn deleting_owners(&self, node: Option<&Node>) -> Vec<Uid> {
        let owners = node.into_iter().flat_map(|node| &node.owners);
        owners
            .filter_map(|owner| self.nodes.get_key_value(owner.uid.as_str()))
            .filter(|(_, owner)| owner.deleting)
            .map(|(uid, _)| uid.clone())
            .collect()
    }

    fn unlink(&mut self, owner: &str, dependent: &Uid) {
        if let Some(dependents) = self.dependents.get_mut(owner) {
            dependents.remove(dependent);
            if dependents.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }

    fn remove(&mut self, uid: &Uid) -> Vec<Uid> {
        let Some(node) = self.nodes.remove(uid) else { return Vec::new() };
        if self.places.remove(&node.place).is_some() {
            self.count(&node.place, -1);
        }
        for owner in &node.owners {
            self.unlink(&owner.uid, uid);
        }
        // It was seen to go: nobody has to ask.
        let mut again = self.deleting_owners(Some(&node));
        if self.dependents.contains_key(uid) {
            again.extend(self.absent(node.place, uid.clone()));
        }
        again
    }

    /// Remembers a reference to an owner that is known to be in another namespace.
    fn check_place(&mut self, owner: &OwnerReference, node: &Node, uid: &Uid) {
        let Some(found) = self.nodes.get(owner.uid.as_str()) else { return };
        let owners = &found.place.key.namespace;
        if owners.is_empty() || *owners == node.place.key.namespace {
            return;
        }
        let message = format!(
            "ownerRef [{}/{}, namespace: {}, name: {}, uid: {}] does not exist in namespace {:?}",
            owner.api_version,
            owner.kind,
            node.place.key.namespace,
            owner.name,
            owner.uid,
            node.place.key.namespace
        );
        self.misplaced.push(Misplaced { place: node.place.clone(), uid: uid.clone(), message });
    }

    fn check_dependents_places(&mut self, owner: &Node, uid: &Uid) {
        let namespace = &owner.place.key.namespace;
        if namespace.is_empty() {
            return;
        }
        let mut found = Vec::new();
        for dependent in self.dependents_of(uid) {
            let Some(node) = self.nodes.get(dependent) else { continue };
            let theirs = &node.place.key.namespace;
            if theirs == namespace {
                continue;
            }
            let references = node.owners.iter().filter(|owner| owner.uid == **uid);
            found.extend(references.map(|reference| Misplaced {
                place: node.place.clone(),
                uid: dependent.clone(),
                message: format!(
                    "ownerRef [{}/{}, namespace: {theirs}, name: {}, uid: {uid}] does not exist \
                     in namespace {theirs:?}",
                    reference.api_version, reference.kind, reference.name
                ),
            }));
        }
        self.misplaced.extend(found);
    }
}
