//! Hub and participant of a room, as one pure state machine over the room's log (LM #int-intro).
//!
//! A room is a log; its state is a fold over it. [`RoomView`] is the fold at one position. [`RoomView::decide`] says what an
//! [`Input`] would append, or what must be asked first; [`RoomView::apply`] takes the answer in once it is stored, and
//! [`RoomView::replay`] is the same fold read back from storage. Nothing here waits, reads a clock or touches a disk.
//!
//! - [`meta`](RoomMeta), [`entry`](Entry): what a room is and what its log holds;
//! - [`Input`], [`Decision`], [`Outcome`]: what goes in, what comes out;
//! - [`create_room`], [`bootstrap_participant`]: how a view begins;
//! - [`backfill`]: how a participant closes gaps and grows its log backwards;
//! - [`visibility`]: which server and which user may read an event;
//! - [`Refusal`]: every way to say no.

pub mod backfill;
mod decision;
mod entry;
pub mod fuzzing;
mod meta;
pub mod mimi;
mod ordering;
mod refusal;
mod room;
mod state;
pub mod visibility;

pub use decision::{Ctx, Decision, EventDraft, Input, Outcome, Question, Reply, Via};
pub use entry::{Checkpoint, Entry, EntryBody, FollowerChange, HoleReason, UnknownHoleReason};
pub use meta::{Role, RoomMeta};
pub use ordering::after_their_auth_events;
pub use refusal::{BadInviteAnswer, BadSnapshot, CommitRefusal, Refusal};
pub use room::{
    Encryption, GroupChange, RoomSpec, RoomView, StoredGroup, bootstrap_participant, create_room, rejoin_participant,
};
pub use state::State;

#[cfg(test)]
mod tests;
