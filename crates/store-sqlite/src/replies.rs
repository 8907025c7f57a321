//! Table `replies`.

use nabe_store::{IdempotencyKey, StoredReply};
use nabe_types::UnixMillis;
use sqlx::{AssertSqlSafe, SqliteConnection};

use crate::failure::Failure;
use crate::fields::{Fields, millis};

pub(crate) async fn reply(db: &mut SqliteConnection, key: &IdempotencyKey) -> Result<Option<StoredReply>, Failure> {
    let row = sqlx::query(
        "-- reply
         SELECT rowid AS row_key, status, body, request_sha256 FROM replies
         WHERE scope = ? AND endpoint = ? AND txn_id = ?",
    )
    .bind(&key.scope)
    .bind(&key.endpoint)
    .bind(&key.txn_id)
    .fetch_optional(db)
    .await?;
    row.map(|row| {
        let row = Fields::new("replies", &row);
        Ok(StoredReply {
            status: row.number("status")?,
            body: row.bytes("body")?,
            request_sha256: row.hash("request_sha256")?,
        })
    })
    .transpose()
}

/// A reply that is kept: for what, which, since when.
pub(crate) type Kept<'a> = (&'a IdempotencyKey, &'a StoredReply, UnixMillis);

/// Keeps replies. One that is there already stays.
pub(crate) async fn put(db: &mut SqliteConnection, replies: &[Kept<'_>]) -> Result<(), Failure> {
    for replies in replies.chunks(ROWS_PER_INSERT) {
        let rows = vec!["(?, ?, ?, ?, ?, ?, ?)"; replies.len()].join(", ");
        let insert = format!(
            "-- put
             INSERT INTO replies (scope, endpoint, txn_id, status, body, request_sha256, kept_at) VALUES {rows}
             ON CONFLICT DO NOTHING"
        );
        let mut query = sqlx::query(AssertSqlSafe(insert));
        for (key, reply, now) in replies {
            query = query
                .bind(&key.scope)
                .bind(&key.endpoint)
                .bind(&key.txn_id)
                .bind(reply.status)
                .bind(&*reply.body)
                .bind(&reply.request_sha256[..])
                .bind(millis(*now));
        }
        query.execute(&mut *db).await?;
    }
    Ok(())
}

pub(crate) async fn expire(db: &mut SqliteConnection, before: UnixMillis) -> Result<(), Failure> {
    sqlx::query(
        "-- expire
         DELETE FROM replies WHERE kept_at < ?",
    )
    .bind(millis(before))
    .execute(db)
    .await?;
    Ok(())
}

/// Seven values each, far below SQLite's limit of 32766 per statement.
const ROWS_PER_INSERT: usize = 32;
