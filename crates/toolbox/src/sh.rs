//! `sh`: a POSIX shell for `sh -c …`, scripts and `kubectl exec -it`.
//!
//! Subshells, pipelines and substitutions are forked copies, which the shell can make because it
//! has one thread. Commands that are not built in are programs on `PATH`, or tools of this binary.
mod arith;
mod ast;
mod builtins;
mod control;
mod exec;
mod expand;
mod parser;
mod redirect;
mod run;
mod signals;
mod words;

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

pub(crate) use run::main;

/// Why a command does not go on with what follows it.
#[derive(Debug)]
enum Flow {
    Exit(i32),
    Return(i32),
    Break(usize),
    Continue(usize),
    /// The shell itself cannot go on: a script ends, an interactive shell asks for the next line.
    Fail(String),
    /// Someone typed ^C at an interactive shell.
    Interrupted,
}

#[derive(Debug, Clone, Default)]
struct Variable {
    value: Option<String>,
    exported: bool,
    read_only: bool,
}

#[derive(Debug, Clone, Default)]
struct Options {
    errexit: bool,
    nounset: bool,
    xtrace: bool,
    noglob: bool,
    noexec: bool,
    pipefail: bool,
    allexport: bool,
    verbose: bool,
}

impl Options {
    fn by_letter(&mut self, letter: char) -> Option<&mut bool> {
        Some(match letter {
            'e' => &mut self.errexit,
            'u' => &mut self.nounset,
            'x' => &mut self.xtrace,
            'f' => &mut self.noglob,
            'n' => &mut self.noexec,
            'a' => &mut self.allexport,
            'v' => &mut self.verbose,
            _ => return None,
        })
    }

    fn by_name(&mut self, name: &str) -> Option<&mut bool> {
        Some(match name {
            "errexit" => &mut self.errexit,
            "nounset" => &mut self.nounset,
            "xtrace" => &mut self.xtrace,
            "noglob" => &mut self.noglob,
            "noexec" => &mut self.noexec,
            "pipefail" => &mut self.pipefail,
            "allexport" => &mut self.allexport,
            "verbose" => &mut self.verbose,
            _ => return None,
        })
    }

    fn letters(&self) -> String {
        let all = [
            (self.allexport, 'a'),
            (self.errexit, 'e'),
            (self.noglob, 'f'),
            (self.nounset, 'u'),
            (self.verbose, 'v'),
            (self.xtrace, 'x'),
        ];
        all.iter().filter(|(on, _)| *on).map(|(_, c)| *c).collect()
    }
}

struct Shell {
    /// `$0`.
    name: String,
    /// `$1` and on.
    parameters: Vec<String>,
    variables: BTreeMap<String, Variable>,
    functions: HashMap<String, Rc<ast::Command>>,
    options: Options,
    /// `$?`.
    status: i32,
    /// Status of the last substitution of the command that is being expanded.
    substituted: Option<i32>,
    /// `$$`: also in subshells the first shell's.
    pid: i32,
    /// `$!`.
    last_background: Option<i32>,
    /// Background processes that run, and how those ended that nobody waited for yet.
    jobs: Vec<i32>,
    ended: BTreeMap<i32, i32>,
    signals: signals::Signals,
    interactive: bool,
    /// Depth of loops, of functions and sourced files, and of conditions, where `set -e` is off.
    loops: usize,
    calls: usize,
    conditions: usize,
    in_trap: bool,
    /// What `local` hid, by function call.
    hidden: Vec<Vec<(String, Option<Variable>)>>,
}

impl Shell {
    fn new(name: &str, parameters: Vec<String>) -> Shell {
        let mut variables = BTreeMap::new();
        for (name, value) in std::env::vars_os() {
            let (Ok(name), Ok(value)) = (name.into_string(), value.into_string()) else { continue };
            if parser::is_name(&name) {
                let variable = Variable { value: Some(value), exported: true, read_only: false };
                variables.insert(name, variable);
            }
        }
        let mut shell = Shell {
            name: name.to_owned(),
            parameters,
            variables,
            functions: HashMap::new(),
            options: Options::default(),
            status: 0,
            substituted: None,
            pid: nix::unistd::getpid().as_raw(),
            last_background: None,
            jobs: Vec::new(),
            ended: BTreeMap::new(),
            signals: signals::Signals::default(),
            interactive: false,
            loops: 0,
            calls: 0,
            conditions: 0,
            in_trap: false,
            hidden: Vec::new(),
        };
        for (name, value) in [("IFS", " \t\n"), ("OPTIND", "1")] {
            let value = Some(value.to_owned());
            shell.variables.insert(name.to_owned(), Variable { value, ..Variable::default() });
        }
        let default = |shell: &mut Shell, name: &str, value: String| {
            let variable = shell.variables.entry(name.to_owned()).or_default();
            variable.value.get_or_insert(value);
        };
        default(&mut shell, "PATH", exec::DEFAULT_PATH.to_owned());
        default(&mut shell, "PS1", run::prompt());
        default(&mut shell, "PS2", "> ".to_owned());
        default(&mut shell, "PS4", "+ ".to_owned());
        default(&mut shell, "PPID", nix::unistd::getppid().to_string());
        if let Ok(folder) = std::env::current_dir() {
            let variable = shell.variables.entry("PWD".to_owned()).or_default();
            variable.value = Some(folder.to_string_lossy().into_owned());
            variable.exported = true;
        }
        shell
    }

    /// A named variable.
    fn get(&self, name: &str) -> Option<String> {
        self.variables.get(name).and_then(|variable| variable.value.clone())
    }

    /// A parameter: a variable, a position, or a special one.
    fn value(&self, name: &str) -> Option<String> {
        match name {
            "@" | "*" => (!self.parameters.is_empty()).then(|| self.parameters.join(" ")),
            "#" => Some(self.parameters.len().to_string()),
            "?" => Some(self.status.to_string()),
            "$" => Some(self.pid.to_string()),
            "!" => self.last_background.map(|pid| pid.to_string()),
            "-" => {
                let interactive = if self.interactive { "i" } else { "" };
                Some(self.options.letters() + interactive)
            }
            "0" => Some(self.name.clone()),
            _ if name.starts_with(|c: char| c.is_ascii_digit()) => {
                let position = name.parse::<usize>().ok()?.checked_sub(1)?;
                self.parameters.get(position).cloned()
            }
            _ => self.get(name),
        }
    }

    fn set(&mut self, name: &str, value: String) -> Result<(), Flow> {
        if !parser::is_name(name) {
            return Err(Flow::Fail(format!("{name}: bad variable name")));
        }
        let export = self.options.allexport;
        let variable = self.variables.entry(name.to_owned()).or_default();
        if variable.read_only {
            return Err(Flow::Fail(format!("{name}: is read only")));
        }
        variable.value = Some(value);
        variable.exported |= export;
        Ok(())
    }

    /// Tells what is wrong, as this shell.
    fn complain(&self, message: &str) {
        eprintln!("{}: {message}", self.name);
    }
}
