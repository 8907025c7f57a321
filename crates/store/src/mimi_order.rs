//! How a room's local log gets its order where another provider is the hub (MIMI #fanout-messages-and-room-events): what local users
//! sent and has no verdict yet, what was accepted and waits for an epoch that the log has not reached, and what is in it already.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use async_trait::async_trait;
use bytes::Bytes;
use nabe_core::mimi::MimiUri;
use nabe_types::{LogPosition, ServerName, UnixMillis};

use crate::error::StoreError;
use crate::mimi_users::NewLocalMessage;

/// What a message within a group is to the order of a log.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum MessageKind {
    /// An application message.
    Application,
    /// A proposal, and those that came with it.
    Proposal,
    /// A commit, which ends its epoch.
    Commit,
}

/// No kind of message has this name.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("no kind of message")]
pub struct UnknownMessageKind;

impl fmt::Display for MessageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Application => "application",
            Self::Proposal => "proposal",
            Self::Commit => "commit",
        })
    }
}

impl FromStr for MessageKind {
    type Err = UnknownMessageKind;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let all = [Self::Application, Self::Proposal, Self::Commit];
        all.into_iter()
            .find(|kind| kind.to_string() == name)
            .ok_or(UnknownMessageKind)
    }
}

/// A request of a local user to another hub, as it is sent, until its verdict is known.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Forwarded {
    /// The room.
    pub room: MimiUri,
    /// A hash of endpoint and body: with the room its key.
    pub request: [u8; 32],
    /// The room's hub.
    pub hub: ServerName,
    /// Who sent it.
    pub user: MimiUri,
    /// The name of the endpoint.
    pub endpoint: String,
    /// What its first message is.
    pub kind: MessageKind,
    /// The epoch of that.
    pub epoch: u64,
    /// SHA-256 of that message, an `MLSMessage`.
    pub message: [u8; 32],
    /// The user reads the room from here on if the request is accepted; `None` if that changes nothing.
    pub joins_from: Option<LogPosition>,
    /// The request, byte for byte.
    pub body: Bytes,
    /// When it was first sent.
    pub sent_at: UnixMillis,
    /// How often it had no verdict.
    pub failures: u32,
    /// Not before this again.
    pub next_attempt: UnixMillis,
}

/// [`Forwarded`] without the body.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OpenForward {
    /// [`Forwarded::room`].
    pub room: MimiUri,
    /// [`Forwarded::request`].
    pub request: [u8; 32],
    /// [`Forwarded::hub`].
    pub hub: ServerName,
    /// [`Forwarded::kind`].
    pub kind: MessageKind,
    /// [`Forwarded::epoch`].
    pub epoch: u64,
    /// [`Forwarded::joins_from`].
    pub joins_from: Option<LogPosition>,
    /// [`Forwarded::next_attempt`].
    pub next_attempt: UnixMillis,
}

/// What a local user sent and a hub accepted, in an epoch that the log has not reached.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WaitingMessage {
    /// By which it is named; ascending in the order in which they came.
    pub number: i64,
    /// What it is.
    pub kind: MessageKind,
    /// Its epoch.
    pub epoch: u64,
    /// When the hub accepted it.
    pub accepted: UnixMillis,
    /// Since when it waits.
    pub since: UnixMillis,
    /// The `FanoutMessage`.
    pub body: Bytes,
}

/// What decides where messages go in a room's local log.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LocalOrder {
    /// The epoch that the log has reached, as far as that is known: the one after its newest commit.
    pub epoch: Option<u64>,
    /// The position of the newest message; zero if the room has no log.
    pub head: LogPosition,
    /// Whether any local user could ever read the room.
    pub has_log: bool,
    /// Who reads it now, in ascending order.
    pub readers: BTreeSet<MimiUri>,
    /// What waits, in the order in which it came.
    pub waiting: Vec<WaitingMessage>,
    /// What was sent and has no verdict, in the order in which it was sent.
    pub open: Vec<OpenForward>,
}

/// What a user has open.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct OpenOfUser {
    /// Requests.
    pub count: usize,
    /// Bytes of them.
    pub bytes: usize,
}

/// One change to what decides on the order. None of them names a room that has to be there.
#[derive(Clone, Debug)]
pub enum MimiOrderWrite {
    /// Records a request before it is sent; nothing happens if it is there.
    Forward {
        /// The request.
        forwarded: Forwarded,
    },
    /// There was no verdict; try again later.
    PutOff {
        /// The room.
        room: MimiUri,
        /// [`Forwarded::request`].
        request: [u8; 32],
        /// How often now.
        failures: u32,
        /// When.
        next_attempt: UnixMillis,
    },
    /// The verdict is known, or will never be: forgets a request, if there.
    End {
        /// The room.
        room: MimiUri,
        /// [`Forwarded::request`].
        request: [u8; 32],
    },
    /// Lets a message wait, in a room that gets a log if it has none.
    Wait {
        /// The room.
        room: MimiUri,
        /// The room's hub.
        hub: ServerName,
        /// The message.
        message: NewLocalMessage,
        /// What it is.
        kind: MessageKind,
        /// Its epoch.
        epoch: u64,
        /// Since when.
        now: UnixMillis,
    },
    /// These do not wait any more. They are in the log now, by a write in the same batch.
    EndWaits {
        /// [`WaitingMessage::number`]s.
        numbers: Vec<i64>,
    },
    /// How far a room's log has come; nothing happens if it has none.
    SetEpoch {
        /// The room.
        room: MimiUri,
        /// [`LocalOrder::epoch`].
        epoch: Option<u64>,
    },
    /// Local users may read a room from a position on, unless they do; the room gets a log if it has none.
    Open {
        /// The room.
        room: MimiUri,
        /// The room's hub.
        hub: ServerName,
        /// Who.
        user: MimiUri,
        /// The first position.
        from: LogPosition,
    },
}

/// What is asked about the order. As with [`crate::Store`], reads see all commits that returned before they began.
#[async_trait]
pub trait MimiOrderStore {
    /// What decides on the order of a room's local log.
    async fn local_order(&self, room: &MimiUri) -> Result<LocalOrder, StoreError>;

    /// Which of these messages, by SHA-256, are in the room's local log or wait for it, as far as that is remembered: at least of the newest
    /// [`MIN_REMEMBERED_MESSAGES`](crate::rules::MIN_REMEMBERED_MESSAGES).
    async fn delivered_messages(&self, room: &MimiUri, messages: &[[u8; 32]])
    -> Result<BTreeSet<[u8; 32]>, StoreError>;

    /// Requests that have no verdict and are to be sent again by `now`, those that should have been first.
    async fn forwards_due(&self, now: UnixMillis, limit: usize) -> Result<Vec<OpenForward>, StoreError>;

    /// When the next one is to be sent again.
    async fn next_forward(&self) -> Result<Option<UnixMillis>, StoreError>;

    /// A request, if it has no verdict.
    async fn forwarded(&self, room: &MimiUri, request: &[u8; 32]) -> Result<Option<Forwarded>, StoreError>;

    /// What a user has sent that has no verdict.
    async fn open_forwards_of(&self, user: &MimiUri) -> Result<OpenOfUser, StoreError>;

    /// Rooms in which something waits since `before` or longer.
    async fn rooms_waiting_since(&self, before: UnixMillis) -> Result<Vec<MimiUri>, StoreError>;
}
