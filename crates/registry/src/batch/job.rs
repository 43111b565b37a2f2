//! `jobs`: pods that run until enough of them have succeeded.
use crate::at::{is_empty, items_mut, map_mut, remove, restore, set, set_default, sub};
use crate::cells::{columns, condition, find, int, selector_or_none, template_columns, text};
use crate::core::pod::defaults;
use crate::{At, Column, Info, Resource, Scope, Subresource, object};
use api::{FieldErrors, Gvk, Value};
use value::json;

pub(crate) struct Jobs;

static INFO: Info = Info::new(Gvk::fixed("batch", "v1", "Job"), "jobs", Scope::Namespaced)
    .categories(&["all"])
    .subresources(const { &[Subresource::STATUS] })
    .with_generation()
    .orphaning();

const PODS: [Column; 2] = template_columns!("spec.template.spec");

impl Resource for Jobs {
    fn info(&self) -> &Info {
        &INFO
    }
    fn default(&self, object: &mut Value) {
        if map_mut(object, "spec").is_none() {
            return;
        }
        labels_of_template(object);
        if let Some(spec) = sub(object, "spec") {
            job_spec(spec);
        }
    }
    fn deletion_warning(&self) -> Option<&'static str> {
        Some(
            "child pods are preserved by default when jobs are deleted; set \
             propagationPolicy=Background to remove them or set propagationPolicy=Orphan to \
             suppress this warning",
        )
    }
    fn prepare_create(&self, new: &mut Value) {
        set(new, "status", json!({}));
        generate_selector(new);
        labels_of_template(new);
    }
    fn prepare_update(&self, new: &mut Value, old: &Value) {
        restore(new, old, "status");
    }
    fn prepare_subresource(&self, _name: &str, new: &mut Value, old: &Value) {
        restore(new, old, "spec");
    }
    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        super::validate::job_spec(&At::root(new).get("spec"), true, &mut errors);
        if let Some(old) = old {
            super::validate::job_update(new, old, &mut errors);
        }
        errors
    }
    fn selectable_fields(&self) -> &[&'static str] {
        &["status.successful"]
    }
    fn field<'a>(&self, object: &'a Value, path: &str) -> Option<std::borrow::Cow<'a, str>> {
        match path {
            "status.successful" => Some(int(object, "status.succeeded").to_string().into()),
            _ => object::field_text(object, path),
        }
    }
    columns![
        Column::NAME,
        Column::new("Status", "string", "Status of the job.").cell(|o, _| status(o).into()),
        Column::new("Completions", "string", "How many pods have succeeded, of how many.")
            .cell(|o, _| completions(o).into()),
        Column::new("Duration", "string", "Time required to complete the job.")
            .cell(|o, now| duration(o, now).into()),
        Column::AGE,
        PODS[0],
        PODS[1],
        Column::new("Selector", "string", "Labels of the pods that count.")
            .wide()
            .cell(|o, _| selector_or_none(o, "spec.selector").into()),
    ];
}

/// A job without labels has those of its pods.
fn labels_of_template(job: &mut Value) {
    let labels = job["spec"]["template"]["metadata"]["labels"].clone();
    if !labels.is_null()
        && is_empty(&job["metadata"]["labels"])
        && let Some(meta) = sub(job, "metadata")
    {
        set(meta, "labels", labels);
    }
}

/// Of a job's spec; a cron job's template gets only the pod's part.
pub(super) fn job_spec(spec: &mut Value) {
    if spec["completions"].is_null() && spec["parallelism"].is_null() {
        set(spec, "completions", 1);
    }
    set_default(spec, "parallelism", 1);
    let limit = if spec["backoffLimitPerIndex"].is_null() { 6 } else { i32::MAX };
    set_default(spec, "backoffLimit", limit);
    set_default(spec, "completionMode", "NonIndexed");
    set_default(spec, "suspend", false);
    let policy = match spec["podFailurePolicy"].is_null() {
        true => "TerminatingOrFailed",
        false => "Failed",
    };
    set_default(spec, "podReplacementPolicy", policy);
    set_default(spec, "manualSelector", false);
    pod_parts(spec);
}

/// What is filled in also inside of a cron job.
pub(super) fn pod_parts(spec: &mut Value) {
    if let Some(policy) = sub(spec, "podFailurePolicy") {
        for rule in items_mut(policy, "rules") {
            for pattern in items_mut(rule, "onPodConditions") {
                set_default(pattern, "status", "True");
            }
        }
    }
    let template = sub(spec, "template").and_then(|template| sub(template, "spec"));
    if let Some(pod) = template {
        defaults::pod_spec(pod);
    }
}

/// A job finds its pods by its uid, unless it says otherwise.
fn generate_selector(job: &mut Value) {
    if find(job, "spec.manualSelector") == &json!(true) || !find(job, "spec.selector").is_null() {
        return;
    }
    let (uid, name) = (text(job, "metadata.uid"), text(job, "metadata.name"));
    let Some(spec) = sub(job, "spec") else { return };
    let Some(template) = sub(spec, "template") else { return };
    let Some(meta) = map_mut(template, "metadata") else { return };
    let labels = meta.entry("labels").or_insert_with(|| json!({}));
    for (key, value) in [
        ("controller-uid", &uid),
        ("job-name", &name),
        ("batch.kubernetes.io/controller-uid", &uid),
        ("batch.kubernetes.io/job-name", &name),
    ] {
        set(labels, key, value.clone());
    }
    let selector = json!({ "matchLabels": { "batch.kubernetes.io/controller-uid": uid } });
    remove(spec, "selector");
    set(spec, "selector", selector);
}

fn status(job: &Value) -> &'static str {
    let is = |kind: &str| condition(job, kind) == "True";
    if is("Complete") {
        "Complete"
    } else if is("Failed") {
        "Failed"
    } else if !find(job, "metadata.deletionTimestamp").is_null() {
        "Terminating"
    } else {
        let others = ["Suspended", "FailureTarget", "SuccessCriteriaMet"];
        others.into_iter().find(|kind| is(kind)).unwrap_or("Running")
    }
}

fn completions(job: &Value) -> String {
    let done = int(job, "status.succeeded");
    match (find(job, "spec.completions").as_i64(), int(job, "spec.parallelism")) {
        (Some(wanted), _) => format!("{done}/{wanted}"),
        (None, parallel) if parallel > 1 => format!("{done}/1 of {parallel}"),
        (None, _) => format!("{done}/1"),
    }
}

fn duration(job: &Value, now: i64) -> String {
    let time = |path: &str| find(job, path).as_str().and_then(object::unix_seconds);
    match time("status.startTime") {
        None => String::new(),
        Some(start) => object::human_duration(time("status.completionTime").unwrap_or(now) - start),
    }
}
