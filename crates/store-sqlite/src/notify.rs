//! Tables `mimi_followers`, `notifications` and `notify_failures`: who is notified of what happens in MIMI's rooms, and how far
//! that got.

use nabe_core::FollowerChange;
use nabe_core::mimi::MimiUri;
use nabe_store::{MimiFollower, Notification, NotifyWork, StoreError};
use nabe_types::{LogPosition, ServerName, UnixMillis};
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use crate::failure::Failure;
use crate::fields::{Fields, millis, rows};
use crate::mimi::{room_no, uri};

fn follower(row: &SqliteRow) -> Result<MimiFollower, Failure> {
    let row = Fields::new("mimi_followers", row);
    Ok(MimiFollower {
        room: uri(row, "uri")?,
        provider: row.text("provider")?,
        from: row.position("from_position")?,
        until: row.position_or_null("until_position")?,
        delivered: row.position("delivered")?,
        dirty_since: row.moment_or_null("dirty_since")?,
    })
}

fn not_in_flight(room: &MimiUri, provider: &ServerName) -> Failure {
    StoreError::MimiNotInFlight {
        room: room.clone(),
        provider: provider.clone(),
    }
    .into()
}

pub(crate) async fn followers(db: &mut SqliteConnection, room: &MimiUri) -> Result<Vec<MimiFollower>, Failure> {
    let found = sqlx::query(
        "-- notify: followers
         SELECT f.rowid AS row_key, uri, provider, from_position, until_position, delivered, dirty_since
         FROM mimi_followers AS f JOIN mimi_rooms USING (room_no) WHERE uri = ? ORDER BY provider, from_position",
    )
    .bind(room.to_string())
    .fetch_all(db)
    .await?;
    found.iter().map(follower).collect()
}

pub(crate) async fn work(db: &mut SqliteConnection, now: UnixMillis, limit: usize) -> Result<Vec<NotifyWork>, Failure> {
    let found = sqlx::query(
        "-- notify: work
         SELECT f.rowid AS row_key, uri, f.provider, from_position, until_position, delivered, dirty_since,
             MIN(COALESCE(until_position, head_position), head_position) AS owed,
             COALESCE(failures, 0) AS failures, COALESCE(next_attempt, 0) AS next_attempt
         FROM mimi_followers AS f JOIN mimi_rooms USING (room_no)
         LEFT JOIN notify_failures AS n ON n.room_no = f.room_no AND n.provider = f.provider
         WHERE dirty_since IS NOT NULL AND COALESCE(next_attempt, 0) <= ? AND NOT EXISTS (
             SELECT 1 FROM mimi_followers AS earlier
             WHERE earlier.room_no = f.room_no AND earlier.provider = f.provider
                 AND earlier.from_position < f.from_position AND earlier.dirty_since IS NOT NULL
         )
         ORDER BY dirty_since, uri, f.provider LIMIT +?",
    )
    .bind(millis(now))
    .bind(rows(limit))
    .fetch_all(db)
    .await?;
    found.iter().map(owed).collect()
}

pub(crate) async fn work_of(
    db: &mut SqliteConnection,
    room: &MimiUri,
    provider: &ServerName,
) -> Result<Option<NotifyWork>, Failure> {
    let found = sqlx::query(
        "-- notify: work_of
         SELECT f.rowid AS row_key, uri, f.provider, from_position, until_position, delivered, dirty_since,
             MIN(COALESCE(until_position, head_position), head_position) AS owed,
             COALESCE(failures, 0) AS failures, COALESCE(next_attempt, 0) AS next_attempt
         FROM mimi_rooms AS r JOIN mimi_followers AS f ON f.room_no = r.room_no
         LEFT JOIN notify_failures AS n ON n.room_no = f.room_no AND n.provider = f.provider
         WHERE uri = ? AND f.provider = ? AND dirty_since IS NOT NULL ORDER BY from_position LIMIT 1",
    )
    .bind(room.to_string())
    .bind(provider.as_str())
    .fetch_optional(db)
    .await?;
    found.as_ref().map(owed).transpose()
}

fn owed(row: &SqliteRow) -> Result<NotifyWork, Failure> {
    let fields = Fields::new("mimi_followers", row);
    Ok(NotifyWork {
        follower: follower(row)?,
        owed: fields.position("owed")?,
        failures: fields.number("failures")?,
        next_attempt: fields.moment("next_attempt")?,
    })
}

pub(crate) async fn notification(
    db: &mut SqliteConnection,
    room: &MimiUri,
    provider: &ServerName,
) -> Result<Option<Notification>, Failure> {
    let row = sqlx::query(
        "-- notify: notification
         SELECT n.rowid AS row_key, interval_from, after_position, through_position, body_sha256, frozen_at
         FROM notifications AS n JOIN mimi_rooms USING (room_no) WHERE uri = ? AND provider = ?",
    )
    .bind(room.to_string())
    .bind(provider.as_str())
    .fetch_optional(db)
    .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let row = Fields::new("notifications", &row);
    Ok(Some(Notification {
        room: room.clone(),
        provider: provider.clone(),
        interval_from: row.position("interval_from")?,
        after: row.position("after_position")?,
        through: row.position("through_position")?,
        body_sha256: row.hash("body_sha256")?,
        frozen_at: row.moment("frozen_at")?,
    }))
}

/// Notes that something is owed from now on to everyone who follows the room and was owed nothing.
pub(crate) async fn mark_dirty(db: &mut SqliteConnection, room_no: i64, now: UnixMillis) -> Result<(), Failure> {
    sqlx::query(
        "-- notify: mark_dirty
         UPDATE mimi_followers SET dirty_since = ?
         WHERE room_no = ? AND dirty_since IS NULL AND until_position IS NULL",
    )
    .bind(millis(now))
    .bind(room_no)
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
    let (provider, from, until) = match change {
        FollowerChange::Open { server, from } => (server, *from, None),
        FollowerChange::Once { server, at } => (server, *at, Some(*at)),
        FollowerChange::Close { server, until } => return close(db, room_no, server, *until).await,
    };
    sqlx::query(
        "-- notify: open
         INSERT INTO mimi_followers (room_no, provider, from_position, until_position, delivered, dirty_since)
         VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
    )
    .bind(room_no)
    .bind(provider.as_str())
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
    provider: &ServerName,
    until: LogPosition,
) -> Result<(), Failure> {
    sqlx::query(
        "-- notify: close
         UPDATE mimi_followers SET
             until_position = ?1, dirty_since = CASE WHEN delivered < ?1 THEN dirty_since END
         WHERE room_no = ?2 AND provider = ?3 AND until_position IS NULL",
    )
    .bind(until.as_i64())
    .bind(room_no)
    .bind(provider.as_str())
    .execute(db)
    .await?;
    Ok(())
}

pub(crate) async fn freeze(db: &mut SqliteConnection, request: &Notification) -> Result<(), Failure> {
    let done = sqlx::query(
        "-- notify: freeze
         INSERT INTO notifications
             (room_no, provider, interval_from, after_position, through_position, body_sha256, frozen_at)
         SELECT room_no, ?, ?, ?, ?, ?, ? FROM mimi_rooms WHERE uri = ? ON CONFLICT DO NOTHING",
    )
    .bind(request.provider.as_str())
    .bind(request.interval_from.as_i64())
    .bind(request.after.as_i64())
    .bind(request.through.as_i64())
    .bind(&request.body_sha256[..])
    .bind(millis(request.frozen_at))
    .bind(request.room.to_string())
    .execute(&mut *db)
    .await?;
    if done.rows_affected() == 0 {
        room_no(db, &request.room).await?;
        return Err(not_in_flight(&request.room, &request.provider));
    }
    Ok(())
}

pub(crate) async fn confirm(
    db: &mut SqliteConnection,
    room: &MimiUri,
    provider: &ServerName,
    body_sha256: &[u8; 32],
) -> Result<(), Failure> {
    let row = sqlx::query(
        "-- notify: confirm
         DELETE FROM notifications
         WHERE room_no = (SELECT room_no FROM mimi_rooms WHERE uri = ?) AND provider = ? AND body_sha256 = ?
         RETURNING room_no AS row_key, interval_from, through_position",
    )
    .bind(room.to_string())
    .bind(provider.as_str())
    .bind(&body_sha256[..])
    .fetch_optional(&mut *db)
    .await?;
    let row = row.ok_or_else(|| not_in_flight(room, provider))?;
    let row = Fields::new("notifications", &row);
    let room_no: i64 = row.get("row_key")?;
    let (from, through) = (row.position("interval_from")?, row.position("through_position")?);
    move_cursor(db, room_no, provider, from, through).await?;
    sqlx::query(
        "-- notify: forget failures
         DELETE FROM notify_failures WHERE room_no = ? AND provider = ?",
    )
    .bind(room_no)
    .bind(provider.as_str())
    .execute(db)
    .await?;
    Ok(())
}

pub(crate) async fn skip(
    db: &mut SqliteConnection,
    room: &MimiUri,
    provider: &ServerName,
    interval_from: LogPosition,
    through: LogPosition,
) -> Result<(), Failure> {
    let room_no = room_no(db, room).await?;
    let is_frozen: bool = sqlx::query_scalar(
        "-- notify: is_frozen
         SELECT EXISTS (SELECT 1 FROM notifications WHERE room_no = ? AND provider = ?)",
    )
    .bind(room_no)
    .bind(provider.as_str())
    .fetch_one(&mut *db)
    .await?;
    if is_frozen {
        return Err(not_in_flight(room, provider));
    }
    move_cursor(db, room_no, provider, interval_from, through).await
}

async fn move_cursor(
    db: &mut SqliteConnection,
    room_no: i64,
    provider: &ServerName,
    interval_from: LogPosition,
    through: LogPosition,
) -> Result<(), Failure> {
    sqlx::query(
        "-- notify: move_cursor
         UPDATE mimi_followers SET
             delivered = MAX(delivered, ?1),
             dirty_since = CASE
                 WHEN MAX(delivered, ?1) < MIN(COALESCE(until_position, head), head) THEN dirty_since
             END
         FROM (SELECT head_position AS head FROM mimi_rooms WHERE room_no = ?2)
         WHERE room_no = ?2 AND provider = ?3 AND from_position = ?4",
    )
    .bind(through.as_i64())
    .bind(room_no)
    .bind(provider.as_str())
    .bind(interval_from.as_i64())
    .execute(db)
    .await?;
    Ok(())
}

pub(crate) async fn back_off(
    db: &mut SqliteConnection,
    room: &MimiUri,
    provider: &ServerName,
    failures: u32,
    next_attempt: UnixMillis,
    last_error: &str,
) -> Result<(), Failure> {
    let room_no = room_no(db, room).await?;
    sqlx::query(
        "-- notify: back_off
         INSERT INTO notify_failures (room_no, provider, failures, next_attempt, last_error) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT (room_no, provider) DO UPDATE SET
             failures = excluded.failures, next_attempt = excluded.next_attempt, last_error = excluded.last_error",
    )
    .bind(room_no)
    .bind(provider.as_str())
    .bind(failures)
    .bind(millis(next_attempt))
    .bind(last_error)
    .execute(db)
    .await?;
    Ok(())
}
