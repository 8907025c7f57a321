//! Rooms whose hub we are, in memory: one slot and one lock per room, loaded when first needed and dropped again when memory is short
//! or when there is doubt whether it still equals the database.
//!
//! A room is decided on under its lock, and what was decided is stored before anybody else sees the room again. If that fails, for
//! whatever reason, the room is loaded anew by whoever needs it next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use nabe_core::FollowerChange;
use nabe_core::mimi::{Audience, MimiCtx, MimiEntry, MimiEntryKind, MimiOutcome, MimiRoom, MimiUri, UnsoundRoom};
use nabe_store::{Batch, MimiWrite, NewLocalMessage, PolicyWrite, StoreError, Write};
use nabe_types::ServerName;
use tokio::sync::OwnedMutexGuard;

use super::{Mimi, beside};
use crate::error::ServiceError;
use crate::metric;
use crate::off_reactor::off_reactor;
use crate::rooms::is_group_checkpoint_due;

/// Every room that was used lately.
#[derive(Default)]
pub(crate) struct MimiRooms {
    slots: Mutex<BTreeMap<MimiUri, Arc<Slot>>>,
    uses: AtomicU64,
}

/// A room's place in memory.
#[derive(Default)]
struct Slot {
    room: Arc<tokio::sync::Mutex<Option<Loaded>>>,
    bytes: AtomicUsize,
    last_use: AtomicU64,
}

/// A room that equals the database, as far as we know.
struct Loaded {
    room: MimiRoom,
    /// Bytes of the group's changes since its last checkpoint.
    group_changes: usize,
    /// Bytes of that checkpoint.
    group_checkpoint: usize,
}

/// A room under its lock, and the one that it depends on, if it does.
pub(super) struct OpenRoom {
    room: Guarded,
    parent: Option<Guarded>,
}

/// One room under its lock.
struct Guarded {
    slot: Arc<Slot>,
    guard: OwnedMutexGuard<Option<Loaded>>,
    /// `None` only while being dropped.
    loaded: Option<Loaded>,
}

const THERE: &str = "taken out only by `commit` and `drop`";

impl MimiRooms {
    fn slots(&self) -> MutexGuard<'_, BTreeMap<MimiUri, Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot(&self, room: &MimiUri) -> Arc<Slot> {
        let mut slots = self.slots();
        let slot = Arc::clone(slots.entry(room.clone()).or_default());
        slot.last_use
            .store(self.uses.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        slot
    }

    /// Forgets a slot that nobody else holds, so that asking for rooms that do not exist leaves nothing behind. Whoever holds one will
    /// use it; a second one beside it would be a second copy of the room.
    fn forget(&self, room: &MimiUri, slot: &Arc<Slot>) {
        let mut slots = self.slots();
        // Ours and the one in the table: others are made under the table's lock alone.
        if Arc::strong_count(slot) == 2 && slots.get(room).is_some_and(|held| Arc::ptr_eq(held, slot)) {
            slots.remove(room);
        }
    }

    /// Estimated bytes of all rooms.
    pub(super) fn bytes(&self) -> usize {
        self.slots()
            .values()
            .map(|slot| slot.bytes.load(Ordering::Relaxed))
            .sum()
    }

    /// How many rooms have a place.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.slots().len()
    }

    /// Every slot, the one unused for longest first.
    fn by_last_use(&self) -> Vec<(MimiUri, Arc<Slot>)> {
        let mut slots: Vec<_> = self
            .slots()
            .iter()
            .map(|(room, slot)| (room.clone(), Arc::clone(slot)))
            .collect();
        slots.sort_by_key(|(_, slot)| slot.last_use.load(Ordering::Relaxed));
        slots
    }
}

impl OpenRoom {
    /// Its policy, for a room that is to depend on it.
    pub(super) fn policy(&self) -> &nabe_auth::mimi::Room {
        self.room().policy()
    }

    /// The room as it is stored.
    pub(super) fn room(&self) -> &MimiRoom {
        self.room.room()
    }

    /// What a decision about it may depend on.
    pub(super) fn ctx<'a>(&'a self, mimi: &'a Mimi) -> MimiCtx<'a> {
        MimiCtx {
            now: mimi.service.now(),
            signer: &*mimi.state.hub.signer,
            franking: mimi.state.franking.as_deref(),
            franking_agent: mimi.state.franking_agent.as_ref(),
            parent: self.parent.as_ref().map(|parent| parent.room().policy()),
        }
    }

    /// Makes what was decided on this room durable, together with `extra`, in one batch; then wakes whoever waits for it. To be called
    /// in a task of its own: half done, only the database knows what came of it.
    pub(super) async fn commit(self, mimi: &Mimi, outcome: MimiOutcome, extra: Vec<Write>) -> Result<(), ServiceError> {
        // The parent stays as it is until what depends on it is stored.
        let Self {
            mut room,
            parent: _parent,
        } = self;
        let mut loaded = room.loaded.take().expect(THERE);
        let mut woken: BTreeSet<ServerName> = loaded.room.followers().cloned().collect();
        let mut writes = append(&loaded.room, &outcome, mimi);
        let had_own_clients = loaded.room.has_own_clients();
        let beside = beside::Before::of(&loaded.room);
        let is_commit = outcome
            .append
            .first()
            .is_some_and(|entry| entry.kind == MimiEntryKind::Commit);
        let before = match is_commit {
            true => local_users(&loaded.room, mimi.domain()),
            false => BTreeSet::new(),
        };
        let may_take_out = outcome.may_take_out();
        let (appended, newest_change) = (outcome.append.clone(), outcome.group.last().map(|it| it.position));
        for change in &outcome.followers {
            let (FollowerChange::Open { server, .. }
            | FollowerChange::Close { server, .. }
            | FollowerChange::Once { server, .. }) = change;
            woken.insert(server.clone());
        }
        loaded.group_changes += outcome.group.iter().map(|change| change.bytes.len()).sum::<usize>();
        match newest_change {
            None => loaded.room.apply(outcome),
            Some(position) => {
                let due = is_group_checkpoint_due(loaded.group_changes, loaded.group_checkpoint);
                // As much is written again as the changes themselves took, so a change costs the same however large the group is.
                let checkpoint = off_reactor(|| {
                    loaded.room.apply(outcome);
                    due.then(|| loaded.room.group().checkpoint())
                });
                if let Some(checkpoint) = checkpoint {
                    (loaded.group_changes, loaded.group_checkpoint) = (0, checkpoint.len());
                    writes.push(Write::Mimi(MimiWrite::PutGroup {
                        room: loaded.room.uri().clone(),
                        position,
                        checkpoint,
                    }));
                }
            }
        }
        writes.extend(beside::changes(Some(&beside), &loaded.room, mimi));
        if may_take_out {
            let parent = loaded.room.uri().clone();
            writes.push(Write::Mimi(MimiWrite::Policy(PolicyWrite::MarkChildrenDue { parent })));
        }
        let mut is_for_local_users = false;
        if had_own_clients || loaded.room.has_own_clients() {
            let delivery = for_local_users(&loaded.room, &before, &appended, mimi);
            is_for_local_users = delivery.is_some();
            writes.extend(delivery);
        }
        writes.extend(extra);
        if let Err(error) = mimi.service.commit(Batch(writes)).await {
            room.slot.bytes.store(0, Ordering::Relaxed);
            if error.is_conflict() {
                metrics::counter!(metric::CONFLICTS).increment(1);
            }
            return Err(error);
        }
        metrics::counter!(metric::MIMI_APPENDED).increment(appended.len() as u64);
        if !woken.is_empty() {
            mimi.state.recent.add(loaded.room.uri(), &appended);
        }
        let uri = loaded.room.uri().clone();
        if newest_change.is_some() {
            room.slot.bytes.store(loaded.room.size_bytes(), Ordering::Relaxed);
        }
        let is_child = loaded.room.policy().policy().base().parent_dependant;
        *room.guard = Some(loaded);
        drop(room);
        mimi.wake_notify(&uri, woken);
        if may_take_out || is_commit && is_child {
            mimi.wake_children();
        }
        if is_for_local_users {
            mimi.wake_local(&uri).await;
        }
        Ok(())
    }
}

impl Guarded {
    fn room(&self) -> &MimiRoom {
        &self.loaded.as_ref().expect(THERE).room
    }

    /// The room that this one depends on.
    fn parent(&self) -> Option<MimiUri> {
        beside::parent_of(self.room().policy().policy())
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // Nothing was decided, or it was put back already; otherwise the room is in doubt and stays out.
        if let Some(loaded) = self.loaded.take() {
            *self.guard = Some(loaded);
        }
    }
}

impl Mimi {
    /// Locks a room, and the one that it depends on; `None` if we are not its hub, or there is no such room. Locks are taken in the
    /// order of the rooms' URIs.
    pub(super) async fn open(&self, uri: &MimiUri) -> Result<Option<OpenRoom>, ServiceError> {
        if uri.host() != self.domain().as_str() {
            return Ok(None);
        }
        let mut first = None;
        loop {
            let held = match &first {
                Some(uri) => self.lock(uri).await?,
                None => None,
            };
            let Some(room) = self.lock(uri).await? else {
                return Ok(None);
            };
            let parent = room.parent();
            match parent {
                Some(parent) if Some(&parent) == first.as_ref() => return Ok(Some(OpenRoom { room, parent: held })),
                Some(parent) if parent < *uri => first = Some(parent),
                Some(parent) if parent > *uri => {
                    let parent = self.lock(&parent).await?;
                    return Ok(Some(OpenRoom { room, parent }));
                }
                _ => return Ok(Some(OpenRoom { room, parent: None })),
            }
        }
    }

    async fn lock(&self, uri: &MimiUri) -> Result<Option<Guarded>, ServiceError> {
        let rooms = &self.state.rooms;
        let slot = rooms.slot(uri);
        let mut guard = Arc::clone(&slot.room).lock_owned().await;
        let loaded = match guard.take() {
            Some(loaded) => loaded,
            None => match self.load(uri).await {
                Ok(Some(loaded)) => {
                    slot.bytes.store(loaded.room.size_bytes(), Ordering::Relaxed);
                    loaded
                }
                other => {
                    rooms.forget(uri, &slot);
                    return other.map(|_| None);
                }
            },
        };
        Ok(Some(Guarded {
            slot,
            guard,
            loaded: Some(loaded),
        }))
    }

    async fn load(&self, uri: &MimiUri) -> Result<Option<Loaded>, ServiceError> {
        let Some(stored) = self.service.store().mimi_room(uri).await? else {
            return Ok(None);
        };
        let group = &stored.group;
        let group_changes = group.changes.iter().map(|change| change.bytes.len()).sum();
        let group_checkpoint = group.checkpoint.as_ref().map_or(0, Bytes::len);
        let room = off_reactor(|| MimiRoom::restore(stored, self.domain())).map_err(|error| unsound(uri, &error))?;
        if self.has_other_agent(&room) {
            tracing::warn!(room = %uri, "the room's franking agent is not this provider's: its messages are not franked");
        }
        Ok(Some(Loaded {
            room,
            group_changes,
            group_checkpoint,
        }))
    }

    /// Wakes those of our users who read a room. They find what there is without it, too, only later.
    pub(super) async fn wake_local(&self, room: &MimiUri) {
        if let Err(error) = self.tell_of_room(room).await {
            tracing::warn!(%room, %error, "local users could not be told of a room");
        }
    }

    /// Drops the rooms unused for longest until the rest fits the limit.
    pub(crate) fn evict_rooms(&self) {
        self.forget_rooms_beyond(self.settings().room_memory_bytes);
    }

    pub(super) fn forget_rooms_beyond(&self, limit: usize) {
        let rooms = &self.state.rooms;
        let mut bytes = rooms.bytes();
        metrics::gauge!(metric::MIMI_ROOM_BYTES).set(bytes as f64);
        if bytes <= limit {
            return;
        }
        for (uri, slot) in rooms.by_last_use() {
            if bytes <= limit {
                break;
            }
            // A room in use is not idle, whatever its age says.
            let Ok(mut guard) = Arc::clone(&slot.room).try_lock_owned() else {
                continue;
            };
            bytes = bytes.saturating_sub(slot.bytes.swap(0, Ordering::Relaxed));
            *guard = None;
            rooms.forget(&uri, &slot);
        }
    }
}

/// The writes that make an outcome durable.
pub(super) fn append(room: &MimiRoom, outcome: &MimiOutcome, mimi: &Mimi) -> Vec<Write> {
    let expected = outcome
        .append
        .first()
        .map_or_else(|| room.position(), |entry| entry.position.previous());
    let mut writes = vec![Write::Mimi(MimiWrite::Append {
        room: room.uri().clone(),
        expected,
        entries: outcome.append.clone(),
        group: outcome.group.clone(),
        left_over: outcome.left_over.clone(),
        followers: outcome.followers.clone(),
        now: mimi.service.now(),
    })];
    if !outcome.welcomed.is_empty() {
        let references = outcome.welcomed.clone();
        writes.push(Write::Mimi(MimiWrite::ForgetKeyPackages { references }));
    }
    writes
}

/// What of these entries goes into the log that our own users read, where the hub is us as well as elsewhere. Whoever comes to the room
/// with a commit may read it from their Welcome on, or from the commit on by which they joined themselves; who creates it, all of it. Of
/// the users `before` a commit, those who have no client in the group after it read that commit as the last. Messages are withheld from
/// whoever is about to go (MIMI #fanout-messages-and-room-events); what their clients need to follow the commit is not.
pub(super) fn for_local_users(
    room: &MimiRoom,
    before: &BTreeSet<MimiUri>,
    entries: &[MimiEntry],
    mimi: &Mimi,
) -> Option<Write> {
    let us = mimi.domain();
    let ours: Vec<_> = entries.iter().filter(|entry| is_for_local_users(entry, us)).collect();
    let welcome = ours.iter().position(|entry| entry.kind == MimiEntryKind::Welcome);
    let begins = |entry: &MimiEntry| matches!(entry.kind, MimiEntryKind::Founded | MimiEntryKind::Commit);
    let (mut readers, mut leavers) = (Vec::new(), Vec::new());
    if entries.first().is_some_and(begins) {
        let now = local_users(room, us);
        leavers.extend(before.difference(&now).map(|user| (user.clone(), 0)));
        readers.extend(now.into_iter().map(|user| (user, welcome.unwrap_or(0))));
    }
    if ours.is_empty() && readers.is_empty() {
        return None;
    }
    let message = |entry: &&MimiEntry| NewLocalMessage {
        accepted: entry.accepted,
        body: entry.body.clone(),
        marks: Vec::new(),
        withheld_from: match entry.kind {
            MimiEntryKind::Application => room.own_users_without_messages().cloned().collect(),
            _ => Vec::new(),
        },
    };
    let messages = ours.iter().map(message).collect();
    Some(mimi.delivery(room.uri(), messages, readers, leavers))
}

/// Whether an entry goes to clients of the hub's own users. What one of them sent, the others have from nobody else.
fn is_for_local_users(entry: &MimiEntry, us: &ServerName) -> bool {
    match (&entry.audience, entry.kind) {
        (_, MimiEntryKind::Founded) => false,
        (Audience::Others, _) => true,
        (Audience::Only(_), MimiEntryKind::Application) => entry.origin == *us || entry.is_for(us),
        (Audience::Only(_), _) => entry.is_for(us),
    }
}

/// Our users with clients in the group.
fn local_users(room: &MimiRoom, us: &ServerName) -> BTreeSet<MimiUri> {
    let users = room.group().members().map(|(_, member)| member.user());
    let ours: BTreeSet<_> = users.filter(|user| user.host() == us.as_str()).collect();
    ours.into_iter().cloned().collect()
}

fn unsound(uri: &MimiUri, error: &UnsoundRoom) -> ServiceError {
    tracing::error!(room = %uri, %error, "a stored room cannot be read");
    ServiceError::from(StoreError::Inconsistent {
        table: "mimi_rooms",
        column: "uri",
        row: uri.to_string(),
    })
}

/// How often a decision is made again because the room moved.
pub(super) const ATTEMPTS: usize = 8;
