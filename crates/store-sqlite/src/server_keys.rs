//! Table `server_keys`.

use nabe_store::{StoredServerKeys, rules};
use nabe_types::{ServerName, UnixMillis};
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use crate::failure::Failure;
use crate::fields::{Fields, millis};

pub(crate) async fn server_keys(
    db: &mut SqliteConnection,
    server: &ServerName,
) -> Result<Vec<StoredServerKeys>, Failure> {
    let found = sqlx::query(
        "-- server_keys
         SELECT rowid AS row_key, response, fetched_at, effective_valid_until FROM server_keys
         WHERE server = ? ORDER BY fetched_at DESC, key_set",
    )
    .bind(server.as_str())
    .fetch_all(db)
    .await?;
    let keys = |row: &SqliteRow| {
        let row = Fields::new("server_keys", row);
        Ok(StoredServerKeys {
            server: server.clone(),
            response: row.bytes("response")?,
            fetched_at: row.moment("fetched_at")?,
            effective_valid_until: row.moment("effective_valid_until")?,
        })
    };
    found.iter().map(keys).collect()
}

pub(crate) async fn put(
    db: &mut SqliteConnection,
    server: &ServerName,
    response: &[u8],
    fetched_at: UnixMillis,
    effective_valid_until: UnixMillis,
) -> Result<(), Failure> {
    sqlx::query(
        "-- put
         INSERT INTO server_keys (server, key_set, response, fetched_at, effective_valid_until) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT (server, key_set) DO UPDATE SET
             response = excluded.response, fetched_at = excluded.fetched_at,
             effective_valid_until = excluded.effective_valid_until
         WHERE server_keys.fetched_at <= excluded.fetched_at",
    )
    .bind(server.as_str())
    .bind(rules::key_set(response).to_vec())
    .bind(response)
    .bind(millis(fetched_at))
    .bind(millis(effective_valid_until))
    .execute(&mut *db)
    .await?;
    sqlx::query(
        "-- drop the oldest
         DELETE FROM server_keys WHERE server = ?1 AND key_set NOT IN (
             SELECT key_set FROM server_keys WHERE server = ?1 ORDER BY fetched_at DESC, key_set LIMIT +?2)",
    )
    .bind(server.as_str())
    .bind(i64::try_from(rules::KEY_SETS_KEPT).unwrap_or(i64::MAX))
    .execute(db)
    .await?;
    Ok(())
}
