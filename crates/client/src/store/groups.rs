//! Rows about rooms and what is to change in their groups.

use nabe_signing::Object;
use nabe_types::{DeviceId, EventId, RoomId, UnixMillis, UserId};
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde::Serialize;

use crate::error::StoreError;
use crate::intent::Intent;

/// How this device stands to a room's group.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupStatus {
    /// It is not a member.
    None,
    /// It has sent an external commit and waits for its echo.
    Joining,
    /// It is a member and has seen every commit so far.
    Active,
    /// It was a member until somebody removed it.
    Removed,
    /// A commit in the room's log is one it cannot follow. An external join helps.
    Stuck,
}

impl GroupStatus {
    const ALL: [(Self, &'static str); 5] = [
        (Self::None, "none"),
        (Self::Joining, "joining"),
        (Self::Active, "active"),
        (Self::Removed, "removed"),
        (Self::Stuck, "stuck"),
    ];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(status, _)| *status == self)
            .map_or("none", |(_, word)| word)
    }

    fn parse(word: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(_, known)| *known == word)
            .map(|&(status, _)| status)
    }
}

/// A room as the client knows it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Room {
    /// The room.
    pub room_id: RoomId,
    /// The user's membership.
    pub membership: String,
    /// The algorithm its creator chose: `None` if not known yet, empty if the room is not encrypted.
    pub algorithm: Option<String>,
    /// How this device stands to the group.
    pub group: GroupStatus,
    /// Why the device is stuck, if it is.
    pub reason: Option<String>,
    /// The first epoch that this device may have keys for.
    pub first_epoch: Option<u64>,
    /// When it will next see whether devices have to be added or removed.
    pub tend_due: Option<UnixMillis>,
}

impl Room {
    pub(crate) fn new(room_id: RoomId) -> Self {
        Self {
            room_id,
            membership: String::new(),
            algorithm: None,
            group: GroupStatus::None,
            reason: None,
            first_epoch: None,
            tend_due: None,
        }
    }

    pub(crate) fn load(connection: &Connection, room_id: &RoomId) -> Result<Option<Self>, StoreError> {
        connection
            .prepare_cached("SELECT * FROM rooms WHERE room_id = ?1")?
            .query_row([room_id.as_str()], |row| Ok(Self::from_row(row)))
            .optional()?
            .transpose()
    }

    pub(crate) fn load_or_new(connection: &Connection, room_id: &RoomId) -> Result<Self, StoreError> {
        Ok(Self::load(connection, room_id)?.unwrap_or_else(|| Self::new(room_id.clone())))
    }

    pub(crate) fn all(connection: &Connection) -> Result<Vec<Self>, StoreError> {
        let mut statement = connection.prepare_cached("SELECT * FROM rooms ORDER BY room_id")?;
        let rows = statement.query_map([], |row| Ok(Self::from_row(row)))?;
        rows.map(|row| row?).collect()
    }

    pub(crate) fn save(&self, connection: &Connection) -> Result<(), StoreError> {
        connection
            .prepare_cached("INSERT OR REPLACE INTO rooms VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?
            .execute(params![
                self.room_id.as_str(),
                self.membership,
                self.algorithm,
                self.group.as_str(),
                self.reason,
                self.first_epoch.map(to_i64),
                self.tend_due.map(UnixMillis::as_i64),
            ])?;
        Ok(())
    }

    fn from_row(row: &Row<'_>) -> Result<Self, StoreError> {
        let bad = |column| StoreError::Inconsistent { table: "rooms", column };
        let text: String = row.get("room_id")?;
        let status: String = row.get("group_status")?;
        let tend_due: Option<i64> = row.get("tend_due")?;
        Ok(Self {
            room_id: RoomId::parse(&text).map_err(|_| bad("room_id"))?,
            membership: row.get("membership")?,
            algorithm: row.get("algorithm")?,
            group: GroupStatus::parse(&status).ok_or_else(|| bad("group_status"))?,
            reason: row.get("reason")?,
            first_epoch: row.get::<_, Option<i64>>("first_epoch")?.map(to_u64),
            tend_due: tend_due.and_then(UnixMillis::from_i64),
        })
    }
}

/// An intention with its place in the queue.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct StoredIntent {
    pub(crate) id: i64,
    pub(crate) room_id: RoomId,
    pub(crate) intent: Intent,
    /// Races lost so far.
    pub(crate) attempts: u32,
    /// Not before.
    pub(crate) due: UnixMillis,
}

impl StoredIntent {
    pub(crate) fn insert(
        connection: &Connection,
        room_id: &RoomId,
        intent: &Intent,
        due: UnixMillis,
    ) -> Result<i64, StoreError> {
        let body = serde_json::to_string(intent).expect("an intention has string keys only");
        connection
            .prepare_cached("INSERT INTO intents (room_id, body, attempts, due) VALUES (?1, ?2, 0, ?3)")?
            .execute(params![room_id.as_str(), body, due.as_i64()])?;
        Ok(connection.last_insert_rowid())
    }

    /// All, in the order in which they were made.
    pub(crate) fn all(connection: &Connection) -> Result<Vec<Self>, StoreError> {
        let mut statement = connection.prepare_cached("SELECT * FROM intents ORDER BY intent_id")?;
        let rows = statement.query_map([], |row| Ok(Self::from_row(row)))?;
        rows.map(|row| row?).collect()
    }

    pub(crate) fn load(connection: &Connection, id: i64) -> Result<Option<Self>, StoreError> {
        connection
            .prepare_cached("SELECT * FROM intents WHERE intent_id = ?1")?
            .query_row([id], |row| Ok(Self::from_row(row)))
            .optional()?
            .transpose()
    }

    pub(crate) fn count_attempt(connection: &Connection, id: i64) -> Result<(), StoreError> {
        connection
            .prepare_cached("UPDATE intents SET attempts = attempts + 1 WHERE intent_id = ?1")?
            .execute([id])?;
        Ok(())
    }

    pub(crate) fn postpone(connection: &Connection, id: i64, due: UnixMillis) -> Result<(), StoreError> {
        connection
            .prepare_cached("UPDATE intents SET due = ?2 WHERE intent_id = ?1")?
            .execute(params![id, due.as_i64()])?;
        Ok(())
    }

    pub(crate) fn delete(connection: &Connection, id: i64) -> Result<(), StoreError> {
        connection
            .prepare_cached("DELETE FROM intents WHERE intent_id = ?1")?
            .execute([id])?;
        Ok(())
    }

    fn from_row(row: &Row<'_>) -> Result<Self, StoreError> {
        let bad = |column| StoreError::Inconsistent {
            table: "intents",
            column,
        };
        let room: String = row.get("room_id")?;
        let body: String = row.get("body")?;
        Ok(Self {
            id: row.get("intent_id")?,
            room_id: RoomId::parse(&room).map_err(|_| bad("room_id"))?,
            intent: serde_json::from_str(&body).map_err(|_| bad("body"))?,
            attempts: row.get("attempts")?,
            due: UnixMillis::from_i64(row.get("due")?).unwrap_or(UnixMillis::ZERO),
        })
    }
}

/// How far a commit is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum CommitState {
    /// Not answered yet; to be sent, again if need be.
    Ready,
    /// The server has it. Its echo decides.
    Sent,
}

/// A commit whose echo has not been seen.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct PendingCommit {
    pub(crate) room_id: RoomId,
    pub(crate) intent_id: i64,
    pub(crate) epoch: u64,
    pub(crate) external: bool,
    pub(crate) idempotency_key: String,
    pub(crate) content: Object,
    pub(crate) welcome: Option<Vec<u8>>,
    pub(crate) recipients: Vec<(UserId, DeviceId)>,
    pub(crate) state: CommitState,
    pub(crate) lpdu_id: Option<String>,
}

impl PendingCommit {
    pub(crate) fn load(connection: &Connection, room_id: &RoomId) -> Result<Option<Self>, StoreError> {
        connection
            .prepare_cached("SELECT * FROM commits WHERE room_id = ?1")?
            .query_row([room_id.as_str()], |row| Ok(Self::from_row(row)))
            .optional()?
            .transpose()
    }

    pub(crate) fn all(connection: &Connection) -> Result<Vec<Self>, StoreError> {
        let mut statement = connection.prepare_cached("SELECT * FROM commits ORDER BY room_id")?;
        let rows = statement.query_map([], |row| Ok(Self::from_row(row)))?;
        rows.map(|row| row?).collect()
    }

    pub(crate) fn save(&self, connection: &Connection) -> Result<(), StoreError> {
        let recipients = serde_json::to_string(&self.recipients).expect("pairs of strings");
        connection
            .prepare_cached("INSERT OR REPLACE INTO commits VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)")?
            .execute(params![
                self.room_id.as_str(),
                self.intent_id,
                to_i64(self.epoch),
                self.external,
                self.idempotency_key,
                self.content.to_canonical(),
                self.welcome,
                recipients,
                match self.state {
                    CommitState::Ready => "ready",
                    CommitState::Sent => "sent",
                },
                self.lpdu_id,
            ])?;
        Ok(())
    }

    pub(crate) fn delete(connection: &Connection, room_id: &RoomId) -> Result<(), StoreError> {
        connection
            .prepare_cached("DELETE FROM commits WHERE room_id = ?1")?
            .execute([room_id.as_str()])?;
        Ok(())
    }

    fn from_row(row: &Row<'_>) -> Result<Self, StoreError> {
        let bad = |column| StoreError::Inconsistent {
            table: "commits",
            column,
        };
        let room: String = row.get("room_id")?;
        let content: Vec<u8> = row.get("content")?;
        let recipients: String = row.get("recipients")?;
        let state: String = row.get("state")?;
        Ok(Self {
            room_id: RoomId::parse(&room).map_err(|_| bad("room_id"))?,
            intent_id: row.get("intent_id")?,
            epoch: to_u64(row.get("epoch")?),
            external: row.get("external")?,
            idempotency_key: row.get("idempotency_key")?,
            content: Object::parse(&content).map_err(|_| bad("content"))?,
            welcome: row.get("welcome")?,
            recipients: serde_json::from_str(&recipients).map_err(|_| bad("recipients"))?,
            state: if state == "sent" {
                CommitState::Sent
            } else {
                CommitState::Ready
            },
            lpdu_id: row.get("lpdu_id")?,
        })
    }
}

/// Remembers which commit began an epoch.
pub(crate) fn note_epoch(
    connection: &Connection,
    room_id: &RoomId,
    epoch: u64,
    commit: &EventId,
) -> Result<(), StoreError> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO epochs VALUES (?1, ?2, ?3)")?
        .execute(params![room_id.as_str(), to_i64(epoch), commit.as_str()])?;
    Ok(())
}

/// The commit that began an epoch.
pub(crate) fn commit_of_epoch(
    connection: &Connection,
    room_id: &RoomId,
    epoch: u64,
) -> Result<Option<EventId>, StoreError> {
    let text: Option<String> = connection
        .prepare_cached("SELECT commit_event_id FROM epochs WHERE room_id = ?1 AND epoch = ?2")?
        .query_row(params![room_id.as_str(), to_i64(epoch)], |row| row.get(0))
        .optional()?;
    let bad = StoreError::Inconsistent {
        table: "epochs",
        column: "commit_event_id",
    };
    text.map(|text| EventId::parse(&text).map_err(|_| bad)).transpose()
}

/// Notes that a device could not be added, so that it is left alone for a while.
pub(crate) fn note_unaddable(
    connection: &Connection,
    room_id: &RoomId,
    user: &UserId,
    device: &DeviceId,
    until: UnixMillis,
) -> Result<(), StoreError> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO unaddable VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![
            room_id.as_str(),
            user.as_str(),
            device.as_str(),
            until.as_i64()
        ])?;
    Ok(())
}

/// Whether a device is to be left alone.
pub(crate) fn is_unaddable(
    connection: &Connection,
    room_id: &RoomId,
    user: &UserId,
    device: &DeviceId,
    now: UnixMillis,
) -> Result<bool, StoreError> {
    let until: Option<i64> = connection
        .prepare_cached("SELECT until FROM unaddable WHERE room_id = ?1 AND user_id = ?2 AND device_id = ?3")?
        .query_row(params![room_id.as_str(), user.as_str(), device.as_str()], |row| {
            row.get(0)
        })
        .optional()?;
    Ok(until.is_some_and(|until| until > now.as_i64()))
}

/// A user's devices changed: they may be addable now.
pub(crate) fn forget_unaddable(connection: &Connection, user: &UserId) -> Result<(), StoreError> {
    connection
        .prepare_cached("DELETE FROM unaddable WHERE user_id = ?1")?
        .execute([user.as_str()])?;
    Ok(())
}

/// Epochs count one by one from 0, so they stay far below 2^63.
pub(super) fn to_i64(epoch: u64) -> i64 {
    i64::try_from(epoch).unwrap_or(i64::MAX)
}

pub(super) fn to_u64(stored: i64) -> u64 {
    u64::try_from(stored).unwrap_or(0)
}
