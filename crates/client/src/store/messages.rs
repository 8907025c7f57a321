//! Rows about messages, Welcomes, key packages and notices.

use nabe_mls::Suite;
use nabe_signing::{Object, sha256};
use nabe_types::{DeviceId, EventId, LogPosition, RoomId, UnixMillis, UserId};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::groups::{to_i64, to_u64};
use crate::error::StoreError;
use crate::notice::Notice;
use crate::transport::{RoomEvent, ToDevice};
use crate::undecryptable::Undecryptable;

/// Something in a room's timeline.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TimelineItem {
    /// Its number, ascending as items become known.
    pub n: i64,
    /// The room.
    pub room_id: RoomId,
    /// The event.
    pub event_id: EventId,
    /// Its place in the room's log.
    pub position: LogPosition,
    /// Who sent it.
    pub sender: UserId,
    /// When, by the sender's server's clock.
    pub origin_server_ts: UnixMillis,
    /// The type of the event in the room, `m.room.encrypted` for encrypted ones.
    pub event_type: String,
    /// What it holds.
    pub body: ItemBody,
    /// The message's number, if this client sent it.
    pub sent: Option<i64>,
}

/// What an item of a timeline holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ItemBody {
    /// A message that was encrypted: JSON of its type and content, as its sender wrote it (see [`nabe_content::show_payload`]).
    Message(Vec<u8>),
    /// A message that cannot be read.
    Undecryptable(Undecryptable),
    /// An event that was not encrypted.
    Plain(Object),
}

impl TimelineItem {
    /// Puts an event into the timeline and tells the user. An event that is there already changes only if it becomes readable.
    pub(crate) fn put(
        connection: &Connection,
        room_id: &RoomId,
        event: &RoomEvent,
        body: &ItemBody,
        sent: Option<i64>,
    ) -> Result<(), StoreError> {
        let (payload, content, reason) = match body {
            ItemBody::Message(payload) => (Some(payload.clone()), None, None),
            ItemBody::Plain(content) => (None, Some(content.to_canonical()), None),
            ItemBody::Undecryptable(reason) => {
                let reason = serde_json::to_string(reason).expect("string keys only");
                (None, None, Some(reason))
            }
        };
        let item: Option<i64> = connection
            .prepare_cached(
                "INSERT INTO timeline (room_id, event_id, position, sender, origin_server_ts, event_type, payload, content, \
                 reason, sent) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) \
                 ON CONFLICT (room_id, event_id) DO UPDATE SET payload = ?7, reason = ?9 \
                 WHERE timeline.reason IS NOT NULL AND timeline.reason IS NOT ?9 RETURNING n",
            )?
            .query_row(
                params![
                    room_id.as_str(),
                    event.event_id.as_str(),
                    event.position.as_i64(),
                    event.sender.as_str(),
                    event.origin_server_ts.as_i64(),
                    event.event_type,
                    payload,
                    content,
                    reason,
                    sent,
                ],
                |row| row.get(0),
            )
            .optional()?;
        if let Some(item) = item {
            let room = room_id.clone();
            tell(connection, &Notice::Item { room, item })?;
        }
        Ok(())
    }

    pub(crate) fn load(connection: &Connection, n: i64) -> Result<Option<Self>, StoreError> {
        connection
            .prepare_cached("SELECT * FROM timeline WHERE n = ?1")?
            .query_row([n], |row| Ok(Self::from_row(row)))
            .optional()?
            .transpose()
    }

    /// The item of an event.
    pub(crate) fn of_event(
        connection: &Connection,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> Result<Option<Self>, StoreError> {
        connection
            .prepare_cached("SELECT * FROM timeline WHERE room_id = ?1 AND event_id = ?2")?
            .query_row([room_id.as_str(), event_id.as_str()], |row| Ok(Self::from_row(row)))
            .optional()?
            .transpose()
    }

    /// The newest `limit` items of a room, in the order of the log.
    pub(crate) fn newest(connection: &Connection, room_id: &RoomId, limit: u32) -> Result<Vec<Self>, StoreError> {
        let mut statement = connection
            .prepare_cached("SELECT * FROM timeline WHERE room_id = ?1 ORDER BY position DESC, n DESC LIMIT ?2")?;
        let rows = statement.query_map(params![room_id.as_str(), limit], |row| Ok(Self::from_row(row)))?;
        let mut items = rows.map(|row| row?).collect::<Result<Vec<_>, _>>()?;
        items.reverse();
        Ok(items)
    }

    fn from_row(row: &Row<'_>) -> Result<Self, StoreError> {
        let bad = |column| StoreError::Inconsistent {
            table: "timeline",
            column,
        };
        let text = |column| row.get::<_, String>(column);
        let payload: Option<Vec<u8>> = row.get("payload")?;
        let content: Option<Vec<u8>> = row.get("content")?;
        let reason: Option<String> = row.get("reason")?;
        let body = match (payload, content, reason) {
            (Some(payload), _, _) => ItemBody::Message(payload),
            (None, Some(content), _) => ItemBody::Plain(Object::parse(&content).map_err(|_| bad("content"))?),
            (None, None, Some(reason)) => {
                ItemBody::Undecryptable(serde_json::from_str(&reason).map_err(|_| bad("reason"))?)
            }
            (None, None, None) => return Err(bad("payload")),
        };
        Ok(Self {
            n: row.get("n")?,
            room_id: RoomId::parse(&text("room_id")?).map_err(|_| bad("room_id"))?,
            event_id: EventId::parse(&text("event_id")?).map_err(|_| bad("event_id"))?,
            position: LogPosition(row.get("position")?),
            sender: UserId::parse(&text("sender")?).map_err(|_| bad("sender"))?,
            origin_server_ts: UnixMillis::from_i64(row.get("origin_server_ts")?).unwrap_or(UnixMillis::ZERO),
            event_type: text("event_type")?,
            body,
            sent: row.get("sent")?,
        })
    }
}

/// How far an own message is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum OutgoingState {
    /// Not encrypted, never sent.
    New,
    /// Encrypted; to be sent, again if need be.
    Ready,
    /// The server has it. Its echo ends it.
    Sent,
}

/// An own message whose echo has not been seen.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Outgoing {
    pub(crate) n: i64,
    pub(crate) room_id: RoomId,
    pub(crate) idempotency_key: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) epoch: Option<u64>,
    pub(crate) content: Option<Object>,
    pub(crate) state: OutgoingState,
    pub(crate) lpdu_id: Option<String>,
}

impl Outgoing {
    pub(crate) fn insert(
        connection: &Connection,
        room_id: &RoomId,
        key: &str,
        payload: &[u8],
    ) -> Result<i64, StoreError> {
        connection
            .prepare_cached("INSERT INTO outbox (room_id, idempotency_key, payload, state) VALUES (?1, ?2, ?3, 'new')")?
            .execute(params![room_id.as_str(), key, payload])?;
        Ok(connection.last_insert_rowid())
    }

    pub(crate) fn all(connection: &Connection) -> Result<Vec<Self>, StoreError> {
        let mut statement = connection.prepare_cached("SELECT * FROM outbox ORDER BY n")?;
        let rows = statement.query_map([], |row| Ok(Self::from_row(row)))?;
        rows.map(|row| row?).collect()
    }

    pub(crate) fn load(connection: &Connection, n: i64) -> Result<Option<Self>, StoreError> {
        connection
            .prepare_cached("SELECT * FROM outbox WHERE n = ?1")?
            .query_row([n], |row| Ok(Self::from_row(row)))
            .optional()?
            .transpose()
    }

    /// The own message that a ciphertext was made for.
    pub(crate) fn by_ciphertext(connection: &Connection, ciphertext: &[u8]) -> Result<Option<Self>, StoreError> {
        let n: Option<i64> = connection
            .prepare_cached("SELECT n FROM own_ciphertexts WHERE hash = ?1")?
            .query_row([sha256(ciphertext)], |row| row.get(0))
            .optional()?;
        match n {
            Some(n) => Self::load(connection, n),
            None => Ok(None),
        }
    }

    /// Notes what the message was encrypted to.
    pub(crate) fn encrypted(
        &self,
        connection: &Connection,
        epoch: u64,
        ciphertext: &[u8],
        content: &Object,
    ) -> Result<(), StoreError> {
        connection
            .prepare_cached("UPDATE outbox SET epoch = ?2, content = ?3, state = 'ready' WHERE n = ?1")?
            .execute(params![self.n, to_i64(epoch), content.to_canonical()])?;
        connection
            .prepare_cached("INSERT OR REPLACE INTO own_ciphertexts VALUES (?1, ?2)")?
            .execute(params![sha256(ciphertext), self.n])?;
        Ok(())
    }

    pub(crate) fn sent(&self, connection: &Connection, lpdu_id: Option<&str>) -> Result<(), StoreError> {
        connection
            .prepare_cached("UPDATE outbox SET state = 'sent', lpdu_id = ?2 WHERE n = ?1")?
            .execute(params![self.n, lpdu_id])?;
        Ok(())
    }

    pub(crate) fn delete(&self, connection: &Connection) -> Result<(), StoreError> {
        for sql in [
            "DELETE FROM outbox WHERE n = ?1",
            "DELETE FROM own_ciphertexts WHERE n = ?1",
        ] {
            connection.prepare_cached(sql)?.execute([self.n])?;
        }
        Ok(())
    }

    fn from_row(row: &Row<'_>) -> Result<Self, StoreError> {
        let bad = |column| StoreError::Inconsistent {
            table: "outbox",
            column,
        };
        let room: String = row.get("room_id")?;
        let state: String = row.get("state")?;
        let content: Option<Vec<u8>> = row.get("content")?;
        Ok(Self {
            n: row.get("n")?,
            room_id: RoomId::parse(&room).map_err(|_| bad("room_id"))?,
            idempotency_key: row.get("idempotency_key")?,
            payload: row.get("payload")?,
            epoch: row.get::<_, Option<i64>>("epoch")?.map(to_u64),
            content: content
                .map(|content| Object::parse(&content).map_err(|_| bad("content")))
                .transpose()?,
            state: match state.as_str() {
                "new" => OutgoingState::New,
                "ready" => OutgoingState::Ready,
                _ => OutgoingState::Sent,
            },
            lpdu_id: row.get("lpdu_id")?,
        })
    }
}

/// Keeps an event of a room whose group this device is not in, and the newest [`MAX_HELD`] of them at most.
pub(crate) fn hold(connection: &Connection, room_id: &RoomId, event: &RoomEvent) -> Result<(), StoreError> {
    connection
        .prepare_cached("INSERT OR IGNORE INTO held VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![
            room_id.as_str(),
            event.position.as_i64(),
            event.event_id.as_str(),
            event.to_object().to_canonical(),
        ])?;
    connection
        .prepare_cached(
            "DELETE FROM held WHERE room_id = ?1 AND position <= \
             (SELECT position FROM held WHERE room_id = ?1 ORDER BY position DESC LIMIT 1 OFFSET ?2)",
        )?
        .execute(params![room_id.as_str(), MAX_HELD])?;
    Ok(())
}

/// The room and event held under this ID.
pub(crate) fn held_event(
    connection: &Connection,
    event_id: &EventId,
) -> Result<Option<(RoomId, RoomEvent)>, StoreError> {
    let row: Option<(String, Vec<u8>)> = connection
        .prepare_cached("SELECT room_id, event FROM held WHERE event_id = ?1")?
        .query_row([event_id.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((room, event)) = row else { return Ok(None) };
    let room = RoomId::parse(&room).map_err(|_| StoreError::Inconsistent {
        table: "held",
        column: "room_id",
    })?;
    Ok(Some((room, parse_held(&event)?)))
}

/// All events held of a room, in the order of the log, which are not held any longer.
pub(crate) fn release(connection: &Connection, room_id: &RoomId) -> Result<Vec<RoomEvent>, StoreError> {
    let events: Vec<Vec<u8>> = connection
        .prepare_cached("SELECT event FROM held WHERE room_id = ?1 ORDER BY position")?
        .query_map([room_id.as_str()], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    connection
        .prepare_cached("DELETE FROM held WHERE room_id = ?1")?
        .execute([room_id.as_str()])?;
    events.iter().map(|event| parse_held(event)).collect()
}

fn parse_held(event: &[u8]) -> Result<RoomEvent, StoreError> {
    let parsed = Object::parse(event)
        .ok()
        .and_then(|object| RoomEvent::from_object(&object));
    parsed.ok_or(StoreError::Inconsistent {
        table: "held",
        column: "event",
    })
}

/// A Welcome whose commit has not been seen.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct WaitingWelcome {
    pub(crate) n: i64,
    pub(crate) commit_event_id: EventId,
    pub(crate) sender: UserId,
    pub(crate) algorithm: String,
    pub(crate) message: Vec<u8>,
    pub(crate) received_at: UnixMillis,
}

impl WaitingWelcome {
    /// Keeps it, and the newest [`MAX_WELCOMES`] at most: anybody can send any number.
    pub(crate) fn insert(&self, connection: &Connection) -> Result<(), StoreError> {
        connection
            .prepare_cached(
                "INSERT INTO welcomes (commit_event_id, sender, algorithm, message, received_at) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![
                self.commit_event_id.as_str(),
                self.sender.as_str(),
                self.algorithm,
                self.message,
                self.received_at.as_i64(),
            ])?;
        connection
            .prepare_cached(
                "DELETE FROM welcomes WHERE n <= (SELECT n FROM welcomes ORDER BY n DESC LIMIT 1 OFFSET ?1)",
            )?
            .execute([MAX_WELCOMES])?;
        Ok(())
    }

    pub(crate) fn all(connection: &Connection) -> Result<Vec<Self>, StoreError> {
        let mut statement = connection.prepare_cached("SELECT * FROM welcomes ORDER BY n")?;
        let rows = statement.query_map([], |row| Ok(Self::from_row(row)))?;
        rows.map(|row| row?).collect()
    }

    pub(crate) fn for_commit(connection: &Connection, event_id: &EventId) -> Result<Vec<Self>, StoreError> {
        let mut statement =
            connection.prepare_cached("SELECT * FROM welcomes WHERE commit_event_id = ?1 ORDER BY n")?;
        let rows = statement.query_map([event_id.as_str()], |row| Ok(Self::from_row(row)))?;
        rows.map(|row| row?).collect()
    }

    pub(crate) fn delete(&self, connection: &Connection) -> Result<(), StoreError> {
        connection
            .prepare_cached("DELETE FROM welcomes WHERE n = ?1")?
            .execute([self.n])?;
        Ok(())
    }

    fn from_row(row: &Row<'_>) -> Result<Self, StoreError> {
        let bad = |column| StoreError::Inconsistent {
            table: "welcomes",
            column,
        };
        let commit: String = row.get("commit_event_id")?;
        let sender: String = row.get("sender")?;
        Ok(Self {
            n: row.get("n")?,
            commit_event_id: EventId::parse(&commit).map_err(|_| bad("commit_event_id"))?,
            sender: UserId::parse(&sender).map_err(|_| bad("sender"))?,
            algorithm: row.get("algorithm")?,
            message: row.get("message")?,
            received_at: UnixMillis::from_i64(row.get("received_at")?).unwrap_or(UnixMillis::ZERO),
        })
    }
}

/// Queues a message to a device.
pub(crate) fn queue_to_device(connection: &Connection, key: &str, message: &ToDevice) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO to_device (idempotency_key, target, target_device, message_type, content) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            key,
            message.target.as_str(),
            message.target_device.as_str(),
            message.message_type,
            message.content.to_canonical(),
        ])?;
    Ok(())
}

/// The messages to devices that are queued, with their numbers and keys.
pub(crate) fn queued_to_device(connection: &Connection) -> Result<Vec<(i64, String, ToDevice)>, StoreError> {
    let bad = |column| StoreError::Inconsistent {
        table: "to_device",
        column,
    };
    let mut statement = connection.prepare_cached("SELECT * FROM to_device ORDER BY n")?;
    let rows = statement.query_map([], |row| {
        Ok((|| {
            let target: String = row.get("target")?;
            let device: String = row.get("target_device")?;
            let content: Vec<u8> = row.get("content")?;
            let message = ToDevice {
                target: UserId::parse(&target).map_err(|_| bad("target"))?,
                target_device: DeviceId::parse(&device).map_err(|_| bad("target_device"))?,
                message_type: row.get("message_type")?,
                content: Object::parse(&content).map_err(|_| bad("content"))?,
            };
            Ok::<_, StoreError>((row.get("n")?, row.get("idempotency_key")?, message))
        })())
    })?;
    rows.map(|row| row?).collect()
}

/// A queued message was taken.
pub(crate) fn sent_to_device(connection: &Connection, n: i64) -> Result<(), StoreError> {
    connection
        .prepare_cached("DELETE FROM to_device WHERE n = ?1")?
        .execute([n])?;
    Ok(())
}

/// Whether the server has a key package.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Upload {
    /// Nobody has seen it.
    Waiting,
    /// It was on its way, and no answer came.
    Offered,
    /// The server has answered.
    Done,
}

impl Upload {
    const fn to_i64(self) -> i64 {
        match self {
            Self::Waiting => 0,
            Self::Done => 1,
            Self::Offered => 2,
        }
    }

    const fn from_i64(number: i64) -> Self {
        match number {
            0 => Self::Waiting,
            2 => Self::Offered,
            _ => Self::Done,
        }
    }
}

/// One of our key packages.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct OwnKeyPackage {
    pub(crate) reference: Vec<u8>,
    pub(crate) suite: Suite,
    pub(crate) body: Vec<u8>,
    pub(crate) last_resort: bool,
    pub(crate) expires: UnixMillis,
    pub(crate) upload: Upload,
}

impl OwnKeyPackage {
    pub(crate) fn insert(&self, connection: &Connection) -> Result<(), StoreError> {
        connection
            .prepare_cached("INSERT OR IGNORE INTO key_packages VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
            .execute(params![
                self.reference,
                self.suite.id(),
                self.body,
                self.last_resort,
                self.expires.as_i64(),
                self.upload.to_i64(),
            ])?;
        Ok(())
    }

    pub(crate) fn all(connection: &Connection) -> Result<Vec<Self>, StoreError> {
        let bad = StoreError::Inconsistent {
            table: "key_packages",
            column: "suite",
        };
        let mut statement = connection.prepare_cached("SELECT * FROM key_packages ORDER BY expires, reference")?;
        let rows = statement.query_map([], |row| {
            let suite: u16 = row.get("suite")?;
            let expires: i64 = row.get("expires")?;
            Ok(Suite::from_id(suite).map(|suite| {
                Ok::<_, rusqlite::Error>(Self {
                    reference: row.get("reference")?,
                    suite,
                    body: row.get("body")?,
                    last_resort: row.get("last_resort")?,
                    expires: UnixMillis::from_i64(expires).unwrap_or(UnixMillis::ZERO),
                    upload: Upload::from_i64(row.get("uploaded")?),
                })
            }))
        })?;
        let mut packages = Vec::new();
        for row in rows {
            match row? {
                Some(package) => packages.push(package?),
                None => return Err(bad),
            }
        }
        Ok(packages)
    }

    pub(crate) fn mark(&self, connection: &Connection, upload: Upload) -> Result<(), StoreError> {
        connection
            .prepare_cached("UPDATE key_packages SET uploaded = ?2 WHERE reference = ?1")?
            .execute(params![self.reference, upload.to_i64()])?;
        Ok(())
    }

    pub(crate) fn delete(&self, connection: &Connection) -> Result<(), StoreError> {
        connection
            .prepare_cached("DELETE FROM key_packages WHERE reference = ?1")?
            .execute([&self.reference])?;
        Ok(())
    }
}

/// Has the user told.
pub(crate) fn tell(connection: &Connection, notice: &Notice) -> Result<(), StoreError> {
    let body = serde_json::to_string(notice).expect("string keys only");
    connection
        .prepare_cached("INSERT INTO notices (body) VALUES (?1)")?
        .execute([body])?;
    Ok(())
}

/// What the user has not been told, with numbers to acknowledge by.
pub(crate) fn untold(connection: &Connection, limit: u32) -> Result<Vec<(i64, Notice)>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT n, body FROM notices ORDER BY n LIMIT ?1")?;
    let rows: Vec<(i64, String)> = statement
        .query_map([limit], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let bad = |_| StoreError::Inconsistent {
        table: "notices",
        column: "body",
    };
    rows.into_iter()
        .map(|(n, body)| Ok((n, serde_json::from_str(&body).map_err(bad)?)))
        .collect()
}

/// The user was told everything up to here.
pub(crate) fn told(connection: &Connection, up_to: i64) -> Result<(), StoreError> {
    connection
        .prepare_cached("DELETE FROM notices WHERE n <= ?1")?
        .execute([up_to])?;
    Ok(())
}

/// Events held for one room at most.
const MAX_HELD: u32 = 5_000;
/// Welcomes waiting for their commits at most.
const MAX_WELCOMES: u32 = 200;
