//! Rooms in memory: one slot and one lock per room, its view loaded when first needed (checkpoint, then the entries
//! after it) and dropped again when memory is short or when there is doubt whether it still equals the database.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use nabe_core::{Ctx, Decision, Entry, FollowerChange, GroupChange, Input, Outcome, Refusal, RoomMeta, RoomView};
use nabe_store::{Batch, Between, Order, StoreError, Write};
use nabe_types::{EventId, LogPosition, RoomId, ServerName, UserId};
use tokio::sync::OwnedMutexGuard;

use crate::error::{Missing, ServiceError};
use crate::hooks::LpduFate;
use crate::off_reactor::off_reactor;
use crate::{Service, metric};

/// Every room that was used lately.
#[derive(Default)]
pub(crate) struct Rooms {
    slots: Mutex<BTreeMap<RoomId, Arc<Slot>>>,
    uses: AtomicU64,
}

/// A room's place in memory.
#[derive(Default)]
pub(crate) struct Slot {
    meta: OnceLock<RoomMeta>,
    view: Arc<tokio::sync::Mutex<Option<Loaded>>>,
    bytes: AtomicUsize,
    last_use: AtomicU64,
}

/// A view that equals the database, as far as we know.
pub(crate) struct Loaded {
    view: RoomView,
    /// Entries up to here need not be replayed on the next load.
    checkpointed: LogPosition,
    /// Bytes of the group's changes since its last checkpoint.
    group_changes: usize,
    /// Bytes of that checkpoint.
    group_checkpoint: usize,
}

/// A room under its lock, being decided on. What is decided is applied to the view at once and committed later; if the
/// commit does not happen, for whatever reason, the view is dropped and loaded again by the next user.
pub(crate) struct OpenRoom {
    slot: Arc<Slot>,
    guard: OwnedMutexGuard<Option<Loaded>>,
    /// `None` only while being dropped.
    loaded: Option<Loaded>,
    base: LogPosition,
    staged: Staged,
}

/// What was decided and is not committed yet.
#[derive(Default)]
pub(crate) struct Staged {
    entries: Vec<Entry>,
    followers: Vec<FollowerChange>,
    group: Vec<GroupChange>,
    /// Inbox items and the like that belong to the entries.
    consequences: Vec<Write>,
    /// Servers that are owed something new.
    pub(crate) destinations: std::collections::BTreeSet<ServerName>,
    /// Local users whose inbox grows.
    pub(crate) users: std::collections::BTreeSet<UserId>,
}

impl Staged {
    /// Adds writes for local users that come with the entries.
    pub(crate) fn add_consequences(&mut self, user: UserId, writes: impl IntoIterator<Item = Write>) {
        self.consequences.extend(writes);
        self.users.insert(user);
    }
}

impl Rooms {
    fn slot(&self, room: &RoomId) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = Arc::clone(slots.entry(room.clone()).or_default());
        slot.last_use
            .store(self.uses.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        slot
    }

    /// Forgets a slot nobody else holds, so that asking for rooms that do not exist leaves nothing behind.
    fn forget(&self, room: &RoomId, slot: &Arc<Slot>) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.get(room).is_some_and(|held| Arc::ptr_eq(held, slot)) {
            slots.remove(room);
        }
    }

    /// Estimated bytes of all views.
    pub(crate) fn bytes(&self) -> usize {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.values().map(|slot| slot.bytes.load(Ordering::Relaxed)).sum()
    }

    /// Every slot, the one unused for longest first.
    fn by_last_use(&self) -> Vec<(RoomId, Arc<Slot>)> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let mut slots: Vec<_> = slots
            .iter()
            .map(|(room, slot)| (room.clone(), Arc::clone(slot)))
            .collect();
        slots.sort_by_key(|(_, slot)| slot.last_use.load(Ordering::Relaxed));
        slots
    }
}

impl OpenRoom {
    /// The view with everything decided so far.
    pub(crate) fn view(&self) -> &RoomView {
        &self.loaded.as_ref().expect("taken out only by `keep` and `drop`").view
    }

    /// Whether something waits to be committed.
    pub(crate) fn is_staged(&self) -> bool {
        !self.staged.entries.is_empty()
    }

    /// Decides and, if there is something to append, stages it and takes it into the view.
    pub(crate) fn decide(&mut self, input: &Input, service: &Service) -> Result<Decision, Refusal> {
        if self.view().is_for_the_group(input) {
            off_reactor(|| self.decide_here(input, service))
        } else {
            self.decide_here(input, service)
        }
    }

    fn decide_here(&mut self, input: &Input, service: &Service) -> Result<Decision, Refusal> {
        let ctx = Ctx {
            now: service.now(),
            server: service.server_name(),
            signer: service.signer(),
        };
        let decision = self.view().decide(input, &ctx)?;
        if let Decision::Done(outcome) = &decision {
            self.stage(outcome, service);
        }
        Ok(decision)
    }

    fn stage(&mut self, outcome: &Outcome, service: &Service) {
        for change in &outcome.followers {
            let (FollowerChange::Open { server, .. }
            | FollowerChange::Close { server, .. }
            | FollowerChange::Once { server, .. }) = change;
            self.staged.destinations.insert(server.clone());
        }
        if let Some(reason) = &outcome.soft_failure {
            let event_id = outcome.append.first().map(Entry::event_id).map(EventId::as_str);
            metrics::counter!(metric::EVENTS_SOFT_FAILED, "rule" => reason.rule()).increment(1);
            tracing::warn!(room = %self.view().meta().room_id, event_id, rule = reason.rule(), %reason, "the hub sent a commit it should have refused");
        }
        for entry in &outcome.append {
            let view = &self.loaded.as_ref().expect("taken out only by `keep` and `drop`").view;
            service.consequences_of(view, entry, &mut self.staged);
        }
        self.loaded
            .as_mut()
            .expect("taken out only by `keep` and `drop`")
            .view
            .apply(outcome);
        self.staged.entries.extend(outcome.append.iter().cloned());
        self.staged.followers.extend(outcome.followers.iter().cloned());
        self.staged.group.extend(outcome.group.clone());
    }

    /// The writes that make what is staged durable, a checkpoint among them now and then.
    fn writes(&mut self, service: &Service) -> Vec<Write> {
        if !self.is_staged() {
            return Vec::new();
        }
        let loaded = self.loaded.as_mut().expect("taken out only by `keep` and `drop`");
        let room = loaded.view.meta().room_id.clone();
        self.staged.destinations.extend(loaded.view.followers().cloned());
        let mut writes = vec![Write::Append {
            room: room.clone(),
            expected: self.base,
            entries: self.staged.entries.clone(),
            followers: std::mem::take(&mut self.staged.followers),
            now: service.now(),
        }];
        let newest_commit = self.staged.group.last().map(|change| change.position);
        for change in self.staged.group.drain(..) {
            loaded.group_changes += change.bytes.len();
            let room = room.clone();
            writes.push(Write::PutGroupChange { room, change });
        }
        // As much is written again as the commits themselves took, so a commit costs the same however large the group is.
        if let (Some(position), Some(group)) = (newest_commit, loaded.view.group())
            && is_group_checkpoint_due(loaded.group_changes, loaded.group_checkpoint)
        {
            let checkpoint = off_reactor(|| group.checkpoint());
            (loaded.group_changes, loaded.group_checkpoint) = (0, checkpoint.len());
            writes.push(Write::PutGroup {
                room: room.clone(),
                position,
                checkpoint,
            });
        }
        writes.append(&mut self.staged.consequences);
        if loaded.view.position().as_i64() - loaded.checkpointed.as_i64() >= CHECKPOINT_EVERY {
            loaded.checkpointed = loaded.view.position();
            writes.push(Write::PutCheckpoint {
                room,
                checkpoint: loaded.view.checkpoint(),
            });
        }
        writes
    }

    /// The commit succeeded: the view equals the database again.
    fn keep(mut self) -> Committed {
        let loaded = self.loaded.take().expect("taken out only by `keep` and `drop`");
        let staged = std::mem::take(&mut self.staged);
        let committed = Committed {
            room: loaded.view.meta().room_id.clone(),
            is_hub: loaded.view.meta().is_hub(),
            position: loaded.view.position(),
            staged,
        };
        self.slot.bytes.store(loaded.view.size_bytes(), Ordering::Relaxed);
        *self.guard = Some(loaded);
        committed
    }

    /// Whether the database's log still ends where the view began: only then is a refusal an answer.
    pub(crate) async fn is_current(&self, service: &Service) -> Result<bool, ServiceError> {
        let room = &self.view().meta().room_id;
        Ok(service.store().head(room).await? == Some(self.base))
    }

    /// The view cannot be trusted: load it again.
    pub(crate) fn discard(mut self) {
        self.loaded = None;
    }
}

impl Drop for OpenRoom {
    fn drop(&mut self) {
        // Nothing was decided, so the view is what it was. Otherwise it is ahead of the database, or in doubt. After `keep` there is
        // nothing left to put back.
        if self.staged.entries.is_empty()
            && let Some(loaded) = self.loaded.take()
        {
            *self.guard = Some(loaded);
        }
        if self.guard.is_none() {
            self.slot.bytes.store(0, Ordering::Relaxed);
        }
    }
}

/// What is left to do after a commit.
struct Committed {
    room: RoomId,
    is_hub: bool,
    position: LogPosition,
    staged: Staged,
}

impl Service {
    /// Locks a room, loading it if need be. `NotFound` if the database has no such room. Never hold two of these without
    /// having locked them in ascending order of room ID, and never while another server is asked
    /// (but see `ask_with_room_locked`).
    pub(crate) async fn open_room(&self, room: &RoomId) -> Result<OpenRoom, ServiceError> {
        let slot = self.inner.rooms.slot(room);
        let mut guard = Arc::clone(&slot.view).lock_owned().await;
        let loaded = match guard.take() {
            Some(loaded) => loaded,
            None => match self.load(room).await? {
                Some(loaded) => loaded,
                None => {
                    self.inner.rooms.forget(room, &slot);
                    return Err(ServiceError::NotFound(Missing::Room));
                }
            },
        };
        slot.meta.get_or_init(|| loaded.view.meta().clone());
        slot.bytes.store(loaded.view.size_bytes(), Ordering::Relaxed);
        let base = loaded.view.position();
        Ok(OpenRoom {
            slot,
            guard,
            loaded: Some(loaded),
            base,
            staged: Staged::default(),
        })
    }

    /// What was fixed when the room was created or joined; `None` if the database has no such room.
    pub(crate) async fn room_meta(&self, room: &RoomId) -> Result<Option<RoomMeta>, ServiceError> {
        if let Some(meta) = self.inner.rooms.slot(room).meta.get() {
            return Ok(Some(meta.clone()));
        }
        match self.open_room(room).await {
            Ok(open) => Ok(Some(open.view().meta().clone())),
            Err(ServiceError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Answers from a room's view, once it is certain that the view is the database's.
    pub(crate) async fn read_room<T>(
        &self,
        room: &RoomId,
        read: impl Fn(&RoomView) -> T + Send,
    ) -> Result<T, ServiceError> {
        for _ in 0..ATTEMPTS {
            let open = self.open_room(room).await?;
            let answer = read(open.view());
            if open.is_current(self).await? {
                return Ok(answer);
            }
            open.discard();
        }
        Err(ServiceError::RoomTooBusy)
    }

    /// Makes what was decided in these rooms durable, together with `extra`, in one batch; then wakes whoever waits for
    /// it. Runs to its end even if the caller stops waiting.
    pub(crate) async fn commit_rooms(&self, rooms: Vec<OpenRoom>, extra: Vec<Write>) -> Result<(), ServiceError> {
        let service = self.clone();
        let task = tokio::spawn(async move { service.commit_rooms_here(rooms, extra).await });
        task.await.map_err(|_| ServiceError::ShuttingDown)?
    }

    async fn commit_rooms_here(&self, mut rooms: Vec<OpenRoom>, extra: Vec<Write>) -> Result<(), ServiceError> {
        let mut writes = Vec::new();
        for room in &mut rooms {
            writes.extend(room.writes(self));
        }
        writes.extend(extra);
        if let Err(error) = self.inner.commits.commit(Batch(writes)).await {
            if error.is_conflict() {
                metrics::counter!(metric::CONFLICTS).increment(1);
                // Not even a view nothing was decided on can be trusted now: which room moved is not known.
                rooms.into_iter().for_each(OpenRoom::discard);
            }
            return Err(error);
        }
        let committed: Vec<_> = rooms.into_iter().map(OpenRoom::keep).collect();
        committed.into_iter().for_each(|committed| self.announce(committed));
        Ok(())
    }

    fn announce(
        &self,
        Committed {
            room,
            is_hub,
            position,
            staged,
        }: Committed,
    ) {
        if staged.entries.is_empty() {
            return;
        }
        let role = if is_hub { "hub" } else { "participant" };
        metrics::counter!(metric::EVENTS_APPENDED, "role" => role).increment(staged.entries.len() as u64);
        for entry in &staged.entries {
            let (Some(lpdu_id), Some(pdu)) = (&entry.lpdu_id, entry.pdu()) else {
                continue;
            };
            if !is_hub && self.is_us(pdu.sender_server()) {
                let fate = LpduFate::Appended {
                    event_id: pdu.event_id().clone(),
                    position: entry.position,
                };
                self.settle_lpdu(lpdu_id, &fate);
            }
        }
        self.notify_appended(&room, position);
        for user in &staged.users {
            self.notify_inbox(user);
        }
        self.wake_delivery(staged.destinations);
    }

    async fn load(&self, room: &RoomId) -> Result<Option<Loaded>, ServiceError> {
        let Some(stored) = self.store().load(room).await? else {
            return Ok(None);
        };
        let checkpointed = stored
            .checkpoint
            .as_ref()
            .map_or(LogPosition::ZERO, |checkpoint| checkpoint.position);
        let mut view = RoomView::restore(stored.meta, stored.checkpoint)?;
        for entry in &stored.tail {
            view.replay(entry);
        }
        let group = &stored.group;
        let (group_changes, group_checkpoint) = (
            group.changes.iter().map(|change| change.bytes.len()).sum(),
            group.checkpoint.as_ref().map_or(0, Bytes::len),
        );
        let with_group = match group.newest {
            Some(_) => off_reactor(|| view.clone().with_group(group)),
            None => view.clone().with_group(group),
        };
        let view = match with_group {
            Ok(view) => view,
            Err(error) => {
                tracing::warn!(%room, %error, "a stored group cannot be read; it is begun again from its newest commit");
                self.begin_group_again(view, group.newest).await?
            }
        };
        Ok(Some(Loaded {
            view,
            checkpointed,
            group_changes,
            group_checkpoint,
        }))
    }

    /// After an upgrade of OpenMLS, whose types stored groups hold: the newest commit brings the whole group along.
    async fn begin_group_again(
        &self,
        mut view: RoomView,
        newest: Option<LogPosition>,
    ) -> Result<RoomView, ServiceError> {
        let room = &view.meta().room_id;
        let Some(position) = newest else { return Ok(view) };
        let between = Between {
            after: position.previous(),
            through: position,
        };
        let entries = self.store().entries(room, between, 1, Order::Ascending).await?;
        let commit = entries.first().and_then(Entry::pdu).ok_or_else(|| group_lost(room))?;
        off_reactor(|| view.follow_from(commit)).map_err(|error| {
            tracing::error!(room = %view.meta().room_id, %error, "the newest commit does not begin the group");
            group_lost(&view.meta().room_id)
        })?;
        Ok(view)
    }

    /// Puts a room that was just created or joined into memory is not needed: the next user loads it. What may be there
    /// from before is dropped, for a room that was joined anew.
    pub(crate) async fn forget_view(&self, room: &RoomId) {
        let slot = self.inner.rooms.slot(room);
        *slot.view.lock().await = None;
        slot.bytes.store(0, Ordering::Relaxed);
    }

    /// Drops the views unused for longest until the rest fits the limit.
    pub(crate) async fn evict_rooms(&self) {
        let limit = self.settings().limits.room_memory_bytes;
        let mut bytes = self.inner.rooms.bytes();
        metrics::gauge!(metric::ROOM_BYTES).set(bytes as f64);
        if bytes <= limit {
            return;
        }
        for (room, slot) in self.inner.rooms.by_last_use() {
            if bytes <= limit {
                break;
            }
            // A room in use is not idle, whatever its age says.
            let Ok(mut guard) = Arc::clone(&slot.view).try_lock_owned() else {
                continue;
            };
            let freed = slot.bytes.load(Ordering::Relaxed);
            if let Some(loaded) = guard.take() {
                self.write_checkpoint(&room, &loaded).await;
            }
            slot.bytes.store(0, Ordering::Relaxed);
            self.inner.rooms.forget(&room, &slot);
            bytes = bytes.saturating_sub(freed);
        }
    }

    /// Writes a checkpoint of every room in memory that has entries after its last one.
    pub(crate) async fn write_checkpoints(&self) {
        let slots = self.inner.rooms.by_last_use();
        metrics::gauge!(metric::ROOMS_LOADED).set(slots.len() as f64);
        for (room, slot) in slots {
            let mut guard = slot.view.lock().await;
            if let Some(loaded) = guard.as_mut()
                && self.write_checkpoint(&room, loaded).await
            {
                loaded.checkpointed = loaded.view.position();
            }
        }
    }

    /// Whether there is a checkpoint at the view's position now. Failing costs only time at the next load.
    async fn write_checkpoint(&self, room: &RoomId, loaded: &Loaded) -> bool {
        if loaded.view.position() <= loaded.checkpointed {
            return true;
        }
        let write = Write::PutCheckpoint {
            room: room.clone(),
            checkpoint: loaded.view.checkpoint(),
        };
        let written = self.inner.commits.commit(write.into()).await;
        if let Err(error) = &written {
            tracing::warn!(%room, %error, "could not write a checkpoint");
        }
        written.is_ok()
    }
}

/// How often a decision is made again because the room moved.
pub(crate) const ATTEMPTS: usize = 8;

fn group_lost(room: &RoomId) -> ServiceError {
    ServiceError::from(StoreError::Inconsistent {
        table: "group_changes",
        column: "body",
        row: room.to_string(),
    })
}

/// Bytes of group changes after which the whole group is written, at least; more if the group is larger than that.
const GROUP_CHECKPOINT_EVERY: usize = 64 * 1024;

/// Whether a group's changes since its last checkpoint take as much as that checkpoint.
pub(crate) fn is_group_checkpoint_due(changes: usize, checkpoint: usize) -> bool {
    changes >= checkpoint.max(GROUP_CHECKPOINT_EVERY)
}

/// Entries after which a checkpoint is written along with an append: what a load replays at most.
const CHECKPOINT_EVERY: i64 = 500;

#[cfg(test)]
mod tests {
    use super::*;

    /// What is written of a group beside its commits' events: the first commit's change is as large as the group, the others' are a good
    /// kilobyte each, and now and then there is a checkpoint.
    #[test]
    fn checkpoints_of_a_group_take_no_more_than_its_changes_however_large_it_is() {
        for group in [10_000, 300_000, 1_600_000, 30_000_000] {
            let (mut changes, mut last, mut all_changes, mut checkpoints) = (group, 0, group, 0);
            for _ in 0..100_000 {
                changes += 1_400;
                all_changes += 1_400;
                if is_group_checkpoint_due(changes, last) {
                    (changes, last) = (0, group);
                    checkpoints += group;
                }
            }
            assert!(
                (1..=all_changes).contains(&checkpoints),
                "{group}: {checkpoints} for {all_changes}"
            );
        }
    }
}
