//! `autoscaling/v2`, and `v1` as another face of it.
mod convert;
mod defaults;
pub(crate) mod horizontal_pod_autoscaler;
pub(crate) mod horizontal_pod_autoscaler_v1;
