//! Scenarios: what happens to a room, as a file says it; seeded, and the same by the library alone and through servers.
//!
//! A [`Scenario`] has a room with members, of whom some are *live*: devices that follow everything and do what is done. The others are in the group and
//! away. Its phases say how often what happens; the seed decides the order in a phase, and which live member does it. Who runs it
//! answers with [`PhaseRecord`]s, which are part of a run (`scenarios` in run.json).

#[cfg(feature = "openmls")]
pub mod library;
pub mod record;

use serde::{Deserialize, Serialize};

use crate::seed::Seed;

pub use record::{PhaseRecord, ScenarioRecord, StepRecord};

/// A file.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// How it is called.
    pub name: String,
    /// What it stands for, in a sentence or two.
    pub about: String,
    /// Decides the order in each phase and who does what.
    pub seed: u64,
    /// In the group before the first phase.
    pub members: u32,
    /// How many of them are live.
    pub live: u32,
    /// One after the other.
    #[serde(rename = "phase")]
    pub phases: Vec<Phase>,
}

/// A part of it. What is done is done one after the other: a group has one commit for each epoch.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Phase {
    /// How it is called.
    pub name: String,
    /// Newcomers who join by external commits of their own, and go away.
    pub joins: u32,
    /// Newcomers who are added by the first live member, and are away.
    pub adds: u32,
    /// How many of these by one commit; 0 is 1.
    pub add_batch: u32,
    /// Members who are away and are removed, a commit each.
    pub removals: u32,
    /// Commits of live members that give them new keys.
    pub updates: u32,
    /// Messages of live members.
    pub messages: u32,
    /// How long their text is, in bytes; 0 is 100.
    pub message_bytes: u32,
    /// Seconds in which nothing happens, after all the rest.
    pub idle_seconds: u32,
}

/// Something that is done in a room.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A newcomer's external commit.
    Join,
    /// A commit that adds newcomers.
    Add,
    /// A commit that removes a member.
    Remove,
    /// A commit that changes its author's keys.
    Update,
    /// A message.
    Message,
    /// Nothing.
    Idle,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Join,
        Self::Add,
        Self::Remove,
        Self::Update,
        Self::Message,
        Self::Idle,
    ];

    /// As in run.json.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Add => "add",
            Self::Remove => "remove",
            Self::Update => "update",
            Self::Message => "message",
            Self::Idle => "idle",
        }
    }
}

/// One thing that is done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Step {
    /// What.
    pub kind: Kind,
    /// The place among the live members of who does it; of a join, nobody's.
    pub by: usize,
    /// How many newcomers are added; how many bytes a message has; how many seconds nothing happens. Else 1.
    pub amount: u32,
}

/// Why a file is no scenario.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ScenarioError {
    /// A number that nobody can use.
    #[error("`{field}` is {found}: {allowed}")]
    Number {
        /// The field.
        field: &'static str,
        /// What it is.
        found: u64,
        /// What it may be.
        allowed: String,
    },
    /// More go than are away.
    #[error(
        "`removals` are {removals} in all phases, and {away} members are away (`members` less `live`): only they are removed"
    )]
    Removals {
        /// All of them.
        removals: u64,
        /// Members that are not live.
        away: u32,
    },
    /// Nothing happens.
    #[error("phase `{0}`: nothing happens in it")]
    Empty(String),
    /// There is none.
    #[error("there is no `[[phase]]`")]
    NoPhase,
}

impl Scenario {
    /// Whether it can be played.
    ///
    /// # Errors
    /// Which field cannot be, and what it may be.
    pub fn check(&self) -> Result<(), ScenarioError> {
        within("members", self.members, 2, MAX_MEMBERS)?;
        within("live", self.live, 2, MAX_LIVE.min(self.members))?;
        if self.phases.is_empty() {
            return Err(ScenarioError::NoPhase);
        }
        for phase in &self.phases {
            for (field, number) in [
                ("joins", phase.joins),
                ("adds", phase.adds),
                ("removals", phase.removals),
                ("updates", phase.updates),
                ("messages", phase.messages),
            ] {
                within(field, number, 0, MAX_STEPS)?;
            }
            within("add_batch", phase.add_batch, 0, MAX_BATCH)?;
            within("message_bytes", phase.message_bytes, 0, MAX_MESSAGE_BYTES)?;
            within("idle_seconds", phase.idle_seconds, 0, MAX_IDLE_SECONDS)?;
            if phase.counts().iter().all(|(_, count)| *count == 0) {
                return Err(ScenarioError::Empty(phase.name.clone()));
            }
        }
        let removals = self.phases.iter().map(|phase| u64::from(phase.removals)).sum();
        let away = self.members - self.live;
        if removals > u64::from(away) {
            return Err(ScenarioError::Removals { removals, away });
        }
        Ok(())
    }

    /// What is done, phase by phase; the same for the same file.
    #[must_use]
    pub fn steps(&self) -> Vec<Vec<Step>> {
        let mut seed = Seed::new(self.seed);
        let live = usize::try_from(self.live).unwrap_or(usize::MAX);
        self.phases.iter().map(|phase| phase.steps(&mut seed, live)).collect()
    }
}

impl Phase {
    /// How many newcomers it has.
    #[must_use]
    pub const fn newcomers(&self) -> u32 {
        self.joins + self.adds
    }

    fn counts(&self) -> [(Kind, u32); 6] {
        [
            (Kind::Join, self.joins),
            (Kind::Add, self.adds),
            (Kind::Remove, self.removals),
            (Kind::Update, self.updates),
            (Kind::Message, self.messages),
            (Kind::Idle, self.idle_seconds),
        ]
    }

    fn steps(&self, seed: &mut Seed, live: usize) -> Vec<Step> {
        let mut steps = Vec::new();
        for (kind, count) in self.counts() {
            match kind {
                Kind::Add => {
                    let (mut left, batch) = (count, self.add_batch.max(1));
                    while left > 0 {
                        let amount = left.min(batch);
                        steps.push(Step { kind, by: 0, amount });
                        left -= amount;
                    }
                }
                // It comes last.
                Kind::Idle => {}
                Kind::Join | Kind::Remove => steps.extend((0..count).map(|_| Step { kind, by: 0, amount: 1 })),
                Kind::Update | Kind::Message => {
                    let amount = match (kind, self.message_bytes) {
                        (Kind::Update, _) => 1,
                        (_, 0) => MESSAGE_BYTES,
                        (_, bytes) => bytes,
                    };
                    steps.extend((0..count).map(|_| Step {
                        kind,
                        by: seed.below(live),
                        amount,
                    }));
                }
            }
        }
        seed.shuffle(&mut steps);
        if self.idle_seconds > 0 {
            steps.push(Step {
                kind: Kind::Idle,
                by: 0,
                amount: self.idle_seconds,
            });
        }
        steps
    }
}

/// The scenarios that come along: names and files.
pub const BUILT_IN: [(&str, &str); 6] = [
    ("join-burst", include_str!("../scenarios/join-burst.toml")),
    ("churn", include_str!("../scenarios/churn.toml")),
    ("meeting", include_str!("../scenarios/meeting.toml")),
    ("mass-revocation", include_str!("../scenarios/mass-revocation.toml")),
    ("a-day", include_str!("../scenarios/a-day.toml")),
    ("low-bandwidth", include_str!("../scenarios/low-bandwidth.toml")),
];

fn within(field: &'static str, found: u32, least: u32, most: u32) -> Result<(), ScenarioError> {
    match (least..=most).contains(&found) {
        true => Ok(()),
        false => Err(ScenarioError::Number {
            field,
            found: found.into(),
            allowed: format!("{least} to {most} are possible"),
        }),
    }
}

const MAX_MEMBERS: u32 = 10_000;
const MAX_LIVE: u32 = 32;
const MAX_STEPS: u32 = 100_000;
/// A client's limit for one commit.
const MAX_BATCH: u32 = 50;
const MAX_MESSAGE_BYTES: u32 = 16_384;
const MAX_IDLE_SECONDS: u32 = 3_600;
const MESSAGE_BYTES: u32 = 100;

#[cfg(test)]
mod tests;
