//! Tables `accounts`, `devices` and `tokens`.

use nabe_store::{Account, StoreError};
use nabe_types::{DeviceId, UnixMillis, UserId};
use sqlx::SqliteConnection;

use crate::failure::Failure;
use crate::fields::{Fields, millis};

pub(crate) async fn account(db: &mut SqliteConnection, user: &UserId) -> Result<Option<Account>, Failure> {
    let row = sqlx::query(
        "-- account
         SELECT rowid AS row_key, created_at, deleted_at FROM accounts WHERE user_id = ?",
    )
    .bind(user.as_str())
    .fetch_optional(db)
    .await?;
    row.map(|row| {
        let row = Fields::new("accounts", &row);
        Ok(Account {
            user: user.clone(),
            created_at: row.moment("created_at")?,
            deleted_at: row.moment_or_null("deleted_at")?,
        })
    })
    .transpose()
}

pub(crate) async fn by_token(
    db: &mut SqliteConnection,
    token_hash: &[u8; 32],
) -> Result<Option<(UserId, Option<DeviceId>)>, Failure> {
    let row = sqlx::query(
        "-- by_token
         SELECT rowid AS row_key, user_id, device_id FROM tokens WHERE token_hash = ?",
    )
    .bind(&token_hash[..])
    .fetch_optional(db)
    .await?;
    row.map(|row| {
        let row = Fields::new("tokens", &row);
        Ok((row.text("user_id")?, row.text_or_null("device_id")?))
    })
    .transpose()
}

pub(crate) async fn devices(db: &mut SqliteConnection, user: &UserId) -> Result<Vec<DeviceId>, Failure> {
    let found = sqlx::query(
        "-- devices
         SELECT rowid AS row_key, device_id FROM devices WHERE user_id = ? ORDER BY device_id",
    )
    .bind(user.as_str())
    .fetch_all(db)
    .await?;
    found
        .iter()
        .map(|row| Fields::new("devices", row).text("device_id"))
        .collect()
}

pub(crate) async fn put(
    db: &mut SqliteConnection,
    user: &UserId,
    now: UnixMillis,
    token_hash: Option<&[u8; 32]>,
    device: Option<&DeviceId>,
) -> Result<(), Failure> {
    sqlx::query(
        "-- put: account
         INSERT INTO accounts (user_id, created_at) VALUES (?, ?) ON CONFLICT DO NOTHING",
    )
    .bind(user.as_str())
    .bind(millis(now))
    .execute(&mut *db)
    .await?;
    let is_deleted: bool = sqlx::query_scalar(
        "-- put: is the account deleted
         SELECT deleted_at IS NOT NULL FROM accounts WHERE user_id = ?",
    )
    .bind(user.as_str())
    .fetch_one(&mut *db)
    .await?;
    if is_deleted {
        return Err(StoreError::AccountDeleted { user: user.clone() }.into());
    }
    if let Some(device) = device {
        sqlx::query(
            "-- put: device
             INSERT INTO devices (user_id, device_id, created_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(user.as_str())
        .bind(device.as_str())
        .bind(millis(now))
        .execute(&mut *db)
        .await?;
    }
    if let Some(token_hash) = token_hash {
        sqlx::query(
            "-- put: token
             INSERT OR REPLACE INTO tokens (token_hash, user_id, device_id) VALUES (?, ?, ?)",
        )
        .bind(&token_hash[..])
        .bind(user.as_str())
        .bind(device.map(DeviceId::as_str))
        .execute(db)
        .await?;
    }
    Ok(())
}

/// With the devices go their key packages.
pub(crate) async fn delete(db: &mut SqliteConnection, user: &UserId, now: UnixMillis) -> Result<(), Failure> {
    let known = sqlx::query(
        "-- delete: account
         UPDATE accounts SET deleted_at = COALESCE(deleted_at, ?) WHERE user_id = ?",
    )
    .bind(millis(now))
    .bind(user.as_str())
    .execute(&mut *db)
    .await?;
    if known.rows_affected() == 0 {
        return Ok(());
    }
    for sql in [
        "-- delete: tokens
         DELETE FROM tokens WHERE user_id = ?",
        "-- delete: devices
         DELETE FROM devices WHERE user_id = ?",
        "-- delete: inbox
         DELETE FROM inbox WHERE user_id = ?",
        "-- delete: invites and knocks
         DELETE FROM pending WHERE user_id = ?",
    ] {
        sqlx::query(sql).bind(user.as_str()).execute(&mut *db).await?;
    }
    Ok(())
}

pub(crate) async fn revoke(db: &mut SqliteConnection, token_hash: &[u8; 32]) -> Result<(), Failure> {
    sqlx::query(
        "-- revoke
         DELETE FROM tokens WHERE token_hash = ?",
    )
    .bind(&token_hash[..])
    .execute(db)
    .await?;
    Ok(())
}
