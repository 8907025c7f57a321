//! When messages expire, and what is left of them.

use nabe_content::mimi::{MessageId, Received};
use nabe_types::UnixMillis;
use nabe_wire::uri::MimiUri;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{all, bad, millis, uri};
use crate::error::StoreError;

/// A message is looked at when this comes, unless it is looked at before.
pub(crate) fn look_at_by(
    connection: &Connection,
    room: &MimiUri,
    id: &MessageId,
    due: UnixMillis,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "UPDATE mimi_timeline SET due = MIN(COALESCE(due, ?3), ?3) WHERE room = ?1 AND message_id = ?2 AND \
             expired IS NULL",
        )?
        .execute(params![room.to_string(), &id.as_bytes()[..], due.as_i64()])?;
    Ok(())
}

/// A message has been looked at: when it is to be looked at again, if ever.
pub(crate) fn look_at_next(
    connection: &Connection,
    room: &MimiUri,
    id: &MessageId,
    due: Option<UnixMillis>,
) -> Result<(), StoreError> {
    connection
        .prepare_cached("UPDATE mimi_timeline SET due = ?3 WHERE room = ?1 AND message_id = ?2")?
        .execute(params![
            room.to_string(),
            &id.as_bytes()[..],
            due.map(UnixMillis::as_i64)
        ])?;
    Ok(())
}

/// The messages that are to be looked at by now.
pub(crate) fn to_be_looked_at(
    connection: &Connection,
    now: UnixMillis,
) -> Result<Vec<(MimiUri, MessageId)>, StoreError> {
    let sql = "SELECT room, message_id FROM mimi_timeline WHERE due <= ?1 ORDER BY accepted, n";
    all(connection, sql, [now.as_i64()], |row| {
        let room = uri(&row.get::<_, String>(0)?).ok_or_else(|| bad("mimi_timeline", "room"))?;
        let id = MessageId::from_bytes(row.get(1)?).map_err(|_| bad("mimi_timeline", "message_id"))?;
        Ok((room, id))
    })
}

/// When the next message is to be looked at.
pub(crate) fn next_look(connection: &Connection) -> Result<Option<UnixMillis>, StoreError> {
    let due: Option<i64> = connection
        .prepare_cached("SELECT MIN(due) FROM mimi_timeline WHERE due IS NOT NULL")?
        .query_row([], |row| row.get(0))?;
    Ok(due.map(millis))
}

/// Whether anything in a room has expired.
pub(crate) fn has_expired(connection: &Connection, room: &MimiUri) -> Result<bool, StoreError> {
    Ok(connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM mimi_timeline WHERE room = ?1 AND expired IS NOT NULL)")?
        .query_row([room.to_string()], |row| row.get(0))?)
}

/// Puts what is left of a message in its place. Nothing of what it said stays in the file.
pub(crate) fn wipe(connection: &Connection, room: &MimiUri, left: &Received) -> Result<(), StoreError> {
    let Some(remains) = left.remains() else {
        return Ok(());
    };
    connection
        .prepare_cached(
            "UPDATE mimi_timeline SET content = ?3, expired = ?4, data = NULL, frank = NULL, unreported = NULL, \
             unreported_since = NULL, due = NULL WHERE room = ?1 AND message_id = ?2",
        )?
        .execute(params![
            room.to_string(),
            &remains.id.as_bytes()[..],
            remains.outline,
            &remains.former.as_bytes()[..],
        ])?;
    Ok(())
}

/// When a message was read: the first time counts.
pub(crate) fn note_read(
    connection: &Connection,
    room: &MimiUri,
    id: &MessageId,
    at: UnixMillis,
) -> Result<bool, StoreError> {
    let noted = connection
        .prepare_cached(
            "UPDATE mimi_timeline SET read_at = ?3 WHERE room = ?1 AND message_id = ?2 AND read_at IS NULL",
        )?
        .execute(params![room.to_string(), &id.as_bytes()[..], at.as_i64()])?;
    Ok(noted > 0)
}

/// What was wiped is overwritten in the file by now, and in its log as well.
pub(crate) fn truncate_log(connection: &Connection) -> Result<(), StoreError> {
    connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .optional()?;
    Ok(())
}
