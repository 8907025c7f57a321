//! Table `destinations`.

use nabe_store::DestinationStatus;
use nabe_types::{ServerName, UnixMillis};
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use crate::failure::Failure;
use crate::fields::{Fields, millis};

fn status(row: &SqliteRow) -> Result<DestinationStatus, Failure> {
    let row = Fields::new("destinations", row);
    Ok(DestinationStatus {
        destination: row.text("server")?,
        failures: row.number("failures")?,
        next_attempt: row.moment("next_attempt")?,
        last_error: row.get("last_error")?,
        oldest_dirty: row.moment_or_null("oldest")?,
    })
}

pub(crate) async fn with_work(db: &mut SqliteConnection) -> Result<Vec<DestinationStatus>, Failure> {
    let found = sqlx::query(
        "-- with_work
         SELECT d.rowid AS row_key, server, failures, next_attempt, last_error, MIN(since) AS oldest
         FROM (
             SELECT server, MIN(dirty_since) AS since FROM followers WHERE dirty_since IS NOT NULL GROUP BY server
             UNION ALL SELECT destination, MIN(enqueued_at) FROM outbox GROUP BY destination
             UNION ALL SELECT destination, frozen_at FROM frozen
         ) JOIN destinations AS d USING (server)
         GROUP BY server ORDER BY server",
    )
    .fetch_all(db)
    .await?;
    found.iter().map(status).collect()
}

pub(crate) async fn destination(
    db: &mut SqliteConnection,
    server: &ServerName,
) -> Result<Option<DestinationStatus>, Failure> {
    let row = sqlx::query(
        "-- destination
         SELECT rowid AS row_key, server, failures, next_attempt, last_error, (
             SELECT MIN(since) FROM (
                 SELECT MIN(dirty_since) AS since FROM followers WHERE server = ?1 AND dirty_since IS NOT NULL
                 UNION ALL SELECT MIN(enqueued_at) FROM outbox WHERE destination = ?1
                 UNION ALL SELECT frozen_at FROM frozen WHERE destination = ?1
             )
         ) AS oldest
         FROM destinations WHERE server = ?1",
    )
    .bind(server.as_str())
    .fetch_optional(db)
    .await?;
    row.as_ref().map(status).transpose()
}

/// Adds the destination unless there.
pub(crate) async fn know(db: &mut SqliteConnection, server: &ServerName) -> Result<(), Failure> {
    sqlx::query(
        "-- know
         INSERT INTO destinations (server) VALUES (?) ON CONFLICT DO NOTHING",
    )
    .bind(server.as_str())
    .execute(db)
    .await?;
    Ok(())
}

pub(crate) async fn back_off(
    db: &mut SqliteConnection,
    server: &ServerName,
    failures: u32,
    next_attempt: UnixMillis,
    last_error: &str,
) -> Result<(), Failure> {
    sqlx::query(
        "-- back_off
         INSERT INTO destinations (server, failures, next_attempt, last_error) VALUES (?, ?, ?, ?)
         ON CONFLICT (server) DO UPDATE SET
             failures = excluded.failures, next_attempt = excluded.next_attempt, last_error = excluded.last_error",
    )
    .bind(server.as_str())
    .bind(failures)
    .bind(millis(next_attempt))
    .bind(last_error)
    .execute(db)
    .await?;
    Ok(())
}
