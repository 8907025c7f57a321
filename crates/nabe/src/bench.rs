//! `nabe bench`: what a hub costs. The parts that are measured run as processes of their own.

mod group;
mod hub;
mod load;
mod process;
pub(crate) mod sink;

pub(crate) use group::run as group;
pub(crate) use hub::run as hub;

use std::time::Duration;

/// The measured value that so many in a hundred do not exceed, in milliseconds.
fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(index).map_or(0.0, |time| time.as_secs_f64() * 1e3)
}
