//! Messages that expire: each is forgotten at its time, without anybody's doing and without a network (MC #expiring).
//!
//! Absolute expiry needs no more than a clock. Relative expiry begins when the user has read the message ([`MimiClient::mark_read`]); what
//! the user sent, from whichever client, they have read. What is left of a message is its place, its ID, and what it referred to.

use std::collections::BTreeSet;

use nabe_content::mimi::timeline::Timeline;
use nabe_content::mimi::{MessageId, MimiContent};
use nabe_types::UnixMillis;
use nabe_wire::uri::MimiUri;
use rusqlite::Connection;

use super::client::MimiClient;
use super::error::MimiError;
use super::notice::MimiNotice;
use super::receive::Work;
use super::store::{
    MimiBody, MimiItem, has_expired, look_at_by, look_at_next, note_read, tell, to_be_looked_at, truncate_log, wipe,
};
use crate::error::StoreError;
use crate::store::ClientStore;

impl MimiClient {
    /// What the messages of a room make of each other: edits, deletes, reactions, replies, and what has expired. Of a room in which more was
    /// said than 64 MiB, the newest of it.
    pub fn timeline(&self, room: &MimiUri) -> Result<Timeline, MimiError> {
        let mut timeline = timeline_of(MimiItem::newest_within(self.store.read(), room, MAX_TIMELINE)?);
        timeline.expire(self.now());
        Ok(timeline)
    }

    /// The same of one message and its versions, without the rest of the room. Of versions beyond 32 MiB, by whoever may make them, the
    /// oldest.
    pub(super) fn timeline_about(&self, room: &MimiUri, id: &MessageId) -> Result<Timeline, MimiError> {
        let mut timeline = timeline_of(MimiItem::versions(self.store.read(), room, id, MAX_VERSIONS)?);
        timeline.expire(self.now());
        Ok(timeline)
    }

    /// Forgets what has expired by now. [`MimiClient::sync`] does so, too, and so does [`MimiClient::open`].
    pub fn expire(&mut self) -> Result<(), MimiError> {
        let now = self.now();
        expire(&mut self.store, now)
    }

    /// The user has read these messages: those that expire some time after that begin to, and others are told if the room's policy and the
    /// settings say so. The first time counts. What is not there is passed over.
    pub fn mark_read(&mut self, room: &MimiUri, ids: &[MessageId]) -> Result<(), MimiError> {
        self.worked = None;
        self.in_transaction(|work, _| work.read_by_user(room, ids, true))
    }
}

impl Work<'_> {
    /// The user has read messages, here or, if others need not be told any more, elsewhere.
    pub(super) fn read_by_user(&mut self, room: &MimiUri, ids: &[MessageId], tell: bool) -> Result<(), MimiError> {
        for id in ids {
            let Some(item) = MimiItem::of_message(self.connection, room, id)? else {
                continue;
            };
            if note_read(self.connection, room, id, self.now)? {
                // Which message it was a version of, and when that expires, is for the timeline to say.
                look_at_by(self.connection, room, id, UnixMillis(0))?;
            }
            if tell {
                self.note_read_status(&item, id)?;
            }
        }
        Ok(())
    }

    /// A message has come: when it is to be looked at again.
    pub(super) fn note_expiry(
        &self,
        room: &MimiUri,
        id: &MessageId,
        content: &MimiContent,
        read_at: Option<UnixMillis>,
    ) -> Result<(), StoreError> {
        if let Some(expires) = content.expires {
            // If nobody has read it, a version of it that came first may have been read.
            let due = expires.deadline(read_at).unwrap_or(UnixMillis(0));
            look_at_by(self.connection, room, id, due)?;
        }
        // A version of what has expired goes at once.
        if content.replaces.is_some() && has_expired(self.connection, room)? {
            look_at_by(self.connection, room, id, UnixMillis(0))?;
        }
        Ok(())
    }
}

/// What messages make of each other; reports of their status are none.
fn timeline_of(items: Vec<MimiItem>) -> Timeline {
    let mut timeline = Timeline::new();
    let mut read = Vec::new();
    for item in items {
        let (MimiBody::Content(received) | MimiBody::Expired(received)) = item.body else {
            continue;
        };
        if super::status::report_in(&received).is_some() {
            continue;
        }
        read.extend(item.read_at.map(|at| (at, received.id())));
        // What came twice was not kept.
        let _ = timeline.insert(*received, item.accepted);
    }
    // Of the versions of a message, the one that was read first counts.
    read.sort_unstable();
    for (at, id) in read {
        timeline.mark_read(&id, at);
    }
    timeline
}

/// Forgets what has expired by now, in every room.
pub(super) fn expire(store: &mut ClientStore, now: UnixMillis) -> Result<(), MimiError> {
    let mut has_wiped = false;
    let mut look = || {
        for (room, id) in to_be_looked_at(store.read(), now)? {
            has_wiped |= store.transaction(|connection| look_at(connection, &room, &id, now, MAX_VERSIONS))?;
        }
        Ok(())
    };
    let looked = look();
    // Even if something else went wrong after it.
    if has_wiped {
        truncate_log(store.read())?;
    }
    looked
}

/// Forgets a message with all its versions, if it has expired. So many bytes of them are read at once.
pub(super) fn look_at(
    connection: &Connection,
    room: &MimiUri,
    id: &MessageId,
    now: UnixMillis,
    at_once: u64,
) -> Result<bool, StoreError> {
    let mut has_wiped = false;
    // What is left of one takes little, so that there is room for the next.
    while look_at_some(connection, room, id, now, at_once)? {
        has_wiped = true;
    }
    Ok(has_wiped)
}

fn look_at_some(
    connection: &Connection,
    room: &MimiUri,
    id: &MessageId,
    now: UnixMillis,
    at_once: u64,
) -> Result<bool, StoreError> {
    let versions = MimiItem::versions(connection, room, id, at_once)?;
    let kept: BTreeSet<MessageId> = versions
        .iter()
        .filter_map(|item| match &item.body {
            MimiBody::Content(received) => Some(received.id()),
            _ => None,
        })
        .collect();
    let mut timeline = timeline_of(versions);
    let due = timeline.expire(now);
    let gone = kept.iter().filter_map(|id| timeline.received(id));
    let gone: Vec<_> = gone.filter(|received| received.is_forgotten()).collect();
    for left in &gone {
        wipe(connection, room, left)?;
    }
    for expired in due {
        let (room, message) = (room.to_string(), expired.to_string());
        tell(connection, &MimiNotice::Expired { room, message })?;
    }
    look_at_next(connection, room, id, timeline.next_expiry())?;
    Ok(!gone.is_empty())
}

/// Whether a message that has not been sent would come too late.
pub(super) fn is_too_late(content: &[u8], now: UnixMillis) -> bool {
    MimiContent::decode(content).is_ok_and(|content| content.expires.is_some_and(|expires| expires.is_due(None, now)))
}

/// How many bytes of one message's versions are read at once.
const MAX_VERSIONS: u64 = 32 << 20;
/// How many bytes of a room are.
const MAX_TIMELINE: u64 = 64 << 20;
