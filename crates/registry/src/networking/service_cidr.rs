//! `servicecidrs`: ranges from which Services get addresses.
use crate::at::{restore, set};
use crate::cells::{columns, joined};
use crate::{At, Column, Info, Resource, Scope, Subresource, names};
use api::{FieldErrors, Gvk, Value};

pub(crate) struct ServiceCidrs;

static INFO: Info =
    Info::new(Gvk::fixed("networking.k8s.io", "v1", "ServiceCIDR"), "servicecidrs", Scope::Cluster)
        .subresources(const { &[Subresource::STATUS] })
        .stored_only();

impl Resource for ServiceCidrs {
    fn info(&self) -> &Info {
        &INFO
    }
    fn prepare_create(&self, new: &mut Value) {
        set(new, "status", value::json!({}));
    }
    fn prepare_update(&self, new: &mut Value, old: &Value) {
        restore(new, old, "status");
    }
    fn prepare_subresource(&self, _name: &str, new: &mut Value, old: &Value) {
        restore(new, old, "spec");
    }
    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let (cidrs, mut errors) = (At::root(new).get("spec.cidrs"), FieldErrors::new());
        if !cidrs.must("at least one CIDR required", &mut errors) {
            return errors;
        }
        let families: Vec<bool> = cidrs.texts().map(|cidr| cidr.contains(':')).collect();
        if families.len() > 2 || families.len() == 2 && families[0] == families[1] {
            let why = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and \
                       2001:db8::/64";
            errors.push(cidrs.invalid(why));
        }
        for cidr in cidrs.items() {
            cidr.each(names::cidr(cidr.text()), &mut errors);
            if let Some((address, bits)) = names::parse_cidr(cidr.text())
                && names::network_of(address, bits) != address
            {
                errors.push(cidr.invalid("must not have bits set beyond the prefix length"));
            }
        }
        if let Some(old) = old {
            cidrs.immutable(&old["spec"]["cidrs"], &mut errors);
        }
        errors
    }
    columns![
        Column::NAME,
        Column::new("CIDRs", "string", "The ranges.").cell(|o, _| joined(o, "spec.cidrs").into()),
        Column::AGE,
    ];
}
