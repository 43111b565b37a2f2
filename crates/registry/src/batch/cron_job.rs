//! `cronjobs`: jobs by the clock.
use crate::at::{map_mut, restore, set, set_default, sub};
use crate::cells::{columns, find, len, selector_or_none, since, template_columns, text, text_or};
use crate::{At, Column, Info, Resource, Scope, Subresource};
use api::{FieldErrors, Gvk, Value};
use value::json;

pub(crate) struct CronJobs;

static INFO: Info = Info::new(Gvk::fixed("batch", "v1", "CronJob"), "cronjobs", Scope::Namespaced)
    .short(&["cj"])
    .categories(&["all"])
    .subresources(const { &[Subresource::STATUS] })
    .with_generation();

const PODS: [Column; 2] = template_columns!("spec.jobTemplate.spec.template.spec");

impl Resource for CronJobs {
    fn info(&self) -> &Info {
        &INFO
    }
    fn default(&self, object: &mut Value) {
        if map_mut(object, "spec").is_none() {
            return;
        }
        let Some(spec) = sub(object, "spec") else { return };
        set_default(spec, "concurrencyPolicy", "Allow");
        set_default(spec, "suspend", false);
        set_default(spec, "successfulJobsHistoryLimit", 3);
        set_default(spec, "failedJobsHistoryLimit", 1);
        if let Some(job) = sub(spec, "jobTemplate").and_then(|template| sub(template, "spec")) {
            super::job::pod_parts(job);
        }
    }
    fn prepare_create(&self, new: &mut Value) {
        set(new, "status", json!({}));
    }
    fn prepare_update(&self, new: &mut Value, old: &Value) {
        restore(new, old, "status");
    }
    fn prepare_subresource(&self, _name: &str, new: &mut Value, old: &Value) {
        restore(new, old, "spec");
    }
    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let (root, mut errors) = (At::root(new), FieldErrors::new());
        let name = root.get("metadata.name");
        if old.is_none() && name.len() > 52 {
            errors.push(name.invalid("must be no more than 52 characters"));
        }
        super::validate::cron_spec(&root.get("spec"), &mut errors);
        errors
    }
    columns![
        Column::NAME,
        Column::new("Schedule", "string", "When, in the form of cron.").cell(|o, _| text(
            o,
            "spec.schedule"
        )
        .into()),
        Column::new("Timezone", "string", "The zone of the schedule.").cell(|o, _| text_or(
            o,
            "spec.timeZone",
            "<none>"
        )
        .into()),
        Column::new("Suspend", "boolean", "No more jobs are started.").cell(|o, _| {
            match find(o, "spec.suspend").as_bool() {
                Some(true) => "True",
                Some(false) => "False",
                None => "<unset>",
            }
            .into()
        }),
        Column::new("Active", "integer", "Jobs that are running.").cell(|o, _| len(
            o,
            "status.active"
        )
        .into()),
        Column::new("Last Schedule", "string", "When a job was last started.").cell(|o, now| {
            match find(o, "status.lastScheduleTime") {
                Value::Null => "<none>".into(),
                _ => since(o, "status.lastScheduleTime", now).into(),
            }
        }),
        Column::AGE,
        PODS[0],
        PODS[1],
        Column::new("Selector", "string", "Labels of the pods that count.")
            .wide()
            .cell(|o, _| selector_or_none(o, "spec.jobTemplate.spec.selector").into()),
    ];
}
