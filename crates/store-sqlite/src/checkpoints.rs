//! Table `checkpoints`.

use nabe_core::Checkpoint;
use nabe_event::Pdu;
use nabe_store::Between;
use nabe_types::{LogPosition, RoomId};
use sqlx::SqliteConnection;

use crate::bounds::{self, conflict};
use crate::entries;
use crate::failure::Failure;
use crate::fields::{Fields, number_array};

/// The newest one of a room within bounds.
pub(crate) async fn newest(
    db: &mut SqliteConnection,
    room_no: i64,
    between: Between,
) -> Result<Option<Checkpoint>, Failure> {
    let row = sqlx::query(
        "-- newest
         SELECT rowid AS row_key, position, head, state FROM checkpoints
         WHERE room_no = ? AND position > ? AND position <= ? ORDER BY position DESC LIMIT 1",
    )
    .bind(room_no)
    .bind(between.after.as_i64())
    .bind(between.through.as_i64())
    .fetch_optional(&mut *db)
    .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let row = Fields::new("checkpoints", &row);
    let state = entries::numbered(db, row.get("state")?)
        .await?
        .ok_or_else(|| row.bad("state"))?;
    Ok(Some(Checkpoint {
        position: row.position("position")?,
        head: row.text_or_null("head")?,
        state,
    }))
}

pub(crate) async fn put(db: &mut SqliteConnection, room: &RoomId, checkpoint: &Checkpoint) -> Result<(), Failure> {
    let bounds = bounds::require(db, room).await?;
    if checkpoint.position < bounds.first.previous() || checkpoint.position > bounds.head {
        return Err(conflict(room));
    }
    insert(db, bounds.room_no, checkpoint).await
}

pub(crate) async fn insert(db: &mut SqliteConnection, room_no: i64, checkpoint: &Checkpoint) -> Result<(), Failure> {
    let state = known(db, room_no, &checkpoint.state).await?;
    sqlx::query(
        "-- insert
         INSERT OR REPLACE INTO checkpoints (room_no, position, head, state) VALUES (?, ?, ?, ?)",
    )
    .bind(room_no)
    .bind(checkpoint.position.as_i64())
    .bind(checkpoint.head.as_ref().map(|head| head.as_str()))
    .bind(number_array(state))
    .execute(db)
    .await?;
    Ok(())
}

/// The events' numbers; those we do not hold yet are added.
async fn known(db: &mut SqliteConnection, room_no: i64, state: &[Pdu]) -> Result<Vec<i64>, Failure> {
    let mut numbers = entries::numbers(db, room_no, state).await?;
    let unknown: Vec<_> = state
        .iter()
        .filter(|event| !numbers.contains_key(event.event_id()))
        .cloned()
        .collect();
    entries::add_outliers(db, room_no, &unknown).await?;
    if !unknown.is_empty() {
        numbers.extend(entries::numbers(db, room_no, &unknown).await?);
    }
    Ok(state
        .iter()
        .filter_map(|event| numbers.get(event.event_id()).copied())
        .collect())
}

pub(crate) async fn is_at_or_after(
    db: &mut SqliteConnection,
    room_no: i64,
    position: LogPosition,
) -> Result<bool, Failure> {
    Ok(sqlx::query_scalar(
        "-- is_at_or_after
         SELECT EXISTS (SELECT 1 FROM checkpoints WHERE room_no = ? AND position >= ?)",
    )
    .bind(room_no)
    .bind(position.as_i64())
    .fetch_one(db)
    .await?)
}

pub(crate) async fn drop_before(db: &mut SqliteConnection, room_no: i64, below: LogPosition) -> Result<(), Failure> {
    sqlx::query(
        "-- drop_before
         DELETE FROM checkpoints WHERE room_no = ? AND position < ?",
    )
    .bind(room_no)
    .bind(below.as_i64())
    .execute(db)
    .await?;
    Ok(())
}
