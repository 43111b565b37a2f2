//! `$((…))`: C's integer expressions over variables.
//!
//! 64 bits, wrapping; a name that is unset counts as zero.

/// Where names get and keep their values.
pub(super) trait Names {
    fn get(&self, name: &str) -> Option<String>;
    fn set(&mut self, name: &str, value: i64);
}

const DEPTH_MAX: usize = 100;

pub(super) fn evaluate(text: &str, names: &mut dyn Names) -> Result<i64, String> {
    let mut evaluator =
        Evaluator { text: text.chars().collect(), at: 0, names, depth: 0, skipping: 0 };
    let mut value = 0;
    evaluator.blanks();
    if evaluator.at < evaluator.text.len() {
        value = evaluator.comma()?;
    }
    if evaluator.at < evaluator.text.len() {
        return Err(format!("arithmetic syntax error in \"{text}\""));
    }
    Ok(value)
}

struct Evaluator<'a> {
    text: Vec<char>,
    at: usize,
    names: &'a mut dyn Names,
    depth: usize,
    /// Above zero nothing is assigned: the branch is not taken.
    skipping: usize,
}

type Value = Result<i64, String>;

/// Binary operators from loosest to tightest.
const LEVELS: &[&[&str]] = &[
    &["||"],
    &["&&"],
    &["|"],
    &["^"],
    &["&"],
    &["==", "!="],
    &["<=", ">=", "<", ">"],
    &["<<", ">>"],
    &["+", "-"],
    &["*", "/", "%"],
];
const ASSIGN: &[&str] = &["<<=", ">>=", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "="];

impl Evaluator<'_> {
    fn blanks(&mut self) {
        while self.text.get(self.at).is_some_and(|c| c.is_whitespace()) {
            self.at += 1;
        }
    }

    fn looking_at(&self, sign: &str) -> bool {
        sign.chars().enumerate().all(|(i, c)| self.text.get(self.at + i) == Some(&c))
    }

    fn eat(&mut self, sign: &str) -> bool {
        self.blanks();
        let found = self.looking_at(sign);
        if found {
            self.at += sign.len();
        }
        found
    }

    fn comma(&mut self) -> Value {
        let mut value = self.assignment()?;
        while self.eat(",") {
            value = self.assignment()?;
        }
        self.blanks();
        Ok(value)
    }

    fn assignment(&mut self) -> Value {
        if self.depth >= DEPTH_MAX {
            return Err("arithmetic expression is nested too deeply".to_owned());
        }
        self.depth += 1;
        let value = self.assignment_inner();
        self.depth -= 1;
        value
    }

    fn assignment_inner(&mut self) -> Value {
        self.blanks();
        let start = self.at;
        let name = self.name();
        self.blanks();
        if !name.is_empty() {
            let sign = ASSIGN.iter().find(|sign| self.looking_at(sign)).copied();
            if let Some(sign) = sign.filter(|s| *s != "=" || !self.looking_at("==")) {
                self.at += sign.len();
                let right = self.assignment()?;
                let value = match sign.strip_suffix('=') {
                    Some("") | None => right,
                    Some(operator) => {
                        let left = self.variable(&name)?;
                        self.binary(operator, left, right)?
                    }
                };
                self.assign(&name, value);
                return Ok(value);
            }
        }
        self.at = start;
        self.ternary()
    }

    fn assign(&mut self, name: &str, value: i64) {
        if self.skipping == 0 {
            self.names.set(name, value);
        }
    }

    fn ternary(&mut self) -> Value {
        let condition = self.level(0)?;
        if !self.eat("?") {
            return Ok(condition);
        }
        let yes = self.unless(condition == 0, Self::assignment)?;
        if !self.eat(":") {
            return Err("arithmetic syntax error: \"?\" without \":\"".to_owned());
        }
        let no = self.unless(condition != 0, Self::assignment)?;
        Ok(if condition != 0 { yes } else { no })
    }

    /// Reads a part without its effects when it is skipped.
    fn unless(&mut self, skip: bool, read: impl FnOnce(&mut Self) -> Value) -> Value {
        self.skipping += usize::from(skip);
        let value = read(self);
        self.skipping -= usize::from(skip);
        value
    }

    fn level(&mut self, level: usize) -> Value {
        let Some(operators) = LEVELS.get(level) else { return self.unary() };
        let mut left = self.level(level + 1)?;
        loop {
            self.blanks();
            let Some(operator) = operators.iter().find(|sign| self.operator(sign)).copied() else {
                return Ok(left);
            };
            self.at += operator.len();
            let skip = operator == "||" && left != 0 || operator == "&&" && left == 0;
            let right = self.unless(skip, |e| e.level(level + 1))?;
            left = self.binary(operator, left, right)?;
        }
    }

    /// Whether exactly this operator stands here, not a longer one.
    fn operator(&self, sign: &str) -> bool {
        if !self.looking_at(sign) {
            return false;
        }
        let after = self.text.get(self.at + sign.len()).copied();
        match sign {
            "|" | "&" => after != sign.chars().next() && after != Some('='),
            "<" | ">" => after != sign.chars().next(),
            "==" | "!=" | "<=" | ">=" | "||" | "&&" => true,
            _ => after != Some('='),
        }
    }

    fn binary(&self, operator: &str, a: i64, b: i64) -> Value {
        let zero = b == 0 && self.skipping == 0;
        Ok(match operator {
            "||" => i64::from(a != 0 || b != 0),
            "&&" => i64::from(a != 0 && b != 0),
            "|" => a | b,
            "^" => a ^ b,
            "&" => a & b,
            "==" => i64::from(a == b),
            "!=" => i64::from(a != b),
            "<=" => i64::from(a <= b),
            ">=" => i64::from(a >= b),
            "<" => i64::from(a < b),
            ">" => i64::from(a > b),
            "<<" => a.wrapping_shl(b as u32),
            ">>" => a.wrapping_shr(b as u32),
            "+" => a.wrapping_add(b),
            "-" => a.wrapping_sub(b),
            "*" => a.wrapping_mul(b),
            "/" | "%" if zero => return Err("divide by zero".to_owned()),
            "/" => a.checked_div(b).unwrap_or(a),
            "%" => a.checked_rem(b).unwrap_or(0),
            other => return Err(format!("unknown operator \"{other}\"")),
        })
    }

    fn unary(&mut self) -> Value {
        if self.depth >= DEPTH_MAX {
            return Err("arithmetic expression is nested too deeply".to_owned());
        }
        self.depth += 1;
        let value = self.unary_inner();
        self.depth -= 1;
        value
    }

    fn unary_inner(&mut self) -> Value {
        for (sign, step) in [("++", 1), ("--", -1)] {
            if self.eat(sign) {
                self.blanks();
                let name = self.name();
                if name.is_empty() {
                    // Two signs in a row.
                    return self.unary();
                }
                let value = self.variable(&name)?.wrapping_add(step);
                self.assign(&name, value);
                return Ok(value);
            }
        }
        if self.eat("!") {
            return Ok(i64::from(self.unary()? == 0));
        }
        if self.eat("~") {
            return Ok(!self.unary()?);
        }
        if self.eat("-") {
            return Ok(self.unary()?.wrapping_neg());
        }
        if self.eat("+") {
            return self.unary();
        }
        if self.eat("(") {
            let value = self.comma()?;
            return if self.eat(")") { Ok(value) } else { Err("missing \")\"".to_owned()) };
        }
        let name = self.name();
        if !name.is_empty() {
            let value = self.variable(&name)?;
            for (sign, step) in [("++", 1), ("--", -1)] {
                if self.eat(sign) {
                    self.assign(&name, value.wrapping_add(step));
                }
            }
            return Ok(value);
        }
        self.number()
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(c) = self.text.get(self.at).copied() {
            let fits =
                c.is_ascii_alphabetic() || c == '_' || c.is_ascii_digit() && !name.is_empty();
            if !fits {
                break;
            }
            name.push(c);
            self.at += 1;
        }
        name
    }

    fn variable(&mut self, name: &str) -> Value {
        let Some(text) = self.names.get(name) else { return Ok(0) };
        let text = text.trim();
        if text.is_empty() {
            return Ok(0);
        }
        parse(text).ok_or_else(|| format!("{name}: \"{text}\" is not a number"))
    }

    fn number(&mut self) -> Value {
        let mut digits = String::new();
        while let Some(c) = self.text.get(self.at).filter(|c| c.is_ascii_alphanumeric()) {
            digits.push(*c);
            self.at += 1;
        }
        let rest: String = self.text[self.at..].iter().collect();
        parse(&digits).ok_or_else(|| format!("arithmetic syntax error at \"{digits}{rest}\""))
    }
}

/// Decimal, octal (leading 0) or hexadecimal (0x), with a sign.
fn parse(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let value = if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        i64::from_str_radix(hex, 16).ok()?
    } else if digits.len() > 1 && digits.starts_with('0') {
        i64::from_str_radix(digits, 8).ok()?
    } else {
        digits.parse().ok()?
    };
    Some(if negative { -value } else { value })
}
