//! Commands that only the shell itself can do, and some that it does for speed.
use std::io::Write;
use std::os::fd::AsFd;

use super::{Flow, Shell, Variable};
use crate::common::{Done, reason};

mod jobs;
mod read;
mod vars;

type Run = fn(&mut Shell, &[String]) -> Result<i32, Flow>;

pub(super) struct Builtin {
    name: &'static str,
    /// Assignments before it stay.
    pub(super) special: bool,
    pub(super) run: Run,
}

const fn special(name: &'static str, run: Run) -> Builtin {
    Builtin { name, special: true, run }
}

const fn regular(name: &'static str, run: Run) -> Builtin {
    Builtin { name, special: false, run }
}

const ALL: &[Builtin] = &[
    special(".", source),
    special(":", |_, _| Ok(0)),
    regular("[", |shell, args| Ok(tool(shell, args, crate::text::test::main))),
    special("break", |shell, args| leave_loop(shell, args, Flow::Break)),
    regular("cd", cd),
    regular("command", command),
    special("continue", |shell, args| leave_loop(shell, args, Flow::Continue)),
    regular("echo", |shell, args| Ok(tool(shell, args, crate::text::echo::echo))),
    special("eval", eval),
    special("exec", exec),
    special("exit", exit),
    special("export", vars::export),
    regular("false", |_, _| Ok(1)),
    regular("getopts", vars::getopts),
    regular("jobs", jobs::jobs),
    regular("kill", |shell, args| Ok(tool(shell, args, crate::process::kill))),
    regular("let", vars::let_),
    regular("local", vars::local),
    regular("printf", |shell, args| Ok(tool(shell, args, crate::text::echo::printf))),
    regular("pwd", |shell, args| Ok(tool(shell, args, crate::text::paths::pwd))),
    regular("read", read::read),
    special("readonly", vars::readonly),
    special("return", return_),
    special("set", vars::set),
    special("shift", vars::shift),
    regular("source", source),
    regular("test", |shell, args| Ok(tool(shell, args, crate::text::test::main))),
    special("times", jobs::times),
    special("trap", jobs::trap),
    regular("true", |_, _| Ok(0)),
    regular("type", type_),
    regular("ulimit", jobs::ulimit),
    regular("umask", jobs::umask),
    special("unset", vars::unset),
    regular("wait", jobs::wait),
];

pub(super) fn find(name: &str) -> Option<&'static Builtin> {
    ALL.iter().find(|builtin| builtin.name == name)
}

/// Runs a tool of this binary without a process of its own.
fn tool(shell: &Shell, args: &[String], applet: fn(&[String]) -> Done) -> i32 {
    applet(args).unwrap_or_else(|fault| {
        if !fault.silent() {
            shell.complain(&format!("{}: {fault}", args[0]));
        }
        fault.code()
    })
}

/// Writes to standard output.
fn print(text: &str) -> Result<i32, Flow> {
    let write = || -> std::io::Result<()> {
        let fd = std::io::stdout().as_fd().try_clone_to_owned()?;
        std::fs::File::from(fd).write_all(text.as_bytes())
    };
    match write() {
        Ok(()) => Ok(0),
        Err(_) => Ok(1),
    }
}

/// In single quotes, so that the shell reads it back as it is.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn parse_number(shell: &Shell, args: &[String]) -> Result<Option<i32>, Flow> {
    let Some(text) = args.get(1) else { return Ok(None) };
    match text.parse::<i32>() {
        Ok(n) => Ok(Some(n)),
        Err(_) => {
            let _ = shell;
            Err(Flow::Fail(format!("{}: {text}: bad number", args[0])))
        }
    }
}

fn exit(shell: &mut Shell, args: &[String]) -> Result<i32, Flow> {
    Err(Flow::Exit(parse_number(shell, args)?.unwrap_or(shell.status)))
}

fn return_(shell: &mut Shell, args: &[String]) -> Result<i32, Flow> {
    Err(Flow::Return(parse_number(shell, args)?.unwrap_or(shell.status)))
}

fn leave_loop(shell: &mut Shell, args: &[String], flow: fn(usize) -> Flow) -> Result<i32, Flow> {
    let n = parse_number(shell, args)?.unwrap_or(1);
    if n < 1 {
        return Err(Flow::Fail(format!("{}: {n}: bad number", args[0])));
    }
    if shell.loops == 0 {
        return Ok(0);
    }
    Err(flow((n as usize).min(shell.loops)))
}

fn eval(shell: &mut Shell, args: &[String]) -> Result<i32, Flow> {
    let text = args[1..].join(" ");
    if text.trim().is_empty() {
        return Ok(0);
    }
    shell.nested(|shell| shell.run_text(&text, false))
}

fn source(shell: &mut Shell, args: &[String]) -> Result<i32, Flow> {
    let Some(file) = args.get(1) else {
        return Err(Flow::Fail(format!("{}: names no file", args[0])));
    };
    let path = if file.contains('/') {
        file.clone()
    } else {
        let path = shell.get("PATH").unwrap_or_default();
        let mut candidates = path.split(':').map(|folder| format!("{folder}/{file}"));
        let found = candidates.find(|path| std::path::Path::new(path).is_file());
        found.unwrap_or_else(|| file.clone())
    };
    let bytes = std::fs::read(&path)
        .map_err(|e| Flow::Fail(format!("{}: cannot open {file}: {}", args[0], reason(&e))))?;
    let before =
        (args.len() > 2).then(|| std::mem::replace(&mut shell.parameters, args[2..].to_vec()));
    let result = shell.nested(|shell| shell.run_text(&String::from_utf8_lossy(&bytes), false));
    if let Some(before) = before {
        shell.parameters = before;
    }
    match result {
        Err(Flow::Return(code)) => Ok(code),
        other => other,
    }
}

fn exec(shell: &mut Shell, args: &[String]) -> Result<i32, Flow> {
    let mut args = &args[1..];
    if args.first().is_some_and(|arg| arg == "--") {
        args = &args[1..];
    }
    if args.is_empty() {
        return Ok(0);
    }
    let code = shell.execute(args);
    // The shell was not replaced: a script ends here.
    if shell.interactive { Ok(code) } else { Err(Flow::Exit(code)) }
}

fn cd(shell: &mut Shell, args: &[String]) -> Result<i32, Flow> {
    let rest: Vec<&String> =
        args[1..].iter().filter(|arg| !matches!(arg.as_str(), "-P" | "-L" | "--")).collect();
    let (target, show) = match rest.first().map(|arg| arg.as_str()) {
        None => (shell.get("HOME").unwrap_or_else(|| "/".to_owned()), false),
        Some("-") => (shell.get("OLDPWD").unwrap_or_default(), true),
        Some(folder) => (folder.to_owned(), false),
    };
    let before = shell.get("PWD").unwrap_or_default();
    if let Err(e) = std::env::set_current_dir(&target) {
        shell.complain(&format!("cd: can't cd to {target}: {}", reason(&e)));
        return Ok(1);
    }
    let now = if target.starts_with('/') { target } else { format!("{before}/{target}") };
    let now = logical(&now);
    for (name, value) in [("OLDPWD", before), ("PWD", now.clone())] {
        let variable = Variable { value: Some(value), exported: true, read_only: false };
        shell.variables.insert(name.to_owned(), variable);
    }
    if show { print(&format!("{now}\n")) } else { Ok(0) }
}

/// The path without `.`, `..` and doubled slashes, by its letters alone.
fn logical(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

fn command(shell: &mut Shell, args: &[String]) -> Result<i32, Flow> {
    match args.get(1).map(String::as_str) {
        None => Ok(0),
        Some("-v") => {
            let mut status = 0;
            for name in &args[2..] {
                match known(shell, name) {
                    Some(Known::Path(path)) => drop(print(&format!("{path}\n"))),
                    Some(_) => drop(print(&format!("{name}\n"))),
                    None => status = 127,
                }
            }
            Ok(status)
        }
        Some("-V") => type_(shell, &args[1..]),
        Some("-p" | "--") => command(shell, &args[1..]),
        Some(name) => match find(name) {
            Some(builtin) => (builtin.run)(shell, &args[1..]),
            None => {
                let words = args[1..].iter().cloned();
                let words = words.map(|word| vec![super::ast::Part::Quoted(word)]).collect();
                let simple = super::ast::Simple { words, ..super::ast::Simple::default() };
                let function = shell.functions.remove(name);
                let result = shell.run_command(&super::ast::Command::Simple(simple), false);
                if let Some(function) = function {
                    shell.functions.insert(name.to_owned(), function);
                }
                result
            }
        },
    }
}

enum Known {
    Builtin,
    Function,
    Path(String),
}

fn known(shell: &Shell, name: &str) -> Option<Known> {
    if shell.functions.contains_key(name) {
        return Some(Known::Function);
    }
    if find(name).is_some() {
        return Some(Known::Builtin);
    }
    let path = shell.find_program(name).ok()?;
    if path.starts_with("/proc/self/") {
        return Some(Known::Builtin);
    }
    std::path::Path::new(&path).exists().then_some(Known::Path(path))
}

fn type_(shell: &mut Shell, args: &[String]) -> Result<i32, Flow> {
    let mut status = 0;
    for name in &args[1..] {
        let text = match known(shell, name) {
            Some(Known::Function) => format!("{name} is a function\n"),
            Some(Known::Builtin) => format!("{name} is a shell builtin\n"),
            Some(Known::Path(path)) => format!("{name} is {path}\n"),
            None => {
                status = 127;
                format!("{name}: not found\n")
            }
        };
        print(&text)?;
    }
    Ok(status)
}
