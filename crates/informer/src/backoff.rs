//! Waits that double up to a bound, with jitter, so that many who fail together come apart.
use std::time::Duration;

#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    failures: u32,
}

impl Backoff {
    pub fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, failures: 0 }
    }
    pub fn reset(&mut self) {
        self.failures = 0;
    }
    /// How long to wait after one more failure: between half and all of the doubled wait.
    pub fn next_wait(&mut self) -> Duration {
        let wait = exponential(self.first, self.most, self.failures);
        self.failures = self.failures.saturating_add(1);
        wait.mul_f64(rand::random_range(0.5..=1.0))
    }
}

/// `first * 2^n`, at most `most`.
pub(crate) fn exponential(first: Duration, most: Duration, n: u32) -> Duration {
    first.checked_mul(1u32.checked_shl(n.min(30)).unwrap_or(u32::MAX)).unwrap_or(most).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_bound() {
        let (first, most) = (Duration::from_millis(5), Duration::from_secs(60));
        let waits: Vec<u128> = [0, 1, 4, 13, 14, 40, u32::MAX]
            .iter()
            .map(|n| exponential(first, most, *n).as_millis())
            .collect();
        assert_eq!(waits, [5, 10, 80, 40960, 60000, 60000, 60000]);
    }
}
