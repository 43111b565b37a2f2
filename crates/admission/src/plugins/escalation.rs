//! Nobody gives away rights that they do not hold: on writes of roles and of bindings.
use crate::{Operation, Plugin, Request, World};
use api::{ApiError, Attributes, User, Value, access::text};
use authz::escalation::{refusal, uncovered};
use authz::rbac::rules_of;

pub(crate) struct Escalation;

const GROUP: &str = "rbac.authorization.k8s.io";

impl Plugin for Escalation {
    fn name(&self) -> &'static str {
        "RBACEscalation"
    }
    fn validate(
        &self,
        world: &World<'_>,
        ask: &Request<'_>,
        object: &Value,
    ) -> Result<(), ApiError> {
        let writes = matches!(ask.operation, Operation::Create | Operation::Update);
        if !writes || ask.kind.group != GROUP || ask.user.in_group(User::MASTERS) {
            return Ok(());
        }
        let (verb, wanted) = match ask.resource {
            "roles" | "clusterroles" => {
                let same = ask.old.is_some_and(|old| {
                    old["rules"] == object["rules"]
                        && old["aggregationRule"] == object["aggregationRule"]
                });
                if same {
                    return Ok(());
                }
                ("escalate", rules_of(object))
            }
            "rolebindings" | "clusterrolebindings" => {
                let (kind, name) = (text(object, "/roleRef/kind"), text(object, "/roleRef/name"));
                let cluster = kind == "ClusterRole";
                let role = world.authorizer.rbac.role_rules(cluster, ask.namespace, name);
                ("bind", role.map_or_else(Vec::new, |rules| rules.to_vec()))
            }
            _ => return Ok(()),
        };
        if explicitly(world, ask, verb, object) {
            return Ok(());
        }
        let held = world.authorizer.rbac.rules_for(ask.user, ask.namespace);
        let missing = uncovered(&held, &wanted);
        if missing.is_empty() { Ok(()) } else { Err(ask.forbidden(refusal(ask.user, &missing))) }
    }
}

/// `escalate` on roles, or `bind` on the role that is bound, sets the rule aside.
fn explicitly(world: &World<'_>, ask: &Request<'_>, verb: &str, object: &Value) -> bool {
    let (resource, name) = match (verb, text(object, "/roleRef/kind")) {
        ("escalate", _) => (ask.resource, ask.name),
        (_, "Role") => ("roles", text(object, "/roleRef/name")),
        _ => ("clusterroles", text(object, "/roleRef/name")),
    };
    let asked = Attributes {
        verb: verb.to_owned(),
        group: GROUP.to_owned(),
        version: "v1".to_owned(),
        resource: resource.to_owned(),
        namespace: ask.namespace.to_owned(),
        name: name.to_owned(),
        ..Attributes::default()
    };
    world.authorizer.authorize(ask.user, &asked).allowed()
}
