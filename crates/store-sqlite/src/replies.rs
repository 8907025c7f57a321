//! Table `replies`.

use std::collections::BTreeMap;

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
    row.map(|row| stored(Fields::new("replies", &row))).transpose()
}

fn stored(row: Fields<'_>) -> Result<StoredReply, Failure> {
    Ok(StoredReply {
        status: row.number("status")?,
        body: row.bytes("body")?,
        request_sha256: row.hash("request_sha256")?,
    })
}

pub(crate) async fn replies(
    db: &mut SqliteConnection,
    scope: &str,
    endpoint: &str,
    txn_ids: &[&str],
) -> Result<BTreeMap<String, StoredReply>, Failure> {
    let mut found = BTreeMap::new();
    for txn_ids in txn_ids.chunks(IDS_PER_QUERY) {
        // As many places as the next power of two, so that there are few statements; the last ID is in those that are left.
        let places = txn_ids.len().next_power_of_two();
        let select = format!(
            "-- replies
             SELECT rowid AS row_key, txn_id, status, body, request_sha256 FROM replies
             WHERE scope = ? AND endpoint = ? AND txn_id IN ({})",
            vec!["?"; places].join(", ")
        );
        let mut query = sqlx::query(AssertSqlSafe(select)).bind(scope).bind(endpoint);
        let last = txn_ids.last().copied();
        for txn_id in txn_ids.iter().copied().chain(last.into_iter().cycle()).take(places) {
            query = query.bind(txn_id);
        }
        for row in query.fetch_all(&mut *db).await? {
            let row = Fields::new("replies", &row);
            found.insert(row.get("txn_id")?, stored(row)?);
        }
    }
    Ok(found)
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

const IDS_PER_QUERY: usize = 64;
/// Seven values each, far below SQLite's limit of 32766 per statement.
const ROWS_PER_INSERT: usize = 32;
