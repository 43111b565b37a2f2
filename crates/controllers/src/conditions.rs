//! Conditions of different kinds of object, handled alike.
use api::k8s::api::apps::v1::{DeploymentCondition, ReplicaSetCondition};
use api::k8s::api::batch::v1::JobCondition;
use api::k8s::api::certificates::v1::CertificateSigningRequestCondition;
use api::k8s::api::core::v1::{
    NamespaceCondition, NodeCondition, PodCondition, ReplicationControllerCondition,
};
use api::k8s::apiextensions_apiserver::pkg::apis::apiextensions::v1 as extensions;
use api::k8s::apimachinery::pkg::apis::meta::v1::Time;
use reconcile::Now;

/// A condition of some kind of object.
pub(crate) trait Condition: Sized {
    fn make(kind: &str, status: &str, reason: &str, message: &str, now: Now) -> Self;
    fn kind(&self) -> &str;
    fn status(&self) -> &str;
    fn reason(&self) -> &str;
    fn since(&mut self) -> &mut Option<Time>;
}

macro_rules! condition {
    ($type:ty, $wrap:expr, $get:expr $(, $updated:ident)?) => {
        impl Condition for $type {
            fn make(kind: &str, status: &str, reason: &str, message: &str, now: Now) -> Self {
                Self {
                    type_: $wrap(kind.to_owned()),
                    status: $wrap(status.to_owned()),
                    reason: Some(reason.to_owned()),
                    message: Some(message.to_owned()),
                    last_transition_time: Some(Time(now)),
                    $($updated: Some(Time(now)),)?
                    ..Self::default()
                }
            }
            fn kind(&self) -> &str {
                $get(&self.type_)
            }
            fn status(&self) -> &str {
                $get(&self.status)
            }
            fn reason(&self) -> &str {
                self.reason.as_deref().unwrap_or_default()
            }
            fn since(&mut self) -> &mut Option<Time> {
                &mut self.last_transition_time
            }
        }
    };
}

fn optional(text: &Option<String>) -> &str {
    text.as_deref().unwrap_or_default()
}

condition!(DeploymentCondition, Some, optional, last_update_time);
condition!(ReplicaSetCondition, Some, optional);
condition!(ReplicationControllerCondition, std::convert::identity, String::as_str);
condition!(NamespaceCondition, std::convert::identity, String::as_str);
condition!(
    CertificateSigningRequestCondition,
    std::convert::identity,
    String::as_str,
    last_update_time
);
condition!(JobCondition, std::convert::identity, String::as_str, last_probe_time);
condition!(extensions::CustomResourceDefinitionCondition, std::convert::identity, String::as_str);
condition!(PodCondition, std::convert::identity, String::as_str);
condition!(NodeCondition, std::convert::identity, String::as_str, last_heartbeat_time);

pub(crate) fn find<'a, C: Condition>(conditions: &'a Option<Vec<C>>, kind: &str) -> Option<&'a C> {
    conditions.iter().flatten().find(|condition| condition.kind() == kind)
}

/// Puts a condition in place of one of its type, unless that says the same by status and reason.
/// The time of transition stays if the status does.
pub(crate) fn set<C: Condition>(conditions: &mut Option<Vec<C>>, mut new: C) {
    let list = conditions.get_or_insert_default();
    if let Some(at) = list.iter().position(|condition| condition.kind() == new.kind()) {
        if list[at].status() == new.status() && list[at].reason() == new.reason() {
            return;
        }
        let mut old = list.remove(at);
        if old.status() == new.status() {
            *new.since() = old.since().take();
        }
    }
    list.push(new);
}

pub(crate) fn remove<C: Condition>(conditions: &mut Option<Vec<C>>, kind: &str) {
    if let Some(list) = conditions {
        list.retain(|condition| condition.kind() != kind);
        if list.is_empty() {
            *conditions = None;
        }
    }
}
