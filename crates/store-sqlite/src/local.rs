//! Tables of what hubs of MIMI sent for local users: `local_rooms`, `local_messages`, `local_readers`, `withheld_messages`,
//! `delivered_bodies`, `delivered_messages` and `shown_join_codes`.

use nabe_core::mimi::MimiUri;
use nabe_store::rules::{MESSAGES_REMEMBERED, MIN_REMEMBERED_MESSAGES, ReaderChange, nth_after, reader_changes};
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
    pub(crate) leavers: &'a [(MimiUri, usize)],
    pub(crate) once: Option<&'a [u8; 32]>,
    pub(crate) now: UnixMillis,
}

pub(crate) async fn deliver(db: &mut SqliteConnection, delivery: Delivery<'_>) -> Result<(), Failure> {
    let (room_no, before) = room_to_write_to(db, delivery.room, delivery.hub).await?;
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
        let added = sqlx::query(
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
        for user in &message.withheld_from {
            sqlx::query(
                "-- local: withhold
                 INSERT INTO withheld_messages (message_no, user_uri) VALUES (?, ?) ON CONFLICT DO NOTHING",
            )
            .bind(added.last_insert_rowid())
            .bind(user.to_string())
            .execute(&mut *db)
            .await?;
        }
    }
    sqlx::query(
        "-- local: move head
         UPDATE local_rooms SET head_position = ? WHERE room_no = ?",
    )
    .bind(head)
    .bind(room_no)
    .execute(&mut *db)
    .await?;
    let marks = delivery.messages.iter().flat_map(|message| &message.marks);
    mark(db, room_no, marks, delivery.now).await?;
    for change in reader_changes(delivery.readers, delivery.leavers) {
        let position = |index| nth_after(LogPosition(before), index);
        match change {
            ReaderChange::Begins(user, index) => begin(db, room_no, user, position(index)).await?,
            ReaderChange::Ends(user, index) => end(db, room_no, user, position(index)).await?,
        }
    }
    Ok(())
}

/// A room's number and the end of its log, which begins if there is none.
pub(crate) async fn room_to_write_to(
    db: &mut SqliteConnection,
    room: &MimiUri,
    hub: &ServerName,
) -> Result<(i64, i64), Failure> {
    let row = sqlx::query(
        "-- local: room to write to
         INSERT INTO local_rooms (uri, hub, head_position) VALUES (?, ?, 0)
         ON CONFLICT (uri) DO UPDATE SET hub = hub RETURNING room_no AS row_key, head_position",
    )
    .bind(room.to_string())
    .bind(hub.as_str())
    .fetch_one(db)
    .await?;
    let row = Fields::new("local_rooms", &row);
    Ok((row.get("row_key")?, row.get("head_position")?))
}

/// Remembers messages, and forgets those that need not be remembered any more.
pub(crate) async fn mark(
    db: &mut SqliteConnection,
    room_no: i64,
    marks: impl Iterator<Item = &[u8; 32]>,
    now: UnixMillis,
) -> Result<(), Failure> {
    let mut last: Option<i64> = None;
    for mark in marks {
        let before = match last {
            Some(last) => last,
            None => {
                sqlx::query_scalar(
                    "-- local: last mark
                     SELECT last_mark FROM local_rooms WHERE room_no = ?",
                )
                .bind(room_no)
                .fetch_one(&mut *db)
                .await?
            }
        };
        let marked = sqlx::query(
            "-- local: mark message
             INSERT INTO delivered_messages (room_no, mark_no, message_sha256, received) VALUES (?, ?, ?, ?)
             ON CONFLICT (room_no, message_sha256) DO NOTHING",
        )
        .bind(room_no)
        .bind(before + 1)
        .bind(&mark[..])
        .bind(millis(now))
        .execute(&mut *db)
        .await?;
        last = Some(before + i64::from(marked.rows_affected() > 0));
    }
    let Some(last) = last else { return Ok(()) };
    sqlx::query(
        "-- local: move marks
         UPDATE local_rooms SET last_mark = ? WHERE room_no = ?",
    )
    .bind(last)
    .bind(room_no)
    .execute(&mut *db)
    .await?;
    sqlx::query(
        "-- local: forget message marks
         DELETE FROM delivered_messages WHERE room_no = ? AND mark_no <= ? AND received < ?",
    )
    .bind(room_no)
    .bind(last - rows(MIN_REMEMBERED_MESSAGES))
    .bind(millis(now.minus(MESSAGES_REMEMBERED)))
    .execute(db)
    .await?;
    Ok(())
}

/// The user reads the room from a position on, unless they do already.
pub(crate) async fn begin(
    db: &mut SqliteConnection,
    room_no: i64,
    user: &MimiUri,
    from: LogPosition,
) -> Result<(), Failure> {
    sqlx::query(
        "-- local: reader begins
         INSERT INTO local_readers (room_no, user_uri, from_position)
         SELECT ?1, ?2, ?3 WHERE NOT EXISTS (
             SELECT 1 FROM local_readers WHERE room_no = ?1 AND user_uri = ?2 AND until_position IS NULL
         )
         ON CONFLICT (user_uri, room_no, from_position) DO UPDATE SET until_position = NULL",
    )
    .bind(room_no)
    .bind(user.to_string())
    .bind(from.as_i64())
    .execute(db)
    .await?;
    Ok(())
}

async fn end(db: &mut SqliteConnection, room_no: i64, user: &MimiUri, until: LogPosition) -> Result<(), Failure> {
    sqlx::query(
        "-- local: reader ends
         UPDATE local_readers SET until_position = ?3 WHERE room_no = ?1 AND user_uri = ?2 AND until_position IS NULL",
    )
    .bind(room_no)
    .bind(user.to_string())
    .bind(until.as_i64())
    .execute(db)
    .await?;
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

/// Message numbers ascend in the order in which messages came, so that only what is dropped is looked at.
pub(crate) async fn forget_messages(
    db: &mut SqliteConnection,
    before: UnixMillis,
    limit: usize,
) -> Result<(), Failure> {
    sqlx::query(
        "-- local: forget messages
         DELETE FROM local_messages WHERE message_no IN (
             SELECT message_no FROM local_messages WHERE message_no < COALESCE(
                 (SELECT message_no FROM local_messages WHERE received >= ? ORDER BY message_no LIMIT 1),
                 9223372036854775807
             ) ORDER BY message_no LIMIT +?
         )",
    )
    .bind(millis(before))
    .bind(rows(limit))
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
    found.iter().map(local_message).collect()
}

pub(crate) async fn messages_readable_by(
    db: &mut SqliteConnection,
    user: &MimiUri,
    room: &MimiUri,
    after: LogPosition,
    limit: usize,
    max_bytes: usize,
) -> Result<Vec<LocalMessage>, Failure> {
    let found = sqlx::query(
        "-- local: messages readable by
         WITH owed AS (
             SELECT message_no, position, SUM(size) OVER (ORDER BY position) AS bytes
             FROM (
                 SELECT message_no, position, length(body) AS size
                 FROM local_rooms JOIN local_messages USING (room_no)
                 WHERE uri = ?1 AND position > ?2 AND EXISTS (
                     SELECT 1 FROM local_readers AS reader
                     WHERE reader.room_no = local_rooms.room_no AND user_uri = ?3 AND from_position <= position
                       AND (until_position IS NULL OR until_position >= position)
                 ) AND NOT EXISTS (
                     SELECT 1 FROM withheld_messages AS withheld
                     WHERE withheld.message_no = local_messages.message_no AND withheld.user_uri = ?3
                 )
                 ORDER BY position LIMIT +?4
             )
         )
         SELECT message_no AS row_key, position, accepted, received, body
         FROM owed JOIN local_messages USING (message_no, position)
         WHERE bytes <= ?5 OR position = (SELECT MIN(position) FROM owed)
         ORDER BY position",
    )
    .bind(room.to_string())
    .bind(after.as_i64())
    .bind(user.to_string())
    .bind(rows(limit))
    .bind(rows(max_bytes))
    .fetch_all(db)
    .await?;
    found.iter().map(local_message).collect()
}

fn local_message(row: &SqliteRow) -> Result<LocalMessage, Failure> {
    let row = Fields::new("local_messages", row);
    Ok(LocalMessage {
        position: row.position("position")?,
        accepted: row.moment("accepted")?,
        received: row.moment("received")?,
        body: row.bytes("body")?,
    })
}

fn readable(row: &SqliteRow) -> Result<ReadableRoom, Failure> {
    let row = Fields::new("local_readers", row);
    Ok(ReadableRoom {
        room: local_room(row)?,
        from: row.position("from_position")?,
        until: row.position_or_null("until_position")?,
    })
}

pub(crate) async fn readable_by(db: &mut SqliteConnection, user: &MimiUri) -> Result<Vec<ReadableRoom>, Failure> {
    let found = sqlx::query(
        "-- local: readable by
         SELECT room_no AS row_key, uri, hub, head_position, MIN(from_position) AS from_position,
                CASE WHEN COUNT(until_position) = COUNT(*) THEN MAX(until_position) END AS until_position
         FROM local_readers JOIN local_rooms USING (room_no) WHERE user_uri = ? GROUP BY room_no ORDER BY uri",
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
         SELECT room_no AS row_key, uri, hub, head_position, MIN(from_position) AS from_position,
                CASE WHEN COUNT(until_position) = COUNT(*) THEN MAX(until_position) END AS until_position
         FROM local_readers JOIN local_rooms USING (room_no) WHERE user_uri = ? AND uri = ? GROUP BY room_no",
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
