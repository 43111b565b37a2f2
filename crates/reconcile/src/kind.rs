//! Kinds as values: what the shell needs to fetch, decode and keep objects of a type.
use crate::lean::lean;
use crate::world::{Cache, ErasedCache};
use api::{Key, Kind, Revision};
use std::any::{Any, TypeId};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::sync::Arc;

/// An object of any kind, shared.
pub type Stored = Arc<dyn Any + Send + Sync>;

/// One kind; compares by type.
#[derive(Clone, Copy)]
pub struct Target(&'static dyn KindOps);

trait KindOps: Send + Sync {
    fn id(&self) -> TypeId;
    fn names(&self) -> [&'static str; 4];
    fn decode(&self, json: &[u8]) -> Result<Stored, serde_json::Error>;
    fn identify(&self, object: &Stored) -> (Key, Revision);
    fn new_cache(&self) -> Box<dyn ErasedCache>;
}

struct Ops<K>(PhantomData<fn() -> K>);

impl<K: Kind> KindOps for Ops<K> {
    fn id(&self) -> TypeId {
        TypeId::of::<K>()
    }
    fn names(&self) -> [&'static str; 4] {
        [K::GROUP, K::VERSION, K::KIND, K::URL_PATH_SEGMENT]
    }
    fn decode(&self, json: &[u8]) -> Result<Stored, serde_json::Error> {
        let mut object: K = serde_json::from_slice(&lean(json))?;
        // What servers write in another way than ours is left.
        object.metadata_mut().managed_fields = None;
        Ok(Arc::new(object))
    }
    fn identify(&self, object: &Stored) -> (Key, Revision) {
        let object: Option<&K> = object.downcast_ref();
        object.map_or_else(Default::default, |object| (object.key(), object.revision()))
    }
    fn new_cache(&self) -> Box<dyn ErasedCache> {
        Box::new(Cache::<K>::default())
    }
}

impl Target {
    pub fn of<K: Kind>() -> Self {
        struct Of<K>(PhantomData<K>);
        impl<K: Kind> Of<K> {
            const OPS: &'static dyn KindOps = &Ops::<K>(PhantomData);
        }
        Self(Of::<K>::OPS)
    }
    pub fn id(self) -> TypeId {
        self.0.id()
    }
    pub fn group(self) -> &'static str {
        self.0.names()[0]
    }
    pub fn version(self) -> &'static str {
        self.0.names()[1]
    }
    pub fn kind(self) -> &'static str {
        self.0.names()[2]
    }
    pub fn plural(self) -> &'static str {
        self.0.names()[3]
    }
    pub fn api_version(self) -> String {
        match self.group() {
            "" => self.version().to_owned(),
            group => format!("{group}/{}", self.version()),
        }
    }
    /// Decodes an object as the caches hold it: without its managed fields.
    pub fn decode(self, json: &[u8]) -> Result<Stored, serde_json::Error> {
        self.0.decode(json)
    }
    /// An object's key and the revision that wrote it.
    pub fn identify(self, object: &Stored) -> (Key, Revision) {
        self.0.identify(object)
    }
    pub(crate) fn new_cache(self) -> Box<dyn ErasedCache> {
        self.0.new_cache()
    }
}

impl PartialEq for Target {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl Eq for Target {}

impl Hash for Target {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id().hash(state);
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())
    }
}
