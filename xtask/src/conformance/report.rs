//! Reads what the suite's runner reports, and shows it by group.
use super::ledger::{Groups, Ledger, Line, Verdict};
use crate::job;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Results of the tests that ran, from the runner's JSON report.
pub(crate) fn read(path: &Path, commit: &str) -> Result<Results> {
    let text = std::fs::read(path)
        .with_context(|| format!("no report in {}: did the suite start?", path.display()))?;
    let report: Value =
        serde_json::from_slice(&text).with_context(|| format!("{}", path.display()))?;
    Ok(Results::of(&report, commit))
}

#[derive(Debug, Default)]
pub(crate) struct Results {
    pub(crate) ran: Ledger,
    /// First line of what each failure said.
    pub(crate) reasons: BTreeMap<String, String>,
    /// What failed that is no test: the preparation of the whole suite.
    pub(crate) faults: Vec<String>,
    /// Where reports and logs lie.
    pub(crate) folder: PathBuf,
    /// Somebody ended the run.
    pub(crate) interrupted: bool,
    /// What was running when the run was ended, or its time was over: no verdict of its own.
    pub(crate) cut: Ledger,
}

/// What the runner said of each test until it died, where there is no report.
pub(crate) fn of_log(path: &Path, commit: &str) -> Result<Results> {
    let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut results = Results::default();
    let text = String::from_utf8_lossy(&text);
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some((verdict, seconds)) = outcome(line) else { continue };
        // Its labels are behind it.
        let Some((name, _)) = lines.next().and_then(|line| line.rsplit_once(" [")) else {
            continue;
        };
        let line = Line { verdict, seconds, commit: commit.to_owned() };
        results.ran.insert(name.to_owned(), line);
    }
    Ok(results)
}

/// `• [1.234 seconds]` and `• [FAILED] [1.234 seconds]`: the name is on the next line.
fn outcome(line: &str) -> Option<(Verdict, f64)> {
    let rest = line.strip_prefix("• [")?;
    let (verdict, rest) = match rest.split_once("] [") {
        Some((_, rest)) => (Verdict::Fail, rest),
        None => (Verdict::Pass, rest),
    };
    let seconds = rest.strip_suffix(" seconds]")?.parse().ok()?;
    Some((verdict, seconds))
}

impl Results {
    fn of(report: &Value, commit: &str) -> Self {
        let mut results = Self::default();
        let suites = report.as_array().into_iter().flatten();
        for spec in suites.flat_map(|suite| suite["SpecReports"].as_array().into_iter().flatten()) {
            results.add(spec, commit);
        }
        results
    }

    fn add(&mut self, spec: &Value, commit: &str) {
        let state = spec["State"].as_str().unwrap_or_default();
        let reason = || {
            let message = spec["Failure"]["Message"].as_str().unwrap_or_default();
            message.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        let is_test = spec["LeafNodeType"].as_str() == Some("It");
        let verdict = match state {
            "passed" => Verdict::Pass,
            "skipped" | "pending" | "" => return,
            _ => Verdict::Fail,
        };
        let is_cut = matches!(state, "interrupted" | "aborted")
            || reason().starts_with("A suite timeout occurred");
        if !is_test {
            if verdict == Verdict::Fail && !is_cut {
                self.faults.push(reason());
            }
            return;
        }
        let texts = spec["ContainerHierarchyTexts"].as_array().into_iter().flatten();
        let words: Vec<&str> =
            texts.chain(std::iter::once(&spec["LeafNodeText"])).filter_map(Value::as_str).collect();
        let name = words.join(" ");
        let seconds = spec["RunTime"].as_f64().unwrap_or_default() / 1e9;
        let line = Line { verdict, seconds, commit: commit.to_owned() };
        if is_cut {
            self.cut.insert(name, line);
            return;
        }
        if verdict == Verdict::Fail {
            self.reasons.insert(name.clone(), reason());
        }
        self.ran.insert(name, line);
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.ran.extend(other.ran);
        self.reasons.extend(other.reasons);
        self.faults.extend(other.faults);
        self.cut.extend(other.cut);
        self.interrupted |= other.interrupted;
    }

    /// Whether there is a verdict at all.
    pub(crate) fn checked(&self) -> Result<()> {
        if self.interrupted {
            return Err(job::Interrupted.into());
        }
        ensure!(self.faults.is_empty(), "the suite or its preparation failed: no verdict");
        Ok(())
    }

    pub(crate) fn failures(&self) -> usize {
        self.ran.values().filter(|line| line.verdict == Verdict::Fail).count()
    }

    /// Passes and failures by group, with durations; then every failure with what it said.
    pub(crate) fn show(&self, groups: &Groups) {
        let mut table: BTreeMap<&str, (usize, usize, f64, f64)> = BTreeMap::new();
        for (name, line) in &self.ran {
            let test = groups.get(name);
            let group = test.map_or("(not conformance)", |test| test.group.as_str());
            let row = table.entry(group).or_default();
            match line.verdict {
                Verdict::Pass => row.0 += 1,
                _ => row.1 += 1,
            }
            row.2 += line.seconds;
            row.3 += test.map_or(0.0, |test| test.upstream_seconds);
        }
        println!("{:>5} {:>5} {:>9} {:>9}  group", "pass", "fail", "seconds", "upstream");
        for (group, (passed, failed, seconds, upstream)) in &table {
            println!("{passed:5} {failed:5} {seconds:9.1} {upstream:9.1}  {group}");
        }
        for (name, reason) in &self.reasons {
            let short: String = reason.chars().take(300).collect();
            println!("FAIL {name}\n     {short}");
        }
        for fault in &self.faults {
            println!("FAULT of the suite or its preparation: {fault}");
        }
        for name in self.cut.keys() {
            println!("CUT {name}");
        }
        let failed = self.failures();
        println!("{} passed, {failed} failed", self.ran.len() - failed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn results_are_named_as_the_suite_names_them() {
        let report = json!([{"SpecReports": [
            {"LeafNodeType": "It", "ContainerHierarchyTexts": ["[sig-a] Things"],
             "LeafNodeText": "work [Conformance]", "State": "passed", "RunTime": 2_500_000_000_u64},
            {"LeafNodeType": "It", "ContainerHierarchyTexts": ["[sig-a] Things"],
             "LeafNodeText": "hang [Conformance]", "State": "timedout", "RunTime": 1,
             "Failure": {"Message": "too\n  long"}},
            {"LeafNodeType": "It", "ContainerHierarchyTexts": [], "LeafNodeText": "other",
             "State": "skipped"},
            {"LeafNodeType": "It", "ContainerHierarchyTexts": [], "LeafNodeText": "half",
             "State": "interrupted"},
            {"LeafNodeType": "It", "ContainerHierarchyTexts": [], "LeafNodeText": "late",
             "State": "timedout", "Failure": {"Message": "A suite timeout occurred"}},
            {"LeafNodeType": "SynchronizedBeforeSuite", "LeafNodeText": "", "State": "failed",
             "Failure": {"Message": "no nodes"}},
        ]}]);
        let results = Results::of(&report, "abc");
        let pass = &results.ran["[sig-a] Things work [Conformance]"];
        assert_eq!((pass.verdict, pass.seconds, pass.commit.as_str()), (Verdict::Pass, 2.5, "abc"));
        assert_eq!(results.reasons["[sig-a] Things hang [Conformance]"], "too long");
        assert_eq!(results.ran.len(), 2);
        assert_eq!(results.faults, ["no nodes"]);
        assert_eq!(results.failures(), 1);
        assert_eq!(results.cut.keys().collect::<Vec<_>>(), ["half", "late"]);
    }

    #[test]
    fn a_log_tells_what_ran_before_its_end() {
        let folder = std::env::temp_dir().join(format!("kybern-log-{}", std::process::id()));
        let text = "Running Suite\n---\n• [1.500 seconds]\n[sig-a] one [Conformance] [sig-a, Conformance]\nplace\n---\n\
                    • [FAILED] [61.000 seconds]\n[sig-a] two [Conformance] [sig-a, Conformance]\n  [It] two\n• [2.0 sec";
        std::fs::write(&folder, text).unwrap();
        let results = of_log(&folder, "abc").unwrap();
        std::fs::remove_file(&folder).unwrap();
        let verdicts: Vec<_> =
            results.ran.iter().map(|(name, line)| (&**name, line.verdict, line.seconds)).collect();
        let (one, two) = ("[sig-a] one [Conformance]", "[sig-a] two [Conformance]");
        assert_eq!(verdicts, [(one, Verdict::Pass, 1.5), (two, Verdict::Fail, 61.0)]);
    }
}
