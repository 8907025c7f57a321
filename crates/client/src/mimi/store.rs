//! The rows of a MIMI client. They are in the file of [`ClientStore`], beside OpenMLS's, and change with them in one transaction.

mod expiry;
mod framing;
mod outbox;
mod requests;
mod rooms;
mod status;
mod timeline;

use nabe_mls::Suite;
use nabe_types::UnixMillis;
use nabe_wire::uri::MimiUri;
use rusqlite::{Connection, Row, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::device::user_of;
use super::notice::MimiNotice;
use crate::error::StoreError;
use crate::keys::KeyNames;
use crate::store::{ClientStore, meta, set_meta};

pub(super) use expiry::{
    has_expired, look_at_by, look_at_next, next_look, note_read, to_be_looked_at, truncate_log, wipe,
};
pub(super) use framing::Framing;
pub(super) use outbox::Outgoing;
pub(super) use requests::{Request, RequestKind, RequestState, StoredIntent, keep_material, material};
pub(super) use rooms::{
    Held, drop_pending, forget_pending, keep_self_remove, newest_pending, note_pending, own_self_remove, pending,
};
pub use rooms::{KnownRoom, MimiStatus};
pub(super) use status::Unreported;
pub use timeline::{GroupPlace, MimiBody, MimiItem};
pub(super) use timeline::{Names, NewItem};

// --- Key packages ---

/// One of our key packages.
#[derive(Clone, Debug)]
pub(super) struct OwnKeyPackage {
    pub(super) reference: Vec<u8>,
    pub(super) suite: Suite,
    pub(super) body: Vec<u8>,
}

impl OwnKeyPackage {
    pub(super) fn insert(&self, connection: &Connection) -> Result<(), StoreError> {
        connection
            .prepare_cached("INSERT INTO mimi_key_packages (reference, suite, body, uploaded) VALUES (?1, ?2, ?3, 0)")?
            .execute(params![self.reference, self.suite.id(), self.body])?;
        Ok(())
    }

    /// All whose private halves are kept.
    pub(super) fn all(connection: &Connection) -> Result<Vec<Self>, StoreError> {
        all(connection, "SELECT * FROM mimi_key_packages", [], Self::from_row)
    }

    /// Those that the provider has perhaps not got.
    pub(super) fn waiting(connection: &Connection) -> Result<Vec<Self>, StoreError> {
        let sql = "SELECT * FROM mimi_key_packages WHERE uploaded = 0";
        all(connection, sql, [], Self::from_row)
    }

    fn from_row(row: &Row<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            reference: row.get("reference")?,
            suite: Suite::from_id(row.get("suite")?).ok_or_else(|| bad("mimi_key_packages", "suite"))?,
            body: row.get("body")?,
        })
    }

    pub(super) fn uploaded(connection: &Connection, reference: &[u8]) -> Result<(), StoreError> {
        connection
            .prepare_cached("UPDATE mimi_key_packages SET uploaded = 1 WHERE reference = ?1")?
            .execute([reference])?;
        Ok(())
    }

    pub(super) fn is_ours(connection: &Connection, reference: &[u8]) -> Result<bool, StoreError> {
        Ok(connection
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM mimi_key_packages WHERE reference = ?1)")?
            .query_row([reference], |row| row.get(0))?)
    }

    pub(super) fn delete(connection: &Connection, reference: &[u8]) -> Result<(), StoreError> {
        connection
            .prepare_cached("DELETE FROM mimi_key_packages WHERE reference = ?1")?
            .execute([reference])?;
        Ok(())
    }
}

// --- Notices ---

pub(super) fn tell(connection: &Connection, notice: &MimiNotice) -> Result<(), StoreError> {
    connection
        .prepare_cached("INSERT INTO mimi_notices (body) VALUES (?1)")?
        .execute([json(notice)])?;
    // Numbers ascend, so this is about how many there are; nobody who reads them is so far behind.
    let last = connection.last_insert_rowid();
    connection
        .prepare_cached("DELETE FROM mimi_notices WHERE n <= ?1")?
        .execute([last.saturating_sub(MAX_NOTICES)])?;
    Ok(())
}

pub(super) fn untold(connection: &Connection, limit: u32) -> Result<Vec<(i64, MimiNotice)>, StoreError> {
    let sql = "SELECT n, body FROM mimi_notices ORDER BY n LIMIT ?1";
    all(connection, sql, [limit], |row| {
        let body: String = row.get(1)?;
        Ok((
            row.get(0)?,
            from_json(&body).ok_or_else(|| bad("mimi_notices", "body"))?,
        ))
    })
}

pub(super) fn told(connection: &Connection, up_to: i64) -> Result<(), StoreError> {
    connection
        .prepare_cached("DELETE FROM mimi_notices WHERE n <= ?1")?
        .execute([up_to])?;
    Ok(())
}

// --- The file ---

/// Makes the tables, if they are not there, or changes them into those of this version.
pub(super) fn prepare(store: &mut ClientStore) -> Result<(), StoreError> {
    let found = meta(store.read(), FORMAT)?;
    let found = found.as_deref().map(|found| found.first().copied().unwrap_or_default());
    let is_new = match found {
        Some(KNOWN_FORMAT) => return Ok(()),
        Some(found) if found > KNOWN_FORMAT => {
            return Err(StoreError::Newer {
                found: found.into(),
                known: KNOWN_FORMAT.into(),
            });
        }
        found => found.is_none(),
    };
    store.transaction(|connection| {
        if is_new {
            connection.execute_batch(include_str!("schema.sql"))?;
        }
        if found.unwrap_or_default() < 2 {
            connection.execute_batch(include_str!("schema_2.sql"))?;
        }
        if found.unwrap_or_default() < 3 {
            connection.execute_batch(include_str!("schema_3.sql"))?;
        }
        if found.unwrap_or_default() < 4 {
            connection.execute_batch(include_str!("schema_4.sql"))?;
        }
        if found.unwrap_or_default() < 5 {
            connection.execute_batch(include_str!("schema_5.sql"))?;
            if !is_new {
                MimiItem::note_names(connection)?;
            }
        }
        if found.unwrap_or_default() < 6 {
            connection.execute_batch(include_str!("schema_6.sql"))?;
        }
        connection.execute_batch(include_str!("schema_7.sql"))?;
        if let Some(client) = meta(connection, CLIENT)? {
            let client = String::from_utf8(client).ok().and_then(|client| uri(&client));
            let user = client.and_then(|client| user_of(&client).ok());
            MimiItem::note_own_read(connection, &user.ok_or_else(|| bad("meta", "value"))?)?;
        }
        set_meta(connection, FORMAT, &[KNOWN_FORMAT])
    })
}

fn all<T>(
    connection: &Connection,
    sql: &str,
    parameters: impl rusqlite::Params,
    read: impl Fn(&Row<'_>) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(parameters)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    Ok(found)
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("string keys only")
}

fn from_json<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_str(text).ok()
}

fn uri(text: &str) -> Option<MimiUri> {
    MimiUri::parse(text).ok()
}

const fn bad(table: &'static str, column: &'static str) -> StoreError {
    StoreError::Inconsistent { table, column }
}

fn to_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn to_u64(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

fn millis(number: i64) -> UnixMillis {
    UnixMillis(to_u64(number))
}

pub(super) const CLIENT: &str = "mimi.client";
pub(super) const CURSOR: &str = "mimi.cursor";
pub(super) const KEYS: KeyNames = KeyNames {
    suites: "mimi.suites",
    key: "mimi.signature_key.",
};
const FORMAT: &str = "mimi.format";
const KNOWN_FORMAT: u8 = 7;
const MAX_NOTICES: i64 = 100_000;
