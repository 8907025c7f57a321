//! What decides on the order of local logs, in memory.

use std::collections::BTreeSet;

use async_trait::async_trait;
use nabe_core::mimi::MimiUri;
use nabe_types::UnixMillis;

use super::MemoryStore;
use super::mimi_users::MimiUsers;
use super::tables::Journal;
use crate::error::StoreError;
use crate::mimi_order::{
    Forwarded, LocalOrder, MimiOrderStore, MimiOrderWrite, OpenForward, OpenOfUser, WaitingMessage,
};

impl Journal<'_> {
    pub(super) fn apply_mimi_order(&mut self, write: MimiOrderWrite) {
        match write {
            MimiOrderWrite::Forward { forwarded } => {
                let key = (forwarded.room.clone(), forwarded.request);
                if !self.tables.mimi_users.forwarded.contains_key(&key) {
                    let row = (self.next_number(), forwarded);
                    self.set(|tables| &mut tables.mimi_users.forwarded, key, Some(row));
                }
            }
            MimiOrderWrite::PutOff {
                room,
                request,
                failures,
                next_attempt,
            } => {
                let key = (room, request);
                if let Some((number, mut forwarded)) = self.tables.mimi_users.forwarded.get(&key).cloned() {
                    (forwarded.failures, forwarded.next_attempt) = (failures, next_attempt);
                    let row = Some((number, forwarded));
                    self.set(|tables| &mut tables.mimi_users.forwarded, key, row);
                }
            }
            MimiOrderWrite::End { room, request } => {
                self.set(|tables| &mut tables.mimi_users.forwarded, (room, request), None);
            }
            MimiOrderWrite::Wait {
                room,
                hub,
                message,
                kind,
                epoch,
                now,
            } => {
                self.local_room_to_write_to(&room, &hub);
                let number = self.next_number();
                let waiting = WaitingMessage {
                    number,
                    kind,
                    epoch,
                    accepted: message.accepted,
                    since: now,
                    body: message.body,
                };
                let key = (room.clone(), number);
                self.set(|tables| &mut tables.mimi_users.waiting, key, Some(waiting));
                self.mark_messages(&room, &message.marks, now);
            }
            MimiOrderWrite::EndWaits { numbers } => {
                let all = self.tables.mimi_users.waiting.keys();
                let ended: Vec<_> = all.filter(|(_, number)| numbers.contains(number)).cloned().collect();
                for key in ended {
                    self.set(|tables| &mut tables.mimi_users.waiting, key, None);
                }
            }
            MimiOrderWrite::SetEpoch { room, epoch } => {
                if self.tables.mimi_users.rooms.contains_key(&room) {
                    self.set(|tables| &mut tables.mimi_users.epochs, room, epoch);
                }
            }
            MimiOrderWrite::Open { room, hub, user, from } => {
                self.local_room_to_write_to(&room, &hub);
                self.begin_to_read(&user, &room, from);
            }
        }
    }
}

impl MimiUsers {
    /// Requests without a verdict, in the order in which they were sent.
    fn open_forwards(&self) -> Vec<&Forwarded> {
        let mut all: Vec<_> = self.forwarded.values().collect();
        all.sort_by_key(|(number, _)| *number);
        all.into_iter().map(|(_, forwarded)| forwarded).collect()
    }
}

fn open(forwarded: &Forwarded) -> OpenForward {
    OpenForward {
        room: forwarded.room.clone(),
        request: forwarded.request,
        hub: forwarded.hub.clone(),
        kind: forwarded.kind,
        epoch: forwarded.epoch,
        joins_from: forwarded.joins_from,
        next_attempt: forwarded.next_attempt,
    }
}

#[async_trait]
impl MimiOrderStore for MemoryStore {
    async fn local_order(&self, room: &MimiUri) -> Result<LocalOrder, StoreError> {
        let tables = self.tables();
        let tables = &tables.mimi_users;
        let row = tables.rooms.get(room);
        let readers = tables.readers.iter().filter(|((_, of, _), _)| of == room);
        let waiting = tables
            .waiting
            .range((room.clone(), i64::MIN)..=(room.clone(), i64::MAX));
        let forwards = tables
            .open_forwards()
            .into_iter()
            .filter(|forwarded| forwarded.room == *room);
        Ok(LocalOrder {
            epoch: tables.epochs.get(room).copied(),
            head: row.map(|row| row.head).unwrap_or_default(),
            has_log: readers.clone().next().is_some(),
            readers: readers
                .filter(|(_, until)| until.is_none())
                .map(|((user, _, _), _)| user.clone())
                .collect(),
            waiting: waiting.map(|(_, waiting)| waiting.clone()).collect(),
            open: forwards.map(open).collect(),
        })
    }

    async fn delivered_messages(
        &self,
        room: &MimiUri,
        messages: &[[u8; 32]],
    ) -> Result<BTreeSet<[u8; 32]>, StoreError> {
        self.count_lookups(messages.len());
        let tables = self.tables();
        let marks = &tables.mimi_users.marks;
        let known = messages
            .iter()
            .filter(|message| marks.contains_key(&(room.clone(), **message)));
        Ok(known.copied().collect())
    }

    async fn forwards_due(&self, now: UnixMillis, limit: usize) -> Result<Vec<OpenForward>, StoreError> {
        let tables = self.tables();
        let all = tables.mimi_users.open_forwards().into_iter();
        let mut due: Vec<_> = all
            .filter(|forwarded| forwarded.next_attempt <= now)
            .map(open)
            .collect();
        due.sort_by_key(|forwarded| forwarded.next_attempt);
        due.truncate(limit);
        Ok(due)
    }

    async fn next_forward(&self) -> Result<Option<UnixMillis>, StoreError> {
        let tables = self.tables();
        let all = tables.mimi_users.forwarded.values();
        Ok(all.map(|(_, forwarded)| forwarded.next_attempt).min())
    }

    async fn forwarded(&self, room: &MimiUri, request: &[u8; 32]) -> Result<Option<Forwarded>, StoreError> {
        let tables = self.tables();
        let row = tables.mimi_users.forwarded.get(&(room.clone(), *request));
        Ok(row.map(|(_, forwarded)| forwarded.clone()))
    }

    async fn open_forwards_of(&self, user: &MimiUri) -> Result<OpenOfUser, StoreError> {
        let tables = self.tables();
        let theirs = tables
            .mimi_users
            .open_forwards()
            .into_iter()
            .filter(|forwarded| forwarded.user == *user);
        Ok(theirs.fold(OpenOfUser::default(), |open, forwarded| OpenOfUser {
            count: open.count + 1,
            bytes: open.bytes + forwarded.body.len(),
        }))
    }

    async fn rooms_waiting_since(&self, before: UnixMillis) -> Result<Vec<MimiUri>, StoreError> {
        let tables = self.tables();
        let old = tables
            .mimi_users
            .waiting
            .iter()
            .filter(|(_, waiting)| waiting.since <= before);
        let rooms: BTreeSet<_> = old.map(|((room, _), _)| room.clone()).collect();
        Ok(rooms.into_iter().collect())
    }
}
