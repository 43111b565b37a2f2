//! The schema graph: what every API type looks like, and the codecs that it drives.
//!
//! [`builtin`] is the graph of the built-in kinds, read from the committed facts of one Kubernetes
//! minor version; a graph for a custom resource has the same nodes. Knows no server, no store and
//! no I/O. Nothing here panics on what comes from outside: decoding is bounded in depth, and the
//! caller bounds the length.
pub mod custom;
mod decode;
mod defaults;
mod encode;
mod facts;
mod finish;
mod gotext;
mod graph;
mod openapi;
mod proto;
mod yaml;

pub use decode::{DecodeError, Decoded, decode_json, decode_value, strict_error};
pub use defaults::apply_defaults;
pub use encode::{
    EncodeError, PROTO_TAIL, encode_body, encode_json_as_proto, encode_part, encode_proto,
    list_head, object_head, watch_frame,
};
pub use facts::{VERSION, builtin};
pub use graph::{
    Descriptions, Extra, Field, Graph, GraphBuilder, List, ListType, Map, Node, Object, Omit,
    OneOf, Scalar, Shape, Strategies, TypeId, TypeRef, Wire,
};
pub use openapi::{Custom, PathInfo, SubPath, openapi_v2, openapi_v2_proto, openapi_v3};
pub use proto::{PROTO_MAGIC, ProtoError, decode_proto, decode_proto_body};
pub use yaml::{YamlError, decode_yaml, write::to_yaml, yaml_to_json};
