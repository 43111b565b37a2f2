//! Accepts the names of custom resources, says when they are served, and lets definitions go that
//! are being deleted once their objects are gone.
//!
//! Of definitions only what is needed here is kept: their schemas are much the largest part.
use crate::conditions::{Condition, find, set};
use api::Key;
use api::Kind;
use api::k8s::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinitionCondition as Told, CustomResourceDefinitionNames as Names,
};
use api::k8s::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use api::k8s::{ClusterResourceScope, Metadata, Resource};
use reconcile::{Controller, Effect, Plan, Target, Turn, Watch, World, meta};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::HashSet;
use std::time::Duration;

pub(crate) struct Definitions;

const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";
const APPROVAL: &str = "api-approved.kubernetes.io";
const APPROVAL_CONDITION: &str = "KubernetesAPIApprovalPolicyConformant";
const CHECK: &str = "InstanceDeletionCheck";
/// How long objects that are left may take to go before they are looked at again.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// A `CustomResourceDefinition`, without its schemas.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Definition {
    #[serde(deserialize_with = "brief")]
    metadata: ObjectMeta,
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Spec {
    group: String,
    names: Names,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(default)]
    accepted_names: Names,
    #[serde(default)]
    conditions: Option<Vec<Told>>,
}

/// What `kubectl apply` notes down is as large as the definition itself.
fn brief<'de, D: Deserializer<'de>>(from: D) -> Result<ObjectMeta, D::Error> {
    let mut meta = ObjectMeta::deserialize(from)?;
    if let Some(annotations) = &mut meta.annotations {
        annotations.retain(|name, _| name == APPROVAL);
    }
    Ok(meta)
}

impl Resource for Definition {
    const API_VERSION: &'static str = "apiextensions.k8s.io/v1";
    const GROUP: &'static str = "apiextensions.k8s.io";
    const KIND: &'static str = "CustomResourceDefinition";
    const VERSION: &'static str = "v1";
    const URL_PATH_SEGMENT: &'static str = "customresourcedefinitions";
    type Scope = ClusterResourceScope;
}

impl Metadata for Definition {
    type Ty = ObjectMeta;
    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl Controller for Definitions {
    fn name(&self) -> &'static str {
        "customresourcedefinition-controller"
    }
    fn watches(&self) -> Vec<Watch> {
        // A name that one lets go, another of its group may be waiting for.
        vec![Watch::map::<Definition>(|world, changed| {
            let group = &changed.spec.group;
            let others = world.all::<Definition>().filter(|other| other.spec.group == *group);
            let waiting = others.filter(|other| other.spec.names != other.status.accepted_names);
            waiting.map(|other| other.key()).chain([changed.key()]).collect()
        })]
    }
    fn reconcile(&self, turn: &Turn<'_>) -> Plan {
        let mut plan = Plan::nothing();
        let Some(crd) = turn.world.get::<Definition>(turn.key) else { return plan };
        let mut new = Definition::clone(crd);
        accept(&mut new, turn);
        approve(&mut new, turn);
        let finalizers = crd.metadata.finalizers.iter().flatten();
        let held = finalizers.into_iter().any(|name| name == FINALIZER);
        let going = meta::is_deleting(&crd.metadata) && held;
        let checked = find(&crd.status.conditions, "Terminating")
            .is_some_and(|told| told.reason.as_deref() == Some(CHECK));
        // That some are left stays told until none is.
        if going && !checked {
            new.tell(terminating(turn));
        }
        let told = Effect::status(&**crd, &new);
        if going && told.is_none() {
            let (target, uid) = (Target::of::<Definition>(), crd.uid().to_owned());
            plan.push(Effect::Empty { target, key: turn.key.clone(), uid });
            plan.look_again_after(AGAIN_AFTER);
        }
        plan.push(told);
        plan
    }
}

impl Definition {
    fn tell(&mut self, condition: Told) {
        set(&mut self.status.conditions, condition);
    }
    fn is(&self, kind: &str) -> bool {
        find(&self.status.conditions, kind).is_some_and(|found| found.status == "True")
    }
}

fn terminating(turn: &Turn<'_>) -> Told {
    let failed = turn.failed.filter(|failure| failure.verb == "empty");
    match failed {
        None => Told::make(
            "Terminating",
            "True",
            "InstanceDeletionInProgress",
            "CustomResource deletion is in progress",
            turn.now,
        ),
        Some(failure) => Told::make(
            "Terminating",
            "True",
            CHECK,
            &format!("could not confirm zero CustomResources remaining: {}", failure.message),
            turn.now,
        ),
    }
}

/// Names that others of the group have.
struct Taken<'w> {
    resources: HashSet<&'w str>,
    kinds: HashSet<&'w str>,
}

impl<'w> Taken<'w> {
    fn by_others(world: &'w World, crd: &Definition, key: &Key) -> Self {
        let mut taken = Self { resources: HashSet::new(), kinds: HashSet::new() };
        for other in world.all::<Definition>() {
            if other.spec.group != crd.spec.group || other.key() == *key {
                continue;
            }
            let names = &other.status.accepted_names;
            taken.resources.insert(&names.plural);
            taken.resources.extend(names.singular.as_deref());
            taken.resources.extend(names.short_names.iter().flatten().map(String::as_str));
            taken.kinds.insert(&names.kind);
            taken.kinds.extend(names.list_kind.as_deref());
        }
        taken
    }
}

fn accept(crd: &mut Definition, turn: &Turn<'_>) {
    if crd.spec.names != crd.status.accepted_names {
        let taken = Taken::by_others(turn.world, crd, turn.key);
        let conflict = take(&crd.spec.names, &mut crd.status.accepted_names, &taken);
        let accepted = match &conflict {
            Some((reason, message)) => {
                Told::make("NamesAccepted", "False", reason, message, turn.now)
            }
            None => {
                let text = "no conflicts found";
                Told::make("NamesAccepted", "True", "NoConflicts", text, turn.now)
            }
        };
        crd.tell(accepted);
    }
    if crd.is("Established") {
        return;
    }
    let established = match crd.is("NamesAccepted") {
        true => {
            let text = "the initial names have been accepted";
            Told::make("Established", "True", "InitialNamesAccepted", text, turn.now)
        }
        false => {
            let text = "not all names are accepted";
            Told::make("Established", "False", "NotAccepted", text, turn.now)
        }
    };
    crd.tell(established);
}

/// Takes what is free of what is wanted; the last conflict, if there was one.
fn take(wanted: &Names, accepted: &mut Names, taken: &Taken<'_>) -> Option<(&'static str, String)> {
    let mut conflict = None;
    let mut free = |name: &str, have: &str, taken: &HashSet<&str>, reason: &'static str| {
        let free = name == have || !taken.contains(name);
        if !free {
            conflict = Some((reason, format!("{name:?} is already in use")));
        }
        free
    };
    let text = |name: &Option<String>| name.clone().unwrap_or_default();
    if free(&wanted.plural, &accepted.plural, &taken.resources, "PluralConflict") {
        accepted.plural.clone_from(&wanted.plural);
    }
    let (name, have) = (text(&wanted.singular), text(&accepted.singular));
    if free(&name, &have, &taken.resources, "SingularConflict") {
        accepted.singular.clone_from(&wanted.singular);
    }
    let have: Vec<String> = accepted.short_names.clone().unwrap_or_default();
    let short = wanted.short_names.iter().flatten();
    let all = short.fold(true, |all, name| {
        let own = if have.contains(name) { name } else { "" };
        free(name, own, &taken.resources, "ShortNamesConflict") && all
    });
    if all {
        accepted.short_names.clone_from(&wanted.short_names);
    }
    if free(&wanted.kind, &accepted.kind, &taken.kinds, "KindConflict") {
        accepted.kind.clone_from(&wanted.kind);
    }
    let (name, have) = (text(&wanted.list_kind), text(&accepted.list_kind));
    if free(&name, &have, &taken.kinds, "ListKindConflict") {
        accepted.list_kind.clone_from(&wanted.list_kind);
    }
    accepted.categories.clone_from(&wanted.categories);
    conflict
}

/// Kubernetes' own groups need a word from its reviewers.
fn approve(crd: &mut Definition, turn: &Turn<'_>) {
    let group = crd.spec.group.as_str();
    let protected = ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|domain| group == *domain || group.ends_with(&format!(".{domain}")));
    if !protected {
        return;
    }
    const SEE: &str = "https://github.com/kubernetes/enhancements/pull/1111";
    let annotations = crd.metadata.annotations.as_ref();
    let text = annotations.and_then(|all| all.get(APPROVAL)).map(String::as_str);
    let (status, reason, message) = match text {
        Some(url) if url.starts_with("https://") => {
            ("True", "ApprovedAnnotation", format!("approved in {url}"))
        }
        Some(why) if why.starts_with("unapproved") => {
            ("False", "UnapprovedAnnotation", format!("not approved: {why:?}"))
        }
        None | Some("") => (
            "False",
            "MissingAnnotation",
            format!("protected groups must have approval annotation {APPROVAL:?}, see {SEE}"),
        ),
        Some(other) => (
            "False",
            "InvalidAnnotation",
            format!(
                "protected groups must have approval annotation {APPROVAL:?} with either a URL or \
                 a reason starting with \"unapproved\", see {SEE}; got {other:?}"
            ),
        ),
    };
    crd.tell(Told::make(APPROVAL_CONDITION, status, reason, &message, turn.now));
}

#[cfg(test)]
mod tests;
