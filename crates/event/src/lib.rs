//! Linearized Matrix events, one type per stage of trust.
//!
//! ```text
//! bytes ── RawEvent::parse ──> RawEvent ──┬─ verify_lpdu ──> VerifiedLpdu ── complete (hub) ──> Pdu
//!          schema, size                   └─ verify_pdu ───> VerifiedPdu ─── into_pdu ────────> Pdu
//!                                            signatures, content hashes
//! ```
//!
//! Covers the receive steps 1–3 of LM #int-receiving-events, the event formats of LM #int-pdu and LM #int-lpdu, redaction
//! (LM #int-redactions), hashes (LM #int-content-hashes, LM #int-reference-hashes) and event signatures
//! (LM #int-signing-events). It knows nothing of a room's state: who may send what is decided in `nabe-auth`.
//!
//! No I/O, no clock: keys come in as a `KeySet`, found by asking [`RawEvent::required_keys`] first.

mod builder;
mod canonical;
mod error;
mod event;
pub mod fuzzing;
pub mod hashes;
mod pdu;
mod raw;
mod redaction;
mod room_version;
mod seal;
mod signatures;
mod verify;

#[cfg(test)]
mod tests;

pub use builder::{BuildError, EventBuilder};
pub use error::{Dropped, SignerRole};
pub use event::Event;
pub use hashes::event_id_of;
pub use pdu::Pdu;
pub use raw::{EventKind, RawEvent};
pub use redaction::redact;
pub use room_version::{PowerLevelUserRule, RoomVersionRules};
pub use verify::{Completion, VerifiedLpdu, VerifiedPdu};
