//! `test`, `[` and `expr`.
use std::io::IsTerminal;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use nix::unistd::{AccessFlags, access};

use crate::common::{Done, Fault, usage};

/// Exit 0 when the expression holds, 1 when not, 2 when it is none.
pub(crate) fn main(args: &[String]) -> Done {
    let mut words = &args[1..];
    if args[0] == "[" {
        let Some((last, rest)) = words.split_last().filter(|(last, _)| *last == "]") else {
            return Err(usage("missing ]"));
        };
        let _ = last;
        words = rest;
    }
    let holds = evaluate(words)?;
    Ok(i32::from(!holds))
}

/// By the number of arguments, as POSIX has it; longer ones by a grammar.
fn evaluate(words: &[String]) -> Result<bool, Fault> {
    match words {
        [] => Ok(false),
        [word] => Ok(!word.is_empty()),
        [not, rest @ ..] if not == "!" && rest.len() < 4 && !is_binary_at(words) => {
            Ok(!evaluate(rest)?)
        }
        [operator, word] => unary(operator, word),
        [left, operator, right] if is_binary(operator) => binary(left, operator, right),
        _ => {
            let mut parser = Parser { words, at: 0, depth: 0 };
            let holds = parser.or()?;
            if parser.at < words.len() {
                return Err(usage(format!("{}: unexpected operator", words[parser.at])));
            }
            Ok(holds)
        }
    }
}

fn is_binary_at(words: &[String]) -> bool {
    words.len() == 3 && is_binary(&words[1])
}

struct Parser<'a> {
    words: &'a [String],
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn eat(&mut self, word: &str) -> bool {
        let found = self.words.get(self.at).is_some_and(|w| w == word);
        self.at += usize::from(found);
        found
    }

    fn or(&mut self) -> Result<bool, Fault> {
        let mut holds = self.and()?;
        while self.eat("-o") {
            holds |= self.and()?;
        }
        Ok(holds)
    }

    fn and(&mut self) -> Result<bool, Fault> {
        let mut holds = self.not()?;
        while self.eat("-a") {
            holds &= self.not()?;
        }
        Ok(holds)
    }

    fn not(&mut self) -> Result<bool, Fault> {
        self.depth += 1;
        if self.depth > 100 {
            return Err(usage("the expression is nested too deeply"));
        }
        let holds = if self.eat("!") { !self.not()? } else { self.primary()? };
        self.depth -= 1;
        Ok(holds)
    }

    fn primary(&mut self) -> Result<bool, Fault> {
        let rest = &self.words[self.at..];
        if let [left, operator, right, ..] = rest
            && is_binary(operator)
        {
            self.at += 3;
            return binary(left, operator, right);
        }
        if self.eat("(") {
            let holds = self.or()?;
            return if self.eat(")") { Ok(holds) } else { Err(usage("missing )")) };
        }
        match rest {
            [operator, word, ..] if is_unary(operator) => {
                self.at += 2;
                unary(operator, word)
            }
            [word, ..] => {
                self.at += 1;
                Ok(!word.is_empty())
            }
            [] => Err(usage("an argument is missing")),
        }
    }
}

fn is_binary(operator: &str) -> bool {
    let known = ["=", "==", "!=", "<", ">", "-eq", "-ne", "-lt", "-le", "-gt", "-ge"];
    known.contains(&operator) || ["-nt", "-ot", "-ef"].contains(&operator)
}

fn is_unary(operator: &str) -> bool {
    operator.len() == 2
        && operator.starts_with('-')
        && "bcdefghkLnprsStuwxz".contains(&operator[1..])
}

fn unary(operator: &str, word: &str) -> Result<bool, Fault> {
    let meta = || std::fs::metadata(word).ok();
    let kind = |is: fn(&std::fs::FileType) -> bool| meta().is_some_and(|m| is(&m.file_type()));
    let mode = |bit: u32| meta().is_some_and(|m| m.mode() & bit != 0);
    let may = |flag| access(word, flag).is_ok();
    Ok(match operator {
        "-n" => !word.is_empty(),
        "-z" => word.is_empty(),
        "-e" => meta().is_some(),
        "-f" => kind(std::fs::FileType::is_file),
        "-d" => kind(std::fs::FileType::is_dir),
        "-b" => kind(std::fs::FileType::is_block_device),
        "-c" => kind(std::fs::FileType::is_char_device),
        "-p" => kind(std::fs::FileType::is_fifo),
        "-S" => kind(std::fs::FileType::is_socket),
        "-h" | "-L" => std::fs::symlink_metadata(word).is_ok_and(|m| m.is_symlink()),
        "-r" => may(AccessFlags::R_OK),
        "-w" => may(AccessFlags::W_OK),
        "-x" => may(AccessFlags::X_OK),
        "-s" => meta().is_some_and(|m| m.len() > 0),
        "-g" => mode(0o2000),
        "-k" => mode(0o1000),
        "-u" => mode(0o4000),
        "-t" => match word {
            "0" => std::io::stdin().is_terminal(),
            "1" => std::io::stdout().is_terminal(),
            "2" => std::io::stderr().is_terminal(),
            _ => false,
        },
        _ => return Err(usage(format!("{operator}: unknown operand"))),
    })
}

fn binary(left: &str, operator: &str, right: &str) -> Result<bool, Fault> {
    let number =
        |text: &str| text.trim().parse::<i64>().map_err(|_| usage(format!("{text}: bad number")));
    let meta = |path: &str| std::fs::metadata(path).ok();
    let modified = |path| meta(path).map(|m| (m.mtime(), m.mtime_nsec()));
    Ok(match operator {
        "=" | "==" => left == right,
        "!=" => left != right,
        "<" => left < right,
        ">" => left > right,
        "-nt" => modified(left) > modified(right),
        "-ot" => modified(left) < modified(right),
        "-ef" => match (meta(left), meta(right)) {
            (Some(a), Some(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
            _ => false,
        },
        _ => {
            let (a, b) = (number(left)?, number(right)?);
            match operator {
                "-eq" => a == b,
                "-ne" => a != b,
                "-lt" => a < b,
                "-le" => a <= b,
                "-gt" => a > b,
                _ => a >= b,
            }
        }
    })
}

/// `expr A OP B …`: arithmetic from left to right by precedence, comparisons, `length`.
pub(crate) fn expr(args: &[String]) -> Done {
    if let [_, word, text] = args
        && word == "length"
    {
        println!("{}", text.chars().count());
        return Ok(i32::from(text.is_empty()));
    }
    let mut expression = Expr { words: &args[1..], at: 0 };
    let value = expression.level(0)?;
    if expression.at < expression.words.len() {
        return Err(usage("syntax error"));
    }
    println!("{value}");
    Ok(i32::from(value.is_empty() || value == "0"))
}

struct Expr<'a> {
    words: &'a [String],
    at: usize,
}

impl Expr<'_> {
    fn level(&mut self, level: usize) -> Result<String, Fault> {
        const LEVELS: &[&[&str]] =
            &[&["|"], &["&"], &["=", "!=", "<", "<=", ">", ">="], &["+", "-"], &["*", "/", "%"]];
        let Some(operators) = LEVELS.get(level) else { return self.primary() };
        let mut left = self.level(level + 1)?;
        while let Some(operator) =
            self.words.get(self.at).filter(|w| operators.contains(&w.as_str()))
        {
            self.at += 1;
            let right = self.level(level + 1)?;
            left = apply(&left, operator, &right)?;
        }
        Ok(left)
    }

    fn primary(&mut self) -> Result<String, Fault> {
        let word = self.words.get(self.at).ok_or_else(|| usage("syntax error"))?;
        self.at += 1;
        if word != "(" {
            return Ok(word.clone());
        }
        let value = self.level(0)?;
        match self.words.get(self.at).map(String::as_str) {
            Some(")") => {
                self.at += 1;
                Ok(value)
            }
            _ => Err(usage("syntax error: missing )")),
        }
    }
}

fn apply(a: &str, operator: &str, b: &str) -> Result<String, Fault> {
    let empty = |text: &str| text.is_empty() || text == "0";
    let numbers = a.parse::<i64>().ok().zip(b.parse::<i64>().ok());
    let truth = |holds: bool| i64::from(holds).to_string();
    let compared = numbers.map_or_else(|| a.cmp(b), |(a, b)| a.cmp(&b));
    Ok(match operator {
        "|" => {
            if empty(a) {
                b.to_owned()
            } else {
                a.to_owned()
            }
        }
        "&" => {
            if empty(a) || empty(b) {
                "0".to_owned()
            } else {
                a.to_owned()
            }
        }
        "=" => truth(compared.is_eq()),
        "!=" => truth(compared.is_ne()),
        "<" => truth(compared.is_lt()),
        "<=" => truth(compared.is_le()),
        ">" => truth(compared.is_gt()),
        ">=" => truth(compared.is_ge()),
        _ => {
            let (a, b) = numbers.ok_or_else(|| usage("non-integer argument"))?;
            let value = match operator {
                "+" => a.checked_add(b),
                "-" => a.checked_sub(b),
                "*" => a.checked_mul(b),
                "/" => a.checked_div(b),
                _ => a.checked_rem(b),
            };
            value.ok_or_else(|| usage("division by zero or overflow"))?.to_string()
        }
    })
}
