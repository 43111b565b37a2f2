//! Regular expressions for `grep`: a backtracking matcher over characters, with a bound on its
//! work.
//!
//! Basic and extended syntax share one tree; what a backslash does differs.
use crate::pattern;

#[derive(Debug, Clone)]
enum Node {
    Char(char),
    Any,
    /// A bracket expression, as written.
    Set(Vec<char>),
    Class(char),
    Start,
    End,
    /// Where a word begins or ends: `\b`, `\<`, `\>`.
    Edge(char),
    Group(Vec<Vec<Node>>),
    Repeat(Box<Node>, usize, usize),
}

#[derive(Debug)]
pub(crate) struct Regex {
    branches: Vec<Vec<Node>>,
    ignore_case: bool,
}

/// Steps of one match; a pattern that needs more does not match.
const STEPS_MAX: usize = 2_000_000;
const DEPTH_MAX: usize = 50;
const REPEAT_MAX: usize = 1000;

impl Regex {
    pub(crate) fn new(pattern: &str, extended: bool, ignore_case: bool) -> Result<Regex, String> {
        let pattern = if ignore_case { pattern.to_lowercase() } else { pattern.to_owned() };
        let mut parser = Parser { text: pattern.chars().collect(), at: 0, extended, depth: 0 };
        let branches = parser.branches()?;
        if parser.at < parser.text.len() {
            return Err("unmatched )".to_owned());
        }
        Ok(Regex { branches, ignore_case })
    }

    /// A pattern that means itself.
    pub(crate) fn fixed(text: &str, ignore_case: bool) -> Regex {
        let text = if ignore_case { text.to_lowercase() } else { text.to_owned() };
        Regex { branches: vec![text.chars().map(Node::Char).collect()], ignore_case }
    }

    /// The leftmost match at or after `from`, in characters; the longest of each start's first way.
    pub(crate) fn find(&self, text: &[char], from: usize) -> Option<(usize, usize)> {
        let folded: Vec<char>;
        let text = if self.ignore_case {
            folded = text.iter().map(|c| c.to_lowercase().next().unwrap_or(*c)).collect();
            &folded[..]
        } else {
            text
        };
        let mut matcher = Matcher { text, steps: 0 };
        (from..=text.len()).find_map(|start| {
            let mut best = None;
            matcher.branches(&self.branches, start, &mut |_, end| {
                best = best.max(Some(end));
                false
            });
            best.map(|end| (start, end))
        })
    }
}

struct Parser {
    text: Vec<char>,
    at: usize,
    extended: bool,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> Option<char> {
        self.text.get(self.at).copied()
    }

    /// Passes an operator, which basic syntax writes with a backslash.
    fn operator(&mut self, c: char) -> bool {
        let found = if self.extended {
            self.peek() == Some(c)
        } else {
            self.peek() == Some('\\') && self.text.get(self.at + 1) == Some(&c)
        };
        if found {
            self.at += if self.extended { 1 } else { 2 };
        }
        found
    }

    fn looking_at(&mut self, c: char) -> bool {
        let at = self.at;
        let found = self.operator(c);
        self.at = at;
        found
    }

    fn branches(&mut self) -> Result<Vec<Vec<Node>>, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err("the expression is nested too deeply".to_owned());
        }
        let mut branches = vec![self.sequence()?];
        while self.operator('|') {
            branches.push(self.sequence()?);
        }
        self.depth -= 1;
        Ok(branches)
    }

    fn sequence(&mut self) -> Result<Vec<Node>, String> {
        let mut nodes: Vec<Node> = Vec::new();
        while self.peek().is_some() && !self.looking_at('|') {
            if self.depth > 1 && self.looking_at(')') {
                break;
            }
            let start = nodes.is_empty() || matches!(nodes.last(), Some(Node::Start));
            if !start && let Some((least, most)) = self.repetition()? {
                if let Some(last) = nodes.pop() {
                    nodes.push(Node::Repeat(Box::new(last), least, most));
                }
                continue;
            }
            nodes.push(self.atom(start)?);
        }
        Ok(nodes)
    }

    fn repetition(&mut self) -> Result<Option<(usize, usize)>, String> {
        if self.peek() == Some('*') {
            self.at += 1;
            return Ok(Some((0, usize::MAX)));
        }
        if self.operator('+') {
            return Ok(Some((1, usize::MAX)));
        }
        if self.operator('?') {
            return Ok(Some((0, 1)));
        }
        if !self.operator('{') {
            return Ok(None);
        }
        let bad = || "bad repetition".to_owned();
        let mut bounds = String::new();
        while !self.operator('}') {
            bounds.push(self.peek().ok_or_else(bad)?);
            self.at += 1;
        }
        let number =
            |text: &str| text.parse::<usize>().ok().filter(|n| *n <= REPEAT_MAX).ok_or_else(bad);
        Ok(Some(match bounds.split_once(',') {
            None => (number(&bounds)?, number(&bounds)?),
            Some((least, "")) => (number(least)?, usize::MAX),
            Some(("", most)) => (0, number(most)?),
            Some((least, most)) => (number(least)?, number(most)?),
        }))
    }

    fn atom(&mut self, start: bool) -> Result<Node, String> {
        if self.operator('(') {
            let branches = self.branches()?;
            if !self.operator(')') {
                return Err("unmatched (".to_owned());
            }
            return Ok(Node::Group(branches));
        }
        let c = self.peek().unwrap_or('\0');
        self.at += 1;
        Ok(match c {
            '.' => Node::Any,
            '^' if start || self.extended => Node::Start,
            '$' if self.extended
                || self.peek().is_none()
                || self.looking_at(')')
                || self.looking_at('|') =>
            {
                Node::End
            }
            '[' => {
                let (_, end) = pattern::bracket(&self.text, self.at - 1, 'a')
                    .ok_or_else(|| "unmatched [".to_owned())?;
                let set = self.text[self.at - 1..end].to_vec();
                self.at = end;
                Node::Set(set)
            }
            '\\' => {
                let c = self.peek().ok_or_else(|| "trailing backslash".to_owned())?;
                self.at += 1;
                match c {
                    'w' | 'W' | 's' | 'S' | 'd' | 'D' => Node::Class(c),
                    'b' | '<' | '>' => Node::Edge(c),
                    't' => Node::Char('\t'),
                    c => Node::Char(c),
                }
            }
            c => Node::Char(c),
        })
    }
}

struct Matcher<'a> {
    text: &'a [char],
    steps: usize,
}

/// What is tried once a part has matched up to a place; true ends the search.
type Then<'t> = &'t mut dyn FnMut(&mut Matcher<'_>, usize) -> bool;

impl Matcher<'_> {
    fn branches(&mut self, branches: &[Vec<Node>], at: usize, then: Then<'_>) -> bool {
        branches.iter().any(|nodes| self.sequence(nodes, at, then))
    }

    fn sequence(&mut self, nodes: &[Node], at: usize, then: Then<'_>) -> bool {
        self.steps += 1;
        if self.steps > STEPS_MAX {
            return true;
        }
        let Some((node, rest)) = nodes.split_first() else { return then(self, at) };
        match node {
            Node::Group(branches) => {
                self.branches(branches, at, &mut |m, end| m.sequence(rest, end, then))
            }
            Node::Repeat(inner, least, most) => self.repeat(inner, *least, *most, at, rest, then),
            single => match self.single(single, at) {
                Some(end) => self.sequence(rest, end, then),
                None => false,
            },
        }
    }

    fn repeat(
        &mut self,
        inner: &Node,
        least: usize,
        most: usize,
        at: usize,
        rest: &[Node],
        then: Then<'_>,
    ) -> bool {
        // One character at a time needs no recursion.
        if !matches!(inner, Node::Group(_) | Node::Repeat(..)) {
            let mut ends = vec![at];
            while ends.len() <= most
                && let Some(end) = self.single(inner, ends[ends.len() - 1])
            {
                if end == ends[ends.len() - 1] {
                    break;
                }
                ends.push(end);
            }
            return ends.iter().skip(least).rev().any(|end| self.sequence(rest, *end, then));
        }
        let one = std::slice::from_ref(inner);
        if most > 0 {
            let again = self.sequence(one, at, &mut |m, end| {
                end > at
                    && m.repeat(
                        inner,
                        least.saturating_sub(1),
                        most.saturating_sub(1),
                        end,
                        rest,
                        then,
                    )
            });
            if again {
                return true;
            }
        }
        least == 0 && self.sequence(rest, at, then)
    }

    fn single(&self, node: &Node, at: usize) -> Option<usize> {
        let c = self.text.get(at).copied();
        let word = |c: char| c.is_alphanumeric() || c == '_';
        let zero = |holds: bool| holds.then_some(at);
        let one = |holds: bool| holds.then_some(at + 1);
        match node {
            Node::Start => zero(at == 0),
            Node::End => zero(at == self.text.len()),
            Node::Edge(kind) => {
                let before = at > 0 && word(self.text[at - 1]);
                let after = c.is_some_and(word);
                zero(match kind {
                    '<' => !before && after,
                    '>' => before && !after,
                    _ => before != after,
                })
            }
            Node::Char(wanted) => one(c == Some(*wanted)),
            Node::Any => one(c.is_some()),
            Node::Set(set) => one(pattern::bracket(set, 0, c?).is_some_and(|(found, _)| found)),
            Node::Class(kind) => {
                let c = c?;
                let holds = match kind.to_ascii_lowercase() {
                    'w' => word(c),
                    's' => c.is_whitespace(),
                    _ => c.is_ascii_digit(),
                };
                one(holds != kind.is_ascii_uppercase())
            }
            Node::Group(_) | Node::Repeat(..) => None,
        }
    }
}
