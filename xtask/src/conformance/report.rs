//! Reads what the suite's runner reports, and shows it by group.
use super::ledger::{Groups, Ledger, Line, Verdict};
use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

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
        if !is_test {
            if verdict == Verdict::Fail {
                self.faults.push(reason());
            }
            return;
        }
        let texts = spec["ContainerHierarchyTexts"].as_array().into_iter().flatten();
        let words: Vec<&str> =
            texts.chain(std::iter::once(&spec["LeafNodeText"])).filter_map(Value::as_str).collect();
        let name = words.join(" ");
        let seconds = spec["RunTime"].as_f64().unwrap_or_default() / 1e9;
        if verdict == Verdict::Fail {
            self.reasons.insert(name.clone(), reason());
        }
        self.ran.insert(name, Line { verdict, seconds, commit: commit.to_owned() });
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.ran.extend(other.ran);
        self.reasons.extend(other.reasons);
        self.faults.extend(other.faults);
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
            println!("FAULT of the suite's preparation: {fault}");
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
    }
}
