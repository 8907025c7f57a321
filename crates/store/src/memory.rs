//! The store in memory: for tests, the simulation and servers that may forget. Nothing outlives the process.

mod accounts;
mod apply;
mod encryption;
mod media;
mod mimi;
mod mimi_order;
mod mimi_policy;
mod mimi_reports;
mod mimi_users;
mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use nabe_auth::lm::Membership;
use nabe_core::Entry;
use nabe_event::Pdu;
use nabe_types::{DeviceId, EventId, LogPosition, MediaId, RoomId, ServerName, UnixMillis, UserId};

use crate::error::StoreError;
use crate::model::{
    Account, ClaimedKeyPackage, DeliveryRange, DestinationStatus, DirectItem, EntryBytes, Follower, IdempotencyKey,
    InboxItem, KeyPackage, KeyPackageClaim, KeyPackageCount, KeyPackageKept, KnownLpdu, MediaFile, MediaUse,
    MembershipAt, OutboundRequest, ParkedEvent, PendingRoom, RemoteDevice, RoomMembership, RoomSummary, StoredDevice,
    StoredReply, StoredRoom, StoredServerKeys,
};
use crate::rules;
use crate::store::{Between, Order, Store};
use crate::write::Batch;
use tables::{Journal, Tables};

/// A [`Store`] in memory. Clones share the same contents; [`MemoryStore::snapshot`] copies them.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    tables: Arc<Mutex<Tables>>,
    lookups: Arc<AtomicUsize>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A store of its own with what is committed now: what a server that crashes at this moment finds again.
    #[must_use]
    pub fn snapshot(&self) -> Self {
        Self {
            tables: Arc::new(Mutex::new(self.tables().clone())),
            lookups: Arc::default(),
        }
    }

    /// How many things were looked up one by one so far that others name in their requests: a read each for another backend.
    #[must_use]
    pub fn lookups(&self) -> usize {
        self.lookups.load(Ordering::Relaxed)
    }

    fn count_lookups(&self, count: usize) {
        self.lookups.fetch_add(count, Ordering::Relaxed);
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        // A panic elsewhere while holding the lock cannot happen half-way through a journaled change that matters more
        // than the panic itself.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn commit(&self, batches: Vec<Batch>) -> Result<Vec<Result<(), StoreError>>, StoreError> {
        let mut tables = self.tables();
        Ok(batches
            .into_iter()
            .map(|batch| Journal::run(&mut tables, batch))
            .collect())
    }

    async fn load(&self, room: &RoomId) -> Result<Option<StoredRoom>, StoreError> {
        let tables = self.tables();
        let Some(row) = tables.rooms.get(room) else {
            return Ok(None);
        };
        let checkpoint = tables
            .checkpoints_of(room, Between::ALL)
            .next_back()
            .map(|(_, checkpoint)| checkpoint.clone());
        let after = checkpoint
            .as_ref()
            .map_or(Between::ALL.after, |checkpoint| checkpoint.position);
        let tail = tables.entries_of(room, Between::after(after)).cloned().collect();
        Ok(Some(StoredRoom {
            meta: row.meta.clone(),
            checkpoint,
            tail,
            group: tables.groups.get(room).cloned().unwrap_or_default(),
        }))
    }

    async fn newest_commit(&self, room: &RoomId) -> Result<Option<LogPosition>, StoreError> {
        Ok(self.tables().groups.get(room).and_then(|group| group.newest))
    }

    async fn head(&self, room: &RoomId) -> Result<Option<LogPosition>, StoreError> {
        Ok(self.tables().rooms.get(room).map(|row| row.head))
    }

    async fn first(&self, room: &RoomId) -> Result<Option<LogPosition>, StoreError> {
        Ok(self.tables().rooms.get(room).map(|row| row.first))
    }

    async fn entries(
        &self,
        room: &RoomId,
        between: Between,
        limit: usize,
        order: Order,
    ) -> Result<Vec<Entry>, StoreError> {
        let tables = self.tables();
        let entries = tables.entries_of(room, between);
        Ok(match order {
            Order::Ascending => entries.take(limit).cloned().collect(),
            Order::Descending => entries.rev().take(limit).cloned().collect(),
        })
    }

    async fn entry_bytes(&self, stretches: &[(RoomId, Between)]) -> Result<Vec<EntryBytes>, StoreError> {
        let tables = self.tables();
        let entries = stretches.iter().enumerate().flat_map(|(stretch, (room, between))| {
            tables.entries_of(room, *between).map(move |entry| EntryBytes {
                stretch,
                position: entry.position,
                body: entry.pdu().map(|pdu| Bytes::copy_from_slice(pdu.bytes())),
            })
        });
        Ok(entries.collect())
    }

    async fn entry(&self, event_id: &EventId) -> Result<Option<(RoomId, Entry)>, StoreError> {
        let tables = self.tables();
        let found = tables.positions.get(event_id).into_iter().flatten().map(|place| {
            let entry = tables.entries.get(place);
            (&place.0, entry.expect("the index names entries that exist"))
        });
        // Some other room's hole can bear any ID; an event cannot.
        let best = found.min_by_key(|(_, entry)| entry.pdu().is_none());
        Ok(best.map(|(room, entry)| (room.clone(), entry.clone())))
    }

    async fn entries_by_lpdu(&self, lpdus: &[(RoomId, EventId)]) -> Result<Vec<(RoomId, KnownLpdu)>, StoreError> {
        let tables = self.tables();
        let wanted: BTreeSet<_> = lpdus.iter().collect();
        let known = wanted.into_iter().filter_map(|key| {
            let (room, lpdu_id) = key;
            let position = *tables.lpdus.get(key)?;
            let entry = tables
                .entries
                .get(&(room.clone(), position))
                .expect("the index names entries that exist");
            let known = KnownLpdu {
                lpdu_id: lpdu_id.clone(),
                event_id: entry.event_id().clone(),
                position,
            };
            Some((room.clone(), known))
        });
        Ok(known.collect())
    }

    async fn events(&self, room: &RoomId, ids: &[EventId]) -> Result<Vec<Pdu>, StoreError> {
        let tables = self.tables();
        Ok(ids.iter().filter_map(|id| tables.event(room, id)).cloned().collect())
    }

    async fn state_before(&self, room: &RoomId, position: LogPosition) -> Result<Option<Vec<Pdu>>, StoreError> {
        let tables = self.tables();
        let Some(row) = tables.rooms.get(room) else {
            return Ok(None);
        };
        if position < row.first || position > row.head.next() {
            return Ok(None);
        }
        let usable = Between {
            after: LogPosition(row.first.0 - 2),
            through: position.previous(),
        };
        if let Some((_, base)) = tables.checkpoints_of(room, usable).next_back() {
            let rest = Between {
                after: base.position,
                through: position.previous(),
            };
            return Ok(Some(rules::fold(
                base.state.clone(),
                tables.entries_of(room, rest).cloned(),
            )));
        }
        let is_whole = tables
            .entries_of(room, Between::ALL)
            .next()
            .is_none_or(rules::is_beginning);
        let before = Between::through(position.previous());
        Ok(is_whole.then(|| rules::fold(Vec::new(), tables.entries_of(room, before).cloned())))
    }

    async fn rooms(&self) -> Result<Vec<RoomSummary>, StoreError> {
        let tables = self.tables();
        let summary = |row: &tables::RoomRow| RoomSummary {
            meta: row.meta.clone(),
            head: row.head,
            first: row.first,
        };
        Ok(tables.rooms.values().map(summary).collect())
    }

    async fn rooms_of(&self, user: &UserId) -> Result<Vec<RoomMembership>, StoreError> {
        let tables = self.tables();
        let current = tables.rooms.keys().filter_map(|room| {
            let last = tables.memberships_of(room, user).last()?;
            Some(RoomMembership {
                room: room.clone(),
                membership: last.membership,
                position: last.position,
            })
        });
        Ok(current.collect())
    }

    async fn membership_history(&self, room: &RoomId, user: &UserId) -> Result<Vec<MembershipAt>, StoreError> {
        Ok(self.tables().memberships_of(room, user).collect())
    }

    async fn servers_sharing_rooms_with(&self, user: &UserId) -> Result<Vec<ServerName>, StoreError> {
        let rooms = self.rooms_of(user).await?;
        let tables = self.tables();
        let mut servers = BTreeSet::new();
        for shared in rooms.into_iter().filter(|shared| shared.membership == Membership::Join) {
            let joined = tables
                .current_members(&shared.room)
                .filter(|(_, membership)| *membership == Membership::Join);
            servers.extend(joined.map(|(user, _)| user.server_name().clone()));
        }
        Ok(servers.into_iter().collect())
    }

    async fn users_sharing_rooms_with(&self, user: &UserId, server: &ServerName) -> Result<Vec<UserId>, StoreError> {
        let rooms = self.rooms_of(user).await?;
        let tables = self.tables();
        let mut users = BTreeSet::new();
        for shared in rooms.into_iter().filter(|shared| shared.membership == Membership::Join) {
            let joined = tables
                .current_members(&shared.room)
                .filter(|(user, membership)| *membership == Membership::Join && user.server_name() == server);
            users.extend(joined.map(|(user, _)| user));
        }
        Ok(users.into_iter().collect())
    }

    async fn followers(&self, room: &RoomId) -> Result<Vec<Follower>, StoreError> {
        let tables = self.tables();
        Ok(tables.followers_of(room).cloned().collect())
    }

    async fn dirty(&self, destination: &ServerName, limit: usize) -> Result<Vec<DeliveryRange>, StoreError> {
        let tables = self.tables();
        let mut dirty: Vec<_> = tables.dirty_of(destination).collect();
        dirty.sort_by(|a, b| (a.dirty_since, &a.room, a.from).cmp(&(b.dirty_since, &b.room, b.from)));
        let owed = dirty.into_iter().take(limit).filter_map(|follower| {
            let head = tables.rooms.get(&follower.room)?.head;
            Some(DeliveryRange {
                room: follower.room.clone(),
                interval_from: follower.from,
                after: follower.delivered,
                through: follower.until.map_or(head, |until| until.min(head)),
            })
        });
        Ok(owed.collect())
    }

    async fn outbox(&self, destination: &ServerName, limit: usize) -> Result<Vec<(i64, DirectItem)>, StoreError> {
        let tables = self.tables();
        Ok(tables
            .outbox_of(destination)
            .take(limit)
            .map(|(seq, row)| (seq, row.item.clone()))
            .collect())
    }

    async fn outbox_items(&self, destination: &ServerName, seqs: &[i64]) -> Result<Vec<(i64, DirectItem)>, StoreError> {
        let tables = self.tables();
        let wanted: BTreeSet<_> = seqs.iter().copied().collect();
        let found = wanted.into_iter().filter_map(|seq| {
            let row = tables.outbox.get(&(destination.clone(), seq))?;
            Some((seq, row.item.clone()))
        });
        Ok(found.collect())
    }

    async fn outbox_len(&self, destination: &ServerName) -> Result<u64, StoreError> {
        Ok(self.tables().outbox_of(destination).count() as u64)
    }

    async fn frozen(&self, destination: &ServerName) -> Result<Option<OutboundRequest>, StoreError> {
        Ok(self.tables().frozen.get(destination).cloned())
    }

    async fn destinations_with_work(&self) -> Result<Vec<DestinationStatus>, StoreError> {
        let tables = self.tables();
        let statuses = tables.destinations.keys().filter_map(|server| tables.status(server));
        Ok(statuses.filter(|status| status.oldest_dirty.is_some()).collect())
    }

    async fn destination(&self, server: &ServerName) -> Result<Option<DestinationStatus>, StoreError> {
        Ok(self.tables().status(server))
    }

    async fn reply(&self, key: &IdempotencyKey) -> Result<Option<StoredReply>, StoreError> {
        Ok(self.tables().replies.get(key).map(|(reply, _)| reply.clone()))
    }

    async fn replies(
        &self,
        scope: &str,
        endpoint: &str,
        txn_ids: &[&str],
    ) -> Result<BTreeMap<String, StoredReply>, StoreError> {
        let mut found = BTreeMap::new();
        for &txn_id in txn_ids {
            let key = IdempotencyKey {
                scope: scope.to_owned(),
                endpoint: endpoint.to_owned(),
                txn_id: txn_id.to_owned(),
            };
            let reply = self.reply(&key).await?;
            found.extend(reply.map(|reply| (key.txn_id, reply)));
        }
        Ok(found)
    }

    async fn parked(&self, room: &RoomId) -> Result<Vec<ParkedEvent>, StoreError> {
        let tables = self.tables();
        let mut parked: Vec<_> = tables
            .parked
            .values()
            .filter(|(_, parked)| parked.room == *room)
            .collect();
        parked.sort_by_key(|(arrival, _)| *arrival);
        Ok(parked.into_iter().map(|(_, parked)| parked.clone()).collect())
    }

    async fn parked_ids(&self, room: &RoomId) -> Result<Vec<EventId>, StoreError> {
        let parked = self.parked(room).await?;
        Ok(parked.into_iter().map(|parked| parked.event_id).collect())
    }

    async fn parked_due(&self, now: UnixMillis, limit: usize) -> Result<Vec<ParkedEvent>, StoreError> {
        let tables = self.tables();
        let mut due: Vec<_> = tables
            .parked
            .values()
            .filter(|(_, parked)| parked.next_try <= now)
            .collect();
        due.sort_by_key(|(arrival, parked)| (parked.next_try, *arrival));
        Ok(due.into_iter().take(limit).map(|(_, parked)| parked.clone()).collect())
    }

    async fn server_keys(&self, server: &ServerName) -> Result<Vec<StoredServerKeys>, StoreError> {
        let tables = self.tables();
        let range = (server.clone(), [0; 32])..=(server.clone(), [255; 32]);
        let mut found: Vec<_> = tables.server_keys.range(range).map(|(_, keys)| keys.clone()).collect();
        found.sort_by_key(|keys| std::cmp::Reverse(keys.fetched_at));
        Ok(found)
    }

    async fn account(&self, user: &UserId) -> Result<Option<Account>, StoreError> {
        self.count_lookups(1);
        Ok(self.tables().accounts.get(user).cloned())
    }

    async fn account_by_token(&self, token_hash: &[u8; 32]) -> Result<Option<(UserId, Option<DeviceId>)>, StoreError> {
        Ok(self.tables().tokens.get(token_hash).cloned())
    }

    async fn devices(&self, user: &UserId) -> Result<Vec<DeviceId>, StoreError> {
        let tables = self.tables();
        Ok(tables
            .devices
            .keys()
            .filter(|(owner, _)| owner == user)
            .map(|(_, device)| device.clone())
            .collect())
    }

    async fn device(&self, user: &UserId, device: &DeviceId) -> Result<Option<StoredDevice>, StoreError> {
        let tables = self.tables();
        let key = (user.clone(), device.clone());
        Ok(tables.devices.contains_key(&key).then(|| StoredDevice {
            device: device.clone(),
            object: tables.encryption.objects.get(&key).cloned(),
        }))
    }

    async fn published_devices(&self, user: &UserId) -> Result<Vec<StoredDevice>, StoreError> {
        let tables = self.tables();
        let of_user = tables.encryption.objects.iter().filter(|((owner, _), _)| owner == user);
        let device = |((_, device), object): (&(UserId, DeviceId), &Bytes)| StoredDevice {
            device: device.clone(),
            object: Some(object.clone()),
        };
        Ok(of_user.map(device).collect())
    }

    async fn remote_devices(&self, user: &UserId) -> Result<Vec<RemoteDevice>, StoreError> {
        let tables = self.tables();
        let all = tables.encryption.remote_devices.values();
        Ok(all.filter(|device| device.user == *user).cloned().collect())
    }

    async fn add_key_packages(
        &self,
        user: &UserId,
        device: &DeviceId,
        packages: &[KeyPackage],
        now: UnixMillis,
    ) -> Result<Vec<KeyPackageKept>, StoreError> {
        Ok(self.tables().add_key_packages(user, device, packages, now))
    }

    async fn claim_key_packages(
        &self,
        claims: &[KeyPackageClaim],
        usable_at: UnixMillis,
    ) -> Result<Vec<Option<ClaimedKeyPackage>>, StoreError> {
        let mut tables = self.tables();
        let claimed = claims
            .iter()
            .map(|claim| tables.encryption.claim_key_package(claim, usable_at));
        Ok(claimed.collect())
    }

    async fn key_packages_left(
        &self,
        user: &UserId,
        device: &DeviceId,
        usable_at: UnixMillis,
    ) -> Result<Vec<KeyPackageCount>, StoreError> {
        Ok(self.tables().encryption.key_packages_left(user, device, usable_at))
    }

    async fn inbox(
        &self,
        user: &UserId,
        device: Option<&DeviceId>,
        after: i64,
        limit: usize,
    ) -> Result<Vec<InboxItem>, StoreError> {
        let tables = self.tables();
        let bounds = (Excluded((user.clone(), after)), Included((user.clone(), i64::MAX)));
        let items = if after == i64::MAX {
            None
        } else {
            Some(tables.inbox.range(bounds))
        };
        let readable = |item: &&InboxItem| item.device.is_none() || item.device.as_ref() == device;
        Ok(items
            .into_iter()
            .flatten()
            .map(|(_, item)| item)
            .filter(readable)
            .take(limit)
            .cloned()
            .collect())
    }

    async fn inbox_head(&self, user: &UserId) -> Result<i64, StoreError> {
        Ok(self.tables().inbox_heads.get(user).copied().unwrap_or(0))
    }

    async fn pending(&self, user: &UserId) -> Result<Vec<PendingRoom>, StoreError> {
        let tables = self.tables();
        Ok(tables
            .pending
            .values()
            .filter(|pending| pending.user == *user)
            .cloned()
            .collect())
    }

    async fn pending_len(&self, user: &UserId) -> Result<u64, StoreError> {
        let tables = self.tables();
        Ok(tables.pending.values().filter(|pending| pending.user == *user).count() as u64)
    }

    async fn pending_room(&self, user: &UserId, room: &RoomId) -> Result<Option<PendingRoom>, StoreError> {
        Ok(self.tables().pending.get(&(user.clone(), room.clone())).cloned())
    }

    async fn pending_in(&self, room: &RoomId) -> Result<Vec<PendingRoom>, StoreError> {
        let tables = self.tables();
        Ok(tables
            .pending
            .values()
            .filter(|pending| pending.room == *room)
            .cloned()
            .collect())
    }

    async fn media_file(&self, hash: &[u8; 32]) -> Result<Option<MediaFile>, StoreError> {
        Ok(self.tables().media.file(hash))
    }

    async fn cached_media(&self, server: &ServerName, media_id: &MediaId) -> Result<Option<MediaFile>, StoreError> {
        Ok(self.tables().media.cached(server, media_id))
    }

    async fn has_uploaded(&self, user: &UserId, hash: &[u8; 32]) -> Result<bool, StoreError> {
        Ok(self.tables().media.uploads.contains_key(&(user.clone(), *hash)))
    }

    async fn media_use(&self, user: &UserId, recent_after: UnixMillis) -> Result<MediaUse, StoreError> {
        Ok(self.tables().media.used_by(user, recent_after))
    }

    async fn media_beyond(&self, bytes: u64) -> Result<Vec<MediaFile>, StoreError> {
        Ok(self.tables().media.beyond(bytes))
    }
}

impl Tables {
    fn memberships_of(&self, room: &RoomId, user: &UserId) -> impl Iterator<Item = MembershipAt> {
        let key = |position| (room.clone(), user.clone(), LogPosition(position));
        self.memberships
            .range(key(i64::MIN)..=key(i64::MAX))
            .map(|((.., position), membership)| MembershipAt {
                position: *position,
                membership: *membership,
            })
    }

    fn status(&self, server: &ServerName) -> Option<DestinationStatus> {
        let row = self.destinations.get(server)?;
        let cursors = self.dirty_of(server).filter_map(|follower| follower.dirty_since);
        let direct = self.outbox_of(server).map(|(_, row)| row.at);
        let frozen = self.frozen.get(server).map(|request| request.frozen_at);
        Some(DestinationStatus {
            destination: server.clone(),
            failures: row.failures,
            next_attempt: row.next_attempt,
            last_error: row.last_error.clone(),
            oldest_dirty: cursors.chain(direct).chain(frozen).min(),
        })
    }

    fn dirty_of(&self, destination: &ServerName) -> impl Iterator<Item = &Follower> {
        self.followers
            .values()
            .flatten()
            .filter(move |follower| follower.server == *destination && follower.dirty_since.is_some())
    }

    fn outbox_of(&self, destination: &ServerName) -> impl Iterator<Item = (i64, &tables::OutboxRow)> {
        let bounds = (Included((destination.clone(), i64::MIN)), Unbounded);
        self.outbox
            .range(bounds)
            .take_while(move |((owner, _), _)| owner == destination)
            .map(|((_, seq), row)| (*seq, row))
    }
}

#[cfg(test)]
mod tests {
    use super::MemoryStore;
    use crate::Store;
    use crate::contract::fixture::{RoomLog, commit, pos};

    async fn open() -> (MemoryStore, ()) {
        (MemoryStore::new(), ())
    }

    crate::contract_tests!(open);

    #[tokio::test]
    async fn snapshot_goes_its_own_way() {
        let (store, log) = (MemoryStore::new(), RoomLog::hub("a"));
        commit(&store, [log.create()]).await.unwrap();
        let snapshot = store.snapshot();
        let other = RoomLog::hub("b");
        commit(&snapshot, [other.create()]).await.unwrap();
        assert_eq!(snapshot.head(log.id()).await.unwrap(), Some(pos(0)));
        assert_eq!(store.head(other.id()).await.unwrap(), None);
    }
}
