//! Counters of requests, as Prometheus text.
use crate::request_info::RequestInfo;
use http::{Method, StatusCode};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use value::Text;

/// The label sets that are kept; more are counted together.
const MAX_SERIES: usize = 2000;
const BUCKETS: [f64; 9] = [0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

#[derive(Debug, Default, Clone)]
struct Series {
    count: u64,
    seconds: f64,
    buckets: [u64; BUCKETS.len()],
}

#[derive(Debug, Default)]
pub struct Metrics {
    series: Mutex<HashMap<[Text; 6], Series>>,
}

impl Metrics {
    pub fn request(&self, method: &Method, info: &RequestInfo, status: StatusCode, took: Duration) {
        let verb = if info.is_resource { info.verb.to_uppercase() } else { method.to_string() };
        let mut labels = [
            verb.as_str(),
            &info.group,
            &info.version,
            &info.resource,
            &info.subresource,
            status.as_str(),
        ]
        .map(Text::new);
        let mut all = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        // Paths that are not served must not make series without end.
        if status == StatusCode::NOT_FOUND || all.len() >= MAX_SERIES && !all.contains_key(&labels)
        {
            for label in &mut labels[1..5] {
                *label = Text::default();
            }
        }
        let series = all.entry(labels).or_default();
        let seconds = took.as_secs_f64();
        series.count += 1;
        series.seconds += seconds;
        if let Some(at) = BUCKETS.iter().position(|bound| seconds <= *bound) {
            series.buckets[at] += 1;
        }
    }

    pub fn text(&self) -> String {
        let all = self.series.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let all: BTreeMap<[Text; 6], Series> = all.into_iter().collect();
        let mut out = String::from(
            "# HELP apiserver_request_total Requests by verb, resource and code.\n\
             # TYPE apiserver_request_total counter\n",
        );
        let labels = |l: &[Text; 6]| {
            format!(
                "verb={:?},group={:?},version={:?},resource={:?},subresource={:?},code={:?}",
                l[0], l[1], l[2], l[3], l[4], l[5]
            )
        };
        // Writing to a string cannot fail.
        for (key, series) in &all {
            let _ = writeln!(out, "apiserver_request_total{{{}}} {}", labels(key), series.count);
        }
        out.push_str(
            "# HELP apiserver_request_duration_seconds Time to the response's head.\n\
             # TYPE apiserver_request_duration_seconds histogram\n",
        );
        const NAME: &str = "apiserver_request_duration_seconds";
        for (key, series) in &all {
            let labels = labels(key);
            let mut below = 0;
            for (bound, count) in BUCKETS.iter().zip(series.buckets) {
                below += count;
                let _ = writeln!(out, "{NAME}_bucket{{{labels},le=\"{bound}\"}} {below}");
            }
            let _ = writeln!(out, "{NAME}_bucket{{{labels},le=\"+Inf\"}} {}", series.count);
            let _ = writeln!(out, "{NAME}_sum{{{labels}}} {}", series.seconds);
            let _ = writeln!(out, "{NAME}_count{{{labels}}} {}", series.count);
        }
        out
    }
}
