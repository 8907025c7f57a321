//! The [`Store`] in an SQLite database: one file, one writer, a few readers, one process.
//!
//! Write-ahead log with `synchronous=FULL`: what [`Store::commit`] acknowledged survives a power cut. One file of this
//! crate per group of tables; `docs/data-model.md` has the tables.

mod accounts;
mod apply;
mod bounds;
mod checkpoints;
mod consents;
mod destinations;
mod devices;
mod entries;
mod failure;
mod fields;
mod followers;
mod frozen;
mod groups;
mod inbox;
mod key_packages;
mod local;
mod media;
mod memberships;
mod mimi;
mod mimi_key_packages;
mod mimi_policy;
mod mimi_reports;
mod mimi_users;
mod notify;
mod open;
mod order;
mod outbox;
mod parked;
mod pending;
mod profiles;
mod readers;
mod replies;
mod rooms;
mod server_keys;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;

use async_trait::async_trait;
use bytes::Bytes;
use nabe_core::Entry;
use nabe_core::mimi::{MimiEntry, MimiUri, StoredMimiRoom};
use nabe_event::Pdu;
use nabe_store::{
    Account, Batch, Between, ClaimedKeyPackage, DeliveryRange, DestinationStatus, DirectItem, EntryBytes,
    FetchedKeyPackage, Follower, IdempotencyKey, InboxItem, KeyPackage, KeyPackageClaim, KeyPackageCount,
    KeyPackageKept, KnownLpdu, MediaFile, MediaUse, MembershipAt, MimiFollower, MimiStore, Notification, NotifyWork,
    Order, OutboundRequest, ParkedEvent, PendingRoom, RemoteDevice, RoomMembership, RoomSummary, Store, StoreError,
    StoredDevice, StoredReply, StoredRoom, StoredServerKeys,
};
use nabe_types::{DeviceId, EventId, LogPosition, MediaId, RoomId, ServerName, UnixMillis, UserId};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection, SqliteConnection};
use tokio::sync::Mutex;

use failure::Failure;
use open::LockFile;
pub use open::SqliteOptions;
use readers::{Reader, Readers};

/// An open database. Dropping it is safe at any moment; [`SqliteStore::close`] also folds the write-ahead log into the
/// database file.
#[derive(Debug)]
pub struct SqliteStore {
    /// `None` once closed.
    writer: Mutex<Option<SqliteConnection>>,
    readers: Readers,
    /// For connections besides these.
    settings: SqliteConnectOptions,
    _lock: LockFile,
}

impl SqliteStore {
    /// Opens the database, creating or upgrading it as needed.
    ///
    /// # Errors
    /// [`StoreError::InUse`] if another process has it open, [`StoreError::SchemaTooNew`] if a newer version of the
    /// program wrote it, [`StoreError::Unavailable`] for everything else.
    pub async fn open(options: &SqliteOptions) -> Result<Self, StoreError> {
        let lock = LockFile::acquire(options)?;
        let settings = open::settings(options);
        let writer = open::writer(&settings).await?;
        let readers = open::readers(&settings, options.readers).await?;
        Ok(Self {
            writer: Mutex::new(Some(writer)),
            readers,
            settings,
            _lock: lock,
        })
    }

    /// Waits for the commit and the reads under way, then closes the database. Everything after that fails with
    /// [`StoreError::Unavailable`].
    pub async fn close(&self) -> Result<(), StoreError> {
        self.readers.close().await?;
        if let Some(writer) = self.writer.lock().await.take() {
            writer.close().await.map_err(Failure::from)?;
        }
        Ok(())
    }

    /// Writes a consistent copy of the database to `to`, which must not exist, while the store goes on working.
    pub async fn backup(&self, to: &Path) -> Result<(), StoreError> {
        let to = to.to_str().ok_or(Failure::PathNotUtf8)?;
        // Not a reader: they are not allowed to write, be it another file.
        let mut db = SqliteConnection::connect_with(&self.settings)
            .await
            .map_err(Failure::from)?;
        let done = sqlx::query("VACUUM INTO ?").bind(to).execute(&mut db).await;
        db.close().await.map_err(Failure::from)?;
        done.map_err(Failure::from)?;
        Ok(())
    }

    async fn reader(&self) -> Result<Reader<'_>, StoreError> {
        Ok(self.readers.acquire().await?)
    }
}

/// A read of one statement: connection, then the function of the same purpose in its table's file.
macro_rules! read {
    ($store:expr, $read:path $(, $argument:expr)*) => {
        Ok($read(&mut *$store.reader().await? $(, $argument)*).await?)
    };
}

/// A read of several statements, all seeing the same state of the database.
macro_rules! snapshot {
    ($store:expr, $read:path $(, $argument:expr)*) => {{
        let mut reader = $store.reader().await?;
        let mut snapshot = reader.begin().await.map_err(Failure::from)?;
        Ok($read(&mut *snapshot $(, $argument)*).await?)
    }};
}

pub(crate) use {read, snapshot};

#[async_trait]
impl Store for SqliteStore {
    async fn commit(&self, batches: Vec<Batch>) -> Result<Vec<Result<(), StoreError>>, StoreError> {
        let mut writer = self.writer.lock().await;
        let writer = writer.as_mut().ok_or(Failure::Closed)?;
        Ok(apply::commit(writer, batches).await?)
    }

    async fn load(&self, room: &RoomId) -> Result<Option<StoredRoom>, StoreError> {
        snapshot!(self, rooms::load, room)
    }

    async fn newest_commit(&self, room: &RoomId) -> Result<Option<LogPosition>, StoreError> {
        read!(self, groups::newest, room)
    }

    async fn head(&self, room: &RoomId) -> Result<Option<LogPosition>, StoreError> {
        let bounds: Result<_, StoreError> = read!(self, bounds::bounds, room);
        Ok(bounds?.map(|bounds| bounds.head))
    }

    async fn first(&self, room: &RoomId) -> Result<Option<LogPosition>, StoreError> {
        let bounds: Result<_, StoreError> = read!(self, bounds::bounds, room);
        Ok(bounds?.map(|bounds| bounds.first))
    }

    async fn entries(
        &self,
        room: &RoomId,
        between: Between,
        limit: usize,
        order: Order,
    ) -> Result<Vec<Entry>, StoreError> {
        read!(self, entries::entries, room, between, limit, order)
    }

    async fn entry_bytes(&self, stretches: &[(RoomId, Between)]) -> Result<Vec<EntryBytes>, StoreError> {
        read!(self, entries::entry_bytes, stretches)
    }

    async fn entry(&self, event_id: &EventId) -> Result<Option<(RoomId, Entry)>, StoreError> {
        read!(self, entries::entry, event_id)
    }

    async fn entries_by_lpdu(&self, lpdus: &[(RoomId, EventId)]) -> Result<Vec<(RoomId, KnownLpdu)>, StoreError> {
        read!(self, entries::entries_by_lpdu, lpdus)
    }

    async fn events(&self, room: &RoomId, ids: &[EventId]) -> Result<Vec<Pdu>, StoreError> {
        read!(self, entries::events, room, ids)
    }

    async fn state_before(&self, room: &RoomId, position: LogPosition) -> Result<Option<Vec<Pdu>>, StoreError> {
        snapshot!(self, rooms::state_before, room, position)
    }

    async fn rooms(&self) -> Result<Vec<RoomSummary>, StoreError> {
        read!(self, rooms::rooms)
    }

    async fn rooms_of(&self, user: &UserId) -> Result<Vec<RoomMembership>, StoreError> {
        read!(self, memberships::rooms_of, user)
    }

    async fn membership_history(&self, room: &RoomId, user: &UserId) -> Result<Vec<MembershipAt>, StoreError> {
        read!(self, memberships::history, room, user)
    }

    async fn servers_sharing_rooms_with(&self, user: &UserId) -> Result<Vec<ServerName>, StoreError> {
        read!(self, memberships::servers_sharing_rooms_with, user)
    }

    async fn users_sharing_rooms_with(&self, user: &UserId, server: &ServerName) -> Result<Vec<UserId>, StoreError> {
        read!(self, memberships::users_sharing_rooms_with, user, server)
    }

    async fn followers(&self, room: &RoomId) -> Result<Vec<Follower>, StoreError> {
        read!(self, followers::followers, room)
    }

    async fn dirty(&self, destination: &ServerName, limit: usize) -> Result<Vec<DeliveryRange>, StoreError> {
        read!(self, followers::dirty, destination, limit)
    }

    async fn outbox(&self, destination: &ServerName, limit: usize) -> Result<Vec<(i64, DirectItem)>, StoreError> {
        read!(self, outbox::outbox, destination, limit)
    }

    async fn outbox_items(&self, destination: &ServerName, seqs: &[i64]) -> Result<Vec<(i64, DirectItem)>, StoreError> {
        read!(self, outbox::items, destination, seqs)
    }

    async fn outbox_len(&self, destination: &ServerName) -> Result<u64, StoreError> {
        read!(self, outbox::len, destination)
    }

    async fn frozen(&self, destination: &ServerName) -> Result<Option<OutboundRequest>, StoreError> {
        // Most of the time there is nothing, which one statement tells.
        let is_frozen: Result<_, StoreError> = read!(self, frozen::is_frozen, destination);
        if !is_frozen? {
            return Ok(None);
        }
        snapshot!(self, frozen::frozen, destination)
    }

    async fn destinations_with_work(&self) -> Result<Vec<DestinationStatus>, StoreError> {
        read!(self, destinations::with_work)
    }

    async fn destination(&self, server: &ServerName) -> Result<Option<DestinationStatus>, StoreError> {
        read!(self, destinations::destination, server)
    }

    async fn reply(&self, key: &IdempotencyKey) -> Result<Option<StoredReply>, StoreError> {
        read!(self, replies::reply, key)
    }

    async fn replies(
        &self,
        scope: &str,
        endpoint: &str,
        txn_ids: &[&str],
    ) -> Result<BTreeMap<String, StoredReply>, StoreError> {
        read!(self, replies::replies, scope, endpoint, txn_ids)
    }

    async fn parked(&self, room: &RoomId) -> Result<Vec<ParkedEvent>, StoreError> {
        read!(self, parked::parked, room)
    }

    async fn parked_ids(&self, room: &RoomId) -> Result<Vec<EventId>, StoreError> {
        read!(self, parked::ids, room)
    }

    async fn parked_due(&self, now: UnixMillis, limit: usize) -> Result<Vec<ParkedEvent>, StoreError> {
        read!(self, parked::due, now, limit)
    }

    async fn server_keys(&self, server: &ServerName) -> Result<Vec<StoredServerKeys>, StoreError> {
        read!(self, server_keys::server_keys, server)
    }

    async fn account(&self, user: &UserId) -> Result<Option<Account>, StoreError> {
        read!(self, accounts::account, user)
    }

    async fn account_by_token(&self, token_hash: &[u8; 32]) -> Result<Option<(UserId, Option<DeviceId>)>, StoreError> {
        read!(self, accounts::by_token, token_hash)
    }

    async fn devices(&self, user: &UserId) -> Result<Vec<DeviceId>, StoreError> {
        read!(self, accounts::devices, user)
    }

    async fn device(&self, user: &UserId, device: &DeviceId) -> Result<Option<StoredDevice>, StoreError> {
        read!(self, devices::device, user, device)
    }

    async fn published_devices(&self, user: &UserId) -> Result<Vec<StoredDevice>, StoreError> {
        read!(self, devices::with_object, user)
    }

    async fn remote_devices(&self, user: &UserId) -> Result<Vec<RemoteDevice>, StoreError> {
        read!(self, devices::remote, user)
    }

    async fn add_key_packages(
        &self,
        user: &UserId,
        device: &DeviceId,
        packages: &[KeyPackage],
        now: UnixMillis,
    ) -> Result<Vec<KeyPackageKept>, StoreError> {
        let mut writer = self.writer.lock().await;
        let writer = writer.as_mut().ok_or(Failure::Closed)?;
        Ok(key_packages::add(writer, user, device, packages, now).await?)
    }

    async fn claim_key_packages(
        &self,
        claims: &[KeyPackageClaim],
        usable_at: UnixMillis,
    ) -> Result<Vec<Option<ClaimedKeyPackage>>, StoreError> {
        let mut writer = self.writer.lock().await;
        let writer = writer.as_mut().ok_or(Failure::Closed)?;
        Ok(key_packages::claim(writer, claims, usable_at).await?)
    }

    async fn key_packages_left(
        &self,
        user: &UserId,
        device: &DeviceId,
        usable_at: UnixMillis,
    ) -> Result<Vec<KeyPackageCount>, StoreError> {
        read!(self, key_packages::left, user, device, usable_at)
    }

    async fn inbox(
        &self,
        user: &UserId,
        device: Option<&DeviceId>,
        after: i64,
        limit: usize,
    ) -> Result<Vec<InboxItem>, StoreError> {
        read!(self, inbox::inbox, user, device, after, limit)
    }

    async fn inbox_head(&self, user: &UserId) -> Result<i64, StoreError> {
        read!(self, inbox::head, user)
    }

    async fn pending(&self, user: &UserId) -> Result<Vec<PendingRoom>, StoreError> {
        read!(self, pending::of_user, user)
    }

    async fn pending_len(&self, user: &UserId) -> Result<u64, StoreError> {
        read!(self, pending::len_of_user, user)
    }

    async fn pending_room(&self, user: &UserId, room: &RoomId) -> Result<Option<PendingRoom>, StoreError> {
        read!(self, pending::of_user_in, user, room)
    }

    async fn pending_in(&self, room: &RoomId) -> Result<Vec<PendingRoom>, StoreError> {
        read!(self, pending::of_room, room)
    }

    async fn media_file(&self, hash: &[u8; 32]) -> Result<Option<MediaFile>, StoreError> {
        read!(self, media::file, hash)
    }

    async fn cached_media(&self, server: &ServerName, media_id: &MediaId) -> Result<Option<MediaFile>, StoreError> {
        read!(self, media::cached, server, media_id)
    }

    async fn has_uploaded(&self, user: &UserId, hash: &[u8; 32]) -> Result<bool, StoreError> {
        read!(self, media::has_uploaded, user, hash)
    }

    async fn media_use(&self, user: &UserId, recent_after: UnixMillis) -> Result<MediaUse, StoreError> {
        read!(self, media::used_by, user, recent_after)
    }

    async fn media_beyond(&self, bytes: u64) -> Result<Vec<MediaFile>, StoreError> {
        read!(self, media::beyond, bytes)
    }
}

#[async_trait]
impl MimiStore for SqliteStore {
    async fn mimi_room(&self, room: &MimiUri) -> Result<Option<StoredMimiRoom>, StoreError> {
        snapshot!(self, mimi::room, room)
    }

    async fn mimi_head(&self, room: &MimiUri) -> Result<Option<LogPosition>, StoreError> {
        read!(self, mimi::head, room)
    }

    async fn mimi_rooms(&self) -> Result<Vec<MimiUri>, StoreError> {
        read!(self, mimi::all)
    }

    async fn mimi_entries(
        &self,
        room: &MimiUri,
        between: Between,
        limit: usize,
        max_bytes: usize,
    ) -> Result<Vec<MimiEntry>, StoreError> {
        read!(self, mimi::entries, room, between, limit, max_bytes)
    }

    async fn mimi_followers(&self, room: &MimiUri) -> Result<Vec<MimiFollower>, StoreError> {
        read!(self, notify::followers, room)
    }

    async fn notify_work(&self, now: UnixMillis, limit: usize) -> Result<Vec<NotifyWork>, StoreError> {
        read!(self, notify::work, now, limit)
    }

    async fn notify_work_of(&self, room: &MimiUri, provider: &ServerName) -> Result<Option<NotifyWork>, StoreError> {
        read!(self, notify::work_of, room, provider)
    }

    async fn notification(&self, room: &MimiUri, provider: &ServerName) -> Result<Option<Notification>, StoreError> {
        read!(self, notify::notification, room, provider)
    }

    async fn fetched_key_packages(
        &self,
        references: &[Bytes],
        room: Option<&MimiUri>,
    ) -> Result<Vec<FetchedKeyPackage>, StoreError> {
        read!(self, mimi::key_packages, references, room)
    }
}
