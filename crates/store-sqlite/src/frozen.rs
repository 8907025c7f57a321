//! Tables `frozen`, `frozen_ranges` and `frozen_direct`: the request in flight to each destination.

use nabe_store::{DeliveryRange, OutboundRequest, StoreError};
use nabe_types::ServerName;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use crate::failure::Failure;
use crate::fields::{Fields, array, millis, number_array, quoted};
use crate::{bounds, destinations};

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

pub(crate) async fn is_frozen(db: &mut SqliteConnection, destination: &ServerName) -> Result<bool, Failure> {
    Ok(sqlx::query_scalar(
        "-- is_frozen
         SELECT EXISTS (SELECT 1 FROM frozen WHERE destination = ?)",
    )
    .bind(destination.as_str())
    .fetch_one(db)
    .await?)
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
    let added = match add(db, request).await {
        Err(failure) if failure.is_dangling() => {
            destinations::know(db, destination).await?;
            add(db, request).await
        }
        added => added,
    };
    if !added? {
        return Err(not_in_flight(destination));
    }
    if !request.ranges.is_empty() {
        add_ranges(db, destination, &request.ranges).await?;
    }
    if !request.direct.is_empty() {
        add_direct(db, destination, &request.direct).await?;
    }
    Ok(())
}

/// Whether there was none yet.
async fn add(db: &mut SqliteConnection, request: &OutboundRequest) -> Result<bool, Failure> {
    let done = sqlx::query(
        "-- freeze
         INSERT INTO frozen (destination, txn_id, body_sha256, frozen_at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
    )
    .bind(request.destination.as_str())
    .bind(&request.txn_id)
    .bind(&request.body_sha256[..])
    .bind(millis(request.frozen_at))
    .execute(db)
    .await?;
    Ok(done.rows_affected() > 0)
}

async fn add_ranges(
    db: &mut SqliteConnection,
    destination: &ServerName,
    ranges: &[DeliveryRange],
) -> Result<(), Failure> {
    let rows = ranges.iter().map(|range| {
        let ends = [range.interval_from, range.after, range.through].map(|end| end.as_i64().to_string());
        array(std::iter::once(quoted(range.room.as_str())).chain(ends))
    });
    let done = sqlx::query(
        "-- freeze: ranges
         INSERT INTO frozen_ranges (destination, ordinal, room_no, interval_from, after_position, through_position)
         SELECT ?1, range.key, room_no, range.value ->> 1, range.value ->> 2, range.value ->> 3
         FROM json_each(?2) AS range CROSS JOIN rooms WHERE room_id = range.value ->> 0",
    )
    .bind(destination.as_str())
    .bind(array(rows))
    .execute(&mut *db)
    .await?;
    if done.rows_affected() < ranges.len() as u64 {
        for range in ranges {
            bounds::require(db, &range.room).await?;
        }
    }
    Ok(())
}

async fn add_direct(db: &mut SqliteConnection, destination: &ServerName, seqs: &[i64]) -> Result<(), Failure> {
    sqlx::query(
        "-- freeze: direct
         INSERT INTO frozen_direct (destination, ordinal, seq) SELECT ?1, key, value FROM json_each(?2)",
    )
    .bind(destination.as_str())
    .bind(number_array(seqs.iter().copied()))
    .execute(db)
    .await?;
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
    let direct: Option<i64> = sqlx::query_scalar(
        "-- confirm: destination
         UPDATE destinations SET
             failures = 0, next_attempt = 0, last_error = '',
             waiting = waiting - (
                 SELECT COUNT(*) FROM outbox WHERE destination = ?1
                     AND seq IN (SELECT seq FROM frozen_direct WHERE destination = ?1)
             )
         WHERE server = ?1 AND EXISTS (SELECT 1 FROM frozen WHERE destination = ?1 AND txn_id = ?2)
         RETURNING (SELECT COUNT(*) FROM frozen_direct WHERE destination = ?1)",
    )
    .bind(destination.as_str())
    .bind(txn_id)
    .fetch_optional(&mut *db)
    .await?;
    let direct = direct.ok_or_else(|| not_in_flight(destination))?;
    move_cursors(db, destination).await?;
    if direct > 0 {
        sqlx::query(
            "-- confirm: outbox
             DELETE FROM outbox WHERE destination = ?1
                 AND seq IN (SELECT seq FROM frozen_direct WHERE destination = ?1)",
        )
        .bind(destination.as_str())
        .execute(&mut *db)
        .await?;
    }
    thaw(db, destination, txn_id).await
}

/// To the ends of the ranges of the request in flight.
async fn move_cursors(db: &mut SqliteConnection, destination: &ServerName) -> Result<(), Failure> {
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
             FROM frozen_ranges JOIN rooms USING (room_no)
             WHERE destination = ?1 GROUP BY room_no, interval_from
         ) AS sent
         WHERE followers.room_no = sent.room_no AND followers.server = ?1
             AND followers.from_position = sent.interval_from",
    )
    .bind(destination.as_str())
    .execute(db)
    .await?;
    Ok(())
}
