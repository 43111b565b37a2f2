//! Logging of the background programs: one line an event, to standard error (their log file).
use tracing_subscriber::EnvFilter;

/// `KYBERN_LOG` takes the usual filters (`debug`, `apiserver=trace`); the default is `info`.
pub(crate) fn start() {
    let filter = EnvFilter::try_from_env("KYBERN_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .try_init();
}
