//! The trait every backend implements.

use std::collections::BTreeMap;

use async_trait::async_trait;
use nabe_core::Entry;
use nabe_event::Pdu;
use nabe_types::{DeviceId, EventId, LogPosition, MediaId, RoomId, ServerName, UnixMillis, UserId};

use crate::error::StoreError;
use crate::mimi::MimiStore;
use crate::mimi_order::MimiOrderStore;
use crate::mimi_policy::PolicyStore;
use crate::mimi_reports::ReportStore;
use crate::mimi_users::MimiUserStore;
use crate::model::{
    Account, ClaimedKeyPackage, DeliveryRange, DestinationStatus, DirectItem, EntryBytes, Follower, IdempotencyKey,
    InboxItem, KeyPackage, KeyPackageClaim, KeyPackageCount, KeyPackageKept, KnownLpdu, MediaFile, MediaUse,
    MembershipAt, OutboundRequest, ParkedEvent, PendingRoom, RemoteDevice, RoomMembership, RoomSummary, StoredDevice,
    StoredReply, StoredRoom, StoredServerKeys,
};
use crate::write::Batch;

/// Everything the server keeps. Reads see all commits that returned before they began. A read about something that
/// is not there answers `None` or empty, never an error; `limit`s count items.
///
/// Every method fails with [`StoreError::Unavailable`] or [`StoreError::Inconsistent`] when the database does.
#[async_trait]
pub trait Store:
    MimiStore + MimiUserStore + MimiOrderStore + PolicyStore + ReportStore + Send + Sync + 'static
{
    /// Applies the batches in order, in one database transaction, and returns once they are durable. A refused batch
    /// leaves no trace and does not stop the others; its place in the result says why. An outer error means that
    /// none happened. Dropped before it is done, it may have happened or not, so keep polling what is started.
    async fn commit(&self, batches: Vec<Batch>) -> Result<Vec<Result<(), StoreError>>, StoreError>;

    /// A room's newest checkpoint and the entries after it.
    async fn load(&self, room: &RoomId) -> Result<Option<StoredRoom>, StoreError>;

    /// The newest position taken in a room's log; 0 in a hub's empty room.
    async fn head(&self, room: &RoomId) -> Result<Option<LogPosition>, StoreError>;

    /// The oldest position in a room's log; if it has no entries, where the first will be.
    async fn first(&self, room: &RoomId) -> Result<Option<LogPosition>, StoreError>;

    /// Entries of a room within bounds, in either order.
    async fn entries(
        &self,
        room: &RoomId,
        between: Between,
        limit: usize,
        order: Order,
    ) -> Result<Vec<Entry>, StoreError>;

    /// The entries of several stretches as they are sent on: in the order of the stretches, ascending in each. What is
    /// in a room that is not there is left out. Bodies come as they are stored, without being read.
    async fn entry_bytes(&self, stretches: &[(RoomId, Between)]) -> Result<Vec<EntryBytes>, StoreError>;

    /// The log entry with this event ID and its room. Outliers are no entries.
    async fn entry(&self, event_id: &EventId) -> Result<Option<(RoomId, Entry)>, StoreError>;

    /// Which of these LPDUs are in a room's log, in no particular order.
    async fn entry_by_lpdu(&self, room: &RoomId, lpdu_ids: &[EventId]) -> Result<Vec<KnownLpdu>, StoreError> {
        let asked: Vec<_> = lpdu_ids.iter().map(|id| (room.clone(), id.clone())).collect();
        let known = self.entries_by_lpdu(&asked).await?;
        Ok(known.into_iter().map(|(_, known)| known).collect())
    }

    /// Which of these LPDUs are in these rooms' logs, each looked for in its room only, in no particular order.
    async fn entries_by_lpdu(&self, lpdus: &[(RoomId, EventId)]) -> Result<Vec<(RoomId, KnownLpdu)>, StoreError>;

    /// Those of these events we hold, log entries and outliers, in the order asked for. What is a hole in the log
    /// may be an outlier all the same: a snapshot brought it.
    async fn events(&self, room: &RoomId, ids: &[EventId]) -> Result<Vec<Pdu>, StoreError>;

    /// The room's state before the entry at a position, ordered by type and state key. `None` if it cannot be told:
    /// no such room, below the log, after the head's successor, or in backfilled history whose beginning is missing.
    async fn state_before(&self, room: &RoomId, position: LogPosition) -> Result<Option<Vec<Pdu>>, StoreError>;

    /// The position of the newest commit kept by [`Write::PutGroupChange`](crate::Write::PutGroupChange).
    async fn newest_commit(&self, room: &RoomId) -> Result<Option<LogPosition>, StoreError>;

    /// Every room, ordered by ID.
    async fn rooms(&self) -> Result<Vec<RoomSummary>, StoreError>;

    /// A user's current membership of every room with an `m.room.member` event about them, ordered by room ID.
    async fn rooms_of(&self, user: &UserId) -> Result<Vec<RoomMembership>, StoreError>;

    /// How a user's membership of a room went, ascending. Kept through pruning.
    async fn membership_history(&self, room: &RoomId, user: &UserId) -> Result<Vec<MembershipAt>, StoreError>;

    /// The servers with a joined user in a room the user is joined to, the user's own included, ordered.
    async fn servers_sharing_rooms_with(&self, user: &UserId) -> Result<Vec<ServerName>, StoreError>;

    /// The users of `server` who are joined to a room that the user is joined to, ordered; the user is among them.
    async fn users_sharing_rooms_with(&self, user: &UserId, server: &ServerName) -> Result<Vec<UserId>, StoreError>;

    /// A room's follower intervals, past and present, ordered by server and start.
    async fn followers(&self, room: &RoomId) -> Result<Vec<Follower>, StoreError>;

    /// A destination's intervals with something undelivered, longest waiting first: of each what is owed, from behind
    /// what was delivered to the interval's end or the room's head.
    async fn dirty(&self, destination: &ServerName, limit: usize) -> Result<Vec<DeliveryRange>, StoreError>;

    /// The first items of a destination's outbox with their sequence numbers, ascending.
    async fn outbox(&self, destination: &ServerName, limit: usize) -> Result<Vec<(i64, DirectItem)>, StoreError>;

    /// Items of a destination's outbox by sequence number, ascending; those not there are left out.
    async fn outbox_items(&self, destination: &ServerName, seqs: &[i64]) -> Result<Vec<(i64, DirectItem)>, StoreError>;

    /// How many items wait in a destination's outbox.
    async fn outbox_len(&self, destination: &ServerName) -> Result<u64, StoreError>;

    /// The request in flight to a destination.
    async fn frozen(&self, destination: &ServerName) -> Result<Option<OutboundRequest>, StoreError>;

    /// Every destination that is owed log entries or outbox items or has a request in flight, ordered by name.
    async fn destinations_with_work(&self) -> Result<Vec<DestinationStatus>, StoreError>;

    /// How a destination is doing; `None` if we never had anything for it.
    async fn destination(&self, server: &ServerName) -> Result<Option<DestinationStatus>, StoreError>;

    /// The answer kept for a request.
    async fn reply(&self, key: &IdempotencyKey) -> Result<Option<StoredReply>, StoreError>;

    /// The answers kept for those of these requests that have one, by transaction ID.
    async fn replies(
        &self,
        scope: &str,
        endpoint: &str,
        txn_ids: &[&str],
    ) -> Result<BTreeMap<String, StoredReply>, StoreError>;

    /// A room's parked events, in the order they came.
    async fn parked(&self, room: &RoomId) -> Result<Vec<ParkedEvent>, StoreError>;

    /// The IDs of a room's parked events, in the order they came.
    async fn parked_ids(&self, room: &RoomId) -> Result<Vec<EventId>, StoreError>;

    /// Parked events to try again now, longest due first.
    async fn parked_due(&self, now: UnixMillis, limit: usize) -> Result<Vec<ParkedEvent>, StoreError>;

    /// A server's key responses with distinct keys, last fetched first.
    async fn server_keys(&self, server: &ServerName) -> Result<Vec<StoredServerKeys>, StoreError>;

    /// A local account.
    async fn account(&self, user: &UserId) -> Result<Option<Account>, StoreError>;

    /// Whose token has this SHA-256, and the device it is bound to.
    async fn account_by_token(&self, token_hash: &[u8; 32]) -> Result<Option<(UserId, Option<DeviceId>)>, StoreError>;

    /// A local user's devices, ordered.
    async fn devices(&self, user: &UserId) -> Result<Vec<DeviceId>, StoreError>;

    /// A local user's device.
    async fn device(&self, user: &UserId, device: &DeviceId) -> Result<Option<StoredDevice>, StoreError>;

    /// A local user's devices that have published a device object, ordered.
    async fn published_devices(&self, user: &UserId) -> Result<Vec<StoredDevice>, StoreError>;

    /// The devices we know of another server's user, ordered.
    async fn remote_devices(&self, user: &UserId) -> Result<Vec<RemoteDevice>, StoreError>;

    /// Keeps key packages of a device and says of each, in order, what became of it. Durable on return, as a commit is.
    async fn add_key_packages(
        &self,
        user: &UserId,
        device: &DeviceId,
        packages: &[KeyPackage],
        now: UnixMillis,
    ) -> Result<Vec<KeyPackageKept>, StoreError>;

    /// Takes a key package for each claim, in order; `None` where there is none. Of those that do not expire by `usable_at`
    /// the one that expires first is taken and never given out or kept again; only when none is left, the last-resort one is
    /// given out, and stays. Durable on return. Dropped before it is done, packages may be gone without having been given out.
    async fn claim_key_packages(
        &self,
        claims: &[KeyPackageClaim],
        usable_at: UnixMillis,
    ) -> Result<Vec<Option<ClaimedKeyPackage>>, StoreError>;

    /// What a device has left that does not expire by `usable_at`, by suite.
    async fn key_packages_left(
        &self,
        user: &UserId,
        device: &DeviceId,
        usable_at: UnixMillis,
    ) -> Result<Vec<KeyPackageCount>, StoreError>;

    /// Inbox items after a sequence number, ascending: those for every device, and those for `device` if given.
    async fn inbox(
        &self,
        user: &UserId,
        device: Option<&DeviceId>,
        after: i64,
        limit: usize,
    ) -> Result<Vec<InboxItem>, StoreError>;

    /// The last sequence number given out in a user's inbox; 0 if none.
    async fn inbox_head(&self, user: &UserId) -> Result<i64, StoreError>;

    /// A user's invites and knocks, ordered by room ID.
    async fn pending(&self, user: &UserId) -> Result<Vec<PendingRoom>, StoreError>;

    /// How many invites and knocks a user has.
    async fn pending_len(&self, user: &UserId) -> Result<u64, StoreError>;

    /// A user's invite to or knock on a room.
    async fn pending_room(&self, user: &UserId, room: &RoomId) -> Result<Option<PendingRoom>, StoreError>;

    /// The invites to and knocks on a room, ordered by user ID.
    async fn pending_in(&self, room: &RoomId) -> Result<Vec<PendingRoom>, StoreError>;

    /// A file by SHA-256 of its bytes.
    async fn media_file(&self, hash: &[u8; 32]) -> Result<Option<MediaFile>, StoreError>;

    /// The file that another server has under this name.
    async fn cached_media(&self, server: &ServerName, media_id: &MediaId) -> Result<Option<MediaFile>, StoreError>;

    /// Whether a local user has uploaded this file.
    async fn has_uploaded(&self, user: &UserId, hash: &[u8; 32]) -> Result<bool, StoreError>;

    /// What a local user's files take; recent are those uploaded after a moment.
    async fn media_use(&self, user: &UserId, recent_after: UnixMillis) -> Result<MediaUse, StoreError>;

    /// The files of other servers that have to go so that those kept, the newest, take at most so many bytes.
    async fn media_beyond(&self, bytes: u64) -> Result<Vec<MediaFile>, StoreError>;
}

/// A stretch of positions: after one, through another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Between {
    /// The last position outside, before the stretch.
    pub after: LogPosition,
    /// The last position inside.
    pub through: LogPosition,
}

impl Between {
    /// The whole log.
    pub const ALL: Self = Self {
        after: LogPosition(i64::MIN),
        through: LogPosition(i64::MAX),
    };

    /// From just after a position to the end.
    #[must_use]
    pub const fn after(after: LogPosition) -> Self {
        Self {
            after,
            through: Self::ALL.through,
        }
    }

    /// From the beginning to a position, inclusive.
    #[must_use]
    pub const fn through(through: LogPosition) -> Self {
        Self {
            after: Self::ALL.after,
            through,
        }
    }

    /// Whether a position is in it.
    #[must_use]
    pub fn contains(self, position: LogPosition) -> bool {
        self.after < position && position <= self.through
    }
}

/// In which direction to read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Order {
    /// Oldest first.
    Ascending,
    /// Newest first.
    Descending,
}
