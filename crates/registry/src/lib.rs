//! The table of API resources. Built-ins are static rows; CRDs add rows at run time.
//!
//! A row is pure: it has no clock, no store and no client. Everything that the API server does with
//! a kind (routing, discovery, OpenAPI, tables, selectors) it reads from the row; there are no
//! per-kind handlers. To add a kind: write one file under its group, add one line to [`RESOURCES`].
pub mod at;
mod core;
pub mod meta;
pub mod names;
mod row;

pub use at::At;

pub use row::{
    Column, Convert, Deletion, Info, Resource, ScalePaths, Scope, Subresource, Verbs, object,
};

/// Every built-in resource.
pub static RESOURCES: &[&dyn Resource] = &[&core::config_map::ConfigMaps];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn rows_are_unique() {
        let mut seen = BTreeSet::new();
        for row in RESOURCES {
            let info = row.info();
            let gvk = &info.gvk;
            assert!(
                seen.insert((gvk.group.clone(), gvk.version.clone(), info.plural.clone())),
                "duplicate {}",
                info.plural
            );
        }
    }
}
