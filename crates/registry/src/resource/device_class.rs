//! `deviceclasses`: kinds of devices.
use crate::cells::columns;
use crate::{Column, Info, Resource, Scope};
use api::Gvk;

pub(crate) struct DeviceClasses;

static INFO: Info =
    Info::new(Gvk::fixed("resource.k8s.io", "v1", "DeviceClass"), "deviceclasses", Scope::Cluster)
        .with_generation()
        .stored_only();

impl Resource for DeviceClasses {
    fn info(&self) -> &Info {
        &INFO
    }
    columns![Column::NAME, Column::AGE];
}
