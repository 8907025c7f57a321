//! Tables `media_files`, `media_uploads` and `media_names`.

use nabe_store::rules::UPLOAD_DAY;
use nabe_store::{MediaFile, MediaUse, StoreError, UploadLimits};
use nabe_types::{MediaId, ServerName, UnixMillis, UserId};
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use crate::failure::Failure;
use crate::fields::{Fields, millis};

pub(crate) async fn file(db: &mut SqliteConnection, hash: &[u8; 32]) -> Result<Option<MediaFile>, Failure> {
    let row = sqlx::query(
        "-- file
         SELECT rowid AS row_key, hash, size, uploaders FROM media_files WHERE hash = ?",
    )
    .bind(&hash[..])
    .fetch_optional(db)
    .await?;
    row.as_ref().map(read).transpose()
}

pub(crate) async fn cached(
    db: &mut SqliteConnection,
    server: &ServerName,
    media_id: &MediaId,
) -> Result<Option<MediaFile>, Failure> {
    let row = sqlx::query(
        "-- cached
         SELECT media_files.rowid AS row_key, hash, size, uploaders FROM media_names JOIN media_files USING (hash)
         WHERE server = ? AND media_id = ?",
    )
    .bind(server.as_str())
    .bind(media_id.as_str())
    .fetch_optional(db)
    .await?;
    row.as_ref().map(read).transpose()
}

pub(crate) async fn has_uploaded(db: &mut SqliteConnection, user: &UserId, hash: &[u8; 32]) -> Result<bool, Failure> {
    let row = sqlx::query(
        "-- has_uploaded
         SELECT 1 FROM media_uploads WHERE user_id = ? AND hash = ?",
    )
    .bind(user.as_str())
    .bind(&hash[..])
    .fetch_optional(db)
    .await?;
    Ok(row.is_some())
}

pub(crate) async fn used_by(
    db: &mut SqliteConnection,
    user: &UserId,
    recent_after: UnixMillis,
) -> Result<MediaUse, Failure> {
    let row = sqlx::query(
        "-- used_by
         SELECT COALESCE(SUM(size), 0) AS bytes, COALESCE(SUM(size) FILTER (WHERE uploaded_at > ?2), 0) AS recent,
                MIN(uploaded_at) FILTER (WHERE uploaded_at > ?2) AS first_recent
         FROM media_uploads WHERE user_id = ?1",
    )
    .bind(user.as_str())
    .bind(millis(recent_after))
    .fetch_one(db)
    .await?;
    let row = Fields::new("media_uploads", &row);
    Ok(MediaUse {
        bytes: row.number("bytes")?,
        recent_bytes: row.number("recent")?,
        first_recent: row.moment_or_null("first_recent")?,
    })
}

/// The newest first, each with what it and the newer ones take.
pub(crate) async fn beyond(db: &mut SqliteConnection, bytes: u64) -> Result<Vec<MediaFile>, Failure> {
    let rows = sqlx::query(
        "-- beyond
         SELECT row_key, hash, size, uploaders FROM (
             SELECT rowid AS row_key, hash, size, uploaders, SUM(size) OVER (ORDER BY cached_at DESC, hash DESC) AS taken
             FROM media_files WHERE uploaders = 0)
         WHERE taken > ? ORDER BY taken",
    )
    .bind(count(bytes))
    .fetch_all(db)
    .await?;
    rows.iter().map(read).collect()
}

pub(crate) async fn put_upload(
    db: &mut SqliteConnection,
    user: &UserId,
    hash: &[u8; 32],
    size: u64,
    now: UnixMillis,
    limits: UploadLimits,
) -> Result<(), Failure> {
    if has_uploaded(db, user, hash).await? {
        return Ok(());
    }
    let used = used_by(db, user, now.minus(UPLOAD_DAY)).await?;
    let fits = |used: u64, limit: u64| used.checked_add(size).is_some_and(|all| all <= limit);
    if !fits(used.bytes, limits.bytes) || !fits(used.recent_bytes, limits.bytes_per_day) {
        return Err(StoreError::OverQuota { user: user.clone() }.into());
    }
    sqlx::query(
        "-- put_upload
         INSERT INTO media_uploads (user_id, hash, size, uploaded_at) VALUES (?, ?, ?, ?)",
    )
    .bind(user.as_str())
    .bind(&hash[..])
    .bind(count(size))
    .bind(millis(now))
    .execute(&mut *db)
    .await?;
    sqlx::query(
        "-- put_upload: file
         INSERT INTO media_files (hash, size, uploaders) VALUES (?, ?, 1)
         ON CONFLICT (hash) DO UPDATE SET uploaders = uploaders + 1",
    )
    .bind(&hash[..])
    .bind(count(size))
    .execute(db)
    .await?;
    Ok(())
}

pub(crate) async fn remove_upload(db: &mut SqliteConnection, user: &UserId, hash: &[u8; 32]) -> Result<(), Failure> {
    let removed = sqlx::query(
        "-- remove_upload
         DELETE FROM media_uploads WHERE user_id = ? AND hash = ?",
    )
    .bind(user.as_str())
    .bind(&hash[..])
    .execute(&mut *db)
    .await?;
    if removed.rows_affected() == 0 {
        return Ok(());
    }
    for sql in [
        "-- remove_upload: count
         UPDATE media_files SET uploaders = uploaders - 1 WHERE hash = ?",
        "-- remove_upload: file
         DELETE FROM media_files WHERE hash = ? AND uploaders = 0 AND cached_at IS NULL",
    ] {
        sqlx::query(sql).bind(&hash[..]).execute(&mut *db).await?;
    }
    Ok(())
}

pub(crate) async fn put_cached(
    db: &mut SqliteConnection,
    (server, media_id): (&ServerName, &MediaId),
    hash: &[u8; 32],
    size: u64,
    now: UnixMillis,
) -> Result<(), Failure> {
    sqlx::query(
        "-- put_cached: name
         INSERT OR REPLACE INTO media_names (server, media_id, hash) VALUES (?, ?, ?)",
    )
    .bind(server.as_str())
    .bind(media_id.as_str())
    .bind(&hash[..])
    .execute(&mut *db)
    .await?;
    sqlx::query(
        "-- put_cached
         INSERT INTO media_files (hash, size, uploaders, cached_at) VALUES (?, ?, 0, ?)
         ON CONFLICT (hash) DO UPDATE SET cached_at = excluded.cached_at",
    )
    .bind(&hash[..])
    .bind(count(size))
    .bind(millis(now))
    .execute(db)
    .await?;
    Ok(())
}

pub(crate) async fn forget(db: &mut SqliteConnection, hash: &[u8; 32]) -> Result<(), Failure> {
    for sql in [
        "-- forget: names
         DELETE FROM media_names WHERE hash = ?",
        "-- forget: uploads
         DELETE FROM media_uploads WHERE hash = ?",
        "-- forget
         DELETE FROM media_files WHERE hash = ?",
    ] {
        sqlx::query(sql).bind(&hash[..]).execute(&mut *db).await?;
    }
    Ok(())
}

fn read(row: &SqliteRow) -> Result<MediaFile, Failure> {
    let row = Fields::new("media_files", row);
    Ok(MediaFile {
        hash: row.hash("hash")?,
        size: row.number("size")?,
        uploaders: row.number("uploaders")?,
    })
}

/// A count as the database keeps it; nothing that large exists.
fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
