//! Tables `mimi_clients`, `mimi_key_packages`, `mimi_spent_key_packages` and `mimi_issued_key_packages`. What a claim takes is deleted, noted and read in one
//! transaction of the one connection that writes, so nobody else can have it.

use bytes::Bytes;
use nabe_core::mimi::MimiUri;
use nabe_store::rules::{MAX_KEY_PACKAGES, MAX_SPENT_KEY_PACKAGES};
use nabe_store::{
    ClaimedMimiKeyPackage, IssuedKeyPackage, KeyPackageKept, KeyPackageUse, MimiKeyPackage, MimiKeyPackageClaim,
    MimiKeyPackageOffer,
};
use nabe_types::{ServerName, UnixMillis};
use sqlx::sqlite::SqliteRow;
use sqlx::{Connection, SqliteConnection};

use crate::failure::Failure;
use crate::fields::{Fields, millis, rows};
use crate::mimi::uri;

pub(crate) async fn add(
    writer: &mut SqliteConnection,
    user: &MimiUri,
    client: &MimiUri,
    packages: &[MimiKeyPackage],
    now: UnixMillis,
) -> Result<Vec<KeyPackageKept>, Failure> {
    let mut db = writer.begin_with("BEGIN IMMEDIATE").await?;
    let client_no: i64 = sqlx::query_scalar(
        "-- mimi packages: client
         INSERT INTO mimi_clients (client_uri, user_uri) VALUES (?, ?)
         ON CONFLICT (client_uri) DO UPDATE SET user_uri = user_uri RETURNING client_no",
    )
    .bind(client.to_string())
    .bind(user.to_string())
    .fetch_one(&mut *db)
    .await?;
    sqlx::query(
        "-- mimi packages: expired of a client
         DELETE FROM mimi_key_packages WHERE client_no = ? AND not_after <= ?",
    )
    .bind(client_no)
    .bind(millis(now))
    .execute(&mut *db)
    .await?;
    let mut kept = Vec::with_capacity(packages.len());
    for package in packages {
        kept.push(add_one(&mut db, client_no, package).await?);
    }
    db.commit().await?;
    Ok(kept)
}

async fn add_one(
    db: &mut SqliteConnection,
    client_no: i64,
    package: &MimiKeyPackage,
) -> Result<KeyPackageKept, Failure> {
    let known: i64 = sqlx::query_scalar(
        "-- mimi packages: known
         SELECT EXISTS (SELECT 1 FROM mimi_key_packages WHERE reference = ?1)
              + 2 * EXISTS (SELECT 1 FROM mimi_spent_key_packages WHERE reference = ?1)",
    )
    .bind(&package.reference[..])
    .fetch_one(&mut *db)
    .await?;
    match known {
        0 => {}
        1 => return Ok(KeyPackageKept::Known),
        _ => return Ok(KeyPackageKept::Spent),
    }
    if package.last_resort {
        let replaced = sqlx::query(
            "-- mimi packages: replaced
             DELETE FROM mimi_key_packages WHERE client_no = ? AND suite = ? AND last_resort = 1
             RETURNING package_no AS row_key, reference, not_after",
        )
        .bind(client_no)
        .bind(i64::from(package.suite))
        .fetch_all(&mut *db)
        .await?;
        for row in &replaced {
            spend(db, client_no, Fields::new("mimi_key_packages", row)).await?;
        }
    } else {
        let others: i64 = sqlx::query_scalar(
            "-- mimi packages: others
             SELECT COUNT(*) FROM mimi_key_packages WHERE client_no = ? AND last_resort = 0",
        )
        .bind(client_no)
        .fetch_one(&mut *db)
        .await?;
        if usize::try_from(others).unwrap_or(0) >= MAX_KEY_PACKAGES {
            return Ok(KeyPackageKept::Full);
        }
    }
    sqlx::query(
        "-- mimi packages: add
         INSERT INTO mimi_key_packages (client_no, reference, suite, capabilities, body, not_after, last_resort)
         VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(client_no)
    .bind(&package.reference[..])
    .bind(i64::from(package.suite))
    .bind(&package.capabilities[..])
    .bind(&package.body[..])
    .bind(millis(package.not_after))
    .bind(package.last_resort)
    .execute(db)
    .await?;
    Ok(KeyPackageKept::Kept)
}

/// Notes what was deleted, with its `reference` and `not_after`, as spent.
async fn spend(db: &mut SqliteConnection, client_no: i64, row: Fields<'_>) -> Result<(), Failure> {
    sqlx::query(
        "-- mimi packages: spend
         INSERT INTO mimi_spent_key_packages (client_no, reference, not_after) VALUES (?, ?, ?)",
    )
    .bind(client_no)
    .bind(row.get::<&[u8]>("reference")?)
    .bind(row.get::<i64>("not_after")?)
    .execute(&mut *db)
    .await?;
    sqlx::query(
        "-- mimi packages: spent long ago
         DELETE FROM mimi_spent_key_packages WHERE client_no = ?1 AND spent_no <= (
             SELECT spent_no FROM mimi_spent_key_packages WHERE client_no = ?1
             ORDER BY spent_no DESC LIMIT 1 OFFSET +?2
         )",
    )
    .bind(client_no)
    .bind(rows(MAX_SPENT_KEY_PACKAGES))
    .execute(db)
    .await?;
    Ok(())
}

/// Notes what is handed out for what, with its `client_no`, `reference` and `not_after`. The same again is the newest again, and what is for one
/// hub pushes out nothing that is for another: the names of rooms are the hub's to invent.
async fn issue(db: &mut SqliteConnection, for_use: &KeyPackageUse, row: Fields<'_>) -> Result<(), Failure> {
    let client_no: i64 = row.get("client_no")?;
    sqlx::query(
        "-- mimi packages: issue
         INSERT OR REPLACE INTO mimi_issued_key_packages (client_no, reference, hub, room_uri, not_after)
         VALUES (?, ?, ?, ?, ?)",
    )
    .bind(client_no)
    .bind(row.get::<&[u8]>("reference")?)
    .bind(for_use.hub.as_str())
    .bind(for_use.room.as_ref().map(MimiUri::to_string).unwrap_or_default())
    .bind(row.get::<i64>("not_after")?)
    .execute(&mut *db)
    .await?;
    sqlx::query(
        "-- mimi packages: issued long ago
         DELETE FROM mimi_issued_key_packages WHERE client_no = ?1 AND hub = ?3 AND issued_no <= (
             SELECT issued_no FROM mimi_issued_key_packages WHERE client_no = ?1 AND hub = ?3
             ORDER BY issued_no DESC LIMIT 1 OFFSET +?2
         )",
    )
    .bind(client_no)
    .bind(rows(MAX_SPENT_KEY_PACKAGES))
    .bind(for_use.hub.as_str())
    .execute(db)
    .await?;
    Ok(())
}

pub(crate) async fn claim(
    writer: &mut SqliteConnection,
    claims: &[MimiKeyPackageClaim],
    usable_at: UnixMillis,
) -> Result<Vec<Option<ClaimedMimiKeyPackage>>, Failure> {
    let mut db = writer.begin_with("BEGIN IMMEDIATE").await?;
    let mut claimed = Vec::with_capacity(claims.len());
    for claim in claims {
        claimed.push(claim_one(&mut db, claim, usable_at).await?);
    }
    db.commit().await?;
    Ok(claimed)
}

async fn claim_one(
    db: &mut SqliteConnection,
    claim: &MimiKeyPackageClaim,
    usable_at: UnixMillis,
) -> Result<Option<ClaimedMimiKeyPackage>, Failure> {
    for (suite, capabilities) in &claim.kinds {
        let taken = take(db, claim, *suite, capabilities, usable_at).await?;
        if taken.is_some() {
            return Ok(taken);
        }
    }
    for (suite, capabilities) in claim.kinds.iter().filter(|_| claim.last_resort) {
        let found = last_resort_of(db, claim, *suite, capabilities, usable_at).await?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

async fn take(
    db: &mut SqliteConnection,
    claim: &MimiKeyPackageClaim,
    suite: u16,
    capabilities: &Bytes,
    usable_at: UnixMillis,
) -> Result<Option<ClaimedMimiKeyPackage>, Failure> {
    let row = sqlx::query(
        "-- mimi packages: take
         DELETE FROM mimi_key_packages WHERE package_no = (
             SELECT package_no FROM mimi_clients JOIN mimi_key_packages USING (client_no)
             WHERE client_uri = ? AND suite = ? AND capabilities = ? AND last_resort = 0 AND not_after > ?
             ORDER BY not_after, package_no LIMIT 1
         ) RETURNING package_no AS row_key, client_no, reference, body, not_after",
    )
    .bind(claim.client.to_string())
    .bind(i64::from(suite))
    .bind(&capabilities[..])
    .bind(millis(usable_at))
    .fetch_optional(&mut *db)
    .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let row = Fields::new("mimi_key_packages", &row);
    spend(db, row.get("client_no")?, row).await?;
    issue(db, &claim.for_use, row).await?;
    Ok(Some(ClaimedMimiKeyPackage {
        reference: row.bytes("reference")?,
        body: row.bytes("body")?,
        last_resort: false,
    }))
}

async fn last_resort_of(
    db: &mut SqliteConnection,
    claim: &MimiKeyPackageClaim,
    suite: u16,
    capabilities: &Bytes,
    usable_at: UnixMillis,
) -> Result<Option<ClaimedMimiKeyPackage>, Failure> {
    let row = sqlx::query(
        "-- mimi packages: last resort
         SELECT package_no AS row_key, client_no, reference, body, not_after
         FROM mimi_clients JOIN mimi_key_packages USING (client_no)
         WHERE client_uri = ? AND suite = ? AND capabilities = ? AND last_resort = 1 AND not_after > ?",
    )
    .bind(claim.client.to_string())
    .bind(i64::from(suite))
    .bind(&capabilities[..])
    .bind(millis(usable_at))
    .fetch_optional(&mut *db)
    .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let row = Fields::new("mimi_key_packages", &row);
    issue(db, &claim.for_use, row).await?;
    Ok(Some(ClaimedMimiKeyPackage {
        reference: row.bytes("reference")?,
        body: row.bytes("body")?,
        last_resort: true,
    }))
}

pub(crate) async fn clients(db: &mut SqliteConnection, user: &MimiUri) -> Result<Vec<MimiUri>, Failure> {
    let found = sqlx::query(
        "-- mimi packages: clients
         SELECT client_no AS row_key, client_uri FROM mimi_clients WHERE user_uri = ? ORDER BY client_uri",
    )
    .bind(user.to_string())
    .fetch_all(db)
    .await?;
    found
        .iter()
        .map(|row| uri(Fields::new("mimi_clients", row), "client_uri"))
        .collect()
}

pub(crate) async fn offers(
    db: &mut SqliteConnection,
    user: &MimiUri,
    usable_at: UnixMillis,
) -> Result<Vec<MimiKeyPackageOffer>, Failure> {
    let found = sqlx::query(
        "-- mimi packages: offers
         SELECT MIN(package_no) AS row_key, client_uri, suite, capabilities,
                SUM(last_resort = 0) AS others, MAX(last_resort) AS has_last_resort
         FROM mimi_clients JOIN mimi_key_packages USING (client_no) WHERE user_uri = ? AND not_after > ?
         GROUP BY client_uri, suite, capabilities ORDER BY client_uri, suite, capabilities",
    )
    .bind(user.to_string())
    .bind(millis(usable_at))
    .fetch_all(db)
    .await?;
    let offer = |row: &SqliteRow| {
        let row = Fields::new("mimi_key_packages", row);
        Ok(MimiKeyPackageOffer {
            client: uri(row, "client_uri")?,
            suite: row.number("suite")?,
            capabilities: row.bytes("capabilities")?,
            left: row.number("others")?,
            has_last_resort: row.get::<i64>("has_last_resort")? != 0,
        })
    };
    found.iter().map(offer).collect()
}

pub(crate) async fn issued(
    db: &mut SqliteConnection,
    references: &[Bytes],
    hub: &ServerName,
    room: &MimiUri,
) -> Result<Vec<IssuedKeyPackage>, Failure> {
    let room = room.to_string();
    let mut issued = Vec::new();
    for reference in references {
        let row = sqlx::query(
            "-- mimi packages: issued
             SELECT client_no AS row_key, client_uri, user_uri FROM mimi_clients WHERE client_no = (
                 SELECT client_no FROM mimi_issued_key_packages
                 WHERE reference = ?1 AND hub IN ('', ?2) AND room_uri IN ('', ?3) LIMIT 1
             )",
        )
        .bind(&reference[..])
        .bind(hub.as_str())
        .bind(&room)
        .fetch_optional(&mut *db)
        .await?;
        let Some(row) = row else { continue };
        let row = Fields::new("mimi_clients", &row);
        issued.push(IssuedKeyPackage {
            reference: reference.clone(),
            user: uri(row, "user_uri")?,
            client: uri(row, "client_uri")?,
        });
    }
    Ok(issued)
}

pub(crate) async fn remove_client(db: &mut SqliteConnection, client: &MimiUri) -> Result<(), Failure> {
    sqlx::query(
        "-- mimi packages: remove client
         DELETE FROM mimi_clients WHERE client_uri = ?",
    )
    .bind(client.to_string())
    .execute(db)
    .await?;
    Ok(())
}

pub(crate) async fn expire(db: &mut SqliteConnection, now: UnixMillis) -> Result<(), Failure> {
    for sql in [
        "-- mimi packages: expire
         DELETE FROM mimi_key_packages WHERE not_after <= ?",
        "-- mimi packages: expire spent
         DELETE FROM mimi_spent_key_packages WHERE not_after <= ?",
        "-- mimi packages: expire issued
         DELETE FROM mimi_issued_key_packages WHERE not_after <= ?",
        "-- mimi packages: expire granted
         DELETE FROM granted_key_packages WHERE not_after <= ?",
    ] {
        sqlx::query(sql).bind(millis(now)).execute(&mut *db).await?;
    }
    Ok(())
}
