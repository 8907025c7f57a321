//! How much is left: by the plan's estimate, corrected by how long what is done really took.

use std::time::{Duration, Instant};

use crate::cell::Cell;
use crate::plan::{Plan, Settings};
use crate::record::Run;

pub(super) struct Progress<'a> {
    plan: &'a Plan,
    settings: Settings,
    begun: Instant,
    /// What was left at the beginning, by the estimate.
    left_at_first: Option<Duration>,
    pub(super) cells: usize,
}

impl<'a> Progress<'a> {
    #[expect(clippy::disallowed_methods, reason = "whoever waits does so in real time")]
    pub(super) fn new(plan: &'a Plan, settings: &Settings) -> Self {
        Self {
            plan,
            settings: settings.clone(),
            begun: Instant::now(),
            left_at_first: None,
            cells: plan.cells(),
        }
    }

    /// Cells of the plan that have been dealt with.
    pub(super) fn done(&self, run: &Run) -> usize {
        self.cells - self.left(run).count()
    }

    /// To be asked after each cell.
    pub(super) fn remaining(&mut self, run: &Run) -> Duration {
        let left: Duration = self.estimates(run).sum();
        let at_first = *self.left_at_first.get_or_insert(left);
        let spent = at_first.saturating_sub(left);
        corrected(left, spent, self.begun.elapsed())
    }

    fn left<'s>(&'s self, run: &'s Run) -> impl Iterator<Item = Cell> + 's {
        let cells = self.plan.groups.iter().flat_map(|group| {
            group.operations.iter().map(|&operation| Cell {
                group: group.group.clone(),
                operation,
            })
        });
        cells.filter(|cell| !run.has(cell))
    }

    fn estimates<'s>(&'s self, run: &'s Run) -> impl Iterator<Item = Duration> + 's {
        let whole = self.plan.groups.iter().filter(|group| {
            let begun = run.cells.iter().any(|record| record.cell.group == group.group);
            !begun
        });
        let preparations = whole.map(|group| group.group.preparation_estimate());
        let cells = self
            .left(run)
            .map(|cell| cell.group.cell_estimate(cell.operation, &self.settings));
        preparations.chain(cells)
    }
}

/// What is left by the estimate, at the pace seen so far; the first seconds say little of it.
fn corrected(left: Duration, spent: Duration, elapsed: Duration) -> Duration {
    let trust = 20.0;
    let pace = (elapsed.as_secs_f64() + trust) / (spent.as_secs_f64() + trust);
    Duration::from_secs_f64(left.as_secs_f64() * pace.clamp(0.05, 20.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_so_far_corrects_what_is_left() {
        let seconds = Duration::from_secs;
        assert_eq!(corrected(seconds(100), seconds(0), seconds(0)), seconds(100));
        let slow = corrected(seconds(100), seconds(100), seconds(220));
        assert_eq!(slow, seconds(200));
        assert!(corrected(seconds(100), seconds(1000), seconds(0)) < seconds(100));
    }
}
