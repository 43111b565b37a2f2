//! Runs the suite: what may run beside other tests in parallel, then the rest one by one.
//!
//! No test is skipped or patched, and every timeout is upstream's; the run as a whole is bounded,
//! and what a bound cuts off is reported as failed, not left out.
use super::cluster::{Cluster, Own};
use super::ledger::{self, Groups};
use super::report::{self, Results};
use super::{Cache, USAGE};
use crate::{job, shell};
use anyhow::{Context, Result, bail, ensure};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

/// A part of which no test ends for so long is over: what is left of it waits for ever. Upstream's
/// longest test takes nine minutes.
const SILENCE: Duration = Duration::from_secs(15 * 60);
/// Upper bound of each of the two parts.
const BOUND: Duration = Duration::from_secs(4 * 3600);
/// How much later the runner itself is ended, if its own bound does not end it.
const LATER: Duration = Duration::from_secs(60);

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    groups: Vec<String>,
    focus: Option<String>,
    serial: bool,
    procs: Option<u32>,
    against: Option<PathBuf>,
    ledger: Option<PathBuf>,
    keep: bool,
}

impl Options {
    pub(crate) fn parse(args: &[String]) -> Result<Self> {
        let mut options = Self::default();
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            let mut value = || rest.next().cloned().with_context(|| format!("{arg} needs a value"));
            match arg.as_str() {
                "--group" => options.groups.push(value()?),
                "--focus" => options.focus = Some(value()?),
                "--procs" => options.procs = Some(value()?.parse().context("--procs")?),
                "--against" => options.against = Some(value()?.into()),
                "--ledger" => options.ledger = Some(value()?.into()),
                "--serial" => options.serial = true,
                "--keep" => options.keep = true,
                other => bail!("run: what is {other}?\n\n{USAGE}"),
            }
        }
        let both = options.focus.is_some() && !options.groups.is_empty();
        ensure!(!both, "give --group or --focus, not both");
        Ok(options)
    }

    /// The expressions of which a test's name must match one; none: every test.
    fn focus(&self, groups: &Groups) -> Result<Vec<String>> {
        let mut all: Vec<String> = self.focus.iter().cloned().collect();
        for group in &self.groups {
            let names = ledger::in_group(groups, group)?;
            all.extend(names.iter().map(|name| only(name)));
        }
        Ok(all)
    }

    /// A stranger's cluster says nothing of this project, unless it is asked for.
    fn ledger(&self) -> Option<PathBuf> {
        match (&self.ledger, &self.against) {
            (Some(path), _) => Some(path.clone()),
            (None, None) => Some(ledger::own_ledger()),
            (None, Some(_)) => None,
        }
    }
}

/// What is run of the suite, and against what.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// The expressions of which a test's name must match one; none: every test.
    pub(crate) focus: Vec<String>,
    pub(crate) procs: u32,
    /// Of each of the two parts.
    pub(crate) bound: Duration,
    /// The part that is left out.
    pub(crate) without: Option<&'static str>,
    pub(crate) against: Option<PathBuf>,
    pub(crate) keep: bool,
}

pub(crate) fn run(cache: &Cache, options: &Options) -> Result<()> {
    let groups = ledger::groups()?;
    let plan = Plan {
        focus: options.focus(&groups)?,
        procs: options.procs.unwrap_or_else(default_procs).max(1),
        bound: BOUND,
        without: options.serial.then_some("parallel"),
        against: options.against.clone(),
        keep: options.keep,
    };
    let mut results = judge(cache, &groups, &plan)?;
    if !results.interrupted {
        // Nobody ended it: it was still running when the time was over.
        results.ran.append(&mut results.cut);
    }
    // Even if the suite's preparation failed: what ran has run.
    if let Some(path) = options.ledger() {
        ledger::update(&path, &groups, &results.ran)?;
    }
    results.checked()?;
    ensure!(!results.ran.is_empty(), "no test ran: does anything match?");
    ensure!(results.failures() == 0, "{} tests failed", results.failures());
    Ok(())
}

/// Runs the tests, and shows what they said.
pub(crate) fn judge(cache: &Cache, groups: &Groups, plan: &Plan) -> Result<Results> {
    for program in ["e2e.test", "ginkgo", "kubectl"] {
        cache.built(program)?;
    }
    let folder = cache.runs().join(seconds_since_epoch().to_string());
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let commit = commit()?;
    let cluster = match &plan.against {
        Some(kubeconfig) => Cluster::other(kubeconfig)?,
        None => Cluster::Own(Own::start(cache, &folder, plan.keep)?),
    };
    let began = Instant::now();
    let mut results = Results { folder: folder.clone(), ..Results::default() };
    let parts = [
        ("parallel", "Conformance && !Serial", plan.procs),
        ("serial", "Conformance && Serial", 1),
    ];
    for (name, labels, procs) in parts {
        if results.interrupted || plan.without == Some(name) {
            continue;
        }
        let suite = Suite { cache, cluster: &cluster, folder: &folder, plan };
        results.merge(suite.part(name, labels, procs, &commit)?);
    }
    results.show(groups);
    println!("{} s; reports and logs: {}", began.elapsed().as_secs(), folder.display());
    Ok(results)
}

struct Suite<'a> {
    cache: &'a Cache,
    cluster: &'a Cluster,
    folder: &'a Path,
    plan: &'a Plan,
}

impl Suite<'_> {
    /// Runs what the labels select, and reads the report.
    fn part(&self, name: &str, labels: &str, procs: u32, commit: &str) -> Result<Results> {
        let log = self.folder.join(format!("{name}.log"));
        println!("{name} part, {procs} at once: follow it in {}", log.display());
        let output = File::create(&log).with_context(|| format!("{}", log.display()))?;
        let mut command = self.command(name, labels, procs);
        command.stdout(output.try_clone()?).stderr(output);
        // The suite's own bound comes first, and says more.
        let voice = job::Voice { file: &log, patience: SILENCE };
        let deadline = Instant::now() + self.plan.bound + LATER;
        let ended = job::run(&mut command, deadline, Some(voice))?;
        // A failed test is a failed process: the report says more.
        let json = self.folder.join(format!("{name}.json"));
        let mut results = match report::read(&json, commit) {
            Ok(results) => results,
            // It died, or was killed: what it said until then.
            Err(error) => {
                let mut results = report::of_log(&log, commit)?;
                let status = ended.status;
                results.faults.push(format!("{error:#}; ginkgo {status}: see {}", log.display()));
                results
            }
        };
        results.interrupted = ended.interrupted;
        println!("{name} part: {} ran, {} failed", results.ran.len(), results.failures());
        Ok(results)
    }

    fn command(&self, name: &str, labels: &str, procs: u32) -> Command {
        let mut command = self.cluster.command(&self.cache.program("ginkgo"));
        command
            .arg(format!("--procs={procs}"))
            .arg(format!("--label-filter={labels}"))
            .arg(format!("--timeout={}s", self.plan.bound.as_secs()))
            .args(["-v", "--no-color", "--silence-skips", "--show-node-events=false"])
            .arg(format!("--json-report={name}.json"))
            .arg(format!("--junit-report={name}.xml"))
            .arg(format!("--output-dir={}", self.folder.display()));
        for expression in &self.plan.focus {
            command.arg(format!("--focus={expression}"));
        }
        command
            .arg(self.cache.program("e2e.test"))
            .args(["--", "--provider=skeleton", "--minStartupPods=-1"])
            .arg(format!("--kubeconfig={}", self.cluster.kubeconfig().display()))
            .arg(format!("--kubectl-path={}", self.cache.program("kubectl").display()))
            .current_dir(self.folder)
            .env_remove("KUBECONFIG");
        command
    }
}

/// An expression that the one test matches.
pub(crate) fn only(name: &str) -> String {
    format!("{}$", quoted(name))
}

/// A name as a regular expression that matches only itself.
fn quoted(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 16);
    for character in name.chars() {
        if r"\.+*?()|[]{}^$".contains(character) {
            out.push('\\');
        }
        out.push(character);
    }
    out
}

/// Tests mostly wait: a few for each processor.
fn default_procs() -> u32 {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u32::try_from(processors * 4).unwrap_or(8).min(24)
}

fn seconds_since_epoch() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// What is judged; a tree with changes is said to be one.
fn commit() -> Result<String> {
    let root = shell::root();
    let git = |args: &[&str]| shell::output(Command::new("git").args(args).current_dir(&root));
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?.trim().to_owned();
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    let only_ledger = changed.lines().all(|line| line.ends_with("conformance/ledger.tsv"));
    Ok(if only_ledger { commit } else { format!("{commit}+changes") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options> {
        Options::parse(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn names_match_only_themselves() {
        assert_eq!(quoted("[sig-a] a (b) v1.2?"), r"\[sig-a\] a \(b\) v1\.2\?");
    }

    #[test]
    fn options_are_read() {
        let options = parse("--group api:  --procs 3 --serial").map_err(|error| error.to_string());
        assert!(options.is_err_and(|text| text.contains("what is")));
        let options = parse("--group api --procs 3 --serial").expect("a right line");
        assert_eq!((options.groups.as_slice(), options.procs), (&["api".to_owned()][..], Some(3)));
        assert!(options.serial && options.ledger().is_some());
        assert!(parse("--group api --focus x").is_err());
        assert!(parse("--procs many").is_err());
        let other = parse("--against some.kubeconfig").expect("a right line");
        assert_eq!(other.ledger(), None);
    }
}
