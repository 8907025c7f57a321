//! Devices' objects: column `object` of `devices`, and table `remote_devices`, whose triggers keep `remote_device_bytes`.

use nabe_store::rules::{MAX_REMOTE_DEVICE_BYTES, MAX_REMOTE_DEVICES};
use nabe_store::{RemoteDevice, StoreError, StoredDevice};
use nabe_types::{DeviceId, UnixMillis, UserId};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use crate::accounts;
use crate::failure::Failure;
use crate::fields::{Fields, millis};

pub(crate) async fn device(
    db: &mut SqliteConnection,
    user: &UserId,
    device: &DeviceId,
) -> Result<Option<StoredDevice>, Failure> {
    let row = sqlx::query(
        "-- device
         SELECT rowid AS row_key, device_id, object FROM devices WHERE user_id = ? AND device_id = ?",
    )
    .bind(user.as_str())
    .bind(device.as_str())
    .fetch_optional(db)
    .await?;
    row.as_ref().map(stored_device).transpose()
}

pub(crate) async fn with_object(db: &mut SqliteConnection, user: &UserId) -> Result<Vec<StoredDevice>, Failure> {
    let found = sqlx::query(
        "-- with_object
         SELECT rowid AS row_key, device_id, object FROM devices
         WHERE user_id = ? AND object IS NOT NULL ORDER BY device_id",
    )
    .bind(user.as_str())
    .fetch_all(db)
    .await?;
    found.iter().map(stored_device).collect()
}

fn stored_device(row: &SqliteRow) -> Result<StoredDevice, Failure> {
    let row = Fields::new("devices", row);
    Ok(StoredDevice {
        device: row.text("device_id")?,
        object: row.get::<Option<Vec<u8>>>("object")?.map(Into::into),
    })
}

pub(crate) async fn remote(db: &mut SqliteConnection, user: &UserId) -> Result<Vec<RemoteDevice>, Failure> {
    let found = sqlx::query(
        "-- remote
         SELECT rowid AS row_key, device_id, object, updated_at FROM remote_devices
         WHERE user_id = ? ORDER BY device_id",
    )
    .bind(user.as_str())
    .fetch_all(db)
    .await?;
    let device = |row: &SqliteRow| {
        let row = Fields::new("remote_devices", row);
        Ok(RemoteDevice {
            user: user.clone(),
            device: row.text("device_id")?,
            object: row.bytes("object")?,
            updated_at: row.moment("updated_at")?,
        })
    };
    found.iter().map(device).collect()
}

pub(crate) async fn put_object(
    db: &mut SqliteConnection,
    user: &UserId,
    device: &DeviceId,
    object: &[u8],
    forget_key_packages: bool,
    now: UnixMillis,
) -> Result<(), Failure> {
    accounts::put(db, user, now, None, Some(device)).await?;
    sqlx::query(
        "-- put_object
         UPDATE devices SET object = ? WHERE user_id = ? AND device_id = ?",
    )
    .bind(object)
    .bind(user.as_str())
    .bind(device.as_str())
    .execute(&mut *db)
    .await?;
    if forget_key_packages {
        sqlx::query(
            "-- put_object: key packages
             DELETE FROM key_packages WHERE user_id = ? AND device_id = ?",
        )
        .bind(user.as_str())
        .bind(device.as_str())
        .execute(db)
        .await?;
    }
    Ok(())
}

/// Its key packages go with it.
pub(crate) async fn remove(db: &mut SqliteConnection, user: &UserId, device: &DeviceId) -> Result<(), Failure> {
    for sql in [
        "-- remove: tokens
         DELETE FROM tokens WHERE user_id = ? AND device_id = ?",
        "-- remove: inbox
         DELETE FROM inbox WHERE user_id = ? AND device_id = ?",
        "-- remove: device
         DELETE FROM devices WHERE user_id = ? AND device_id = ?",
    ] {
        sqlx::query(sql)
            .bind(user.as_str())
            .bind(device.as_str())
            .execute(&mut *db)
            .await?;
    }
    Ok(())
}

pub(crate) async fn put_remote(db: &mut SqliteConnection, device: &RemoteDevice) -> Result<(), Failure> {
    let taken = sqlx::query(
        "-- put_remote: limits
         SELECT (SELECT COUNT(*) FROM remote_devices WHERE user_id = ?1 AND device_id <> ?2) AS others,
                COALESCE((SELECT bytes FROM remote_device_bytes WHERE server = ?3), 0)
                - COALESCE((SELECT length(object) FROM remote_devices WHERE user_id = ?1 AND device_id = ?2), 0) AS bytes",
    )
    .bind(device.user.as_str())
    .bind(device.device.as_str())
    .bind(device.user.server_name().as_str())
    .fetch_one(&mut *db)
    .await?;
    let (others, bytes): (i64, i64) = (taken.try_get("others")?, taken.try_get("bytes")?);
    let bytes = usize::try_from(bytes).unwrap_or(0).saturating_add(device.object.len());
    if usize::try_from(others).unwrap_or(0) >= MAX_REMOTE_DEVICES || bytes > MAX_REMOTE_DEVICE_BYTES {
        let user = device.user.clone();
        return Err(StoreError::TooManyDevices { user }.into());
    }
    sqlx::query(
        "-- put_remote
         INSERT INTO remote_devices (user_id, device_id, server, object, updated_at) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT (user_id, device_id) DO UPDATE SET object = excluded.object, updated_at = excluded.updated_at",
    )
    .bind(device.user.as_str())
    .bind(device.device.as_str())
    .bind(device.user.server_name().as_str())
    .bind(&device.object[..])
    .bind(millis(device.updated_at))
    .execute(db)
    .await?;
    Ok(())
}

pub(crate) async fn remove_remote(db: &mut SqliteConnection, user: &UserId, device: &DeviceId) -> Result<(), Failure> {
    sqlx::query(
        "-- remove_remote
         DELETE FROM remote_devices WHERE user_id = ? AND device_id = ?",
    )
    .bind(user.as_str())
    .bind(device.as_str())
    .execute(db)
    .await?;
    Ok(())
}

pub(crate) async fn expire_remote(db: &mut SqliteConnection, before: UnixMillis) -> Result<(), Failure> {
    sqlx::query(
        "-- expire_remote
         DELETE FROM remote_devices WHERE updated_at < ?",
    )
    .bind(millis(before))
    .execute(db)
    .await?;
    Ok(())
}
