//! Table `pending`: invites and knocks.

use bytes::Bytes;
use nabe_store::rules::MAX_PENDING_ROOMS;
use nabe_store::{PendingMembership, PendingRoom};
use nabe_types::{RoomId, UserId};
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use crate::failure::Failure;
use crate::fields::{Fields, millis, rows};

fn pending(row: &SqliteRow) -> Result<PendingRoom, Failure> {
    let row = Fields::new("pending", row);
    Ok(PendingRoom {
        user: row.text("user_id")?,
        room: row.text("room_id")?,
        membership: row.word("membership", PendingMembership::parse)?,
        hub: row.text("hub")?,
        version: row.text("version")?,
        stripped_state: row.bytes("stripped_state")?,
        event: row.get::<Option<&[u8]>>("event")?.map(Bytes::copy_from_slice),
        at: row.moment("since")?,
    })
}

pub(crate) async fn of_user(db: &mut SqliteConnection, user: &UserId) -> Result<Vec<PendingRoom>, Failure> {
    let found = sqlx::query(
        "-- of_user
         SELECT rowid AS row_key, user_id, room_id, membership, hub, version, stripped_state, event, since
         FROM pending WHERE user_id = ? ORDER BY room_id",
    )
    .bind(user.as_str())
    .fetch_all(db)
    .await?;
    found.iter().map(pending).collect()
}

pub(crate) async fn len_of_user(db: &mut SqliteConnection, user: &UserId) -> Result<u64, Failure> {
    let row = sqlx::query(
        "-- len_of_user
         SELECT 0 AS row_key, count(*) AS pending FROM pending WHERE user_id = ?",
    )
    .bind(user.as_str())
    .fetch_one(db)
    .await?;
    Fields::new("pending", &row).number("pending")
}

pub(crate) async fn of_user_in(
    db: &mut SqliteConnection,
    user: &UserId,
    room: &RoomId,
) -> Result<Option<PendingRoom>, Failure> {
    let found = sqlx::query(
        "-- of_user_in
         SELECT rowid AS row_key, user_id, room_id, membership, hub, version, stripped_state, event, since
         FROM pending WHERE user_id = ? AND room_id = ?",
    )
    .bind(user.as_str())
    .bind(room.as_str())
    .fetch_optional(db)
    .await?;
    found.as_ref().map(pending).transpose()
}

pub(crate) async fn of_room(db: &mut SqliteConnection, room: &RoomId) -> Result<Vec<PendingRoom>, Failure> {
    let found = sqlx::query(
        "-- of_room
         SELECT rowid AS row_key, user_id, room_id, membership, hub, version, stripped_state, event, since
         FROM pending WHERE room_id = ? ORDER BY user_id",
    )
    .bind(room.as_str())
    .fetch_all(db)
    .await?;
    found.iter().map(pending).collect()
}

pub(crate) async fn put(db: &mut SqliteConnection, pending: &PendingRoom) -> Result<(), Failure> {
    sqlx::query(
        "-- put
         INSERT OR REPLACE INTO pending
             (user_id, room_id, membership, hub, version, stripped_state, event, since)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(pending.user.as_str())
    .bind(pending.room.as_str())
    .bind(pending.membership.as_str())
    .bind(pending.hub.as_str())
    .bind(pending.version.as_str())
    .bind(&*pending.stripped_state)
    .bind(pending.event.as_deref())
    .bind(millis(pending.at))
    .execute(&mut *db)
    .await?;
    sqlx::query(
        "-- put: oldest
         DELETE FROM pending WHERE rowid IN (
             SELECT rowid FROM pending WHERE user_id = ? ORDER BY since DESC, room_id DESC LIMIT -1 OFFSET ?)",
    )
    .bind(pending.user.as_str())
    .bind(rows(MAX_PENDING_ROOMS))
    .execute(db)
    .await?;
    Ok(())
}

pub(crate) async fn remove(db: &mut SqliteConnection, user: &UserId, room: &RoomId) -> Result<(), Failure> {
    sqlx::query(
        "-- remove
         DELETE FROM pending WHERE user_id = ? AND room_id = ?",
    )
    .bind(user.as_str())
    .bind(room.as_str())
    .execute(db)
    .await?;
    Ok(())
}
