//! Rooms that this client knows, the proposals that are pending in them, and what came too early.

use nabe_types::UnixMillis;
use nabe_wire::uri::MimiUri;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{all, bad, millis, to_i64, to_u64, uri};
use crate::error::StoreError;

/// Where this client stands in a room.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MimiStatus {
    /// Not in its group.
    None,
    /// It hands the room over to the hub.
    Creating,
    /// It has sent an external commit.
    Joining,
    /// In the group.
    Active,
    /// In the group until somebody commits that it goes.
    Leaving,
    /// Not in the group any more.
    Removed,
    /// It cannot follow the group any more.
    Stuck,
}

/// A room that this client knows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KnownRoom {
    /// Its URI.
    pub room: MimiUri,
    /// Where this client stands.
    pub status: MimiStatus,
    /// Why it is stuck.
    pub reason: Option<String>,
    /// The first epoch whose messages this client can have keys for.
    pub first_epoch: Option<u64>,
    pub(crate) group_id: Option<Vec<u8>>,
    /// The epoch that the group is in, so that it need not be loaded to know.
    pub(crate) epoch: Option<u64>,
    pub(crate) tend_due: Option<UnixMillis>,
    /// When this client last began to join anew by itself.
    pub(crate) rejoined: Option<UnixMillis>,
    /// When something was first heard of it while in it, by the hub's word, and by the own clock if that is earlier. The room was there by
    /// then, and what comes now is no older.
    pub(crate) since: Option<UnixMillis>,
}

impl MimiStatus {
    const ALL: [(Self, &'static str); 7] = [
        (Self::None, "none"),
        (Self::Creating, "creating"),
        (Self::Joining, "joining"),
        (Self::Active, "active"),
        (Self::Leaving, "leaving"),
        (Self::Removed, "removed"),
        (Self::Stuck, "stuck"),
    ];

    /// Whether this client is in the group and follows it.
    #[must_use]
    pub const fn is_in(self) -> bool {
        matches!(self, Self::Active | Self::Leaving)
    }
}

impl KnownRoom {
    pub(crate) const fn new(room: MimiUri) -> Self {
        Self {
            room,
            status: MimiStatus::None,
            reason: None,
            first_epoch: None,
            group_id: None,
            epoch: None,
            tend_due: None,
            rejoined: None,
            since: None,
        }
    }

    pub(crate) fn load(connection: &Connection, room: &MimiUri) -> Result<Option<Self>, StoreError> {
        connection
            .prepare_cached("SELECT * FROM mimi_rooms WHERE room = ?1")?
            .query_row([room.to_string()], |row| Ok(Self::from_row(row)))
            .optional()?
            .transpose()
    }

    pub(crate) fn load_or_new(connection: &Connection, room: &MimiUri) -> Result<Self, StoreError> {
        Ok(Self::load(connection, room)?.unwrap_or_else(|| Self::new(room.clone())))
    }

    pub(crate) fn all(connection: &Connection) -> Result<Vec<Self>, StoreError> {
        all(connection, "SELECT * FROM mimi_rooms ORDER BY room", [], Self::from_row)
    }

    /// The room whose group has this ID.
    pub(crate) fn of_group(connection: &Connection, group_id: &[u8]) -> Result<Option<String>, StoreError> {
        Ok(connection
            .prepare_cached("SELECT room FROM mimi_rooms WHERE group_id = ?1")?
            .query_row([group_id], |row| row.get(0))
            .optional()?)
    }

    pub(crate) fn save(&self, connection: &Connection) -> Result<(), StoreError> {
        let status = MimiStatus::ALL.iter().find(|(status, _)| *status == self.status);
        let (_, status) = status.expect("all are listed");
        connection
            .prepare_cached(
                "INSERT INTO mimi_rooms (room, group_id, status, reason, first_epoch, tend_due, epoch, rejoined, since) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (room) DO UPDATE SET group_id = ?2, status = ?3, \
                 reason = ?4, first_epoch = ?5, tend_due = ?6, epoch = ?7, rejoined = ?8, since = ?9",
            )?
            .execute(params![
                self.room.to_string(),
                self.group_id,
                status,
                self.reason,
                self.first_epoch.map(to_i64),
                self.tend_due.map(UnixMillis::as_i64),
                self.epoch.map(to_i64),
                self.rejoined.map(UnixMillis::as_i64),
                self.since.map(UnixMillis::as_i64),
            ])?;
        Ok(())
    }

    fn from_row(row: &Row<'_>) -> Result<Self, StoreError> {
        let bad = |column| bad("mimi_rooms", column);
        let status: String = row.get("status")?;
        let status = MimiStatus::ALL.iter().find(|(_, name)| *name == status);
        Ok(Self {
            room: uri(&row.get::<_, String>("room")?).ok_or_else(|| bad("room"))?,
            status: status.ok_or_else(|| bad("status"))?.0,
            reason: row.get("reason")?,
            first_epoch: row.get::<_, Option<i64>>("first_epoch")?.map(to_u64),
            group_id: row.get("group_id")?,
            epoch: row.get::<_, Option<i64>>("epoch")?.map(to_u64),
            tend_due: row.get::<_, Option<i64>>("tend_due")?.map(millis),
            rejoined: row.get::<_, Option<i64>>("rejoined")?.map(millis),
            since: row.get::<_, Option<i64>>("since")?.map(millis),
        })
    }
}

// --- Proposals that are pending ---

/// Notes a proposal of the current epoch; false if it is noted already, or if there are more than a hub can have accepted.
pub(crate) fn note_pending(connection: &Connection, room: &MimiUri, message: &[u8]) -> Result<bool, StoreError> {
    let (there, bytes): (i64, i64) = connection
        .prepare_cached("SELECT COUNT(*), COALESCE(SUM(LENGTH(message)), 0) FROM mimi_pending WHERE room = ?1")?
        .query_row([room.to_string()], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if there >= MAX_PENDING || bytes >= MAX_PENDING_BYTES {
        return Ok(false);
    }
    let noted = connection
        .prepare_cached("INSERT INTO mimi_pending (room, message) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
        .execute(params![room.to_string(), message])?;
    Ok(noted > 0)
}

/// One of them is none.
pub(crate) fn drop_pending(connection: &Connection, room: &MimiUri, message: &[u8]) -> Result<(), StoreError> {
    connection
        .prepare_cached("DELETE FROM mimi_pending WHERE room = ?1 AND message = ?2")?
        .execute(params![room.to_string(), message])?;
    Ok(())
}

/// The proposals of the current epoch, in the order of acceptance.
pub(crate) fn pending(connection: &Connection, room: &MimiUri) -> Result<Vec<Vec<u8>>, StoreError> {
    let sql = "SELECT message FROM mimi_pending WHERE room = ?1 ORDER BY n";
    all(connection, sql, [room.to_string()], |row| Ok(row.get(0)?))
}

/// The newest of them; 0 without any.
pub(crate) fn newest_pending(connection: &Connection, room: &MimiUri) -> Result<i64, StoreError> {
    Ok(connection
        .prepare_cached("SELECT COALESCE(MAX(n), 0) FROM mimi_pending WHERE room = ?1")?
        .query_row([room.to_string()], |row| row.get(0))?)
}

/// The epoch is over.
pub(crate) fn forget_pending(connection: &Connection, room: &MimiUri) -> Result<(), StoreError> {
    connection
        .prepare_cached("DELETE FROM mimi_pending WHERE room = ?1")?
        .execute([room.to_string()])?;
    Ok(())
}

/// The SelfRemove that this client made last in a room, in whichever epoch.
pub(crate) fn own_self_remove(connection: &Connection, room: &MimiUri) -> Result<Option<Vec<u8>>, StoreError> {
    Ok(connection
        .prepare_cached("SELECT message FROM mimi_self_removes WHERE room = ?1")?
        .query_row([room.to_string()], |row| row.get(0))
        .optional()?)
}

/// It has made another one.
pub(crate) fn keep_self_remove(connection: &Connection, room: &MimiUri, message: &[u8]) -> Result<(), StoreError> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO mimi_self_removes (room, message) VALUES (?1, ?2)")?
        .execute(params![room.to_string(), message])?;
    Ok(())
}

// --- What came too early ---

/// An entry of an epoch that this client has not reached.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    n: i64,
    pub(crate) message: Vec<u8>,
}

impl Held {
    /// Keeps an entry; false if there are too many.
    pub(crate) fn keep(
        connection: &Connection,
        room: &MimiUri,
        epoch: u64,
        message: &[u8],
        now: UnixMillis,
    ) -> Result<bool, StoreError> {
        let room = room.to_string();
        let (count, bytes): (i64, i64) = connection
            .prepare_cached("SELECT COUNT(*), COALESCE(SUM(LENGTH(message)), 0) FROM mimi_held WHERE room = ?1")?
            .query_row([&room], |row| Ok((row.get(0)?, row.get(1)?)))?;
        if count >= MAX_HELD || bytes >= MAX_HELD_BYTES {
            return Ok(false);
        }
        connection
            .prepare_cached(
                "INSERT INTO mimi_held (room, epoch, hash, message, since) VALUES (?1, ?2, ?3, ?4, ?5) \
                 ON CONFLICT DO NOTHING",
            )?
            .execute(params![
                room,
                to_i64(epoch),
                &nabe_signing::sha256(message)[..],
                message,
                now.as_i64()
            ])?;
        Ok(true)
    }

    /// Takes the first that is of this epoch or an earlier one; with none, the first of all.
    pub(crate) fn take(
        connection: &Connection,
        room: &MimiUri,
        reached: Option<u64>,
    ) -> Result<Option<Self>, StoreError> {
        let reached = reached.map_or(i64::MAX, to_i64);
        let first = connection
            .prepare_cached("SELECT n, message FROM mimi_held WHERE room = ?1 AND epoch <= ?2 ORDER BY n LIMIT 1")?
            .query_row(params![room.to_string(), reached], |row| {
                Ok(Self {
                    n: row.get(0)?,
                    message: row.get(1)?,
                })
            })
            .optional()?;
        if let Some(first) = &first {
            connection
                .prepare_cached("DELETE FROM mimi_held WHERE n = ?1")?
                .execute([first.n])?;
        }
        Ok(first)
    }

    /// Whether any are kept of a room.
    pub(crate) fn any(connection: &Connection, room: &MimiUri) -> Result<bool, StoreError> {
        Ok(connection
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM mimi_held WHERE room = ?1)")?
            .query_row([room.to_string()], |row| row.get(0))?)
    }

    /// The rooms of which any are kept, each with the time since when.
    pub(crate) fn rooms(connection: &Connection) -> Result<Vec<(MimiUri, UnixMillis)>, StoreError> {
        let sql = "SELECT room, MIN(since) AS since FROM mimi_held GROUP BY room";
        all(connection, sql, [], |row| {
            let room = uri(&row.get::<_, String>("room")?).ok_or_else(|| bad("mimi_held", "room"))?;
            Ok((room, millis(row.get("since")?)))
        })
    }
}

/// How many entries of later epochs are kept of a room, …
const MAX_HELD: i64 = 2_000;
/// … and after how many bytes no more are. One can have 16 MiB.
const MAX_HELD_BYTES: i64 = 32 * 1024 * 1024;
/// Twice as many as Nabe's hub lets be pending.
const MAX_PENDING: i64 = 2_048;
/// After how many bytes of proposals no more are taken in; they are all read for each commit.
const MAX_PENDING_BYTES: i64 = 32 * 1024 * 1024;
