//! A multi-tool for containers that hold nothing else: the kybern binary under other names.
//!
//! Small on purpose: no async runtime, no TLS, no configuration. Each tool takes the usual options
//! of the program it is named after, as far as it knows them, and refuses the others.
mod archive;
mod echo;
mod files;
mod http;
mod processes;
mod resolve;
mod shell;
mod text;

use std::fmt::Display;

/// What a tool ends with: an exit code, or a message that goes to standard error with code 1.
type Outcome = Result<i32, String>;
type Tool = fn(&[String]) -> Outcome;

/// One row per tool: name, what it does, the function.
const TOOLS: &[(&str, &str, Tool)] = &[
    ("[", "evaluate an expression, up to ]", text::bracket),
    ("basename", "last part of a path", files::basename),
    ("cat", "print files", files::cat),
    ("chmod", "change modes (octal)", files::chmod),
    ("cp", "copy files (-r: folders)", files::cp),
    ("date", "print the time (UTC)", text::date),
    ("dirname", "path without its last part", files::dirname),
    ("echo", "print arguments", text::echo),
    ("env", "print or change the environment", processes::env),
    ("false", "fail", |_| Ok(1)),
    ("get", "fetch a URL by HTTP", http::get),
    ("head", "first lines (-n) or bytes (-c)", text::head),
    ("hostname", "print the host name", processes::hostname),
    ("id", "print user and groups", processes::id),
    ("kill", "send a signal", processes::kill),
    ("ln", "make links (-s)", files::ln),
    ("lookup", "ask the DNS (-t TYPE)", resolve::lookup),
    ("ls", "list folders (-l -a -d)", files::ls),
    ("mkdir", "make folders (-p)", files::mkdir),
    ("mv", "rename files", files::mv),
    ("nslookup", "ask the DNS", resolve::lookup),
    ("printf", "print by a format", text::printf),
    ("ps", "list processes", processes::ps),
    ("pwd", "print the current folder", files::pwd),
    ("readlink", "print a link's target", files::readlink),
    ("rm", "remove files (-r -f)", files::rm),
    ("rmdir", "remove empty folders", files::rmdir),
    ("seq", "print numbers", text::seq),
    ("serve", "HTTP server that tells about requests (--port 8080)", http::serve),
    ("sh", "a small shell", shell::main),
    ("sleep", "wait", processes::sleep),
    ("stat", "print a file's mode, owner, size (-c FORMAT)", files::stat),
    ("sync", "write out everything", files::sync),
    ("tail", "last lines (-n)", text::tail),
    ("tar", "make and unpack archives", archive::tar),
    ("tcp-echo", "TCP server that echoes (--port 7)", echo::tcp),
    ("tee", "copy input to files too (-a)", text::tee),
    ("test", "evaluate an expression", text::test),
    ("touch", "make files or set their times", files::touch),
    ("true", "succeed", |_| Ok(0)),
    ("udp-echo", "UDP server that echoes (--port 7)", echo::udp),
    ("uname", "print the system's name", processes::uname),
    ("wc", "count lines, words, bytes (-l -w -c)", text::wc),
    ("wget", "fetch a URL by HTTP (-q -O FILE -T SECONDS)", http::wget),
    ("whoami", "print the user's name", processes::whoami),
];

/// Names under which the binary is to be found.
pub fn names() -> Vec<&'static str> {
    TOOLS.iter().map(|(name, ..)| *name).collect()
}

/// Whether this program was called by a tool's name.
pub fn is_tool(name: &str) -> bool {
    name == "toolbox" || find(name).is_some()
}

/// Runs a tool: `args[0]` is its name, or `toolbox` with the name after it.
pub fn main(args: &[String]) -> i32 {
    let base = args.first().map_or("toolbox", |a| a.rsplit('/').next().unwrap_or(a));
    // A login shell's name begins with a dash.
    let base = base.trim_start_matches('-');
    let args: Vec<String> = match base {
        "toolbox" => args.iter().skip(1).cloned().collect(),
        name => std::iter::once(name.to_owned()).chain(args.iter().skip(1).cloned()).collect(),
    };
    let Some((name, rest)) = args.split_first() else {
        println!("usage: toolbox TOOL [ARGUMENT]...");
        TOOLS.iter().for_each(|(name, what, _)| println!("  {name:10} {what}"));
        return 0;
    };
    let Some(tool) = find(name) else {
        eprintln!("toolbox: no tool {name:?}");
        return 127;
    };
    // Output into a pipe that nobody reads any more ends a tool quietly.
    let _ = sys::process::on_signal(nix::libc::SIGPIPE, sys::process::OnSignal::Default);
    if std::process::id() == 1 {
        for signal in [nix::libc::SIGTERM, nix::libc::SIGINT, nix::libc::SIGHUP] {
            let _ = sys::process::on_signal(signal, sys::process::OnSignal::End);
        }
    }
    let code = run(name, tool, rest);
    let _ = std::io::Write::flush(&mut std::io::stdout());
    code
}

fn run(name: &str, tool: Tool, args: &[String]) -> i32 {
    match tool(args) {
        Ok(code) => code,
        Err(message) => {
            eprintln!("{name}: {message}");
            1
        }
    }
}

fn find(name: &str) -> Option<Tool> {
    TOOLS.iter().find(|(n, ..)| *n == name).map(|(_, _, tool)| *tool)
}

/// The message of a failed operation on something.
fn at<E: Into<std::io::Error>>(what: impl Display) -> impl FnOnce(E) -> String {
    move |e| format!("{what}: {}", sys::reason(&e.into()))
}

/// Options of one letter, and what else was given. A letter before `:` in `known` takes a value.
struct Options {
    set: Vec<(char, String)>,
    rest: Vec<String>,
}

impl Options {
    fn parse(args: &[String], known: &str) -> Result<Options, String> {
        let mut options = Options { set: Vec::new(), rest: Vec::new() };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            if arg == "--" {
                options.rest.extend(args.by_ref().cloned());
                break;
            }
            let Some(letters) = arg.strip_prefix('-').filter(|l| !l.is_empty()) else {
                options.rest.push(arg.clone());
                continue;
            };
            let mut letters = letters.chars();
            while let Some(letter) = letters.next() {
                let at = known.find(letter).filter(|_| letter != ':');
                let at = at.ok_or_else(|| format!("unknown option {arg:?}"))?;
                let mut value = String::new();
                if known[at + 1..].starts_with(':') {
                    value = letters.by_ref().collect();
                    if value.is_empty() {
                        let next = args.next();
                        value.clone_from(next.ok_or_else(|| format!("-{letter} needs a value"))?);
                    }
                }
                options.set.push((letter, value));
            }
        }
        Ok(options)
    }

    fn has(&self, letter: char) -> bool {
        self.set.iter().any(|(l, _)| *l == letter)
    }

    fn value(&self, letter: char) -> Option<&str> {
        self.set.iter().rev().find(|(l, _)| *l == letter).map(|(_, value)| value.as_str())
    }

    /// Runs on each of the rest; goes on after a failure, as tools do.
    fn each(&self, name: &str, mut work: impl FnMut(&str) -> Result<(), String>) -> Outcome {
        if self.rest.is_empty() {
            return Err("missing operand".to_owned());
        }
        let mut code = 0;
        for one in &self.rest {
            if let Err(message) = work(one) {
                eprintln!("{name}: {message}");
                code = 1;
            }
        }
        Ok(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_are_sorted_and_unique() {
        let names = names();
        assert!(names.windows(2).all(|w| w[0] < w[1]), "{names:?}");
        assert!(is_tool("sh") && is_tool("toolbox") && !is_tool("kybern"));
    }

    #[test]
    fn options_as_usual() {
        let args = |a: &[&str]| a.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>();
        let options = Options::parse(&args(&["-xn3", "-n", "4", "a", "--", "-b"]), "xn:").unwrap();
        assert!(options.has('x'));
        assert_eq!((options.value('n'), &options.rest), (Some("4"), &args(&["a", "-b"])));
        assert!(Options::parse(&args(&["-z"]), "x").is_err());
        assert!(Options::parse(&args(&["-n"]), "n:").is_err());
    }
}
