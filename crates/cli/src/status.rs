//! `kybern status`: what runs, since when, and what it takes.
use crate::output::{Format, bytes, show, table};
use crate::process::{self, Component};
use crate::{Folder, cluster, up};
use anyhow::Result;
use api::Value;
use clap::Args;
use std::process::ExitCode;
use value::json;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  kybern status
  kybern status --output json

Exit status: 0 if all of the cluster runs, 1 if a part of it does not, 3 if nothing runs.")]
pub(crate) struct Status {
    #[command(flatten)]
    folder: Folder,
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

/// As init scripts tell of a service that is not running.
const STOPPED: u8 = 3;

impl Status {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let dir = self.folder.open()?;
        let cluster = cluster::load(&dir)?;
        let mut all = process::all_running(&dir);
        let stopped = all.is_empty();
        if let Some(cluster) = cluster.as_ref().filter(|_| !stopped) {
            let agents = cluster.nodes.iter().map(|node| up::agent_of(node));
            for name in std::iter::once("server".to_owned()).chain(agents) {
                if !all.iter().any(|component| component.name == name) {
                    all.push(Component { name, main: None, supervisor: None, restarts: 0 });
                }
            }
        }
        let whole = all.iter().all(|component| component.main.is_some());
        let components: Vec<_> = all.iter().map(described).collect();
        let report = json!({
            "dataDir": dir.root(),
            "running": all.iter().any(|one| one.name == "server" && one.main.is_some()),
            "server": cluster.as_ref().map(up::cluster_url),
            "nodes": cluster.as_ref().map(|cluster| &cluster.nodes),
            "components": components,
        });
        show(self.output, &report, || match &cluster {
            None => format!("No cluster in {}. `kybern up` starts one.\n", dir.root().display()),
            Some(_) if stopped => format!(
                "The cluster in {} is stopped. `kybern up` starts it.\n",
                dir.root().display()
            ),
            Some(cluster) => {
                let rows: Vec<Vec<String>> = components.iter().map(row).collect();
                format!("API server: {}\n\n", up::cluster_url(cluster))
                    + &table(&["COMPONENT", "PID", "UP", "MEMORY (PSS)", "RESTARTS"], &rows)
            }
        });
        Ok(match (stopped, whole) {
            (true, _) => ExitCode::from(STOPPED),
            (false, false) => ExitCode::FAILURE,
            (false, true) => ExitCode::SUCCESS,
        })
    }
}

fn described(component: &Component) -> Value {
    let both = [component.main, component.supervisor].into_iter().flatten();
    let memory: u64 = both.filter_map(|one| process::pss_bytes(one.pid)).sum();
    json!({
        "name": component.name,
        "pid": component.main.map(|process| process.pid),
        "supervisorPid": component.supervisor.map(|process| process.pid),
        "uptimeSeconds": component.main.and_then(process::uptime_seconds),
        "memoryBytes": (memory > 0).then_some(memory),
        "restarts": component.restarts,
    })
}

fn row(component: &Value) -> Vec<String> {
    vec![
        component["name"].as_str().unwrap_or_default().to_owned(),
        component["pid"].as_i64().map_or("-".to_owned(), |pid| pid.to_string()),
        uptime(component["uptimeSeconds"].as_u64()),
        component["memoryBytes"].as_u64().map_or("-".to_owned(), bytes),
        component["restarts"].to_string(),
    ]
}

fn uptime(seconds: Option<u64>) -> String {
    match seconds {
        None => "-".to_owned(),
        Some(s) if s < 120 => format!("{s}s"),
        Some(s) if s < 7200 => format!("{}m", s / 60),
        Some(s) if s < 172_800 => format!("{}h", s / 3600),
        Some(s) => format!("{}d", s / 86_400),
    }
}
