//! One object as an answer, in the form and encoding that is wanted.
use crate::body::Body;
use crate::cache::item::{Item, with_revision};
use crate::negotiate::{Encoding, Form, Wanted};
use crate::server::Context;
use crate::table::Row;
use crate::{codec, reply, tabular};
use api::{ApiError, Value};
use bytes::Bytes;
use http::{Response, StatusCode};

/// The answer for an object of the row, given as stored bytes with the resource version.
pub(crate) fn respond(
    context: &Context,
    status: StatusCode,
    json: Bytes,
) -> Result<Response<Body>, ApiError> {
    let wanted = context.wanted()?;
    let bytes = encode(&context.row, wanted, json, &context.query)?;
    Ok(reply::bytes(context.reply(status), wanted, pretty(context, wanted, bytes)))
}

/// The answer for a value that is not kept, of a kind of its own.
pub(crate) fn respond_value(
    context: &Context,
    status: StatusCode,
    value: &Value,
) -> Result<Response<Body>, ApiError> {
    let gvk = api::Gvk::new(
        value["apiVersion"].as_str().unwrap_or_default(),
        value["kind"].as_str().unwrap_or_default(),
    );
    let offer =
        crate::negotiate::Offer { protobuf: codec::has_protobuf(&gvk), yaml: true, forms: false };
    // Only a plain answer is given to those, too, who ask for a table of what they name.
    let offer = crate::negotiate::Offer { forms: gvk.kind == "Status", ..offer };
    let mut wanted = crate::negotiate::negotiate(&context.accept, offer)?;
    wanted.form = Form::Object;
    let bytes = codec::encode(&gvk, wanted.encoding, value.to_string().into())?;
    Ok(reply::bytes(context.reply(status), wanted, pretty(context, wanted, bytes)))
}

/// Stored bytes (with the resource version) to what goes over the wire.
pub(crate) fn encode(
    row: &Row,
    wanted: Wanted,
    json: Bytes,
    query: &crate::request_info::Query,
) -> Result<Bytes, ApiError> {
    let gvk = &row.info().gvk;
    match wanted.form {
        Form::Object => codec::encode(gvk, wanted.encoding, converted(row, json)),
        Form::Metadata => {
            let kind = tabular::partial_gvk(wanted.meta_version, false);
            codec::encode(&kind, wanted.encoding, metadata_alone(&kind, &json))
        }
        Form::Table => {
            let object = codec::from_stored(row, parse(&json));
            let include = tabular::Include::parse(query.get("includeObject"))?;
            let table = tabular::Tabular::new(row, wanted.meta_version, include);
            let rows = [table.row(&object)];
            let revision = object["metadata"]["resourceVersion"].as_str().unwrap_or_default();
            let metadata = value::json!({ "resourceVersion": revision });
            let text = table.table(metadata, &rows, true).to_string();
            codec::encode(&tabular::table_gvk(wanted.meta_version), wanted.encoding, text.into())
        }
    }
}

/// An object of `kind` that has nothing but the metadata of the one that is given: it is not
/// decoded for that.
fn metadata_alone(kind: &api::Gvk, json: &[u8]) -> Bytes {
    #[derive(serde::Deserialize)]
    struct Only<'a> {
        #[serde(borrow)]
        metadata: Option<&'a serde_json::value::RawValue>,
    }
    let only = serde_json::from_slice::<Only<'_>>(json).ok().and_then(|only| only.metadata);
    let metadata = only.map_or("{}", serde_json::value::RawValue::get);
    let (name, version) = (&kind.kind, kind.api_version());
    Bytes::from(format!(
        "{{\"kind\":\"{name}\",\"apiVersion\":\"{version}\",\"metadata\":{metadata}}}"
    ))
}

/// An object of a list. Protobuf is kept with the object: the same objects are listed again.
pub(crate) fn list_item(row: &Row, encoding: Encoding, item: &Item) -> Result<Bytes, ApiError> {
    let encode =
        || codec::encode_item(&row.info().gvk, encoding, converted(row, item.json.clone()));
    match encoding {
        Encoding::Protobuf if row.convert().is_none() => item.part(encode),
        _ => encode(),
    }
}

/// The row's own version of stored bytes.
pub(crate) fn converted(row: &Row, json: Bytes) -> Bytes {
    if row.convert().is_none() {
        return json;
    }
    let value = parse(&json);
    let revision = value["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok());
    let bytes = crate::cache::canonical(&codec::from_stored(row, value));
    with_revision(&bytes, revision.unwrap_or_default())
}

pub(crate) fn parse(json: &[u8]) -> Value {
    serde_json::from_slice(json).unwrap_or_default()
}

/// Lines for people who ask with a browser or curl.
fn pretty(context: &Context, wanted: Wanted, bytes: Bytes) -> Bytes {
    let asked = match context.query.has("pretty") {
        true => context.query.flag("pretty"),
        false => {
            context.user_agent.starts_with("curl")
                || context.user_agent.starts_with("Wget")
                || context.user_agent.starts_with("Mozilla/5.0")
        }
    };
    if wanted.encoding != Encoding::Json {
        return bytes;
    }
    let lines = asked.then(|| serde_json::to_vec_pretty(&parse(&bytes)).ok()).flatten();
    let text = lines.as_deref().unwrap_or(&bytes);
    let mut out = Vec::with_capacity(text.len() + 1);
    out.extend_from_slice(text);
    out.push(b'\n');
    out.into()
}
