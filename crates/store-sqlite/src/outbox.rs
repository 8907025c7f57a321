//! Table `outbox`: what is sent to one server besides room entries.

use nabe_store::{DirectItem, StoreError};
use nabe_types::{EventId, RoomId, ServerName, UnixMillis, UserId};
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use crate::failure::Failure;
use crate::fields::{Fields, millis, number_array, rows};

fn item(row: &SqliteRow) -> Result<(i64, DirectItem), Failure> {
    let row = Fields::new("outbox", row);
    let bytes = row.bytes("body")?;
    let room: Option<RoomId> = row.text_or_null("room_id")?;
    let item = match room {
        None => DirectItem::Edu(bytes),
        Some(room) => DirectItem::Lpdu {
            room,
            lpdu_id: row.text("lpdu_id")?,
            bytes,
            sender: row.text("sender")?,
        },
    };
    Ok((row.get("seq")?, item))
}

pub(crate) async fn outbox(
    db: &mut SqliteConnection,
    destination: &ServerName,
    limit: usize,
) -> Result<Vec<(i64, DirectItem)>, Failure> {
    let found = sqlx::query(
        "-- outbox
         SELECT rowid AS row_key, seq, body, room_id, lpdu_id, sender FROM outbox
         WHERE destination = ? ORDER BY seq LIMIT +?",
    )
    .bind(destination.as_str())
    .bind(rows(limit))
    .fetch_all(db)
    .await?;
    found.iter().map(item).collect()
}

pub(crate) async fn items(
    db: &mut SqliteConnection,
    destination: &ServerName,
    seqs: &[i64],
) -> Result<Vec<(i64, DirectItem)>, Failure> {
    let found = sqlx::query(
        "-- items
         SELECT rowid AS row_key, seq, body, room_id, lpdu_id, sender FROM outbox
         WHERE destination = ? AND seq IN (SELECT value FROM json_each(?)) ORDER BY seq",
    )
    .bind(destination.as_str())
    .bind(number_array(seqs.iter().copied()))
    .fetch_all(db)
    .await?;
    found.iter().map(item).collect()
}

pub(crate) async fn len(db: &mut SqliteConnection, destination: &ServerName) -> Result<u64, Failure> {
    let row = sqlx::query(
        "-- len
         SELECT rowid AS row_key, waiting FROM destinations WHERE server = ?",
    )
    .bind(destination.as_str())
    .fetch_optional(db)
    .await?;
    row.map_or(Ok(0), |row| Fields::new("destinations", &row).number("waiting"))
}

pub(crate) async fn enqueue(
    db: &mut SqliteConnection,
    destination: &ServerName,
    item: &DirectItem,
    limit: u64,
    now: UnixMillis,
) -> Result<(), Failure> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let seq: Option<i64> = sqlx::query_scalar(
        "-- enqueue: number
         INSERT INTO destinations (server, last_seq, waiting) SELECT ?1, 1, 1 WHERE ?2 > 0
         ON CONFLICT (server) DO UPDATE SET last_seq = last_seq + 1, waiting = waiting + 1 WHERE waiting < ?2
         RETURNING last_seq",
    )
    .bind(destination.as_str())
    .bind(limit)
    .fetch_optional(&mut *db)
    .await?;
    let seq = seq.ok_or_else(|| StoreError::Full {
        destination: destination.clone(),
    })?;
    let (bytes, lpdu): (_, Option<(&RoomId, &EventId, &UserId)>) = match item {
        DirectItem::Edu(bytes) => (bytes, None),
        DirectItem::Lpdu {
            room,
            lpdu_id,
            bytes,
            sender,
        } => (bytes, Some((room, lpdu_id, sender))),
    };
    sqlx::query(
        "-- enqueue: item
         INSERT INTO outbox (destination, seq, body, room_id, lpdu_id, sender, enqueued_at)
         VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(destination.as_str())
    .bind(seq)
    .bind(&**bytes)
    .bind(lpdu.map(|(room, ..)| room.as_str()))
    .bind(lpdu.map(|(_, lpdu_id, _)| lpdu_id.as_str()))
    .bind(lpdu.map(|(.., sender)| sender.as_str()))
    .bind(millis(now))
    .execute(db)
    .await?;
    Ok(())
}
