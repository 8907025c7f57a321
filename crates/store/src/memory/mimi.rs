//! Rooms of MIMI in memory.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use bytes::Bytes;
use nabe_core::mimi::{MimiEntry, MimiEntryKind, MimiUri, StoredMimiRoom};
use nabe_core::{FollowerChange, GroupChange, StoredGroup};
use nabe_types::{LogPosition, ServerName, UnixMillis};

use super::MemoryStore;
use super::tables::{Journal, Tables};
use crate::error::StoreError;
use crate::mimi::{FetchedKeyPackage, MimiFollower, MimiStore, MimiWrite, Notification, NotifyWork};
use crate::store::Between;

/// Their tables.
#[derive(Clone, Debug, Default)]
pub(super) struct Mimi {
    rooms: BTreeMap<MimiUri, Room>,
    entries: BTreeMap<(MimiUri, LogPosition), MimiEntry>,
    /// By room, provider and start.
    followers: BTreeMap<(MimiUri, ServerName, LogPosition), MimiFollower>,
    in_flight: BTreeMap<(MimiUri, ServerName), Notification>,
    failures: BTreeMap<(MimiUri, ServerName), (u32, UnixMillis)>,
    packages: BTreeMap<PackageKey, FetchedKeyPackage>,
}

/// A reference, and the room it is for.
type PackageKey = (Bytes, Option<MimiUri>);

#[derive(Clone, Debug)]
struct Room {
    created_at: UnixMillis,
    head: LogPosition,
    newest: UnixMillis,
    group: StoredGroup,
    left_over: Bytes,
}

impl Mimi {
    fn room(&self, room: &MimiUri) -> Result<&Room, StoreError> {
        self.rooms
            .get(room)
            .ok_or_else(|| StoreError::UnknownMimiRoom { room: room.clone() })
    }

    /// Fails for a room that is not there.
    pub(super) fn rooms(&self) -> impl Iterator<Item = &MimiUri> {
        self.rooms.keys()
    }

    pub(super) fn has(&self, room: &MimiUri) -> Result<(), StoreError> {
        self.room(room).map(|_| ())
    }

    fn between(&self, room: &MimiUri, between: Between) -> impl DoubleEndedIterator<Item = &MimiEntry> {
        let key = |position| (room.clone(), position);
        // `range` panics on an inverted range.
        let some = (between.after < between.through)
            .then(|| self.entries.range(key(between.after.next())..=key(between.through)));
        some.into_iter().flatten().map(|(_, entry)| entry)
    }
}

impl Journal<'_> {
    pub(super) fn apply_mimi(&mut self, write: MimiWrite) -> Result<(), StoreError> {
        match write {
            MimiWrite::Found { room, now } => self.found(room, now),
            MimiWrite::Append {
                room,
                expected,
                entries,
                group,
                left_over,
                followers,
                now,
            } => {
                let head = self.append_mimi(&room, expected, entries, group, left_over)?;
                self.mark_followers_dirty(&room, now);
                let changes = followers.into_iter();
                changes.for_each(|change| self.change_mimi_follower(&room, head, change, now));
                Ok(())
            }
            MimiWrite::PutGroup {
                room,
                position,
                checkpoint,
            } => self.put_mimi_group(room, position, checkpoint),
            MimiWrite::Freeze { notification } => self.freeze_notification(notification),
            MimiWrite::Confirm {
                room,
                provider,
                body_sha256,
            } => {
                let key = (room.clone(), provider.clone());
                let in_flight = self.tables.mimi.in_flight.get(&key).cloned();
                let Some(sent) = in_flight.filter(|sent| sent.body_sha256 == body_sha256) else {
                    return Err(StoreError::MimiNotInFlight { room, provider });
                };
                self.move_cursor(&room, &provider, sent.interval_from, sent.through)?;
                self.set(|tables| &mut tables.mimi.in_flight, key.clone(), None);
                self.set(|tables| &mut tables.mimi.failures, key, None);
                Ok(())
            }
            MimiWrite::Skip {
                room,
                provider,
                interval_from,
                through,
            } => {
                if self
                    .tables
                    .mimi
                    .in_flight
                    .contains_key(&(room.clone(), provider.clone()))
                {
                    return Err(StoreError::MimiNotInFlight { room, provider });
                }
                self.move_cursor(&room, &provider, interval_from, through)
            }
            MimiWrite::Backoff {
                room,
                provider,
                failures,
                next_attempt,
                last_error: _,
            } => {
                self.tables.mimi.room(&room)?;
                let state = Some((failures, next_attempt));
                self.set(|tables| &mut tables.mimi.failures, (room, provider), state);
                Ok(())
            }
            MimiWrite::PutKeyPackages { packages } => {
                for package in packages {
                    let key = (package.reference.clone(), package.room.clone());
                    // One that some Add may wait for stays for any room.
                    let any = (key.0.clone(), None);
                    let known = self.tables.mimi.packages.get(&any);
                    if package.room.is_some() && known.is_some_and(|known| !known.until_expiry) {
                        self.set(|tables| &mut tables.mimi.packages, any, None);
                    }
                    let package = match self.tables.mimi.packages.get(&key).cloned() {
                        Some(known) => FetchedKeyPackage {
                            until_expiry: known.until_expiry || package.until_expiry,
                            ..known
                        },
                        None => package,
                    };
                    self.set(|tables| &mut tables.mimi.packages, key, Some(package));
                }
                Ok(())
            }
            MimiWrite::ForgetKeyPackages { references } => {
                let packages = &self.tables.mimi.packages;
                let used = packages
                    .iter()
                    .filter(|((reference, _), package)| !package.until_expiry && references.contains(reference));
                for key in used.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
                    self.set(|tables| &mut tables.mimi.packages, key, None);
                }
                Ok(())
            }
            MimiWrite::ExpireKeyPackages { now } => {
                let packages = &self.tables.mimi.packages;
                let old = packages.iter().filter(|(_, package)| package.expires_at < now);
                for key in old.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
                    self.set(|tables| &mut tables.mimi.packages, key, None);
                }
                Ok(())
            }
            MimiWrite::User(write) => self.apply_mimi_user(write),
            MimiWrite::Report(write) => {
                self.apply_report(write);
                Ok(())
            }
            MimiWrite::Policy(write) => self.apply_mimi_policy(write),
        }
    }

    fn found(&mut self, room: MimiUri, now: UnixMillis) -> Result<(), StoreError> {
        if self.tables.mimi.rooms.contains_key(&room) {
            return Err(StoreError::MimiConflict { room });
        }
        let row = Room {
            created_at: now,
            head: LogPosition::ZERO,
            newest: now,
            group: StoredGroup::default(),
            left_over: Bytes::new(),
        };
        self.set(|tables| &mut tables.mimi.rooms, room, Some(row));
        Ok(())
    }

    fn append_mimi(
        &mut self,
        room: &MimiUri,
        expected: LogPosition,
        entries: Vec<MimiEntry>,
        changes: Vec<GroupChange>,
        left_over: Option<Bytes>,
    ) -> Result<LogPosition, StoreError> {
        let mut row = self.tables.mimi.room(room)?.clone();
        let conflict = || StoreError::MimiConflict { room: room.clone() };
        let mut next = expected;
        let is_consecutive = entries.iter().all(|entry| {
            next = next.next();
            entry.position == next
        });
        if row.head != expected || !is_consecutive {
            return Err(conflict());
        }
        row.head = next;
        row.newest = entries.last().map_or(row.newest, |entry| entry.accepted);
        for change in changes {
            if change.position > next || row.group.newest >= Some(change.position) {
                return Err(conflict());
            }
            row.group.newest = Some(change.position);
            row.group.changes.push(change);
        }
        if let Some(left_over) = left_over {
            row.left_over = left_over;
        }
        self.set(|tables| &mut tables.mimi.rooms, room.clone(), Some(row));
        for entry in entries {
            let key = (room.clone(), entry.position);
            self.set(|tables| &mut tables.mimi.entries, key, Some(entry));
        }
        Ok(next)
    }

    fn mark_followers_dirty(&mut self, room: &MimiUri, now: UnixMillis) {
        let clean = self.tables.mimi.followers.values();
        let clean = clean.filter(|it| it.room == *room && it.until.is_none() && it.dirty_since.is_none());
        for follower in clean.cloned().collect::<Vec<_>>() {
            self.put_mimi_follower(MimiFollower {
                dirty_since: Some(now),
                ..follower
            });
        }
    }

    fn change_mimi_follower(&mut self, room: &MimiUri, head: LogPosition, change: FollowerChange, now: UnixMillis) {
        let mut open = |provider: ServerName, from: LogPosition, until| {
            let key = (room.clone(), provider.clone(), from);
            if !self.tables.mimi.followers.contains_key(&key) {
                self.put_mimi_follower(MimiFollower {
                    room: room.clone(),
                    provider,
                    from,
                    until,
                    delivered: from.previous(),
                    dirty_since: (from <= head).then_some(now),
                });
            }
        };
        match change {
            FollowerChange::Open { server, from } => open(server, from, None),
            FollowerChange::Once { server, at } => open(server, at, Some(at)),
            FollowerChange::Close { server, until } => {
                let mut intervals = self.tables.mimi.followers.values();
                let of_it = intervals
                    .find(|it| it.room == *room && it.provider == server && it.until.is_none())
                    .cloned();
                if let Some(follower) = of_it {
                    let dirty_since = follower.dirty_since.filter(|_| follower.delivered < until);
                    self.put_mimi_follower(MimiFollower {
                        until: Some(until),
                        dirty_since,
                        ..follower
                    });
                }
            }
        }
    }

    fn put_mimi_follower(&mut self, follower: MimiFollower) {
        let key = (follower.room.clone(), follower.provider.clone(), follower.from);
        self.set(|tables| &mut tables.mimi.followers, key, Some(follower));
    }

    fn put_mimi_group(&mut self, room: MimiUri, position: LogPosition, checkpoint: Bytes) -> Result<(), StoreError> {
        let mut row = self.tables.mimi.room(&room)?.clone();
        if row.group.newest != Some(position) {
            return Err(StoreError::MimiConflict { room });
        }
        row.group.checkpoint = Some(checkpoint);
        row.group.changes.clear();
        self.set(|tables| &mut tables.mimi.rooms, room, Some(row));
        Ok(())
    }

    fn freeze_notification(&mut self, notification: Notification) -> Result<(), StoreError> {
        let (room, provider) = (notification.room.clone(), notification.provider.clone());
        self.tables.mimi.room(&room)?;
        let key = (room.clone(), provider.clone());
        if self.tables.mimi.in_flight.contains_key(&key) {
            return Err(StoreError::MimiNotInFlight { room, provider });
        }
        self.set(|tables| &mut tables.mimi.in_flight, key, Some(notification));
        Ok(())
    }

    fn move_cursor(
        &mut self,
        room: &MimiUri,
        provider: &ServerName,
        interval_from: LogPosition,
        through: LogPosition,
    ) -> Result<(), StoreError> {
        let head = self.tables.mimi.room(room)?.head;
        let key = (room.clone(), provider.clone(), interval_from);
        let Some(follower) = self.tables.mimi.followers.get(&key).cloned() else {
            return Ok(());
        };
        let delivered = follower.delivered.max(through);
        let is_done = delivered >= follower.until.map_or(head, |until| until.min(head));
        self.put_mimi_follower(MimiFollower {
            delivered,
            dirty_since: follower.dirty_since.filter(|_| !is_done),
            ..follower
        });
        Ok(())
    }
}

impl Tables {
    fn mimi_work(&self) -> Vec<NotifyWork> {
        let mut oldest: BTreeMap<(&MimiUri, &ServerName), &MimiFollower> = BTreeMap::new();
        for follower in self.mimi.followers.values().filter(|it| it.dirty_since.is_some()) {
            oldest.entry((&follower.room, &follower.provider)).or_insert(follower);
        }
        let mut work: Vec<_> = oldest
            .into_values()
            .map(|follower| self.mimi_work_of(follower))
            .collect();
        work.sort_by(|a, b| {
            let key = |work: &NotifyWork| {
                let follower = &work.follower;
                (follower.dirty_since, follower.room.clone(), follower.provider.clone())
            };
            key(a).cmp(&key(b))
        });
        work
    }

    fn mimi_work_of(&self, follower: &MimiFollower) -> NotifyWork {
        let (room, provider) = (&follower.room, &follower.provider);
        let head = self.mimi.rooms.get(room).map_or(LogPosition::ZERO, |row| row.head);
        let state = self.mimi.failures.get(&(room.clone(), provider.clone()));
        let (failures, next_attempt) = state.copied().unwrap_or((0, UnixMillis::ZERO));
        NotifyWork {
            owed: follower.until.map_or(head, |until| until.min(head)),
            follower: follower.clone(),
            failures,
            next_attempt,
        }
    }
}

#[async_trait]
impl MimiStore for MemoryStore {
    async fn mimi_room(&self, room: &MimiUri) -> Result<Option<StoredMimiRoom>, StoreError> {
        let tables = self.tables();
        let kept = tables.mimi.rooms.get(room).map(|row| {
            let log = tables.mimi.between(room, Between::ALL).rev();
            let of_epoch = log.take_while(|entry| entry.kind != MimiEntryKind::Commit);
            let mut proposals: Vec<_> = of_epoch
                .filter(|entry| entry.kind == MimiEntryKind::Proposal)
                .cloned()
                .collect();
            proposals.reverse();
            StoredMimiRoom {
                uri: room.clone(),
                created_at: row.created_at,
                position: row.head,
                newest: row.newest,
                group: row.group.clone(),
                left_over: row.left_over.clone(),
                proposals,
            }
        });
        Ok(kept)
    }

    async fn mimi_head(&self, room: &MimiUri) -> Result<Option<LogPosition>, StoreError> {
        Ok(self.tables().mimi.rooms.get(room).map(|row| row.head))
    }

    async fn mimi_rooms(&self) -> Result<Vec<MimiUri>, StoreError> {
        let mut rooms: Vec<_> = self.tables().mimi.rooms.keys().cloned().collect();
        rooms.sort_by_key(MimiUri::to_string);
        Ok(rooms)
    }

    async fn mimi_entries(
        &self,
        room: &MimiUri,
        between: Between,
        limit: usize,
        max_bytes: usize,
    ) -> Result<Vec<MimiEntry>, StoreError> {
        let tables = self.tables();
        let (mut is_first, mut bytes) = (true, 0);
        let entries = tables.mimi.between(room, between).take(limit).take_while(|entry| {
            bytes += entry.body.len();
            std::mem::take(&mut is_first) || bytes <= max_bytes
        });
        Ok(entries.cloned().collect())
    }

    async fn mimi_followers(&self, room: &MimiUri) -> Result<Vec<MimiFollower>, StoreError> {
        let tables = self.tables();
        let followers = tables.mimi.followers.values().filter(|follower| follower.room == *room);
        Ok(followers.cloned().collect())
    }

    async fn notify_work(&self, now: UnixMillis, limit: usize) -> Result<Vec<NotifyWork>, StoreError> {
        let mut work = self.tables().mimi_work();
        work.retain(|work| work.next_attempt <= now);
        work.truncate(limit);
        Ok(work)
    }

    async fn notify_work_of(&self, room: &MimiUri, provider: &ServerName) -> Result<Option<NotifyWork>, StoreError> {
        let tables = self.tables();
        let key = |position| (room.clone(), provider.clone(), position);
        let first = key(LogPosition::ZERO);
        let mut intervals = tables.mimi.followers.range(first..).map(|(_, follower)| follower);
        let of_them = intervals
            .by_ref()
            .take_while(|follower| follower.room == *room && follower.provider == *provider)
            .find(|follower| follower.dirty_since.is_some());
        Ok(of_them.map(|follower| tables.mimi_work_of(follower)))
    }

    async fn notification(&self, room: &MimiUri, provider: &ServerName) -> Result<Option<Notification>, StoreError> {
        let key = (room.clone(), provider.clone());
        Ok(self.tables().mimi.in_flight.get(&key).cloned())
    }

    async fn fetched_key_packages(
        &self,
        references: &[Bytes],
        room: Option<&MimiUri>,
    ) -> Result<Vec<FetchedKeyPackage>, StoreError> {
        let tables = self.tables();
        let wanted: BTreeSet<&Bytes> = references.iter().collect();
        let found = tables.mimi.packages.values().filter(|package| {
            let is_for_it = room.is_none() || package.room.is_none() || package.room.as_ref() == room;
            is_for_it && wanted.contains(&package.reference)
        });
        Ok(found.cloned().collect())
    }
}
