//! `kybern status`: what runs, since when, and what it takes.
use crate::output::{Format, bytes, show, table};
use crate::{Folder, cluster, process, up};
use anyhow::Result;
use clap::Args;
use serde_json::json;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  kybern status\n  kybern status --output json")]
pub(crate) struct Status {
    #[command(flatten)]
    folder: Folder,
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

impl Status {
    pub(crate) fn run(self) -> Result<()> {
        let dir = self.folder.open()?;
        let cluster = cluster::load(&dir)?;
        let running = process::all_running(&dir);
        let components: Vec<_> = running
            .iter()
            .map(|component| {
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
            })
            .collect();
        let report = json!({
            "dataDir": dir.root(),
            "running": running.iter().any(|component| component.name == "server"),
            "server": cluster.as_ref().map(up::cluster_url),
            "nodes": cluster.as_ref().map(|cluster| &cluster.nodes),
            "components": components,
        });
        show(self.output, &report, || {
            let Some(cluster) = &cluster else {
                return format!(
                    "No cluster in {}. `kybern up` starts one.\n",
                    dir.root().display()
                );
            };
            if components.is_empty() {
                return format!(
                    "The cluster in {} is stopped. `kybern up` starts it.\n",
                    dir.root().display()
                );
            }
            let rows: Vec<Vec<String>> = components
                .iter()
                .map(|component| {
                    vec![
                        component["name"].as_str().unwrap_or_default().to_owned(),
                        component["pid"].as_i64().map_or("-".to_owned(), |pid| pid.to_string()),
                        uptime(component["uptimeSeconds"].as_u64()),
                        component["memoryBytes"].as_u64().map_or("-".to_owned(), bytes),
                        component["restarts"].to_string(),
                    ]
                })
                .collect();
            format!("API server: {}\n\n", up::cluster_url(cluster))
                + &table(&["COMPONENT", "PID", "UP", "MEMORY (PSS)", "RESTARTS"], &rows)
        });
        Ok(())
    }
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
