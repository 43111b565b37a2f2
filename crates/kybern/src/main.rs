//! The binary: picks the program by name and hands over. Nothing else lives here.
//!
//! The shim and the toolbox come first: they run once per pod, and must not pay for a runtime or a
//! command line parser that they do not use.
use std::process::ExitCode;

/// Half of what the server does is making and letting go of small objects.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args: Vec<std::ffi::OsString> = std::env::args_os().collect();
    cli::main(&args)
}
