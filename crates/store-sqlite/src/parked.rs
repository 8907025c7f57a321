//! Table `parked`.

use nabe_store::{ParkReason, ParkedEvent};
use nabe_types::{EventId, RoomId, UnixMillis};
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use crate::failure::Failure;
use crate::fields::{Fields, millis, rows};

fn event(row: &SqliteRow) -> Result<ParkedEvent, Failure> {
    let row = Fields::new("parked", row);
    Ok(ParkedEvent {
        room: row.text("room_id")?,
        event_id: row.text("event_id")?,
        origin: row.text("origin")?,
        bytes: row.bytes("body")?,
        reason: row.word("reason", ParkReason::parse)?,
        received_at: row.moment("received_at")?,
        next_try: row.moment("next_try")?,
        attempts: row.number("attempts")?,
    })
}

pub(crate) async fn parked(db: &mut SqliteConnection, room: &RoomId) -> Result<Vec<ParkedEvent>, Failure> {
    let found = sqlx::query(
        "-- parked
         SELECT parked_no AS row_key, room_id, event_id, origin, body, reason, received_at, next_try, attempts
         FROM parked WHERE room_id = ? ORDER BY parked_no",
    )
    .bind(room.as_str())
    .fetch_all(db)
    .await?;
    found.iter().map(event).collect()
}

pub(crate) async fn ids(db: &mut SqliteConnection, room: &RoomId) -> Result<Vec<EventId>, Failure> {
    let found = sqlx::query(
        "-- parked ids
         SELECT parked_no AS row_key, event_id FROM parked WHERE room_id = ? ORDER BY parked_no",
    )
    .bind(room.as_str())
    .fetch_all(db)
    .await?;
    found
        .iter()
        .map(|row| Fields::new("parked", row).text("event_id"))
        .collect()
}

pub(crate) async fn due(db: &mut SqliteConnection, now: UnixMillis, limit: usize) -> Result<Vec<ParkedEvent>, Failure> {
    let found = sqlx::query(
        "-- due
         SELECT parked_no AS row_key, room_id, event_id, origin, body, reason, received_at, next_try, attempts
         FROM parked WHERE next_try <= ? ORDER BY next_try, parked_no LIMIT +?",
    )
    .bind(millis(now))
    .bind(rows(limit))
    .fetch_all(db)
    .await?;
    found.iter().map(event).collect()
}

pub(crate) async fn park(db: &mut SqliteConnection, parked: &ParkedEvent) -> Result<(), Failure> {
    sqlx::query(
        "-- park
         INSERT INTO parked (room_id, event_id, origin, body, reason, received_at, next_try, attempts)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (room_id, event_id) DO UPDATE SET
             origin = excluded.origin, body = excluded.body, reason = excluded.reason,
             received_at = MIN(received_at, excluded.received_at), next_try = excluded.next_try,
             attempts = MAX(attempts, excluded.attempts)",
    )
    .bind(parked.room.as_str())
    .bind(parked.event_id.as_str())
    .bind(parked.origin.as_str())
    .bind(&*parked.bytes)
    .bind(parked.reason.as_str())
    .bind(millis(parked.received_at))
    .bind(millis(parked.next_try))
    .bind(parked.attempts)
    .execute(db)
    .await?;
    Ok(())
}

pub(crate) async fn unpark(db: &mut SqliteConnection, room: &RoomId, event_id: &EventId) -> Result<(), Failure> {
    sqlx::query(
        "-- unpark
         DELETE FROM parked WHERE room_id = ? AND event_id = ?",
    )
    .bind(room.as_str())
    .bind(event_id.as_str())
    .execute(db)
    .await?;
    Ok(())
}
