//! Checks of jobs and cron jobs.
use crate::at::{restore, same};
use crate::core::pod::validate;
use crate::{At, selectors, workload};
use api::cron::{Schedule, zone};
use api::{FieldErrors, Value};

const MAX_PARALLEL_INDEXED: i64 = 100_000;

/// The spec of a job; in a cron job the selector is not there yet.
pub(super) fn job_spec(spec: &At, with_selector: bool, errors: &mut FieldErrors) {
    if with_selector {
        let selector = spec.get("selector");
        if selector.must("", errors) {
            selectors::validate(&selector, errors);
            workload::matches(spec, errors);
        }
    }
    let numbers = [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ];
    workload::non_negative(spec, &numbers, errors);
    let (failed, per_index) = (spec.get("maxFailedIndexes"), spec.get("backoffLimitPerIndex"));
    if failed.is_set() && !per_index.is_set() {
        errors.push(per_index.required("when maxFailedIndexes is specified"));
    }
    let mode = spec.get("completionMode");
    mode.one_of(&["NonIndexed", "Indexed"], false, errors);
    if mode.text() == "Indexed" {
        indexed(spec, errors);
    } else {
        for field in ["backoffLimitPerIndex", "maxFailedIndexes", "successPolicy"] {
            if spec.has(field) {
                errors.push(spec.get(field).invalid("requires indexed completion mode"));
            }
        }
    }
    failure_policy(spec, errors);
    validate::template(&spec.get("template"), errors);
    restart_policy(spec, errors);
}

fn indexed(spec: &At, errors: &mut FieldErrors) {
    let (completions, parallelism) = (spec.get("completions"), spec.get("parallelism"));
    if !completions.is_set() {
        errors.push(completions.required("when completion mode is Indexed"));
    }
    if parallelism.number() > MAX_PARALLEL_INDEXED {
        errors.push(parallelism.invalid(format!(
            "must be less than or equal to {MAX_PARALLEL_INDEXED} when completion mode is Indexed"
        )));
    }
    let failed = spec.get("maxFailedIndexes");
    if failed.int().zip(completions.int()).is_some_and(|(failed, all)| failed > all) {
        errors.push(failed.invalid("must be less than or equal to completions"));
    }
}

fn failure_policy(spec: &At, errors: &mut FieldErrors) {
    let policy = spec.get("podFailurePolicy");
    for rule in policy.get("rules").items() {
        let actions = ["Count", "FailIndex", "FailJob", "Ignore"];
        rule.get("action").one_of(&actions, true, errors);
        let codes = rule.get("onExitCodes");
        if codes.is_set() {
            codes.get("operator").one_of(&["In", "NotIn"], true, errors);
            let values = codes.get("values");
            if values.is_empty() {
                errors.push(values.invalid("at least one value is required"));
            }
            for value in values.items() {
                if codes.get("operator").text() == "In" && value.number() == 0 {
                    errors.push(value.invalid("must not be 0 for the In operator"));
                }
            }
        }
    }
    let replacement = spec.get("podReplacementPolicy");
    let known: &[&str] =
        if policy.is_set() { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
    replacement.one_of(known, false, errors);
}

fn restart_policy(spec: &At, errors: &mut FieldErrors) {
    let policy = spec.get("template.spec.restartPolicy");
    match policy.text() {
        "" | "Always" => {
            let why = "valid values: \"OnFailure\", \"Never\"";
            errors.push(policy.required(why));
        }
        "OnFailure" if spec.has("podFailurePolicy") => {
            errors.push(
                policy.invalid("only \"Never\" is supported when podFailurePolicy is specified"),
            );
        }
        "OnFailure" | "Never" => {}
        _ => errors.push(policy.not_supported(&["OnFailure", "Never"])),
    }
}

/// What a job is made of stays; a suspended one that has not begun may still be placed elsewhere.
pub(super) fn job_update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let (spec, was) = (At::root(new).get("spec"), At::root(old).get("spec"));
    let (completions, before) = (spec.get("completions"), was.get("completions"));
    if !same(completions.value, before.value) {
        let elastic = spec.get("completionMode").text() == "Indexed"
            && spec.get("completions").int() == spec.get("parallelism").int();
        if !elastic {
            errors.push(completions.invalid("field is immutable"));
        }
    }
    for field in [
        "selector",
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
        "successPolicy",
    ] {
        spec.get(field).immutable(was.get(field).value, errors);
    }
    let mut template = spec.get("template").value.clone();
    let begun = !At::root(old).get("status.startTime").is_empty();
    if was.get("suspend").bool() && !begun {
        let before = was.get("template").value;
        for field in ["nodeSelector", "affinity", "tolerations", "schedulingGates"] {
            if let Some(pod) = template.get_mut("spec") {
                restore(pod, &before["spec"], field);
            }
        }
        for field in ["labels", "annotations"] {
            if let Some(meta) = template.get_mut("metadata") {
                restore(meta, &before["metadata"], field);
            }
        }
    }
    if !same(&template, was.get("template").value) {
        errors.push(spec.get("template").invalid("field is immutable"));
    }
}

pub(super) fn cron_spec(spec: &At, errors: &mut FieldErrors) {
    let schedule = spec.get("schedule");
    if schedule.must("", errors) {
        let text = schedule.text();
        if text.contains("TZ") {
            let why = match spec.get("timeZone").is_set() {
                true => "cannot use both timeZone field and TZ or CRON_TZ in schedule",
                false => "cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
            };
            errors.push(schedule.invalid(why));
        } else if let Err(why) = text.parse::<Schedule>() {
            errors.push(schedule.invalid(why));
        }
    }
    spec.get("startingDeadlineSeconds").non_negative(errors);
    let named = spec.get("timeZone");
    if named.is_set() {
        if named.is_empty() {
            errors.push(named.invalid("timeZone must be nil or non-empty string"));
        } else if named.text().eq_ignore_ascii_case("local") {
            let why = "timeZone must be an explicit time zone as defined in \
                       https://www.iana.org/time-zones";
            errors.push(named.invalid(why));
        } else if zone(Some(named.text())).is_none() {
            errors.push(named.invalid(format!("unknown time zone {}", named.text())));
        }
    }
    spec.get("concurrencyPolicy").one_of(&["Allow", "Forbid", "Replace"], true, errors);
    let limits = ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"];
    workload::non_negative(spec, &limits, errors);
    let job = spec.get("jobTemplate.spec");
    job_spec(&job, false, errors);
    if job.has("selector") {
        errors.push(job.get("selector").invalid("`selector` will be auto-generated"));
    }
    if job.get("manualSelector").bool() {
        errors.push(job.get("manualSelector").not_supported(&["nil", "false"]));
    }
}
