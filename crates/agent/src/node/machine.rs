//! Facts of the machine that the Node object shows.
use crate::config::AgentConfig;
use api::Quantity;
use api::k8s::api::core::v1::{NodeAddress, NodeSwapStatus, NodeSystemInfo};
use api::k8s::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use podlife::eviction::Signal;
use std::collections::BTreeMap;
use std::path::Path;

/// The version of Kubernetes that this node speaks.
pub const KUBELET_VERSION: &str = "v1.37.2";

type Quantities = BTreeMap<String, ApiQuantity>;

#[derive(Debug, Clone, Default)]
pub struct Machine {
    pub cpus: i64,
    pub memory_bytes: i64,
    pub swap_bytes: i64,
    pub disk_bytes: i64,
    /// Page size in bytes to the number of pages.
    pub hugepages: BTreeMap<i64, i64>,
    pub kernel: String,
    pub os_image: String,
    pub machine_id: String,
    pub system_uuid: String,
    pub boot_id: String,
    pub runtime: String,
}

/// The processor's name in images and labels.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

impl Machine {
    /// Reads the machine's own files. Blocks, briefly.
    pub fn detect(root: &Path, runtime: &str) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let line = |path: &str| read(path).trim().to_owned();
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let disk = nix::sys::statvfs::statvfs(root).ok();
        let disk = disk.map(|disk| disk.blocks() as i64 * disk.fragment_size() as i64);
        Self {
            cpus: i64::try_from(cpus).unwrap_or(1),
            memory_bytes: memory(&read("/proc/meminfo"), "MemTotal:"),
            swap_bytes: memory(&read("/proc/meminfo"), "SwapTotal:"),
            disk_bytes: disk.unwrap_or_default(),
            hugepages: hugepages(),
            kernel: line("/proc/sys/kernel/osrelease"),
            os_image: os_image(&read("/etc/os-release")),
            machine_id: line("/etc/machine-id"),
            system_uuid: line("/sys/class/dmi/id/product_uuid"),
            boot_id: line("/proc/sys/kernel/random/boot_id"),
            runtime: runtime.to_owned(),
        }
    }

    /// Capacity and what of it pods may use: all but what eviction keeps free.
    pub fn resources(&self, config: &AgentConfig) -> (Quantities, Quantities) {
        let max_pods = config.max_pods;
        let kept = |signal: Signal, capacity: i64| {
            let threshold = config.eviction_hard.iter().find(|t| t.signal == signal);
            threshold.map_or(0, |threshold| threshold.quantity(capacity).value())
        };
        let pages: i64 = self.hugepages.iter().map(|(size, count)| size * count).sum();
        let make = |reserved_memory: i64, disk: i64| {
            let mut list = BTreeMap::from([
                ("cpu".to_owned(), Quantity::from_units(self.cpus)),
                (
                    "memory".to_owned(),
                    Quantity::from_bytes((self.memory_bytes - reserved_memory).max(0) & !1023),
                ),
                ("ephemeral-storage".to_owned(), Quantity::from_bytes(disk & !1023)),
                ("pods".to_owned(), Quantity::from_units(i64::from(max_pods))),
            ]);
            for (size, count) in &self.hugepages {
                let name = format!("hugepages-{}", Quantity::from_bytes(*size));
                list.insert(name, Quantity::from_bytes(size * count));
            }
            list.into_iter().map(|(name, q)| (name, ApiQuantity(q.to_string()))).collect()
        };
        let disk = (self.disk_bytes - kept(Signal::NodefsAvailable, self.disk_bytes)).max(0);
        let memory = kept(Signal::MemoryAvailable, self.memory_bytes);
        (make(0, self.disk_bytes), make(memory + pages, disk))
    }

    pub fn addresses(&self, config: &AgentConfig) -> Vec<NodeAddress> {
        let address =
            |type_: &str, address: String| NodeAddress { type_: type_.to_owned(), address };
        vec![
            address("InternalIP", config.node_ip.to_string()),
            address("Hostname", config.node_name.clone()),
        ]
    }

    pub fn info(&self) -> NodeSystemInfo {
        NodeSystemInfo {
            architecture: architecture().to_owned(),
            boot_id: self.boot_id.clone(),
            container_runtime_version: self.runtime.clone(),
            kernel_version: self.kernel.clone(),
            kube_proxy_version: String::new(),
            kubelet_version: KUBELET_VERSION.to_owned(),
            machine_id: self.machine_id.clone(),
            operating_system: "linux".to_owned(),
            os_image: self.os_image.clone(),
            system_uuid: self.system_uuid.clone(),
            swap: (self.swap_bytes > 0).then(|| NodeSwapStatus { capacity: Some(self.swap_bytes) }),
            ..NodeSystemInfo::default()
        }
    }
}

fn memory(meminfo: &str, name: &str) -> i64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name));
    let kilobytes = line.and_then(|rest| rest.trim().strip_suffix(" kB"));
    kilobytes.and_then(|number| number.trim().parse::<i64>().ok()).unwrap_or_default() * 1024
}

fn os_image(release: &str) -> String {
    let line = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    line.map_or_else(|| "Linux".to_owned(), |name| name.trim_matches('"').to_owned())
}

fn hugepages() -> BTreeMap<i64, i64> {
    let entries = std::fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let size = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse::<i64>().ok()?;
            let count = std::fs::read_to_string(entry.path().join("nr_hugepages")).ok()?;
            Some((size * 1024, count.trim().parse::<i64>().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_files_say() {
        let text = "MemTotal:       24684132 kB\nMemFree: 1 kB\n";
        assert_eq!(memory(text, "MemTotal:"), 24_684_132 * 1024);
        assert_eq!(memory(text, "SwapTotal:"), 0);
        assert_eq!(
            os_image("NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 13\"\n"),
            "Debian GNU/Linux 13"
        );
    }

    #[test]
    fn capacity_and_allocatable() {
        let machine = Machine {
            cpus: 2,
            memory_bytes: 8 << 30,
            disk_bytes: 100 << 30,
            hugepages: BTreeMap::from([(2 << 20, 8)]),
            ..Machine::default()
        };
        let config = crate::worker::tests::config(Path::new("/"));
        let (capacity, allocatable) = machine.resources(&config);
        let shown = |list: &Quantities, name: &str| list[name].0.clone();
        assert_eq!(shown(&capacity, "memory"), "8Gi");
        assert_eq!(shown(&allocatable, "memory"), "8076Mi");
        assert_eq!(shown(&capacity, "pods"), "110");
        assert_eq!(shown(&allocatable, "hugepages-2Mi"), "16Mi");
        let disk: Quantity = shown(&allocatable, "ephemeral-storage").parse().unwrap();
        assert_eq!(disk.value(), 95 << 30);
    }
}
