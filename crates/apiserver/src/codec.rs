//! Between the wire and objects.
use crate::body::{self, Body, Pieces};
use crate::negotiate::Encoding;
use crate::table::Row;
use api::{ApiError, Gvk, Value};
use bytes::Bytes;
use schema::TypeRef;
use std::collections::VecDeque;

/// What happens with fields that the kind does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

impl FieldValidation {
    pub(crate) fn parse(text: &str) -> Result<Self, ApiError> {
        match text {
            "" | "Warn" => Ok(Self::Warn),
            "Ignore" => Ok(Self::Ignore),
            "Strict" => Ok(Self::Strict),
            other => {
                let errors = [api::FieldError::not_supported(
                    "fieldValidation",
                    other,
                    &["Ignore", "Strict", "Warn"],
                )];
                Err(ApiError::invalid("meta.k8s.io", "CreateOptions", "", &errors))
            }
        }
    }
}

pub(crate) fn has_protobuf(gvk: &Gvk) -> bool {
    schema::builtin().type_of(gvk).is_some()
}

/// A kind, and what its objects look like.
#[derive(Clone, Copy)]
pub(crate) struct Of<'a> {
    pub gvk: &'a Gvk,
    pub ty: Option<TypeRef<'a>>,
}

impl<'a> From<&'a Row> for Of<'a> {
    fn from(row: &'a Row) -> Self {
        Self { gvk: &row.info().gvk, ty: row.ty() }
    }
}

impl<'a> From<&'a Gvk> for Of<'a> {
    fn from(gvk: &'a Gvk) -> Self {
        Self { gvk, ty: schema::builtin().type_of(gvk) }
    }
}

impl Of<'_> {
    /// It has no protobuf, and its objects are changed without what Go types say.
    pub(crate) fn is_custom(&self) -> bool {
        self.ty.is_some_and(|ty| ty.graph().is_custom())
    }
}

/// The body of a write, as an object of `gvk`. The second is what to warn of.
pub(crate) fn decode<'a>(
    bytes: &[u8],
    content_type: &str,
    of: impl Into<Of<'a>>,
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), ApiError> {
    let of = of.into();
    let gvk = of.gvk;
    let refuse = |why: String| {
        let (kind, version) = (&gvk.kind, &gvk.version);
        ApiError::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {kind}: {why}"
        ))
    };
    match media(content_type) {
        "" | "application/json" | "*/*" => {
            let ty = of.ty.ok_or_else(|| refuse("it has no schema".to_owned()))?;
            let decoded = schema::decode_json(bytes, ty);
            // A body of another kind is told so, not of the fields that it lacks.
            if !decoded.as_ref().is_ok_and(|decoded| decoded.strict.is_empty()) {
                typed_head(bytes, gvk)?;
            }
            let decoded = decoded.map_err(|error| refuse(error.to_string()))?;
            let warnings = strictness(decoded.strict, validation)?;
            let mut value = decoded.value;
            typed(&mut value, gvk)?;
            Ok((value, warnings))
        }
        "application/yaml" => {
            let ty = of.ty.ok_or_else(|| refuse("it has no schema".to_owned()))?;
            let decoded =
                schema::decode_yaml(bytes, ty).map_err(|error| refuse(error.to_string()))?;
            let warnings = strictness(decoded.strict, validation)?;
            let mut value = decoded.value;
            typed(&mut value, gvk)?;
            Ok((value, warnings))
        }
        "application/vnd.kubernetes.protobuf" if !of.is_custom() => {
            let (found, mut value) = schema::decode_proto(schema::builtin(), bytes)
                .map_err(|error| refuse(error.to_string()))?;
            if found.kind.is_empty() && found.version.is_empty() {
                let ty = of.ty.ok_or_else(|| refuse("it has no schema".to_owned()))?;
                value = schema::decode_proto_body(ty, bytes)
                    .map_err(|error| refuse(error.to_string()))?;
            } else if found != *gvk {
                let map =
                    value.as_object_mut().ok_or_else(|| refuse("not an object".to_owned()))?;
                map.insert("apiVersion", found.api_version().into());
                map.insert("kind", found.kind.as_ref().into());
            }
            typed(&mut value, gvk)?;
            Ok((value, Vec::new()))
        }
        other => Err(unsupported(other)),
    }
}

/// A value that a patch made, as an object of `gvk`.
pub(crate) fn recheck<'a>(
    value: &Value,
    of: impl Into<Of<'a>>,
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), ApiError> {
    let Of { gvk, ty } = of.into();
    let Some(ty) = ty else { return Ok((value.clone(), Vec::new())) };
    let decoded = schema::decode_value(value, ty).map_err(|error| {
        ApiError::bad_request(format!(
            "{} in version {:?} cannot be handled as a {}: {error}",
            gvk.kind, gvk.version, gvk.kind
        ))
    })?;
    let warnings = strictness(decoded.strict, validation)?;
    let mut value = decoded.value;
    typed(&mut value, gvk)?;
    Ok((value, warnings))
}

/// An applied configuration: as it is, less what the kind does not have.
pub(crate) fn known_fields(
    config: &Value,
    of: Of<'_>,
    validation: FieldValidation,
) -> Result<Value, ApiError> {
    // What a custom resource does not declare is an error, which applying it finds.
    let Some(ty) = of.ty.filter(|_| !of.is_custom()) else { return Ok(config.clone()) };
    let decoded = schema::decode_value(config, ty).map_err(|error| {
        ApiError::bad_request(format!("failed to create typed patch object: {error}"))
    })?;
    if validation == FieldValidation::Strict && !decoded.strict.is_empty() {
        return Err(ApiError::bad_request(schema::strict_error(&decoded.strict)));
    }
    if decoded.strict.is_empty() {
        return Ok(config.clone());
    }
    let mut kept = config.clone();
    retain_known(&mut kept, &decoded.value);
    Ok(kept)
}

/// Drops fields that decoding has dropped.
fn retain_known(config: &mut Value, known: &Value) {
    match (config, known) {
        (Value::Object(config), Value::Object(known)) => {
            config.retain(|key, value| known.contains_key(key) || is_zero(value));
            for (key, value) in config {
                if let Some(known) = known.get(key) {
                    retain_known(value, known);
                }
            }
        }
        (Value::Array(config), Value::Array(known)) if config.len() == known.len() => {
            config.iter_mut().zip(known).for_each(|(config, known)| retain_known(config, known));
        }
        _ => {}
    }
}

/// What decoding may leave out without its being unknown.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(on) => !on,
        Value::Number(number) => number.as_f64() == Some(0.0),
    }
}

fn strictness(strict: Vec<String>, validation: FieldValidation) -> Result<Vec<String>, ApiError> {
    match validation {
        FieldValidation::Ignore => Ok(Vec::new()),
        FieldValidation::Strict if !strict.is_empty() => {
            Err(ApiError::bad_request(schema::strict_error(&strict)))
        }
        _ => Ok(strict),
    }
}

pub(crate) fn media(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// Kind and version alone, if the body has them.
fn typed_head(bytes: &[u8], gvk: &Gvk) -> Result<(), ApiError> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Head {
        #[serde(default)]
        api_version: Value,
        #[serde(default)]
        kind: Value,
    }
    let Ok(head) = serde_json::from_slice::<Head>(bytes) else { return Ok(()) };
    let mut value = value::json!({ "apiVersion": head.api_version, "kind": head.kind });
    typed(&mut value, gvk)
}

/// JSON to what goes over the wire.
pub(crate) fn encode(gvk: &Gvk, encoding: Encoding, json: Bytes) -> Result<Bytes, ApiError> {
    match encoding {
        Encoding::Json => Ok(json),
        Encoding::Yaml => Ok(schema::to_yaml(&crate::verbs::object::parse(&json)).into()),
        Encoding::Protobuf => {
            let mut out = Vec::with_capacity(json.len());
            schema::encode_json_as_proto(schema::builtin(), gvk, &json, &mut out)
                .map_err(ApiError::internal)?;
            Ok(out.into())
        }
    }
}

/// An object of a list, from JSON: its part if the list is protobuf.
pub(crate) fn encode_item(gvk: &Gvk, encoding: Encoding, json: Bytes) -> Result<Bytes, ApiError> {
    match encoding {
        Encoding::Protobuf => schema::encode_part(schema::builtin(), gvk, &json)
            .map(Bytes::from)
            .map_err(ApiError::internal),
        Encoding::Json | Encoding::Yaml => Ok(json),
    }
}

/// A list of items that [`encode_item`] made, put together while it is sent.
pub(crate) fn list_body(
    gvk: &Gvk,
    encoding: Encoding,
    metadata: &Value,
    items: Vec<Bytes>,
) -> Result<Body, ApiError> {
    let (head, between, tail) = match encoding {
        Encoding::Protobuf => {
            let length = items.iter().map(Bytes::len).sum();
            let head = schema::list_head(schema::builtin(), gvk, metadata, length)
                .map_err(ApiError::internal)?;
            (head, &[][..], schema::PROTO_TAIL)
        }
        Encoding::Json | Encoding::Yaml => {
            let (kind, version) = (gvk.kind.as_ref(), gvk.api_version());
            let version = version.as_ref();
            let head = format!(
                "{{\"kind\":{kind:?},\"apiVersion\":{version:?},\"metadata\":{metadata},\"items\":["
            );
            (head.into_bytes(), &b","[..], &b"]}\n"[..])
        }
    };
    let mut pieces = VecDeque::with_capacity(items.len() * 2 + 2);
    pieces.push_back(Bytes::from(head));
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 && !between.is_empty() {
            pieces.push_back(Bytes::from_static(between));
        }
        pieces.push_back(item);
    }
    pieces.push_back(Bytes::from_static(tail));
    if encoding == Encoding::Yaml {
        let json: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
        return Ok(body::full(encode(gvk, encoding, json.into())?));
    }
    Ok(Pieces::new(pieces).boxed())
}

/// One event of a watch; the object is encoded already.
pub(crate) fn watch_frame(encoding: Encoding, kind: &str, object: &[u8]) -> Bytes {
    match encoding {
        Encoding::Protobuf => {
            let mut out = Vec::with_capacity(object.len() + 32);
            schema::watch_frame(kind, object, &mut out);
            out.into()
        }
        _ => crate::cache::json_frame(kind, object),
    }
}

/// Checks kind and version, and fills them in where they are missing.
pub(crate) fn typed(value: &mut Value, gvk: &Gvk) -> Result<(), ApiError> {
    let Some(map) = value.as_object_mut() else {
        return Err(ApiError::bad_request("the body of the request is not an object"));
    };
    let api_version = gvk.api_version().into_owned();
    let have = |map: &value::Map, key: &str| {
        map.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let (version, kind) = (have(map, "apiVersion"), have(map, "kind"));
    if !kind.is_empty() && kind != gvk.kind {
        return Err(ApiError::bad_request(format!(
            "{kind} in version {:?} cannot be handled as a {}: converting ({version}).{kind} to \
             ({api_version}).{}: unknown conversion",
            version.rsplit('/').next().unwrap_or_default(),
            gvk.kind,
            gvk.kind
        )));
    }
    if !version.is_empty() && version != api_version {
        return Err(ApiError::bad_request(format!(
            "the API version in the data ({version}) does not match the expected API version \
             ({api_version})"
        )));
    }
    map.insert("apiVersion", api_version.into());
    map.insert("kind", gvk.kind.as_ref().into());
    Ok(())
}

pub(crate) fn unsupported(media: &str) -> ApiError {
    ApiError::unsupported_media_type(format!(
        "the body of the request was in an unknown format - accepted media types include: \
         application/json, application/yaml, application/vnd.kubernetes.protobuf (not {media:?})"
    ))
}

/// From the stored version to the row's own.
pub(crate) fn from_stored(row: &Row, value: Value) -> Value {
    match row.convert() {
        Some(convert) => convert.to_own(value),
        None => value,
    }
}

/// From the row's own version to the stored one.
pub(crate) fn to_stored(row: &Row, value: Value) -> Value {
    match row.convert() {
        Some(convert) => convert.to_stored(value),
        None => value,
    }
}
