//! What a room's log holds, a fold of it at one position, and which stretches of it other servers are owed.

use std::fmt;
use std::str::FromStr;

use nabe_event::Pdu;
use nabe_types::{EventId, LogPosition, ServerName, UnixMillis};

/// One place in a room's log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// Its place. The hub counts from 1; a participant's first own entry is 1, what it backfills is below.
    pub position: LogPosition,
    /// The ID the event had as an LPDU, by which its author knows it again and by which a resent LPDU is recognized
    /// (LM #int-lpdu). `None` for events that never were one, and for holes.
    pub lpdu_id: Option<EventId>,
    /// What is there.
    pub body: EntryBody,
    /// Appended, but neither part of the room's state nor shown to local clients (LM #int-receiving-events, soft failure). A hub of
    /// `I.1` never produces one; the log can hold it so that no rule of a later version needs a new format.
    pub soft_failed: bool,
    /// When this server appended it.
    pub received_at: UnixMillis,
}

/// What an [`Entry`] holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum EntryBody {
    /// An event.
    Event(Pdu),
    /// The place of an event that the hub sent and this participant cannot accept. The chain goes on behind it: the next
    /// event names `event_id` in its `prev_events`.
    Hole {
        /// The event's ID as the hub sent it.
        event_id: EventId,
        /// Why it is not here.
        reason: HoleReason,
    },
}

impl Entry {
    /// The ID of the event, or of the event that should be here.
    #[must_use]
    pub fn event_id(&self) -> &EventId {
        match &self.body {
            EntryBody::Event(pdu) => pdu.event_id(),
            EntryBody::Hole { event_id, .. } => event_id,
        }
    }

    /// The event; `None` for a hole.
    #[must_use]
    pub const fn pdu(&self) -> Option<&Pdu> {
        match &self.body {
            EntryBody::Event(pdu) => Some(pdu),
            EntryBody::Hole { .. } => None,
        }
    }

    /// The event if it takes part in the room's state: a state event, present, not soft-failed.
    #[must_use]
    pub fn state_event(&self) -> Option<&Pdu> {
        self.pdu().filter(|pdu| !self.soft_failed && pdu.is_state())
    }
}

/// Why a participant's log has a hole. Stored as text: [`fmt::Display`] writes it, [`FromStr`] reads it back.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HoleReason {
    /// The event breaks an authorization rule, so the hub should not have appended it (LM #int-receiving-events).
    Rejected {
        /// The number of the rule (LM #int-auth-rules), such as `5.2.3`.
        rule: Box<str>,
    },
    /// Not a well-formed event of the room's version (LM #int-receiving-events, step 1).
    Malformed,
    /// A required signature is missing or wrong (LM #int-receiving-events, step 2).
    BadSignature,
    /// A key could not be had in the time we give it.
    KeysUnavailable,
}

impl fmt::Display for HoleReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected { rule } => write!(f, "rejected:{rule}"),
            Self::Malformed => f.write_str("malformed"),
            Self::BadSignature => f.write_str("bad-signature"),
            Self::KeysUnavailable => f.write_str("keys-unavailable"),
        }
    }
}

/// A text that no [`HoleReason`] writes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a reason for a hole in a log")]
pub struct UnknownHoleReason;

impl FromStr for HoleReason {
    type Err = UnknownHoleReason;

    fn from_str(text: &str) -> Result<Self, UnknownHoleReason> {
        match text {
            "malformed" => Ok(Self::Malformed),
            "bad-signature" => Ok(Self::BadSignature),
            "keys-unavailable" => Ok(Self::KeysUnavailable),
            _ => text
                .strip_prefix("rejected:")
                .map(|rule| Self::Rejected { rule: rule.into() })
                .ok_or(UnknownHoleReason),
        }
    }
}

/// The fold of a log at one position: all that is needed to go on from there.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Checkpoint {
    /// The position it stands for; entries at or below are folded in.
    pub position: LogPosition,
    /// ID of the event (or hole) at that position. `None` when the place holds no event: before the first entry, or at a
    /// participant's snapshot.
    pub head: Option<EventId>,
    /// The room's state there, in ascending order of type, then state key.
    pub state: Vec<Pdu>,
}

/// A change to the stretches of a hub's log that other servers are owed (LM #int-transport-send-events). A server that leaves and
/// comes back has two intervals; this server never has one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FollowerChange {
    /// The server's first user joined: it is owed the log from here.
    Open {
        /// The server.
        server: ServerName,
        /// First position it is owed.
        from: LogPosition,
    },
    /// The server's last user left, was kicked or banned: this event is the last it is owed.
    Close {
        /// The server.
        server: ServerName,
        /// Last position it is owed, inclusive.
        until: LogPosition,
    },
    /// A membership change about a user of a server that takes no part, such as a ban of an invited user: one event and no
    /// more. An invite itself goes by `/invite` instead (LM #int-transport-invites).
    Once {
        /// The server.
        server: ServerName,
        /// The one position it is owed.
        at: LogPosition,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hole_reasons_read_back_as_written() {
        for reason in [
            HoleReason::Rejected { rule: "5.2.3".into() },
            HoleReason::Malformed,
            HoleReason::BadSignature,
            HoleReason::KeysUnavailable,
        ] {
            assert_eq!(reason.to_string().parse(), Ok(reason));
        }
        assert_eq!("sunspots".parse::<HoleReason>(), Err(UnknownHoleReason));
    }
}
