//! `kybern token create`: lets another machine join.
use crate::output::{Format, show};
use crate::{Folder, cluster, process, server};
use anyhow::{Result, ensure};
use clap::{Args, Subcommand};
use std::time::Duration;
use value::json;

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  kybern token create")]
pub(crate) struct Token {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a token and print the command that joins with it
    #[command(after_help = "Example:\n  kybern token create --ttl-hours 2")]
    Create {
        #[command(flatten)]
        folder: Folder,
        /// How long the token may be used
        #[arg(long, default_value_t = 24, value_name = "HOURS", value_parser = clap::value_parser!(u64).range(1..=8760))]
        ttl_hours: u64,
        #[arg(long, short, value_enum, default_value_t)]
        output: Format,
    },
}

impl Token {
    pub(crate) fn run(self) -> Result<()> {
        let Command::Create { folder, ttl_hours, output } = self.command;
        let dir = folder.open()?;
        let cluster = cluster::existing(&dir)?;
        ensure!(
            process::running(&dir, "server").is_some(),
            "the cluster in {} is stopped: `kybern up` starts it",
            dir.root().display()
        );
        let access = server::Access::load(&dir)?;
        let token = access.join_token(Duration::from_secs(ttl_hours * 3600))?;
        let url = cluster.advertise_url()?;
        show(output, &json!({"token": token, "server": url}), || {
            format!("kybern agent --server {url} --token {token}\n")
        });
        Ok(())
    }
}
