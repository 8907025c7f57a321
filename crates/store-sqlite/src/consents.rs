//! Tables `consents` and `granted_key_packages`.

use bytes::Bytes;
use nabe_core::mimi::MimiUri;
use nabe_store::rules::{MAX_GRANTED_KEY_PACKAGES, MAX_HEARD_CONSENTS};
use nabe_store::{ConsentDecision, ConsentScope, ConsentState, GrantedKeyPackage, KeptConsent};
use nabe_types::{ServerName, UnixMillis};
use sqlx::sqlite::SqliteRow;
use sqlx::{Connection, SqliteConnection};

use crate::failure::Failure;
use crate::fields::{Fields, millis, rows};
use crate::mimi::uri;

/// A scope as its columns have it.
struct Columns {
    requester: String,
    target: String,
    /// Empty for any.
    room: String,
}

impl From<&ConsentScope> for Columns {
    fn from(scope: &ConsentScope) -> Self {
        Self {
            requester: scope.requester.to_string(),
            target: scope.target.to_string(),
            room: scope.room.as_ref().map(MimiUri::to_string).unwrap_or_default(),
        }
    }
}

const fn name_of(decision: ConsentDecision) -> &'static str {
    match decision {
        ConsentDecision::Granted => "granted",
        ConsentDecision::Revoked => "revoked",
    }
}

fn named(name: &str) -> Option<ConsentDecision> {
    match name {
        "granted" => Some(ConsentDecision::Granted),
        "revoked" => Some(ConsentDecision::Revoked),
        _ => None,
    }
}

fn decision_in(row: Fields<'_>, column: &'static str) -> Result<Option<ConsentDecision>, Failure> {
    let name: Option<&str> = row.get(column)?;
    name.map(|name| named(name).ok_or_else(|| row.bad(column))).transpose()
}

pub(crate) async fn request(
    db: &mut SqliteConnection,
    scope: &ConsentScope,
    from: Option<&ServerName>,
    now: UnixMillis,
) -> Result<(), Failure> {
    let columns = Columns::from(scope);
    sqlx::query(
        "-- consents: request
         INSERT INTO consents (requester, target, room_uri, requested_at, heard_from) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT (requester, target, room_uri) DO UPDATE SET
             requested_at = COALESCE(requested_at, excluded.requested_at),
             heard_from = CASE WHEN excluded.heard_from IS NULL THEN NULL ELSE heard_from END",
    )
    .bind(columns.requester)
    .bind(columns.target)
    .bind(columns.room)
    .bind(millis(now))
    .bind(from.map(ServerName::as_str))
    .execute(&mut *db)
    .await?;
    bound_heard(db, from).await
}

pub(crate) async fn cancel(db: &mut SqliteConnection, scope: &ConsentScope) -> Result<(), Failure> {
    for sql in [
        "-- consents: cancel
         DELETE FROM consents WHERE requester = ? AND target = ? AND room_uri = ? AND decision IS NULL",
        "-- consents: cancel what was decided before
         UPDATE consents SET requested_at = NULL WHERE requester = ? AND target = ? AND room_uri = ?",
    ] {
        let columns = Columns::from(scope);
        sqlx::query(sql)
            .bind(columns.requester)
            .bind(columns.target)
            .bind(columns.room)
            .execute(&mut *db)
            .await?;
    }
    Ok(())
}

pub(crate) async fn decide(
    db: &mut SqliteConnection,
    scope: &ConsentScope,
    decision: ConsentDecision,
    key_packages: &[GrantedKeyPackage],
    from: Option<&ServerName>,
    now: UnixMillis,
) -> Result<(), Failure> {
    let columns = Columns::from(scope);
    sqlx::query(
        "-- consents: decide
         INSERT INTO consents (requester, target, room_uri, decision, decided_at, heard_from) VALUES (?, ?, ?, ?, ?, ?)
         ON CONFLICT (requester, target, room_uri) DO UPDATE SET
             requested_at = NULL, decision = excluded.decision, decided_at = excluded.decided_at,
             heard_from = CASE WHEN excluded.heard_from IS NULL THEN NULL ELSE heard_from END",
    )
    .bind(columns.requester)
    .bind(columns.target)
    .bind(columns.room)
    .bind(name_of(decision))
    .bind(millis(now))
    .bind(from.map(ServerName::as_str))
    .execute(&mut *db)
    .await?;
    bound_heard(db, from).await?;
    if decision == ConsentDecision::Revoked {
        drop_granted(db, scope.into()).await?;
    }
    for package in key_packages {
        add_granted(db, scope, package).await?;
    }
    Ok(())
}

async fn bound_heard(db: &mut SqliteConnection, from: Option<&ServerName>) -> Result<(), Failure> {
    let Some(from) = from else {
        return Ok(());
    };
    let gone = sqlx::query(
        "-- consents: heard first
         DELETE FROM consents WHERE heard_from = ?1 AND consent_no <= (
             SELECT consent_no FROM consents WHERE heard_from = ?1 ORDER BY consent_no DESC LIMIT 1 OFFSET +?2
         ) RETURNING consent_no AS row_key, requester, target, room_uri",
    )
    .bind(from.as_str())
    .bind(rows(MAX_HEARD_CONSENTS))
    .fetch_all(&mut *db)
    .await?;
    for row in &gone {
        let row = Fields::new("consents", row);
        let columns = Columns {
            requester: row.get("requester")?,
            target: row.get("target")?,
            room: row.get("room_uri")?,
        };
        drop_granted(db, columns).await?;
    }
    Ok(())
}

/// What came with grants in this scope and was not taken.
async fn drop_granted(db: &mut SqliteConnection, scope: Columns) -> Result<(), Failure> {
    sqlx::query(
        "-- consents: drop granted
         DELETE FROM granted_key_packages WHERE requester = ? AND target = ? AND room_uri = ? AND taken = 0",
    )
    .bind(scope.requester)
    .bind(scope.target)
    .bind(scope.room)
    .execute(db)
    .await?;
    Ok(())
}

async fn add_granted(
    db: &mut SqliteConnection,
    scope: &ConsentScope,
    package: &GrantedKeyPackage,
) -> Result<(), Failure> {
    let columns = Columns::from(scope);
    sqlx::query(
        "-- consents: add granted
         INSERT INTO granted_key_packages (reference, requester, target, room_uri, client_uri, body, not_after, taken)
         SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, 0
         WHERE (SELECT COUNT(*) FROM granted_key_packages WHERE requester = ?2 AND target = ?3) < ?8
         ON CONFLICT DO NOTHING",
    )
    .bind(&package.reference[..])
    .bind(columns.requester)
    .bind(columns.target)
    .bind(columns.room)
    .bind(package.client.to_string())
    .bind(&package.body[..])
    .bind(millis(package.not_after))
    .bind(rows(MAX_GRANTED_KEY_PACKAGES))
    .execute(db)
    .await?;
    Ok(())
}

pub(crate) async fn state(db: &mut SqliteConnection, scope: &ConsentScope) -> Result<ConsentState, Failure> {
    let columns = Columns::from(scope);
    let row = sqlx::query(
        "-- consents: state
         SELECT 0 AS row_key,
             (SELECT decision FROM consents
              WHERE requester = ?1 AND target = ?2 AND room_uri = ?3 AND room_uri <> '') AS for_room,
             (SELECT decision FROM consents WHERE requester = ?1 AND target = ?2 AND room_uri = '') AS for_any,
             EXISTS (SELECT 1 FROM consents WHERE requester = ?1 AND target = ?2
                     AND room_uri <> ?3 AND room_uri <> '' AND decision = 'granted') AS elsewhere",
    )
    .bind(columns.requester)
    .bind(columns.target)
    .bind(columns.room)
    .fetch_one(db)
    .await?;
    let row = Fields::new("consents", &row);
    Ok(ConsentState {
        for_room: decision_in(row, "for_room")?,
        for_any: decision_in(row, "for_any")?,
        elsewhere: row.get::<i64>("elsewhere")? != 0,
    })
}

pub(crate) async fn of_user(
    db: &mut SqliteConnection,
    user: &MimiUri,
    after: i64,
    limit: usize,
) -> Result<Vec<KeptConsent>, Failure> {
    let found = sqlx::query(
        "-- consents: of user
         SELECT consent_no AS row_key, requester, target, room_uri, requested_at, decision, decided_at FROM consents
         WHERE requester = ?1 AND consent_no > ?2
         UNION
         SELECT consent_no AS row_key, requester, target, room_uri, requested_at, decision, decided_at FROM consents
         WHERE target = ?1 AND consent_no > ?2
         ORDER BY row_key LIMIT +?3",
    )
    .bind(user.to_string())
    .bind(after)
    .bind(rows(limit))
    .fetch_all(db)
    .await?;
    found.iter().map(kept).collect()
}

fn kept(row: &SqliteRow) -> Result<KeptConsent, Failure> {
    let row = Fields::new("consents", row);
    let room: &str = row.get("room_uri")?;
    let decision = decision_in(row, "decision")?;
    Ok(KeptConsent {
        number: row.get("row_key")?,
        scope: ConsentScope {
            requester: uri(row, "requester")?,
            target: uri(row, "target")?,
            room: match room {
                "" => None,
                _ => Some(uri(row, "room_uri")?),
            },
        },
        requested_at: row.moment_or_null("requested_at")?,
        decision: match decision {
            None => None,
            Some(decision) => Some((decision, row.moment("decided_at")?)),
        },
    })
}

pub(crate) async fn granted(
    db: &mut SqliteConnection,
    scope: &ConsentScope,
    usable_at: UnixMillis,
) -> Result<Vec<GrantedKeyPackage>, Failure> {
    let columns = Columns::from(scope);
    let found = sqlx::query(
        "-- consents: granted
         SELECT granted_no AS row_key, reference, client_uri, body, not_after FROM granted_key_packages
         WHERE requester = ? AND target = ? AND room_uri = ? AND taken = 0 AND not_after > ? ORDER BY granted_no",
    )
    .bind(columns.requester)
    .bind(columns.target)
    .bind(columns.room)
    .bind(millis(usable_at))
    .fetch_all(db)
    .await?;
    let package = |row: &SqliteRow| {
        let row = Fields::new("granted_key_packages", row);
        Ok(GrantedKeyPackage {
            reference: row.bytes("reference")?,
            client: uri(row, "client_uri")?,
            body: row.bytes("body")?,
            not_after: row.moment("not_after")?,
        })
    };
    found.iter().map(package).collect()
}

pub(crate) async fn take_granted(writer: &mut SqliteConnection, references: &[Bytes]) -> Result<bool, Failure> {
    let mut db = writer.begin_with("BEGIN IMMEDIATE").await?;
    for reference in references {
        let taken = sqlx::query(
            "-- consents: take granted
             UPDATE granted_key_packages SET taken = 1, body = x'' WHERE reference = ? AND taken = 0",
        )
        .bind(&reference[..])
        .execute(&mut *db)
        .await?;
        // Without a commit nothing was taken.
        if taken.rows_affected() == 0 {
            return Ok(false);
        }
    }
    db.commit().await?;
    Ok(true)
}
