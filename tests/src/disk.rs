//! A store as a process sees it that may die at any moment: once its [`Life`] is over, no call returns any more and nothing is
//! written. A fuse makes it die at a chosen commit, just before it or just after it.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use nabe_core::Entry;
use nabe_core::mimi::{MimiEntry, MimiUri, StoredMimiRoom};
use nabe_event::Pdu;
use nabe_store::{
    Account, Batch, Between, ClaimedKeyPackage, ClaimedMimiKeyPackage, ConsentScope, ConsentState, DeliveryRange,
    DestinationStatus, DirectItem, EntryBytes, FetchedKeyPackage, Follower, Forwarded, GrantedKeyPackage,
    IdempotencyKey, InboxItem, IssuedKeyPackage, JoinLinkTerms, KeptConsent, KeptReport, KeyPackage, KeyPackageClaim,
    KeyPackageCount, KeyPackageKept, KnownLpdu, LocalMessage, LocalOrder, LocalRoom, MediaFile, MediaUse, MembershipAt,
    MimiFollower, MimiKeyPackage, MimiKeyPackageClaim, MimiKeyPackageOffer, MimiOrderStore, MimiStore, MimiUserStore,
    Notification, NotifyWork, OpenForward, OpenOfUser, OpenReports, Order, OutboundRequest, ParkedEvent, PendingRoom,
    PolicyStore, ProfileEntry, ReadableRoom, RemoteDevice, ReportState, ReportStore, RoomMembership, RoomSummary,
    ShownJoinCode, Store, StoreError, StoredDevice, StoredReply, StoredRoom, StoredServerKeys,
};
use nabe_types::{DeviceId, EventId, LogPosition, MediaId, RoomId, ServerName, UnixMillis, UserId};

use crate::activity::{Activity, Life, Ongoing};

/// The store of one run of one server.
pub struct Disk {
    inner: Mutex<Option<Arc<dyn Store>>>,
    life: Life,
    fuse: Mutex<Option<Fuse>>,
    activity: Activity,
}

/// When to die.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Fuse {
    /// Commits that still succeed.
    pub commits: u8,
    /// Whether the one after them is written, though nobody hears of it.
    pub written: bool,
}

impl Disk {
    /// What `life` sees of `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>, life: Life, activity: Activity) -> Self {
        Self {
            inner: Mutex::new(Some(inner)),
            life,
            fuse: Mutex::new(None),
            activity,
        }
    }

    /// Lights a fuse.
    pub fn set_fuse(&self, fuse: Fuse) {
        *self.fuse.lock().unwrap_or_else(PoisonError::into_inner) = Some(fuse);
    }

    /// Lets go of the store, after the life has ended. Calls under way hold it until they are done.
    pub fn release(&self) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    async fn enter(&self) -> (Arc<dyn Store>, Ongoing) {
        self.life.survive().await;
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match inner {
            Some(inner) => (inner, self.activity.work()),
            None => std::future::pending().await,
        }
    }

    /// Whether this commit is the one to die at, and whether it is still written.
    fn burn(&self) -> Option<bool> {
        let mut fuse = self.fuse.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *fuse {
            Some(Fuse { commits: 0, written }) => {
                let written = *written;
                *fuse = None;
                Some(written)
            }
            Some(Fuse { commits, .. }) => {
                *commits -= 1;
                None
            }
            None => None,
        }
    }
}

/// A call that has no effect, and no answer, in a process that is dead.
macro_rules! call {
    ($disk:ident.$method:ident($($argument:expr),*)) => {{
        let (inner, ongoing) = $disk.enter().await;
        let answer = inner.$method($($argument),*).await;
        drop((inner, ongoing));
        $disk.life.survive().await;
        answer
    }};
}

#[async_trait]
impl Store for Disk {
    async fn commit(&self, batches: Vec<Batch>) -> Result<Vec<Result<(), StoreError>>, StoreError> {
        match self.burn() {
            Some(false) => self.life.end(),
            Some(true) => {
                let (inner, ongoing) = self.enter().await;
                let answer = inner.commit(batches).await;
                drop((inner, ongoing));
                self.life.end();
                self.life.survive().await;
                return answer;
            }
            None => {}
        }
        call!(self.commit(batches))
    }

    async fn load(&self, room: &RoomId) -> Result<Option<StoredRoom>, StoreError> {
        call!(self.load(room))
    }

    async fn newest_commit(&self, room: &RoomId) -> Result<Option<LogPosition>, StoreError> {
        call!(self.newest_commit(room))
    }

    async fn head(&self, room: &RoomId) -> Result<Option<LogPosition>, StoreError> {
        call!(self.head(room))
    }

    async fn first(&self, room: &RoomId) -> Result<Option<LogPosition>, StoreError> {
        call!(self.first(room))
    }

    async fn entries(
        &self,
        room: &RoomId,
        between: Between,
        limit: usize,
        order: Order,
    ) -> Result<Vec<Entry>, StoreError> {
        call!(self.entries(room, between, limit, order))
    }

    async fn entry_bytes(&self, stretches: &[(RoomId, Between)]) -> Result<Vec<EntryBytes>, StoreError> {
        call!(self.entry_bytes(stretches))
    }

    async fn entry(&self, event_id: &EventId) -> Result<Option<(RoomId, Entry)>, StoreError> {
        call!(self.entry(event_id))
    }

    async fn entries_by_lpdu(&self, lpdus: &[(RoomId, EventId)]) -> Result<Vec<(RoomId, KnownLpdu)>, StoreError> {
        call!(self.entries_by_lpdu(lpdus))
    }

    async fn events(&self, room: &RoomId, ids: &[EventId]) -> Result<Vec<Pdu>, StoreError> {
        call!(self.events(room, ids))
    }

    async fn state_before(&self, room: &RoomId, position: LogPosition) -> Result<Option<Vec<Pdu>>, StoreError> {
        call!(self.state_before(room, position))
    }

    async fn rooms(&self) -> Result<Vec<RoomSummary>, StoreError> {
        call!(self.rooms())
    }

    async fn rooms_of(&self, user: &UserId) -> Result<Vec<RoomMembership>, StoreError> {
        call!(self.rooms_of(user))
    }

    async fn membership_history(&self, room: &RoomId, user: &UserId) -> Result<Vec<MembershipAt>, StoreError> {
        call!(self.membership_history(room, user))
    }

    async fn servers_sharing_rooms_with(&self, user: &UserId) -> Result<Vec<ServerName>, StoreError> {
        call!(self.servers_sharing_rooms_with(user))
    }

    async fn followers(&self, room: &RoomId) -> Result<Vec<Follower>, StoreError> {
        call!(self.followers(room))
    }

    async fn dirty(&self, destination: &ServerName, limit: usize) -> Result<Vec<DeliveryRange>, StoreError> {
        call!(self.dirty(destination, limit))
    }

    async fn outbox(&self, destination: &ServerName, limit: usize) -> Result<Vec<(i64, DirectItem)>, StoreError> {
        call!(self.outbox(destination, limit))
    }

    async fn outbox_items(&self, destination: &ServerName, seqs: &[i64]) -> Result<Vec<(i64, DirectItem)>, StoreError> {
        call!(self.outbox_items(destination, seqs))
    }

    async fn outbox_len(&self, destination: &ServerName) -> Result<u64, StoreError> {
        call!(self.outbox_len(destination))
    }

    async fn frozen(&self, destination: &ServerName) -> Result<Option<OutboundRequest>, StoreError> {
        call!(self.frozen(destination))
    }

    async fn destinations_with_work(&self) -> Result<Vec<DestinationStatus>, StoreError> {
        call!(self.destinations_with_work())
    }

    async fn destination(&self, server: &ServerName) -> Result<Option<DestinationStatus>, StoreError> {
        call!(self.destination(server))
    }

    async fn reply(&self, key: &IdempotencyKey) -> Result<Option<StoredReply>, StoreError> {
        call!(self.reply(key))
    }

    async fn replies(
        &self,
        scope: &str,
        endpoint: &str,
        txn_ids: &[&str],
    ) -> Result<BTreeMap<String, StoredReply>, StoreError> {
        call!(self.replies(scope, endpoint, txn_ids))
    }

    async fn parked(&self, room: &RoomId) -> Result<Vec<ParkedEvent>, StoreError> {
        call!(self.parked(room))
    }

    async fn parked_ids(&self, room: &RoomId) -> Result<Vec<EventId>, StoreError> {
        call!(self.parked_ids(room))
    }

    async fn parked_due(&self, now: UnixMillis, limit: usize) -> Result<Vec<ParkedEvent>, StoreError> {
        call!(self.parked_due(now, limit))
    }

    async fn server_keys(&self, server: &ServerName) -> Result<Vec<StoredServerKeys>, StoreError> {
        call!(self.server_keys(server))
    }

    async fn account(&self, user: &UserId) -> Result<Option<Account>, StoreError> {
        call!(self.account(user))
    }

    async fn account_by_token(&self, token_hash: &[u8; 32]) -> Result<Option<(UserId, Option<DeviceId>)>, StoreError> {
        call!(self.account_by_token(token_hash))
    }

    async fn devices(&self, user: &UserId) -> Result<Vec<DeviceId>, StoreError> {
        call!(self.devices(user))
    }

    async fn inbox(
        &self,
        user: &UserId,
        device: Option<&DeviceId>,
        after: i64,
        limit: usize,
    ) -> Result<Vec<InboxItem>, StoreError> {
        call!(self.inbox(user, device, after, limit))
    }

    async fn inbox_head(&self, user: &UserId) -> Result<i64, StoreError> {
        call!(self.inbox_head(user))
    }

    async fn pending(&self, user: &UserId) -> Result<Vec<PendingRoom>, StoreError> {
        call!(self.pending(user))
    }

    async fn pending_len(&self, user: &UserId) -> Result<u64, StoreError> {
        call!(self.pending_len(user))
    }

    async fn pending_room(&self, user: &UserId, room: &RoomId) -> Result<Option<PendingRoom>, StoreError> {
        call!(self.pending_room(user, room))
    }

    async fn pending_in(&self, room: &RoomId) -> Result<Vec<PendingRoom>, StoreError> {
        call!(self.pending_in(room))
    }

    async fn users_sharing_rooms_with(&self, user: &UserId, server: &ServerName) -> Result<Vec<UserId>, StoreError> {
        call!(self.users_sharing_rooms_with(user, server))
    }

    async fn device(&self, user: &UserId, device: &DeviceId) -> Result<Option<StoredDevice>, StoreError> {
        call!(self.device(user, device))
    }

    async fn published_devices(&self, user: &UserId) -> Result<Vec<StoredDevice>, StoreError> {
        call!(self.published_devices(user))
    }

    async fn remote_devices(&self, user: &UserId) -> Result<Vec<RemoteDevice>, StoreError> {
        call!(self.remote_devices(user))
    }

    async fn add_key_packages(
        &self,
        user: &UserId,
        device: &DeviceId,
        packages: &[KeyPackage],
        now: UnixMillis,
    ) -> Result<Vec<KeyPackageKept>, StoreError> {
        call!(self.add_key_packages(user, device, packages, now))
    }

    async fn claim_key_packages(
        &self,
        claims: &[KeyPackageClaim],
        usable_at: UnixMillis,
    ) -> Result<Vec<Option<ClaimedKeyPackage>>, StoreError> {
        call!(self.claim_key_packages(claims, usable_at))
    }

    async fn key_packages_left(
        &self,
        user: &UserId,
        device: &DeviceId,
        usable_at: UnixMillis,
    ) -> Result<Vec<KeyPackageCount>, StoreError> {
        call!(self.key_packages_left(user, device, usable_at))
    }

    async fn media_file(&self, hash: &[u8; 32]) -> Result<Option<MediaFile>, StoreError> {
        call!(self.media_file(hash))
    }

    async fn cached_media(&self, server: &ServerName, media_id: &MediaId) -> Result<Option<MediaFile>, StoreError> {
        call!(self.cached_media(server, media_id))
    }

    async fn has_uploaded(&self, user: &UserId, hash: &[u8; 32]) -> Result<bool, StoreError> {
        call!(self.has_uploaded(user, hash))
    }

    async fn media_use(&self, user: &UserId, recent_after: UnixMillis) -> Result<MediaUse, StoreError> {
        call!(self.media_use(user, recent_after))
    }

    async fn media_beyond(&self, bytes: u64) -> Result<Vec<MediaFile>, StoreError> {
        call!(self.media_beyond(bytes))
    }
}

#[async_trait]
impl MimiStore for Disk {
    async fn mimi_room(&self, room: &MimiUri) -> Result<Option<StoredMimiRoom>, StoreError> {
        call!(self.mimi_room(room))
    }

    async fn mimi_head(&self, room: &MimiUri) -> Result<Option<LogPosition>, StoreError> {
        call!(self.mimi_head(room))
    }

    async fn mimi_rooms(&self) -> Result<Vec<MimiUri>, StoreError> {
        call!(self.mimi_rooms())
    }

    async fn mimi_entries(
        &self,
        room: &MimiUri,
        between: Between,
        limit: usize,
        max_bytes: usize,
    ) -> Result<Vec<MimiEntry>, StoreError> {
        call!(self.mimi_entries(room, between, limit, max_bytes))
    }

    async fn mimi_followers(&self, room: &MimiUri) -> Result<Vec<MimiFollower>, StoreError> {
        call!(self.mimi_followers(room))
    }

    async fn notify_work(&self, now: UnixMillis, limit: usize) -> Result<Vec<NotifyWork>, StoreError> {
        call!(self.notify_work(now, limit))
    }

    async fn notify_work_of(&self, room: &MimiUri, provider: &ServerName) -> Result<Option<NotifyWork>, StoreError> {
        call!(self.notify_work_of(room, provider))
    }

    async fn notification(&self, room: &MimiUri, provider: &ServerName) -> Result<Option<Notification>, StoreError> {
        call!(self.notification(room, provider))
    }

    async fn fetched_key_packages(
        &self,
        references: &[Bytes],
        room: Option<&MimiUri>,
    ) -> Result<Vec<FetchedKeyPackage>, StoreError> {
        call!(self.fetched_key_packages(references, room))
    }
}

#[async_trait]
impl MimiOrderStore for Disk {
    async fn local_order(&self, room: &MimiUri) -> Result<LocalOrder, StoreError> {
        call!(self.local_order(room))
    }

    async fn delivered_messages(
        &self,
        room: &MimiUri,
        messages: &[[u8; 32]],
    ) -> Result<BTreeSet<[u8; 32]>, StoreError> {
        call!(self.delivered_messages(room, messages))
    }

    async fn forwards_due(&self, now: UnixMillis, limit: usize) -> Result<Vec<OpenForward>, StoreError> {
        call!(self.forwards_due(now, limit))
    }

    async fn next_forward(&self) -> Result<Option<UnixMillis>, StoreError> {
        call!(self.next_forward())
    }

    async fn forwarded(&self, room: &MimiUri, request: &[u8; 32]) -> Result<Option<Forwarded>, StoreError> {
        call!(self.forwarded(room, request))
    }

    async fn open_forwards_of(&self, user: &MimiUri) -> Result<OpenOfUser, StoreError> {
        call!(self.open_forwards_of(user))
    }

    async fn rooms_waiting_since(&self, before: UnixMillis) -> Result<Vec<MimiUri>, StoreError> {
        call!(self.rooms_waiting_since(before))
    }
}

#[async_trait]
impl PolicyStore for Disk {
    async fn join_link(&self, room: &MimiUri, link: &[u8]) -> Result<Option<JoinLinkTerms>, StoreError> {
        call!(self.join_link(room, link))
    }

    async fn due_child_rooms(&self, after: Option<&MimiUri>, limit: usize) -> Result<Vec<MimiUri>, StoreError> {
        call!(self.due_child_rooms(after, limit))
    }

    async fn rooms_to_note(&self, after: Option<&MimiUri>, limit: usize) -> Result<Vec<MimiUri>, StoreError> {
        call!(self.rooms_to_note(after, limit))
    }
}

#[async_trait]
impl ReportStore for Disk {
    async fn reports(
        &self,
        after: i64,
        only: Option<ReportState>,
        limit: usize,
    ) -> Result<Vec<KeptReport>, StoreError> {
        call!(self.reports(after, only, limit))
    }

    async fn report(&self, number: i64) -> Result<Option<KeptReport>, StoreError> {
        call!(self.report(number))
    }

    async fn open_reports(&self, provider: &ServerName, prefix: &[u8]) -> Result<OpenReports, StoreError> {
        call!(self.open_reports(provider, prefix))
    }
}

#[async_trait]
impl MimiUserStore for Disk {
    async fn local_room(&self, room: &MimiUri) -> Result<Option<LocalRoom>, StoreError> {
        call!(self.local_room(room))
    }

    async fn was_delivered(&self, hub: &ServerName, room: &MimiUri, once: &[u8; 32]) -> Result<bool, StoreError> {
        call!(self.was_delivered(hub, room, once))
    }

    async fn messages_readable_by(
        &self,
        user: &MimiUri,
        room: &MimiUri,
        after: LogPosition,
        limit: usize,
        max_bytes: usize,
    ) -> Result<Vec<LocalMessage>, StoreError> {
        call!(self.messages_readable_by(user, room, after, limit, max_bytes))
    }

    async fn local_messages(
        &self,
        room: &MimiUri,
        after: LogPosition,
        limit: usize,
        max_bytes: usize,
    ) -> Result<Vec<LocalMessage>, StoreError> {
        call!(self.local_messages(room, after, limit, max_bytes))
    }

    async fn rooms_readable_by(&self, user: &MimiUri) -> Result<Vec<ReadableRoom>, StoreError> {
        call!(self.rooms_readable_by(user))
    }

    async fn readable_room(&self, user: &MimiUri, room: &MimiUri) -> Result<Option<ReadableRoom>, StoreError> {
        call!(self.readable_room(user, room))
    }

    async fn shown_join_code(
        &self,
        room: &MimiUri,
        user: &MimiUri,
        signature_key: &[u8],
        now: UnixMillis,
    ) -> Result<Option<ShownJoinCode>, StoreError> {
        call!(self.shown_join_code(room, user, signature_key, now))
    }

    async fn add_mimi_key_packages(
        &self,
        user: &MimiUri,
        client: &MimiUri,
        packages: &[MimiKeyPackage],
        now: UnixMillis,
    ) -> Result<Vec<KeyPackageKept>, StoreError> {
        call!(self.add_mimi_key_packages(user, client, packages, now))
    }

    async fn mimi_clients(&self, user: &MimiUri) -> Result<Vec<MimiUri>, StoreError> {
        call!(self.mimi_clients(user))
    }

    async fn mimi_key_package_offers(
        &self,
        user: &MimiUri,
        usable_at: UnixMillis,
    ) -> Result<Vec<MimiKeyPackageOffer>, StoreError> {
        call!(self.mimi_key_package_offers(user, usable_at))
    }

    async fn claim_mimi_key_packages(
        &self,
        claims: &[MimiKeyPackageClaim],
        usable_at: UnixMillis,
    ) -> Result<Vec<Option<ClaimedMimiKeyPackage>>, StoreError> {
        call!(self.claim_mimi_key_packages(claims, usable_at))
    }

    async fn issued_key_packages(
        &self,
        references: &[Bytes],
        hub: &ServerName,
        room: &MimiUri,
    ) -> Result<Vec<IssuedKeyPackage>, StoreError> {
        call!(self.issued_key_packages(references, hub, room))
    }

    async fn profile(&self, user: &MimiUri) -> Result<Vec<ProfileEntry>, StoreError> {
        call!(self.profile(user))
    }

    async fn users_by_value(&self, value: &str, limit: usize) -> Result<Vec<MimiUri>, StoreError> {
        call!(self.users_by_value(value, limit))
    }

    async fn users_by_nick(&self, nick: &str, limit: usize) -> Result<Vec<MimiUri>, StoreError> {
        call!(self.users_by_nick(nick, limit))
    }

    async fn users_by_part(&self, part: &str, limit: usize) -> Result<Vec<MimiUri>, StoreError> {
        call!(self.users_by_part(part, limit))
    }

    async fn consent(&self, scope: &ConsentScope) -> Result<ConsentState, StoreError> {
        call!(self.consent(scope))
    }

    async fn consents_of(&self, user: &MimiUri, after: i64, limit: usize) -> Result<Vec<KeptConsent>, StoreError> {
        call!(self.consents_of(user, after, limit))
    }

    async fn granted_key_packages(
        &self,
        scope: &ConsentScope,
        usable_at: UnixMillis,
    ) -> Result<Vec<GrantedKeyPackage>, StoreError> {
        call!(self.granted_key_packages(scope, usable_at))
    }

    async fn take_granted_key_packages(&self, references: &[Bytes]) -> Result<bool, StoreError> {
        call!(self.take_granted_key_packages(references))
    }
}
