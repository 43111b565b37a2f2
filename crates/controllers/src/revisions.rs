//! The history of a template, one `ControllerRevision` for each that there was.
use crate::hash;
use api::k8s::api::apps::v1::ControllerRevision;
use api::k8s::api::core::v1::PodTemplateSpec;
use api::k8s::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use api::k8s::apimachinery::pkg::runtime::RawExtension;
use api::{Key, Kind, LabelSelector};
use reconcile::{Effect, Plan, World, meta};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Revisions of one owner, oldest first.
pub(crate) struct History<'a> {
    pub(crate) all: Vec<&'a Arc<ControllerRevision>>,
}

/// How the revision of a template was found.
pub(crate) enum Found<'a> {
    Newest(&'a Arc<ControllerRevision>),
    /// First this has to be done.
    Write(Effect),
    /// Another object has the name: count one more collision.
    Collision,
}

/// What kinds of owner do differently.
pub(crate) struct Naming<'a> {
    /// The label that holds a revision's hash.
    pub(crate) label: &'a str,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) collisions: Option<i32>,
}

/// A strategic merge patch that makes an owner's template this one.
pub(crate) fn data(template: &PodTemplateSpec) -> Value {
    let mut template = serde_json::to_value(template).expect("kinds always serialize");
    template["$patch"] = json!("replace");
    json!({ "spec": { "template": template } })
}

/// The template that a revision holds.
pub(crate) fn template(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let mut template = revision.data.0.pointer("/spec/template")?.clone();
    template.as_object_mut()?.remove("$patch");
    serde_json::from_value(template).ok()
}

pub(crate) fn number(revision: &ControllerRevision) -> i64 {
    revision.revision.unwrap_or(0)
}

impl<'a> History<'a> {
    /// Also adopts revisions that nobody owns, and takes them in when that has been seen.
    pub(crate) fn of<K: Kind>(
        owner: &K,
        selector: &LabelSelector,
        world: &'a World,
        plan: &mut Plan,
    ) -> Self {
        let namespace = meta::namespace(owner.metadata());
        for orphan in world.orphans::<ControllerRevision>(namespace) {
            if !selector.is_everything() && selector.matches(meta::labels(&orphan.metadata)) {
                let mut adopted = ControllerRevision::clone(orphan);
                let owners = adopted.metadata.owner_references.get_or_insert_default();
                owners.push(meta::controlled_by(owner));
                plan.push(Effect::update(&**orphan, &adopted));
            }
        }
        let mut all: Vec<_> = world.owned_by::<ControllerRevision>(owner.uid()).collect();
        all.sort_by_key(|revision| {
            let created = revision.metadata.creation_timestamp.as_ref().map(|time| time.0);
            (number(revision), created, meta::name(&revision.metadata).to_owned())
        });
        Self { all }
    }

    /// The revision of a template, which shall be the newest.
    pub(crate) fn revision_of<K: Kind>(
        &self,
        owner: &K,
        template: &PodTemplateSpec,
        naming: Naming<'_>,
        world: &World,
    ) -> Found<'a> {
        let data = data(template);
        let newest = self.all.last().map_or(0, |revision| number(revision));
        let same = self.all.iter().rev().find(|revision| revision.data.0 == data);
        if let Some(same) = same {
            if number(same) == newest {
                return Found::Newest(same);
            }
            let mut again = ControllerRevision::clone(same);
            again.revision = Some(newest + 1);
            let update = Effect::update(&***same, &again);
            return Found::Write(update.expect("its number changes"));
        }
        let hash = hash::template_hash(&data, naming.collisions);
        let metadata = owner.metadata();
        let name = format!("{}-{hash}", shortened(meta::name(metadata)));
        let namespace = meta::namespace(metadata);
        if world.get::<ControllerRevision>(&Key::new(namespace, &name)).is_some() {
            return Found::Collision;
        }
        let mut labels = naming.labels;
        labels.insert(naming.label.to_owned(), hash);
        let annotations = Some(naming.annotations).filter(|annotations| !annotations.is_empty());
        Found::Write(Effect::create(&ControllerRevision {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: Some(namespace.to_owned()),
                labels: Some(labels),
                annotations,
                owner_references: Some(vec![meta::controlled_by(owner)]),
                ..ObjectMeta::default()
            },
            data: RawExtension(data),
            revision: Some(newest + 1),
        }))
    }

    /// Deletes the oldest of those that nothing uses, but for so many.
    pub(crate) fn trim(
        &self,
        keep: Option<i32>,
        in_use: impl Fn(&ControllerRevision) -> bool,
        plan: &mut Plan,
    ) {
        let keep = usize::try_from(keep.unwrap_or(10)).unwrap_or(0);
        let unused: Vec<_> = self.all.iter().filter(|revision| !in_use(revision)).collect();
        let surplus = unused.len().saturating_sub(keep);
        for revision in unused.into_iter().take(surplus) {
            if !meta::is_deleting(&revision.metadata) {
                plan.push(Effect::delete(&***revision));
            }
        }
    }
}

/// A prefix of a name that leaves room for a hash.
fn shortened(name: &str) -> &str {
    name.get(..223).unwrap_or(name)
}
