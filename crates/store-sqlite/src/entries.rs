//! Table `events`: log entries, holes among them, and outliers.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use nabe_core::{Entry, EntryBody};
use nabe_event::Pdu;
use nabe_store::{Between, EntryBytes, KnownLpdu, Order};
use nabe_types::{EventId, LogPosition, RoomId};
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{AssertSqlSafe, Sqlite, SqliteConnection};

use crate::bounds::conflict;
use crate::failure::Failure;
use crate::fields::{Fields, array, id_array, millis, quoted, rows};

/// A row with its room's version in `version`.
fn pdu(row: Fields<'_>) -> Result<Pdu, Failure> {
    Pdu::from_stored(row.get("body")?, row.rules("version")?).map_err(|_| row.bad("body"))
}

fn entry_of(row: &SqliteRow) -> Result<Entry, Failure> {
    let row = Fields::new("events", row);
    let event_id: EventId = row.text("event_id")?;
    let body = match row.text_or_null("hole")? {
        Some(reason) => EntryBody::Hole { event_id, reason },
        None => {
            let pdu = pdu(row)?;
            if *pdu.event_id() != event_id {
                return Err(row.bad("event_id"));
            }
            EntryBody::Event(pdu)
        }
    };
    Ok(Entry {
        position: row.position("position")?,
        lpdu_id: row.text_or_null("lpdu_id")?,
        body,
        soft_failed: row.get("soft_failed")?,
        received_at: row.moment("received_at")?,
    })
}

pub(crate) async fn entries(
    db: &mut SqliteConnection,
    room: &RoomId,
    between: Between,
    limit: usize,
    order: Order,
) -> Result<Vec<Entry>, Failure> {
    let query = match order {
        Order::Ascending => {
            "-- entries, ascending
             SELECT event_no AS row_key, position, event_id, lpdu_id, body, hole, soft_failed, received_at, version
             FROM events JOIN rooms USING (room_no)
             WHERE room_id = ? AND position > ? AND position <= ? ORDER BY position LIMIT +?"
        }
        Order::Descending => {
            "-- entries, descending
             SELECT event_no AS row_key, position, event_id, lpdu_id, body, hole, soft_failed, received_at, version
             FROM events JOIN rooms USING (room_no)
             WHERE room_id = ? AND position > ? AND position <= ? ORDER BY position DESC LIMIT +?"
        }
    };
    let found = sqlx::query(query)
        .bind(room.as_str())
        .bind(between.after.as_i64())
        .bind(between.through.as_i64())
        .bind(rows(limit))
        .fetch_all(db)
        .await?;
    found.iter().map(entry_of).collect()
}

/// Only those that take part in the state.
pub(crate) async fn state_entries(
    db: &mut SqliteConnection,
    room: &RoomId,
    between: Between,
) -> Result<Vec<Entry>, Failure> {
    let found = sqlx::query(
        "-- state_entries
         SELECT event_no AS row_key, position, event_id, lpdu_id, body, hole, soft_failed, received_at, version
         FROM events JOIN rooms USING (room_no)
         WHERE room_id = ? AND position > ? AND position <= ?
             AND is_state = 1 AND soft_failed = 0 AND hole IS NULL AND position IS NOT NULL
         ORDER BY position",
    )
    .bind(room.as_str())
    .bind(between.after.as_i64())
    .bind(between.through.as_i64())
    .fetch_all(db)
    .await?;
    found.iter().map(entry_of).collect()
}

pub(crate) async fn entry(db: &mut SqliteConnection, event_id: &EventId) -> Result<Option<(RoomId, Entry)>, Failure> {
    // Some other room's hole can bear any ID; an event cannot.
    let row = sqlx::query(
        "-- entry
         SELECT event_no AS row_key, room_id, position, event_id, lpdu_id, body, hole, soft_failed, received_at, version
         FROM events JOIN rooms USING (room_no)
         WHERE event_id = ? AND position IS NOT NULL ORDER BY hole IS NOT NULL, event_no LIMIT 1",
    )
    .bind(event_id.as_str())
    .fetch_optional(db)
    .await?;
    row.map(|row| Ok((Fields::new("rooms", &row).text("room_id")?, entry_of(&row)?)))
        .transpose()
}

pub(crate) async fn entries_by_lpdu(
    db: &mut SqliteConnection,
    lpdus: &[(RoomId, EventId)],
) -> Result<Vec<(RoomId, KnownLpdu)>, Failure> {
    let wanted = lpdus
        .iter()
        .map(|(room, lpdu_id)| id_array([room.as_str(), lpdu_id.as_str()]));
    let found = sqlx::query(
        "-- entries_by_lpdu
         SELECT DISTINCT event_no AS row_key, room_id, lpdu_id, event_id, position
         FROM json_each(?) AS wanted CROSS JOIN rooms CROSS JOIN events USING (room_no)
         WHERE room_id = wanted.value ->> 0 AND lpdu_id = wanted.value ->> 1",
    )
    .bind(array(wanted))
    .fetch_all(db)
    .await?;
    let known = |row: &SqliteRow| {
        let room = Fields::new("rooms", row).text("room_id")?;
        let row = Fields::new("events", row);
        let known = KnownLpdu {
            lpdu_id: row.text("lpdu_id")?,
            event_id: row.text("event_id")?,
            position: row.position("position")?,
        };
        Ok((room, known))
    };
    found.iter().map(known).collect()
}

/// Bodies are not looked into: who gets them checks them anyhow.
pub(crate) async fn entry_bytes(
    db: &mut SqliteConnection,
    stretches: &[(RoomId, Between)],
) -> Result<Vec<EntryBytes>, Failure> {
    let wanted = stretches.iter().map(|(room, between)| {
        let ends = [between.after, between.through].map(|end| end.as_i64().to_string());
        array(std::iter::once(quoted(room.as_str())).chain(ends))
    });
    let found = sqlx::query(
        "-- entry_bytes
         SELECT event_no AS row_key, wanted.key AS stretch, position, IIF(hole IS NULL, body, NULL) AS pdu
         FROM json_each(?) AS wanted CROSS JOIN rooms CROSS JOIN events USING (room_no)
         WHERE room_id = wanted.value ->> 0 AND position > wanted.value ->> 1 AND position <= wanted.value ->> 2
         ORDER BY wanted.key, position",
    )
    .bind(array(wanted))
    .fetch_all(db)
    .await?;
    let bytes = |row: &SqliteRow| {
        let row = Fields::new("events", row);
        Ok(EntryBytes {
            stretch: row.number("stretch")?,
            position: row.position("position")?,
            body: row.get::<Option<&[u8]>>("pdu")?.map(Bytes::copy_from_slice),
        })
    };
    found.iter().map(bytes).collect()
}

pub(crate) async fn events(db: &mut SqliteConnection, room: &RoomId, ids: &[EventId]) -> Result<Vec<Pdu>, Failure> {
    let found = sqlx::query(
        "-- events
         SELECT event_no AS row_key, body, version
         FROM json_each(?) AS wanted
         CROSS JOIN rooms CROSS JOIN events USING (room_no)
         WHERE room_id = ? AND event_id = wanted.value AND body IS NOT NULL
         ORDER BY wanted.key",
    )
    .bind(id_array(ids.iter().map(EventId::as_str)))
    .bind(room.as_str())
    .fetch_all(db)
    .await?;
    found.iter().map(|row| pdu(Fields::new("events", row))).collect()
}

/// The events with these numbers, in their order, in JSON; `None` if one is missing.
pub(crate) async fn numbered(db: &mut SqliteConnection, numbers: &str) -> Result<Option<Vec<Pdu>>, Failure> {
    let found = sqlx::query(
        "-- numbered
         SELECT event_no AS row_key, body, version
         FROM json_each(?) AS wanted
         CROSS JOIN events ON event_no = wanted.value JOIN rooms USING (room_no)
         ORDER BY wanted.key",
    )
    .bind(numbers)
    .fetch_all(db)
    .await?;
    let is_whole = found.len() == numbers.split(',').filter(|number| *number != "[]").count();
    if !is_whole {
        return Ok(None);
    }
    found
        .iter()
        .map(|row| pdu(Fields::new("events", row)))
        .collect::<Result<_, _>>()
        .map(Some)
}

/// The number of each of these events that is there.
pub(crate) async fn numbers(
    db: &mut SqliteConnection,
    room_no: i64,
    events: &[Pdu],
) -> Result<BTreeMap<EventId, i64>, Failure> {
    let found = sqlx::query(
        "-- numbers
         SELECT event_no AS row_key, event_id FROM events
         WHERE room_no = ? AND event_id IN (SELECT value FROM json_each(?)) AND body IS NOT NULL",
    )
    .bind(room_no)
    .bind(id_array(events.iter().map(|event| event.event_id().as_str())))
    .fetch_all(db)
    .await?;
    let number = |row: &SqliteRow| {
        let row = Fields::new("events", row);
        Ok((row.text("event_id")?, row.get("row_key")?))
    };
    found.iter().map(number).collect()
}

/// Adds entries. Refused if one of their event IDs is in the log, or, where we are the hub, one of their LPDU IDs. A
/// participant cannot keep its hub from making two events of one LPDU: it stores the second without the LPDU's ID.
pub(crate) async fn add(
    db: &mut SqliteConnection,
    room: &RoomId,
    room_no: i64,
    entries: &[Entry],
) -> Result<(), Failure> {
    for chunk in entries.chunks(ROWS_PER_INSERT) {
        let added = match add_chunk(db, &of_room(room_no, chunk)).await {
            // A failed statement leaves the transaction as it was. That an ID is taken is rare, so only then is it looked for.
            Err(failure) if failure.is_duplicate() => match without_known_lpdus(db, room_no, chunk).await? {
                Some(chunk) => add_chunk(db, &of_room(room_no, &chunk)).await,
                None => return Err(conflict(room)),
            },
            added => added,
        };
        if !were_new(added, chunk.len())? {
            return Err(conflict(room));
        }
    }
    Ok(())
}

/// Adds entries of several rooms, each with its room's number. Whether all of them were new; if not, some may have been
/// added.
pub(crate) async fn add_together(db: &mut SqliteConnection, entries: &[(i64, &Entry)]) -> Result<bool, Failure> {
    for chunk in entries.chunks(ROWS_PER_INSERT) {
        if !were_new(add_chunk(db, chunk).await, chunk.len())? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn of_room(room_no: i64, entries: &[Entry]) -> Vec<(i64, &Entry)> {
    entries.iter().map(|entry| (room_no, entry)).collect()
}

/// How many rows were written.
async fn add_chunk(db: &mut SqliteConnection, chunk: &[(i64, &Entry)]) -> Result<u64, Failure> {
    let mut query = sqlx::query(AssertSqlSafe(insert(chunk.len(), ON_ENTRY_CONFLICT)));
    for (room_no, entry) in chunk {
        query = bind_entry(query, *room_no, entry);
    }
    Ok(query.execute(db).await?.rows_affected())
}

fn were_new(added: Result<u64, Failure>, count: usize) -> Result<bool, Failure> {
    match added {
        Ok(added) => Ok(added == count as u64),
        Err(failure) if failure.is_duplicate() => Ok(false),
        Err(failure) => Err(failure),
    }
}

/// The entries of a participant's room, without LPDU IDs that are in the log or further up among them; `None` where we are
/// the hub.
async fn without_known_lpdus(
    db: &mut SqliteConnection,
    room_no: i64,
    chunk: &[Entry],
) -> Result<Option<Vec<Entry>>, Failure> {
    let hub: Option<String> = sqlx::query_scalar("SELECT hub FROM rooms WHERE room_no = ?")
        .bind(room_no)
        .fetch_one(&mut *db)
        .await?;
    if hub.is_none() {
        return Ok(None);
    }
    let lpdu_ids = chunk.iter().filter_map(|entry| entry.lpdu_id.as_ref());
    let found: Vec<String> = sqlx::query_scalar(
        "-- without_known_lpdus
         SELECT lpdu_id FROM events WHERE room_no = ? AND lpdu_id IN (SELECT value FROM json_each(?))",
    )
    .bind(room_no)
    .bind(id_array(lpdu_ids.map(EventId::as_str)))
    .fetch_all(db)
    .await?;
    let mut taken: BTreeSet<String> = found.into_iter().collect();
    let mut entries = chunk.to_vec();
    for entry in &mut entries {
        entry.lpdu_id = entry.lpdu_id.take().filter(|id| taken.insert(id.to_string()));
    }
    Ok(Some(entries))
}

/// Adds events besides the log, unless known.
pub(crate) async fn add_outliers(db: &mut SqliteConnection, room_no: i64, events: &[Pdu]) -> Result<(), Failure> {
    for chunk in events.chunks(ROWS_PER_INSERT) {
        let sql = insert(chunk.len(), ON_OUTLIER_CONFLICT);
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for event in chunk {
            let shape = Shape {
                position: None,
                lpdu_id: None,
                hole: None,
                soft_failed: false,
                received_at: 0,
            };
            query = bind(query, room_no, event.event_id(), Some(event), shape);
        }
        query.execute(&mut *db).await?;
    }
    Ok(())
}

/// Drops entries below a position; state events stay as outliers.
pub(crate) async fn drop_before(db: &mut SqliteConnection, room_no: i64, below: LogPosition) -> Result<(), Failure> {
    sqlx::query(
        "-- drop_before: what is no state
         DELETE FROM events WHERE room_no = ? AND position < ? AND (is_state = 0 OR body IS NULL)",
    )
    .bind(room_no)
    .bind(below.as_i64())
    .execute(&mut *db)
    .await?;
    sqlx::query(
        "-- drop_before: what is state
         UPDATE events SET position = NULL, lpdu_id = NULL, hole = NULL, soft_failed = 0
         WHERE room_no = ? AND position < ?",
    )
    .bind(room_no)
    .bind(below.as_i64())
    .execute(db)
    .await?;
    Ok(())
}

/// An `INSERT` of so many rows. Few different texts, so each is prepared once per connection.
fn insert(count: usize, on_conflict: &str) -> String {
    let mut sql = String::with_capacity(256 + on_conflict.len() + count * ROW.len());
    sql.push_str(INSERT);
    for row in 0..count {
        sql.push_str(if row == 0 { "" } else { "," });
        sql.push_str(ROW);
    }
    sql.push_str(on_conflict);
    sql
}

type Insert<'q> = Query<'q, Sqlite, SqliteArguments>;

/// What a row has besides its event.
struct Shape<'q> {
    position: Option<LogPosition>,
    lpdu_id: Option<&'q EventId>,
    hole: Option<String>,
    soft_failed: bool,
    received_at: i64,
}

fn bind_entry<'q>(query: Insert<'q>, room_no: i64, entry: &'q Entry) -> Insert<'q> {
    let hole = match &entry.body {
        EntryBody::Event(_) => None,
        EntryBody::Hole { reason, .. } => Some(reason.to_string()),
    };
    let shape = Shape {
        position: Some(entry.position),
        lpdu_id: entry.lpdu_id.as_ref(),
        hole,
        soft_failed: entry.soft_failed,
        received_at: millis(entry.received_at),
    };
    bind(query, room_no, entry.event_id(), entry.pdu(), shape)
}

fn bind<'q>(
    query: Insert<'q>,
    room_no: i64,
    event_id: &'q EventId,
    event: Option<&'q Pdu>,
    shape: Shape<'q>,
) -> Insert<'q> {
    query
        .bind(room_no)
        .bind(shape.position.map(LogPosition::as_i64))
        .bind(event_id.as_str())
        .bind(shape.lpdu_id.map(EventId::as_str))
        .bind(event.map(|event| &**event.bytes()))
        .bind(shape.hole)
        .bind(event.is_some_and(|event| event.is_state()))
        .bind(shape.soft_failed)
        .bind(shape.received_at)
}

const INSERT: &str = "-- insert
    INSERT INTO events
        (room_no, position, event_id, lpdu_id, body, hole, is_state, soft_failed, received_at) VALUES ";

const ROW: &str = "(?,?,?,?,?,?,?,?,?)";

/// An outlier takes its place in the log. An entry that is there already changes nothing, and so is noticed. Of two copies the
/// longer one stays: the other was redacted for us, and must not change the state a snapshot brought in full.
const ON_ENTRY_CONFLICT: &str = "
    ON CONFLICT (event_id, room_no) DO UPDATE SET
        position = excluded.position, lpdu_id = excluded.lpdu_id,
        body = CASE WHEN LENGTH(body) >= LENGTH(excluded.body) THEN body ELSE COALESCE(excluded.body, body) END,
        hole = excluded.hole, is_state = MAX(is_state, excluded.is_state), soft_failed = excluded.soft_failed,
        received_at = excluded.received_at
    WHERE events.position IS NULL";

/// A hole in the log stays one, but the event is known from now on.
const ON_OUTLIER_CONFLICT: &str = "
    ON CONFLICT (event_id, room_no) DO UPDATE SET body = excluded.body, is_state = excluded.is_state
    WHERE events.body IS NULL";

/// Nine values each, far below SQLite's limit of 32766 per statement.
const ROWS_PER_INSERT: usize = 64;
