//! The tables: which test belongs to which group, and what the last run said of each.
//!
//! The ledger has one line a test, sorted by name, and is only ever written by a run: a run
//! replaces the lines of the tests that it ran and leaves the others as they were.
use super::module;
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

const HEADER: &str = "name\tresult\tseconds\tcommit";

/// What is known of a test beforehand.
#[derive(Debug, Clone)]
pub(crate) struct Test {
    pub(crate) group: String,
    /// How long it took upstream's own cluster.
    pub(crate) upstream_seconds: f64,
}

pub(crate) type Groups = BTreeMap<String, Test>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass,
    Fail,
    NotRun,
}

impl Verdict {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::NotRun => "not-run",
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Line {
    pub(crate) verdict: Verdict,
    pub(crate) seconds: f64,
    pub(crate) commit: String,
}

pub(crate) type Ledger = BTreeMap<String, Line>;

pub(crate) fn own_ledger() -> PathBuf {
    module().join("ledger.tsv")
}

pub(crate) fn groups() -> Result<Groups> {
    let path = module().join("groups.tsv");
    let text = read(&path)?;
    let mut groups = Groups::new();
    for (number, line) in text.lines().enumerate().skip(1) {
        let [name, group, seconds] = fields(line)
            .with_context(|| format!("{}:{}: want 3 columns", path.display(), number + 1))?;
        let upstream_seconds = seconds
            .parse()
            .with_context(|| format!("{}:{}: {seconds}", path.display(), number + 1))?;
        groups.insert(name.to_owned(), Test { group: group.to_owned(), upstream_seconds });
    }
    Ok(groups)
}

/// The names of all tests whose group is, or begins with, what was asked for.
pub(crate) fn in_group<'a>(groups: &'a Groups, wanted: &str) -> Result<Vec<&'a str>> {
    let lower = wanted.to_lowercase();
    let names: Vec<&str> = groups
        .iter()
        .filter(|(_, test)| test.group.to_lowercase().starts_with(&lower))
        .map(|(name, _)| name.as_str())
        .collect();
    ensure!(!names.is_empty(), "no group begins with {wanted:?}: see `conformance groups`");
    Ok(names)
}

pub(crate) fn show_groups(groups: &Groups) -> Result<()> {
    let mut counts: BTreeMap<&str, (usize, f64)> = BTreeMap::new();
    for test in groups.values() {
        let count = counts.entry(&test.group).or_default();
        count.0 += 1;
        count.1 += test.upstream_seconds;
    }
    for (group, (tests, seconds)) in counts {
        println!("{tests:4} {seconds:7.0} s  {group}");
    }
    println!("{:4} in all", groups.len());
    Ok(())
}

pub(crate) fn load(path: &Path) -> Result<Ledger> {
    let mut ledger = Ledger::new();
    for (number, line) in read(path)?.lines().enumerate().skip(1) {
        let place = || format!("{}:{}", path.display(), number + 1);
        let [name, verdict, seconds, commit] =
            fields(line).with_context(|| format!("{}: want 4 columns", place()))?;
        let verdict = match verdict {
            "pass" => Verdict::Pass,
            "fail" => Verdict::Fail,
            "not-run" => Verdict::NotRun,
            other => bail!("{}: {other:?} is no result", place()),
        };
        let seconds = if seconds.is_empty() { 0.0 } else { seconds.parse().with_context(place)? };
        ledger.insert(name.to_owned(), Line { verdict, seconds, commit: commit.to_owned() });
    }
    Ok(ledger)
}

/// Replaces the lines of what was run. Every test of the suite has a line.
pub(crate) fn update(path: &Path, groups: &Groups, ran: &Ledger) -> Result<()> {
    let mut ledger = if path.exists() { load(path)? } else { Ledger::new() };
    ledger.extend(ran.iter().map(|(name, line)| (name.clone(), line.clone())));
    for name in groups.keys() {
        let blank = Line { verdict: Verdict::NotRun, seconds: 0.0, commit: String::new() };
        ledger.entry(name.clone()).or_insert(blank);
    }
    let mut text = format!("{HEADER}\n");
    for (name, line) in &ledger {
        let seconds = match line.verdict {
            Verdict::NotRun => String::new(),
            _ => format!("{:.1}", line.seconds),
        };
        let _ = writeln!(text, "{name}\t{}\t{seconds}\t{}", line.verdict.text(), line.commit);
    }
    let beside = path.with_extension("tsv.new");
    std::fs::write(&beside, text)
        .and_then(|()| std::fs::rename(&beside, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Fails on a test that passed before and fails now.
pub(crate) fn diff(old: &Path, new: &Path) -> Result<()> {
    let (before, after) = (load(old)?, load(new)?);
    let changes = changes(&before, &after);
    for (name, was, is) in &changes {
        println!("{} -> {}: {name}", was.text(), is.text());
    }
    let lost = lost(&before, &after).len();
    let count = |ledger: &Ledger| ledger.values().filter(|l| l.verdict == Verdict::Pass).count();
    println!("{} passed before, {} pass now", count(&before), count(&after));
    ensure!(lost == 0, "{lost} tests passed before and fail now");
    Ok(())
}

/// What passed before and fails now.
pub(crate) fn lost<'a>(before: &'a Ledger, after: &'a Ledger) -> Vec<&'a str> {
    let is_lost = |was: Verdict, is: Verdict| (was, is) == (Verdict::Pass, Verdict::Fail);
    let changes = changes(before, after).into_iter();
    changes.filter(|(_, was, is)| is_lost(*was, *is)).map(|(name, ..)| name).collect()
}

fn changes<'a>(before: &'a Ledger, after: &'a Ledger) -> Vec<(&'a str, Verdict, Verdict)> {
    let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let verdict =
        |ledger: &Ledger, name: &str| ledger.get(name).map_or(Verdict::NotRun, |line| line.verdict);
    names
        .into_iter()
        .map(|name| (name.as_str(), verdict(before, name), verdict(after, name)))
        .filter(|(_, was, is)| was != is)
        .collect()
}

fn fields<const N: usize>(line: &str) -> Option<[&str; N]> {
    line.split('\t').collect::<Vec<_>>().try_into().ok()
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
