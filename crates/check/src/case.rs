//! What a case is, and how it ends.

use std::fmt;
use std::pin::Pin;
use std::str::FromStr;

use crate::basis::{Basis, Level};
use crate::context::Ctx;

/// A set of cases, by the role in which the subject is checked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Suite {
    /// `lm-hub`: the subject is the hub of its rooms.
    Hub,
    /// `lm-participant`: the subject takes part in rooms of others.
    Participant,
    /// `mimi-hub`: the subject is the hub of its rooms of MIMI.
    MimiHub,
    /// `mimi-follower`: the subject's users are in rooms of MIMI whose hub is elsewhere.
    MimiFollower,
}

impl Suite {
    /// `lm-hub`, `lm-participant`, `mimi-hub` or `mimi-follower`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hub => "lm-hub",
            Self::Participant => "lm-participant",
            Self::MimiHub => "mimi-hub",
            Self::MimiFollower => "mimi-follower",
        }
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// There is no suite of that name.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("no such suite; there are `lm-hub`, `lm-participant`, `mimi-hub` and `mimi-follower`")]
pub struct UnknownSuite;

impl FromStr for Suite {
    type Err = UnknownSuite;

    fn from_str(name: &str) -> Result<Self, UnknownSuite> {
        let found = suites().into_iter().find(|suite| suite.name() == name);
        found.ok_or(UnknownSuite)
    }
}

/// All suites.
#[must_use]
pub const fn suites() -> [Suite; 4] {
    [Suite::Hub, Suite::Participant, Suite::MimiHub, Suite::MimiFollower]
}

/// One check.
#[derive(Clone, Copy)]
pub struct Case {
    /// `lm-14`, `mimi-14`; `lm-14p` where the same is checked of a participant, `mimi-14f` of a follower.
    pub id: &'static str,
    /// What it is about.
    pub title: &'static str,
    /// Where it belongs.
    pub suite: Suite,
    /// The requirements it is about, by their IDs.
    pub requirements: &'static [&'static str],
    /// What the subject is sent.
    pub sent: &'static str,
    /// What it should do.
    pub expected: &'static str,
    pub(crate) peers: Peers,
    pub(crate) run: fn(&Ctx) -> CaseFuture<'_>,
}

impl Case {
    /// What the case is about, by draft, section and how binding it is there: the requirements in the order of the table.
    #[must_use]
    pub fn basis(&self) -> Vec<Basis> {
        let found = self.requirements.iter().filter_map(|id| Basis::of(id));
        found.collect()
    }

    /// How binding the most binding of its requirements is.
    #[must_use]
    pub fn level(&self) -> Level {
        let levels = self.basis().into_iter().map(|basis| basis.level);
        levels.max().unwrap_or(Level::Stated)
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The servers a case plays.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Peers {
    /// This many, which may have been used before.
    Any(usize),
    /// This many that the subject has never heard of, since the case leaves a bad memory of them.
    Fresh(usize),
    /// An ordinary one, and one whose certificate is for another name.
    OneWronglyNamed,
    /// This many providers of MIMI, which other cases use at the same time: rooms and users are a case's own.
    Mimi(usize),
    /// The same for a case that restarts the subject, and so is alone with it.
    MimiAlone(usize),
}

impl Peers {
    /// Whether no other case may run at the same time.
    pub(crate) const fn is_alone(self) -> bool {
        matches!(self, Self::MimiAlone(_))
    }
}

/// A running case.
pub(crate) type CaseFuture<'a> = Pin<Box<dyn Future<Output = Checked> + Send + 'a>>;

/// What a step of a case comes to.
pub(crate) type Checked<T = ()> = Result<T, Stop>;

/// Why a case does not go on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Stop {
    /// The subject did not do as it should.
    Failed {
        /// What should have been.
        expected: String,
        /// What was.
        got: String,
    },
    /// Nothing can be said.
    Skipped(String),
}

/// A failure of the subject.
pub(crate) fn failed<T>(expected: impl Into<String>, got: impl Into<String>) -> Checked<T> {
    Err(Stop::Failed {
        expected: expected.into(),
        got: got.into(),
    })
}

/// Nothing can be said, and why.
pub(crate) fn skipped<T>(reason: impl Into<String>) -> Checked<T> {
    Err(Stop::Skipped(reason.into()))
}
