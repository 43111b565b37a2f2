//! Where commands come from: `-c`, a file, standard input, a terminal.
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;

use super::parser::{Error, Parser};
use super::{Flow, Shell};
use crate::common::{Done, Fault, reason, usage};

/// A command read from standard input may not be longer than this.
const COMMAND_MAX: usize = 4 << 20;

/// `sh [-eux…] [-o OPTION] [-c SCRIPT [NAME]] [FILE] [ARGUMENT…]`.
pub(crate) fn main(args: &[String]) -> Done {
    let mut shell = Shell::new(&args[0], Vec::new());
    let mut rest = args[1..].iter().cloned().collect::<std::collections::VecDeque<_>>();
    let mut script = false;
    let mut from_stdin = false;
    let mut forced = false;
    while let Some(arg) = rest.front().filter(|arg| arg.len() > 1).cloned() {
        let Some((sign, letters)) =
            arg.strip_prefix('-').map(|l| (true, l)).or(arg.strip_prefix('+').map(|l| (false, l)))
        else {
            break;
        };
        rest.pop_front();
        if arg == "--" {
            break;
        }
        for letter in letters.chars() {
            match letter {
                'c' => script = true,
                's' => from_stdin = true,
                'i' => forced = true,
                'l' => {}
                'o' => {
                    let name = rest.pop_front().unwrap_or_default();
                    match shell.options.by_name(&name) {
                        Some(option) => *option = sign,
                        None => return Err(usage(format!("bad option '{name}'"))),
                    }
                }
                letter => match shell.options.by_letter(letter) {
                    Some(option) => *option = sign,
                    None => return Err(usage(format!("bad option '{arg}'"))),
                },
            }
        }
    }
    let result = if script {
        let text = rest.pop_front().ok_or_else(|| usage("-c needs a script"))?;
        shell.name = rest.pop_front().unwrap_or_else(|| shell.name.clone());
        shell.parameters = rest.into();
        shell.run_text(&text, true)
    } else if let (false, Some(file)) = (from_stdin, rest.pop_front()) {
        let bytes = std::fs::read(&file).map_err(|e| {
            let code = if e.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
            Fault::new(format!("cannot open {file}: {}", reason(&e))).with_code(code)
        })?;
        shell.name = file;
        shell.parameters = rest.into();
        shell.run_text(&String::from_utf8_lossy(&bytes), false)
    } else {
        shell.parameters = rest.into();
        if forced || io::stdin().is_terminal() && io::stderr().is_terminal() {
            shell.run_interactively()
        } else {
            shell.run_stdin()
        }
    };
    Ok(shell.finish(result))
}

/// The prompt of a shell without `PS1`: root's ends with a number sign.
pub(super) fn prompt() -> String {
    if nix::unistd::geteuid().is_root() { "\\w # ".to_owned() } else { "\\w $ ".to_owned() }
}

fn syntax(shell: &Shell, error: Error) -> Flow {
    let (Error::Incomplete(what) | Error::Syntax(what)) = error;
    shell.complain(&format!("syntax error: {what}"));
    Flow::Exit(2)
}

impl Shell {
    /// Runs a whole script, line by line. `last`: the shell has nothing to do after it.
    pub(super) fn run_text(&mut self, text: &str, last: bool) -> Result<i32, Flow> {
        let mut parser = Parser::new(text);
        while let Some(list) = parser.next_line().map_err(|e| syntax(self, e))? {
            if self.options.noexec {
                continue;
            }
            let last = last && parser.at_end();
            self.status = self.run_list(&list, last)?;
        }
        Ok(self.status)
    }

    /// Commands from standard input, which the commands themselves read from too: nothing is
    /// read ahead.
    fn run_stdin(&mut self) -> Result<i32, Flow> {
        let mut pending = String::new();
        loop {
            let line = self.read_line_unbuffered()?;
            let over = line.is_empty();
            pending.push_str(&String::from_utf8_lossy(&line));
            if pending.len() > COMMAND_MAX {
                return Err(Flow::Fail("a command is too long".to_owned()));
            }
            // What a backslash joins is read whole.
            if !over && pending.ends_with("\\\n") {
                continue;
            }
            let mut parser = Parser::new(&pending);
            match parser.next_line() {
                Ok(Some(list)) => {
                    pending.clear();
                    self.status = self.run_list(&list, false)?;
                }
                Ok(None) => pending.clear(),
                Err(Error::Incomplete(_)) if !over => continue,
                Err(error) => return Err(syntax(self, error)),
            }
            if over {
                return Ok(self.status);
            }
        }
    }

    /// One line with its end, byte by byte; empty at the end of the input.
    pub(super) fn read_line_unbuffered(&mut self) -> Result<Vec<u8>, Flow> {
        let mut line = Vec::new();
        let mut byte = [0];
        loop {
            while self.signals.watching() {
                let wait = self.signals.wait(Some(io::stdin().as_fd()));
                if wait.map_err(|e| Flow::Fail(reason(&e)))? {
                    break;
                }
                if self.take_signals()? {
                    return Err(Flow::Interrupted);
                }
            }
            match nix::unistd::read(io::stdin(), &mut byte) {
                Ok(0) => return Ok(line),
                Ok(_) => {
                    line.push(byte[0]);
                    if byte[0] == b'\n' {
                        return Ok(line);
                    }
                }
                Err(nix::errno::Errno::EINTR) => {}
                Err(e) => return Err(Flow::Fail(format!("read: {}", e.desc()))),
            }
        }
    }

    /// Prompts for line after line until the end of the input or `exit`.
    fn run_interactively(&mut self) -> Result<i32, Flow> {
        self.interactive = true;
        self.signals.interactive().map_err(|e| Flow::Fail(reason(&e)))?;
        let mut pending = String::new();
        loop {
            self.show_prompt(pending.is_empty());
            let line = match self.read_line_unbuffered() {
                Ok(line) => line,
                Err(Flow::Interrupted) => {
                    eprintln!();
                    self.status = 130;
                    pending.clear();
                    continue;
                }
                Err(flow) => return Err(flow),
            };
            if line.is_empty() {
                eprintln!();
                return Ok(self.status);
            }
            pending.push_str(&String::from_utf8_lossy(&line));
            if pending.ends_with("\\\n") && pending.len() <= COMMAND_MAX {
                continue;
            }
            match Parser::new(&pending).next_line() {
                Ok(list) => {
                    pending.clear();
                    let result = self.run_list(&list.unwrap_or_default(), false);
                    self.settle(result)?;
                }
                Err(Error::Incomplete(_)) if pending.len() <= COMMAND_MAX => {}
                Err(error) => {
                    pending.clear();
                    let _ = syntax(self, error);
                    self.status = 2;
                }
            }
        }
    }

    /// After a line an interactive shell goes on, whatever came of it, unless it is told to end.
    fn settle(&mut self, result: Result<i32, Flow>) -> Result<(), Flow> {
        self.status = match result {
            Ok(code) => code,
            Err(Flow::Exit(code)) => return Err(Flow::Exit(code)),
            Err(Flow::Return(code)) => code,
            Err(Flow::Break(_) | Flow::Continue(_)) => self.status,
            Err(Flow::Interrupted) => 130,
            Err(Flow::Fail(message)) => {
                self.complain(&message);
                2
            }
        };
        self.loops = 0;
        self.calls = 0;
        self.conditions = 0;
        Ok(())
    }

    fn show_prompt(&mut self, first: bool) {
        let prompt = self.get(if first { "PS1" } else { "PS2" }).unwrap_or_default();
        let folder = self.get("PWD").unwrap_or_default();
        let home = self.get("HOME").filter(|home| home.len() > 1);
        let shown = match home.as_deref().and_then(|home| folder.strip_prefix(home)) {
            Some(rest) => format!("~{rest}"),
            None => folder,
        };
        let host = crate::net::serve::hostname();
        let sign = if nix::unistd::geteuid().is_root() { "#" } else { "$" };
        let text = prompt
            .replace("\\w", &shown)
            .replace("\\h", &host)
            .replace("\\$", sign)
            .replace("\\u", if sign == "#" { "root" } else { "user" });
        eprint!("{text}");
        let _ = io::stderr().flush();
    }
}
