//! Fills the rules of cluster roles that are put together from others by label.
use api::k8s::api::rbac::v1::{ClusterRole, PolicyRule};
use api::{Kind, LabelSelector};
use reconcile::{Controller, Effect, Plan, Turn, Watch, meta};

pub(crate) struct ClusterRoleAggregation;

impl Controller for ClusterRoleAggregation {
    fn name(&self) -> &'static str {
        "clusterrole-aggregation-controller"
    }
    fn watches(&self) -> Vec<Watch> {
        vec![Watch::map::<ClusterRole>(|world, _| {
            let roles = world.all::<ClusterRole>();
            roles.filter(|role| role.aggregation_rule.is_some()).map(|role| role.key()).collect()
        })]
    }
    fn reconcile(&self, turn: &Turn<'_>) -> Plan {
        let mut plan = Plan::nothing();
        let Some(role) = turn.world.get::<ClusterRole>(turn.key) else { return plan };
        let Some(aggregation) = &role.aggregation_rule else { return plan };
        if meta::is_deleting(&role.metadata) {
            return plan;
        }
        let mut rules: Vec<PolicyRule> = Vec::new();
        for selector in aggregation.cluster_role_selectors.iter().flatten() {
            let Ok(selector) = LabelSelector::from_spec(Some(selector)) else { continue };
            for part in turn.world.all::<ClusterRole>() {
                if part.key() == *turn.key || !selector.matches(meta::labels(&part.metadata)) {
                    continue;
                }
                for rule in part.rules.iter().flatten() {
                    if !rules.contains(rule) {
                        rules.push(rule.clone());
                    }
                }
            }
        }
        if role.rules.as_deref().unwrap_or_default() != rules.as_slice() {
            let mut filled = ClusterRole::clone(role);
            filled.rules = Some(rules);
            plan.push(Effect::update(&**role, &filled));
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reconcile::sim::{Sim, crash_everywhere};
    use serde_json::json;

    #[test]
    fn rules_follow_the_labels() {
        let make = || {
            let mut sim = Sim::new(&ClusterRoleAggregation);
            let selector = json!({ "matchLabels": { "to": "view" } });
            let key = sim.put::<ClusterRole>(json!({
                "metadata": { "name": "view" },
                "aggregationRule": { "clusterRoleSelectors": [selector] },
                "rules": [{ "verbs": ["old"] }],
            }));
            for (name, to) in [("a", "view"), ("b", "edit"), ("c", "view"), ("d", "view")] {
                let verb = if name == "d" { "a" } else { name };
                sim.put::<ClusterRole>(json!({
                    "metadata": { "name": name, "labels": { "to": to } },
                    "rules": [{ "verbs": [verb] }],
                }));
            }
            (sim, key)
        };
        crash_everywhere(&ClusterRoleAggregation, make);
        let (mut sim, key) = make();
        assert_eq!(sim.settle(&ClusterRoleAggregation, &key), 1);
        let rules = sim.get::<ClusterRole>(&key).rules.clone().unwrap();
        let verbs: Vec<String> = rules.into_iter().flat_map(|rule| rule.verbs).collect();
        assert_eq!(verbs, ["a", "c"]);
        for name in ["a", "c", "d"] {
            sim.remove::<ClusterRole>(&api::Key::new("", name));
        }
        assert_eq!(sim.settle(&ClusterRoleAggregation, &key), 1, "no rules left");
    }
}
