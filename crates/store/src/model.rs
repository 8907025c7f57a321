//! What a store answers with. Rooms, entries and checkpoints themselves are `nabe-core`'s.

use bytes::Bytes;
use nabe_auth::lm::Membership;
use nabe_core::{Checkpoint, Entry, RoomMeta, StoredGroup};
use nabe_types::{DeviceId, EventId, LogPosition, RoomId, RoomVersionId, ServerName, UnixMillis, UserId};

use crate::store::Between;

mod encryption;
mod media;

pub use encryption::{
    ClaimedKeyPackage, KeyPackage, KeyPackageClaim, KeyPackageCount, KeyPackageKept, RemoteDevice, StoredDevice,
};
pub use media::{MediaFile, MediaUse, UploadLimits};

/// A room as it is loaded: the newest checkpoint and every entry after it.
#[derive(Clone, Debug)]
pub struct StoredRoom {
    /// What was fixed at creation.
    pub meta: RoomMeta,
    /// The newest fold; `None` when the log is short enough to replay from its first entry.
    pub checkpoint: Option<Checkpoint>,
    /// The entries after the checkpoint, ascending and without a gap.
    pub tail: Vec<Entry>,
    /// The room's MLS group; empty where there is none.
    pub group: StoredGroup,
}

/// A room in a listing.
#[derive(Clone, Debug)]
pub struct RoomSummary {
    /// What was fixed at creation.
    pub meta: RoomMeta,
    /// The newest position taken; [`LogPosition::ZERO`] in an empty room.
    pub head: LogPosition,
    /// The oldest position still in the log.
    pub first: LogPosition,
}

/// A user's current membership of one room.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RoomMembership {
    /// The room.
    pub room: RoomId,
    /// The membership now.
    pub membership: Membership,
    /// Where it was set: the `m.room.member` event's position, or the snapshot's.
    pub position: LogPosition,
}

/// One step in a user's membership of a room.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MembershipAt {
    /// The `m.room.member` event's position, or the snapshot's.
    pub position: LogPosition,
    /// The membership from there on.
    pub membership: Membership,
}

/// Where the LPDU with an ID went.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KnownLpdu {
    /// The ID of the LPDU as received.
    pub lpdu_id: EventId,
    /// The ID of the event it became.
    pub event_id: EventId,
    /// The event's position.
    pub position: LogPosition,
}

/// A stretch of a room's log that a server is owed, and how far it got (an interval with a cursor).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Follower {
    /// The room.
    pub room: RoomId,
    /// Who is owed it.
    pub server: ServerName,
    /// The first position owed; with room and server the interval's key.
    pub from: LogPosition,
    /// The last position owed; `None` while the server follows.
    pub until: Option<LogPosition>,
    /// The last position delivered; `from - 1` at first.
    pub delivered: LogPosition,
    /// Since when something is owed and undelivered; `None` when nothing is.
    pub dirty_since: Option<UnixMillis>,
}

/// Something sent to one server besides room entries.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum DirectItem {
    /// An EDU's JSON (LM #int-transport-edus).
    Edu(Bytes),
    /// A local user's LPDU on its way to the room's hub.
    Lpdu {
        /// The room.
        room: RoomId,
        /// The LPDU's event ID, by which the hub reports a refusal and by which we know our echo.
        lpdu_id: EventId,
        /// The LPDU's JSON.
        bytes: Bytes,
        /// Who is told when the hub refuses.
        sender: UserId,
    },
}

/// A transaction in flight: what exactly is being sent, so that a retry is the same byte for byte.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OutboundRequest {
    /// To whom.
    pub destination: ServerName,
    /// The transaction ID in the request's path.
    pub txn_id: String,
    /// The log entries in it, in order.
    pub ranges: Vec<DeliveryRange>,
    /// The outbox items in it, by sequence number, ascending.
    pub direct: Vec<i64>,
    /// SHA-256 of the body.
    pub body_sha256: [u8; 32],
    /// When it was put together.
    pub frozen_at: UnixMillis,
}

/// A run of log entries in a transaction, taken from one follower interval.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DeliveryRange {
    /// The room.
    pub room: RoomId,
    /// The interval's key ([`Follower::from`]).
    pub interval_from: LogPosition,
    /// The last position not in the range.
    pub after: LogPosition,
    /// The last position in the range.
    pub through: LogPosition,
}

impl DeliveryRange {
    /// The stretch of the room's log it is.
    #[must_use]
    pub const fn between(&self) -> Between {
        Between {
            after: self.after,
            through: self.through,
        }
    }
}

/// A log entry as it is sent on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EntryBytes {
    /// Which of the stretches asked for it is from, counted from 0.
    pub stretch: usize,
    /// Where it is in the room's log.
    pub position: LogPosition,
    /// The PDU's JSON; `None` for a hole.
    pub body: Option<Bytes>,
}

/// How a destination is doing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DestinationStatus {
    /// The server.
    pub destination: ServerName,
    /// Failures in a row; 0 when the last request got through.
    pub failures: u32,
    /// Not before this; [`UnixMillis::ZERO`] when at once.
    pub next_attempt: UnixMillis,
    /// The last failure in words, for operators; empty when the last request got through.
    pub last_error: String,
    /// Since when the oldest undelivered thing waits; `None` when nothing does.
    pub oldest_dirty: Option<UnixMillis>,
}

/// What makes a repeated request the same request (LM #int-txn-ids).
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct IdempotencyKey {
    /// Who asks: a server's name, or `client:` and a user ID.
    pub scope: String,
    /// The endpoint's name in the program.
    pub endpoint: String,
    /// The caller's transaction ID.
    pub txn_id: String,
}

/// An answer kept so that a repeated request gets the same bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoredReply {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Bytes,
    /// SHA-256 of the request's body, to notice a transaction ID used twice.
    pub request_sha256: [u8; 32],
}

/// An event that cannot be judged yet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ParkedEvent {
    /// Its room, which the store need not have yet.
    pub room: RoomId,
    /// Its ID.
    pub event_id: EventId,
    /// Who sent it.
    pub origin: ServerName,
    /// Its JSON.
    pub bytes: Bytes,
    /// What it waits for.
    pub reason: ParkReason,
    /// When it came.
    pub received_at: UnixMillis,
    /// When to try again.
    pub next_try: UnixMillis,
    /// How often it was tried.
    pub attempts: u32,
}

/// What a parked event waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ParkReason {
    /// A signing key could not be fetched.
    KeysUnavailable,
    /// We are joining the room and do not have its state yet.
    JoinPending,
}

/// A server's keys as it or a notary published them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoredServerKeys {
    /// Whose.
    pub server: ServerName,
    /// The response, byte for byte.
    pub response: Bytes,
    /// When we fetched it.
    pub fetched_at: UnixMillis,
    /// Until when its current keys may be believed.
    pub effective_valid_until: UnixMillis,
}

/// A local user.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Account {
    /// Who.
    pub user: UserId,
    /// Since when.
    pub created_at: UnixMillis,
    /// When it was deleted, if it was: the row stays so that nobody else gets the name.
    pub deleted_at: Option<UnixMillis>,
}

/// What an inbox item is about.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum InboxKind {
    /// The user was invited to a room.
    Invite,
    /// The user's knock on a room changed state.
    Knock,
    /// An invite or knock is over without the user having joined.
    PendingEnded,
    /// A to-device message.
    ToDevice,
    /// A user's devices changed.
    DeviceList,
    /// A device has few key packages left.
    KeyPackagesLow,
    /// The hub refused an event the user sent.
    EventRejected,
}

/// Something for a user, or one of the user's devices, that is no room entry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InboxItem {
    /// Its place in the user's inbox, ascending from 1, never reused.
    pub seq: i64,
    /// For this device alone; `None` for all of them.
    pub device: Option<DeviceId>,
    /// What it is about.
    pub kind: InboxKind,
    /// Its JSON.
    pub body: Bytes,
    /// When it came.
    pub at: UnixMillis,
}

/// A room a local user was invited to or knocked on, without our server being in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PendingRoom {
    /// Who.
    pub user: UserId,
    /// The room.
    pub room: RoomId,
    /// Invited or knocking.
    pub membership: PendingMembership,
    /// Whom to ask when joining or leaving.
    pub hub: ServerName,
    /// The room's version.
    pub version: RoomVersionId,
    /// The stripped state events, a JSON array.
    pub stripped_state: Bytes,
    /// The invite or knock event itself, if we hold it.
    pub event: Option<Bytes>,
    /// Since when.
    pub at: UnixMillis,
}

/// The state of a [`PendingRoom`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PendingMembership {
    /// The user was invited.
    Invite,
    /// The user knocked.
    Knock,
}

/// One line per enum that is stored as a word.
macro_rules! stored_words {
    ($($name:ident { $($variant:ident $word:literal),* $(,)? })*) => {
        $(impl $name {
            /// The word for it in a database.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }

            /// Reads the word back; `None` for any other.
            #[must_use]
            pub fn parse(word: &str) -> Option<Self> {
                match word {
                    $($word => Some(Self::$variant),)*
                    _ => None,
                }
            }
        })*
    };
}

stored_words! {
    ParkReason { KeysUnavailable "keys_unavailable", JoinPending "join_pending" }
    InboxKind {
        Invite "invite",
        Knock "knock",
        PendingEnded "pending_ended",
        ToDevice "to_device",
        DeviceList "device_list_changed",
        KeyPackagesLow "key_packages_low",
        EventRejected "event_rejected",
    }
    PendingMembership { Invite "invite", Knock "knock" }
}
