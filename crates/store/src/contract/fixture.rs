//! Rooms and events to store.

use bytes::Bytes;
use nabe_core::{Checkpoint, Entry, EntryBody, FollowerChange, HoleReason, Role, RoomMeta};
use nabe_event::{EventBuilder, Pdu, RoomVersionRules};
use nabe_signing::json::Object;
use nabe_signing::{Signer, SigningKey, object};
use nabe_types::{DeviceId, EventId, KeyId, LogPosition, RoomId, RoomVersionId, ServerName, UnixMillis, UserId};

use crate::{Batch, DirectItem, Store, StoreError, Write};

/// A server's name.
#[must_use]
pub fn server(name: &str) -> ServerName {
    ServerName::parse(name).unwrap()
}

/// A user's ID.
#[must_use]
pub fn user(id: &str) -> UserId {
    UserId::parse(id).unwrap()
}

/// A device's ID.
#[must_use]
pub fn device(id: &str) -> DeviceId {
    DeviceId::parse(id).unwrap()
}

/// A room's ID.
#[must_use]
pub fn room_id(localpart: &str) -> RoomId {
    RoomId::parse(&format!("!{localpart}:hub.example")).unwrap()
}

/// The event ID made of one repeated byte.
#[must_use]
pub fn event_id(byte: u8) -> EventId {
    EventId::from_hash([byte; 32])
}

/// A moment.
#[must_use]
pub const fn at(millis: u64) -> UnixMillis {
    UnixMillis(millis)
}

/// A position.
#[must_use]
pub const fn pos(position: i64) -> LogPosition {
    LogPosition(position)
}

/// An EDU to send.
#[must_use]
pub fn edu(text: &'static str) -> DirectItem {
    DirectItem::Edu(Bytes::from_static(text.as_bytes()))
}

/// Commits one batch; the batch's own result.
pub async fn commit(store: &dyn Store, writes: impl IntoIterator<Item = Write>) -> Result<(), StoreError> {
    let mut results = store.commit(vec![writes.into_iter().collect::<Batch>()]).await.unwrap();
    assert_eq!(results.len(), 1, "one result per batch");
    results.remove(0)
}

/// The refusal of a room's write.
pub fn conflict(room: &RoomId) -> Result<(), StoreError> {
    Err(StoreError::Conflict { room: room.clone() })
}

/// A room whose log is being written, entry after entry.
#[derive(Clone, Debug)]
pub struct RoomLog {
    meta: RoomMeta,
    signer: Signer,
    head: Option<EventId>,
    position: LogPosition,
    made: u64,
}

impl RoomLog {
    /// A room we are the hub of.
    #[must_use]
    pub fn hub(localpart: &str) -> Self {
        Self::new(localpart, Role::Hub)
    }

    /// A room another server is the hub of.
    #[must_use]
    pub fn participant(localpart: &str) -> Self {
        Self::new(
            localpart,
            Role::Participant {
                hub: server("hub.example"),
            },
        )
    }

    /// What is fixed about it.
    #[must_use]
    pub const fn meta(&self) -> &RoomMeta {
        &self.meta
    }

    /// Its ID.
    #[must_use]
    pub const fn id(&self) -> &RoomId {
        &self.meta.room_id
    }

    /// The position of the last entry made.
    #[must_use]
    pub const fn position(&self) -> LogPosition {
        self.position
    }

    /// Goes on at another position, after an event we do not have.
    pub fn jump(&mut self, position: i64) {
        self.position = pos(position);
        self.head = None;
    }

    /// The write that adds the empty room.
    #[must_use]
    pub fn create(&self) -> Write {
        Write::CreateRoom {
            meta: self.meta.clone(),
            checkpoint: None,
            outliers: vec![],
        }
    }

    /// The write that adds the room with a snapshot at position 0.
    #[must_use]
    pub fn create_with(&self, state: Vec<Pdu>, outliers: Vec<Pdu>) -> Write {
        Write::CreateRoom {
            meta: self.meta.clone(),
            checkpoint: Some(checkpoint(0, None, state)),
            outliers,
        }
    }

    /// The write that appends entries made one after the other.
    #[must_use]
    pub fn append(&self, entries: Vec<Entry>, now: UnixMillis) -> Write {
        self.append_with(entries, vec![], now)
    }

    /// The same with a change of audience.
    #[must_use]
    pub fn append_with(&self, entries: Vec<Entry>, followers: Vec<FollowerChange>, now: UnixMillis) -> Write {
        let expected = entries.first().map_or(self.position, |entry| entry.position.previous());
        Write::Append {
            room: self.id().clone(),
            expected,
            entries,
            followers,
            now,
        }
    }

    /// The room's first entry.
    pub fn creation(&mut self) -> Entry {
        self.state("m.room.create", "", object! { "room_version" => "I.1" })
    }

    /// The next entry: a message, which came as an LPDU.
    pub fn message(&mut self, text: &str) -> Entry {
        let pdu = self.pdu("m.room.message", None, object! { "body" => text });
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&self.made.to_be_bytes());
        hash[31] = 1;
        Entry {
            lpdu_id: Some(EventId::from_hash(hash)),
            ..self.entry(EntryBody::Event(pdu))
        }
    }

    /// The next entries: so many messages.
    pub fn messages(&mut self, count: usize) -> Vec<Entry> {
        (0..count).map(|n| self.message(&format!("message {n}"))).collect()
    }

    /// The next entry: a state event.
    pub fn state(&mut self, event_type: &str, state_key: &str, content: Object) -> Entry {
        let pdu = self.pdu(event_type, Some(state_key), content);
        self.entry(EntryBody::Event(pdu))
    }

    /// The next entry: a user's membership.
    pub fn member(&mut self, user: &str, membership: &str) -> Entry {
        self.state("m.room.member", user, object! { "membership" => membership })
    }

    /// The next entry: the room's topic.
    pub fn topic(&mut self, topic: &str) -> Entry {
        self.state("m.room.topic", "", object! { "topic" => topic })
    }

    /// The next entry: a hole.
    pub fn hole(&mut self, reason: HoleReason) -> Entry {
        self.made += 1;
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&self.made.to_be_bytes());
        hash[31] = 2;
        self.entry(EntryBody::Hole {
            event_id: EventId::from_hash(hash),
            reason,
        })
    }

    /// An event of the room that is not in its log.
    pub fn outlier(&mut self, event_type: &str, state_key: &str) -> Pdu {
        self.pdu(event_type, Some(state_key), Object::new())
    }

    fn new(localpart: &str, role: Role) -> Self {
        let key = SigningKey::from_seed(KeyId::parse("ed25519:1").unwrap(), [7; 32]);
        let meta = RoomMeta {
            room_id: room_id(localpart),
            version: RoomVersionId::parse("I.1").unwrap(),
            role,
            created_at: at(1),
        };
        let signer = Signer::new(server("hub.example"), vec![key]).unwrap();
        Self {
            meta,
            signer,
            head: None,
            position: LogPosition::ZERO,
            made: 0,
        }
    }

    fn pdu(&mut self, event_type: &str, state_key: Option<&str>, content: Object) -> Pdu {
        self.made += 1;
        let sender = user("@alice:hub.example");
        let builder = EventBuilder::new(self.id().clone(), event_type, sender, at(self.made), content);
        let builder = match state_key {
            Some(state_key) => builder.state_key(state_key),
            None => builder,
        };
        let is_create = event_type == "m.room.create";
        let prev = if is_create {
            vec![]
        } else {
            vec![self.head.clone().unwrap_or_else(|| event_id(0))]
        };
        builder
            .build_pdu(&self.signer, vec![], prev, &RoomVersionRules::I1)
            .unwrap()
    }

    fn entry(&mut self, body: EntryBody) -> Entry {
        self.position = self.position.next();
        let entry = Entry {
            position: self.position,
            lpdu_id: None,
            body,
            soft_failed: false,
            received_at: at(1000 + self.made),
        };
        self.head = Some(entry.event_id().clone());
        entry
    }
}

/// A checkpoint; puts the state in its order.
#[must_use]
pub fn checkpoint(position: i64, head: Option<EventId>, state: Vec<Pdu>) -> Checkpoint {
    Checkpoint {
        position: pos(position),
        head,
        state: crate::rules::fold(state, []),
    }
}

/// The events in these entries.
pub fn pdus<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Vec<Pdu> {
    entries.into_iter().map(|entry| entry.pdu().unwrap().clone()).collect()
}
