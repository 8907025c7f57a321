//! Table `mimi_reports`.

use async_trait::async_trait;
use nabe_core::mimi::Evidence;
use nabe_store::{KeptReport, NewReport, OpenReports, ReportState, ReportStore, ReportWrite, StoreError};
use nabe_types::{ServerName, UnixMillis};
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use crate::failure::Failure;
use crate::fields::{Fields, millis, rows};
use crate::mimi::uri;
use crate::{SqliteStore, read};

pub(crate) async fn write(db: &mut SqliteConnection, write: &ReportWrite) -> Result<(), Failure> {
    match write {
        ReportWrite::Put { report } => put(db, report).await,
        ReportWrite::Decide {
            number,
            state,
            remark,
            now,
        } => decide(db, *number, *state, remark, *now).await,
        ReportWrite::Forget { decided_before } => forget(db, *decided_before).await,
    }
}

async fn put(db: &mut SqliteConnection, report: &NewReport) -> Result<(), Failure> {
    let evidence: Vec<_> = report.evidence.iter().map(Evidence::to_string).collect();
    sqlx::query(
        "-- mimi_reports: put
         INSERT INTO mimi_reports (room_uri, provider, body, body_sha256, evidence, received, state, remark)
         VALUES (?, ?, ?, ?, ?, ?, 'open', '') ON CONFLICT DO NOTHING",
    )
    .bind(report.room.to_string())
    .bind(report.provider.as_str())
    .bind(&report.body[..])
    .bind(&report.body_sha256[..])
    .bind(evidence.join(" "))
    .bind(millis(report.received))
    .execute(db)
    .await?;
    Ok(())
}

async fn decide(
    db: &mut SqliteConnection,
    number: i64,
    state: ReportState,
    remark: &str,
    now: UnixMillis,
) -> Result<(), Failure> {
    let decided = (state != ReportState::Open).then_some(millis(now));
    sqlx::query(
        "-- mimi_reports: decide
         UPDATE mimi_reports SET state = ?, decided = ?, remark = ? WHERE report_no = ?",
    )
    .bind(state.to_string())
    .bind(decided)
    .bind(remark)
    .bind(number)
    .execute(db)
    .await?;
    Ok(())
}

async fn forget(db: &mut SqliteConnection, decided_before: UnixMillis) -> Result<(), Failure> {
    sqlx::query(
        "-- mimi_reports: forget
         DELETE FROM mimi_reports WHERE decided < ?",
    )
    .bind(millis(decided_before))
    .execute(db)
    .await?;
    Ok(())
}

async fn after(
    db: &mut SqliteConnection,
    after: i64,
    only: Option<ReportState>,
    limit: usize,
) -> Result<Vec<KeptReport>, Failure> {
    let found = sqlx::query(
        "-- mimi_reports: after
         SELECT report_no AS row_key, room_uri, provider, body, body_sha256, evidence, received, state, decided, remark
         FROM mimi_reports WHERE report_no > ?1 AND (?2 IS NULL OR state = ?2) ORDER BY report_no LIMIT +?3",
    )
    .bind(after)
    .bind(only.map(|state| state.to_string()))
    .bind(rows(limit))
    .fetch_all(db)
    .await?;
    found.iter().map(kept).collect()
}

async fn one(db: &mut SqliteConnection, number: i64) -> Result<Option<KeptReport>, Failure> {
    let found = sqlx::query(
        "-- mimi_reports: one
         SELECT report_no AS row_key, room_uri, provider, body, body_sha256, evidence, received, state, decided, remark
         FROM mimi_reports WHERE report_no = ?",
    )
    .bind(number)
    .fetch_optional(db)
    .await?;
    found.as_ref().map(kept).transpose()
}

async fn open(db: &mut SqliteConnection, provider: &ServerName, prefix: &[u8]) -> Result<OpenReports, Failure> {
    let row = sqlx::query(
        "-- mimi_reports: open
         SELECT 0 AS row_key, COUNT(*) AS count, COALESCE(SUM(LENGTH(body)), 0) AS bytes
         FROM mimi_reports WHERE provider = ?1 AND state = 'open' AND substr(body, 1, length(?2)) = ?2",
    )
    .bind(provider.as_str())
    .bind(prefix)
    .fetch_one(db)
    .await?;
    let row = Fields::new("mimi_reports", &row);
    Ok(OpenReports {
        count: row.number("count")?,
        bytes: row.number("bytes")?,
    })
}

fn kept(row: &SqliteRow) -> Result<KeptReport, Failure> {
    let row = Fields::new("mimi_reports", row);
    let evidence: &str = row.get("evidence")?;
    let evidence: Result<Vec<Evidence>, _> = evidence.split_ascii_whitespace().map(str::parse).collect();
    Ok(KeptReport {
        number: row.get("row_key")?,
        report: NewReport {
            room: uri(row, "room_uri")?,
            provider: row.text("provider")?,
            body: row.bytes("body")?,
            body_sha256: row.hash("body_sha256")?,
            evidence: evidence.map_err(|_| row.bad("evidence"))?,
            received: row.moment("received")?,
        },
        state: row.text("state")?,
        decided: row.moment_or_null("decided")?,
        remark: row.get("remark")?,
    })
}

#[async_trait]
impl ReportStore for SqliteStore {
    async fn reports(
        &self,
        number: i64,
        only: Option<ReportState>,
        limit: usize,
    ) -> Result<Vec<KeptReport>, StoreError> {
        read!(self, after, number, only, limit)
    }

    async fn report(&self, number: i64) -> Result<Option<KeptReport>, StoreError> {
        read!(self, one, number)
    }

    async fn open_reports(&self, provider: &ServerName, prefix: &[u8]) -> Result<OpenReports, StoreError> {
        read!(self, open, provider, prefix)
    }
}
