//! Tables `frozen`, `frozen_ranges` and `frozen_direct`: the request in flight to each destination.

use nabe_store::{DeliveryRange, OutboundRequest, StoreError};
use nabe_types::ServerName;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use crate::failure::Failure;
use crate::fields::{Fields, millis};
use crate::{destinations, rooms};

fn range(row: &SqliteRow) -> Result<DeliveryRange, Failure> {
    let row = Fields::new("frozen_ranges", row);
    Ok(DeliveryRange {
        room: row.text("room_id")?,
        interval_from: row.position("interval_from")?,
        after: row.position("after_position")?,
        through: row.position("through_position")?,
    })
}

fn not_in_flight(destination: &ServerName) -> Failure {
    StoreError::NotInFlight {
        destination: destination.clone(),
    }
    .into()
}

pub(crate) async fn frozen(
    db: &mut SqliteConnection,
    destination: &ServerName,
) -> Result<Option<OutboundRequest>, Failure> {
    let row = sqlx::query(
        "-- frozen
         SELECT rowid AS row_key, txn_id, body_sha256, frozen_at FROM frozen WHERE destination = ?",
    )
    .bind(destination.as_str())
    .fetch_optional(&mut *db)
    .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let ranges = sqlx::query(
        "-- frozen: ranges
         SELECT f.rowid AS row_key, room_id, interval_from, after_position, through_position
         FROM frozen_ranges AS f JOIN rooms USING (room_no) WHERE destination = ? ORDER BY ordinal",
    )
    .bind(destination.as_str())
    .fetch_all(&mut *db)
    .await?;
    let direct = sqlx::query_scalar(
        "-- frozen: direct
         SELECT seq FROM frozen_direct WHERE destination = ? ORDER BY ordinal",
    )
    .bind(destination.as_str())
    .fetch_all(db)
    .await?;
    let row = Fields::new("frozen", &row);
    Ok(Some(OutboundRequest {
        destination: destination.clone(),
        txn_id: row.get("txn_id")?,
        ranges: ranges.iter().map(range).collect::<Result<_, _>>()?,
        direct,
        body_sha256: row.hash("body_sha256")?,
        frozen_at: row.moment("frozen_at")?,
    }))
}

pub(crate) async fn freeze(db: &mut SqliteConnection, request: &OutboundRequest) -> Result<(), Failure> {
    let destination = &request.destination;
    destinations::know(db, destination).await?;
    let done = sqlx::query(
        "-- freeze
         INSERT INTO frozen (destination, txn_id, body_sha256, frozen_at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
    )
    .bind(destination.as_str())
    .bind(&request.txn_id)
    .bind(&request.body_sha256[..])
    .bind(millis(request.frozen_at))
    .execute(&mut *db)
    .await?;
    if done.rows_affected() == 0 {
        return Err(not_in_flight(destination));
    }
    for (ordinal, range) in (0_i64..).zip(&request.ranges) {
        let room_no = rooms::require(db, &range.room).await?.room_no;
        sqlx::query(
            "-- freeze: range
             INSERT INTO frozen_ranges
                 (destination, ordinal, room_no, interval_from, after_position, through_position)
             VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(destination.as_str())
        .bind(ordinal)
        .bind(room_no)
        .bind(range.interval_from.as_i64())
        .bind(range.after.as_i64())
        .bind(range.through.as_i64())
        .execute(&mut *db)
        .await?;
    }
    for (ordinal, seq) in (0_i64..).zip(&request.direct) {
        sqlx::query(
            "-- freeze: direct
             INSERT INTO frozen_direct (destination, ordinal, seq) VALUES (?, ?, ?)",
        )
        .bind(destination.as_str())
        .bind(ordinal)
        .bind(seq)
        .execute(&mut *db)
        .await?;
    }
    Ok(())
}

/// Forgets the request without moving a cursor.
pub(crate) async fn thaw(db: &mut SqliteConnection, destination: &ServerName, txn_id: &str) -> Result<(), Failure> {
    let done = sqlx::query(
        "-- thaw
         DELETE FROM frozen WHERE destination = ? AND txn_id = ?",
    )
    .bind(destination.as_str())
    .bind(txn_id)
    .execute(db)
    .await?;
    if done.rows_affected() == 0 {
        Err(not_in_flight(destination))
    } else {
        Ok(())
    }
}

pub(crate) async fn confirm(db: &mut SqliteConnection, destination: &ServerName, txn_id: &str) -> Result<(), Failure> {
    move_cursors(db, destination, txn_id).await?;
    let sent = sqlx::query(
        "-- confirm: outbox
         DELETE FROM outbox WHERE destination = ?1
             AND seq IN (SELECT seq FROM frozen_direct WHERE destination = ?1)
             AND EXISTS (SELECT 1 FROM frozen WHERE destination = ?1 AND txn_id = ?2)",
    )
    .bind(destination.as_str())
    .bind(txn_id)
    .execute(&mut *db)
    .await?;
    thaw(db, destination, txn_id).await?;
    sqlx::query(
        "-- confirm: destination
         UPDATE destinations SET waiting = waiting - ?, failures = 0, next_attempt = 0, last_error = ''
         WHERE server = ?",
    )
    .bind(i64::try_from(sent.rows_affected()).unwrap_or(i64::MAX))
    .bind(destination.as_str())
    .execute(db)
    .await?;
    Ok(())
}

async fn move_cursors(db: &mut SqliteConnection, destination: &ServerName, txn_id: &str) -> Result<(), Failure> {
    // Two ranges of one interval count as the longer one: UPDATE … FROM takes each row once.
    sqlx::query(
        "-- move_cursors
         UPDATE followers SET
             delivered = MAX(delivered, sent.through),
             dirty_since = CASE
                 WHEN MAX(delivered, sent.through) < MIN(COALESCE(until_position, sent.head), sent.head)
                 THEN dirty_since
             END
         FROM (
             SELECT room_no, interval_from, MAX(through_position) AS through, head_position AS head
             FROM frozen JOIN frozen_ranges USING (destination) JOIN rooms USING (room_no)
             WHERE destination = ?1 AND txn_id = ?2 GROUP BY room_no, interval_from
         ) AS sent
         WHERE followers.room_no = sent.room_no AND followers.server = ?1
             AND followers.from_position = sent.interval_from",
    )
    .bind(destination.as_str())
    .bind(txn_id)
    .execute(db)
    .await?;
    Ok(())
}
