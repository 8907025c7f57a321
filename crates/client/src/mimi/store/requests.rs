//! Intentions, and the requests that they are made into.

use nabe_types::UnixMillis;
use nabe_wire::uri::MimiUri;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{all, bad, from_json, json, millis, to_i64, to_u64, uri};
use crate::error::StoreError;
use crate::mimi::intent::MimiIntent;

/// A kept intention.
#[derive(Clone, Debug)]
pub(crate) struct StoredIntent {
    pub(crate) id: i64,
    pub(crate) room: MimiUri,
    pub(crate) intent: MimiIntent,
    pub(crate) attempts: u32,
    pub(crate) due: UnixMillis,
}

impl StoredIntent {
    pub(crate) fn insert(
        connection: &Connection,
        room: &MimiUri,
        intent: &MimiIntent,
        due: UnixMillis,
    ) -> Result<i64, StoreError> {
        connection
            .prepare_cached("INSERT INTO mimi_intents (room, body, attempts, due) VALUES (?1, ?2, 0, ?3)")?
            .execute(params![room.to_string(), json(intent), due.as_i64()])?;
        Ok(connection.last_insert_rowid())
    }

    pub(crate) fn all(connection: &Connection) -> Result<Vec<Self>, StoreError> {
        let sql = "SELECT * FROM mimi_intents ORDER BY intent_id";
        all(connection, sql, [], Self::from_row)
    }

    pub(crate) fn load(connection: &Connection, id: i64) -> Result<Option<Self>, StoreError> {
        connection
            .prepare_cached("SELECT * FROM mimi_intents WHERE intent_id = ?1")?
            .query_row([id], |row| Ok(Self::from_row(row)))
            .optional()?
            .transpose()
    }

    pub(crate) fn postpone(connection: &Connection, id: i64, due: UnixMillis) -> Result<(), StoreError> {
        connection
            .prepare_cached("UPDATE mimi_intents SET due = ?2 WHERE intent_id = ?1")?
            .execute(params![id, due.as_i64()])?;
        Ok(())
    }

    pub(crate) fn count_attempt(connection: &Connection, id: i64) -> Result<(), StoreError> {
        connection
            .prepare_cached("UPDATE mimi_intents SET attempts = attempts + 1 WHERE intent_id = ?1")?
            .execute([id])?;
        Ok(())
    }

    pub(crate) fn delete(connection: &Connection, id: i64) -> Result<(), StoreError> {
        for sql in [
            "DELETE FROM mimi_intents WHERE intent_id = ?1",
            "DELETE FROM mimi_material WHERE intent_id = ?1",
        ] {
            connection.prepare_cached(sql)?.execute([id])?;
        }
        Ok(())
    }

    fn from_row(row: &Row<'_>) -> Result<Self, StoreError> {
        let bad = |column| bad("mimi_intents", column);
        let attempts: i64 = row.get("attempts")?;
        Ok(Self {
            id: row.get("intent_id")?,
            room: uri(&row.get::<_, String>("room")?).ok_or_else(|| bad("room"))?,
            intent: from_json(&row.get::<_, String>("body")?).ok_or_else(|| bad("body"))?,
            attempts: u32::try_from(attempts).map_err(|_| bad("attempts"))?,
            due: millis(row.get("due")?),
        })
    }
}

/// What a user's provider answered for an intention, if it was asked already.
pub(crate) fn material(connection: &Connection, intent: i64, user: &str) -> Result<Option<Vec<u8>>, StoreError> {
    Ok(connection
        .prepare_cached("SELECT response FROM mimi_material WHERE intent_id = ?1 AND user = ?2")?
        .query_row(params![intent, user], |row| row.get(0))
        .optional()?)
}

pub(crate) fn keep_material(
    connection: &Connection,
    intent: i64,
    user: &str,
    response: &[u8],
) -> Result<(), StoreError> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO mimi_material (intent_id, user, response) VALUES (?1, ?2, ?3)")?
        .execute(params![intent, user, response])?;
    Ok(())
}

/// What an intention was made into.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum RequestKind {
    Create,
    Commit,
    External,
    Proposals,
}

/// How far a request got.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum RequestState {
    /// To be sent, or sent without an answer.
    Ready,
    /// For an epoch that is over, says the hub: what ended it has yet to come in.
    Stale,
    /// Refused.
    Refused { code: u8, description: String },
}

/// A request that waits for its outcome.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) room: MimiUri,
    pub(crate) intent: i64,
    pub(crate) kind: RequestKind,
    pub(crate) epoch: u64,
    pub(crate) message: Vec<u8>,
    pub(crate) body: Vec<u8>,
    pub(crate) seen: i64,
    /// Whether it does what has to be done before the intention can be, and nothing of that itself.
    pub(crate) clears_the_way: bool,
    pub(crate) state: RequestState,
}

impl RequestKind {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Create, "create"),
        (Self::Commit, "commit"),
        (Self::External, "external"),
        (Self::Proposals, "proposals"),
    ];
}

impl Request {
    pub(crate) fn save(&self, connection: &Connection) -> Result<(), StoreError> {
        let kind = RequestKind::ALL.iter().find(|(kind, _)| *kind == self.kind);
        let (_, kind) = kind.expect("all are listed");
        let (state, code, description) = match &self.state {
            RequestState::Ready => ("ready", None, None),
            RequestState::Stale => ("stale", None, None),
            RequestState::Refused { code, description } => ("refused", Some(*code), Some(description)),
        };
        connection
            .prepare_cached(
                "INSERT OR REPLACE INTO mimi_requests (room, intent_id, kind, epoch, message, body, seen, \
                 clears_the_way, state, code, description) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            )?
            .execute(params![
                self.room.to_string(),
                self.intent,
                kind,
                to_i64(self.epoch),
                self.message,
                self.body,
                self.seen,
                self.clears_the_way,
                state,
                code,
                description,
            ])?;
        Ok(())
    }

    pub(crate) fn of_room(connection: &Connection, room: &MimiUri) -> Result<Option<Self>, StoreError> {
        connection
            .prepare_cached("SELECT * FROM mimi_requests WHERE room = ?1")?
            .query_row([room.to_string()], |row| Ok(Self::from_row(row)))
            .optional()?
            .transpose()
    }

    pub(crate) fn all(connection: &Connection) -> Result<Vec<Self>, StoreError> {
        let sql = "SELECT * FROM mimi_requests ORDER BY intent_id";
        all(connection, sql, [], Self::from_row)
    }

    pub(crate) fn delete(&self, connection: &Connection) -> Result<(), StoreError> {
        connection
            .prepare_cached("DELETE FROM mimi_requests WHERE room = ?1")?
            .execute([self.room.to_string()])?;
        Ok(())
    }

    fn from_row(row: &Row<'_>) -> Result<Self, StoreError> {
        let bad = |column| bad("mimi_requests", column);
        let kind: String = row.get("kind")?;
        let kind = RequestKind::ALL.iter().find(|(_, name)| *name == kind);
        let state: String = row.get("state")?;
        Ok(Self {
            room: uri(&row.get::<_, String>("room")?).ok_or_else(|| bad("room"))?,
            intent: row.get("intent_id")?,
            kind: kind.ok_or_else(|| bad("kind"))?.0,
            epoch: to_u64(row.get("epoch")?),
            message: row.get("message")?,
            body: row.get("body")?,
            seen: row.get("seen")?,
            clears_the_way: row.get("clears_the_way")?,
            state: match state.as_str() {
                "ready" => RequestState::Ready,
                "stale" => RequestState::Stale,
                "refused" => RequestState::Refused {
                    code: row.get("code")?,
                    description: row.get("description")?,
                },
                _ => return Err(bad("state")),
            },
        })
    }
}
