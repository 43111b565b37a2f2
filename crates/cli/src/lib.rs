//! The `kybern` command line: one file per command, one line in [`Command`].

mod agent;
mod cluster;
mod compaction;
mod datastore;
mod down;
mod image;
mod join;
mod kubeconfig;
mod logging;
mod logs;
mod needs;
mod output;
mod paths;
mod process;
mod reach;
mod server;
mod status;
mod supervise;
mod token;
mod up;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use paths::DataDir;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

/// Our version, and what upstream release the API and the node behave as.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (Kubernetes v1.37.2)");

/// A complete Kubernetes in one binary.
#[derive(Debug, Parser)]
#[command(name = "kybern", version = VERSION, propagate_version = true)]
#[command(after_help = "Examples:
  kybern up                      start a cluster on this machine
  kubectl get nodes              use it
  kybern image import app.tar    bring an image, without a registry
  kybern down --wipe             end it and remove its data")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Every command takes `--data-dir`, so that several clusters live beside each other.
#[derive(Debug, Clone, Args)]
pub(crate) struct Folder {
    /// The folder that holds everything of the cluster
    #[arg(long, default_value = "/var/lib/kybern", value_name = "FOLDER", env = "KYBERN_DATA_DIR")]
    data_dir: PathBuf,
}

impl Folder {
    pub(crate) fn open(&self) -> Result<DataDir> {
        DataDir::new(&self.data_dir)
            .with_context(|| format!("--data-dir {} is not usable", self.data_dir.display()))
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a cluster on this machine
    Up(up::Up),
    /// Stop the cluster and everything it runs
    Down(down::Down),
    /// Show what runs and how much it takes
    Status(status::Status),
    /// Show the log of the server or of a node's agent
    Logs(logs::Logs),
    /// Print the administrator's kubeconfig
    Kubeconfig(kubeconfig_command::Kubeconfig),
    /// Bring, list, build and remove container images
    Image(image::Image),
    /// Make a token with which another machine joins
    Token(token::Token),
    /// Run a node that joins a cluster
    Agent(agent::Agent),
    /// Run the control plane (the API server, the controllers and the scheduler)
    Server(server::Server),
    /// Print completions for a shell
    Completion(completion::Completion),
}

mod kubeconfig_command {
    //! `kybern kubeconfig`.
    use crate::Folder;
    use crate::output::{Format, print, show};
    use anyhow::{Context, Result};

    #[derive(Debug, clap::Args)]
    #[command(after_help = "Examples:
  KUBECONFIG=<(kybern kubeconfig) kubectl get nodes
  kybern kubeconfig --output json")]
    pub(crate) struct Kubeconfig {
        #[command(flatten)]
        folder: Folder,
        /// Text is the file itself
        #[arg(long, short, value_enum, default_value_t)]
        output: Format,
    }

    impl Kubeconfig {
        pub(crate) fn run(self) -> Result<()> {
            let dir = self.folder.open()?;
            crate::cluster::existing(&dir)?;
            let path = dir.admin_kubeconfig();
            let text = std::fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            if self.output == Format::Text {
                print(&text);
                return Ok(());
            }
            let (value, _) = schema::yaml_to_json(text.as_bytes())
                .with_context(|| format!("{} is not valid YAML", path.display()))?;
            show(self.output, &value, || text);
            Ok(())
        }
    }
}

mod completion {
    //! `kybern completion`.
    use clap::CommandFactory;

    #[derive(Debug, clap::Args)]
    #[command(after_help = "Example:\n  source <(kybern completion bash)")]
    pub(crate) struct Completion {
        shell: clap_complete::Shell,
    }

    impl Completion {
        pub(crate) fn run(self) {
            let mut script = Vec::new();
            clap_complete::generate(self.shell, &mut crate::Cli::command(), "kybern", &mut script);
            crate::output::print(&String::from_utf8_lossy(&script));
        }
    }
}

/// Runs the program that the arguments name.
pub fn main(args: &[OsString]) -> ExitCode {
    if let Some(code) = inner_programs(args) {
        return code;
    }
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            return wrong_line(&error);
        }
    };
    match run(cli.command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", one_line(&error));
            ExitCode::FAILURE
        }
    }
}

/// What runs inside and beside containers: no command line parser, no threads.
fn inner_programs(args: &[OsString]) -> Option<ExitCode> {
    let name = std::path::Path::new(args.first()?).file_name()?.to_str()?;
    let rest: Vec<String> =
        args.iter().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    let code = match (name, rest.first().map(String::as_str)) {
        ("kybern", Some("toolbox")) => toolbox::main(&rest),
        ("kybern", Some("shim")) | ("exe", Some("shim")) => runtime::shim::main(&rest[1..]),
        (name, _) if toolbox::is_tool(name) => {
            let mut all = rest;
            all.insert(0, name.to_owned());
            toolbox::main(&all)
        }
        _ => return None,
    };
    Some(ExitCode::from(code.clamp(0, 255) as u8))
}

/// Help as it is; what is wrong with a command line on one line.
fn wrong_line(error: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind;
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
    }
    let text = error.render().to_string();
    let parts = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let parts: Vec<&str> = parts
        .filter(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
        .collect();
    eprintln!("{}; see --help", parts.join(" "));
    ExitCode::from(2)
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Up(command) => command.run()?,
        Command::Down(command) => command.run()?,
        Command::Status(command) => return command.run(),
        Command::Logs(command) => command.run()?,
        Command::Kubeconfig(command) => command.run()?,
        Command::Image(command) => command.run()?,
        Command::Token(command) => command.run()?,
        Command::Agent(command) => command.run()?,
        Command::Server(command) => command.run()?,
        Command::Completion(command) => command.run(),
    }
    Ok(ExitCode::SUCCESS)
}

/// The whole chain of an error on one line.
pub(crate) fn one_line(error: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = cause.to_string().replace('\n', " ");
        if parts.last().is_none_or(|last| !last.ends_with(&text)) {
            parts.push(text);
        }
    }
    parts.join(": ")
}

/// Most of what kybern does needs the kernel's leave.
pub(crate) fn require_root(command: &str) -> Result<()> {
    anyhow::ensure!(
        nix::unistd::geteuid().is_root(),
        "`kybern {command}` needs root (namespaces, mounts, packet rules): try `sudo kybern {command}`"
    );
    Ok(())
}

/// A runtime for the length of one command.
pub(crate) fn runtime_for_command() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_examples() {
        fn check(command: &clap::Command) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example"), "{}", command.get_name());
            command.get_subcommands().filter(|inner| inner.get_name() != "help").for_each(check);
        }
        check(&Cli::command());
    }

    #[test]
    fn errors_are_one_line() {
        let error = anyhow::anyhow!("disk\nfull").context("cannot write x");
        assert_eq!(one_line(&error), "cannot write x: disk full");
    }
}
