//! `nabe bench`: what a hub costs. The parts that are measured run as processes of their own.

mod group;
mod hub;
mod load;
mod mimi;
pub(crate) mod mls;
mod process;
pub(crate) mod sink;

pub(crate) use group::run as group;

use std::{
    process::Child,
    time::{Duration, Instant},
};

use crate::cli::{BenchHub, BenchProtocol};

/// `nabe bench hub`.
pub(crate) async fn hub(arguments: &BenchHub) -> anyhow::Result<()> {
    match arguments.protocol {
        BenchProtocol::Lm => hub::run(arguments).await,
        BenchProtocol::Mimi => mimi::run(arguments).await,
    }
}

/// A child process that ends with us.
struct Process(Child);

impl Process {
    fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn now() -> Instant {
    Instant::now()
}

/// The measured value that so many in a hundred do not exceed, in milliseconds.
fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(index).map_or(0.0, |time| time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_measured_value_that_so_many_do_not_exceed() {
        let sorted: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!((percentile(&sorted, 50), percentile(&sorted, 99)), (50.0, 99.0));
        assert_eq!(percentile(&sorted[..1], 99), 1.0);
        assert_eq!(percentile(&[], 50), 0.0);
    }
}
