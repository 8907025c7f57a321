//! How the messages of a room were framed in its past epochs (MLSX #app-framing).

use nabe_wire::app_data::MediaTypeList;
use nabe_wire::uri::MimiUri;
use nabe_wire::{Encode as _, Message as _};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{bad, to_i64};
use crate::error::StoreError;

/// How messages are framed from some epoch on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Framing {
    /// The types that members read; `None` if messages are not framed.
    pub(crate) media_types: Option<MediaTypeList>,
}

impl Framing {
    /// Notes it, if it was another one before, and forgets what no message is of that can still be read: those before `oldest`.
    pub(crate) fn note(
        &self,
        connection: &Connection,
        room: &MimiUri,
        epoch: u64,
        oldest: u64,
    ) -> Result<(), StoreError> {
        if Self::of_epoch(connection, room, epoch)?.as_ref() == Some(self) {
            return Ok(());
        }
        connection
            .prepare_cached("INSERT OR REPLACE INTO mimi_framing (room, epoch, media_types) VALUES (?1, ?2, ?3)")?
            .execute(params![
                room.to_string(),
                to_i64(epoch),
                self.media_types.as_ref().map(|types| types.to_bytes())
            ])?;
        connection
            .prepare_cached(
                "DELETE FROM mimi_framing WHERE room = ?1 AND epoch < \
                 (SELECT MAX(epoch) FROM mimi_framing WHERE room = ?1 AND epoch <= ?2)",
            )?
            .execute(params![room.to_string(), to_i64(oldest)])?;
        Ok(())
    }

    /// That of an epoch; `None` if it is not known.
    pub(crate) fn of_epoch(connection: &Connection, room: &MimiUri, epoch: u64) -> Result<Option<Self>, StoreError> {
        let types: Option<Option<Vec<u8>>> = connection
            .prepare_cached(
                "SELECT media_types FROM mimi_framing WHERE room = ?1 AND epoch <= ?2 ORDER BY epoch DESC LIMIT 1",
            )?
            .query_row(params![room.to_string(), to_i64(epoch)], |row| row.get(0))
            .optional()?;
        let read = |types: Vec<u8>| MediaTypeList::from_bytes(&types).map_err(|_| bad("mimi_framing", "media_types"));
        let read = |types: Option<Vec<u8>>| {
            Ok(Self {
                media_types: types.map(read).transpose()?,
            })
        };
        types.map(read).transpose()
    }
}
