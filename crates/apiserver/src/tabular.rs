//! Server-side tables and metadata-only objects.
use crate::clock;
use crate::table::Row;
use api::{ApiError, Gvk, Value};
use value::json;

/// What a table's rows carry of their objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Include {
    None,
    Metadata,
    Object,
}

impl Include {
    pub(crate) fn parse(text: &str) -> Result<Self, ApiError> {
        match text {
            "" | "Metadata" => Ok(Self::Metadata),
            "None" => Ok(Self::None),
            "Object" => Ok(Self::Object),
            other => {
                Err(ApiError::bad_request(format!("unrecognized includeObject value: {other:?}")))
            }
        }
    }
}

pub(crate) struct Tabular<'a> {
    row: &'a Row,
    meta_version: &'static str,
    include: Include,
    now: i64,
}

impl<'a> Tabular<'a> {
    pub(crate) fn new(row: &'a Row, meta_version: &'static str, include: Include) -> Self {
        Self { row, meta_version, include, now: clock::now() }
    }

    pub(crate) fn row(&self, object: &Value) -> Value {
        let mut row = json!({ "cells": self.row.cells(object, self.now) });
        match self.include {
            Include::None => row["object"] = Value::Null,
            Include::Metadata => row["object"] = partial(object, self.meta_version),
            Include::Object => row["object"] = object.clone(),
        }
        row
    }

    pub(crate) fn table(&self, metadata: Value, rows: &[Value], columns: bool) -> Value {
        let gvk = table_gvk(self.meta_version);
        let definitions = if columns { self.row.headings() } else { Value::Null };
        json!({
            "kind": "Table", "apiVersion": gvk.api_version(), "metadata": metadata,
            "columnDefinitions": definitions, "rows": rows,
        })
    }
}

pub(crate) fn partial(object: &Value, meta_version: &str) -> Value {
    json!({
        "kind": "PartialObjectMetadata", "apiVersion": format!("meta.k8s.io/{meta_version}"),
        "metadata": object["metadata"],
    })
}

pub(crate) fn table_gvk(meta_version: &str) -> Gvk {
    Gvk::new(&format!("meta.k8s.io/{meta_version}"), "Table")
}

pub(crate) fn partial_gvk(meta_version: &str, list: bool) -> Gvk {
    let kind = if list { "PartialObjectMetadataList" } else { "PartialObjectMetadata" };
    Gvk::new(&format!("meta.k8s.io/{meta_version}"), kind)
}
