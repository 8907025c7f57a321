//! One function per write.

use bytes::Bytes;
use nabe_auth::lm::Membership;
use nabe_core::{Checkpoint, Entry, EntryBody, FollowerChange, GroupChange, RoomMeta, StoredGroup};
use nabe_event::Pdu;
use nabe_types::{DeviceId, EventId, LogPosition, RoomId, ServerName, UnixMillis, UserId};

use super::tables::{DestinationRow, Journal, OutboxRow, RoomRow};
use crate::error::StoreError;
use crate::model::{
    DirectItem, Follower, InboxItem, InboxKind, OutboundRequest, ParkedEvent, PendingRoom, StoredServerKeys,
};
use crate::rules;
use crate::store::Between;
use crate::write::Write;

impl Journal<'_> {
    pub(super) fn apply(&mut self, write: Write) -> Result<(), StoreError> {
        match write {
            Write::Mimi(write) => self.apply_mimi(write)?,
            Write::CreateRoom {
                meta,
                checkpoint,
                outliers,
            } => self.create_room(meta, checkpoint, outliers)?,
            Write::Append {
                room,
                expected,
                entries,
                followers,
                now,
            } => {
                self.append(&room, expected, entries, followers, now)?;
            }
            Write::Rebase {
                room,
                expected,
                checkpoint,
                outliers,
            } => {
                self.rebase(&room, expected, checkpoint, outliers)?;
            }
            Write::Prepend {
                room,
                expected_first,
                entries,
            } => self.prepend(&room, expected_first, entries)?,
            Write::PutCheckpoint { room, checkpoint } => self.put_checkpoint(&room, checkpoint)?,
            Write::PutGroupChange { room, change } => self.put_group_change(&room, change)?,
            Write::PutGroup {
                room,
                position,
                checkpoint,
            } => self.put_group(&room, position, checkpoint)?,
            Write::Prune { room, below } => self.prune(&room, below)?,
            Write::PutReply { key, reply, now } => {
                if !self.tables.replies.contains_key(&key) {
                    self.set(|tables| &mut tables.replies, key, Some((reply, now)));
                }
            }
            Write::ExpireReplies { before } => {
                let old = self.tables.replies.iter().filter(|(_, (_, at))| *at < before);
                for key in old.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
                    self.set(|tables| &mut tables.replies, key, None);
                }
            }
            Write::Enqueue {
                destination,
                item,
                limit,
                now,
            } => self.enqueue(destination, item, limit, now)?,
            Write::Freeze { request } => self.freeze(request)?,
            Write::Thaw { destination, txn_id } => {
                self.in_flight(&destination, &txn_id)?;
                self.set(|tables| &mut tables.frozen, destination, None);
            }
            Write::Confirm { destination, txn_id } => self.confirm(destination, &txn_id)?,
            Write::Backoff {
                destination,
                failures,
                next_attempt,
                last_error,
            } => {
                let last_seq = self.tables.destinations.get(&destination).map_or(0, |row| row.last_seq);
                let row = DestinationRow {
                    last_seq,
                    failures,
                    next_attempt,
                    last_error,
                };
                self.set(|tables| &mut tables.destinations, destination, Some(row));
            }
            Write::Park { parked } => self.park(parked),
            Write::Unpark { room, event_id } => self.set(|tables| &mut tables.parked, (room, event_id), None),
            Write::PutServerKeys {
                server,
                response,
                fetched_at,
                effective_valid_until,
            } => {
                self.put_server_keys(StoredServerKeys {
                    server,
                    response,
                    fetched_at,
                    effective_valid_until,
                });
            }
            Write::PutAccount {
                user,
                created_at,
                token_hash,
                device,
            } => {
                self.put_account(&user, created_at)?;
                if let Some(device) = &device {
                    self.put_device(&user, device.clone(), created_at);
                }
                if let Some(token_hash) = token_hash {
                    self.set(|tables| &mut tables.tokens, token_hash, Some((user, device)));
                }
            }
            Write::RevokeToken { token_hash } => self.set(|tables| &mut tables.tokens, token_hash, None),
            Write::DeleteAccount { user, now } => self.delete_account(&user, now),
            Write::PutDevice { user, device, now } => {
                self.put_account(&user, now)?;
                self.put_device(&user, device, now);
            }
            Write::PutDeviceObject {
                user,
                device,
                object,
                forget_key_packages,
                now,
            } => self.put_device_object(user, device, object, forget_key_packages, now)?,
            Write::RemoveDevice { user, device } => self.remove_device(user, device),
            Write::PutRemoteDevice { device } => self.put_remote_device(device)?,
            Write::RemoveRemoteDevice { user, device } => {
                self.set(|tables| &mut tables.encryption.remote_devices, (user, device), None);
            }
            Write::ExpireRemoteDevices { before } => self.expire_remote_devices(before),
            Write::ExpireKeyPackages { now } => self.expire_key_packages(now),
            Write::Inbox {
                user,
                device,
                kind,
                body,
                now,
            } => {
                let item = self.inbox_item(&user, device, kind, body, now);
                let seq = item.seq;
                self.set(|tables| &mut tables.inbox, (user.clone(), seq), Some(item));
                self.trim_inbox(user, seq - rules::MAX_INBOX_ITEMS);
            }
            Write::Notice {
                user,
                device,
                kind,
                subject,
                body,
                now,
            } => {
                let item = self.inbox_item(&user, device, kind, body, now);
                let seq = item.seq;
                self.notice(item, user.clone(), subject);
                self.trim_inbox(user, seq - rules::MAX_INBOX_ITEMS);
            }
            Write::TrimInbox { user, up_to } => self.trim_inbox(user, up_to),
            Write::PutPending { pending } => self.put_pending(pending),
            Write::RemovePending { user, room } => self.set(|tables| &mut tables.pending, (user, room), None),
            Write::PutUpload {
                user,
                hash,
                size,
                now,
                limits,
            } => self.put_upload(user, hash, size, now, limits)?,
            Write::RemoveUpload { user, hash } => self.remove_upload(user, hash),
            Write::PutCachedMedia {
                server,
                media_id,
                hash,
                size,
                now,
            } => self.put_cached_media((server, media_id), hash, size, now),
            Write::ForgetMedia { hash } => self.forget_media(hash),
        }
        Ok(())
    }

    /// The next item of a user's inbox, its number taken.
    fn inbox_item(
        &mut self,
        user: &UserId,
        device: Option<DeviceId>,
        kind: InboxKind,
        body: Bytes,
        at: UnixMillis,
    ) -> InboxItem {
        let seq = self.tables.inbox_heads.get(user).copied().unwrap_or(0) + 1;
        self.set(|tables| &mut tables.inbox_heads, user.clone(), Some(seq));
        InboxItem {
            seq,
            device,
            kind,
            body,
            at,
        }
    }

    fn trim_inbox(&mut self, user: UserId, up_to: i64) {
        self.forget_notices(&user, up_to);
        let old = self.tables.inbox.range((user.clone(), i64::MIN)..);
        let old = old.take_while(|((owner, seq), _)| *owner == user && *seq <= up_to);
        for key in old.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            self.set(|tables| &mut tables.inbox, key, None);
        }
    }

    fn put_pending(&mut self, pending: PendingRoom) {
        let user = pending.user.clone();
        let key = (user.clone(), pending.room.clone());
        self.set(|tables| &mut tables.pending, key, Some(pending));
        let of_user = self.tables.pending.values().filter(|pending| pending.user == user);
        let mut ages: Vec<_> = of_user.map(|pending| (pending.at, pending.room.clone())).collect();
        if ages.len() > rules::MAX_PENDING_ROOMS {
            ages.sort_unstable();
            let (_, oldest) = ages.swap_remove(0);
            self.set(|tables| &mut tables.pending, (user, oldest), None);
        }
    }

    fn create_room(
        &mut self,
        meta: RoomMeta,
        checkpoint: Option<Checkpoint>,
        outliers: Vec<Pdu>,
    ) -> Result<(), StoreError> {
        let room = meta.room_id.clone();
        if self.tables.rooms.contains_key(&room) {
            return Err(StoreError::Conflict { room });
        }
        let head = checkpoint
            .as_ref()
            .map_or(LogPosition::ZERO, |checkpoint| checkpoint.position);
        self.set(
            |tables| &mut tables.rooms,
            room.clone(),
            Some(RoomRow {
                meta,
                head,
                first: head.next(),
            }),
        );
        self.add_outliers(&room, outliers);
        if let Some(checkpoint) = checkpoint {
            self.keep_snapshot(&room, checkpoint);
        }
        Ok(())
    }

    fn append(
        &mut self,
        room: &RoomId,
        expected: LogPosition,
        entries: Vec<Entry>,
        changes: Vec<FollowerChange>,
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        let row = self.room(room)?;
        if row.head != expected || !rules::are_consecutive(expected.next(), &entries) {
            return Err(StoreError::Conflict { room: room.clone() });
        }
        let head = entries.last().map_or(expected, |entry| entry.position);
        self.set(|tables| &mut tables.rooms, room.clone(), Some(RoomRow { head, ..row }));
        if !entries.is_empty() {
            self.mark_dirty(room, now);
        }
        self.add_entries(room, entries)?;
        changes
            .into_iter()
            .for_each(|change| self.change_follower(room, head, change, now));
        Ok(())
    }

    fn rebase(
        &mut self,
        room: &RoomId,
        expected: LogPosition,
        checkpoint: Checkpoint,
        outliers: Vec<Pdu>,
    ) -> Result<(), StoreError> {
        let row = self.room(room)?;
        let head = expected.next();
        if row.head != expected || checkpoint.position != head {
            return Err(StoreError::Conflict { room: room.clone() });
        }
        self.set(|tables| &mut tables.rooms, room.clone(), Some(RoomRow { head, ..row }));
        self.set(|tables| &mut tables.groups, room.clone(), None);
        self.add_outliers(room, outliers);
        let members: Vec<_> = self.tables.current_members(room).collect();
        self.keep_snapshot(room, checkpoint);
        for (user, membership) in members {
            let key = (room.clone(), user, head);
            if membership != Membership::Leave && !self.tables.memberships.contains_key(&key) {
                self.set(|tables| &mut tables.memberships, key, Some(Membership::Leave));
            }
        }
        Ok(())
    }

    fn put_group_change(&mut self, room: &RoomId, change: GroupChange) -> Result<(), StoreError> {
        let head = self.room(room)?.head;
        let mut group = self.tables.groups.get(room).cloned().unwrap_or_default();
        if change.position > head || group.newest >= Some(change.position) {
            return Err(StoreError::Conflict { room: room.clone() });
        }
        group.newest = Some(change.position);
        group.changes.push(change);
        self.set(|tables| &mut tables.groups, room.clone(), Some(group));
        Ok(())
    }

    fn put_group(&mut self, room: &RoomId, position: LogPosition, checkpoint: Bytes) -> Result<(), StoreError> {
        self.room(room)?;
        let newest = self.tables.groups.get(room).and_then(|group| group.newest);
        if newest != Some(position) {
            return Err(StoreError::Conflict { room: room.clone() });
        }
        let group = StoredGroup {
            checkpoint: Some(checkpoint),
            changes: Vec::new(),
            newest,
        };
        self.set(|tables| &mut tables.groups, room.clone(), Some(group));
        Ok(())
    }

    fn prepend(&mut self, room: &RoomId, expected_first: LogPosition, entries: Vec<Entry>) -> Result<(), StoreError> {
        let row = self.room(room)?;
        let Some(first) = entries.first().map(|entry| entry.position) else {
            return Ok(());
        };
        let ends_right = entries
            .last()
            .is_some_and(|entry| entry.position.next() == expected_first);
        if row.first != expected_first || !ends_right || !rules::are_consecutive(first, &entries) {
            return Err(StoreError::Conflict { room: room.clone() });
        }
        self.set(|tables| &mut tables.rooms, room.clone(), Some(RoomRow { first, ..row }));
        self.add_entries(room, entries)
    }

    fn put_checkpoint(&mut self, room: &RoomId, checkpoint: Checkpoint) -> Result<(), StoreError> {
        let row = self.room(room)?;
        if checkpoint.position < row.first.previous() || checkpoint.position > row.head {
            return Err(StoreError::Conflict { room: room.clone() });
        }
        self.add_outliers(room, checkpoint.state.clone());
        self.set(
            |tables| &mut tables.checkpoints,
            (room.clone(), checkpoint.position),
            Some(checkpoint),
        );
        Ok(())
    }

    fn prune(&mut self, room: &RoomId, below: LogPosition) -> Result<(), StoreError> {
        let row = self.room(room)?;
        if below <= row.first {
            return Ok(());
        }
        let is_covered = self
            .tables
            .checkpoints_of(room, Between::after(below.previous()))
            .next()
            .is_some();
        let last_dropped = below.previous();
        let is_owed = |follower: &Follower| {
            follower.delivered < follower.until.map_or(last_dropped, |until| until.min(last_dropped))
        };
        if !is_covered || self.tables.followers_of(room).any(is_owed) {
            return Err(StoreError::Conflict { room: room.clone() });
        }
        self.set(
            |tables| &mut tables.rooms,
            room.clone(),
            Some(RoomRow { first: below, ..row }),
        );
        let dropped: Vec<_> = self
            .tables
            .entries_of(room, Between::through(last_dropped))
            .cloned()
            .collect();
        for entry in dropped {
            self.set(|tables| &mut tables.entries, (room.clone(), entry.position), None);
            let event_id = entry.event_id().clone();
            self.move_event(room, &event_id, None);
            if let Some(lpdu_id) = entry.lpdu_id {
                self.set(|tables| &mut tables.lpdus, (room.clone(), lpdu_id), None);
            }
            if let EntryBody::Event(event) = entry.body
                && event.is_state()
            {
                self.set(|tables| &mut tables.outliers, (room.clone(), event_id), Some(event));
            }
        }
        let useless = Between::through(last_dropped.previous());
        let keys: Vec<_> = self
            .tables
            .checkpoints_of(room, useless)
            .map(|(key, _)| key.clone())
            .collect();
        for key in keys {
            self.set(|tables| &mut tables.checkpoints, key, None);
        }
        Ok(())
    }

    fn room(&self, room: &RoomId) -> Result<RoomRow, StoreError> {
        self.tables
            .rooms
            .get(room)
            .cloned()
            .ok_or_else(|| StoreError::UnknownRoom { room: room.clone() })
    }

    fn add_entries(&mut self, room: &RoomId, entries: Vec<Entry>) -> Result<(), StoreError> {
        let is_hub = self.room(room)?.meta.is_hub();
        for mut entry in entries {
            let event_id = entry.event_id().clone();
            let is_lpdu_known = |lpdu_id: &EventId| self.tables.lpdus.contains_key(&(room.clone(), lpdu_id.clone()));
            let repeats_lpdu = entry.lpdu_id.as_ref().is_some_and(is_lpdu_known);
            if self.tables.position(room, &event_id).is_some() || (repeats_lpdu && is_hub) {
                return Err(StoreError::Conflict { room: room.clone() });
            }
            if repeats_lpdu {
                entry.lpdu_id = None;
            }
            let position = entry.position;
            self.move_event(room, &event_id, Some(position));
            let entry = self.with_fuller_copy(room, entry);
            if entry.pdu().is_some() {
                self.set(|tables| &mut tables.outliers, (room.clone(), event_id), None);
            }
            if let Some(lpdu_id) = entry.lpdu_id.clone() {
                self.set(|tables| &mut tables.lpdus, (room.clone(), lpdu_id), Some(position));
            }
            if let Some((user, membership)) = entry.state_event().and_then(rules::membership_set_by) {
                self.set(
                    |tables| &mut tables.memberships,
                    (room.clone(), user, position),
                    Some(membership),
                );
            }
            self.set(|tables| &mut tables.entries, (room.clone(), position), Some(entry));
        }
        Ok(())
    }

    /// An event we hold as an outlier may come back redacted: the longer copy is the whole one.
    fn with_fuller_copy(&self, room: &RoomId, entry: Entry) -> Entry {
        let key = (room.clone(), entry.event_id().clone());
        match (&entry.body, self.tables.outliers.get(&key)) {
            (EntryBody::Event(event), Some(known)) if known.bytes().len() > event.bytes().len() => {
                let body = EntryBody::Event(known.clone());
                Entry { body, ..entry }
            }
            _ => entry,
        }
    }

    fn move_event(&mut self, room: &RoomId, event_id: &EventId, position: Option<LogPosition>) {
        let mut places = self.tables.positions.get(event_id).cloned().unwrap_or_default();
        places.retain(|(of, _)| of != room);
        places.extend(position.map(|position| (room.clone(), position)));
        let places = (!places.is_empty()).then_some(places);
        self.set(|tables| &mut tables.positions, event_id.clone(), places);
    }

    fn add_outliers(&mut self, room: &RoomId, events: Vec<Pdu>) {
        for event in events {
            if self.tables.event(room, event.event_id()).is_none() {
                self.set(
                    |tables| &mut tables.outliers,
                    (room.clone(), event.event_id().clone()),
                    Some(event),
                );
            }
        }
    }

    /// A checkpoint that is where our knowledge begins (again), so that memberships are learned from it too.
    fn keep_snapshot(&mut self, room: &RoomId, checkpoint: Checkpoint) {
        self.add_outliers(room, checkpoint.state.clone());
        let position = checkpoint.position;
        for (user, membership) in checkpoint.state.iter().filter_map(rules::membership_set_by) {
            self.set(
                |tables| &mut tables.memberships,
                (room.clone(), user, position),
                Some(membership),
            );
        }
        self.set(
            |tables| &mut tables.checkpoints,
            (room.clone(), position),
            Some(checkpoint),
        );
    }

    fn mark_dirty(&mut self, room: &RoomId, now: UnixMillis) {
        let clean = |follower: &&Follower| follower.until.is_none() && follower.dirty_since.is_none();
        for follower in self
            .tables
            .followers_of(room)
            .filter(clean)
            .cloned()
            .collect::<Vec<_>>()
        {
            self.put_follower(Follower {
                dirty_since: Some(now),
                ..follower
            });
        }
    }

    fn change_follower(&mut self, room: &RoomId, head: LogPosition, change: FollowerChange, now: UnixMillis) {
        match change {
            FollowerChange::Open { server, from } => self.open_interval(room, head, server, from, None, now),
            FollowerChange::Once { server, at } => self.open_interval(room, head, server, at, Some(at), now),
            FollowerChange::Close { server, until } => {
                let is_open = |follower: &&Follower| follower.server == server && follower.until.is_none();
                for follower in self
                    .tables
                    .followers_of(room)
                    .filter(is_open)
                    .cloned()
                    .collect::<Vec<_>>()
                {
                    let dirty_since = follower.dirty_since.filter(|_| follower.delivered < until);
                    self.put_follower(Follower {
                        until: Some(until),
                        dirty_since,
                        ..follower
                    });
                }
            }
        }
    }

    fn open_interval(
        &mut self,
        room: &RoomId,
        head: LogPosition,
        server: ServerName,
        from: LogPosition,
        until: Option<LogPosition>,
        now: UnixMillis,
    ) {
        self.know_destination(&server);
        if !self
            .tables
            .followers_of(room)
            .any(|known| known.server == server && known.from == from)
        {
            let dirty_since = (from <= head).then_some(now);
            let delivered = from.previous();
            self.put_follower(Follower {
                room: room.clone(),
                server,
                from,
                until,
                delivered,
                dirty_since,
            });
        }
    }

    fn put_follower(&mut self, follower: Follower) {
        let room = follower.room.clone();
        let mut all: Vec<_> = self.tables.followers_of(&room).cloned().collect();
        match all.binary_search_by(|known| (&known.server, known.from).cmp(&(&follower.server, follower.from))) {
            Ok(at) => all[at] = follower,
            Err(at) => all.insert(at, follower),
        }
        self.set(|tables| &mut tables.followers, room, Some(all));
    }

    fn know_destination(&mut self, server: &ServerName) {
        if !self.tables.destinations.contains_key(server) {
            self.set(
                |tables| &mut tables.destinations,
                server.clone(),
                Some(DestinationRow::default()),
            );
        }
    }

    fn enqueue(
        &mut self,
        destination: ServerName,
        item: DirectItem,
        limit: u64,
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        let waiting = self
            .tables
            .outbox
            .range((destination.clone(), i64::MIN)..=(destination.clone(), i64::MAX));
        if waiting.count() as u64 >= limit {
            return Err(StoreError::Full { destination });
        }
        let mut row = self.tables.destinations.get(&destination).cloned().unwrap_or_default();
        row.last_seq += 1;
        let seq = row.last_seq;
        self.set(|tables| &mut tables.destinations, destination.clone(), Some(row));
        self.set(
            |tables| &mut tables.outbox,
            (destination, seq),
            Some(OutboxRow { item, at: now }),
        );
        Ok(())
    }

    fn freeze(&mut self, request: OutboundRequest) -> Result<(), StoreError> {
        let destination = request.destination.clone();
        if self.tables.frozen.contains_key(&destination) {
            return Err(StoreError::NotInFlight { destination });
        }
        for range in &request.ranges {
            self.room(&range.room)?;
        }
        self.know_destination(&destination);
        self.set(|tables| &mut tables.frozen, destination, Some(request));
        Ok(())
    }

    fn confirm(&mut self, destination: ServerName, txn_id: &str) -> Result<(), StoreError> {
        let request = self.in_flight(&destination, txn_id)?;
        for range in request.ranges {
            let head = self.room(&range.room)?.head;
            let is_meant =
                |follower: &&Follower| follower.server == destination && follower.from == range.interval_from;
            let Some(follower) = self.tables.followers_of(&range.room).find(is_meant).cloned() else {
                continue;
            };
            let delivered = follower.delivered.max(range.through);
            let is_done = delivered >= follower.until.map_or(head, |until| until.min(head));
            let dirty_since = follower.dirty_since.filter(|_| !is_done);
            self.put_follower(Follower {
                delivered,
                dirty_since,
                ..follower
            });
        }
        for seq in request.direct {
            self.set(|tables| &mut tables.outbox, (destination.clone(), seq), None);
        }
        let last_seq = self.tables.destinations.get(&destination).map_or(0, |row| row.last_seq);
        let row = DestinationRow {
            last_seq,
            ..DestinationRow::default()
        };
        self.set(|tables| &mut tables.destinations, destination.clone(), Some(row));
        self.set(|tables| &mut tables.frozen, destination, None);
        Ok(())
    }

    fn in_flight(&self, destination: &ServerName, txn_id: &str) -> Result<OutboundRequest, StoreError> {
        let request = self
            .tables
            .frozen
            .get(destination)
            .filter(|request| request.txn_id == txn_id)
            .cloned();
        request.ok_or_else(|| StoreError::NotInFlight {
            destination: destination.clone(),
        })
    }

    fn park(&mut self, mut parked: ParkedEvent) {
        let key = (parked.room.clone(), parked.event_id.clone());
        let arrival = match self.tables.parked.get(&key) {
            Some((arrival, known)) => {
                parked.received_at = parked.received_at.min(known.received_at);
                parked.attempts = parked.attempts.max(known.attempts);
                *arrival
            }
            None => {
                let arrival = self.tables.arrivals.get(&()).copied().unwrap_or(0) + 1;
                self.set(|tables| &mut tables.arrivals, (), Some(arrival));
                arrival
            }
        };
        self.set(|tables| &mut tables.parked, key, Some((arrival, parked)));
    }

    fn put_server_keys(&mut self, keys: StoredServerKeys) {
        let key = (keys.server.clone(), rules::key_set(&keys.response));
        let known = self.tables.server_keys.get(&key);
        if known.is_none_or(|known| known.fetched_at <= keys.fetched_at) {
            self.set(|tables| &mut tables.server_keys, key, Some(keys.clone()));
        }
        let range = (keys.server.clone(), [0; 32])..=(keys.server, [255; 32]);
        let known = self.tables.server_keys.range(range);
        let mut newest_first: Vec<_> = known.map(|(key, keys)| (keys.fetched_at, key.clone())).collect();
        newest_first.sort_by_key(|&(fetched_at, _)| std::cmp::Reverse(fetched_at));
        for (_, key) in newest_first.into_iter().skip(rules::KEY_SETS_KEPT) {
            self.set(|tables| &mut tables.server_keys, key, None);
        }
    }
}
