//! The worker's clock: times spans of work, and counts what they allocate and how long they waited for a processor.

use std::fs;
use std::time::{Duration, Instant};

use nabe_allocations::Span;

use crate::protocol::Sample;

/// Adds up the timed parts of one sample.
#[derive(Debug, Default)]
pub struct Stopwatch {
    time: Duration,
    waited_ns: Option<u64>,
    allocations: u64,
    peak_bytes: u64,
    divisor: u64,
    counts_allocations: bool,
}

impl Stopwatch {
    /// A stopwatch at zero.
    #[must_use]
    pub fn new(counts_allocations: bool) -> Self {
        Self {
            divisor: 1,
            waited_ns: Some(0),
            counts_allocations,
            ..Self::default()
        }
    }

    /// Does something and adds what it took. What it returns is dropped by the caller, outside of the time.
    #[expect(clippy::disallowed_methods, reason = "a stopwatch measures")]
    pub fn time<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let waited = waited_ns();
        let span = Span::begin();
        let start = Instant::now();
        let result = work();
        self.time += start.elapsed();
        let allocations = span.end();
        self.allocations += allocations.count;
        self.peak_bytes = self.peak_bytes.max(allocations.peak_bytes);
        self.waited_ns = match (self.waited_ns, waited, waited_ns()) {
            (Some(sum), Some(before), Some(after)) => Some(sum + after.saturating_sub(before)),
            _ => None,
        };
        result
    }

    /// What was timed was the same so many times: the sample is the mean.
    pub fn divide(&mut self, by: u32) {
        self.divisor = u64::from(by.max(1));
    }

    /// What it shows.
    #[must_use]
    pub fn sample(&self) -> Sample {
        let ns = u64::try_from(self.time.as_nanos()).unwrap_or(u64::MAX);
        Sample {
            ns: ns / self.divisor,
            waited_ns: self.waited_ns.map(|waited| waited / self.divisor),
            allocations: self.counts_allocations.then_some(self.allocations / self.divisor),
            peak_bytes: self.counts_allocations.then_some(self.peak_bytes),
        }
    }
}

/// How long this thread has been ready to run without running, in nanoseconds: the second number of `schedstat` (Linux).
fn waited_ns() -> Option<u64> {
    waited_in(&fs::read_to_string("/proc/thread-self/schedstat").ok()?)
}

fn waited_in(schedstat: &str) -> Option<u64> {
    schedstat.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_add_up_and_are_divided() {
        let mut watch = Stopwatch::new(false);
        let sum = watch.time(|| (0..1000_u64).map(std::hint::black_box).sum::<u64>());
        assert_eq!(sum, 499_500);
        let once = watch.sample();
        assert!(once.ns > 0 && once.allocations.is_none());
        watch.divide(1000);
        assert_eq!(watch.sample().ns, once.ns / 1000);
    }

    #[test]
    fn the_wait_is_the_second_number() {
        assert_eq!(waited_in("1000 250 3\n"), Some(250));
        assert_eq!(waited_in(""), None);
    }
}
