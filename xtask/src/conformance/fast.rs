//! `cargo xtask conformance fast`: what CI runs of the suite. Of the groups that have no long waits
//! it runs the tests that pass in the ledger, and fails if one does not any more.
//!
//! It is bounded in time. What does not fit is said to be cut, and fails nothing.
use super::ledger::{self, Groups, Ledger, Verdict};
use super::run::{self, Plan};
use super::{Cache, USAGE, build, images};
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A group with a longer test than this, as upstream's own cluster took, has long waits.
const LONGEST_SECONDS: f64 = 60.0;
/// At once; on two processors more of them take longer each.
const PROCS: u32 = 4;
/// Upstream's seconds of all that is run: eight minutes for each of those at once.
const BUDGET_SECONDS: f64 = 8.0 * 60.0 * PROCS as f64;
/// The longest that the tests may take, from the first to the last.
const TESTS_BOUND: Duration = Duration::from_secs(12 * 60);
/// A machine that is busy with something else may cost a test its time; with more there is no hope.
const AGAIN_MAX: usize = 5;
/// Without this much time there is no point in starting them.
const TESTS_LEAST: Duration = Duration::from_secs(5 * 60);
/// For making the cluster, ending it, and what an interrupted test takes to clean up.
const MARGIN: Duration = Duration::from_secs(2 * 60);
const BUILD_BOUND: Duration = Duration::from_secs(30 * 60);

/// `--within MINUTES`.
pub(crate) fn deadline(args: &[String]) -> Result<Instant> {
    let within = match args {
        [] => BUILD_BOUND + TESTS_BOUND + MARGIN,
        [flag, minutes] if flag == "--within" => {
            let minutes: u64 = minutes.parse().context("--within wants a number of minutes")?;
            Duration::from_secs(minutes * 60)
        }
        _ => bail!("fast: what is {}?\n\n{USAGE}", args.join(" ")),
    };
    Ok(Instant::now() + within)
}

pub(crate) fn run(cache: &Cache, deadline: Instant) -> Result<()> {
    let groups = ledger::groups()?;
    let before = ledger::load(&ledger::own_ledger())?;
    let tests = choose(&groups, &before);
    ensure!(!tests.is_empty(), "the ledger has no test that passes: nothing to compare with");
    let left = || deadline.saturating_duration_since(Instant::now());
    if left() < MARGIN + TESTS_LEAST {
        return cut(&format!("{} s are left: the suite is not run", left().as_secs()));
    }
    let build_bound = BUILD_BOUND.min(left() - MARGIN - TESTS_LEAST);
    match build::within(cache, Instant::now() + build_bound) {
        Ok(true) => {}
        Ok(false) => {
            return cut(&format!("the suite is not built within {} s", build_bound.as_secs()));
        }
        // What is built is never this project's: its modules could not be had.
        Err(error) => return cut(&format!("the suite cannot be built here: {error:#}")),
    }
    images::make(cache)?;
    let bound = TESTS_BOUND.min(left().saturating_sub(MARGIN));
    let plan = |tests: &[&str], procs: u32, bound: Duration| {
        let focus = tests.iter().map(|name| run::only(name)).collect();
        Plan { focus, procs, bound, without: Some("serial"), ..Plan::default() }
    };
    println!("{} tests that passed before, {PROCS} at once", tests.len());
    let results = run::judge(cache, &groups, &plan(&tests, PROCS, bound))?;
    let scratch = results.folder.join("ledger.tsv");
    ledger::update(&scratch, &groups, &results.ran)?;
    println!("what this run found: {}", scratch.display());
    results.checked()?;
    let missing = tests.iter().filter(|name| !results.ran.contains_key(**name)).count();
    if missing > 0 {
        cut(&format!("{missing} tests did not run within {} s", bound.as_secs()))?;
    }
    let mut lost = ledger::lost(&before, &results.ran);
    let bound = left().saturating_sub(MARGIN);
    if !lost.is_empty() && lost.len() <= AGAIN_MAX && bound > MARGIN {
        for name in &lost {
            println!("passed before, failed now, is tried once more alone: {name}");
        }
        let names: Vec<&str> = lost.iter().map(AsRef::as_ref).collect();
        let again = run::judge(cache, &groups, &plan(&names, 1, bound))?;
        again.checked()?;
        lost.retain(|name| !passed(&again.ran, name));
    }
    for name in &lost {
        println!("passed before, fails now: {name}");
    }
    ensure!(lost.is_empty(), "{} tests passed before and fail now", lost.len());
    Ok(())
}

fn passed(ran: &Ledger, name: &str) -> bool {
    ran.get(name).is_some_and(|line| line.verdict == Verdict::Pass)
}

fn cut(what: &str) -> Result<()> {
    println!("CUT from the conformance suite: {what}");
    Ok(())
}

/// The tests that passed before, of the groups without long waits, the quickest groups first.
fn choose<'a>(groups: &'a Groups, before: &Ledger) -> Vec<&'a str> {
    let mut longest: BTreeMap<&str, f64> = BTreeMap::new();
    for test in groups.values() {
        let most = longest.entry(&test.group).or_default();
        *most = most.max(test.upstream_seconds);
    }
    let mut quick: Vec<(&str, f64)> =
        longest.into_iter().filter(|(_, seconds)| *seconds <= LONGEST_SECONDS).collect();
    quick.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(b.0)));
    let passes = |name: &String| before.get(name).is_some_and(|line| line.verdict == Verdict::Pass);
    let (mut chosen, mut seconds) = (Vec::new(), 0.0);
    for (group, _) in quick {
        let of_group = groups.iter().filter(|(name, test)| {
            test.group == group && passes(name) && !name.contains("[Serial]")
        });
        let of_group: Vec<_> = of_group.collect();
        seconds += of_group.iter().map(|(_, test)| test.upstream_seconds).sum::<f64>();
        if seconds > BUDGET_SECONDS {
            break;
        }
        chosen.extend(of_group.into_iter().map(|(name, _)| name.as_str()));
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::super::ledger::{Line, Test};
    use super::*;

    #[test]
    fn quick_groups_are_chosen_and_of_them_what_passed() {
        let mut groups = Groups::new();
        let mut before = Ledger::new();
        for (name, group, upstream_seconds, verdict) in [
            ("a1", "quick", 1.0, Verdict::Pass),
            ("a2", "quick", 2.0, Verdict::Fail),
            ("a3 [Serial]", "quick", 2.0, Verdict::Pass),
            ("b1", "waits", 1.0, Verdict::Pass),
            ("b2", "waits", LONGEST_SECONDS + 1.0, Verdict::Pass),
            ("c1", "many", 50.0, Verdict::Pass),
        ] {
            let test = Test { group: group.to_owned(), upstream_seconds };
            groups.insert(name.to_owned(), test);
            let line = Line { verdict, seconds: 1.0, commit: String::new() };
            before.insert(name.to_owned(), line);
        }
        assert_eq!(choose(&groups, &before), ["a1", "c1"]);
        for index in 0..100 {
            let test = Test { group: "many".to_owned(), upstream_seconds: 50.0 };
            groups.insert(format!("d{index}"), test);
            let line = Line { verdict: Verdict::Pass, seconds: 1.0, commit: String::new() };
            before.insert(format!("d{index}"), line);
        }
        assert_eq!(choose(&groups, &before), ["a1"], "the sum is bounded");
    }

    #[test]
    fn the_committed_list_is_neither_empty_nor_long() {
        let groups = ledger::groups().unwrap();
        let tests = choose(&groups, &ledger::load(&ledger::own_ledger()).unwrap());
        let seconds: f64 = tests.iter().map(|name| groups[*name].upstream_seconds).sum();
        assert!(tests.len() > 30 && seconds <= BUDGET_SECONDS, "{} {seconds}", tests.len());
    }

    #[test]
    fn the_bound_is_read() {
        assert!(deadline(&[]).is_ok());
        assert!(deadline(&["--within".to_owned(), "9".to_owned()]).is_ok());
        assert!(deadline(&["--within".to_owned(), "x".to_owned()]).is_err());
        assert!(deadline(&["--what".to_owned()]).is_err());
    }
}
