//! Tables `groups` and `group_changes`: what commits did to the rooms' MLS groups.

use bytes::Bytes;
use nabe_core::{GroupChange, StoredGroup};
use nabe_types::{LogPosition, RoomId};
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use crate::bounds::{self, conflict};
use crate::failure::Failure;
use crate::fields::Fields;

fn change(row: &SqliteRow) -> Result<GroupChange, Failure> {
    let row = Fields::new("group_changes", row);
    Ok(GroupChange {
        position: row.position("position")?,
        bytes: Bytes::from(row.get::<Vec<u8>>("body")?),
    })
}

/// Empty where there is none.
pub(crate) async fn load(db: &mut SqliteConnection, room_no: i64) -> Result<StoredGroup, Failure> {
    let row = sqlx::query(
        "-- load
         SELECT room_no AS row_key, newest_position, checkpoint FROM groups WHERE room_no = ?",
    )
    .bind(room_no)
    .fetch_optional(&mut *db)
    .await?;
    let Some(row) = row else {
        return Ok(StoredGroup::default());
    };
    let row = Fields::new("groups", &row);
    let changes = sqlx::query(
        "-- load: changes
         SELECT rowid AS row_key, position, body FROM group_changes WHERE room_no = ? ORDER BY position",
    )
    .bind(room_no)
    .fetch_all(db)
    .await?;
    Ok(StoredGroup {
        checkpoint: row.get::<Option<Vec<u8>>>("checkpoint")?.map(Bytes::from),
        changes: changes.iter().map(change).collect::<Result<_, _>>()?,
        newest: Some(row.position("newest_position")?),
    })
}

pub(crate) async fn newest(db: &mut SqliteConnection, room: &RoomId) -> Result<Option<LogPosition>, Failure> {
    let row = sqlx::query(
        "-- newest
         SELECT room_no AS row_key, newest_position FROM groups JOIN rooms USING (room_no) WHERE room_id = ?",
    )
    .bind(room.as_str())
    .fetch_optional(db)
    .await?;
    row.map(|row| Fields::new("groups", &row).position("newest_position"))
        .transpose()
}

pub(crate) async fn put_change(db: &mut SqliteConnection, room: &RoomId, change: &GroupChange) -> Result<(), Failure> {
    let bounds = bounds::require(db, room).await?;
    if change.position > bounds.head {
        return Err(conflict(room));
    }
    let moved = sqlx::query(
        "-- put_change: newest
         INSERT INTO groups (room_no, newest_position) VALUES (?, ?)
         ON CONFLICT (room_no) DO UPDATE SET newest_position = excluded.newest_position
         WHERE newest_position < excluded.newest_position",
    )
    .bind(bounds.room_no)
    .bind(change.position.as_i64())
    .execute(&mut *db)
    .await?;
    if moved.rows_affected() == 0 {
        return Err(conflict(room));
    }
    sqlx::query(
        "-- put_change
         INSERT INTO group_changes (room_no, position, body) VALUES (?, ?, ?)",
    )
    .bind(bounds.room_no)
    .bind(change.position.as_i64())
    .bind(&change.bytes[..])
    .execute(db)
    .await?;
    Ok(())
}

pub(crate) async fn put(
    db: &mut SqliteConnection,
    room: &RoomId,
    position: LogPosition,
    checkpoint: &Bytes,
) -> Result<(), Failure> {
    let bounds = bounds::require(db, room).await?;
    let put = sqlx::query(
        "-- put
         UPDATE groups SET checkpoint = ? WHERE room_no = ? AND newest_position = ?",
    )
    .bind(&checkpoint[..])
    .bind(bounds.room_no)
    .bind(position.as_i64())
    .execute(&mut *db)
    .await?;
    if put.rows_affected() == 0 {
        return Err(conflict(room));
    }
    drop_changes(db, bounds.room_no).await
}

/// Commits may have been missed, so what comes next has nothing to stand on.
pub(crate) async fn forget(db: &mut SqliteConnection, room_no: i64) -> Result<(), Failure> {
    drop_changes(db, room_no).await?;
    sqlx::query(
        "-- forget
         DELETE FROM groups WHERE room_no = ?",
    )
    .bind(room_no)
    .execute(db)
    .await?;
    Ok(())
}

async fn drop_changes(db: &mut SqliteConnection, room_no: i64) -> Result<(), Failure> {
    sqlx::query(
        "-- drop_changes
         DELETE FROM group_changes WHERE room_no = ?",
    )
    .bind(room_no)
    .execute(db)
    .await?;
    Ok(())
}
