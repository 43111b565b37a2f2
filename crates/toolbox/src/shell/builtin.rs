//! Commands that the shell does itself: those that change it, and the quick ones.
use std::io;

use nix::errno::Errno;
use sys::process::{OnSignal, on_signal};

use super::{Jump, Shell, Variable, parse};

type Done = Result<(), Jump>;

/// Change the shell.
const OWN: &[&str] = &[
    ".", ":", "break", "cd", "command", "continue", "eval", "exit", "export", "local", "read",
    "return", "set", "shift", "source", "trap", "type", "umask", "unset", "wait",
];
/// Tools that are quick and read nothing.
const QUICK: &[&str] = &["[", "echo", "false", "kill", "printf", "pwd", "test", "true"];

pub(super) fn is(name: &str) -> bool {
    OWN.contains(&name) || QUICK.contains(&name)
}

/// Assignments before these outlive them.
pub(super) fn keeps_assignments(name: &str) -> bool {
    [".", ":", "eval", "exit", "export", "return", "set", "shift", "trap", "unset"].contains(&name)
}

/// One line from standard input, read byte by byte so that nothing of what follows is taken.
///
/// # Errors
/// Interrupted by a signal.
pub(super) fn read_line() -> io::Result<Option<String>> {
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        match nix::unistd::read(io::stdin(), &mut byte) {
            Ok(0) if line.is_empty() => return Ok(None),
            Ok(0) => break,
            Ok(_) if byte[0] == b'\n' => break,
            Ok(_) => line.push(byte[0]),
            Err(Errno::EINTR) => return Err(Errno::EINTR.into()),
            Err(_) => return Ok(None),
        }
    }
    Ok(Some(String::from_utf8_lossy(&line).into_owned()))
}

impl Shell {
    pub(super) fn builtin(&mut self, name: &str, arguments: &[String]) -> Done {
        let first = arguments.first().map(String::as_str);
        let code = match name {
            ":" => Ok(0),
            "break" => return Err(Jump::Break(loops(first))),
            "continue" => return Err(Jump::Continue(loops(first))),
            "exit" => return Err(Jump::Exit(self.code(first))),
            "return" => return Err(Jump::Return(self.code(first))),
            "cd" => self.cd(first),
            "eval" => return self.run_text(&arguments.join(" ")),
            "." | "source" => return self.source(first),
            "export" => self.export_names(arguments),
            "local" => self.assign(arguments),
            "unset" => {
                for name in arguments {
                    self.variables.remove(name);
                    self.functions.remove(name);
                }
                Ok(0)
            }
            "read" => self.read(arguments),
            "set" => self.set_options(arguments),
            "shift" => {
                let count = first.and_then(|n| n.parse().ok()).unwrap_or(1);
                if count > self.arguments.len() {
                    Ok(1)
                } else {
                    self.arguments.drain(..count);
                    Ok(0)
                }
            }
            "trap" => self.trap(arguments),
            "umask" => umask(first),
            "wait" => return self.wait(arguments),
            "command" | "type" => return self.command_builtin(name, arguments),
            tool => {
                let tool = crate::find(tool).expect("quick ones are tools");
                Ok(crate::run(name, tool, arguments))
            }
        };
        self.status = code.unwrap_or_else(|message| {
            eprintln!("sh: {name}: {message}");
            1
        });
        Ok(())
    }

    fn code(&self, text: Option<&str>) -> i32 {
        text.map_or(self.status, |t| t.parse::<i32>().map_or(2, |code| code & 255))
    }

    fn cd(&mut self, to: Option<&str>) -> Result<i32, String> {
        let home = self.get("HOME").unwrap_or("/").to_owned();
        let to = match to {
            None => home,
            Some("-") => self.get("OLDPWD").unwrap_or("/").to_owned(),
            Some(to) => to.to_owned(),
        };
        let old = std::env::current_dir().unwrap_or_default();
        std::env::set_current_dir(&to).map_err(crate::at(&to))?;
        let new = std::env::current_dir().unwrap_or_default();
        self.set("OLDPWD", old.to_string_lossy().into_owned());
        self.set("PWD", new.to_string_lossy().into_owned());
        Ok(0)
    }

    fn source(&mut self, path: Option<&str>) -> Done {
        let Some(path) = path else { return self.complain(".: a file is missing") };
        match std::fs::read(path) {
            Ok(text) => match self.run_text(&String::from_utf8_lossy(&text)) {
                Err(Jump::Return(code)) => {
                    self.status = code;
                    Ok(())
                }
                other => other,
            },
            Err(e) => self.complain(&format!(".: {path}: {}", sys::reason(&e))),
        }
    }

    fn export_names(&mut self, arguments: &[String]) -> Result<i32, String> {
        if arguments.is_empty() || arguments == ["-p"] {
            for (name, variable) in self.variables.iter().filter(|(_, v)| v.exported) {
                println!("export {name}='{}'", variable.value.replace('\'', "'\\''"));
            }
            return Ok(0);
        }
        self.assign(arguments)?;
        for argument in arguments {
            let name = argument.split('=').next().unwrap_or_default();
            self.variables.entry(name.to_owned()).or_default().exported = true;
        }
        Ok(0)
    }

    fn assign(&mut self, arguments: &[String]) -> Result<i32, String> {
        for argument in arguments {
            let (name, value) = match argument.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (argument.as_str(), None),
            };
            if !parse::is_name(name) {
                return Err(format!("{name:?} is no name"));
            }
            if let Some(value) = value {
                self.set(name, value.to_owned());
            }
        }
        Ok(0)
    }

    fn read(&mut self, arguments: &[String]) -> Result<i32, String> {
        let options = crate::Options::parse(arguments, "rp:")?;
        if let Some(prompt) = options.value('p') {
            eprint!("{prompt}");
        }
        let line = match read_line() {
            Ok(Some(line)) => line,
            Ok(None) | Err(_) => return Ok(1),
        };
        let separators = self.get("IFS").unwrap_or(" \t\n").to_owned();
        let reply = vec!["REPLY".to_owned()];
        let names = if options.rest.is_empty() { &reply } else { &options.rest };
        let mut rest = line.trim_matches(|c| separators.contains(c));
        for (index, name) in names.iter().enumerate() {
            if !parse::is_name(name) {
                return Err(format!("{name:?} is no name"));
            }
            let end = rest.find(|c| separators.contains(c)).filter(|_| index + 1 < names.len());
            let (value, after) = rest.split_at(end.unwrap_or(rest.len()));
            self.set(name, value.to_owned());
            rest = after.trim_start_matches(|c| separators.contains(c));
        }
        Ok(0)
    }

    fn set_options(&mut self, arguments: &[String]) -> Result<i32, String> {
        if arguments.is_empty() {
            for (name, Variable { value, .. }) in &self.variables {
                println!("{name}='{}'", value.replace('\'', "'\\''"));
            }
            return Ok(0);
        }
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let on = argument.starts_with('-');
            match argument.as_str() {
                "--" => {
                    self.arguments = arguments.cloned().collect();
                    break;
                }
                "-o" | "+o" => match arguments.next().map(String::as_str) {
                    Some("pipefail") => self.pipefail = on,
                    Some("errexit") => self.errexit = on,
                    Some("nounset") => self.nounset = on,
                    Some("xtrace") => self.xtrace = on,
                    other => return Err(format!("unknown option {other:?}")),
                },
                flags if on || flags.starts_with('+') => {
                    for flag in flags[1..].chars() {
                        if flag == 'o' && arguments.clone().next().is_some_and(|o| o == "pipefail")
                        {
                            self.pipefail = on;
                            arguments.next();
                        } else {
                            self.option(flag, on)?;
                        }
                    }
                }
                word => {
                    self.arguments =
                        std::iter::once(word.to_owned()).chain(arguments.cloned()).collect();
                    break;
                }
            }
        }
        Ok(0)
    }

    fn trap(&mut self, arguments: &[String]) -> Result<i32, String> {
        let (action, signals) = match arguments {
            [] => {
                for (signal, text) in &self.traps {
                    println!("trap -- '{text}' {signal}");
                }
                return Ok(0);
            }
            [only] => ("-", std::slice::from_ref(only)),
            [action, signals @ ..] => (action.as_str(), signals),
        };
        for name in signals {
            let number = match name.as_str() {
                "EXIT" | "0" => 0,
                name => crate::processes::signal(name)?,
            };
            let (what, kept) = match action {
                "-" => (OnSignal::Default, None),
                "" => (OnSignal::Ignore, Some(String::new())),
                text => (OnSignal::Note, Some(text.to_owned())),
            };
            if number > 0 {
                on_signal(number, what).map_err(crate::at(name))?;
            }
            match kept {
                Some(text) => drop(self.traps.insert(number, text)),
                None => drop(self.traps.remove(&number)),
            }
        }
        Ok(0)
    }

    /// Waits for children; a trapped signal ends the wait.
    fn wait(&mut self, arguments: &[String]) -> Done {
        use nix::sys::wait::{WaitStatus, waitpid};
        let wanted: Vec<i32> = match arguments {
            [] => std::mem::take(&mut self.children),
            some => some.iter().filter_map(|a| a.parse().ok()).collect(),
        };
        let mut status = 0;
        for pid in wanted {
            loop {
                match waitpid(nix::unistd::Pid::from_raw(pid), None) {
                    Ok(WaitStatus::Exited(_, code)) => status = code,
                    Ok(WaitStatus::Signaled(_, signal, _)) => status = 128 + signal as i32,
                    Ok(_) => continue,
                    Err(Errno::EINTR) => {
                        self.status = 128 + nix::libc::SIGTERM;
                        return self.run_traps();
                    }
                    Err(_) => status = 127,
                }
                break;
            }
            self.children.retain(|c| *c != pid);
        }
        self.status = if arguments.is_empty() { 0 } else { status };
        Ok(())
    }

    fn command_builtin(&mut self, name: &str, arguments: &[String]) -> Done {
        let asks = name == "type" || arguments.first().is_some_and(|a| a == "-v");
        let names = if name == "type" { arguments } else { arguments.get(1..).unwrap_or(&[]) };
        if !asks {
            let Some((name, rest)) = arguments.split_first() else { return Ok(()) };
            let words = std::iter::once(name).chain(rest);
            let quoted: Vec<String> =
                words.map(|w| format!("'{}'", w.replace('\'', "'\\''"))).collect();
            // As if there were no function of this name.
            let function = self.functions.remove(name);
            let done = self.run_text(&quoted.join(" "));
            if let Some(function) = function {
                self.functions.insert(name.clone(), function);
            }
            return done;
        }
        self.status = 0;
        for name in names {
            if is(name) || self.functions.contains_key(name) {
                println!("{name}");
            } else if let Some(path) = self.find(name) {
                println!("{}", path.display());
            } else if crate::is_tool(name) {
                println!("{name}");
            } else {
                self.status = 127;
            }
        }
        Ok(())
    }
}

fn loops(text: Option<&str>) -> u32 {
    text.and_then(|t| t.parse().ok()).filter(|n| *n > 0).unwrap_or(1)
}

fn umask(mask: Option<&str>) -> Result<i32, String> {
    use nix::sys::stat::{Mode, umask};
    let Some(text) = mask else {
        let old = umask(Mode::from_bits_truncate(0o022));
        umask(old);
        println!("{:04o}", old.bits());
        return Ok(0);
    };
    let bits = u32::from_str_radix(text, 8).map_err(|_| format!("{text:?} is no octal mask"))?;
    umask(Mode::from_bits_truncate(bits));
    Ok(0)
}
