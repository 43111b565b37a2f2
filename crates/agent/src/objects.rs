//! ConfigMaps, Secrets, trust bundles and tokens for the node's pods: each object that a pod refers
//! to is followed by a watch of its own, for that is all a node may read.
use crate::certificates::Certificates;
use crate::shared::Follow;
use crate::worker::Msg;
use api::k8s::api::authentication::v1::TokenRequest;
use api::k8s::api::certificates::v1::ClusterTrustBundle;
use api::k8s::api::core::v1::{ConfigMap, Pod, PodCertificateProjection, Secret};
use api::{Key, Kind};
use async_trait::async_trait;
use client::{Client, ListParams, Resource};
use informer::{Reflector, Step};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::AbortHandle;
use volume::{Certificate, ObjectRef, Objects, Token, TokenFor};

/// A token is asked for anew after four fifths of its life, or at this age.
const MAX_TOKEN_AGE: SignedDuration = SignedDuration::from_hours(24);

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct ObjectCache {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    certificates: Certificates,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    followed: HashMap<(String, ObjectRef), Followed>,
    tokens: HashMap<TokenKey, (Token, Timestamp)>,
}

/// Pod, account, audience, life time.
type TokenKey = (String, String, String, i64);

struct Followed {
    pods: HashMap<String, UnboundedSender<Msg>>,
    /// `None` until the watch has told.
    object: Option<Option<Object>>,
    task: AbortHandle,
}

#[derive(Clone)]
enum Object {
    ConfigMap(Arc<ConfigMap>),
    Secret(Arc<Secret>),
    Bundles(Arc<BTreeMap<Key, ClusterTrustBundle>>),
}

impl ObjectCache {
    pub fn new(client: Client, node: &str) -> Self {
        let certificates = Certificates::new(client.clone(), node);
        Self { inner: Arc::new(Inner { client, certificates, state: Mutex::default() }) }
    }

    fn start(&self, namespace: &str, reference: &ObjectRef) -> AbortHandle {
        let of = |resource| {
            let reflector = Reflector::new(self.inner.client.clone(), resource);
            let reflector = reflector.fields(fields(reference));
            if namespace.is_empty() { reflector } else { reflector.namespace(namespace) }
        };
        let key = (namespace.to_owned(), reference.clone());
        let cache = Arc::downgrade(&self.inner);
        let tell = move |object: Option<Object>| {
            if let Some(cache) = cache.upgrade() {
                cache.changed(&key, object);
            }
        };
        let task = match reference {
            ObjectRef::ConfigMap(_) => {
                let reflector = of(Resource::of::<ConfigMap>());
                let sink = move |step| newest::<ConfigMap>(step, &tell, Object::ConfigMap);
                tokio::spawn(async move { reflector.run(sink).await })
            }
            ObjectRef::Secret(_) => {
                let reflector = of(Resource::of::<Secret>());
                let sink = move |step| newest::<Secret>(step, &tell, Object::Secret);
                tokio::spawn(async move { reflector.run(sink).await })
            }
            ObjectRef::TrustBundle(_) | ObjectRef::TrustBundles(_) => {
                let reflector = of(Resource::of::<ClusterTrustBundle>());
                let mut all = BTreeMap::new();
                let sink = move |step| {
                    if gather(&mut all, step) {
                        tell(Some(Object::Bundles(Arc::new(all.clone()))));
                    }
                };
                tokio::spawn(async move { reflector.run(sink).await })
            }
        };
        task.abort_handle()
    }

    fn cached(&self, namespace: &str, reference: ObjectRef) -> Option<Option<Object>> {
        let state = self.inner.lock();
        state.followed.get(&(namespace.to_owned(), reference))?.object.clone()
    }

    async fn fetch<K: Kind>(&self, namespace: &str, name: &str) -> Result<Option<Arc<K>>, String> {
        match self.inner.client.get::<K>(&Key::new(namespace, name)).await {
            Ok(object) => Ok(Some(Arc::new(object))),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(crate::seams::chain(&error)),
        }
    }
}

/// What selects the objects that a reference is to.
fn fields(reference: &ObjectRef) -> String {
    let field = match reference {
        ObjectRef::TrustBundles(_) => "spec.signerName",
        _ => "metadata.name",
    };
    format!("{field}={}", reference.name())
}

/// Where the objects are: trust bundles belong to the cluster.
fn place(namespace: &str, reference: &ObjectRef) -> String {
    match reference {
        ObjectRef::ConfigMap(_) | ObjectRef::Secret(_) => namespace.to_owned(),
        ObjectRef::TrustBundle(_) | ObjectRef::TrustBundles(_) => String::new(),
    }
}

/// Whether anything is different now.
fn gather<K: Kind>(all: &mut BTreeMap<Key, K>, step: Step<K>) -> bool {
    match step {
        Step::Reset { items, .. } => {
            *all = items.into_iter().map(|item| (item.key(), item)).collect();
        }
        Step::Changed { object, .. } => drop(all.insert(object.key(), object)),
        Step::Deleted { object, .. } => drop(all.remove(&object.key())),
        Step::Progress { .. } => return false,
    }
    true
}

fn newest<K: Kind>(step: Step<K>, tell: &impl Fn(Option<Object>), wrap: fn(Arc<K>) -> Object) {
    match step {
        Step::Reset { items, .. } => tell(items.into_iter().next().map(|k| wrap(Arc::new(k)))),
        Step::Changed { object, .. } => tell(Some(wrap(Arc::new(object)))),
        Step::Deleted { .. } => tell(None),
        Step::Progress { .. } => {}
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self, key: &(String, ObjectRef), object: Option<Object>) {
        let mut state = self.lock();
        let Some(followed) = state.followed.get_mut(key) else { return };
        followed.object = Some(object);
        followed.pods.retain(|_, pod| pod.send(Msg::Objects).is_ok());
    }
}

impl Follow for ObjectCache {
    fn follow(
        &self,
        pod_uid: &str,
        namespace: &str,
        wanted: &BTreeSet<ObjectRef>,
        changed: UnboundedSender<Msg>,
    ) {
        let mut state = self.inner.lock();
        for ((ns, reference), followed) in &mut state.followed {
            if *ns == place(namespace, reference) && !wanted.contains(reference) {
                followed.pods.remove(pod_uid);
            }
        }
        for reference in wanted {
            let key = (place(namespace, reference), reference.clone());
            let followed = state.followed.entry(key.clone()).or_insert_with(|| Followed {
                pods: HashMap::new(),
                object: None,
                task: self.start(&key.0, reference),
            });
            followed.pods.insert(pod_uid.to_owned(), changed.clone());
        }
        drop_unused(&mut state);
    }

    fn forget(&self, pod_uid: &str) {
        let mut state = self.inner.lock();
        for followed in state.followed.values_mut() {
            followed.pods.remove(pod_uid);
        }
        state.tokens.retain(|(uid, ..), _| uid != pod_uid);
        self.inner.certificates.forget(pod_uid);
        drop_unused(&mut state);
    }
}

fn drop_unused(state: &mut State) {
    state.followed.retain(|_, followed| {
        if followed.pods.is_empty() {
            followed.task.abort();
        }
        !followed.pods.is_empty()
    });
}

#[async_trait]
impl Objects for ObjectCache {
    async fn config_map(&self, ns: &str, name: &str) -> Result<Option<Arc<ConfigMap>>, String> {
        match self.cached(ns, ObjectRef::ConfigMap(name.to_owned())) {
            Some(Some(Object::ConfigMap(object))) => Ok(Some(object)),
            // Not there yet as far as the watch knows; ask, for it may lag behind.
            _ => self.fetch(ns, name).await,
        }
    }

    async fn secret(&self, ns: &str, name: &str) -> Result<Option<Arc<Secret>>, String> {
        match self.cached(ns, ObjectRef::Secret(name.to_owned())) {
            Some(Some(Object::Secret(object))) => Ok(Some(object)),
            _ => self.fetch(ns, name).await,
        }
    }

    async fn certificate(
        &self,
        pod: &Pod,
        volume: &str,
        source: &PodCertificateProjection,
    ) -> Result<Certificate, String> {
        self.inner.certificates.get(pod, volume, source).await
    }

    async fn trust_bundles(&self, wanted: &ObjectRef) -> Result<Vec<ClusterTrustBundle>, String> {
        match self.cached("", wanted.clone()) {
            Some(Some(Object::Bundles(all))) if !all.is_empty() => {
                Ok(all.values().cloned().collect())
            }
            // As above.
            _ => {
                let params = ListParams { field_selector: fields(wanted), ..ListParams::default() };
                let list = self.inner.client.list::<ClusterTrustBundle>(None, &params).await;
                let mut found = list.map_err(|error| crate::seams::chain(&error))?.items;
                found.sort_by_cached_key(Kind::key);
                Ok(found)
            }
        }
    }

    async fn token(&self, wanted: &TokenFor) -> Result<Token, String> {
        let key = (
            wanted.pod_uid.clone(),
            wanted.service_account.clone(),
            wanted.audience.clone(),
            wanted.expiration_seconds,
        );
        let now = Timestamp::now();
        if let Some((token, renew_at)) = self.inner.lock().tokens.get(&key)
            && *renew_at > now
        {
            return Ok(token.clone());
        }
        let audiences: Vec<&str> = Some(wanted.audience.as_str())
            .filter(|audience| !audience.is_empty())
            .into_iter()
            .collect();
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "metadata": {},
            "spec": {
                "audiences": audiences,
                "expirationSeconds": wanted.expiration_seconds,
                "boundObjectRef": {
                    "apiVersion": "v1", "kind": "Pod", "name": wanted.pod, "uid": wanted.pod_uid,
                },
            },
        });
        let account = Key::new(wanted.namespace.as_str(), wanted.service_account.as_str());
        let resource = Resource::fixed("", "v1", "serviceaccounts");
        let client = &self.inner.client;
        let fail = |why: String| format!("failed to fetch token: {why}");
        let made = client.create_sub(&resource, &account, "token", &request).await;
        let made = made.map_err(|error| fail(crate::seams::chain(&error)))?;
        let made: TokenRequest = serde_json::from_value(made).map_err(|e| fail(e.to_string()))?;
        let status = made.status.and_then(|s| Some((s.token?, s.expiration_timestamp?.0)));
        let (token, expires) =
            status.ok_or_else(|| fail("the answer holds no token".to_owned()))?;
        let token = Token { token, expires };
        let life = token.expires.duration_since(now) * 4 / 5;
        let renew_at = now.checked_add(life.min(MAX_TOKEN_AGE)).unwrap_or(now);
        self.inner.lock().tokens.insert(key, (token.clone(), renew_at));
        Ok(token)
    }
}
