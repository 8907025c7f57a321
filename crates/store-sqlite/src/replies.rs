//! Table `replies`.

use nabe_store::{IdempotencyKey, StoredReply};
use nabe_types::UnixMillis;
use sqlx::SqliteConnection;

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

pub(crate) async fn put(
    db: &mut SqliteConnection,
    key: &IdempotencyKey,
    reply: &StoredReply,
    now: UnixMillis,
) -> Result<(), Failure> {
    sqlx::query(
        "-- put
         INSERT INTO replies (scope, endpoint, txn_id, status, body, request_sha256, kept_at)
         VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
    )
    .bind(&key.scope)
    .bind(&key.endpoint)
    .bind(&key.txn_id)
    .bind(reply.status)
    .bind(&*reply.body)
    .bind(&reply.request_sha256[..])
    .bind(millis(now))
    .execute(db)
    .await?;
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
