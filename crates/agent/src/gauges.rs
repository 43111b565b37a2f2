//! How much memory, disk and process numbers the machine has left.
use crate::config::AgentConfig;
use nix::sys::statvfs::statvfs;
use podlife::eviction::{Level, Levels, Signal};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// What is left of a file system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Disk {
    pub bytes: Level,
    pub inodes: Level,
}

/// The machine as eviction and image collection see it.
pub trait Gauges: Send + Sync {
    fn levels(&self) -> Levels;
    /// The file system of the images.
    fn images(&self) -> Option<Disk>;
    /// Whether images have a file system of their own: then pods cannot free it.
    fn images_are_apart(&self) -> bool;
}

/// The real machine.
pub struct MachineGauges {
    root: PathBuf,
    images: PathBuf,
}

impl MachineGauges {
    pub fn new(config: &AgentConfig) -> Self {
        Self { root: config.root.clone(), images: config.images_dir.clone() }
    }
    /// The file system of the node's own folder.
    pub fn root(&self) -> Option<Disk> {
        disk(&self.root)
    }
}

impl Gauges for MachineGauges {
    fn levels(&self) -> Levels {
        let mut levels = Levels::new();
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let memory = Memory::parse(&read("/proc/meminfo"));
        levels.extend(memory.map(|memory| {
            let Memory { total, working_set, .. } = memory;
            (Signal::MemoryAvailable, Level { available: total - working_set, capacity: total })
        }));
        if let Some(disk) = self.root() {
            levels.insert(Signal::NodefsAvailable, disk.bytes);
            levels.insert(Signal::NodefsInodesFree, disk.inodes);
        }
        if let Some(disk) = self.images() {
            levels.insert(Signal::ImagefsAvailable, disk.bytes);
            levels.insert(Signal::ImagefsInodesFree, disk.inodes);
        }
        // Some file systems make inodes as they go, and count none.
        levels.retain(|_, level| level.capacity > 0);
        levels.extend(processes().map(|(running, most)| {
            (Signal::PidAvailable, Level { available: most - running, capacity: most })
        }));
        levels
    }
    fn images(&self) -> Option<Disk> {
        disk(&self.images)
    }
    fn images_are_apart(&self) -> bool {
        let device = |path: &Path| std::fs::metadata(path).map(|meta| meta.dev()).ok();
        device(&self.root) != device(&self.images)
    }
}

pub fn disk(path: &Path) -> Option<Disk> {
    let found = statvfs(path).ok()?;
    let bytes = |blocks: u64| {
        i64::try_from(blocks.saturating_mul(found.fragment_size())).unwrap_or(i64::MAX)
    };
    let count = |inodes: u64| i64::try_from(inodes).unwrap_or(i64::MAX);
    // Blocks that are kept back from everybody are no room that could be used up.
    let kept = found.blocks_free().saturating_sub(found.blocks_available());
    Some(Disk {
        bytes: Level {
            available: bytes(found.blocks_available()),
            capacity: bytes(found.blocks().saturating_sub(kept)),
        },
        inodes: Level { available: count(found.files_free()), capacity: count(found.files()) },
    })
}

/// The machine's memory, as the kubelet counts that of a cgroup v2 machine's root; the same
/// everywhere, as the root group of v1 knows no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    pub total: i64,
    pub free: i64,
    pub anonymous: i64,
    /// In use, and not to be had by forgetting files that were not read lately.
    pub working_set: i64,
}

impl Memory {
    pub fn read() -> Option<Self> {
        Self::parse(&std::fs::read_to_string("/proc/meminfo").ok()?)
    }
    fn parse(meminfo: &str) -> Option<Self> {
        let bytes = |name: &str| {
            let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
            let number = line.trim().strip_suffix(" kB")?.trim().parse::<i64>().ok()?;
            Some(number * 1024)
        };
        let (total, free) = (bytes("MemTotal:")?, bytes("MemFree:")?);
        let inactive = bytes("Inactive(file):")?;
        let anonymous = bytes("AnonPages:").unwrap_or_default();
        Some(Self { total, free, anonymous, working_set: (total - free - inactive).max(0) })
    }
}

/// Processes (and threads) that there are and that there can be.
pub fn processes() -> Option<(i64, i64)> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let running = read("/proc/loadavg")?;
    let running = running.split(' ').nth(3)?.split_once('/')?.1.parse().ok()?;
    let most = |path: &str| read(path)?.trim().parse::<i64>().ok();
    let most = most("/proc/sys/kernel/pid_max")?.min(most("/proc/sys/kernel/threads-max")?);
    Some((running, most))
}

/// What all processors have done since the machine was started, in nanoseconds, and when that was,
/// in nanoseconds since 1970.
pub fn processor_time() -> Option<(u64, i64)> {
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok()??;
    parse_processor_time(&std::fs::read_to_string("/proc/stat").ok()?, ticks.unsigned_abs())
}

fn parse_processor_time(stat: &str, ticks: u64) -> Option<(u64, i64)> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let fields: Vec<u64> = line.split_whitespace().map_while(|n| n.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq; what guests did counts as user already.
    let busy: u64 = [0, 1, 2, 5, 6].iter().filter_map(|at| fields.get(*at)).sum();
    let booted = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    let booted = booted.trim().parse::<i64>().ok()?;
    Some((busy * (1_000_000_000 / ticks.max(1)), booted * 1_000_000_000))
}

/// Nanoseconds since 1970.
pub fn now() -> i64 {
    crate::worker::nanos(jiff::Timestamp::now())
}

/// Sleeps until the kernel says that memory runs short; for ever where it cannot say so.
pub struct Alarm(Option<AsyncFd<std::fs::File>>);

impl Alarm {
    /// Must be called in an async runtime.
    #[expect(deprecated, reason = "the safe way in: a file that is owned stays open")]
    pub fn new() -> Self {
        let armed = sys::pressure::memory_alarm();
        let armed = armed.and_then(|file| AsyncFd::with_interest(file, Interest::PRIORITY));
        if let Err(error) = &armed {
            tracing::debug!(%error, "the kernel does not tell when memory runs short");
        }
        Self(armed.ok())
    }
    pub async fn wait(&self) {
        let Some(file) = &self.0 else { return std::future::pending().await };
        match file.ready(Interest::PRIORITY).await {
            Ok(mut ready) => ready.clear_ready(),
            Err(_) => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_counted_as_upstream_does() {
        let text = "MemTotal:  1000 kB\nMemFree:   300 kB\nMemAvailable: 900 kB\n\
                    Inactive(anon): 5 kB\nInactive(file):  200 kB\n";
        let (total, free) = (1000 << 10, 300 << 10);
        let want = Memory { total, free, anonymous: 0, working_set: 500 << 10 };
        assert_eq!(Memory::parse(text), Some(want));
        assert_eq!(Memory::parse("MemTotal: 5 kB\n"), None);
    }

    #[test]
    fn processor_time_is_what_was_not_idle() {
        let text = "cpu  10 1 5 1000 50 2 3 9 4 0\ncpu0 1 1 1 1\nbtime 77\n";
        assert_eq!(parse_processor_time(text, 100), Some((210_000_000, 77_000_000_000)));
    }

    #[test]
    fn every_signal_can_be_read_on_this_machine() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        let gauges = MachineGauges { root: path.clone(), images: path };
        let levels = gauges.levels();
        for signal in [Signal::MemoryAvailable, Signal::NodefsAvailable, Signal::PidAvailable] {
            let level = levels[&signal];
            assert!((1..=level.capacity).contains(&level.available), "{signal:?} {level:?}");
        }
        assert!(!gauges.images_are_apart());
    }
}
