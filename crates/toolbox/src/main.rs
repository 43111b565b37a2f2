//! The toolbox by itself; in the image it is the kybern binary.
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> =
        std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect();
    ExitCode::from(toolbox::main(&args).clamp(0, 255) as u8)
}
