//! The results: a table for people, JSON for programs, each number beside its target.
use crate::machine::Machine;
use crate::stats::Samples;
use serde::Serialize;
use std::fmt::Write;

pub(crate) const KYBERN: &str = "kybern";
pub(crate) const UPSTREAM: &str = "upstream";

/// Where Kybern must stand. Upstream has no target: it is one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Target {
    None,
    /// The median is no more than this.
    P50(f64),
    /// The median and the 99th percentile are no more than these.
    Both(f64, f64),
    /// So many per second at least.
    PerSecond(f64),
    /// So many times upstream's rate.
    Rate(f64),
    /// So many times less than upstream's median.
    Latency(f64),
}

#[derive(Debug, Serialize)]
pub(crate) struct Measure {
    row: &'static str,
    case: String,
    who: &'static str,
    n: usize,
    p50: f64,
    p99: f64,
    unit: &'static str,
    /// Operations per second, where that was measured.
    per_second: Option<f64>,
    #[serde(skip)]
    target: Target,
}

impl Measure {
    pub(crate) fn new(
        row: &'static str,
        case: impl Into<String>,
        who: &'static str,
        samples: &Samples,
        unit: &'static str,
    ) -> Self {
        Self {
            row,
            case: case.into(),
            who,
            n: samples.len(),
            p50: samples.percentile(50.0),
            p99: samples.percentile(99.0),
            unit,
            per_second: None,
            target: Target::None,
        }
    }
    #[must_use]
    pub(crate) fn rate(mut self, per_second: f64) -> Self {
        self.per_second = Some(per_second);
        self
    }
    #[must_use]
    pub(crate) fn target(mut self, target: Target) -> Self {
        self.target = target;
        self
    }
}

pub(crate) struct Report {
    machine: Machine,
    measures: Vec<Measure>,
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    measure: &'a Measure,
    target: Option<String>,
    met: Option<bool>,
    /// How many times better than upstream in this run.
    times_upstream: Option<f64>,
}

impl Report {
    pub(crate) fn new(machine: Machine) -> Self {
        Self { machine, measures: Vec::new() }
    }
    /// Keeps a result, and tells of it at once.
    pub(crate) fn add(&mut self, measure: Measure) {
        let rate = measure.per_second.map(|rate| format!(", {rate:.0}/s")).unwrap_or_default();
        eprintln!(
            "  {} {}: {}: p50 {} p99 {} {}, n {}{rate}",
            measure.who,
            measure.row,
            measure.case,
            number(measure.p50),
            number(measure.p99),
            measure.unit,
            measure.n,
        );
        self.measures.push(measure);
    }
    fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        self.measures.iter().map(|measure| {
            let peer = self.peer_of(measure);
            Line {
                measure,
                target: (measure.who == KYBERN).then(|| describe(measure)).flatten(),
                met: (measure.who == KYBERN).then(|| met(measure, peer)).flatten(),
                times_upstream: peer.and_then(|peer| times(measure, peer)),
            }
        })
    }
    fn peer_of(&self, measure: &Measure) -> Option<&Measure> {
        let same = |other: &&Measure| {
            other.who == UPSTREAM && (other.row, &other.case) == (measure.row, &measure.case)
        };
        self.measures.iter().find(same).filter(|_| measure.who == KYBERN)
    }
    pub(crate) fn json(&self) -> serde_json::Result<Vec<u8>> {
        #[derive(Serialize)]
        struct Document<'a> {
            machine: &'a Machine,
            rows: Vec<Line<'a>>,
        }
        serde_json::to_vec_pretty(&Document {
            machine: &self.machine,
            rows: self.lines().collect(),
        })
    }
    pub(crate) fn table(&self) -> String {
        let machine = &self.machine;
        let mut rows = vec![
            ["ROW", "WHO", "N", "P50", "P99", "UNIT", "PER SECOND", "TARGET", "", "X UPSTREAM"]
                .map(str::to_owned),
        ];
        rows.extend(self.lines().map(|line| {
            let measure = line.measure;
            [
                format!("{}: {}", measure.row, measure.case),
                measure.who.to_owned(),
                measure.n.to_string(),
                number(measure.p50),
                number(measure.p99),
                measure.unit.to_owned(),
                measure.per_second.map(number).unwrap_or_default(),
                line.target.unwrap_or_default(),
                line.met
                    .map(|met| if met { "met" } else { "missed" }.to_owned())
                    .unwrap_or_default(),
                line.times_upstream.map(number).unwrap_or_default(),
            ]
        }));
        let mut out = format!(
            "{} ({}), {} cores, {} MB, Linux {}, a durable 4 KiB write {} ms, load before {}\n\n",
            machine.version,
            machine.commit,
            machine.cores,
            machine.memory_mb,
            machine.kernel,
            number(machine.sync_p50_ms),
            machine.load,
        );
        let mut widths = [0; 10];
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for row in &rows {
            let mut line = String::new();
            for (width, cell) in widths.iter().zip(row) {
                let _ = write!(line, "{cell:<width$}  ");
            }
            out += line.trim_end();
            out.push('\n');
        }
        out
    }
}

fn describe(measure: &Measure) -> Option<String> {
    let unit = measure.unit;
    match measure.target {
        Target::None => None,
        Target::P50(most) => Some(format!("<= {} {unit}", number(most))),
        Target::Both(p50, p99) => {
            Some(format!("p50 <= {}, p99 <= {} {unit}", number(p50), number(p99)))
        }
        Target::PerSecond(least) => Some(format!(">= {}/s", number(least))),
        Target::Rate(times) | Target::Latency(times) => {
            Some(format!(">= {} x upstream", number(times)))
        }
    }
}

fn met(measure: &Measure, peer: Option<&Measure>) -> Option<bool> {
    match measure.target {
        Target::None => None,
        Target::P50(most) => Some(measure.p50 <= most),
        Target::Both(p50, p99) => Some(measure.p50 <= p50 && measure.p99 <= p99),
        Target::PerSecond(least) => Some(measure.per_second? >= least),
        Target::Rate(least) | Target::Latency(least) => Some(times(measure, peer?)? >= least),
    }
}

fn times(measure: &Measure, peer: &Measure) -> Option<f64> {
    let by_rate = matches!(measure.target, Target::Rate(_));
    let ratio = match (measure.per_second, peer.per_second) {
        (Some(ours), Some(theirs)) if by_rate => ours / theirs,
        _ => peer.p50 / measure.p50,
    };
    ratio.is_finite().then_some(ratio)
}

/// Three digits that matter.
fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 || v == v.trunc() => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measure(who: &'static str, p50: f64, rate: f64, target: Target) -> Measure {
        Measure::new("row", "case", who, &Samples::from(p50), "ms").rate(rate).target(target)
    }

    #[test]
    fn a_target_is_judged_alone_or_against_the_peer() {
        let peer = measure(UPSTREAM, 30.0, 100.0, Target::None);
        let judge = |target| met(&measure(KYBERN, 10.0, 250.0, target), Some(&peer));
        assert_eq!(judge(Target::None), None);
        assert_eq!(judge(Target::P50(9.0)), Some(false));
        assert_eq!(judge(Target::Both(10.0, 10.0)), Some(true));
        assert_eq!(judge(Target::Both(10.0, 9.0)), Some(false));
        assert_eq!(judge(Target::PerSecond(250.0)), Some(true));
        assert_eq!(judge(Target::PerSecond(251.0)), Some(false));
        assert_eq!(judge(Target::Rate(2.5)), Some(true));
        assert_eq!(judge(Target::Rate(2.6)), Some(false));
        assert_eq!(judge(Target::Latency(3.0)), Some(true));
        assert_eq!(met(&measure(KYBERN, 1.0, 1.0, Target::Rate(1.0)), None), None);
    }

    #[test]
    fn numbers_are_short() {
        let short = [1234.5, 12.34, 1.234, 0.1234, 60.0].map(number);
        assert_eq!(short, ["1234", "12.3", "1.23", "0.123", "60"]);
    }
}
