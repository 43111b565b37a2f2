//! What a group has used.
use std::fs;
use std::path::{Path, PathBuf};

/// Usage of a group; what this machine does not count is 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    pub cpu_usage_ns: u64,
    pub memory_usage: u64,
    pub inactive_file: u64,
    pub rss: u64,
    pub page_faults: u64,
    pub major_page_faults: u64,
    pub memory_limit: Option<u64>,
    pub pids: u64,
}

/// Reads from the folder (and version) of each controller.
pub(super) fn read(path: impl Fn(&str) -> Option<(bool, PathBuf)>) -> Stats {
    let mut stats = Stats::default();
    if let Some((false, group)) = path("cpuacct") {
        stats.cpu_usage_ns = number(&group.join("cpuacct.usage")).unwrap_or(0);
    } else if let Some((true, group)) = path("cpu") {
        stats.cpu_usage_ns = field(&group.join("cpu.stat"), "usage_usec").unwrap_or(0) * 1000;
    }
    if let Some((v2, group)) = path("memory") {
        memory(&mut stats, v2, &group);
    }
    if let Some((_, group)) = path("pids") {
        stats.pids = number(&group.join("pids.current")).unwrap_or(0);
    }
    stats
}

fn memory(stats: &mut Stats, v2: bool, group: &Path) {
    let names = if v2 {
        ["memory.current", "memory.max", "inactive_file", "anon", "pgfault", "pgmajfault"]
    } else {
        [
            "memory.usage_in_bytes",
            "memory.limit_in_bytes",
            "total_inactive_file",
            "total_rss",
            "total_pgfault",
            "total_pgmajfault",
        ]
    };
    stats.memory_usage = number(&group.join(names[0])).unwrap_or(0);
    // v1 writes "no limit" as the largest number of whole pages.
    stats.memory_limit = number(&group.join(names[1])).filter(|n| *n < 1 << 62);
    let text = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let get = |name: &str| parse_field(&text, name).unwrap_or(0);
    stats.inactive_file = get(names[2]);
    stats.rss = get(names[3]);
    stats.page_faults = get(names[4]);
    stats.major_page_faults = get(names[5]);
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The value after `name` in a file of "name value" lines.
pub(super) fn field(path: &Path, name: &str) -> Option<u64> {
    parse_field(&fs::read_to_string(path).ok()?, name)
}

fn parse_field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}
