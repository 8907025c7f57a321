//! What is to be told of others' messages, and what was told.

use nabe_content::mimi::MessageId;
use nabe_content::mimi::status::MessageStatus;
use nabe_types::UnixMillis;
use nabe_wire::uri::MimiUri;
use rusqlite::{Connection, params};

use super::{all, bad, millis, uri};
use crate::error::StoreError;

/// A message whose status is to be told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unreported {
    n: i64,
    pub(crate) id: MessageId,
    pub(crate) status: MessageStatus,
}

impl Unreported {
    /// Notes that a message's status is to be told, unless that was told, or what was told cannot be followed by it.
    pub(crate) fn note(
        connection: &Connection,
        room: &MimiUri,
        id: &MessageId,
        status: MessageStatus,
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        let sql = "SELECT n, COALESCE(unreported, reported) FROM mimi_timeline WHERE room = ?1 AND message_id = ?2";
        let known = all(connection, sql, params![room.to_string(), &id.as_bytes()[..]], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Option<u8>>(1)?))
        })?;
        // What came twice is told once.
        let Some((n, before)) = known.first().copied() else {
            return Ok(());
        };
        let before = before.map(MessageStatus);
        if before.is_some_and(|before| before == status || !status.may_follow(before)) {
            return Ok(());
        }
        connection
            .prepare_cached(
                "UPDATE mimi_timeline SET unreported = ?2, unreported_since = COALESCE(unreported_since, ?3) \
                 WHERE n = ?1",
            )?
            .execute(params![n, status.0, now.as_i64()])?;
        Ok(())
    }

    /// Another client of the same user has told a message's status: this one need not.
    pub(crate) fn told_elsewhere(
        connection: &Connection,
        room: &MimiUri,
        id: &MessageId,
        status: MessageStatus,
    ) -> Result<(), StoreError> {
        let (room, id) = (room.to_string(), &id.as_bytes()[..]);
        let sql = "SELECT n, unreported FROM mimi_timeline WHERE room = ?1 AND message_id = ?2";
        let known = all(connection, sql, params![room, id], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Option<u8>>(1)?))
        })?;
        for (n, ours) in known {
            let ours = ours.filter(|ours| *ours != status.0 && MessageStatus(*ours).may_follow(status));
            connection
                .prepare_cached(
                    "UPDATE mimi_timeline SET reported = ?2, unreported = ?3, unreported_since = \
                     CASE WHEN ?3 IS NULL THEN NULL ELSE unreported_since END WHERE n = ?1",
                )?
                .execute(params![n, status.0, ours])?;
        }
        Ok(())
    }

    /// The rooms in which there is something to tell, and since when.
    pub(crate) fn rooms(connection: &Connection) -> Result<Vec<(MimiUri, UnixMillis)>, StoreError> {
        let sql = "SELECT room, MIN(unreported_since) FROM mimi_timeline WHERE unreported IS NOT NULL GROUP BY room";
        all(connection, sql, [], |row| {
            let room = uri(&row.get::<_, String>(0)?).ok_or_else(|| bad("mimi_timeline", "room"))?;
            Ok((room, millis(row.get(1)?)))
        })
    }

    /// What is to be told in a room, the oldest first, at most `limit`.
    pub(crate) fn of_room(connection: &Connection, room: &MimiUri, limit: usize) -> Result<Vec<Self>, StoreError> {
        let sql = "SELECT n, message_id, unreported FROM mimi_timeline WHERE room = ?1 AND unreported IS NOT NULL \
                   ORDER BY n LIMIT ?2";
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        all(connection, sql, params![room.to_string(), limit], |row| {
            let id: [u8; 32] = row.get(1)?;
            let id = MessageId::from_bytes(id).map_err(|_| bad("mimi_timeline", "message_id"))?;
            Ok(Self {
                n: row.get(0)?,
                id,
                status: MessageStatus(row.get(2)?),
            })
        })
    }

    /// It is told.
    pub(crate) fn reported(&self, connection: &Connection) -> Result<(), StoreError> {
        connection
            .prepare_cached(
                "UPDATE mimi_timeline SET reported = ?2, unreported = NULL, unreported_since = NULL WHERE n = ?1",
            )?
            .execute(params![self.n, self.status.0])?;
        Ok(())
    }

    /// It was not told after all: it is to be told from `since` on, unless something else is by now.
    pub(crate) fn again(
        connection: &Connection,
        room: &MimiUri,
        id: &MessageId,
        status: MessageStatus,
        since: UnixMillis,
    ) -> Result<(), StoreError> {
        connection
            .prepare_cached(
                "UPDATE mimi_timeline SET reported = NULL, unreported = COALESCE(unreported, ?3), unreported_since = \
                 COALESCE(unreported_since, ?4) WHERE room = ?1 AND message_id = ?2 AND reported = ?3 AND expired IS NULL",
            )?
            .execute(params![
                room.to_string(),
                &id.as_bytes()[..],
                status.0,
                since.as_i64()
            ])?;
        Ok(())
    }

    /// It is not to be told.
    pub(crate) fn forget(&self, connection: &Connection) -> Result<(), StoreError> {
        connection
            .prepare_cached("UPDATE mimi_timeline SET unreported = NULL, unreported_since = NULL WHERE n = ?1")?
            .execute([self.n])?;
        Ok(())
    }
}
