//! A small POSIX-like shell: lists, pipes, redirections, here-documents, variables and their
//! expansions, arithmetic, globs, if/for/while/until/case, functions, traps, background processes.
//! No job control and no line editing; the terminal's own does.
mod builtin;
mod expand;
mod parse;
mod pattern;
mod run;

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};

use parse::{List, ParseError};
use sys::process::{OnSignal, on_signal};

use crate::Outcome;

/// Nested function calls, sourced texts and substitutions.
const MAX_DEPTH: usize = 200;

/// A variable: its value and whether programs see it.
#[derive(Debug, Clone, Default)]
struct Variable {
    value: String,
    exported: bool,
}

/// Everything a shell remembers.
#[derive(Default)]
struct Shell {
    variables: BTreeMap<String, Variable>,
    functions: BTreeMap<String, List>,
    /// What `$0` and `$1`… are.
    name: String,
    arguments: Vec<String>,
    /// Of the shell as it was started: subshells show it too.
    pid: u32,
    status: i32,
    /// The last background process.
    background: Option<i32>,
    children: Vec<i32>,
    /// By signal number; 0: at exit.
    traps: BTreeMap<i32, String>,
    errexit: bool,
    nounset: bool,
    xtrace: bool,
    pipefail: bool,
    interactive: bool,
    /// This process has nothing to do after the next command: that takes its place, so that
    /// signals to it arrive.
    last: bool,
    /// A command was substituted, and the status is its.
    substituted: bool,
    /// In a condition, where a failure ends nothing.
    checked: usize,
    depth: usize,
}

/// Why a list stopped before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Jump {
    Exit(i32),
    Return(i32),
    Break(u32),
    Continue(u32),
}

pub(crate) fn main(args: &[String]) -> Outcome {
    let mut shell = Shell { name: "sh".to_owned(), pid: std::process::id(), ..Shell::default() };
    for (name, value) in std::env::vars_os() {
        let (name, value) = (name.to_string_lossy(), value.to_string_lossy());
        let variable = Variable { value: value.into_owned(), exported: true };
        shell.variables.insert(name.into_owned(), variable);
    }
    let mut args = args.iter();
    let mut command = None;
    let mut script = None;
    let mut wants_prompt = false;
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--" => {}
            "-c" => command = Some(args.next().ok_or("-c needs a command")?.clone()),
            "-i" => wants_prompt = true,
            "-s" | "-l" | "--login" => {}
            options if options.starts_with('-') || options.starts_with('+') => {
                let rest = options[1..].replace(['i', 'l', 's'], "");
                let (flags, is_command) = match rest.strip_suffix('c') {
                    Some(flags) => (flags.to_owned(), true),
                    None => (rest, false),
                };
                for flag in flags.chars() {
                    shell.option(flag, options.starts_with('-'))?;
                }
                if is_command {
                    command = Some(args.next().ok_or("-c needs a command")?.clone());
                }
            }
            path if command.is_none() => {
                script = Some(path.to_owned());
                break;
            }
            name => {
                shell.name = name.to_owned();
                break;
            }
        }
    }
    shell.arguments = args.cloned().collect();
    let jump = match (command, script) {
        (Some(text), _) => shell.run_text(&text),
        (None, Some(path)) => {
            let text = std::fs::read(&path).map_err(crate::at(&path))?;
            shell.name = path;
            shell.run_text(&String::from_utf8_lossy(&text))
        }
        (None, None) => {
            shell.interactive = wants_prompt || io::stdin().is_terminal();
            shell.run_input()
        }
    };
    Ok(shell.leave(jump))
}

impl Shell {
    fn option(&mut self, flag: char, on: bool) -> Result<(), String> {
        match flag {
            'e' => self.errexit = on,
            'u' => self.nounset = on,
            'x' => self.xtrace = on,
            other => return Err(format!("unknown option -{other}")),
        }
        Ok(())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(|v| v.value.as_str())
    }

    fn set(&mut self, name: &str, value: String) {
        let exported = self.variables.get(name).is_some_and(|v| v.exported);
        self.variables.insert(name.to_owned(), Variable { value, exported });
    }

    /// Runs a text as a whole; what of it is well-formed is run even if a later part is not.
    fn run_text(&mut self, text: &str) -> Result<(), Jump> {
        if self.depth >= MAX_DEPTH {
            return self.complain("nested too deeply");
        }
        self.depth += 1;
        let done = match parse::parse(text) {
            Ok(list) => self.list(&list),
            Err(ParseError::Incomplete) => self.complain("syntax error: unexpected end"),
            Err(ParseError::Syntax(what)) => self.complain(&format!("syntax error: {what}")),
        };
        self.depth -= 1;
        done
    }

    fn complain(&mut self, message: &str) -> Result<(), Jump> {
        eprintln!("sh: {message}");
        self.status = 2;
        if self.interactive { Ok(()) } else { Err(Jump::Exit(2)) }
    }

    /// Reads commands from standard input, no further than each needs: the programs that it
    /// starts read on from there.
    fn run_input(&mut self) -> Result<(), Jump> {
        if self.interactive {
            let _ = on_signal(nix::libc::SIGINT, OnSignal::Note);
        }
        let mut text = String::new();
        loop {
            self.run_traps()?;
            if self.interactive {
                let prompt = if text.is_empty() { self.prompt() } else { "> ".to_owned() };
                eprint!("{prompt}");
                let _ = io::stderr().flush();
            }
            match builtin::read_line() {
                Ok(Some(line)) => {
                    text.push_str(&line);
                    text.push('\n');
                }
                Ok(None) => {
                    return if text.is_empty() { Ok(()) } else { self.run_text(&text) };
                }
                Err(_) => {
                    // Interrupted at the prompt: start over.
                    while sys::process::caught_signal().is_some() {}
                    eprintln!();
                    text.clear();
                    continue;
                }
            }
            match parse::parse(&text) {
                Err(ParseError::Incomplete) => continue,
                _ => self.run_text(&std::mem::take(&mut text)).or_else(|jump| match jump {
                    Jump::Exit(_) => Err(jump),
                    // Outside of anything to leave.
                    _ => Ok(()),
                })?,
            }
        }
    }

    fn prompt(&self) -> String {
        if let Some(prompt) = self.get("PS1") {
            return prompt.to_owned();
        }
        let folder = std::env::current_dir().unwrap_or_default();
        let sign = if nix::unistd::geteuid().is_root() { '#' } else { '$' };
        format!("{} {sign} ", folder.display())
    }

    /// The end of the shell: its exit trap, and its code.
    fn leave(&mut self, jump: Result<(), Jump>) -> i32 {
        self.status = match jump {
            Err(Jump::Exit(code) | Jump::Return(code)) => code,
            _ => self.status,
        };
        if let Some(trap) = self.traps.remove(&0) {
            let status = self.status;
            match self.run_text(&trap) {
                Err(Jump::Exit(code)) => self.status = code,
                _ => self.status = status,
            }
        }
        let _ = io::stdout().flush();
        self.status
    }

    /// Runs the traps of signals that came meanwhile.
    fn run_traps(&mut self) -> Result<(), Jump> {
        while let Some(signal) = sys::process::caught_signal() {
            if let Some(trap) = self.traps.get(&signal).cloned() {
                let status = self.status;
                self.run_text(&trap)?;
                self.status = status;
            }
        }
        Ok(())
    }
}
