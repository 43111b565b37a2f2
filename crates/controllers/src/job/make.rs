//! The pods of a job.
use super::*;
use api::k8s::api::core::v1::{Container, EnvVar, EnvVarSource, ObjectFieldSelector};

pub(super) const INDEX: &str = "batch.kubernetes.io/job-completion-index";
const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
const INDEX_ENV: &str = "JOB_COMPLETION_INDEX";

pub(super) fn index_of(pod: &Pod) -> Option<i32> {
    meta::annotation(&pod.metadata, INDEX)?.parse().ok()
}

/// How many pods of its index had failed before this one was made.
pub(super) fn failures_before(pod: &Pod) -> i32 {
    let text = meta::annotation(&pod.metadata, FAILURES);
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// `failures` is given if each index has a limit of its own.
pub(super) fn pod(job: &Job, spec: &JobSpec, index: Option<i32>, failures: Option<i32>) -> Pod {
    let name = meta::name(&job.metadata);
    let owner = meta::controlled_by(job);
    let namespace = meta::namespace(&job.metadata);
    let mut pod = pods::from_template(&spec.template, namespace, &pods::name_prefix(name), owner);
    let finalizers = pod.metadata.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|finalizer| finalizer == TRACKING) {
        finalizers.push(TRACKING.to_owned());
    }
    let Some(index) = index else { return pod };
    pod.metadata.generate_name = Some(format!("{name}-{index}-"));
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(INDEX.to_owned(), index.to_string());
    if let Some(failures) = failures {
        annotations.insert(FAILURES.to_owned(), failures.to_string());
    }
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(INDEX.to_owned(), index.to_string());
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(format!("{name}-{index}"));
    let all = spec.init_containers.iter_mut().flatten().chain(&mut spec.containers);
    all.for_each(add_env);
    pod
}

fn add_env(container: &mut Container) {
    let env = container.env.get_or_insert_default();
    if env.iter().any(|variable| variable.name == INDEX_ENV) {
        return;
    }
    let field = ObjectFieldSelector {
        api_version: None,
        field_path: format!("metadata.labels['{INDEX}']"),
    };
    env.push(EnvVar {
        name: INDEX_ENV.to_owned(),
        value_from: Some(EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() }),
        ..EnvVar::default()
    });
}
