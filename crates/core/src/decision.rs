//! What goes into a room's state machine and what comes out of it.

use nabe_event::{Pdu, VerifiedLpdu, VerifiedPdu};
use nabe_signing::Signer;
use nabe_signing::json::Object;
use nabe_signing::keys::KeySet;
use nabe_types::{EventId, LogPosition, ServerName, UnixMillis, UserId};

use crate::{CommitRefusal, Entry, FollowerChange, GroupChange, HoleReason};

/// Something that may change a room.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "almost all of them are the large one")]
pub enum Input {
    /// To the hub: an LPDU from a participant (LM #int-lpdu). Its LPDU ID must already have been looked up: a known one is not
    /// decided again.
    Lpdu {
        /// The event, signatures and hashes checked.
        event: VerifiedLpdu,
        /// The server that sent the request.
        from: ServerName,
        /// The endpoint it came through.
        via: Via,
    },
    /// To the hub: an event for a user of its own.
    Draft {
        /// What the user wants to send.
        draft: EventDraft,
    },
    /// To the hub: what the invited user's server answered to [`Question::InviteSignature`].
    InviteAnswer {
        /// The event that was asked about, unchanged.
        pdu: Pdu,
        /// The ID it had as an LPDU, if it was one.
        lpdu_id: Option<EventId>,
        /// The event object in the answer.
        signed: Object,
        /// Keys of the invited user's server.
        keys: KeySet,
    },
    /// To a participant: an event from the hub. An event ID that is in the log already is not decided again.
    Pdu {
        /// The event, signatures and hashes checked.
        event: VerifiedPdu,
        /// The server that sent the request, or the hub if we fetched it there.
        from: ServerName,
        /// What [`Question::AuthEvents`] found; `None` before it was asked.
        held: Option<Vec<Pdu>>,
    },
    /// To a participant: an event from the hub that can never be accepted. A hole takes its place once it is its turn.
    InvalidPdu {
        /// Its ID, computed over what was received.
        event_id: EventId,
        /// The event it names in `prev_events`.
        prev: EventId,
        /// What is wrong with it.
        reason: HoleReason,
        /// The server that sent the request, or the hub if we fetched it there.
        from: ServerName,
    },
}

/// The endpoint an LPDU came through. Each but `/send` takes one membership only (LM #int-transport-room-membership).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Via {
    /// `/send`: anything (LM #int-api-send-txn).
    Send,
    /// `/invite`: an invite (LM #int-api-invite).
    Invite,
    /// `/send_join`: a user's own join (LM #int-api-send-join).
    Join,
    /// `/send_leave`: a user's own leave (LM #int-api-send-leave).
    Leave,
    /// `/send_knock`: a user's own knock (LM #int-api-send-knock).
    Knock,
}

/// An event a local user wants to send, before it has a place in the room.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EventDraft {
    /// The event's `type`, at most 255 bytes.
    pub event_type: String,
    /// The event's `state_key`, at most 255 bytes; `None` when it is not a state event.
    pub state_key: Option<String>,
    /// The user.
    pub sender: UserId,
    /// The event's `content`.
    pub content: Object,
    /// The event's `origin_server_ts`.
    pub origin_server_ts: UnixMillis,
}

/// What a decision may depend on beside the room and the input.
#[derive(Clone, Copy, Debug)]
pub struct Ctx<'a> {
    /// The time.
    pub now: UnixMillis,
    /// This server's name.
    pub server: &'a ServerName,
    /// This server's signing keys.
    pub signer: &'a Signer,
}

/// What comes of an [`Input`] that is not refused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Decision {
    /// Store this, then [`RoomView::apply`](crate::RoomView::apply) it.
    Done(Outcome),
    /// Find this out first; nothing has changed yet.
    Ask(Question),
}

/// What to store, in one transaction, at the position the view stood at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Outcome {
    /// New log entries in ascending positions.
    pub append: Vec<Entry>,
    /// Changes to what other servers are owed, in order.
    pub followers: Vec<FollowerChange>,
    /// What the event does to the room's MLS group, if it is a commit.
    pub group: Option<GroupChange>,
    /// To a participant: why the event is appended as soft-failed.
    pub soft_failure: Option<CommitRefusal>,
    /// What to tell whoever sent the input.
    pub reply: Reply,
}

/// What became of the event.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reply {
    /// It is in the log. After creating a room: its last event.
    Appended {
        /// The event's ID in the log.
        event_id: EventId,
        /// Its place.
        position: LogPosition,
    },
    /// It was there before; nothing is appended.
    AlreadyKnown {
        /// The event's ID in the log.
        event_id: EventId,
        /// Its place.
        position: LogPosition,
    },
    /// A hole has taken its place.
    Recorded {
        /// The event's ID.
        event_id: EventId,
        /// The hole's place.
        position: LogPosition,
    },
}

/// What must be found out before a decision can be made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Question {
    /// To the hub: does the invited user's server sign this invite (LM #int-api-invite)? The answer goes back in as
    /// [`Input::InviteAnswer`].
    InviteSignature {
        /// The invite as it would be appended. Room rules were checked; it stays valid as long as the head does.
        pdu: Pdu,
        /// The ID it had as an LPDU, if it was one.
        lpdu_id: Option<EventId>,
        /// The invited user's server.
        target: ServerName,
    },
    /// To a participant: events are missing between our head and this one. Fetch backwards from `missing`, feed what comes in
    /// oldest first, then the same input again.
    Backfill {
        /// The newest event known to be missing: the predecessor of the one received.
        missing: EventId,
    },
    /// To a participant's own store: which of these events of the room does it hold? They are named in `auth_events` and are not
    /// among the state that the event was to be proved by (LM #int-auth-rules, rule 4). What is found goes into the same input again.
    AuthEvents {
        /// At most five.
        ids: Vec<EventId>,
    },
}
