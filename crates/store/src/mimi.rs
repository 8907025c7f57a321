//! Rooms of MIMI, as their hub keeps them: logs of what was fanned out, the group, and who was notified how far (MIMI
//! #fanout-messages-and-room-events).
//!
//! They are apart from the rooms of Linearized Matrix in all but the commit: a [`MimiWrite`] is a [`crate::Write`] like others, so what
//! belongs together is one transaction, and many rooms share one `fsync`. Delivery differs: one request at a time goes to each
//! follower of each room, and its body is entries of that room alone.

use async_trait::async_trait;
use bytes::Bytes;
use nabe_core::mimi::{KeyPackageRoute, MimiEntry, MimiUri, StoredMimiRoom};
use nabe_core::{FollowerChange, GroupChange};
use nabe_types::{LogPosition, ServerName, UnixMillis};

use crate::error::StoreError;
use crate::mimi_policy::PolicyWrite;
use crate::mimi_reports::ReportWrite;
use crate::mimi_users::MimiUserWrite;
use crate::store::Between;

/// A stretch of a room's log that a provider is owed, and how far it got.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MimiFollower {
    /// The room.
    pub room: MimiUri,
    /// Who is owed it.
    pub provider: ServerName,
    /// The first position owed; with room and provider the interval's key.
    pub from: LogPosition,
    /// The last position owed; `None` while the provider follows.
    pub until: Option<LogPosition>,
    /// The last position it was notified of, or that is not for it; `from - 1` at first.
    pub delivered: LogPosition,
    /// Since when something is owed and undelivered; `None` when nothing is.
    pub dirty_since: Option<UnixMillis>,
}

/// A request to a follower in flight: exactly what is being sent, so that a retry is the same byte for byte (MIMI
/// #fanout-messages-and-room-events).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Notification {
    /// The room.
    pub room: MimiUri,
    /// To whom.
    pub provider: ServerName,
    /// The interval's key ([`MimiFollower::from`]).
    pub interval_from: LogPosition,
    /// The last position not in it.
    pub after: LogPosition,
    /// The last position in it.
    pub through: LogPosition,
    /// SHA-256 of the body.
    pub body_sha256: [u8; 32],
    /// When it was put together.
    pub frozen_at: UnixMillis,
}

/// A follower that is owed something.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NotifyWork {
    /// What is owed: the provider's oldest interval with something undelivered.
    pub follower: MimiFollower,
    /// The newest position owed.
    pub owed: LogPosition,
    /// Failures in a row; 0 when the last request got through.
    pub failures: u32,
    /// Not before this; [`UnixMillis::ZERO`] when at once.
    pub next_attempt: UnixMillis,
}

/// A key package that was fetched through this hub, until its Welcome is forwarded (MIMI #fetch-key-material).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FetchedKeyPackage {
    /// Its KeyPackageRef.
    pub reference: Bytes,
    /// Whose it is.
    pub route: KeyPackageRoute,
    /// For which room; `None` for any of ours, until it is proposed in one.
    pub room: Option<MimiUri>,
    /// When it expires; then it need not be remembered.
    pub expires_at: UnixMillis,
    /// Whether it is remembered until then, whatever Welcomes are on their way: it is a last-resort package, or somebody proposed to add
    /// its client and a commit with it is yet to come.
    pub until_expiry: bool,
}

/// One change to what is kept of MIMI. Naming a room that is not there fails with [`StoreError::UnknownMimiRoom`].
#[derive(Clone, Debug)]
pub enum MimiWrite {
    /// Adds an empty room. `MimiConflict` if it is there.
    Found {
        /// Its URI.
        room: MimiUri,
        /// The time.
        now: UnixMillis,
    },
    /// Adds entries at the end. `MimiConflict` unless the head is `expected` and the entries' positions follow it one by one. Marks
    /// open intervals dirty.
    Append {
        /// The room.
        room: MimiUri,
        /// The head the decision was made on.
        expected: LogPosition,
        /// What is added.
        entries: Vec<MimiEntry>,
        /// What they do to the group, each at the position of its entry.
        group: Vec<GroupChange>,
        /// With a commit, what counts though it is not committed.
        left_over: Option<Bytes>,
        /// How the audience changes.
        followers: Vec<FollowerChange>,
        /// For `dirty_since`.
        now: UnixMillis,
    },
    /// Keeps the whole group as its newest change left it, in place of the changes so far. `MimiConflict` if `position` is not that
    /// of the newest change.
    PutGroup {
        /// The room.
        room: MimiUri,
        /// The newest change's position.
        position: LogPosition,
        /// The whole group.
        checkpoint: Bytes,
    },
    /// Records a request before it is sent. `MimiNotInFlight` if there is one to this follower.
    Freeze {
        /// The request.
        notification: Notification,
    },
    /// The request got through: moves the cursor behind it and forgets failures. `MimiNotInFlight` unless it is the one in flight.
    Confirm {
        /// The room.
        room: MimiUri,
        /// The follower.
        provider: ServerName,
        /// SHA-256 of the body.
        body_sha256: [u8; 32],
    },
    /// Moves a cursor over entries that are not for the follower, when nothing is in flight to it.
    Skip {
        /// The room.
        room: MimiUri,
        /// The follower.
        provider: ServerName,
        /// The interval's key.
        interval_from: LogPosition,
        /// The last position passed over.
        through: LogPosition,
    },
    /// The request did not get through.
    Backoff {
        /// The room.
        room: MimiUri,
        /// The follower.
        provider: ServerName,
        /// Failures in a row.
        failures: u32,
        /// When to try again.
        next_attempt: UnixMillis,
        /// What went wrong, for operators.
        last_error: String,
    },
    /// Remembers whose key packages are, each for a room. One that is remembered already for that room stays as it is, but it is remembered
    /// until it expires if that was said once. What was for any room is for this one alone from now on.
    PutKeyPackages {
        /// The key packages.
        packages: Vec<FetchedKeyPackage>,
    },
    /// Forgets key packages whose Welcome is on its way, but those that are remembered until they expire.
    ForgetKeyPackages {
        /// Their references.
        references: Vec<Bytes>,
    },
    /// Forgets key packages that expired before a moment.
    ExpireKeyPackages {
        /// The moment.
        now: UnixMillis,
    },
    /// What is kept for local users.
    User(MimiUserWrite),
    /// Reports of abuse.
    Report(ReportWrite),
    /// What a room's policy asks of its hub beside the room.
    Policy(PolicyWrite),
}

/// What is asked about MIMI. As with [`crate::Store`], reads see all commits that returned before they began.
#[async_trait]
pub trait MimiStore {
    /// A room; `None` if it is not there.
    async fn mimi_room(&self, room: &MimiUri) -> Result<Option<StoredMimiRoom>, StoreError>;

    /// The position of a room's newest entry.
    async fn mimi_head(&self, room: &MimiUri) -> Result<Option<LogPosition>, StoreError>;

    /// Every room's URI, in order.
    async fn mimi_rooms(&self) -> Result<Vec<MimiUri>, StoreError>;

    /// Entries of a room within bounds, ascending, as many as their number and the bytes of their bodies allow: the first one whatever
    /// its size.
    async fn mimi_entries(
        &self,
        room: &MimiUri,
        between: Between,
        limit: usize,
        max_bytes: usize,
    ) -> Result<Vec<MimiEntry>, StoreError>;

    /// A room's intervals, past and present, ordered by provider and start.
    async fn mimi_followers(&self, room: &MimiUri) -> Result<Vec<MimiFollower>, StoreError>;

    /// Followers that are owed something and may be tried now, longest waiting first; of each provider in a room the oldest interval
    /// alone.
    async fn notify_work(&self, now: UnixMillis, limit: usize) -> Result<Vec<NotifyWork>, StoreError>;

    /// What one follower of a room is owed, in its oldest interval with something undelivered; whenever it may be tried. `None` if that is
    /// nothing.
    async fn notify_work_of(&self, room: &MimiUri, provider: &ServerName) -> Result<Option<NotifyWork>, StoreError>;

    /// The request in flight to a follower of a room.
    async fn notification(&self, room: &MimiUri, provider: &ServerName) -> Result<Option<Notification>, StoreError>;

    /// Which of these key packages are remembered for a room or for any, in no particular order; without a room, whatever they are for.
    async fn fetched_key_packages(
        &self,
        references: &[Bytes],
        room: Option<&MimiUri>,
    ) -> Result<Vec<FetchedKeyPackage>, StoreError>;
}
