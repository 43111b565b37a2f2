//! Where a pod's files lie on the node.
use crate::config::AgentConfig;
use api::k8s::api::core::v1::Pod;
use podlife::{PodExt, pods};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Bounds of termination messages, as Kubernetes documents them.
const MAX_MESSAGE: u64 = 4096;
const MAX_LOG_BYTES: u64 = 2048;
const MAX_LOG_LINES: usize = 80;

/// The folders of one pod.
#[derive(Debug, Clone)]
pub struct PodPaths {
    pub dir: PathBuf,
    pub logs: PathBuf,
    pub uid: String,
}

impl PodPaths {
    pub fn new(config: &AgentConfig, pod: &Pod) -> Self {
        let name = format!("{}_{}_{}", pod.namespace(), pod.name(), pod.uid());
        Self {
            dir: config.pods_dir().join(pod.uid()),
            logs: config.logs_dir().join(name),
            uid: pod.uid().to_owned(),
        }
    }
    pub fn hosts(&self) -> PathBuf {
        self.dir.join("etc-hosts")
    }
    pub fn resolv_conf(&self) -> PathBuf {
        self.dir.join("resolv.conf")
    }
    pub fn hostname(&self) -> PathBuf {
        self.dir.join("hostname")
    }
    pub fn log(&self, container: &str, attempt: u32) -> PathBuf {
        self.logs.join(container).join(format!("{attempt}.log"))
    }
    pub fn message(&self, container: &str, attempt: u32) -> PathBuf {
        self.dir.join("containers").join(container).join(attempt.to_string())
    }

    /// Removes what an attempt has left: its log, what was rotated away of it, and its last words.
    pub fn forget(&self, container: &str, attempt: u32) {
        let log = format!("{attempt}.log");
        for entry in std::fs::read_dir(self.logs.join(container)).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let rest = name.to_str().and_then(|name| name.strip_prefix(&log));
            if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.')) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
        let _ = std::fs::remove_file(self.message(container, attempt));
    }

    /// What a container left to say when it ended.
    pub fn termination_message(
        &self,
        pod: &Pod,
        name: &str,
        attempt: u32,
        code: i32,
    ) -> Option<String> {
        let (_, container) = pods::find(pod, name)?;
        let own = read_tail(&self.message(name, attempt), MAX_MESSAGE).unwrap_or_default();
        let policy = container.termination_message_policy.as_deref();
        if own.is_empty() && policy == Some("FallbackToLogsOnError") && code != 0 {
            let log = read_tail(&self.log(name, attempt), 16 * MAX_LOG_BYTES).unwrap_or_default();
            return Some(log_tail(&log)).filter(|text| !text.is_empty());
        }
        Some(own).filter(|text| !text.is_empty())
    }
}

fn read_tail(path: &Path, most: u64) -> io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(most)))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The last lines of a log in the CRI format, without its marks.
fn log_tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let from = lines.len().saturating_sub(MAX_LOG_LINES);
    let mut out = String::new();
    for line in &lines[from..] {
        let mut fields = line.splitn(4, ' ');
        let (Some(_), Some(_), Some(tag), Some(text)) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        out.push_str(text);
        if tag == "F" {
            out.push('\n');
        }
    }
    let from = out.len().saturating_sub(MAX_LOG_BYTES as usize);
    let from = (from..out.len()).find(|at| out.is_char_boundary(*at)).unwrap_or(from);
    out.split_off(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_is_forgotten_with_all_its_logs() {
        let dir = tempfile::tempdir().unwrap();
        let config = crate::worker::tests::config(dir.path());
        let paths = PodPaths::new(&config, &Pod::default());
        std::fs::create_dir_all(paths.logs.join("c")).unwrap();
        for name in
            ["1.log", "1.log.20260101-000000", "1.log.20260101-000000.gz", "11.log", "2.log"]
        {
            std::fs::write(paths.logs.join("c").join(name), "").unwrap();
        }
        paths.forget("c", 1);
        let left = std::fs::read_dir(paths.logs.join("c")).unwrap().flatten();
        let mut left: Vec<_> = left.map(|entry| entry.file_name()).collect();
        left.sort();
        assert_eq!(left, ["11.log", "2.log"]);
    }

    #[test]
    fn the_end_of_a_log() {
        let log = "2026-01-01T00:00:00Z stdout F one\n2026-01-01T00:00:00Z stderr P tw\n\
                   2026-01-01T00:00:00Z stderr F o\n";
        assert_eq!(log_tail(log), "one\ntwo\n");
        let many: String = (0..200).map(|n| format!("t stdout F {n}\n")).collect();
        assert!(log_tail(&many).starts_with("120\n"));
        let wide = format!("t stdout F {}\n", "x".repeat(5000));
        assert_eq!(log_tail(&wide).len(), 2048);
    }
}
