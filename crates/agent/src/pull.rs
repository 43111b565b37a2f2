//! Getting images, for containers and volumes, with the events that tell of it.
use crate::events::Events;
use crate::seams::{Image, Images, PullError};
use api::k8s::api::core::v1::Pod;
use async_trait::async_trait;
use podlife::{PodExt, Role};
use reconcile::NoteKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use volume::{ImageSource, Objects};

/// Gets images as pods ask for them. Cheap to clone.
#[derive(Clone)]
pub struct Puller {
    pub images: Arc<dyn Images>,
    pub objects: Arc<dyn Objects>,
    pub events: Events,
}

/// Why there is no image: reason and message for the status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub reason: &'static str,
    pub message: String,
}

/// The container that an image is for; none for a volume.
pub type About<'a> = Option<(&'a str, Role)>;

impl Puller {
    /// Finds or pulls an image.
    pub async fn get(
        &self,
        pod: &Pod,
        about: About<'_>,
        name: &str,
        policy: &str,
    ) -> Result<Arc<Image>, Failure> {
        let present = match self.images.find(name).await {
            Ok(found) => found,
            Err(PullError::InvalidName(why)) => return Err(self.invalid(pod, about, name, &why)),
            Err(PullError::Failed(why)) => {
                let message = format!("Failed to inspect image {name:?}: {why}");
                return Err(Failure { reason: "ImageInspectError", message });
            }
        };
        match (policy, present) {
            ("Always", _) | ("IfNotPresent", None) => self.pull(pod, about, name).await,
            (_, Some(image)) => {
                let message = format!(
                    "Container image {name:?} already present on machine and can be accessed by \
                     the pod"
                );
                self.event(pod, about, NoteKind::Normal, "Pulled", message);
                Ok(image)
            }
            (_, None) => {
                let message =
                    format!("Container image {name:?} is not present with pull policy of Never");
                let reason = "ErrImageNeverPull";
                self.event(pod, about, NoteKind::Warning, reason, message.clone());
                Err(Failure { reason, message })
            }
        }
    }

    async fn pull(&self, pod: &Pod, about: About<'_>, name: &str) -> Result<Arc<Image>, Failure> {
        let message = format!("Pulling image {name:?}");
        self.event(pod, about, NoteKind::Normal, "Pulling", message);
        let begun = std::time::Instant::now();
        let logins = self.logins(pod).await;
        match self.images.pull(name, &logins).await {
            Ok(pulled) => {
                let took = begun.elapsed();
                let took = written(took);
                let message = format!(
                    "Successfully pulled image {name:?} in {took} ({took} including waiting). \
                     Image size: {} bytes.",
                    pulled.image.size_bytes
                );
                self.event(pod, about, NoteKind::Normal, "Pulled", message);
                Ok(pulled.image)
            }
            Err(PullError::InvalidName(why)) => Err(self.invalid(pod, about, name, &why)),
            Err(PullError::Failed(why)) => {
                let message = format!("Failed to pull image {name:?}: {why}");
                self.event(pod, about, NoteKind::Warning, "Failed", message.clone());
                Err(Failure { reason: "ErrImagePull", message })
            }
        }
    }

    fn invalid(&self, pod: &Pod, about: About<'_>, name: &str, why: &str) -> Failure {
        let message = format!("Failed to apply default image tag {name:?}: {why}");
        self.event(pod, about, NoteKind::Warning, "InspectFailed", message.clone());
        Failure { reason: "InvalidImageName", message }
    }

    fn event(
        &self,
        pod: &Pod,
        about: About<'_>,
        kind: NoteKind,
        reason: &'static str,
        message: String,
    ) {
        match about {
            Some(about) => self.events.container(pod, about, kind, reason, message),
            None => self.events.pod(pod, kind, reason, message),
        }
    }

    async fn logins(&self, pod: &Pod) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        for reference in pod.spec_ref().image_pull_secrets.iter().flatten() {
            let found = self.objects.secret(pod.namespace(), &reference.name).await;
            let Ok(Some(secret)) = found else {
                let message = format!(
                    "Unable to retrieve some image pull secrets ({}); attempting to pull the \
                     image may not succeed.",
                    reference.name
                );
                let reason = "FailedToRetrieveImagePullSecret";
                self.events.pod(pod, NoteKind::Warning, reason, message);
                continue;
            };
            let data = secret.data.iter().flatten();
            let keys = [".dockerconfigjson", ".dockercfg"];
            let own = data.filter(|(key, _)| keys.contains(&key.as_str()));
            out.extend(own.map(|(_, value)| value.0.clone()));
        }
        out
    }
}

/// To the millisecond, as upstream's language writes durations: `0s`, `7ms`, `1.25s`, `2m3s`.
fn written(took: Duration) -> String {
    let millis = took.subsec_millis();
    match took.as_secs() {
        0 if millis == 0 => "0s".to_owned(),
        0 => format!("{millis}ms"),
        all => {
            let fraction = format!("{millis:03}");
            let fraction = fraction.trim_end_matches('0');
            let point = if fraction.is_empty() { "" } else { "." };
            let (minutes, seconds) = (all / 60, all % 60);
            let minutes = if minutes == 0 { String::new() } else { format!("{minutes}m") };
            format!("{minutes}{seconds}{point}{fraction}s")
        }
    }
}

#[async_trait]
impl ImageSource for Puller {
    async fn layers(
        &self,
        pod: &Pod,
        reference: &str,
        policy: &str,
    ) -> Result<Vec<PathBuf>, String> {
        let image = self.get(pod, None, reference, policy).await;
        image
            .map(|image| image.layers.clone())
            .map_err(|failure| format!("{}: {}", failure.reason, failure.message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_upstream_does() {
        for (millis, want) in [
            (0, "0s"),
            (7, "7ms"),
            (1000, "1s"),
            (1250, "1.25s"),
            (12_345, "12.345s"),
            (123_040, "2m3.04s"),
        ] {
            assert_eq!(written(Duration::from_millis(millis)), want);
        }
    }
}
