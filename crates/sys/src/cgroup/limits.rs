//! Limits, and which file of which version each is written to.
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

const DEFAULT_PERIOD: u64 = 100_000;

/// What a group may use; `None`: not set. In the units of v1, translated for v2.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    pub cpu_shares: Option<u64>,
    pub cpu_quota: Option<i64>,
    pub cpu_period: Option<u64>,
    pub cpuset_cpus: Option<String>,
    pub cpuset_mems: Option<String>,
    /// -1: none. Swap beyond it is forbidden.
    pub memory_bytes: Option<i64>,
    pub pids: Option<i64>,
    pub hugepages: BTreeMap<String, u64>,
}

/// One value for one file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) controller: &'static str,
    pub(super) file: String,
    pub(super) value: String,
    /// `false`: limits nothing, so a machine without the controller does as well.
    pub(super) required: bool,
    /// A file that not every kernel has.
    optional_file: bool,
    /// v1: this file must never be below the one before it, so it is written first when rising.
    pub(super) ceiling: Option<(String, String)>,
}

impl Write {
    fn new(controller: &'static str, file: impl Into<String>, value: impl ToString) -> Self {
        Write {
            controller,
            file: file.into(),
            value: value.to_string(),
            required: true,
            optional_file: false,
            ceiling: None,
        }
    }

    fn optional(mut self) -> Self {
        self.optional_file = true;
        self
    }

    fn required(mut self, required: bool) -> Self {
        self.required = required;
        self
    }

    pub(super) fn perform(&self, group: &Path) -> io::Result<()> {
        let path = group.join(&self.file);
        if self.optional_file && !path.exists() {
            return Ok(());
        }
        let Some((file, value)) = &self.ceiling else { return fs::write(path, &self.value) };
        let ceiling = group.join(file);
        if !ceiling.exists() {
            return fs::write(path, &self.value);
        }
        // Lowering needs the limit first, rising the ceiling first: one of the orders works.
        if fs::write(&path, &self.value).is_ok() {
            return fs::write(ceiling, value);
        }
        fs::write(ceiling, value)?;
        fs::write(path, &self.value)
    }
}

impl Limits {
    pub(super) fn writes(&self, version: impl Fn(&str) -> Option<u8>) -> Vec<Write> {
        let v2 = |controller: &str| version(controller) == Some(2);
        let mut all = Vec::new();
        if let Some(shares) = self.cpu_shares {
            all.push(if v2("cpu") {
                Write::new("cpu", "cpu.weight", weight(shares)).required(false)
            } else {
                Write::new("cpu", "cpu.shares", shares.clamp(2, 262_144)).required(false)
            });
        }
        self.cpu_time(v2("cpu"), &mut all);
        for (file, value) in
            [("cpuset.cpus", &self.cpuset_cpus), ("cpuset.mems", &self.cpuset_mems)]
        {
            all.extend(value.iter().map(|value| Write::new("cpuset", file, value)));
        }
        if let Some(bytes) = self.memory_bytes {
            self.memory(bytes, v2("memory"), &mut all);
        }
        if let Some(pids) = self.pids {
            let value = if pids < 0 { "max".to_owned() } else { pids.to_string() };
            all.push(Write::new("pids", "pids.max", value).required(pids >= 0));
        }
        for (size, bytes) in &self.hugepages {
            let suffix = if v2("hugetlb") { "max" } else { "limit_in_bytes" };
            let file = format!("hugetlb.{size}.{suffix}");
            all.push(Write::new("hugetlb", file, bytes).required(*bytes > 0));
        }
        all
    }

    fn cpu_time(&self, v2: bool, all: &mut Vec<Write>) {
        if self.cpu_quota.is_none() && self.cpu_period.is_none() {
            return;
        }
        let quota = self.cpu_quota.unwrap_or(-1);
        let period = self.cpu_period.unwrap_or(DEFAULT_PERIOD);
        let limited = quota >= 0;
        if v2 {
            let quota = if limited { quota.to_string() } else { "max".to_owned() };
            let value = format!("{quota} {period}");
            all.push(Write::new("cpu", "cpu.max", value).required(limited));
            return;
        }
        all.push(Write::new("cpu", "cpu.cfs_period_us", period).required(limited));
        all.push(Write::new("cpu", "cpu.cfs_quota_us", quota.max(-1)).required(limited));
    }

    fn memory(&self, bytes: i64, v2: bool, all: &mut Vec<Write>) {
        let limited = bytes >= 0;
        if v2 {
            let value = if limited { bytes.to_string() } else { "max".to_owned() };
            let swap = if limited { "0" } else { "max" };
            all.push(Write::new("memory", "memory.max", value).required(limited));
            all.push(Write::new("memory", "memory.swap.max", swap).required(limited).optional());
            // A container whose processes die one by one is in no known state: all or none.
            all.push(Write::new("memory", "memory.oom.group", 1).required(limited).optional());
            return;
        }
        let value = bytes.max(-1);
        let mut write = Write::new("memory", "memory.limit_in_bytes", value).required(limited);
        write.ceiling = Some(("memory.memsw.limit_in_bytes".to_owned(), value.to_string()));
        all.push(write);
    }
}

/// Kubernetes' translation of shares (2 to 262144) to a weight (1 to 10000).
fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(limits: &Limits, version: u8) -> Vec<String> {
        let writes = limits.writes(|_| Some(version));
        writes.iter().map(|w| format!("{}={}", w.file, w.value)).collect()
    }

    #[test]
    fn each_version_gets_its_own_files() {
        let limits = Limits {
            cpu_shares: Some(1024),
            cpu_quota: Some(50_000),
            memory_bytes: Some(1 << 20),
            pids: Some(-1),
            ..Limits::default()
        };
        let v1 = [
            "cpu.shares=1024",
            "cpu.cfs_period_us=100000",
            "cpu.cfs_quota_us=50000",
            "memory.limit_in_bytes=1048576",
            "pids.max=max",
        ];
        assert_eq!(lines(&limits, 1), v1);
        let v2 = [
            "cpu.weight=39",
            "cpu.max=50000 100000",
            "memory.max=1048576",
            "memory.swap.max=0",
            "memory.oom.group=1",
            "pids.max=max",
        ];
        assert_eq!(lines(&limits, 2), v2);
        assert!(lines(&Limits::default(), 2).is_empty());
    }

    #[test]
    fn weights_span_the_range() {
        assert_eq!(
            [weight(0), weight(2), weight(262_144), weight(u64::MAX)],
            [1, 1, 10_000, 10_000]
        );
    }
}
