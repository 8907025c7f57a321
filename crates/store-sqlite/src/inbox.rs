//! Tables `inbox` and `inbox_heads`.

use nabe_store::rules::MAX_INBOX_ITEMS;
use nabe_store::{InboxItem, InboxKind};
use nabe_types::{DeviceId, UnixMillis, UserId};
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use crate::failure::Failure;
use crate::fields::{Fields, millis, rows};

pub(crate) async fn inbox(
    db: &mut SqliteConnection,
    user: &UserId,
    device: Option<&DeviceId>,
    after: i64,
    limit: usize,
) -> Result<Vec<InboxItem>, Failure> {
    let found = sqlx::query(
        "-- inbox
         SELECT rowid AS row_key, seq, device_id, kind, body, received_at FROM inbox
         WHERE user_id = ? AND seq > ? AND (device_id IS NULL OR device_id = ?) ORDER BY seq LIMIT +?",
    )
    .bind(user.as_str())
    .bind(after)
    .bind(device.map(DeviceId::as_str))
    .bind(rows(limit))
    .fetch_all(db)
    .await?;
    let item = |row: &SqliteRow| {
        let row = Fields::new("inbox", row);
        Ok(InboxItem {
            seq: row.get("seq")?,
            device: row.text_or_null("device_id")?,
            kind: row.word("kind", InboxKind::parse)?,
            body: row.bytes("body")?,
            at: row.moment("received_at")?,
        })
    };
    found.iter().map(item).collect()
}

pub(crate) async fn head(db: &mut SqliteConnection, user: &UserId) -> Result<i64, Failure> {
    let seq: Option<i64> = sqlx::query_scalar(
        "-- head
         SELECT seq FROM inbox_heads WHERE user_id = ?",
    )
    .bind(user.as_str())
    .fetch_optional(db)
    .await?;
    Ok(seq.unwrap_or(0))
}

pub(crate) async fn add(
    db: &mut SqliteConnection,
    user: &UserId,
    device: Option<&DeviceId>,
    kind: InboxKind,
    subject: Option<&String>,
    body: &[u8],
    now: UnixMillis,
) -> Result<(), Failure> {
    if let Some(subject) = subject {
        sqlx::query(
            "-- add: replaced
             DELETE FROM inbox WHERE user_id = ? AND kind = ? AND subject = ?",
        )
        .bind(user.as_str())
        .bind(kind.as_str())
        .bind(subject)
        .execute(&mut *db)
        .await?;
    }
    let seq: i64 = sqlx::query_scalar(
        "-- add: number
         INSERT INTO inbox_heads (user_id, seq) VALUES (?, 1)
         ON CONFLICT (user_id) DO UPDATE SET seq = seq + 1 RETURNING seq",
    )
    .bind(user.as_str())
    .fetch_one(&mut *db)
    .await?;
    sqlx::query(
        "-- add: item
         INSERT INTO inbox (user_id, seq, device_id, kind, subject, body, received_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(user.as_str())
    .bind(seq)
    .bind(device.map(DeviceId::as_str))
    .bind(kind.as_str())
    .bind(subject)
    .bind(body)
    .bind(millis(now))
    .execute(&mut *db)
    .await?;
    trim(db, user, seq - MAX_INBOX_ITEMS).await
}

pub(crate) async fn trim(db: &mut SqliteConnection, user: &UserId, up_to: i64) -> Result<(), Failure> {
    sqlx::query(
        "-- trim
         DELETE FROM inbox WHERE user_id = ? AND seq <= ?",
    )
    .bind(user.as_str())
    .bind(up_to)
    .execute(db)
    .await?;
    Ok(())
}
