//! Counting a probe's results.
use api::k8s::api::core::v1::Probe;

/// Which of a container's three probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProbeKind {
    Startup,
    Liveness,
    Readiness,
}

impl ProbeKind {
    /// As events begin: `Liveness probe failed: …`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
    /// What holds before the first result: alive, but not ready and not yet started.
    pub fn initial(self) -> Option<bool> {
        match self {
            Self::Startup => None,
            Self::Liveness => Some(true),
            Self::Readiness => Some(false),
        }
    }
}

/// Results of one kind in a row.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counter {
    last: Option<bool>,
    run: u32,
}

impl Counter {
    /// Counts a result; returns the verdict if enough results in a row say so.
    pub fn observe(&mut self, success: bool, probe: &Probe) -> Option<bool> {
        if self.last == Some(success) {
            self.run = self.run.saturating_add(1);
        } else {
            self.last = Some(success);
            self.run = 1;
        }
        let limit = if success { probe.success_threshold } else { probe.failure_threshold };
        let usual = if success { 1 } else { 3 };
        let limit = limit.and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0).unwrap_or(usual);
        (self.run >= limit).then_some(success)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds() {
        let probe =
            Probe { failure_threshold: Some(2), success_threshold: Some(3), ..Probe::default() };
        let mut counter = Counter::default();
        let mut seen = |results: &str| -> Vec<Option<bool>> {
            results.chars().map(|c| counter.observe(c == 'y', &probe)).collect()
        };
        assert_eq!(seen("nynn"), [None, None, None, Some(false)]);
        assert_eq!(seen("yyyy"), [None, None, Some(true), Some(true)]);
        let mut counter = Counter::default();
        assert_eq!(counter.observe(true, &Probe::default()), Some(true));
        assert_eq!(counter.observe(false, &Probe::default()), None);
    }
}
