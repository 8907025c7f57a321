//! Tables `key_packages` and `spent_key_packages`. What a claim takes is deleted, noted and read in one transaction of the
//! one connection that writes, so nobody else can have it.

use nabe_store::rules::{MAX_KEY_PACKAGES, MAX_SPENT_KEY_PACKAGES};
use nabe_store::{ClaimedKeyPackage, KeyPackage, KeyPackageClaim, KeyPackageCount, KeyPackageKept};
use nabe_types::{DeviceId, UnixMillis, UserId};
use sqlx::sqlite::SqliteRow;
use sqlx::{Connection, SqliteConnection};

use crate::devices;
use crate::failure::Failure;
use crate::fields::{Fields, millis, rows};

pub(crate) async fn add(
    writer: &mut SqliteConnection,
    user: &UserId,
    device: &DeviceId,
    packages: &[KeyPackage],
    now: UnixMillis,
) -> Result<Vec<KeyPackageKept>, Failure> {
    let mut db = writer.begin_with("BEGIN IMMEDIATE").await?;
    if devices::device(&mut db, user, device).await?.is_none() {
        return Ok(vec![KeyPackageKept::NoDevice; packages.len()]);
    }
    sqlx::query(
        "-- add: expired
         DELETE FROM key_packages WHERE user_id = ? AND device_id = ? AND not_after <= ?",
    )
    .bind(user.as_str())
    .bind(device.as_str())
    .bind(millis(now))
    .execute(&mut *db)
    .await?;
    let mut kept = Vec::with_capacity(packages.len());
    for package in packages {
        kept.push(add_one(&mut db, user, device, package, now).await?);
    }
    db.commit().await?;
    Ok(kept)
}

async fn add_one(
    db: &mut SqliteConnection,
    user: &UserId,
    device: &DeviceId,
    package: &KeyPackage,
    now: UnixMillis,
) -> Result<KeyPackageKept, Failure> {
    let known: i64 = sqlx::query_scalar(
        "-- add: known
         SELECT EXISTS (SELECT 1 FROM key_packages WHERE user_id = ?1 AND device_id = ?2 AND hash_ref = ?3)
              + 2 * EXISTS (SELECT 1 FROM spent_key_packages WHERE user_id = ?1 AND device_id = ?2 AND hash_ref = ?3)",
    )
    .bind(user.as_str())
    .bind(device.as_str())
    .bind(&package.hash_ref)
    .fetch_one(&mut *db)
    .await?;
    match known {
        0 => {}
        1 => return Ok(KeyPackageKept::Known),
        _ => return Ok(KeyPackageKept::Spent),
    }
    if package.last_resort {
        sqlx::query(
            "-- add: replaced
             DELETE FROM key_packages WHERE user_id = ? AND device_id = ? AND suite = ? AND last_resort = 1",
        )
        .bind(user.as_str())
        .bind(device.as_str())
        .bind(i64::from(package.suite))
        .execute(&mut *db)
        .await?;
    } else {
        let others: i64 = sqlx::query_scalar(
            "-- add: others
             SELECT COUNT(*) FROM key_packages WHERE user_id = ? AND device_id = ? AND last_resort = 0",
        )
        .bind(user.as_str())
        .bind(device.as_str())
        .fetch_one(&mut *db)
        .await?;
        if usize::try_from(others).unwrap_or(0) >= MAX_KEY_PACKAGES {
            return Ok(KeyPackageKept::Full);
        }
    }
    sqlx::query(
        "-- add
         INSERT INTO key_packages (user_id, device_id, suite, hash_ref, body, not_after, last_resort, uploaded_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(user.as_str())
    .bind(device.as_str())
    .bind(i64::from(package.suite))
    .bind(&package.hash_ref)
    .bind(&package.body[..])
    .bind(millis(package.not_after))
    .bind(package.last_resort)
    .bind(millis(now))
    .execute(db)
    .await?;
    Ok(KeyPackageKept::Kept)
}

pub(crate) async fn claim(
    writer: &mut SqliteConnection,
    claims: &[KeyPackageClaim],
    usable_at: UnixMillis,
) -> Result<Vec<Option<ClaimedKeyPackage>>, Failure> {
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
    claim: &KeyPackageClaim,
    usable_at: UnixMillis,
) -> Result<Option<ClaimedKeyPackage>, Failure> {
    let taken = match claim.only_last_resort {
        true => None,
        false => take(db, claim, usable_at).await?,
    };
    let last_resort = taken.is_none();
    let body = match taken {
        Some(body) => Some(body),
        None => last_resort_of(db, claim, usable_at).await?,
    };
    let Some(body) = body else {
        return Ok(None);
    };
    let left: i64 = sqlx::query_scalar(
        "-- claim: left
         SELECT COUNT(*) FROM key_packages
         WHERE user_id = ? AND device_id = ? AND suite = ? AND last_resort = 0 AND not_after > ?",
    )
    .bind(claim.user.as_str())
    .bind(claim.device.as_str())
    .bind(i64::from(claim.suite))
    .bind(millis(usable_at))
    .fetch_one(db)
    .await?;
    Ok(Some(ClaimedKeyPackage {
        body: body.into(),
        last_resort,
        left: left.unsigned_abs(),
    }))
}

/// Those that expire first go first.
async fn take(
    db: &mut SqliteConnection,
    claim: &KeyPackageClaim,
    usable_at: UnixMillis,
) -> Result<Option<Vec<u8>>, Failure> {
    let taken = sqlx::query(
        "-- claim: take
         DELETE FROM key_packages WHERE package_no = (
             SELECT package_no FROM key_packages
             WHERE user_id = ? AND device_id = ? AND suite = ? AND last_resort = 0 AND not_after > ?
             ORDER BY not_after, package_no LIMIT 1
         ) RETURNING package_no AS row_key, hash_ref, body, not_after",
    )
    .bind(claim.user.as_str())
    .bind(claim.device.as_str())
    .bind(i64::from(claim.suite))
    .bind(millis(usable_at))
    .fetch_optional(&mut *db)
    .await?;
    let Some(row) = taken else {
        return Ok(None);
    };
    let row = Fields::new("key_packages", &row);
    let hash_ref: String = row.get("hash_ref")?;
    sqlx::query(
        "-- claim: spent
         INSERT INTO spent_key_packages (user_id, device_id, hash_ref, not_after) VALUES (?, ?, ?, ?)",
    )
    .bind(claim.user.as_str())
    .bind(claim.device.as_str())
    .bind(hash_ref)
    .bind(row.get::<i64>("not_after")?)
    .execute(&mut *db)
    .await?;
    sqlx::query(
        "-- claim: spent long ago
         DELETE FROM spent_key_packages WHERE user_id = ?1 AND device_id = ?2 AND spent_no <= (
             SELECT spent_no FROM spent_key_packages WHERE user_id = ?1 AND device_id = ?2
             ORDER BY spent_no DESC LIMIT 1 OFFSET +?3
         )",
    )
    .bind(claim.user.as_str())
    .bind(claim.device.as_str())
    .bind(rows(MAX_SPENT_KEY_PACKAGES))
    .execute(db)
    .await?;
    Ok(Some(row.get("body")?))
}

async fn last_resort_of(
    db: &mut SqliteConnection,
    claim: &KeyPackageClaim,
    usable_at: UnixMillis,
) -> Result<Option<Vec<u8>>, Failure> {
    let body = sqlx::query_scalar(
        "-- claim: last resort
         SELECT body FROM key_packages
         WHERE user_id = ? AND device_id = ? AND suite = ? AND last_resort = 1 AND not_after > ?",
    )
    .bind(claim.user.as_str())
    .bind(claim.device.as_str())
    .bind(i64::from(claim.suite))
    .bind(millis(usable_at))
    .fetch_optional(db)
    .await?;
    Ok(body)
}

pub(crate) async fn left(
    db: &mut SqliteConnection,
    user: &UserId,
    device: &DeviceId,
    usable_at: UnixMillis,
) -> Result<Vec<KeyPackageCount>, Failure> {
    let found = sqlx::query(
        "-- left
         SELECT MIN(package_no) AS row_key, suite, SUM(last_resort = 0) AS others, MAX(last_resort) AS has_last_resort
         FROM key_packages WHERE user_id = ? AND device_id = ? AND not_after > ? GROUP BY suite ORDER BY suite",
    )
    .bind(user.as_str())
    .bind(device.as_str())
    .bind(millis(usable_at))
    .fetch_all(db)
    .await?;
    let count = |row: &SqliteRow| {
        let row = Fields::new("key_packages", row);
        Ok(KeyPackageCount {
            suite: row.number("suite")?,
            left: row.number("others")?,
            has_last_resort: row.get::<i64>("has_last_resort")? != 0,
        })
    };
    found.iter().map(count).collect()
}

pub(crate) async fn expire(db: &mut SqliteConnection, now: UnixMillis) -> Result<(), Failure> {
    for sql in [
        "-- expire
         DELETE FROM key_packages WHERE not_after <= ?",
        "-- expire: spent
         DELETE FROM spent_key_packages WHERE not_after <= ?",
    ] {
        sqlx::query(sql).bind(millis(now)).execute(&mut *db).await?;
    }
    Ok(())
}
