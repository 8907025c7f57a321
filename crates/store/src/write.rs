//! Writes as data. A [`Batch`] happens wholly or not at all.

use bytes::Bytes;
use nabe_core::{Checkpoint, Entry, FollowerChange, GroupChange, RoomMeta};
use nabe_event::Pdu;
use nabe_types::{DeviceId, EventId, LogPosition, MediaId, RoomId, ServerName, UnixMillis, UserId};

use crate::mimi::MimiWrite;
use crate::model::{
    DirectItem, IdempotencyKey, InboxKind, OutboundRequest, ParkedEvent, PendingRoom, RemoteDevice, StoredReply,
    UploadLimits,
};

/// Writes that belong together: applied in order, each seeing the ones before; if one is refused, none happened.
#[derive(Clone, Debug, Default)]
pub struct Batch(pub Vec<Write>);

impl Batch {
    /// A batch of these writes.
    #[must_use]
    pub const fn new(writes: Vec<Write>) -> Self {
        Self(writes)
    }
}

impl From<Write> for Batch {
    fn from(write: Write) -> Self {
        Self(vec![write])
    }
}

impl FromIterator<Write> for Batch {
    fn from_iter<I: IntoIterator<Item = Write>>(writes: I) -> Self {
        Self(writes.into_iter().collect())
    }
}

/// One change. Naming a room that is not there fails with [`StoreError::UnknownRoom`](crate::StoreError), except
/// where a docstring says otherwise.
#[derive(Clone, Debug)]
pub enum Write {
    /// To a room of MIMI.
    Mimi(MimiWrite),
    /// Adds an empty room. `Conflict` if it is there.
    CreateRoom {
        /// What is fixed for good.
        meta: RoomMeta,
        /// A participant's snapshot, at position 0; `None` on the hub.
        checkpoint: Option<Checkpoint>,
        /// Events that are not in the log but can be asked for: the snapshot's auth chain.
        outliers: Vec<Pdu>,
    },
    /// Adds entries at the end. `Conflict` unless the head is `expected`, the entries' positions follow it one by
    /// one, and none of their event IDs or LPDU IDs is in the room's log. Marks open intervals dirty.
    Append {
        /// The room.
        room: RoomId,
        /// The head the decision was made on.
        expected: LogPosition,
        /// What is added.
        entries: Vec<Entry>,
        /// How the audience changes.
        followers: Vec<FollowerChange>,
        /// For `dirty_since`.
        now: UnixMillis,
    },
    /// A participant that had left is back: the log goes on after a gap. The checkpoint's position is
    /// `expected + 1`, which stays without an entry; its state replaces the state, and what is kept of the group is
    /// dropped. `Conflict` as in `Append`.
    Rebase {
        /// The room.
        room: RoomId,
        /// The head the decision was made on.
        expected: LogPosition,
        /// The new snapshot.
        checkpoint: Checkpoint,
        /// The snapshot's auth chain.
        outliers: Vec<Pdu>,
    },
    /// Adds older entries before the first. `Conflict` unless `expected_first` is the first position, the entries'
    /// positions lead up to it one by one, and none of their IDs is in the room's log. Of an event known as an outlier in
    /// full and added here redacted, the full copy stays.
    Prepend {
        /// The room.
        room: RoomId,
        /// The first position when the entries were asked for.
        expected_first: LogPosition,
        /// What is added, ascending.
        entries: Vec<Entry>,
    },
    /// Keeps the fold at a position, so that loading need not replay what is before. Replaces one at the same
    /// position. `Conflict` if the position is not in the log.
    PutCheckpoint {
        /// The room.
        room: RoomId,
        /// The fold.
        checkpoint: Checkpoint,
    },
    /// Keeps what a commit of the log did to the room's MLS group. `Conflict` unless it comes after the newest one kept and its
    /// position is in the log.
    PutGroupChange {
        /// The room.
        room: RoomId,
        /// The change.
        change: GroupChange,
    },
    /// Keeps the room's whole group as the newest commit left it, in place of the changes so far. `Conflict` if `position` is not
    /// that of the newest change.
    PutGroup {
        /// The room.
        room: RoomId,
        /// The newest commit's position.
        position: LogPosition,
        /// The whole group.
        checkpoint: Bytes,
    },
    /// Drops the entries below a position; state events among them stay as outliers. `Conflict` unless there is a
    /// checkpoint at or after it and every interval has been delivered past it.
    Prune {
        /// The room.
        room: RoomId,
        /// The first position kept.
        below: LogPosition,
    },
    /// Keeps an answer. If the key has one already, that one stays.
    PutReply {
        /// Whose request.
        key: IdempotencyKey,
        /// The answer.
        reply: StoredReply,
        /// For its expiry.
        now: UnixMillis,
    },
    /// Forgets the answers kept before a moment.
    ExpireReplies {
        /// The first moment still kept.
        before: UnixMillis,
    },
    /// Puts an item in a destination's outbox, with the next sequence number. `Full` if that many wait already.
    Enqueue {
        /// To whom.
        destination: ServerName,
        /// What.
        item: DirectItem,
        /// How many items may wait.
        limit: u64,
        /// Since when it waits.
        now: UnixMillis,
    },
    /// Records what is about to be sent. `NotInFlight` if another request to the destination is on record.
    Freeze {
        /// The request.
        request: OutboundRequest,
    },
    /// Forgets the request on record without moving a cursor, because it can never get through as it is: the destination
    /// says it is too large, or it can no longer be put together. What it held is still owed. `NotInFlight` if this is
    /// not the one on record.
    Thaw {
        /// To whom.
        destination: ServerName,
        /// Which.
        txn_id: String,
    },
    /// The request on record got through: moves its cursors to the ends of its ranges, clears `dirty_since` where
    /// nothing more is owed, drops its outbox items and its record, and resets the destination's failures.
    /// `NotInFlight` if this is not the one on record.
    Confirm {
        /// To whom.
        destination: ServerName,
        /// Which.
        txn_id: String,
    },
    /// Records a failure to reach a destination.
    Backoff {
        /// To whom.
        destination: ServerName,
        /// Failures in a row, this one included.
        failures: u32,
        /// When to try again.
        next_attempt: UnixMillis,
        /// In words, for operators.
        last_error: String,
    },
    /// Keeps an event to try later; replaces the record if it is parked already, but keeps the earlier `received_at` and the
    /// larger `attempts` of the two, so that an event sent again and again expires all the same. The room need not exist.
    Park {
        /// The event.
        parked: ParkedEvent,
    },
    /// Forgets a parked event, if there.
    Unpark {
        /// The room.
        room: RoomId,
        /// The event.
        event_id: EventId,
    },
    /// Keeps a server's keys. Of responses with the same keys only the last fetched is kept, and of others only the
    /// last few, see [`rules::KEY_SETS_KEPT`](crate::rules::KEY_SETS_KEPT).
    PutServerKeys {
        /// Whose.
        server: ServerName,
        /// The response, byte for byte.
        response: Bytes,
        /// When it came.
        fetched_at: UnixMillis,
        /// Until when its current keys may be believed.
        effective_valid_until: UnixMillis,
    },
    /// Adds an account unless there, and with it a token and a device if given. `AccountDeleted` if there was one.
    PutAccount {
        /// Who.
        user: UserId,
        /// When; kept from the first time.
        created_at: UnixMillis,
        /// SHA-256 of an access token to accept from now on.
        token_hash: Option<[u8; 32]>,
        /// The device, which the token if given is bound to.
        device: Option<DeviceId>,
    },
    /// Deletes an account, if there: its tokens, its devices with their objects and key packages, its inbox, its invites and knocks. The
    /// name stays taken; the first deletion's moment counts.
    DeleteAccount {
        /// Who.
        user: UserId,
        /// When.
        now: UnixMillis,
    },
    /// No longer accepts a token, if there.
    RevokeToken {
        /// SHA-256 of the access token.
        token_hash: [u8; 32],
    },
    /// Adds a device unless there, and its account unless there. `AccountDeleted` if the account was deleted.
    PutDevice {
        /// Whose.
        user: UserId,
        /// Which.
        device: DeviceId,
        /// When.
        now: UnixMillis,
    },
    /// Keeps a local device's object in place of the one before; adds the device unless there, and its account unless there.
    /// `AccountDeleted` if the account was deleted.
    PutDeviceObject {
        /// Whose.
        user: UserId,
        /// Which.
        device: DeviceId,
        /// The object's JSON, byte for byte.
        object: Bytes,
        /// Whether the device's key packages are worth nothing from now on: it has another key.
        forget_key_packages: bool,
        /// When.
        now: UnixMillis,
    },
    /// Removes a local device, if there: its object and key packages, the tokens bound to it, and what is in the inbox for it.
    RemoveDevice {
        /// Whose.
        user: UserId,
        /// Which.
        device: DeviceId,
    },
    /// Keeps what another server says about a device, in place of what it said before. `TooManyDevices` beyond
    /// [`MAX_REMOTE_DEVICES`](crate::rules::MAX_REMOTE_DEVICES) or
    /// [`MAX_REMOTE_DEVICE_BYTES`](crate::rules::MAX_REMOTE_DEVICE_BYTES).
    PutRemoteDevice {
        /// The device.
        device: RemoteDevice,
    },
    /// Forgets a device of another server's user, if there.
    RemoveRemoteDevice {
        /// Whose.
        user: UserId,
        /// Which.
        device: DeviceId,
    },
    /// Forgets the devices of other servers' users that we were told of before a moment.
    ExpireRemoteDevices {
        /// The moment.
        before: UnixMillis,
    },
    /// Drops key packages that have expired, and what is remembered of spent ones.
    ExpireKeyPackages {
        /// The moment.
        now: UnixMillis,
    },
    /// Puts an item in a user's inbox, with the next sequence number `n`. Items up to
    /// `n -` [`MAX_INBOX_ITEMS`](crate::rules::MAX_INBOX_ITEMS) are dropped.
    Inbox {
        /// Whose.
        user: UserId,
        /// For this device alone; `None` for all of them.
        device: Option<DeviceId>,
        /// What it is about.
        kind: InboxKind,
        /// Its JSON.
        body: Bytes,
        /// When it came.
        now: UnixMillis,
    },
    /// As `Inbox`, and drops the user's earlier item of this kind about the same subject: only the newest says anything.
    Notice {
        /// Whose.
        user: UserId,
        /// For this device alone; `None` for all of them.
        device: Option<DeviceId>,
        /// What kind it is.
        kind: InboxKind,
        /// What it is about.
        subject: String,
        /// Its JSON.
        body: Bytes,
        /// When it came.
        now: UnixMillis,
    },
    /// Drops a user's inbox items up to and including a sequence number.
    TrimInbox {
        /// Whose.
        user: UserId,
        /// The last one dropped.
        up_to: i64,
    },
    /// Keeps an invite or knock; replaces the one of the same user and room. Of more than
    /// [`MAX_PENDING_ROOMS`](crate::rules::MAX_PENDING_ROOMS) the one with the earliest moment, then the first by room ID, goes.
    PutPending {
        /// The invite or knock.
        pending: PendingRoom,
    },
    /// Forgets an invite or knock, if there.
    RemovePending {
        /// Whose.
        user: UserId,
        /// The room.
        room: RoomId,
    },
    /// A local user has uploaded a file; the second time changes nothing. `OverQuota` if the user's files, or those uploaded within
    /// [`UPLOAD_DAY`](crate::rules::UPLOAD_DAY), would take more than they may.
    PutUpload {
        /// Who.
        user: UserId,
        /// SHA-256 of the file.
        hash: [u8; 32],
        /// Its bytes.
        size: u64,
        /// When.
        now: UnixMillis,
        /// What the user's files may take.
        limits: UploadLimits,
    },
    /// A local user wants a file no more, if they had uploaded it. With the last one of them the file is forgotten, unless it is
    /// another server's too.
    RemoveUpload {
        /// Who.
        user: UserId,
        /// SHA-256 of the file.
        hash: [u8; 32],
    },
    /// Another server has this file under this name; it is kept for as long as there is room.
    PutCachedMedia {
        /// The server.
        server: ServerName,
        /// The file's name there.
        media_id: MediaId,
        /// SHA-256 of the file.
        hash: [u8; 32],
        /// Its bytes.
        size: u64,
        /// When.
        now: UnixMillis,
    },
    /// Forgets a file, its names and its uploads, if there.
    ForgetMedia {
        /// SHA-256 of the file.
        hash: [u8; 32],
    },
}
