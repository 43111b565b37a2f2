//! Logging of the background programs: one line an event, to standard error (their log file).
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

/// `KYBERN_LOG` takes levels by module (`debug`, `info,apiserver=trace`); the default is `info`.
pub(crate) fn start() {
    let asked = std::env::var("KYBERN_LOG").ok().map(|text| text.parse::<Targets>());
    let (filter, refused) = match asked {
        None => (Targets::new().with_default(LevelFilter::INFO), None),
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (Targets::new().with_default(LevelFilter::INFO), Some(error)),
    };
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(std::io::stderr);
    let _ = tracing_subscriber::registry().with(lines).with(filter).try_init();
    if let Some(error) = refused {
        tracing::warn!("KYBERN_LOG is not used: {error}; write for example info,apiserver=debug");
    }
}
