//! The small tools of the built-in image: `kybern.local/toolbox` is the kybern binary under other
//! names.
//!
//! Runs once per container, often as its first process: no async runtime, no threads but those of
//! the servers, nothing read that is not needed. An applet gets its arguments (its own name first)
//! and returns an exit code; what it says goes to standard error as `name: what is wrong`.
mod archive;
mod common;
mod files;
mod info;
mod net;
mod pattern;
mod process;
mod sh;
mod text;

use common::Done;

type Applet = fn(&[String]) -> Done;

/// Names under which the binary is to be found.
pub fn names() -> Vec<&'static str> {
    let mut names: Vec<&str> = TABLE.iter().chain(PROGRAMS).map(|(name, _)| *name).collect();
    names.sort_unstable();
    names
}

/// What no other system has under these names.
const PROGRAMS: &[(&str, Applet)] = &[
    ("get", net::client::get),
    ("lookup", net::lookup::lookup),
    ("serve", net::serve::main),
    ("tcp-echo", net::echo::tcp),
    ("udp-echo", net::echo::udp),
];

const TABLE: &[(&str, Applet)] = &[
    ("[", text::test::main),
    ("ash", sh::main),
    ("basename", text::paths::basename),
    ("cat", files::cat),
    ("chmod", files::meta::chmod),
    ("chown", files::meta::chown),
    ("cp", files::tree::cp),
    ("cut", text::columns::cut),
    ("date", info::date::main),
    ("dd", files::dd::main),
    ("df", info::df),
    ("dirname", text::paths::dirname),
    ("du", files::tree::du),
    ("echo", text::echo::echo),
    ("env", process::env),
    ("expr", text::test::expr),
    ("false", |_| Ok(1)),
    ("find", files::find::main),
    ("free", info::free),
    ("grep", text::grep::main),
    ("head", text::ends::head),
    ("hostname", info::hostname),
    ("id", info::id),
    ("ip", info::ip::main),
    ("kill", process::kill),
    ("ln", files::meta::ln),
    ("ls", files::ls::main),
    ("mkdir", files::meta::mkdir),
    ("mount", info::mount),
    ("mv", files::tree::mv),
    ("nc", net::nc::main),
    ("nproc", info::nproc),
    ("nslookup", net::lookup::nslookup),
    ("printenv", process::printenv),
    ("printf", text::echo::printf),
    ("ps", process::ps),
    ("pwd", text::paths::pwd),
    ("readlink", text::paths::readlink),
    ("realpath", text::paths::realpath),
    ("rm", files::tree::rm),
    ("rmdir", files::meta::rmdir),
    ("seq", text::columns::seq),
    ("sh", sh::main),
    ("sha256sum", files::sha256sum),
    ("sleep", process::sleep),
    ("sort", text::columns::sort),
    ("stat", files::meta::stat),
    ("stty", info::stty),
    ("sync", |_| {
        nix::unistd::sync();
        Ok(0)
    }),
    ("tail", text::ends::tail),
    ("tar", archive::main),
    ("tee", text::ends::tee),
    ("test", text::test::main),
    ("time", process::time),
    ("timeout", process::timeout),
    ("touch", files::meta::touch),
    ("tr", text::columns::tr),
    ("true", |_| Ok(0)),
    ("uname", info::uname),
    ("uniq", text::columns::uniq),
    ("wc", text::ends::wc),
    ("wget", net::client::wget),
    ("which", process::which),
    ("whoami", info::whoami),
    ("xargs", process::xargs),
    ("yes", text::echo::yes),
];

/// Whether this program was called by a tool's name.
pub fn is_tool(name: &str) -> bool {
    name == "toolbox" || find(name).is_some()
}

fn find(name: &str) -> Option<Applet> {
    let mut all = TABLE.iter().chain(PROGRAMS);
    all.find(|(known, _)| *known == name).map(|(_, applet)| *applet)
}

/// Runs a tool: `args[0]` is its name, or `toolbox` with the name after it.
pub fn main(args: &[String]) -> i32 {
    let base = args.first().map_or("toolbox", |arg| arg.rsplit('/').next().unwrap_or(arg));
    // A login shell's name begins with a dash.
    let base = base.trim_start_matches('-');
    let args: Vec<String> = match base {
        "toolbox" => args.iter().skip(1).cloned().collect(),
        name => std::iter::once(name.to_owned()).chain(args.iter().skip(1).cloned()).collect(),
    };
    let Some(name) = args.first() else {
        println!("usage: toolbox NAME [ARGUMENTS]\n\nNames: {}", names().join(" "));
        return 0;
    };
    let Some(applet) = find(name) else {
        eprintln!("toolbox: no tool named {name:?}; the tools are: {}", names().join(" "));
        return 127;
    };
    // A reader that leaves ends the writer, as everybody expects of `yes | head`.
    usual_signal(nix::libc::SIGPIPE);
    if std::process::id() == 1 {
        ENDING.iter().for_each(|signal| usual_signal(*signal));
    }
    run(applet, &args)
}

/// Signals that end a program which does not ask for them.
const ENDING: &[i32] = &[nix::libc::SIGTERM, nix::libc::SIGINT, nix::libc::SIGHUP];

/// Gives a signal its usual action, also in a container's first process, which the kernel spares.
fn usual_signal(signal: i32) {
    use sys::process::{OnSignal, on_signal};
    let first = std::process::id() == 1 && ENDING.contains(&signal);
    // Only KILL and STOP cannot be set.
    let _ = on_signal(signal, if first { OnSignal::End } else { OnSignal::Default });
}

fn run(applet: Applet, args: &[String]) -> i32 {
    match applet(args) {
        Ok(code) => code,
        Err(fault) if fault.silent() => 1,
        Err(fault) => {
            eprintln!("{}: {fault}", args[0]);
            fault.code()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{is_tool, names};

    #[test]
    fn every_tool_has_one_name() {
        let names = names();
        assert!(names.windows(2).all(|pair| pair[0] < pair[1]), "{names:?}");
        assert!(is_tool("sh") && is_tool("[") && is_tool("serve") && is_tool("toolbox"));
        assert!(!is_tool("kybern") && !is_tool(""));
        assert_eq!(super::main(&["/bin/false".to_owned()]), 1);
        assert_eq!(super::main(&["toolbox".to_owned(), "true".to_owned()]), 0);
        assert_eq!(super::main(&["toolbox".to_owned(), "kybern".to_owned()]), 127);
    }
}
