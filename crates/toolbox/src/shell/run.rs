//! Carrying out commands.
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use sys::process::{Fork, OnSignal, on_signal};

use super::parse::{Command, Item, Kind, List, Pipeline, Redirection, Target};
use super::{Jump, MAX_DEPTH, Shell, builtin, pattern};

type Done = Result<(), Jump>;

/// Output of a substitution that is kept.
const MAX_OUTPUT: u64 = 64 << 20;

/// The standard streams as they were before a redirection.
struct Saved(Vec<(u8, OwnedFd)>);

impl Saved {
    fn restore(self) {
        let _ = io::stdout().flush();
        for (fd, old) in self.0.into_iter().rev() {
            let _ = sys::process::redirect(&old, i32::from(fd));
        }
    }
}

impl Shell {
    pub(super) fn list(&mut self, list: &List) -> Done {
        for item in list {
            self.run_traps()?;
            if item.background {
                self.background(item)?;
            } else {
                self.chain(item)?;
            }
        }
        Ok(())
    }

    fn background(&mut self, item: &Item) -> Done {
        match self.fork()? {
            Fork::Parent(pid) => {
                self.background = Some(pid);
                self.children.push(pid);
                self.status = 0;
                Ok(())
            }
            Fork::Child => {
                let [(_, only)] = &item.chain[..] else {
                    let done = self.chain(item);
                    self.end(done)
                };
                self.last = !only.negated && only.commands.len() == 1;
                let done = self.chain(item);
                self.end(done)
            }
        }
    }

    fn chain(&mut self, item: &Item) -> Done {
        for (index, (joint, pipeline)) in item.chain.iter().enumerate() {
            if joint.is_some_and(|and| and != (self.status == 0)) {
                continue;
            }
            let last = index + 1 == item.chain.len();
            let checked = usize::from(!last || pipeline.negated);
            self.checked += checked;
            let done = self.pipeline(pipeline);
            self.checked -= checked;
            done?;
            if pipeline.negated {
                self.status = i32::from(self.status == 0);
            } else if self.status != 0 && last && self.errexit && self.checked == 0 {
                return Err(Jump::Exit(self.status));
            }
        }
        Ok(())
    }

    fn pipeline(&mut self, pipeline: &Pipeline) -> Done {
        if let [only] = &pipeline.commands[..] {
            return self.command(only);
        }
        let mut pids = Vec::new();
        let mut input: Option<OwnedFd> = None;
        for (index, command) in pipeline.commands.iter().enumerate() {
            let last = index + 1 == pipeline.commands.len();
            let pipe = if last { None } else { Some(self.pipe()?) };
            match self.fork()? {
                Fork::Parent(pid) => pids.push(pid),
                Fork::Child => {
                    if let Some(input) = &input {
                        let _ = sys::process::redirect(input, 0);
                    }
                    if let Some((reader, writer)) = pipe {
                        drop(reader);
                        let _ = sys::process::redirect(&writer, 1);
                    }
                    drop(input);
                    self.last = true;
                    let done = self.command(command);
                    self.end(done)
                }
            }
            input = pipe.map(|(reader, _)| reader);
        }
        drop(input);
        let mut failed = 0;
        for pid in pids {
            self.status = self.wait_for(pid);
            if self.status != 0 {
                failed = self.status;
            }
        }
        if self.pipefail && self.status == 0 {
            self.status = failed;
        }
        Ok(())
    }

    fn pipe(&mut self) -> Result<(OwnedFd, OwnedFd), Jump> {
        nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|e| {
            eprintln!("sh: pipe: {}", e.desc());
            Jump::Exit(2)
        })
    }

    /// Forks; the child has the traps of none.
    fn fork(&mut self) -> Result<Fork, Jump> {
        let _ = io::stdout().flush();
        let forked = sys::process::fork().map_err(|e| {
            eprintln!("sh: fork: {}", sys::reason(&e));
            Jump::Exit(254)
        })?;
        if forked == Fork::Child {
            let noted: Vec<i32> = self.traps.keys().copied().filter(|s| *s > 0).collect();
            for signal in noted.into_iter().chain(self.interactive.then_some(nix::libc::SIGINT)) {
                // An ignored signal stays ignored.
                if self.traps.get(&signal).is_none_or(|t| !t.is_empty()) {
                    let _ = on_signal(signal, OnSignal::Default);
                }
            }
            self.last = false;
            self.traps.clear();
            self.children.clear();
            self.interactive = false;
        }
        Ok(forked)
    }

    /// The end of a forked child.
    fn end(&mut self, done: Done) -> ! {
        let code = self.leave(done);
        sys::process::exit_now(code)
    }

    /// Waits for a child, traps permitting; its code.
    pub(super) fn wait_for(&mut self, pid: i32) -> i32 {
        loop {
            match waitpid(Pid::from_raw(pid), None) {
                Ok(WaitStatus::Exited(_, code)) => return code,
                Ok(WaitStatus::Signaled(_, signal, _)) => return 128 + signal as i32,
                // Traps run when the command is done.
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => return 127,
            }
        }
    }

    /// What a command writes.
    pub(super) fn substitute(&mut self, text: &str) -> Result<String, Jump> {
        let (reader, writer) = self.pipe()?;
        match self.fork()? {
            Fork::Child => {
                drop(reader);
                let _ = sys::process::redirect(&writer, 1);
                drop(writer);
                let done = self.run_text(text);
                self.end(done)
            }
            Fork::Parent(pid) => {
                drop(writer);
                let mut output = Vec::new();
                let mut file = File::from(reader).take(MAX_OUTPUT);
                let _ = file.read_to_end(&mut output);
                drop(file);
                self.status = self.wait_for(pid);
                self.substituted = true;
                Ok(String::from_utf8_lossy(&output).into_owned())
            }
        }
    }

    fn command(&mut self, command: &Command) -> Done {
        if let Kind::Simple { assignments, words } = &command.kind {
            self.substituted = false;
            let mut arguments = self.fields(words)?;
            if arguments.is_empty() {
                let mut values = Vec::new();
                for (name, word) in assignments {
                    values.push((name.clone(), self.text(word)?));
                }
                values.into_iter().for_each(|(name, value)| self.set(&name, value));
                // `x=$(false)` fails, `x=1` does not.
                if !self.substituted {
                    self.status = 0;
                }
                return self.redirected(&command.redirections, |_| Ok(()));
            }
            let mut set = Vec::new();
            for (name, word) in assignments {
                set.push((name.clone(), self.text(word)?));
            }
            if self.xtrace {
                eprintln!("+ {}", arguments.join(" "));
            }
            let name = arguments.remove(0);
            return self.simple(&name, &arguments, set, &command.redirections);
        }
        self.last = false;
        self.redirected(&command.redirections, |shell| shell.compound(&command.kind))
    }

    fn compound(&mut self, kind: &Kind) -> Done {
        match kind {
            Kind::Simple { .. } => Ok(()),
            Kind::Group(list) => self.list(list),
            Kind::Subshell(list) => match self.fork()? {
                Fork::Parent(pid) => {
                    self.status = self.wait_for(pid);
                    Ok(())
                }
                Fork::Child => {
                    let done = self.list(list);
                    self.end(done)
                }
            },
            Kind::If { arms, otherwise } => {
                for (condition, body) in arms {
                    if self.holds(condition)? {
                        return self.list(body);
                    }
                }
                self.status = 0;
                self.list(otherwise)
            }
            Kind::Loop { until, condition, body } => {
                let mut status = 0;
                while self.holds(condition)? != *until {
                    if !self.turn(body)? {
                        status = self.status;
                        break;
                    }
                    status = self.status;
                }
                self.status = status;
                Ok(())
            }
            Kind::For { name, words, body } => {
                let values = match words {
                    Some(words) => self.fields(words)?,
                    None => self.arguments.clone(),
                };
                self.status = 0;
                for value in values {
                    self.set(name, value);
                    if !self.turn(body)? {
                        break;
                    }
                }
                Ok(())
            }
            Kind::Case { word, arms } => {
                let text: Vec<char> = self.text(word)?.chars().collect();
                self.status = 0;
                for (patterns, body) in arms {
                    for one in patterns {
                        if pattern::matches(&self.pattern(one)?, &text) {
                            return self.list(body);
                        }
                    }
                }
                Ok(())
            }
            Kind::Function { name, body } => {
                self.functions.insert(name.clone(), body.clone());
                self.status = 0;
                Ok(())
            }
        }
    }

    fn holds(&mut self, condition: &List) -> Result<bool, Jump> {
        self.checked += 1;
        let done = self.list(condition);
        self.checked -= 1;
        done.map(|()| self.status == 0)
    }

    /// One turn of a loop; whether there is to be another.
    fn turn(&mut self, body: &List) -> Result<bool, Jump> {
        match self.list(body) {
            Ok(()) | Err(Jump::Continue(1)) => Ok(true),
            Err(Jump::Break(1)) => Ok(false),
            Err(Jump::Break(n)) => Err(Jump::Break(n - 1)),
            Err(Jump::Continue(n)) => Err(Jump::Continue(n - 1)),
            Err(other) => Err(other),
        }
    }

    /// Does something with standard streams changed.
    fn redirected(
        &mut self,
        redirections: &[Redirection],
        work: impl FnOnce(&mut Shell) -> Done,
    ) -> Done {
        if redirections.is_empty() {
            return work(self);
        }
        match self.redirect(redirections)? {
            Ok(saved) => {
                let done = work(self);
                saved.restore();
                done
            }
            Err(message) => {
                eprintln!("sh: {message}");
                self.status = 1;
                Ok(())
            }
        }
    }

    fn redirect(&mut self, redirections: &[Redirection]) -> Result<Result<Saved, String>, Jump> {
        let _ = io::stdout().flush();
        let mut saved = Saved(Vec::new());
        for redirection in redirections {
            match self.redirect_one(redirection, &mut saved)? {
                Ok(()) => {}
                Err(message) => {
                    saved.restore();
                    return Ok(Err(message));
                }
            }
        }
        Ok(Ok(saved))
    }

    fn redirect_one(
        &mut self,
        redirection: &Redirection,
        saved: &mut Saved,
    ) -> Result<Result<(), String>, Jump> {
        let (word, mut options) = match &redirection.target {
            Target::Read(word) => (word, File::options().read(true).to_owned()),
            Target::Write(word) | Target::Both(word) => {
                (word, File::options().write(true).create(true).truncate(true).to_owned())
            }
            Target::Append(word) => (word, File::options().append(true).create(true).to_owned()),
            Target::Copy(word) | Target::Text(word) => (word, File::options()),
        };
        let text = self.text(word)?;
        let opened: io::Result<OwnedFd> = match &redirection.target {
            Target::Copy(_) => match text.as_str() {
                "0" => copy(0),
                "1" => copy(1),
                "2" => copy(2),
                "-" => File::options().read(true).write(true).open("/dev/null").map(Into::into),
                _ => return Ok(Err(format!("{text}: bad file descriptor"))),
            },
            Target::Text(_) => document(&text),
            _ => {
                options.mode_of_files();
                options.open(&text).map(Into::into)
            }
        };
        let opened = match opened {
            Ok(opened) => opened,
            Err(e) => return Ok(Err(format!("{text}: {}", sys::reason(&e)))),
        };
        let both = matches!(redirection.target, Target::Both(_));
        let fds: &[u8] = if both { &[1, 2] } else { &[redirection.fd] };
        for fd in fds {
            let changed = copy(*fd).and_then(|old| {
                sys::process::redirect(&opened, i32::from(*fd))?;
                saved.0.push((*fd, old));
                Ok(())
            });
            if let Err(e) = changed {
                return Ok(Err(format!("{text}: {}", sys::reason(&e))));
            }
        }
        Ok(Ok(()))
    }

    fn simple(
        &mut self,
        name: &str,
        arguments: &[String],
        set: Vec<(String, String)>,
        redirections: &[Redirection],
    ) -> Done {
        let last = std::mem::take(&mut self.last);
        if name == "exec" {
            let saved = match self.redirect(redirections)? {
                Ok(saved) => saved,
                Err(message) => return self.complain(&message),
            };
            if let Some((name, rest)) = arguments.split_first() {
                set.into_iter().for_each(|(name, value)| self.export(&name, value));
                let code = self.execute(name, rest);
                return Err(Jump::Exit(code));
            }
            // What was redirected stays so.
            drop(saved);
            return Ok(());
        }
        if let Some(body) = self.functions.get(name).cloned() {
            return self.redirected(redirections, |shell| shell.call(name, arguments, set, &body));
        }
        if builtin::is(name) {
            return self.redirected(redirections, |shell| {
                let special = builtin::keeps_assignments(name);
                let old: Vec<_> =
                    set.iter().map(|(n, _)| (n.clone(), shell.variables.get(n).cloned())).collect();
                set.into_iter().for_each(|(name, value)| shell.set(&name, value));
                let done = shell.builtin(name, arguments);
                let _ = io::stdout().flush();
                for (name, variable) in old.into_iter().filter(|_| !special) {
                    match variable {
                        Some(variable) => drop(shell.variables.insert(name, variable)),
                        None => drop(shell.variables.remove(&name)),
                    }
                }
                done
            });
        }
        let forked = if last { Fork::Child } else { self.fork()? };
        match forked {
            Fork::Parent(pid) => {
                self.status = self.wait_for(pid);
                if self.interactive {
                    // It was meant for the program.
                    while sys::process::caught_signal().is_some() {}
                }
                Ok(())
            }
            Fork::Child => {
                set.into_iter().for_each(|(name, value)| self.export(&name, value));
                let code = match self.redirect(redirections) {
                    Ok(Ok(_saved)) => self.execute(name, arguments),
                    Ok(Err(message)) => {
                        eprintln!("sh: {message}");
                        1
                    }
                    Err(_) => 1,
                };
                let _ = io::stdout().flush();
                sys::process::exit_now(code)
            }
        }
    }

    fn export(&mut self, name: &str, value: String) {
        let variable = super::Variable { value, exported: true };
        self.variables.insert(name.to_owned(), variable);
    }

    fn call(
        &mut self,
        name: &str,
        arguments: &[String],
        set: Vec<(String, String)>,
        body: &List,
    ) -> Done {
        if self.depth >= MAX_DEPTH {
            return self.complain(&format!("{name}: nested too deeply"));
        }
        set.into_iter().for_each(|(name, value)| self.set(&name, value));
        let outer = std::mem::replace(&mut self.arguments, arguments.to_vec());
        self.depth += 1;
        let done = self.list(body);
        self.depth -= 1;
        self.arguments = outer;
        match done {
            Err(Jump::Return(code)) => {
                self.status = code;
                Ok(())
            }
            other => other,
        }
    }

    /// Becomes a program; returns only the code of a failure.
    fn execute(&mut self, name: &str, arguments: &[String]) -> i32 {
        let path = match self.find(name) {
            Some(path) => path,
            // This very program knows it, wherever it lies.
            None if !name.contains('/') && crate::is_tool(name) => "/proc/self/exe".into(),
            None => {
                let what = if name.contains('/') { "not found" } else { "command not found" };
                eprintln!("sh: {name}: {what}");
                return 127;
            }
        };
        let c = |text: &str| CString::new(text).unwrap_or_default();
        let args = std::iter::once(c(name)).chain(arguments.iter().map(|a| c(a)));
        let env = self.variables.iter().filter(|(_, v)| v.exported);
        let env: Vec<CString> = env.map(|(n, v)| c(&format!("{n}={}", v.value))).collect();
        let args: Vec<CString> = args.collect();
        let error = sys::process::exec(&c(&path.to_string_lossy()), &args, &env);
        eprintln!("sh: {name}: {}", sys::reason(&error));
        126
    }

    /// The file of a program.
    pub(super) fn find(&self, name: &str) -> Option<PathBuf> {
        use std::os::unix::fs::PermissionsExt;
        if name.contains('/') {
            return Path::new(name).exists().then(|| PathBuf::from(name));
        }
        let path = self.get("PATH").unwrap_or("/usr/local/bin:/usr/bin:/bin");
        path.split(':').filter(|d| !d.is_empty()).map(|d| Path::new(d).join(name)).find(|p| {
            p.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
        })
    }
}

fn copy(fd: u8) -> io::Result<OwnedFd> {
    match fd {
        0 => io::stdin().as_fd().try_clone_to_owned(),
        1 => io::stdout().as_fd().try_clone_to_owned(),
        _ => io::stderr().as_fd().try_clone_to_owned(),
    }
}

/// A file without a name that holds the text.
fn document(text: &str) -> io::Result<OwnedFd> {
    use nix::sys::memfd::{MFdFlags, memfd_create};
    use std::io::Seek;
    let mut file = File::from(memfd_create(c"here", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(text.as_bytes())?;
    file.rewind()?;
    Ok(file.into())
}

trait FileMode {
    fn mode_of_files(&mut self);
}

impl FileMode for std::fs::OpenOptions {
    fn mode_of_files(&mut self) {
        use std::os::unix::fs::OpenOptionsExt;
        self.mode(0o666);
    }
}
