//! Which changes make which keys worth another look.
use crate::{Stored, Target, World, meta};
use api::{Key, Kind};

/// When an object of `target` changes, the keys to look at again.
pub struct Watch {
    pub target: Target,
    keys: Box<dyn Fn(&World, &Stored, &mut Vec<Key>) + Send + Sync>,
}

impl Watch {
    /// The object itself is what is reconciled.
    pub fn own<K: Kind>() -> Self {
        Self::map::<K>(|_, object| vec![object.key()])
    }
    /// The object that controls it, if that is of this kind.
    pub fn owner<K: Kind, Owner: Kind>() -> Self {
        Self::map::<K>(|_, object| {
            let meta = object.metadata();
            let owner = meta::controller_of(meta).filter(|owner| {
                let group = owner.api_version.rsplit_once('/').map_or("", |(group, _)| group);
                owner.kind == Owner::KIND && group == Owner::GROUP
            });
            let namespace = meta.namespace.clone().unwrap_or_default();
            owner.map(|owner| Key::new(namespace, owner.name.clone())).into_iter().collect()
        })
    }
    /// Any other rule. It is asked about the object as it was and as it is.
    pub fn map<K: Kind>(keys: fn(&World, &K) -> Vec<Key>) -> Self {
        let keys = move |world: &World, object: &Stored, out: &mut Vec<Key>| {
            if let Some(object) = object.downcast_ref::<K>() {
                out.extend(keys(world, object));
            }
        };
        Self { target: Target::of::<K>(), keys: Box::new(keys) }
    }
    pub fn keys(&self, world: &World, object: &Stored, out: &mut Vec<Key>) {
        (self.keys)(world, object, out);
    }
}
