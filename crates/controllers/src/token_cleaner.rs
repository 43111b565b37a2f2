//! Deletes bootstrap tokens when they expire.
use api::k8s::api::core::v1::Secret;
use reconcile::{Controller, Effect, Now, Plan, Turn, Watch, meta};

pub(crate) struct TokenCleaner;

const TYPE: &str = "bootstrap.kubernetes.io/token";

fn is_token(secret: &Secret) -> bool {
    secret.type_.as_deref() == Some(TYPE) && meta::namespace(&secret.metadata) == "kube-system"
}

impl Controller for TokenCleaner {
    fn name(&self) -> &'static str {
        "token-cleaner"
    }
    fn watches(&self) -> Vec<Watch> {
        vec![Watch::map::<Secret>(|_, secret| {
            let key = api::Kind::key(secret);
            is_token(secret).then_some(key).into_iter().collect()
        })]
    }
    fn reconcile(&self, turn: &Turn<'_>) -> Plan {
        let mut plan = Plan::nothing();
        let secret = turn.world.get::<Secret>(turn.key).filter(|secret| is_token(secret));
        let Some(secret) = secret else { return plan };
        let data = secret.data.as_ref().and_then(|data| data.get("expiration"));
        let text = data.and_then(|bytes| std::str::from_utf8(&bytes.0).ok());
        // A time that cannot be read is treated as past: such a token is not accepted either.
        let due = match text {
            None | Some("") => return plan,
            Some(text) => text.parse::<Now>().unwrap_or(Now::UNIX_EPOCH),
        };
        if due <= turn.now {
            plan.push(Effect::delete(&**secret));
        } else {
            plan.look_again_at(due, turn.now);
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::k8s::ByteString;
    use reconcile::sim::Sim;
    use serde_json::json;

    #[test]
    fn tokens_go_when_they_expire_and_others_stay() {
        let mut sim = Sim::new(&TokenCleaner);
        let expires = (sim.now + jiff::SignedDuration::from_secs(60)).to_string();
        let data = json!({ "expiration": ByteString(expires.into_bytes()) });
        let mut put = |name: &str, kind: &str| {
            sim.put::<Secret>(json!({ "metadata": { "name": name, "namespace": "kube-system" },
                "type": kind, "data": data }))
        };
        let token = put("token", TYPE);
        let other = put("other", "Opaque");
        let plan = sim.plan(&TokenCleaner, &token);
        assert!(plan.is_settled());
        assert_eq!(plan.again_after.unwrap().as_secs(), 60);
        sim.now += jiff::SignedDuration::from_secs(60);
        sim.settle(&TokenCleaner, &token);
        sim.settle(&TokenCleaner, &other);
        assert_eq!(sim.all::<Secret>().len(), 1);
    }
}
