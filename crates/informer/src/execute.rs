//! The one place that writes: carries a plan's effects out.
use crate::reflector::Chain;
use crate::{Recorder, definition, namespace};
use api::{Key, Revision};
use client::{Client, DeleteParams, Error, Patch, Propagation, Resource, revision_of};
use futures_util::future::join_all;
use reconcile::{Effect, Failure, Notes, SignRequest, Signer, Target};
use serde_json::{Value, json};
use std::sync::Arc;

/// What a plan's effects came to.
#[derive(Default)]
pub(crate) struct Outcome {
    /// What the caches must show before the next look.
    pub(crate) wrote: Vec<(Target, Revision)>,
    pub(crate) deleted: Vec<(Target, Key, String)>,
    pub(crate) failed: Option<Failure>,
    /// Decided from a view that is out of date: look again, nothing is wrong.
    pub(crate) stale: bool,
}

pub(crate) struct Executor {
    pub(crate) client: Client,
    pub(crate) recorder: Recorder,
    pub(crate) signer: Option<Arc<dyn Signer>>,
}

/// The largest number of effects under way at once for one key.
const BATCH_MAX: usize = 64;

enum Done {
    Wrote(Target, Revision),
    Deleted(Target, Key, String),
    Nothing,
    Stale,
    Failed(Failure),
}

impl Executor {
    /// A refusal stops the run of like effects that it is in, and whatever is no status after it.
    pub(crate) async fn execute(&self, effects: Vec<Effect>) -> Outcome {
        let mut outcome = Outcome::default();
        let mut effects = effects.into_iter().peekable();
        while let Some(first) = effects.next() {
            let alike = alike_as(&first);
            let mut run = vec![first];
            if alike.is_some() {
                while let Some(next) = effects.next_if(|next| alike_as(next) == alike) {
                    run.push(next);
                }
            }
            let troubled = outcome.failed.is_some() || outcome.stale;
            if troubled && !run.iter().all(is_report) {
                continue;
            }
            self.run(run, &mut outcome).await;
        }
        outcome
    }
    /// One, two, four... at once, so that what is refused is refused once.
    async fn run(&self, run: Vec<Effect>, outcome: &mut Outcome) {
        let mut left = run.into_iter();
        let mut size = 1;
        loop {
            let batch: Vec<Effect> = left.by_ref().take(size).collect();
            if batch.is_empty() {
                return;
            }
            let mut refused = false;
            for done in join_all(batch.into_iter().map(|effect| self.one(effect))).await {
                match done {
                    Done::Wrote(target, revision) => outcome.wrote.push((target, revision)),
                    Done::Deleted(target, key, uid) => outcome.deleted.push((target, key, uid)),
                    Done::Nothing => {}
                    Done::Stale => outcome.stale = true,
                    Done::Failed(failure) => {
                        refused = true;
                        outcome.failed.get_or_insert(failure);
                    }
                }
            }
            if refused {
                return;
            }
            size = (size * 2).min(BATCH_MAX);
        }
    }
    async fn one(&self, effect: Effect) -> Done {
        let verb = effect.verb();
        let effect = match effect {
            Effect::IfAllowed { review, then } => match self.is_allowed(&review).await {
                Ok(true) => *then,
                Ok(false) => {
                    let message = "the access review did not allow it".to_owned();
                    return Done::Failed(Failure { verb, message });
                }
                Err(error) => {
                    return Done::Failed(Failure { verb, message: Chain(&error).to_string() });
                }
            },
            other => other,
        };
        let Some(target) = effect.target() else {
            if let Effect::Event(note) = effect {
                self.recorder.record(*note);
            }
            return Done::Nothing;
        };
        let resource = Resource::fixed(target.group(), target.version(), target.plural());
        let (name, notes, result) = match effect {
            Effect::Create { object, notes, .. } => {
                let namespace = object["metadata"]["namespace"].as_str().map(str::to_owned);
                let result = self.client.create_value(&resource, namespace.as_deref(), &object);
                let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                (name, notes, result.await)
            }
            Effect::Patch { key, patch, subresource, notes, .. } => {
                let patch = Patch::Merge(patch);
                let result = self.client.patch_value(&resource, &key, &patch, subresource).await;
                (key.name, notes, result)
            }
            Effect::PutSub { key, subresource, object, .. } => {
                let result = self.client.replace_value(&resource, &key, Some(subresource), &object);
                let result = result.await;
                (key.name, None, result)
            }
            Effect::PostSub { key, subresource, object, .. } => {
                let result = self.client.create_sub(&resource, &key, subresource, &object).await;
                (key.name, None, result.map(|_| Value::Null))
            }
            Effect::Delete { key, uid, grace_seconds, notes, .. } => {
                return self.delete(target, resource, key, uid, grace_seconds, notes).await;
            }
            Effect::Sign(request) => (request.key.name.clone(), None, self.sign(&request).await),
            Effect::Empty { key, uid, .. } => {
                let result = match target.plural() {
                    "namespaces" => namespace::empty(&self.client, &key.name, &uid).await,
                    _ => definition::empty(&self.client, &resource, &key, &uid).await,
                };
                (key.name, None, result)
            }
            Effect::Event(_) | Effect::IfAllowed { .. } => return Done::Nothing,
        };
        match result {
            Ok(object) => {
                let made = object["metadata"]["name"].as_str().unwrap_or(&name);
                self.note(notes.and_then(|notes| notes.on_done(made)));
                Done::Wrote(target, revision_of(&object))
            }
            Err(error) => self.refused(verb, target, &name, notes.as_deref(), &error),
        }
    }
    async fn delete(
        &self,
        target: Target,
        resource: Resource,
        key: Key,
        uid: String,
        grace_seconds: Option<u32>,
        notes: Option<Box<Notes>>,
    ) -> Done {
        // Said, since some kinds' first versions keep what they own.
        let mut params = DeleteParams::of_uid(uid.clone()).propagation(Propagation::Background);
        params.grace_period_seconds = grace_seconds;
        match self.client.delete_value(&resource, &key, &params).await {
            Ok(_) => {
                self.note(notes.and_then(|notes| notes.on_done(&key.name)));
                Done::Deleted(target, key, uid)
            }
            // Gone, or another object has the name by now: the deletion has been done.
            Err(error) if error.is_not_found() || error.is_conflict() => {
                Done::Deleted(target, key, uid)
            }
            Err(error) => self.refused("delete", target, &key.name, notes.as_deref(), &error),
        }
    }
    async fn is_allowed(&self, review: &Value) -> Result<bool, Error> {
        let reviews = Resource::fixed("authorization.k8s.io", "v1", "subjectaccessreviews");
        let object = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": review,
        });
        let answer = self.client.create_value(&reviews, None, &object).await?;
        Ok(answer["status"]["allowed"] == true)
    }
    async fn sign(&self, request: &SignRequest) -> Result<Value, Error> {
        use api::k8s::api::certificates::v1::CertificateSigningRequest as Csr;
        let Some(signer) = &self.signer else {
            return Err(Error::Config("this process holds no signing key".into()));
        };
        let status = match signer.sign(request) {
            Ok(pem) => json!({ "certificate": api::k8s::ByteString(pem) }),
            Err(why) => return self.cannot_sign(request, &why).await,
        };
        let patch = json!({ "metadata": { "uid": request.uid }, "status": status });
        let resource = Resource::of::<Csr>();
        self.client.patch_value(&resource, &request.key, &Patch::Merge(patch), Some("status")).await
    }
    async fn cannot_sign(&self, request: &SignRequest, why: &str) -> Result<Value, Error> {
        use api::k8s::api::certificates::v1::CertificateSigningRequest as Csr;
        let resource = Resource::of::<Csr>();
        let mut object = self.client.get_value(&resource, &request.key).await?;
        let now = reconcile::Now::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let failed = json!({
            "type": "Failed", "status": "True", "reason": "SignerValidationFailure",
            "message": why, "lastUpdateTime": now, "lastTransitionTime": now,
        });
        match object["status"]["conditions"].as_array_mut() {
            Some(conditions) => conditions.push(failed),
            None => object["status"]["conditions"] = json!([failed]),
        }
        self.client.replace_value(&resource, &request.key, Some("status"), &object).await
    }
    fn refused(
        &self,
        verb: &'static str,
        target: Target,
        name: &str,
        notes: Option<&Notes>,
        error: &Error,
    ) -> Done {
        if error.is_conflict() && verb != "post" {
            return Done::Stale;
        }
        if verb != "create" && error.is_not_found() {
            return Done::Nothing;
        }
        if verb == "create" && error.is_namespace_terminating() {
            return Done::Nothing;
        }
        let message = Chain(error).to_string();
        let kind = target.kind();
        tracing::debug!(verb, kind, name, error = %message, "an effect was refused");
        self.note(notes.and_then(|notes| notes.on_failed(name, &message)));
        Done::Failed(Failure { verb, message })
    }
    fn note(&self, note: Option<reconcile::Note>) {
        if let Some(note) = note {
            self.recorder.record(note);
        }
    }
}

/// Only creations, and only deletions, of one kind go beside each other.
fn alike_as(effect: &Effect) -> Option<(&'static str, Target)> {
    match effect {
        Effect::Create { target, .. } | Effect::Delete { target, .. } => {
            Some((effect.verb(), *target))
        }
        _ => None,
    }
}

/// What is done even after a refusal: it only tells how things are.
fn is_report(effect: &Effect) -> bool {
    matches!(effect, Effect::Event(_) | Effect::Patch { subresource: Some("status"), .. })
}
