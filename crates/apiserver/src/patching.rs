//! The patches that `PATCH` knows, and who owns which field.
use crate::codec::{self, Of};
use crate::server::Context;
use crate::{clock, meta};
use api::{ApiError, FieldError, Value};
use http::StatusCode;
use merge::apply::{ApplyError, Manager, apply, track_update};
use merge::{PatchError, Set};
use schema::TypeRef;

/// A manager's name may not be longer.
const MAX_MANAGER_BYTES: usize = 128;

/// A patch, read but not applied.
pub(crate) enum Patch {
    Json(Value),
    Merge(Value),
    Strategic(Value),
    /// Server-side apply: the configuration.
    Apply(Value),
}

impl Patch {
    pub(crate) fn parse<'a>(
        content_type: &str,
        bytes: &[u8],
        of: impl Into<Of<'a>>,
    ) -> Result<Self, ApiError> {
        let of = of.into();
        let strategic = of.ty.is_some() && !of.is_custom();
        let json = || {
            serde_json::from_slice::<Value>(bytes)
                .map_err(|error| ApiError::bad_request(format!("error decoding patch: {error}")))
        };
        match codec::media(content_type) {
            "application/json-patch+json" => Ok(Self::Json(json()?)),
            "application/merge-patch+json" => Ok(Self::Merge(json()?)),
            "application/strategic-merge-patch+json" if strategic => Ok(Self::Strategic(json()?)),
            "application/apply-patch+yaml" => {
                let (value, duplicates) = schema::yaml_to_json(bytes).map_err(|error| {
                    ApiError::bad_request(format!("error decoding YAML: {error}"))
                })?;
                if let Some(duplicates) = duplicates {
                    return Err(ApiError::bad_request(format!(
                        "error decoding YAML: {duplicates}"
                    )));
                }
                Ok(Self::Apply(value))
            }
            other => Err(ApiError::unsupported_media_type(format!(
                "the body of the request was in an unknown format - accepted media types include: \
                 application/json-patch+json, application/merge-patch+json, \
                 {}application/apply-patch+yaml (not {other:?})",
                if strategic { "application/strategic-merge-patch+json, " } else { "" }
            ))),
        }
    }

    pub(crate) fn is_apply(&self) -> bool {
        matches!(self, Self::Apply(_))
    }

    /// The options that only some patches take.
    pub(crate) fn check(&self, context: &Context) -> Result<(), ApiError> {
        let mut errors = Vec::new();
        if self.is_apply() {
            if context.query.get("fieldManager").is_empty() {
                errors.push(FieldError::required("fieldManager", "is required for apply patch"));
            }
        } else if context.query.has("force") {
            let why = "may not be specified for non-apply patch";
            errors.push(FieldError::forbidden("force", why));
        }
        manager_length(context, &mut errors);
        match errors.is_empty() {
            true => Ok(()),
            false => Err(ApiError::invalid("meta.k8s.io", "PatchOptions", "", &errors)),
        }
    }

    /// The object that an apply makes where there is none.
    pub(crate) fn create(&self, context: &Context) -> Result<Value, ApiError> {
        match self {
            Self::Apply(config) => applied(context, None, config),
            _ => Err(context.not_found()),
        }
    }

    pub(crate) fn apply<'a>(
        &self,
        context: &Context,
        of: impl Into<Of<'a>>,
        old: &Value,
    ) -> Result<Value, ApiError> {
        let ty = of.into().ty;
        match self {
            Self::Merge(patch) => Ok(merge::merge_patch(old, patch)),
            Self::Json(patch) => merge::json_patch(old, patch).map_err(patch_error),
            Self::Strategic(patch) => {
                let ty = ty.ok_or_else(ApiError::no_such_path)?;
                merge::strategic(old, patch, ty).map_err(patch_error)
            }
            Self::Apply(config) => applied(context, Some(old), config),
        }
    }
}

fn patch_error(error: PatchError) -> ApiError {
    match error {
        PatchError::Malformed(why) => ApiError::bad_request(why),
        PatchError::TooMany(_) => ApiError::too_large(error.to_string()),
        PatchError::Unfit(why) => {
            let mut error = ApiError::bad_request(why);
            error.code = StatusCode::UNPROCESSABLE_ENTITY;
            error.reason = "Invalid".into();
            error
        }
    }
}

fn applied(context: &Context, live: Option<&Value>, config: &Value) -> Result<Value, ApiError> {
    let gvk = &context.row.info().gvk;
    let mut config = config.clone();
    codec::typed(&mut config, gvk)?;
    // What is not known is refused or dropped before anyone can own it.
    let validation = codec::FieldValidation::parse(context.query.get("fieldValidation"))?;
    let checked = codec::known_fields(&config, (&context.row).into(), validation)?;
    let ownership = Ownership::of(context);
    let force = context.query.flag("force");
    let done =
        apply(live, &checked, context.row.ty(), &ownership.manager(), force, &ownership.ignored());
    done.map_err(|error| match error {
        ApplyError::Conflicts(conflicts) => {
            let (group, plural) = (context.row.group(), context.row.plural());
            let mut out = ApiError::conflict(group, plural, &context.info.name, "");
            out.message = conflicts.to_string();
            for conflict in &conflicts.0 {
                out = out.with_cause("FieldManagerConflict", conflict.message(), &conflict.path);
            }
            out
        }
        other => ApiError::bad_request(other.to_string()),
    })
}

fn manager_length(context: &Context, errors: &mut Vec<FieldError>) {
    let name = context.query.get("fieldManager");
    if name.len() > MAX_MANAGER_BYTES {
        errors.push(FieldError::too_long("fieldManager", MAX_MANAGER_BYTES));
    }
    if name.chars().any(char::is_control) {
        let why = "should only contain printable characters";
        errors.push(FieldError::invalid("fieldManager", name, why));
    }
}

/// Keeps `metadata.managedFields` true to what each manager has written.
pub(crate) struct Ownership {
    name: String,
    api_version: String,
    subresource: String,
    time: String,
    has_status: bool,
}

impl Ownership {
    pub(crate) fn of(context: &Context) -> Self {
        let asked = context.query.get("fieldManager");
        let agent = context.user_agent.split('/').next().unwrap_or_default();
        let name: String = match asked {
            "" => agent.chars().filter(|c| !c.is_control()).take(MAX_MANAGER_BYTES).collect(),
            asked => asked.to_owned(),
        };
        let info = context.row.info();
        Self {
            name: if name.is_empty() { "unknown".into() } else { name },
            api_version: info.gvk.api_version().into_owned(),
            subresource: context.info.subresource.clone(),
            time: clock::now_text(),
            has_status: info.subresources.iter().any(|sub| sub.name == "status"),
        }
    }

    fn manager(&self) -> Manager<'_> {
        Manager {
            name: &self.name,
            api_version: &self.api_version,
            subresource: &self.subresource,
            time: &self.time,
        }
    }

    /// What this endpoint does not write.
    fn ignored(&self) -> Set {
        match self.subresource.as_str() {
            "" if self.has_status => Set::of(&[&["status"]]),
            "status" => Set::of(&[&["spec"]]),
            _ => Set::default(),
        }
    }

    /// A new object; an applied one comes with its owners.
    pub(crate) fn created(&self, new: &mut Value, ty: Option<TypeRef<'_>>, applied: bool) {
        if !applied {
            track_update(None, new, ty, &self.manager(), &self.ignored());
        }
    }

    pub(crate) fn updated(
        &self,
        new: &mut Value,
        old: &Value,
        ty: Option<TypeRef<'_>>,
        patch: Option<&Patch>,
    ) {
        if !patch.is_some_and(Patch::is_apply) {
            track_update(Some(old), new, ty, &self.manager(), &self.ignored());
        }
        // Owning the same as before, only later, is no change.
        if same_but_times(new, old)
            && let Some(fields) = old["metadata"].get("managedFields")
        {
            meta::of(new).insert("managedFields", fields.clone());
        }
    }
}

fn same_but_times(new: &Value, old: &Value) -> bool {
    let (Some(a), Some(b)) = (new.as_object(), old.as_object()) else { return false };
    let same_rest = a.len() == b.len()
        && a.iter().all(|(key, value)| key == "metadata" || b.get(key) == Some(value));
    if !same_rest {
        return false;
    }
    let timeless = |object: &Value| {
        let mut metadata = object["metadata"].clone();
        let entries = metadata.get_mut("managedFields").and_then(Value::as_array_mut);
        for entry in entries.into_iter().flatten() {
            if let Some(map) = entry.as_object_mut() {
                map.remove("time");
            }
        }
        metadata
    };
    timeless(new) == timeless(old)
}
