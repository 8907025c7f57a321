//! A scenario by the library alone: OpenMLS's members and Nabe's hub group in one process, and nothing between them. What is left out, storage of
//! servers, signatures around MLS, HTTP and TLS, is what the other ways show.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{Kind, PhaseRecord, Scenario, StepRecord};
use crate::group::Rehearsal;
use crate::openmls::{OpenMlsWith, WithRustCrypto};
use crate::worker::Failure;

/// Plays a scenario.
///
/// # Errors
/// What went wrong; the phases before it.
pub fn play(scenario: &Scenario) -> Result<Vec<PhaseRecord>, (Failure, Vec<PhaseRecord>)> {
    let mut phases = Vec::new();
    match play_into(scenario, &mut phases) {
        Ok(()) => Ok(phases),
        Err(failure) => Err((failure, phases)),
    }
}

fn play_into(scenario: &Scenario, phases: &mut Vec<PhaseRecord>) -> Result<(), Failure> {
    let mut group = Rehearsal::<OpenMlsWith<WithRustCrypto>>::new(scenario)?;
    for (phase, steps) in scenario.phases.iter().zip(scenario.steps()) {
        let mut newcomers = group.newcomers(phase.newcomers())?;
        let mut record = PhaseRecord {
            name: phase.name.clone(),
            ..PhaseRecord::default()
        };
        let mut sum = Played::default();
        let start = now();
        for step in steps {
            let count = match step.kind {
                Kind::Join => 1,
                Kind::Add => step.amount as usize,
                _ => 0,
            };
            let played = match step.kind {
                // Nothing costs nothing here.
                Kind::Idle => Played::default(),
                Kind::Message => group.message(step.by, step.amount as usize)?,
                Kind::Join => group.join(newcomers.drain(..count))?,
                Kind::Add => group.commit(0, newcomers.drain(..count).as_slice(), false)?,
                Kind::Remove => group.commit(0, &[], true)?,
                Kind::Update => group.commit(step.by, &[], false)?,
            };
            record.steps.push(StepRecord {
                kind: step.kind,
                accepted_ns: nanoseconds(played.accepted),
                followed_ns: nanoseconds(played.followed),
            });
            sum.add(&played);
        }
        record.ns = nanoseconds(start.elapsed());
        record.members = group.members()?;
        record.used = BTreeMap::from([
            ("hub-cpu-ns".to_owned(), nanoseconds(sum.hub)),
            ("client-up-bytes".to_owned(), sum.up),
            ("client-down-bytes".to_owned(), sum.down),
        ]);
        group.check()?;
        phases.push(record);
    }
    Ok(())
}

/// What a step cost.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Played {
    /// Making it and, if it is a commit, the hub's check of it.
    pub(crate) accepted: Duration,
    /// That, and the slowest member's work.
    pub(crate) followed: Duration,
    /// The hub's part.
    pub(crate) hub: Duration,
    /// Bytes that its author sends.
    pub(crate) up: u64,
    /// Bytes that the others and newcomers are sent, together.
    pub(crate) down: u64,
}

impl Played {
    fn add(&mut self, other: &Self) {
        self.hub += other.hub;
        self.up += other.up;
        self.down += other.down;
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Phase;

    #[test]
    fn every_kind_of_step_is_played_and_the_members_agree_afterwards() {
        let scenario = Scenario {
            name: "all".to_owned(),
            about: String::new(),
            seed: 3,
            members: 6,
            live: 3,
            phases: vec![Phase {
                name: "one".to_owned(),
                joins: 2,
                adds: 3,
                add_batch: 2,
                removals: 2,
                updates: 4,
                messages: 5,
                message_bytes: 50,
                idle_seconds: 1,
            }],
        };
        let words = Phase {
            name: "words".to_owned(),
            messages: 3,
            ..Phase::default()
        };
        let scenario = Scenario {
            phases: [&scenario.phases[..], &[words]].concat(),
            ..scenario
        };
        let phases = play(&scenario).unwrap();
        let [phase, words] = &phases[..] else {
            panic!("{phases:?}")
        };
        assert_eq!(phase.members, 6 + 2 + 3 - 2);
        let count = |kind| phase.times(kind).0.len();
        assert_eq!(Kind::ALL.map(count), [2, 2, 2, 4, 5, 1]);
        let commits = phase.steps.iter().filter(|step| !matches!(step.kind, Kind::Idle));
        for step in commits {
            assert!(0 < step.accepted_ns && step.accepted_ns < step.followed_ns, "{step:?}");
        }
        assert!(phase.used["hub-cpu-ns"] > 0);
        // Each message goes to the two other live members.
        assert_eq!(words.used["client-down-bytes"], 2 * words.used["client-up-bytes"]);
    }

    #[test]
    fn the_scenarios_that_come_along_have_their_own_names() {
        for (name, file) in crate::scenario::BUILT_IN {
            assert!(file.starts_with(&format!("name = \"{name}\"\n")), "{name}");
        }
    }
}
