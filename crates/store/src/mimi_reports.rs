//! Reports of abuse, as a hub keeps them until somebody has decided about them, and for a while after that (MIMI #report-abuse).

use std::fmt;
use std::str::FromStr;

use async_trait::async_trait;
use bytes::Bytes;
use nabe_core::mimi::{Evidence, MimiUri};
use nabe_types::{ServerName, UnixMillis};

use crate::error::StoreError;

/// A report that came.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NewReport {
    /// About which room.
    pub room: MimiUri,
    /// The provider that sent it, or our own name.
    pub provider: ServerName,
    /// The `AbuseReport`, byte for byte. The same of the same provider about the same room is kept once.
    pub body: Bytes,
    /// SHA-256 of `body`.
    pub body_sha256: [u8; 32],
    /// What each of its messages was worth when it came, in their order.
    pub evidence: Vec<Evidence>,
    /// When it came.
    pub received: UnixMillis,
}

/// What has become of a report.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReportState {
    /// Nobody has decided yet.
    Open,
    /// Something was done about it.
    Resolved,
    /// Nothing is to be done about it.
    Dismissed,
}

impl ReportState {
    const ALL: [Self; 3] = [Self::Open, Self::Resolved, Self::Dismissed];
}

impl fmt::Display for ReportState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Resolved => "resolved",
            Self::Dismissed => "dismissed",
        })
    }
}

/// No report can be in such a state.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a report is open, resolved or dismissed")]
pub struct UnknownReportState;

impl FromStr for ReportState {
    type Err = UnknownReportState;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|state| state.to_string() == name);
        found.ok_or(UnknownReportState)
    }
}

/// A report as it is kept.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeptReport {
    /// Its number, in the order in which they came.
    pub number: i64,
    /// What came.
    pub report: NewReport,
    /// What has become of it.
    pub state: ReportState,
    /// When that was decided; `None` while it is open.
    pub decided: Option<UnixMillis>,
    /// What whoever decided had to say.
    pub remark: String,
}

impl KeptReport {
    /// Whether there are messages in it, and all of them are evidence.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        let evidence = &self.report.evidence;
        !evidence.is_empty() && evidence.iter().all(|it| *it == Evidence::Genuine)
    }
}

/// What a provider has reported and nobody has decided about.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct OpenReports {
    /// How many there are.
    pub count: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
}

/// One change to the reports.
#[derive(Clone, Debug)]
pub enum ReportWrite {
    /// Keeps a report, unless it is here already.
    Put {
        /// The report.
        report: NewReport,
    },
    /// Somebody has decided about a report, or opens it again. Nothing happens if there is none with this number.
    Decide {
        /// Its number.
        number: i64,
        /// What becomes of it.
        state: ReportState,
        /// What there is to say about that.
        remark: String,
        /// When.
        now: UnixMillis,
    },
    /// Forgets what was decided before a moment.
    Forget {
        /// The moment.
        decided_before: UnixMillis,
    },
}

/// What is asked about reports. As with [`crate::Store`], reads see all commits that returned before they began.
#[async_trait]
pub trait ReportStore {
    /// Reports with numbers after `after`, ascending, perhaps only those in one state.
    async fn reports(&self, after: i64, only: Option<ReportState>, limit: usize)
    -> Result<Vec<KeptReport>, StoreError>;

    /// One report.
    async fn report(&self, number: i64) -> Result<Option<KeptReport>, StoreError>;

    /// What a provider has reported and nobody has decided about, as far as the bodies begin with `prefix`.
    async fn open_reports(&self, provider: &ServerName, prefix: &[u8]) -> Result<OpenReports, StoreError>;
}
