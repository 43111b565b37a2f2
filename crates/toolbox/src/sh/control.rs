//! Compound commands.
use super::ast::{Compound, List, Word};
use super::{Flow, Shell};
use crate::pattern;

impl Shell {
    pub(super) fn run_compound(&mut self, compound: &Compound, last: bool) -> Result<i32, Flow> {
        match compound {
            Compound::Brace(list) => self.run_list(list, last),
            Compound::Subshell(list) => self.subshell(list),
            Compound::If { arms, otherwise } => {
                for (condition, body) in arms {
                    if self.holds(condition)? {
                        return self.run_list(body, last);
                    }
                }
                match otherwise {
                    Some(body) => self.run_list(body, last),
                    None => Ok(0),
                }
            }
            Compound::Loop { until, condition, body } => {
                self.in_loop(|shell| shell.run_loop(*until, condition, body))
            }
            Compound::For { name, words, body } => {
                self.in_loop(|shell| shell.run_for(name, words.as_deref(), body))
            }
            Compound::Case { word, arms } => self.run_case(word, arms, last),
        }
    }

    /// Whether a condition's commands succeed; `set -e` does not look at them.
    fn holds(&mut self, condition: &List) -> Result<bool, Flow> {
        self.conditions += 1;
        let result = self.run_list(condition, false);
        self.conditions -= 1;
        Ok(result? == 0)
    }

    fn in_loop(&mut self, run: impl FnOnce(&mut Shell) -> Result<i32, Flow>) -> Result<i32, Flow> {
        self.loops += 1;
        let result = run(self);
        self.loops -= 1;
        result
    }

    fn run_loop(&mut self, until: bool, condition: &List, body: &List) -> Result<i32, Flow> {
        let mut status = 0;
        loop {
            match self.holds(condition) {
                Ok(held) if held != until => {}
                Ok(_) => return Ok(status),
                Err(flow) => match around(flow)? {
                    Next::Again => continue,
                    Next::Over => return Ok(0),
                },
            }
            match self.run_list(body, false) {
                Ok(code) => status = code,
                Err(flow) => {
                    status = 0;
                    if matches!(around(flow)?, Next::Over) {
                        return Ok(0);
                    }
                }
            }
        }
    }

    fn run_for(&mut self, name: &str, words: Option<&[Word]>, body: &List) -> Result<i32, Flow> {
        let values = match words {
            Some(words) => self.fields(words)?,
            None => self.parameters.clone(),
        };
        let mut status = 0;
        for value in values {
            self.set(name, value)?;
            match self.run_list(body, false) {
                Ok(code) => status = code,
                Err(flow) => {
                    status = 0;
                    if matches!(around(flow)?, Next::Over) {
                        return Ok(0);
                    }
                }
            }
        }
        Ok(status)
    }

    fn run_case(
        &mut self,
        word: &Word,
        arms: &[(Vec<Word>, List)],
        last: bool,
    ) -> Result<i32, Flow> {
        let value = self.text(word)?;
        for (patterns, body) in arms {
            for word in patterns {
                if pattern::matches(&self.pattern(word)?, &value) {
                    self.status = 0;
                    return self.run_list(body, last);
                }
            }
        }
        Ok(0)
    }
}

enum Next {
    Again,
    Over,
}

/// What a loop makes of what came out of its body.
fn around(flow: Flow) -> Result<Next, Flow> {
    match flow {
        Flow::Break(1) => Ok(Next::Over),
        Flow::Break(n) => Err(Flow::Break(n - 1)),
        Flow::Continue(1) => Ok(Next::Again),
        Flow::Continue(n) => Err(Flow::Continue(n - 1)),
        other => Err(other),
    }
}
