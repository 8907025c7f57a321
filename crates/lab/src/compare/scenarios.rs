//! What changed in the scenarios that both runs played: each kind of step in each phase, and what a phase used.

use std::fmt;

use super::{Verdict, changed, verdict, write_times};
use crate::record::Run;
use crate::scenario::record::{USED, Way};
use crate::scenario::{Kind, PhaseRecord, ScenarioRecord};
use crate::stats::{Summary, summarize};

/// Two runs' scenarios.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scenarios {
    /// The times of steps that both took, the greatest slowdown first.
    pub steps: Vec<StepChange>,
    /// What phases used that differs by more than a hundredth, in the order of the second run. Bytes hardly change by chance; CPU time does, and a phase has one value of
    /// it, so nothing is made of it.
    pub used: Vec<UsedChange>,
    /// Scenarios that one of the runs did not play that way, or played from another file.
    pub unmatched: Vec<String>,
}

/// Where in a run something was done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place {
    /// The scenario's name.
    pub scenario: String,
    /// By what it was played.
    pub way: Way,
    /// The phase's name.
    pub phase: String,
}

/// A kind of step of one phase.
#[derive(Clone, Debug, PartialEq)]
pub struct StepChange {
    /// Where.
    pub place: Place,
    /// What was done.
    pub kind: Kind,
    /// `accepted`, or `followed`.
    pub until: &'static str,
    /// Times in the first run, in nanoseconds.
    pub before: Summary,
    /// And in the second.
    pub after: Summary,
    /// What to make of it.
    pub verdict: Verdict,
}

/// What a phase used, divided by its steps; of an idle one, for an hour.
#[derive(Clone, Debug, PartialEq)]
pub struct UsedChange {
    /// Where.
    pub place: Place,
    /// One of [`USED`].
    pub what: &'static str,
    /// In the first run.
    pub before: f64,
    /// In the second.
    pub after: f64,
}

impl Scenarios {
    pub(super) fn compare(before: &Run, after: &Run) -> Self {
        let mut all = Self::default();
        for new in &after.scenarios {
            match before.scenarios.iter().find(|old| is_same(old, new)) {
                Some(old) => all.add(old, new),
                None => all.unmatched.push(name(new)),
            }
        }
        let only_before = before
            .scenarios
            .iter()
            .filter(|old| !after.scenarios.iter().any(|new| is_same(old, new)));
        for old in only_before.map(name) {
            if !all.unmatched.contains(&old) {
                all.unmatched.push(old);
            }
        }
        all.steps.sort_by(|one, other| other.ratio().total_cmp(&one.ratio()));
        all
    }

    /// Whether neither run played any.
    pub(super) fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.used.is_empty() && self.unmatched.is_empty()
    }

    fn add(&mut self, old: &ScenarioRecord, new: &ScenarioRecord) {
        for (was, is) in old.phases.iter().zip(&new.phases) {
            let place = Place {
                scenario: new.scenario.name.clone(),
                way: new.way,
                phase: is.name.clone(),
            };
            for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Idle) {
                self.steps.extend(steps(&place, kind, was, is));
            }
            self.used.extend(used(&place, was, is));
        }
        if old.phases.len() != new.phases.len() {
            self.unmatched.push(name(new));
        }
    }
}

impl StepChange {
    /// After divided by before.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.after.median / self.before.median.max(1.0)
    }
}

/// Why a run's scenarios are not to be trusted, if so.
pub(super) fn caveat(which: &str, run: &Run) -> Option<String> {
    let is_slow = run.scenarios.iter().any(|record| record.build != "release");
    let is_busy = |record: &&ScenarioRecord| {
        record
            .load_before
            .is_some_and(|load| load > f64::from(run.machine.cores))
    };
    let busy = run.scenarios.iter().filter(is_busy).count();
    match (is_slow, busy) {
        (true, _) => Some(format!("the {which} run's scenarios were played by a debug build")),
        (false, 0) => None,
        (false, busy) => Some(format!(
            "in the {which} run other work kept the machine busy before {busy} of its scenarios"
        )),
    }
}

/// The same steps in the same order, by the same way.
fn is_same(old: &ScenarioRecord, new: &ScenarioRecord) -> bool {
    old.way == new.way && old.scenario == new.scenario
}

fn name(record: &ScenarioRecord) -> String {
    format!("{} ({})", record.scenario.name, record.way.name())
}

fn steps(place: &Place, kind: Kind, was: &PhaseRecord, is: &PhaseRecord) -> Vec<StepChange> {
    let (old_accepted, old_followed) = was.times(kind);
    let (accepted, followed) = is.times(kind);
    let both = [
        ("accepted", old_accepted, accepted),
        ("followed", old_followed, followed),
    ];
    let change = |(until, old, new): (&'static str, Vec<u64>, Vec<u64>)| {
        let (before, after) = (times(&old)?, times(&new)?);
        Some(StepChange {
            place: place.clone(),
            kind,
            until,
            before,
            after,
            verdict: verdict(&before, &after),
        })
    };
    both.into_iter().filter_map(change).collect()
}

fn times(ns: &[u64]) -> Option<Summary> {
    summarize(&ns.iter().map(|ns| *ns as f64).collect::<Vec<_>>())
}

fn used(place: &Place, was: &PhaseRecord, is: &PhaseRecord) -> Vec<UsedChange> {
    let change = |(what, _): (&'static str, &str)| {
        let (before, after) = (was.each(what)?, is.each(what)?);
        let is_changed = (before - after).abs() * 100.0 > before;
        is_changed.then(|| UsedChange {
            place: place.clone(),
            what,
            before,
            after,
        })
    };
    USED.into_iter().filter_map(change).collect()
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.scenario, self.way.name(), self.phase)
    }
}

impl fmt::Display for Scenarios {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdicts: Vec<_> = self.steps.iter().map(|change| change.verdict).collect();
        writeln!(f, "{} kinds of steps in both: {}", verdicts.len(), changed(&verdicts))?;
        for unmatched in &self.unmatched {
            writeln!(
                f,
                "note: {unmatched} was not played to its end in both, or not from the same file"
            )?;
        }
        let is_said = |change: &&StepChange| matches!(change.verdict, Verdict::Slower | Verdict::Faster);
        for change in self.steps.iter().filter(is_said) {
            write_times(f, change.verdict, &change.before, &change.after)?;
            writeln!(f, "{}/{} {}", change.place, change.kind.name(), change.until)?;
        }
        for change in &self.used {
            let (shown, note): (fn(f64) -> String, _) = match change.what.ends_with("-ns") {
                true => (crate::report::time, " (measured once in each: it may be chance)"),
                false => (crate::report::size, ""),
            };
            let (before, after) = (shown(change.before), shown(change.after));
            writeln!(f, "{}: {} {before} → {after}{note}", change.place, change.what)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Status;
    use crate::scenario::{Phase, Scenario, StepRecord};

    fn played(way: Way, accepted_ns: u64, bytes: u64) -> ScenarioRecord {
        let scenario = Scenario {
            name: "words".to_owned(),
            about: String::new(),
            seed: 1,
            members: 3,
            live: 2,
            phases: vec![Phase::default()],
        };
        let step = |number| StepRecord {
            kind: Kind::Message,
            accepted_ns: accepted_ns + number,
            followed_ns: 1_000_000 + number,
        };
        ScenarioRecord {
            scenario,
            way,
            build: "release".to_owned(),
            status: Status::Measured,
            reason: None,
            phases: vec![PhaseRecord {
                name: "all".to_owned(),
                used: [
                    ("to-hub-bytes".to_owned(), 20 * bytes),
                    ("hub-cpu-ns".to_owned(), 20_000_000),
                ]
                .into(),
                steps: (0..20).map(step).collect(),
                ..PhaseRecord::default()
            }],
            load_before: None,
            load_after: None,
        }
    }

    fn compared(before: Vec<ScenarioRecord>, after: Vec<ScenarioRecord>) -> Scenarios {
        let run = |scenarios| Run {
            scenarios,
            ..crate::record::tests::nothing()
        };
        Scenarios::compare(&run(before), &run(after))
    }

    #[test]
    fn steps_that_take_longer_and_bytes_that_are_more_are_named() {
        let changes = compared(vec![played(Way::Lm, 100_000, 300)], vec![played(Way::Lm, 200_000, 400)]);
        let said = changes.to_string();
        assert_eq!(
            said.lines().collect::<Vec<_>>(),
            [
                "2 kinds of steps in both: 1 slower, 0 faster, 1 the same within noise, 0 with too few samples",
                "slower  ×2.00   100 µs → 200 µs  words/lm/all/message accepted",
                "words/lm/all: to-hub-bytes 300 B → 400 B",
            ]
        );
    }

    #[test]
    fn what_was_played_another_way_or_from_another_file_is_not_compared() {
        let mut other = played(Way::Mimi, 1, 1);
        other.scenario.seed = 2;
        let changes = compared(
            vec![played(Way::Lm, 1, 1), played(Way::Mimi, 1, 1)],
            vec![played(Way::Library, 1, 1), other],
        );
        assert_eq!((changes.steps.len(), changes.used.len()), (0, 0));
        assert_eq!(changes.unmatched, ["words (library)", "words (mimi)", "words (lm)"]);
        assert!(compared(Vec::new(), Vec::new()).is_empty());
    }
}
