//! Running commands.
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::rc::Rc;

use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, pipe2};
use sys::process::{Fork, OnSignal, exit_now, fork, on_signal};

use super::ast::{AndOr, Command, List, Pipeline, Simple};
use super::builtins::{self, Builtin};
use super::redirect::{Failure, Saved, put};
use super::{Flow, Shell, Variable};
use crate::common::reason;

pub(super) const DEFAULT_PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Functions, sourced files and `eval` may be nested this deep.
const CALLS_MAX: usize = 256;
/// Ends of background processes that nobody asked for yet.
const ENDED_MAX: usize = 1024;

impl Shell {
    /// `last`: nothing comes after, so that a program may take the shell's place.
    pub(super) fn run_list(&mut self, list: &List, last: bool) -> Result<i32, Flow> {
        for (i, and_or) in list.iter().enumerate() {
            let last = last && i + 1 == list.len();
            if and_or.background {
                self.background(and_or)?;
            } else {
                self.run_and_or(and_or, last)?;
            }
            self.between()?;
        }
        Ok(self.status)
    }

    /// What is due between two commands: traps, ends of background processes.
    fn between(&mut self) -> Result<(), Flow> {
        if !self.jobs.is_empty() {
            self.reap();
        }
        self.run_traps()
    }

    fn run_and_or(&mut self, and_or: &AndOr, last: bool) -> Result<(), Flow> {
        let alone = and_or.rest.is_empty();
        self.step(&and_or.first, alone, last && alone)?;
        for (i, (on_success, pipeline)) in and_or.rest.iter().enumerate() {
            if (self.status == 0) == *on_success {
                let end = i + 1 == and_or.rest.len();
                self.step(pipeline, end, last && end)?;
            }
        }
        Ok(())
    }

    /// `checked`: whether `set -e` looks at this pipeline's status.
    fn step(&mut self, pipeline: &Pipeline, checked: bool, last: bool) -> Result<(), Flow> {
        let guard = !checked || pipeline.negated;
        self.conditions += usize::from(guard);
        let result = self.run_pipeline(pipeline, last && !guard);
        self.conditions -= usize::from(guard);
        let status = result?;
        self.status = if pipeline.negated { i32::from(status == 0) } else { status };
        let exempt = guard || self.conditions > 0;
        if self.status != 0 && self.options.errexit && !exempt {
            return Err(Flow::Exit(self.status));
        }
        Ok(())
    }

    fn run_pipeline(&mut self, pipeline: &Pipeline, last: bool) -> Result<i32, Flow> {
        if let [command] = pipeline.commands.as_slice() {
            return self.run_command(command, last);
        }
        let fault = |e: io::Error| Flow::Fail(format!("cannot make a pipeline: {}", reason(&e)));
        let mut children = Vec::new();
        let mut input: Option<OwnedFd> = None;
        for (i, command) in pipeline.commands.iter().enumerate() {
            let more = i + 1 < pipeline.commands.len();
            let (next, output) = match more {
                true => {
                    let (read, write) = pipe2(OFlag::O_CLOEXEC).map_err(|e| fault(e.into()))?;
                    (Some(read), Some(write))
                }
                false => (None, None),
            };
            match fork().map_err(fault)? {
                Fork::Parent(pid) => children.push(pid),
                Fork::Child => {
                    drop(next);
                    let wired = input.map_or(Ok(()), |fd| put(fd, 0));
                    let wired = wired.and(output.map_or(Ok(()), |fd| put(fd, 1)));
                    if wired.is_err() {
                        exit_now(126);
                    }
                    self.end_child(|shell| shell.run_command(command, true));
                }
            }
            input = next;
        }
        drop(input);
        let mut status = 0;
        let mut failed = 0;
        for pid in children {
            status = self.wait_for(pid)?;
            failed = if status == 0 { failed } else { status };
        }
        Ok(if self.options.pipefail { failed } else { status })
    }

    /// The rest of a forked child's life.
    pub(super) fn end_child(&mut self, work: impl FnOnce(&mut Shell) -> Result<i32, Flow>) -> ! {
        self.signals.forget();
        self.interactive = false;
        self.jobs.clear();
        self.ended.clear();
        self.loops = 0;
        let result = work(self);
        let code = self.finish(result);
        exit_now(code)
    }

    /// Runs the trap on the end and says with which code to end.
    pub(super) fn finish(&mut self, result: Result<i32, Flow>) -> i32 {
        let code = self.code_of(result);
        let Some(action) = self.signals.traps.remove(&0).filter(|a| !a.is_empty()) else {
            return code & 0xff;
        };
        self.status = code;
        let code = match self.run_text(&action, false) {
            Err(Flow::Exit(code)) => code,
            Err(flow) => self.code_of(Err(flow)),
            Ok(_) => code,
        };
        code & 0xff
    }

    fn code_of(&self, result: Result<i32, Flow>) -> i32 {
        match result {
            Ok(code) | Err(Flow::Exit(code) | Flow::Return(code)) => code,
            Err(Flow::Break(_) | Flow::Continue(_)) => self.status,
            Err(Flow::Interrupted) => 130,
            Err(Flow::Fail(message)) => {
                self.complain(&message);
                2
            }
        }
    }

    fn background(&mut self, and_or: &AndOr) -> Result<(), Flow> {
        let fault = |e: io::Error| Flow::Fail(format!("cannot fork: {}", reason(&e)));
        let interactive = self.interactive;
        match fork().map_err(fault)? {
            Fork::Parent(pid) => {
                self.last_background = Some(pid);
                self.jobs.push(pid);
                self.status = 0;
                Ok(())
            }
            Fork::Child => {
                // It neither takes the shell's input nor ends by the keyboard.
                if let Ok(null) = File::open("/dev/null") {
                    let _ = put(null.into(), 0);
                }
                for signal in [Signal::SIGINT, Signal::SIGQUIT] {
                    let _ = on_signal(signal as i32, OnSignal::Ignore);
                }
                if interactive {
                    let _ = nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0));
                }
                self.end_child(|shell| {
                    shell.run_and_or(and_or, true)?;
                    Ok(shell.status)
                })
            }
        }
    }

    pub(super) fn run_command(&mut self, command: &Command, last: bool) -> Result<i32, Flow> {
        match command {
            Command::Simple(simple) => self.run_simple(simple, last),
            Command::Function(name, body) => {
                self.functions.insert(name.clone(), Rc::clone(body));
                Ok(0)
            }
            Command::Compound(compound, redirections) => {
                let mut saved = Saved::default();
                let result = match self.redirect(redirections, &mut saved) {
                    Ok(()) => self.run_compound(compound, last && redirections.is_empty()),
                    Err(failure) => self.not_redirected(failure),
                };
                saved.restore();
                result
            }
        }
    }

    fn not_redirected(&self, failure: Failure) -> Result<i32, Flow> {
        match failure {
            Failure::Flow(flow) => Err(flow),
            Failure::Message(message) => {
                self.complain(&message);
                Ok(1)
            }
        }
    }

    /// Runs a copy of the shell and waits for it.
    pub(super) fn subshell(&mut self, list: &List) -> Result<i32, Flow> {
        match fork().map_err(|e| Flow::Fail(format!("cannot fork: {}", reason(&e))))? {
            Fork::Parent(pid) => self.wait_for(pid),
            Fork::Child => self.end_child(|shell| shell.run_list(list, true)),
        }
    }

    /// What the commands write, without the newlines at its end.
    pub(super) fn capture(&mut self, list: &List) -> Result<String, Flow> {
        let fault = |e: io::Error| Flow::Fail(format!("cannot fork: {}", reason(&e)));
        let (read, write) = pipe2(OFlag::O_CLOEXEC).map_err(|e| fault(e.into()))?;
        let pid = match fork().map_err(fault)? {
            Fork::Parent(pid) => pid,
            Fork::Child => {
                drop(read);
                if put(write, 1).is_err() {
                    exit_now(126);
                }
                self.end_child(|shell| shell.run_list(list, true));
            }
        };
        drop(write);
        let mut bytes = Vec::new();
        File::from(read).read_to_end(&mut bytes).map_err(fault)?;
        let status = self.wait_for(pid)?;
        self.substituted = Some(status);
        self.status = status;
        let mut text = String::from_utf8_lossy(&bytes).replace('\0', "");
        text.truncate(text.trim_end_matches('\n').len());
        Ok(text)
    }

    fn run_simple(&mut self, simple: &Simple, last: bool) -> Result<i32, Flow> {
        self.substituted = None;
        let args = self.fields(&simple.words)?;
        if args.is_empty() {
            return self.assign_only(simple);
        }
        let function = self.functions.get(&args[0]).cloned();
        let builtin = builtins::find(&args[0]);
        if function.is_none() && builtin.is_none() {
            return self.run_program(simple, &args, last);
        }
        let mut assignments = Vec::new();
        for (name, word) in &simple.assignments {
            assignments.push((name.clone(), self.text(word)?));
        }
        self.trace(&assignments, &args);
        let mut saved = Saved::default();
        let result = match self.redirect(&simple.redirections, &mut saved) {
            Err(failure) => self.not_redirected(failure),
            Ok(()) => {
                let special = builtin.is_some_and(|b| b.special) && function.is_none();
                let before = self.assign(assignments, special)?;
                let result = match (function, builtin) {
                    (Some(function), _) => self.call(&function, &args),
                    (None, Some(builtin)) => self.run_builtin(builtin, &args),
                    (None, None) => Ok(127),
                };
                for (name, variable) in before {
                    self.put_back(name, variable);
                }
                result
            }
        };
        // `exec` without a command redirects for good.
        if args[0] != "exec" || args.len() > 1 {
            saved.restore();
        }
        result
    }

    fn run_builtin(&mut self, builtin: &Builtin, args: &[String]) -> Result<i32, Flow> {
        (builtin.run)(self, args)
    }

    fn assign_only(&mut self, simple: &Simple) -> Result<i32, Flow> {
        let mut traced = Vec::new();
        for (name, word) in &simple.assignments {
            let value = self.text(word)?;
            traced.push((name.clone(), value.clone()));
            self.set(name, value)?;
        }
        self.trace(&traced, &[]);
        let mut saved = Saved::default();
        let result = match self.redirect(&simple.redirections, &mut saved) {
            Ok(()) => Ok(self.substituted.take().unwrap_or(0)),
            Err(failure) => self.not_redirected(failure),
        };
        saved.restore();
        result
    }

    /// Assigns before a command; returns what to put back after it.
    fn assign(
        &mut self,
        assignments: Vec<(String, String)>,
        keep: bool,
    ) -> Result<Vec<(String, Option<Variable>)>, Flow> {
        let mut before = Vec::new();
        for (name, value) in assignments {
            let old = self.variables.get(&name).cloned();
            self.set(&name, value)?;
            if !keep {
                if let Some(variable) = self.variables.get_mut(&name) {
                    variable.exported = true;
                }
                before.push((name, old));
            }
        }
        Ok(before)
    }

    pub(super) fn put_back(&mut self, name: String, variable: Option<Variable>) {
        match variable {
            Some(variable) => drop(self.variables.insert(name, variable)),
            None => drop(self.variables.remove(&name)),
        }
    }

    fn trace(&mut self, assignments: &[(String, String)], args: &[String]) {
        if self.options.xtrace {
            let assigned = assignments.iter().map(|(name, value)| format!("{name}={value}"));
            let words: Vec<String> = assigned.chain(args.iter().cloned()).collect();
            eprintln!("{}{}", self.get("PS4").unwrap_or_default(), words.join(" "));
        }
    }

    /// Calls a function with its own positions.
    fn call(&mut self, body: &Rc<Command>, args: &[String]) -> Result<i32, Flow> {
        let before = std::mem::replace(&mut self.parameters, args[1..].to_vec());
        let loops = std::mem::take(&mut self.loops);
        self.hidden.push(Vec::new());
        let result = self.nested(|shell| shell.run_command(body, false));
        for (name, variable) in self.hidden.pop().unwrap_or_default().into_iter().rev() {
            self.put_back(name, variable);
        }
        self.loops = loops;
        self.parameters = before;
        match result {
            Err(Flow::Return(code)) => Ok(code),
            other => other,
        }
    }

    /// One level of functions, sourced files or `eval` deeper.
    pub(super) fn nested(
        &mut self,
        work: impl FnOnce(&mut Shell) -> Result<i32, Flow>,
    ) -> Result<i32, Flow> {
        if self.calls >= CALLS_MAX {
            return Err(Flow::Fail(format!("more than {CALLS_MAX} calls deep")));
        }
        self.calls += 1;
        let result = work(self);
        self.calls -= 1;
        result
    }

    fn run_program(&mut self, simple: &Simple, args: &[String], last: bool) -> Result<i32, Flow> {
        let mut assignments = Vec::new();
        for (name, word) in &simple.assignments {
            assignments.push((name.clone(), self.text(word)?));
        }
        self.trace(&assignments, args);
        if last && self.may_be_replaced() {
            return Err(Flow::Exit(self.become_program(simple, assignments, args)));
        }
        match fork().map_err(|e| Flow::Fail(format!("cannot fork: {}", reason(&e))))? {
            Fork::Parent(pid) => self.wait_for(pid),
            Fork::Child => {
                self.signals.unblock();
                let code = self.become_program(simple, assignments, args);
                exit_now(code)
            }
        }
    }

    /// Whether nothing is left to do for the shell after its last command.
    fn may_be_replaced(&self) -> bool {
        !self.interactive && !self.signals.watching() && !self.signals.traps.contains_key(&0)
    }

    /// Redirects, assigns and executes; returns the exit code when that failed.
    fn become_program(
        &mut self,
        simple: &Simple,
        assignments: Vec<(String, String)>,
        args: &[String],
    ) -> i32 {
        let mut saved = Saved::default();
        if let Err(failure) = self.redirect(&simple.redirections, &mut saved) {
            let result = self.not_redirected(failure);
            return self.code_of(result);
        }
        match self.assign(assignments, false) {
            Ok(_) => self.execute(args),
            Err(flow) => self.code_of(Err(flow)),
        }
    }

    /// Becomes the program `args[0]`; returns the exit code when that failed.
    pub(super) fn execute(&self, args: &[String]) -> i32 {
        self.signals.unblock();
        let c = |text: &str| CString::new(text).map_err(|_| io::ErrorKind::InvalidInput.into());
        let exported = self.variables.iter().filter(|(_, variable)| variable.exported);
        let env: Vec<CString> = exported
            .filter_map(|(name, v)| c(&format!("{name}={}", v.value.as_ref()?)).ok())
            .collect();
        let argv: Result<Vec<CString>, io::Error> = args.iter().map(|arg| c(arg)).collect();
        let path = self.find_program(&args[0]);
        let error = match (path, argv) {
            (Ok(path), Ok(argv)) => match c(&path) {
                Ok(program) => {
                    let error = sys::process::exec(&program, &argv, &env);
                    if error.raw_os_error() == Some(nix::libc::ENOEXEC) {
                        let script = [vec![c"sh".to_owned(), program], argv[1..].to_vec()].concat();
                        sys::process::exec(&c"/proc/self/exe".to_owned(), &script, &env)
                    } else {
                        error
                    }
                }
                Err(error) => error,
            },
            (Err(error), _) | (_, Err(error)) => error,
        };
        let missing = error.kind() == io::ErrorKind::NotFound;
        let why = if missing { "not found".to_owned() } else { reason(&error) };
        self.complain(&format!("{}: {why}", args[0]));
        if missing { 127 } else { 126 }
    }

    /// Where a command is: as named, on `PATH`, or in this binary.
    pub(super) fn find_program(&self, name: &str) -> io::Result<String> {
        if name.contains('/') {
            return Ok(name.to_owned());
        }
        let mut trouble = io::ErrorKind::NotFound.into();
        let path = self.get("PATH").unwrap_or_default();
        for folder in path.split(':') {
            let folder = if folder.is_empty() { "." } else { folder };
            let candidate = format!("{}/{name}", folder.trim_end_matches('/'));
            match std::fs::metadata(&candidate) {
                Ok(meta) if meta.is_file() && meta.permissions().mode() & 0o111 != 0 => {
                    return Ok(candidate);
                }
                Ok(_) => trouble = io::Error::from_raw_os_error(nix::libc::EACCES),
                Err(_) => {}
            }
        }
        if crate::is_tool(name) {
            return Ok("/proc/self/exe".to_owned());
        }
        Err(trouble)
    }

    /// Waits for a child, running traps as their signals come.
    pub(super) fn wait_for(&mut self, pid: i32) -> Result<i32, Flow> {
        let id = Pid::from_raw(pid);
        let mut interrupted = false;
        loop {
            let flags = self.signals.watching().then_some(WaitPidFlag::WNOHANG);
            match waitpid(id, flags) {
                Ok(WaitStatus::Exited(_, code)) => {
                    return if interrupted { Err(Flow::Interrupted) } else { Ok(code) };
                }
                Ok(WaitStatus::Signaled(_, signal, _)) => {
                    return self.killed(signal, interrupted);
                }
                Ok(WaitStatus::StillAlive) => {
                    self.wait_signal()?;
                    interrupted |= self.take_signals()?;
                }
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(_) => return Ok(127),
            }
        }
    }

    fn killed(&mut self, signal: Signal, interrupted: bool) -> Result<i32, Flow> {
        let code = 128 + signal as i32;
        if signal == Signal::SIGINT {
            if self.interactive {
                eprintln!();
                let _ = self.take_signals()?;
            }
            let trapped = self.signals.traps.contains_key(&(signal as i32));
            if interrupted || self.interactive {
                return Err(Flow::Interrupted);
            }
            // The keyboard ended the program; the script it was part of ends with it.
            return if trapped { Ok(code) } else { Err(Flow::Exit(code)) };
        }
        if self.interactive && signal != Signal::SIGPIPE {
            eprintln!("{}", signal.as_str().trim_start_matches("SIG"));
        }
        Ok(code)
    }

    fn wait_signal(&self) -> Result<(), Flow> {
        self.signals.wait(None).map(drop).map_err(|e| Flow::Fail(reason(&e)))
    }

    /// Acts on the signals that came; true when an interactive shell was interrupted.
    pub(super) fn take_signals(&mut self) -> Result<bool, Flow> {
        let mut interrupted = false;
        while let Some(signal) = self.signals.next() {
            if self.signals.traps.contains_key(&signal) {
                self.trapped(signal)?;
            } else if signal == Signal::SIGINT as i32 {
                interrupted = true;
            }
        }
        Ok(interrupted)
    }

    fn run_traps(&mut self) -> Result<(), Flow> {
        if self.signals.watching() && self.take_signals()? {
            return Err(Flow::Interrupted);
        }
        Ok(())
    }

    /// Runs the trap of a signal that came.
    pub(super) fn trapped(&mut self, signal: i32) -> Result<(), Flow> {
        let action = self.signals.traps.get(&signal).cloned().unwrap_or_default();
        self.run_trap(&action)
    }

    fn run_trap(&mut self, action: &str) -> Result<(), Flow> {
        if self.in_trap || action.is_empty() {
            return Ok(());
        }
        self.in_trap = true;
        let status = self.status;
        let result = self.nested(|shell| shell.run_text(action, false));
        self.status = status;
        self.in_trap = false;
        result.map(drop)
    }

    /// Takes note of background processes that ended.
    pub(super) fn reap(&mut self) {
        let ended = &mut self.ended;
        self.jobs.retain(|pid| {
            let code = match waitpid(Pid::from_raw(*pid), Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(_, code)) => code,
                Ok(WaitStatus::Signaled(_, signal, _)) => 128 + signal as i32,
                Err(nix::errno::Errno::ECHILD) => 127,
                _ => return true,
            };
            ended.insert(*pid, code);
            false
        });
        while self.ended.len() > ENDED_MAX {
            self.ended.pop_first();
        }
    }
}
