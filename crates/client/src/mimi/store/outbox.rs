//! Messages on their way to the hub.

use nabe_content::mimi::MessageId;
use nabe_types::UnixMillis;
use nabe_wire::uri::MimiUri;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{all, bad, to_i64, to_u64, uri};
use crate::error::StoreError;

/// A message whose acceptance has not been seen.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) n: i64,
    pub(crate) room: MimiUri,
    pub(crate) content: Vec<u8>,
    pub(crate) message_id: [u8; 32],
    pub(crate) message: Option<Vec<u8>>,
    /// It came too late in this epoch, and waits for a later one.
    pub(crate) after_epoch: Option<u64>,
    /// How often it came too late.
    pub(crate) refusals: u32,
}

impl Outgoing {
    pub(crate) fn insert(
        connection: &Connection,
        room: &MimiUri,
        content: &[u8],
        id: &MessageId,
    ) -> Result<i64, StoreError> {
        connection
            .prepare_cached("INSERT INTO mimi_outbox (room, content, message_id) VALUES (?1, ?2, ?3)")?
            .execute(params![room.to_string(), content, &id.as_bytes()[..]])?;
        Ok(connection.last_insert_rowid())
    }

    pub(crate) fn all(connection: &Connection) -> Result<Vec<Self>, StoreError> {
        all(connection, "SELECT * FROM mimi_outbox ORDER BY n", [], Self::from_row)
    }

    pub(crate) fn load(connection: &Connection, n: i64) -> Result<Option<Self>, StoreError> {
        connection
            .prepare_cached("SELECT * FROM mimi_outbox WHERE n = ?1")?
            .query_row([n], |row| Ok(Self::from_row(row)))
            .optional()?
            .transpose()
    }

    /// The message that a ciphertext of ours in this room is of, and what was encrypted, until the message is done with.
    pub(crate) fn of_ciphertext(
        connection: &Connection,
        room: &MimiUri,
        hash: &[u8],
    ) -> Result<Option<(i64, Vec<u8>)>, StoreError> {
        Ok(connection
            .prepare_cached("SELECT n, data FROM mimi_own WHERE hash = ?1 AND room = ?2")?
            .query_row(params![hash, room.to_string()], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?)
    }

    pub(crate) fn encrypted(
        &self,
        connection: &Connection,
        message: &[u8],
        data: &[u8],
        hash: &[u8],
    ) -> Result<(), StoreError> {
        connection
            .prepare_cached("UPDATE mimi_outbox SET message = ?2 WHERE n = ?1")?
            .execute(params![self.n, message])?;
        connection
            .prepare_cached("INSERT OR REPLACE INTO mimi_own (hash, n, room, data) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![hash, self.n, self.room.to_string(), data])?;
        Ok(())
    }

    /// It has to be encrypted again, in a later epoch than this.
    pub(crate) fn again(&self, connection: &Connection, epoch: u64) -> Result<(), StoreError> {
        connection
            .prepare_cached(
                "UPDATE mimi_outbox SET message = NULL, after_epoch = ?2, refusals = refusals + 1 WHERE n = ?1",
            )?
            .execute(params![self.n, to_i64(epoch)])?;
        Ok(())
    }

    /// It is done with. Its ciphertexts are known again for a while: the hub may have taken more than one of them.
    pub(crate) fn finish(connection: &Connection, n: i64, now: UnixMillis) -> Result<(), StoreError> {
        connection
            .prepare_cached("DELETE FROM mimi_outbox WHERE n = ?1")?
            .execute([n])?;
        connection
            .prepare_cached("UPDATE mimi_own SET data = x'', done = ?2 WHERE n = ?1")?
            .execute(params![n, now.as_i64()])?;
        let long_ago = now.as_i64().saturating_sub(OWN_KEPT_MS);
        connection
            .prepare_cached("DELETE FROM mimi_own WHERE done < ?1")?
            .execute([long_ago])?;
        Ok(())
    }

    fn from_row(row: &Row<'_>) -> Result<Self, StoreError> {
        let bad = |column| bad("mimi_outbox", column);
        Ok(Self {
            n: row.get("n")?,
            room: uri(&row.get::<_, String>("room")?).ok_or_else(|| bad("room"))?,
            content: row.get("content")?,
            message_id: row.get("message_id")?,
            message: row.get("message")?,
            after_epoch: row.get::<_, Option<i64>>("after_epoch")?.map(to_u64),
            refusals: u32::try_from(row.get::<_, i64>("refusals")?).map_err(|_| bad("refusals"))?,
        })
    }
}

/// How long ciphertexts of ours are known again after their message was seen: 30 days.
const OWN_KEPT_MS: i64 = 30 * 24 * 3_600 * 1_000;
