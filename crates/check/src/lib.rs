//! Conformance checks for servers of Linearized Matrix and of MIMI. Each case speaks the wire to a subject at a URL: its client API makes
//! rooms, and servers of our own (`peer.rs`) talk to it as participants or as a hub, honestly or not. Nothing here depends on the
//! server that is checked; every hash, event ID and signature is computed by `nabe-event`, every
//! struct of MIMI by `nabe-wire`, and never taken from the subject.
//!
//! ```text
//! run ── for each case ──> Ctx ─┬─ Subject: client API, signed and unsigned federation requests
//!                               ├─ Peer (one or more): TLS listener, own key, inbox, programmable answers, rooms it hosts
//!                               └─ MimiPeer (two): the same as a provider of MIMI, with mutual TLS; clients are OpenMLS's
//! ```
//!
//! All cases are in one table, [`cases()`]. A case is independent of the others: it has its own peers and its own rooms.

mod author;
mod authority;
mod basis;
mod case;
mod cases;
mod config;
mod context;
mod hosted;
mod http_client;
mod hub_room;
mod mimi;
mod participant_room;
mod peer;
mod report;
mod run;
mod subject;

#[cfg(test)]
mod tests;

pub use authority::{Authority, AuthorityError};
pub use basis::{Basis, Level};
pub use case::{Case, Suite, UnknownSuite, suites};
pub use cases::cases;
pub use config::{CheckerConfig, FixedPeer, MimiSubjectConfig, PeerNames, SubjectConfig};
pub use report::{CaseResult, Report, Verdict};
pub use run::{Filter, RunError, run};
