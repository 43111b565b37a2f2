//! What a failed pod means by the job's failure policy, and when a success policy is met.
use super::*;
use api::k8s::api::batch::v1::{
    PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyOnPodConditionsPattern,
};
use api::k8s::api::core::v1::ContainerStatus;
use std::collections::BTreeSet;

#[derive(Debug, PartialEq)]
pub(super) enum Meaning {
    Counts,
    Ignored,
    FailsIndex,
    /// With the message of the condition.
    FailsJob(String),
}

pub(super) fn meaning(spec: &JobSpec, pod: &Pod) -> Meaning {
    let rules = spec.pod_failure_policy.iter().flat_map(|policy| &policy.rules);
    for (at, rule) in rules.enumerate() {
        let codes = rule.on_exit_codes.as_ref();
        let by_code = codes.and_then(|codes| exit_code(codes, pod));
        let by_condition = rule.on_pod_conditions.iter().flatten();
        let mut by_condition = by_condition.filter(|pattern| has_condition(pattern, pod));
        let why = match (by_code, by_condition.next()) {
            (Some(status), _) => format!(
                "Container {} for pod {} failed with exit code {} matching {} rule at index {at}",
                status.name,
                pod.key(),
                terminated(status).unwrap_or(0),
                rule.action
            ),
            (None, Some(pattern)) => format!(
                "Pod {} has condition {} matching {} rule at index {at}",
                pod.key(),
                pattern.type_,
                rule.action
            ),
            (None, None) => continue,
        };
        return match rule.action.as_str() {
            "Ignore" => Meaning::Ignored,
            "FailIndex" if spec.backoff_limit_per_index.is_some() => Meaning::FailsIndex,
            "FailJob" => Meaning::FailsJob(why),
            _ => Meaning::Counts,
        };
    }
    Meaning::Counts
}

fn terminated(status: &ContainerStatus) -> Option<i32> {
    Some(status.state.as_ref()?.terminated.as_ref()?.exit_code)
}

fn exit_code<'a>(
    codes: &PodFailurePolicyOnExitCodesRequirement,
    pod: &'a Pod,
) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let all = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    let mut named =
        all.filter(|status| codes.container_name.as_ref().is_none_or(|name| *name == status.name));
    named.find(|status| {
        terminated(status).is_some_and(|code| match codes.operator.as_str() {
            "In" => codes.values.contains(&code),
            // Success is no failure, whatever is listed.
            "NotIn" => code != 0 && !codes.values.contains(&code),
            _ => false,
        })
    })
}

fn has_condition(pattern: &PodFailurePolicyOnPodConditionsPattern, pod: &Pod) -> bool {
    let status = pattern.status.as_deref().unwrap_or("True");
    pods::condition(pod, &pattern.type_).is_some_and(|condition| condition.status == status)
}

/// The number of the success rule that is met.
pub(super) fn success_rule(spec: &JobSpec, completed: &BTreeSet<i32>) -> Option<usize> {
    let rules = &spec.success_policy.as_ref()?.rules;
    let completions = spec.completions.unwrap_or(0);
    rules.iter().position(|rule| {
        let among = rule.succeeded_indexes.as_deref().map(|text| indexes::parse(text, completions));
        let met = match &among {
            Some(among) => among.intersection(completed).count(),
            None => completed.len(),
        };
        let needed = match (rule.succeeded_count, &among) {
            (Some(count), _) => usize::try_from(count).unwrap_or(0),
            (None, Some(among)) => among.len(),
            (None, None) => return false,
        };
        met >= needed
    })
}
