//! The API server: one pipeline for every request, one cache for every resource.
//!
//! Knows HTTP, the store's contract and the table of rows; has nothing for one kind alone except
//! the subresources and allocations that are a kind's own behaviour. Nothing that comes from
//! outside can make it panic or hold memory without bound.
mod aggregate;
mod allocate;
mod body;
mod bootstrap;
pub mod cache;
mod clock;
mod codec;
mod config;
mod discovery;
mod expiry;
mod gather;
mod identity;
mod in_process;
mod kinds;
mod meta;
mod metrics;
mod negotiate;
mod openapi;
mod patching;
mod proxy;
mod quota;
mod reply;
mod request_info;
mod serve;
mod server;
mod streams;
mod subresource;
mod table;
mod tabular;
mod verbs;
mod webhooks;
mod websocket;
mod wellknown;

pub use body::Body;
pub use config::{Cidr, Config};
pub use in_process::InProcess;
pub use serve::{TlsError, serve, tls};
pub use server::{Caller, ConnInfo, Server};
pub use table::{Row, Table};
pub use wellknown::GIT_VERSION;

#[cfg(test)]
mod tests;
