//! Checks of jobs and cron jobs.
use crate::at::{restore, same};
use crate::core::pod::validate;
use crate::{At, selectors, workload};
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
        } else if let Err(why) = check_schedule(text) {
            errors.push(schedule.invalid(why));
        }
    }
    spec.get("startingDeadlineSeconds").non_negative(errors);
    let zone = spec.get("timeZone");
    if zone.is_set() {
        if zone.is_empty() {
            errors.push(zone.invalid("timeZone must be nil or non-empty string"));
        } else if zone.text().eq_ignore_ascii_case("local") {
            let why = "timeZone must be an explicit time zone as defined in \
                       https://www.iana.org/time-zones";
            errors.push(zone.invalid(why));
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

/// Bounds of minute, hour, day of month, month and day of week.
const BOUNDS: [(&str, u32, u32); 5] = [
    ("minute", 0, 59),
    ("hour", 0, 23),
    ("day of month", 1, 31),
    ("month", 1, 12),
    ("day of week", 0, 6),
];

const MONTHS: &[&str] =
    &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// Whether the text is a schedule of cron's: five fields, or one of the words that begin with `@`.
fn check_schedule(text: &str) -> Result<(), String> {
    const WORDS: &[&str] =
        &["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];
    if text.starts_with('@') {
        let every = text.strip_prefix("@every ").is_some_and(|rest| !rest.trim().is_empty());
        return match every || WORDS.contains(&text) {
            true => Ok(()),
            false => Err(format!("unrecognized descriptor: {text}")),
        };
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    if fields.len() != BOUNDS.len() {
        return Err(format!("expected exactly 5 fields, found {}: {fields:?}", fields.len()));
    }
    for (field, (name, low, high)) in fields.iter().zip(BOUNDS) {
        for part in field.split(',') {
            check_part(part, name, low, high)?;
        }
    }
    Ok(())
}

fn check_part(part: &str, name: &str, low: u32, high: u32) -> Result<(), String> {
    let number = |text: &str| -> Result<u32, String> {
        let words = match name {
            "month" => MONTHS,
            "day of week" => DAYS,
            _ => &[],
        };
        let lower = text.to_lowercase();
        if let Some(at) = words.iter().position(|word| *word == lower) {
            return Ok(at as u32 + low);
        }
        text.parse().map_err(|_| format!("failed to parse int from {text}: invalid syntax"))
    };
    let (range, step) = part.split_once('/').map_or((part, None), |(r, s)| (r, Some(s)));
    let (first, last) = match range {
        "*" | "?" => (low, high),
        _ => match range.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(range)?, if step.is_some() { high } else { number(range)? }),
        },
    };
    if step.map(number).transpose()? == Some(0) {
        return Err(format!("step of range should be a positive number: {part}"));
    }
    if first < low {
        return Err(format!("beginning of range ({first}) below minimum ({low}): {part}"));
    }
    if last > high {
        return Err(format!("end of range ({last}) above maximum ({high}): {part}"));
    }
    if first > last {
        return Err(format!("beginning of range ({first}) beyond end of range ({last}): {part}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules() {
        for good in ["* * * * *", "*/5 0 1,15 jan-mar mon", "@daily", "@every 1h", "0 0 ? * 0"] {
            assert_eq!(check_schedule(good), Ok(()), "{good}");
        }
        for (bad, want) in [
            ("* * * *", "expected exactly 5 fields, found 4: [\"*\", \"*\", \"*\", \"*\"]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("5-3 * * * *", "beginning of range (5) beyond end of range (3): 5-3"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("x * * * *", "failed to parse int from x: invalid syntax"),
            ("@often", "unrecognized descriptor: @often"),
        ] {
            assert_eq!(check_schedule(bad), Err(want.to_owned()));
        }
    }
}
