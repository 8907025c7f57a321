//! What changed between two runs, beyond what chance explains.

mod scenarios;

use std::fmt;

pub use self::scenarios::{Place, Scenarios, StepChange, UsedChange};
use crate::cell::Cell;
use crate::record::Run;
use crate::stats::Summary;

/// Two runs, cell by cell, and scenario by scenario.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Why the runs are not alike, if they are not: machine, build, load.
    pub caveats: Vec<String>,
    /// The cells that both measured, the greatest slowdown first.
    pub changes: Vec<Change>,
    /// Cells that only one of them measured.
    pub unmatched: usize,
    /// What they played.
    pub scenarios: Scenarios,
}

/// A cell in both runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Which.
    pub cell: Cell,
    /// Times in the first run, in nanoseconds.
    pub before: Summary,
    /// And in the second.
    pub after: Summary,
    /// What to make of it.
    pub verdict: Verdict,
    /// Sizes that differ by more than a hundredth: name, before, after.
    pub bytes: Vec<(String, u64, u64)>,
}

/// Whether two medians differ.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The second is slower: the confidence intervals do not meet, and the medians differ by more than 5 %.
    Slower,
    /// The second is faster.
    Faster,
    /// It may be chance.
    Same,
    /// There are too few samples in one of them to say.
    Unsure,
}

impl Change {
    /// After divided by before.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.after.median / self.before.median.max(1.0)
    }
}

/// Compares two runs.
#[must_use]
pub fn compare(before: &Run, after: &Run) -> Comparison {
    let mut changes = Vec::new();
    let mut unmatched = 0;
    for new in &after.cells {
        let old = before.cells.iter().find(|old| old.cell == new.cell);
        match (old.and_then(|old| old.summary()), new.summary(), old) {
            (Some(was), Some(is), Some(old)) => changes.push(Change {
                cell: new.cell.clone(),
                before: was,
                after: is,
                verdict: verdict(&was, &is),
                bytes: changed_bytes(&old.bytes, &new.bytes),
            }),
            (None, Some(_), _) | (Some(_), None, _) => unmatched += 1,
            _ => {}
        }
    }
    let only_before = before
        .cells
        .iter()
        .filter(|old| !old.samples.is_empty() && !after.has(&old.cell));
    unmatched += only_before.count();
    changes.sort_by(|one, other| other.ratio().total_cmp(&one.ratio()));
    Comparison {
        caveats: caveats(before, after),
        changes,
        unmatched,
        scenarios: Scenarios::compare(before, after),
    }
}

fn verdict(before: &Summary, after: &Summary) -> Verdict {
    if before.confidence.min(after.confidence) < 0.9 {
        return Verdict::Unsure;
    }
    if after.low > before.high && after.median > before.median * NOTICEABLE {
        return Verdict::Slower;
    }
    if after.high < before.low && before.median > after.median * NOTICEABLE {
        return Verdict::Faster;
    }
    Verdict::Same
}

type Sizes = std::collections::BTreeMap<String, u64>;

fn changed_bytes(before: &Sizes, after: &Sizes) -> Vec<(String, u64, u64)> {
    let both = before
        .iter()
        .filter_map(|(name, &old)| Some((name.clone(), old, *after.get(name)?)));
    both.filter(|&(_, old, new)| old.abs_diff(new) * 100 > old).collect()
}

fn caveats(before: &Run, after: &Run) -> Vec<String> {
    let mut caveats = Vec::new();
    let mut differ = |what: &str, one: &str, other: &str| {
        if one != other {
            caveats.push(format!("{what} differs: {one}, then {other}"));
        }
    };
    differ("the processor", &before.machine.processor, &after.machine.processor);
    differ("the kernel", &before.machine.kernel, &after.machine.kernel);
    for new in &after.workers {
        let old = before
            .workers
            .iter()
            .find(|old| old.implementation == new.implementation);
        let Some(old) = old else { continue };
        for (name, version) in &new.versions {
            differ(
                &format!("{name}'s version"),
                old.versions.get(name).map_or("none", |old| old),
                version,
            );
        }
        differ("the build", &old.build, &new.build);
        differ(
            "the number of threads",
            &old.threads.to_string(),
            &new.threads.to_string(),
        );
    }
    for (which, run) in [("first", before), ("second", after)] {
        let busy = run.busy_share();
        if busy > 0.1 {
            caveats.push(format!(
                "in the {which} run other work kept the machine busy for {:.0} % of the cells",
                busy * 100.0
            ));
        }
    }
    for (which, run) in [("first", before), ("second", after)] {
        caveats.extend(scenarios::caveat(which, run));
    }
    caveats
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for caveat in &self.caveats {
            writeln!(f, "note: {caveat}")?;
        }
        if self.scenarios.is_empty() || !self.changes.is_empty() || self.unmatched > 0 {
            self.write_cells(f)?;
        }
        match self.scenarios.is_empty() {
            true => Ok(()),
            false => write!(f, "{}", self.scenarios),
        }
    }
}

impl Comparison {
    fn write_cells(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdicts: Vec<_> = self.changes.iter().map(|change| change.verdict).collect();
        let (both, only) = (verdicts.len(), self.unmatched);
        writeln!(f, "{both} cells in both: {}; {only} in one only", changed(&verdicts))?;
        let said =
            |change: &&Change| matches!(change.verdict, Verdict::Slower | Verdict::Faster) || !change.bytes.is_empty();
        for change in self.changes.iter().filter(said) {
            write_times(f, change.verdict, &change.before, &change.after)?;
            write!(f, "{}", change.cell)?;
            for (name, before, after) in &change.bytes {
                write!(f, "; {name} {before} → {after} bytes")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// How many of what, in words.
fn changed(verdicts: &[Verdict]) -> String {
    let count = |wanted| verdicts.iter().filter(|verdict| **verdict == wanted).count();
    format!(
        "{} slower, {} faster, {} the same within noise, {} with too few samples",
        count(Verdict::Slower),
        count(Verdict::Faster),
        count(Verdict::Same),
        count(Verdict::Unsure)
    )
}

/// The beginning of a line, up to the name of what was timed.
fn write_times(f: &mut fmt::Formatter<'_>, verdict: Verdict, before: &Summary, after: &Summary) -> fmt::Result {
    let word = match verdict {
        Verdict::Slower => "slower",
        Verdict::Faster => "faster",
        Verdict::Same | Verdict::Unsure => "",
    };
    write!(
        f,
        "{word:6}  ×{:<6.2} {} → {}  ",
        after.median / before.median.max(1.0),
        crate::report::time(before.median),
        crate::report::time(after.median)
    )
}

/// Below this ratio of medians a difference is not worth a word, however sure it is.
const NOTICEABLE: f64 = 1.05;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::summarize;

    fn summary(around: f64, spread: f64, count: i32) -> Summary {
        let samples: Vec<f64> = (0..count).map(|i| around + spread * f64::from(i - count / 2)).collect();
        summarize(&samples).unwrap()
    }

    #[test]
    fn only_what_is_sure_and_noticeable_is_a_change() {
        let base = summary(100.0, 0.1, 20);
        assert_eq!(verdict(&base, &summary(110.0, 0.1, 20)), Verdict::Slower);
        assert_eq!(verdict(&summary(110.0, 0.1, 20), &base), Verdict::Faster);
        assert_eq!(verdict(&base, &summary(103.0, 0.1, 20)), Verdict::Same);
        assert_eq!(verdict(&base, &summary(110.0, 10.0, 20)), Verdict::Same);
        assert_eq!(verdict(&base, &summary(200.0, 0.1, 3)), Verdict::Unsure);
    }

    #[test]
    fn sizes_that_moved_are_named() {
        let sizes = |commit| Sizes::from([("commit".to_owned(), commit)]);
        assert_eq!(changed_bytes(&sizes(1000), &sizes(1005)), []);
        assert_eq!(
            changed_bytes(&sizes(1000), &sizes(1200)),
            [("commit".to_owned(), 1000, 1200)]
        );
    }
}
