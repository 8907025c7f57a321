//! The tables as ordered maps, and a journal that takes a batch back.

use std::collections::BTreeMap;

use nabe_auth::lm::Membership;
use nabe_core::{Checkpoint, Entry, RoomMeta, StoredGroup};
use nabe_event::Pdu;
use nabe_types::{DeviceId, EventId, LogPosition, RoomId, ServerName, UnixMillis, UserId};

use super::encryption::Encryption;
use super::media::Media;
use super::mimi::Mimi;
use super::mimi_policy::MimiPolicy;
use super::mimi_users::MimiUsers;
use crate::error::StoreError;
use crate::mimi_reports::KeptReport;
use crate::model::{
    Account, DirectItem, Follower, IdempotencyKey, InboxItem, OutboundRequest, ParkedEvent, PendingRoom, StoredReply,
    StoredServerKeys,
};
use crate::store::Between;
use crate::write::Batch;

#[derive(Clone, Debug, Default)]
pub(super) struct Tables {
    pub(super) rooms: BTreeMap<RoomId, RoomRow>,
    pub(super) entries: BTreeMap<(RoomId, LogPosition), Entry>,
    /// Index of `entries`. One event ID stands in two rooms only if one of them holds a hole for it.
    pub(super) positions: BTreeMap<EventId, Vec<(RoomId, LogPosition)>>,
    /// Index of `entries`.
    pub(super) lpdus: BTreeMap<(RoomId, EventId), LogPosition>,
    pub(super) outliers: BTreeMap<(RoomId, EventId), Pdu>,
    pub(super) checkpoints: BTreeMap<(RoomId, LogPosition), Checkpoint>,
    pub(super) groups: BTreeMap<RoomId, StoredGroup>,
    pub(super) memberships: BTreeMap<(RoomId, UserId, LogPosition), Membership>,
    /// By server and start.
    pub(super) followers: BTreeMap<RoomId, Vec<Follower>>,
    pub(super) replies: BTreeMap<IdempotencyKey, (StoredReply, UnixMillis)>,
    pub(super) outbox: BTreeMap<(ServerName, i64), OutboxRow>,
    pub(super) frozen: BTreeMap<ServerName, OutboundRequest>,
    pub(super) destinations: BTreeMap<ServerName, DestinationRow>,
    /// With the order of arrival.
    pub(super) parked: BTreeMap<(RoomId, EventId), (u64, ParkedEvent)>,
    pub(super) arrivals: BTreeMap<(), u64>,
    pub(super) server_keys: BTreeMap<(ServerName, [u8; 32]), StoredServerKeys>,
    pub(super) accounts: BTreeMap<UserId, Account>,
    pub(super) tokens: BTreeMap<[u8; 32], (UserId, Option<DeviceId>)>,
    pub(super) devices: BTreeMap<(UserId, DeviceId), UnixMillis>,
    pub(super) inbox: BTreeMap<(UserId, i64), InboxItem>,
    pub(super) inbox_heads: BTreeMap<UserId, i64>,
    pub(super) pending: BTreeMap<(UserId, RoomId), PendingRoom>,
    pub(super) encryption: Encryption,
    pub(super) media: Media,
    pub(super) mimi: Mimi,
    pub(super) mimi_policy: MimiPolicy,
    pub(super) mimi_users: MimiUsers,
    pub(super) reports: BTreeMap<i64, KeptReport>,
    pub(super) report_numbers: BTreeMap<(), i64>,
}

#[derive(Clone, Debug)]
pub(super) struct RoomRow {
    pub(super) meta: RoomMeta,
    pub(super) head: LogPosition,
    pub(super) first: LogPosition,
}

#[derive(Clone, Debug)]
pub(super) struct OutboxRow {
    pub(super) item: DirectItem,
    pub(super) at: UnixMillis,
}

#[derive(Clone, Debug, Default)]
pub(super) struct DestinationRow {
    pub(super) last_seq: i64,
    pub(super) failures: u32,
    pub(super) next_attempt: UnixMillis,
    pub(super) last_error: String,
}

impl Tables {
    pub(super) fn entries_of(&self, room: &RoomId, between: Between) -> impl DoubleEndedIterator<Item = &Entry> {
        within(&self.entries, room, between).map(|(_, entry)| entry)
    }

    pub(super) fn checkpoints_of(
        &self,
        room: &RoomId,
        between: Between,
    ) -> impl DoubleEndedIterator<Item = (&(RoomId, LogPosition), &Checkpoint)> {
        within(&self.checkpoints, room, between)
    }

    pub(super) fn followers_of(&self, room: &RoomId) -> impl Iterator<Item = &Follower> {
        self.followers.get(room).into_iter().flatten()
    }

    /// Each user's last membership of a room.
    pub(super) fn current_members(&self, room: &RoomId) -> impl Iterator<Item = (UserId, Membership)> {
        let rows = self.memberships.iter().filter(|((of, ..), _)| of == room);
        let last: BTreeMap<_, _> = rows
            .map(|((_, user, _), membership)| (user.clone(), *membership))
            .collect();
        last.into_iter()
    }

    pub(super) fn position(&self, room: &RoomId, event_id: &EventId) -> Option<LogPosition> {
        self.positions
            .get(event_id)?
            .iter()
            .find(|(of, _)| of == room)
            .map(|(_, position)| *position)
    }

    pub(super) fn event(&self, room: &RoomId, event_id: &EventId) -> Option<&Pdu> {
        let entry = self
            .position(room, event_id)
            .and_then(|position| self.entries.get(&(room.clone(), position)));
        let outlier = || self.outliers.get(&(room.clone(), event_id.clone()));
        entry.and_then(Entry::pdu).or_else(outlier)
    }
}

fn within<'a, V>(
    table: &'a BTreeMap<(RoomId, LogPosition), V>,
    room: &RoomId,
    between: Between,
) -> impl DoubleEndedIterator<Item = (&'a (RoomId, LogPosition), &'a V)> + use<'a, V> {
    let key = |position| (room.clone(), position);
    // `range` panics on an inverted range.
    let some = (between.after < between.through).then(|| table.range(key(between.after.next())..=key(between.through)));
    some.into_iter().flatten()
}

/// A batch under way. Every change goes through [`Journal::set`], which notes how to take it back.
pub(super) struct Journal<'a> {
    pub(super) tables: &'a mut Tables,
    undo: Vec<Undo>,
}

type Undo = Box<dyn FnOnce(&mut Tables)>;

impl Journal<'_> {
    /// Applies a batch wholly or not at all.
    pub(super) fn run(tables: &mut Tables, batch: Batch) -> Result<(), StoreError> {
        let mut journal = Journal {
            tables,
            undo: Vec::new(),
        };
        let result = batch.0.into_iter().try_for_each(|write| journal.apply(write));
        if result.is_err() {
            let Journal { tables, undo } = journal;
            undo.into_iter().rev().for_each(|undo| undo(tables));
        }
        result
    }

    /// Puts `value` under `key`, or removes what is there.
    pub(super) fn set<K: Clone + Ord + 'static, V: 'static>(
        &mut self,
        table: fn(&mut Tables) -> &mut BTreeMap<K, V>,
        key: K,
        value: Option<V>,
    ) {
        let before = put(table(self.tables), key.clone(), value);
        self.undo.push(Box::new(move |tables| {
            put(table(tables), key, before);
        }));
    }
}

fn put<K: Ord, V>(table: &mut BTreeMap<K, V>, key: K, value: Option<V>) -> Option<V> {
    match value {
        Some(value) => table.insert(key, value),
        None => table.remove(&key),
    }
}
