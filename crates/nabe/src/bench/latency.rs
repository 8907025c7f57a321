//! How long things took: what so many of a hundred did not exceed.

use std::time::Duration;

use serde::Serialize;

use crate::output::say;

/// Of many measured times, milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Latency {
    pub(super) p50_ms: f64,
    p90_ms: f64,
    pub(super) p99_ms: f64,
    p99_9_ms: f64,
    pub(super) max_ms: f64,
}

impl Latency {
    pub(super) fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self {
            p50_ms: percentile(&times, 50.0),
            p90_ms: percentile(&times, 90.0),
            p99_ms: percentile(&times, 99.0),
            p99_9_ms: percentile(&times, 99.9),
            max_ms: percentile(&times, 100.0),
        }
    }

    /// A line of the text form; `what` is at its beginning.
    pub(super) fn print(&self, what: &str) {
        let Self {
            p50_ms,
            p90_ms,
            p99_ms,
            p99_9_ms,
            max_ms,
        } = self;
        say!(
            "  {what:<25} p50 {p50_ms:.1}, p90 {p90_ms:.1}, p99 {p99_ms:.1}, p99.9 {p99_9_ms:.1}, at most {max_ms:.1} ms"
        );
    }
}

/// The measured value that so many in a hundred do not exceed, in milliseconds.
pub(super) fn percentile(sorted: &[Duration], percent: f64) -> f64 {
    let index = ((sorted.len() as f64 * percent / 100.0).ceil() as usize).saturating_sub(1);
    sorted.get(index).map_or(0.0, |time| time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_measured_value_that_so_many_do_not_exceed() {
        let sorted: Vec<Duration> = (1..=1000).map(Duration::from_millis).collect();
        let asked = [50.0, 90.0, 99.0, 99.9, 100.0].map(|percent| percentile(&sorted, percent));
        assert_eq!(asked, [500.0, 900.0, 990.0, 999.0, 1000.0]);
        assert_eq!(percentile(&sorted[..1], 99.0), 1.0);
        assert_eq!(percentile(&[], 50.0), 0.0);
    }

    #[test]
    fn times_need_not_come_sorted() {
        let times = [3, 1, 2].map(Duration::from_millis);
        let latency = Latency::of(times.to_vec());
        assert_eq!((latency.p50_ms, latency.p99_9_ms, latency.max_ms), (2.0, 3.0, 3.0));
    }
}
