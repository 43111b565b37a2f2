//! The vocabulary of the API: object types, keys, selectors, quantities and errors.
//!
//! Knows no I/O, no server, no store and no clock. The typed kinds are `k8s-openapi`'s, under
//! [`k8s`]; [`Kind`] is what generic code needs of them.
pub mod access;
pub mod cron;
pub mod error;
pub mod kind;
pub mod quantity;
pub mod quota;
pub mod selector;

pub use access::{Attributes, Objects, User};
pub use error::{ApiError, FieldError, FieldErrors};
pub use k8s_openapi as k8s;
pub use kind::{Gvk, Key, Kind, Revision};
pub use quantity::Quantity;
pub use selector::{FieldSelector, LabelSelector};
pub use value::Value;
