//! Every way the core says no, each with its cause.

use nabe_auth::lm::{AuthRejection, GroupRejection};
use nabe_event::{BuildError, Dropped};
use nabe_mls::GroupRefusal;
use nabe_types::{EventId, RoomId, RoomVersionId, ServerName, UserId};

use crate::Via;

/// Why an input was refused. Nothing has changed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// Only the room's hub can do this (LM #int-transport-room-membership, `M_WRONG_SERVER`).
    #[error("this server is not the room's hub; {hub} is")]
    NotHub {
        /// The hub.
        hub: ServerName,
    },
    /// A PDU from a server that is not the room's hub (LM #int-receiving-events; the request's origin is our own check).
    #[error("only the room's hub {hub} distributes its events, not {from}")]
    NotFromHub {
        /// The hub.
        hub: ServerName,
        /// Who sent it.
        from: ServerName,
    },
    /// The event's `hub_server` is another server than the hub (LM #int-auth-rules; our rule 2a).
    #[error("the event names {named} as hub; the hub is {hub}")]
    WrongHub {
        /// The server in `hub_server`.
        named: ServerName,
        /// The hub.
        hub: ServerName,
    },
    /// An LPDU must come from the server of its sender.
    #[error("{origin} cannot speak for {sender}")]
    OriginIsNotSender {
        /// The server that sent the request.
        origin: ServerName,
        /// The user in question.
        sender: UserId,
    },
    /// The user belongs to another server, and this one only authors events for its own.
    #[error("{user} is not a user of this server")]
    NotLocal {
        /// The user.
        user: UserId,
    },
    /// The event belongs to another room.
    #[error("the event belongs to room {found}")]
    WrongRoom {
        /// The room it names.
        found: RoomId,
    },
    /// None of our users is in the room, so the hub owes us nothing (LM #int-api-send-txn).
    #[error("this server does not take part in the room")]
    NotParticipating,
    /// The endpoint takes another kind of event.
    #[error("this event cannot come through {via:?}")]
    UnfitForEndpoint {
        /// The endpoint.
        via: Via,
    },
    /// An authorization rule forbids it (LM #int-auth-rules).
    #[error("{0}")]
    Rejected(#[from] AuthRejection),
    /// The commit cannot change the room's MLS group (LM #int-mls-add-remove).
    #[error("{0}")]
    Commit(#[from] CommitRefusal),
    /// The event is malformed or too large (LM #int-receiving-events).
    #[error("{0}")]
    Dropped(#[from] Dropped),
    /// The event we were asked to author breaks a limit.
    #[error("{0}")]
    Unbuildable(#[from] BuildError),
    /// The room went on while the invited user's server was asked: decide the original input again.
    #[error("the room has moved on; try again")]
    HeadMoved,
    /// What the invited user's server returned is not our event with its signature (LM #int-api-invite).
    #[error("the invited user's server answered wrongly: {0}")]
    BadInviteAnswer(#[from] BadInviteAnswer),
    /// The room's version is not one the caller, or this server, supports (`M_INCOMPATIBLE_ROOM_VERSION`).
    #[error("the room's version is {version}")]
    IncompatibleRoomVersion {
        /// The room's version.
        version: RoomVersionId,
    },
    /// What the hub sent about the room we join, or what our own storage holds, does not make a room.
    #[error("the room's state is not usable: {0}")]
    BadSnapshot(#[from] BadSnapshot),
}

impl Refusal {
    /// The number of the authorization rule broken, such as `5.2.3`, or `mls` and its kin for a commit; `None` when it is about
    /// neither.
    #[must_use]
    pub fn rule(&self) -> Option<&str> {
        match self {
            Self::Rejected(rejection) => Some(rejection.rule()),
            Self::WrongHub { .. } => Some("2a"),
            Self::Commit(refusal) => Some(refusal.rule()),
            _ => None,
        }
    }

    /// The group's epoch, if a commit was made for another ([`CommitRefusal::current_epoch`]).
    #[must_use]
    pub const fn current_epoch(&self) -> Option<u64> {
        match self {
            Self::Commit(refusal) => refusal.current_epoch(),
            _ => None,
        }
    }

    /// Whether `/send` passes over such an event in silence. Anything else is reported in `failed_pdus`
    /// (LM #int-api-send-txn; LM #int-receiving-events, steps 1 and 2).
    #[must_use]
    pub const fn is_silent(&self) -> bool {
        matches!(
            self,
            Self::NotHub { .. } | Self::NotFromHub { .. } | Self::NotParticipating | Self::Dropped(_)
        )
    }
}

/// Why an `m.mls.commit` does not change the room's group (LM #int-ev-mls-commit, LM #int-mls-add-remove).
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CommitRefusal {
    /// It has a state key.
    #[error("m.mls.commit is not a state event")]
    StateEvent,
    /// A field of its content is not there, or not a string.
    #[error("`{field}` of m.mls.commit must be a string")]
    NoString {
        /// The field.
        field: &'static str,
    },
    /// A field of its content is not unpadded base64.
    #[error("`{field}` of m.mls.commit is not base64")]
    NotBase64 {
        /// The field.
        field: &'static str,
    },
    /// It is not sound MLS, or not for this group at this epoch.
    #[error("{0}")]
    Group(#[from] GroupRefusal),
    /// It adds or removes devices that must not be added or removed.
    #[error("{0}")]
    Membership(#[from] GroupRejection),
}

impl CommitRefusal {
    /// What it is called in logs and metrics, beside the numbers of LM #int-auth-rules.
    #[must_use]
    pub const fn rule(&self) -> &'static str {
        match self {
            Self::StateEvent | Self::NoString { .. } | Self::NotBase64 { .. } => "mls-content",
            Self::Group(GroupRefusal::WrongEpoch { .. }) => "mls-epoch",
            Self::Group(_) => "mls",
            Self::Membership(rejection) => rejection.rule(),
        }
    }

    /// The group's epoch, if the commit was made for another: whoever lost a race is to follow the winner and try again.
    #[must_use]
    pub const fn current_epoch(&self) -> Option<u64> {
        match self {
            Self::Group(GroupRefusal::WrongEpoch { current, .. }) => Some(*current),
            _ => None,
        }
    }
}

/// What is wrong with the answer to an invite (LM #int-api-invite).
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadInviteAnswer {
    /// The event we offered is not an invite of a user.
    #[error("the event is not an invite")]
    NotAnInvite,
    /// The event that came back differs from ours in more than signatures.
    #[error("the event was changed")]
    Changed,
    /// There is no signature of the invited user's server by a key we know.
    #[error("the event was not signed")]
    NotSigned,
    /// A signature of the invited user's server does not verify.
    #[error("the signature is wrong")]
    BadSignature,
}

/// Why a set of events is not the state of a room we can join.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadSnapshot {
    /// There is no `m.room.create`.
    #[error("there is no m.room.create event")]
    NoCreate,
    /// An event belongs to another room.
    #[error("event {event} belongs to another room")]
    WrongRoom {
        /// The event.
        event: EventId,
    },
    /// Several events claim one type and state key, and they are no chain that would say which is newest.
    #[error("event {event} claims the type and state key of another")]
    Duplicate {
        /// One of them.
        event: EventId,
    },
    /// The room's creator belongs to another server than the one we joined through (LM #int-hub-selection).
    #[error("the room's hub is {hub}")]
    WrongHub {
        /// The creator's server.
        hub: ServerName,
    },
    /// `m.room.create` names another room version.
    #[error("m.room.create names another room version")]
    WrongVersion,
    /// We know the room, and it begins with another `m.room.create`.
    #[error("m.room.create is another event than the one we know")]
    OtherCreate,
    /// The join is not a join of one of our users.
    #[error("the join is not ours")]
    NotOurJoin,
}
