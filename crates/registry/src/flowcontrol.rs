//! `flowcontrol.apiserver.k8s.io/v1`.
pub(crate) mod flow_schema;
pub(crate) mod priority_level_configuration;
