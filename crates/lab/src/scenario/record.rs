//! What came out of a scenario.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Kind, Scenario};
use crate::record::Status;

/// By what it was played.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// OpenMLS's members and Nabe's hub group, in one process and without a wire.
    Library,
    /// Two servers with Linearized Matrix between them, and their clients.
    Lm,
    /// Two providers with MIMI between them, and their clients.
    Mimi,
}

impl Way {
    /// As in run.json.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Library => "library",
            Self::Lm => "lm",
            Self::Mimi => "mimi",
        }
    }

    /// For people.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Library => "the library alone",
            Self::Lm => "a hub, by Linearized Matrix",
            Self::Mimi => "a hub, by MIMI",
        }
    }
}

/// A scenario that was played.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ScenarioRecord {
    /// The file.
    pub scenario: Scenario,
    /// By what.
    pub way: Way,
    /// `debug` or `release`.
    pub build: String,
    /// How it ended.
    pub status: Status,
    /// Why, unless all of it was measured.
    pub reason: Option<String>,
    /// The phases that were played to their end, in order. After each, all live members agreed on epoch, tree hash and epoch authenticator.
    pub phases: Vec<PhaseRecord>,
    /// The machine's load of the last minute, before.
    pub load_before: Option<f64>,
    /// And after.
    pub load_after: Option<f64>,
}

/// One of its phases.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PhaseRecord {
    /// Its name.
    pub name: String,
    /// Members of the group at its end.
    pub members: u64,
    /// How long it took.
    pub ns: u64,
    /// What was used, by name ([`USED`]).
    pub used: BTreeMap<String, u64>,
    /// Every step, in order.
    pub steps: Vec<StepRecord>,
}

/// One step.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct StepRecord {
    /// What was done.
    pub kind: Kind,
    /// From the wish until the hub had accepted it and its author knew.
    pub accepted_ns: u64,
    /// From the wish until every live member had it: a message read, a commit merged.
    pub followed_ns: u64,
}

/// What a phase can have used, and what the names mean.
pub const USED: [(&str, &str); 6] = [
    (
        "hub-cpu-ns",
        "CPU time of the hub: of its process, or by the library of the checks alone",
    ),
    ("other-cpu-ns", "CPU time of the other server"),
    (
        "client-up-bytes",
        "from all live members and newcomers to their servers",
    ),
    ("client-down-bytes", "to them"),
    ("to-hub-bytes", "from the other server to the hub"),
    ("from-hub-bytes", "from the hub to the other server"),
];

impl PhaseRecord {
    /// The times of the steps of a kind, sorted: until accepted, until followed.
    #[must_use]
    pub fn times(&self, kind: Kind) -> (Vec<u64>, Vec<u64>) {
        let of_kind = self.steps.iter().filter(|step| step.kind == kind);
        let (mut accepted, mut followed): (Vec<_>, Vec<_>) =
            of_kind.map(|step| (step.accepted_ns, step.followed_ns)).unzip();
        accepted.sort_unstable();
        followed.sort_unstable();
        (accepted, followed)
    }

    /// What was used, divided by the number of steps; for a phase of idling, extrapolated to an hour.
    #[must_use]
    pub fn each(&self, what: &str) -> Option<f64> {
        let used = *self.used.get(what)? as f64;
        match self.steps.as_slice() {
            [] => None,
            [only] if only.kind == Kind::Idle => Some(used * 3_600e9 / self.ns.max(1) as f64),
            steps => Some(used / steps.len() as f64),
        }
    }
}

/// The value that so many in a hundred of the sorted ones do not exceed.
#[must_use]
pub fn percentile(sorted: &[u64], percent: usize) -> Option<u64> {
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(index).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(kind: Kind, accepted_ns: u64) -> StepRecord {
        StepRecord {
            kind,
            accepted_ns,
            followed_ns: 2 * accepted_ns,
        }
    }

    #[test]
    fn what_was_used_is_told_for_a_step_and_for_an_hour_in_which_nothing_happens() {
        let used: BTreeMap<_, _> = [("to-hub-bytes".to_owned(), 600)].into();
        let mut phase = PhaseRecord {
            ns: 60_000_000_000,
            used,
            steps: vec![step(Kind::Message, 1), step(Kind::Update, 5), step(Kind::Message, 3)],
            ..PhaseRecord::default()
        };
        assert_eq!(phase.each("to-hub-bytes"), Some(200.0));
        assert_eq!(phase.each("hub-cpu-ns"), None);
        assert_eq!(phase.times(Kind::Message), (vec![1, 3], vec![2, 6]));
        phase.steps = vec![step(Kind::Idle, 60_000_000_000)];
        assert_eq!(phase.each("to-hub-bytes"), Some(36_000.0));
    }

    #[test]
    fn a_percentile_is_a_measured_value() {
        let sorted: Vec<u64> = (1..=200).collect();
        assert_eq!(
            (percentile(&sorted, 50), percentile(&sorted, 99)),
            (Some(100), Some(198))
        );
        assert_eq!((percentile(&sorted[..1], 99), percentile(&[], 50)), (Some(1), None));
    }
}
