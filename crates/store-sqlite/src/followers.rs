//! Table `followers`: intervals with a cursor.

use nabe_core::FollowerChange;
use nabe_store::{DeliveryRange, Follower};
use nabe_types::{LogPosition, RoomId, ServerName, UnixMillis};
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use crate::destinations;
use crate::failure::Failure;
use crate::fields::{Fields, array, millis, number_array, rows};

fn follower(row: &SqliteRow) -> Result<Follower, Failure> {
    let row = Fields::new("followers", row);
    Ok(Follower {
        room: row.text("room_id")?,
        server: row.text("server")?,
        from: row.position("from_position")?,
        until: row.position_or_null("until_position")?,
        delivered: row.position("delivered")?,
        dirty_since: row.moment_or_null("dirty_since")?,
    })
}

pub(crate) async fn followers(db: &mut SqliteConnection, room: &RoomId) -> Result<Vec<Follower>, Failure> {
    let found = sqlx::query(
        "-- followers
         SELECT f.rowid AS row_key, room_id, server, from_position, until_position, delivered, dirty_since
         FROM followers AS f JOIN rooms USING (room_no) WHERE room_id = ? ORDER BY server, from_position",
    )
    .bind(room.as_str())
    .fetch_all(db)
    .await?;
    found.iter().map(follower).collect()
}

pub(crate) async fn dirty(
    db: &mut SqliteConnection,
    destination: &ServerName,
    limit: usize,
) -> Result<Vec<DeliveryRange>, Failure> {
    let found = sqlx::query(
        "-- dirty
         SELECT f.rowid AS row_key, room_id, from_position, delivered,
             MIN(COALESCE(until_position, head_position), head_position) AS owed
         FROM followers AS f JOIN rooms USING (room_no)
         WHERE server = ? AND dirty_since IS NOT NULL ORDER BY dirty_since, room_id, from_position LIMIT +?",
    )
    .bind(destination.as_str())
    .bind(rows(limit))
    .fetch_all(db)
    .await?;
    let range = |row: &SqliteRow| {
        let row = Fields::new("followers", row);
        Ok(DeliveryRange {
            room: row.text("room_id")?,
            interval_from: row.position("from_position")?,
            after: row.position("delivered")?,
            through: row.position("owed")?,
        })
    };
    found.iter().map(range).collect()
}

/// Notes that something is owed from now on to everyone who follows one of these rooms and was owed nothing.
pub(crate) async fn mark_dirty(
    db: &mut SqliteConnection,
    rooms: impl IntoIterator<Item = (i64, UnixMillis)>,
) -> Result<(), Failure> {
    let rooms = rooms
        .into_iter()
        .map(|(room_no, now)| number_array([room_no, millis(now)]));
    sqlx::query(
        "-- mark_dirty
         UPDATE followers SET dirty_since = grown.value ->> 1 FROM json_each(?) AS grown
         WHERE room_no = grown.value ->> 0 AND dirty_since IS NULL AND until_position IS NULL",
    )
    .bind(array(rooms))
    .execute(db)
    .await?;
    Ok(())
}

pub(crate) async fn change(
    db: &mut SqliteConnection,
    room_no: i64,
    head: LogPosition,
    change: &FollowerChange,
    now: UnixMillis,
) -> Result<(), Failure> {
    match change {
        FollowerChange::Open { server, from } => open(db, room_no, head, server, *from, None, now).await,
        FollowerChange::Once { server, at } => open(db, room_no, head, server, *at, Some(*at), now).await,
        FollowerChange::Close { server, until } => close(db, room_no, server, *until).await,
    }
}

async fn open(
    db: &mut SqliteConnection,
    room_no: i64,
    head: LogPosition,
    server: &ServerName,
    from: LogPosition,
    until: Option<LogPosition>,
    now: UnixMillis,
) -> Result<(), Failure> {
    destinations::know(db, server).await?;
    sqlx::query(
        "-- open
         INSERT INTO followers (room_no, server, from_position, until_position, delivered, dirty_since)
         VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
    )
    .bind(room_no)
    .bind(server.as_str())
    .bind(from.as_i64())
    .bind(until.map(LogPosition::as_i64))
    .bind(from.previous().as_i64())
    .bind((from <= head).then_some(millis(now)))
    .execute(db)
    .await?;
    Ok(())
}

async fn close(
    db: &mut SqliteConnection,
    room_no: i64,
    server: &ServerName,
    until: LogPosition,
) -> Result<(), Failure> {
    sqlx::query(
        "-- close
         UPDATE followers SET
             until_position = ?1, dirty_since = CASE WHEN delivered < ?1 THEN dirty_since END
         WHERE room_no = ?2 AND server = ?3 AND until_position IS NULL",
    )
    .bind(until.as_i64())
    .bind(room_no)
    .bind(server.as_str())
    .execute(db)
    .await?;
    Ok(())
}

/// Whether anyone is still owed something below a position.
pub(crate) async fn is_owed_before(
    db: &mut SqliteConnection,
    room_no: i64,
    below: LogPosition,
) -> Result<bool, Failure> {
    Ok(sqlx::query_scalar(
        "-- is_owed_before
         SELECT EXISTS (
             SELECT 1 FROM followers WHERE room_no = ?1 AND delivered < MIN(COALESCE(until_position, ?2), ?2)
         )",
    )
    .bind(room_no)
    .bind(below.previous().as_i64())
    .fetch_one(db)
    .await?)
}
