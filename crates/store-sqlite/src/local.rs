//! Tables of what hubs of MIMI sent for local users: `local_rooms`, `local_messages`, `local_readers`, `delivered_bodies` and
//! `shown_join_codes`.

use nabe_core::mimi::MimiUri;
use nabe_store::rules::nth_after;
use nabe_store::{LocalMessage, LocalRoom, NewLocalMessage, ReadableRoom, ShownJoinCode};
use nabe_types::{LogPosition, ServerName, UnixMillis};
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use crate::failure::Failure;
use crate::fields::{Fields, millis, rows};
use crate::mimi::uri;

/// [`nabe_store::MimiUserWrite::Deliver`].
pub(crate) struct Delivery<'a> {
    pub(crate) room: &'a MimiUri,
    pub(crate) hub: &'a ServerName,
    pub(crate) messages: &'a [NewLocalMessage],
    pub(crate) readers: &'a [(MimiUri, usize)],
    pub(crate) once: Option<&'a [u8; 32]>,
    pub(crate) now: UnixMillis,
}

pub(crate) async fn deliver(db: &mut SqliteConnection, delivery: Delivery<'_>) -> Result<(), Failure> {
    let row = sqlx::query(
        "-- local: room to write to
         INSERT INTO local_rooms (uri, hub, head_position) VALUES (?, ?, 0)
         ON CONFLICT (uri) DO UPDATE SET hub = hub RETURNING room_no AS row_key, head_position",
    )
    .bind(delivery.room.to_string())
    .bind(delivery.hub.as_str())
    .fetch_one(&mut *db)
    .await?;
    let row = Fields::new("local_rooms", &row);
    let (room_no, before): (i64, i64) = (row.get("row_key")?, row.get("head_position")?);
    if let Some(once) = delivery.once {
        let marked = sqlx::query(
            "-- local: mark
             INSERT INTO delivered_bodies (room_no, hub, body_sha256, received) VALUES (?, ?, ?, ?)
             ON CONFLICT DO NOTHING",
        )
        .bind(room_no)
        .bind(delivery.hub.as_str())
        .bind(&once[..])
        .bind(millis(delivery.now))
        .execute(&mut *db)
        .await?;
        if marked.rows_affected() == 0 {
            return Ok(());
        }
    }
    let mut head = before;
    for message in delivery.messages {
        head += 1;
        sqlx::query(
            "-- local: add
             INSERT INTO local_messages (room_no, position, accepted, received, body) VALUES (?, ?, ?, ?, ?)",
        )
        .bind(room_no)
        .bind(head)
        .bind(millis(message.accepted))
        .bind(millis(delivery.now))
        .bind(&message.body[..])
        .execute(&mut *db)
        .await?;
    }
    sqlx::query(
        "-- local: move head
         UPDATE local_rooms SET head_position = ? WHERE room_no = ?",
    )
    .bind(head)
    .bind(room_no)
    .execute(&mut *db)
    .await?;
    for (reader, first) in delivery.readers {
        sqlx::query(
            "-- local: reader
             INSERT INTO local_readers (room_no, user_uri, from_position) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(room_no)
        .bind(reader.to_string())
        .bind(nth_after(LogPosition(before), *first).as_i64())
        .execute(&mut *db)
        .await?;
    }
    Ok(())
}

pub(crate) async fn forget_delivered(db: &mut SqliteConnection, before: UnixMillis) -> Result<(), Failure> {
    sqlx::query(
        "-- local: forget marks
         DELETE FROM delivered_bodies WHERE received < ?",
    )
    .bind(millis(before))
    .execute(db)
    .await?;
    Ok(())
}

pub(crate) async fn show_join_code(db: &mut SqliteConnection, shown: &ShownJoinCode) -> Result<(), Failure> {
    sqlx::query(
        "-- local: show join code
         INSERT INTO shown_join_codes (room_uri, user_uri, signature_key, code, expires_at) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT (room_uri, user_uri, signature_key)
         DO UPDATE SET code = excluded.code, expires_at = excluded.expires_at",
    )
    .bind(shown.room.to_string())
    .bind(shown.user.to_string())
    .bind(&shown.signature_key[..])
    .bind(&shown.code[..])
    .bind(millis(shown.expires_at))
    .execute(db)
    .await?;
    Ok(())
}

pub(crate) async fn expire_join_codes(db: &mut SqliteConnection, now: UnixMillis) -> Result<(), Failure> {
    sqlx::query(
        "-- local: expire join codes
         DELETE FROM shown_join_codes WHERE expires_at <= ?",
    )
    .bind(millis(now))
    .execute(db)
    .await?;
    Ok(())
}

fn local_room(row: Fields<'_>) -> Result<LocalRoom, Failure> {
    Ok(LocalRoom {
        room: uri(row, "uri")?,
        hub: row.text("hub")?,
        head: row.position("head_position")?,
    })
}

pub(crate) async fn room(db: &mut SqliteConnection, room: &MimiUri) -> Result<Option<LocalRoom>, Failure> {
    let found = sqlx::query(
        "-- local: room
         SELECT room_no AS row_key, uri, hub, head_position FROM local_rooms WHERE uri = ?",
    )
    .bind(room.to_string())
    .fetch_optional(db)
    .await?;
    found
        .map(|row| local_room(Fields::new("local_rooms", &row)))
        .transpose()
}

pub(crate) async fn was_delivered(
    db: &mut SqliteConnection,
    hub: &ServerName,
    room: &MimiUri,
    once: &[u8; 32],
) -> Result<bool, Failure> {
    let found: i64 = sqlx::query_scalar(
        "-- local: was delivered
         SELECT EXISTS (
             SELECT 1 FROM delivered_bodies JOIN local_rooms USING (room_no)
             WHERE uri = ? AND delivered_bodies.hub = ? AND body_sha256 = ?
         )",
    )
    .bind(room.to_string())
    .bind(hub.as_str())
    .bind(&once[..])
    .fetch_one(db)
    .await?;
    Ok(found != 0)
}

pub(crate) async fn messages(
    db: &mut SqliteConnection,
    room: &MimiUri,
    after: LogPosition,
    limit: usize,
    max_bytes: usize,
) -> Result<Vec<LocalMessage>, Failure> {
    // What fits is found by the lengths, which lie in the rows' headers: bodies beyond are not read.
    let found = sqlx::query(
        "-- local: messages
         WITH owed AS (
             SELECT message_no, position, SUM(size) OVER (ORDER BY position) AS bytes
             FROM (
                 SELECT message_no, position, length(body) AS size
                 FROM local_rooms JOIN local_messages USING (room_no)
                 WHERE uri = ? AND position > ? ORDER BY position LIMIT +?
             )
         )
         SELECT message_no AS row_key, position, accepted, received, body
         FROM owed JOIN local_messages USING (message_no, position)
         WHERE bytes <= ? OR position = (SELECT MIN(position) FROM owed)
         ORDER BY position",
    )
    .bind(room.to_string())
    .bind(after.as_i64())
    .bind(rows(limit))
    .bind(rows(max_bytes))
    .fetch_all(db)
    .await?;
    let message = |row: &SqliteRow| {
        let row = Fields::new("local_messages", row);
        Ok(LocalMessage {
            position: row.position("position")?,
            accepted: row.moment("accepted")?,
            received: row.moment("received")?,
            body: row.bytes("body")?,
        })
    };
    found.iter().map(message).collect()
}

fn readable(row: &SqliteRow) -> Result<ReadableRoom, Failure> {
    let row = Fields::new("local_readers", row);
    Ok(ReadableRoom {
        room: local_room(row)?,
        from: row.position("from_position")?,
    })
}

pub(crate) async fn readable_by(db: &mut SqliteConnection, user: &MimiUri) -> Result<Vec<ReadableRoom>, Failure> {
    let found = sqlx::query(
        "-- local: readable by
         SELECT room_no AS row_key, uri, hub, head_position, from_position
         FROM local_readers JOIN local_rooms USING (room_no) WHERE user_uri = ? ORDER BY uri",
    )
    .bind(user.to_string())
    .fetch_all(db)
    .await?;
    found.iter().map(readable).collect()
}

pub(crate) async fn readable_room(
    db: &mut SqliteConnection,
    user: &MimiUri,
    room: &MimiUri,
) -> Result<Option<ReadableRoom>, Failure> {
    let found = sqlx::query(
        "-- local: readable room
         SELECT room_no AS row_key, uri, hub, head_position, from_position
         FROM local_readers JOIN local_rooms USING (room_no) WHERE user_uri = ? AND uri = ?",
    )
    .bind(user.to_string())
    .bind(room.to_string())
    .fetch_optional(db)
    .await?;
    found.as_ref().map(readable).transpose()
}

pub(crate) async fn shown_join_code(
    db: &mut SqliteConnection,
    room: &MimiUri,
    user: &MimiUri,
    signature_key: &[u8],
    now: UnixMillis,
) -> Result<Option<ShownJoinCode>, Failure> {
    let found = sqlx::query(
        "-- local: shown join code
         SELECT rowid AS row_key, code, expires_at FROM shown_join_codes
         WHERE room_uri = ? AND user_uri = ? AND signature_key = ? AND expires_at > ?",
    )
    .bind(room.to_string())
    .bind(user.to_string())
    .bind(signature_key)
    .bind(millis(now))
    .fetch_optional(db)
    .await?;
    let Some(row) = found else {
        return Ok(None);
    };
    let row = Fields::new("shown_join_codes", &row);
    Ok(Some(ShownJoinCode {
        room: room.clone(),
        user: user.clone(),
        signature_key: signature_key.to_vec().into(),
        code: row.bytes("code")?,
        expires_at: row.moment("expires_at")?,
    }))
}
