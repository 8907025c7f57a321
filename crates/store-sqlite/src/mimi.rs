//! Tables of MIMI's rooms: `mimi_rooms`, `mimi_entries`, `mimi_groups`, `mimi_changes`, `mimi_left_over` and `fetched_key_packages`. Who is notified is in
//! [`crate::notify`].

use bytes::Bytes;
use nabe_core::mimi::{Audience, KeyPackageRoute, MimiEntry, MimiUri, StoredMimiRoom};
use nabe_core::{FollowerChange, GroupChange, StoredGroup};
use nabe_store::{Between, FetchedKeyPackage, MimiWrite, StoreError};
use nabe_types::{LogPosition, ServerName, UnixMillis};
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, SqliteConnection};

use crate::failure::Failure;
use crate::fields::{Fields, blob_array, id_array, millis, rows};
use crate::{mimi_policy, mimi_reports, mimi_users, notify};

pub(crate) fn uri(row: Fields<'_>, column: &'static str) -> Result<MimiUri, Failure> {
    row.word(column, |text| MimiUri::parse(text).ok())
}

pub(crate) fn unknown(room: &MimiUri) -> Failure {
    StoreError::UnknownMimiRoom { room: room.clone() }.into()
}

fn conflict(room: &MimiUri) -> Failure {
    StoreError::MimiConflict { room: room.clone() }.into()
}

fn entry(row: &SqliteRow) -> Result<MimiEntry, Failure> {
    let row = Fields::new("mimi_entries", row);
    let audience: Option<&str> = row.get("audience")?;
    Ok(MimiEntry {
        position: row.position("position")?,
        kind: row.text("kind")?,
        accepted: row.moment("accepted")?,
        origin: row.text("origin")?,
        audience: match audience {
            None => Audience::Others,
            Some(names) => Audience::Only(providers(names).ok_or_else(|| row.bad("audience"))?),
        },
        body: row.bytes("body")?,
    })
}

/// The names in a JSON array. None of them needs an escape.
fn providers(array: &str) -> Option<Vec<ServerName>> {
    let names = array.strip_prefix('[')?.strip_suffix(']')?;
    let names = names.split(',').filter(|name| !name.is_empty());
    let name = |quoted: &str| ServerName::parse(quoted.strip_prefix('"')?.strip_suffix('"')?).ok();
    names.map(name).collect()
}

pub(crate) async fn write(db: &mut SqliteConnection, write: &MimiWrite) -> Result<(), Failure> {
    match write {
        MimiWrite::Found { room, now } => found(db, room, *now).await,
        MimiWrite::Append {
            room,
            expected,
            entries,
            group,
            left_over,
            followers,
            now,
        } => {
            let append = Append {
                room,
                expected: *expected,
                entries,
                group,
                left_over: left_over.as_ref(),
                followers,
                now: *now,
            };
            append_to(db, append).await
        }
        MimiWrite::PutGroup {
            room,
            position,
            checkpoint,
        } => put_group(db, room, *position, checkpoint).await,
        MimiWrite::Freeze { notification } => notify::freeze(db, notification).await,
        MimiWrite::Confirm {
            room,
            provider,
            body_sha256,
        } => notify::confirm(db, room, provider, body_sha256).await,
        MimiWrite::Skip {
            room,
            provider,
            interval_from,
            through,
        } => notify::skip(db, room, provider, *interval_from, *through).await,
        MimiWrite::Backoff {
            room,
            provider,
            failures,
            next_attempt,
            last_error,
        } => notify::back_off(db, room, provider, *failures, *next_attempt, last_error).await,
        MimiWrite::PutKeyPackages { packages } => put_key_packages(db, packages).await,
        MimiWrite::ForgetKeyPackages { references } => forget_key_packages(db, references).await,
        MimiWrite::ExpireKeyPackages { now } => expire_key_packages(db, *now).await,
        MimiWrite::User(write) => mimi_users::write(db, write).await,
        MimiWrite::Report(write) => mimi_reports::write(db, write).await,
        MimiWrite::Policy(write) => mimi_policy::write(db, write).await,
    }
}

pub(crate) async fn room_no(db: &mut SqliteConnection, room: &MimiUri) -> Result<i64, Failure> {
    let found: Option<i64> = sqlx::query_scalar(
        "-- mimi: room_no
         SELECT room_no FROM mimi_rooms WHERE uri = ?",
    )
    .bind(room.to_string())
    .fetch_optional(db)
    .await?;
    found.ok_or_else(|| unknown(room))
}

pub(crate) async fn room(db: &mut SqliteConnection, room: &MimiUri) -> Result<Option<StoredMimiRoom>, Failure> {
    let row = sqlx::query(
        "-- mimi: room
         SELECT r.room_no AS row_key, created_at, head_position, newest, newest_position, checkpoint, body AS left_over
         FROM mimi_rooms AS r LEFT JOIN mimi_groups USING (room_no) LEFT JOIN mimi_left_over USING (room_no)
         WHERE uri = ?",
    )
    .bind(room.to_string())
    .fetch_optional(&mut *db)
    .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let row = Fields::new("mimi_rooms", &row);
    let room_no: i64 = row.get("row_key")?;
    let changes = sqlx::query(
        "-- mimi: changes
         SELECT rowid AS row_key, position, body FROM mimi_changes WHERE room_no = ? ORDER BY position",
    )
    .bind(room_no)
    .fetch_all(&mut *db)
    .await?;
    let change = |row: &SqliteRow| {
        let row = Fields::new("mimi_changes", row);
        Ok(GroupChange {
            position: row.position("position")?,
            bytes: row.bytes("body")?,
        })
    };
    let proposals = sqlx::query(
        "-- mimi: proposals
         SELECT entry_no AS row_key, position, kind, accepted, origin, audience, body FROM mimi_entries
         WHERE room_no = ?1 AND kind = 'proposal' AND position > COALESCE(
             (SELECT MAX(position) FROM mimi_entries WHERE room_no = ?1 AND kind = 'commit'), 0
         )
         ORDER BY position",
    )
    .bind(room_no)
    .fetch_all(db)
    .await?;
    Ok(Some(StoredMimiRoom {
        uri: room.clone(),
        created_at: row.moment("created_at")?,
        position: row.position("head_position")?,
        newest: row.moment("newest")?,
        group: StoredGroup {
            checkpoint: row.get::<Option<Vec<u8>>>("checkpoint")?.map(Bytes::from),
            changes: changes.iter().map(change).collect::<Result<_, Failure>>()?,
            newest: row.position_or_null("newest_position")?,
        },
        left_over: row
            .get::<Option<Vec<u8>>>("left_over")?
            .map(Bytes::from)
            .unwrap_or_default(),
        proposals: proposals.iter().map(entry).collect::<Result<_, _>>()?,
    }))
}

pub(crate) async fn head(db: &mut SqliteConnection, room: &MimiUri) -> Result<Option<LogPosition>, Failure> {
    let head: Option<i64> = sqlx::query_scalar(
        "-- mimi: head
         SELECT head_position FROM mimi_rooms WHERE uri = ?",
    )
    .bind(room.to_string())
    .fetch_optional(db)
    .await?;
    Ok(head.map(LogPosition::new))
}

pub(crate) async fn all(db: &mut SqliteConnection) -> Result<Vec<MimiUri>, Failure> {
    let found = sqlx::query(
        "-- mimi: rooms
         SELECT room_no AS row_key, uri FROM mimi_rooms ORDER BY uri",
    )
    .fetch_all(db)
    .await?;
    found
        .iter()
        .map(|row| uri(Fields::new("mimi_rooms", row), "uri"))
        .collect()
}

pub(crate) async fn entries(
    db: &mut SqliteConnection,
    room: &MimiUri,
    between: Between,
    limit: usize,
    max_bytes: usize,
) -> Result<Vec<MimiEntry>, Failure> {
    let Some(through) = last_that_fits(db, room, between, limit, max_bytes).await? else {
        return Ok(Vec::new());
    };
    let found = sqlx::query(
        "-- mimi: entries
         SELECT entry_no AS row_key, position, kind, accepted, origin, audience, body
         FROM mimi_entries JOIN mimi_rooms USING (room_no)
         WHERE uri = ? AND position > ? AND position <= ? ORDER BY position",
    )
    .bind(room.to_string())
    .bind(between.after.as_i64())
    .bind(through.as_i64())
    .fetch_all(db)
    .await?;
    found.iter().map(entry).collect()
}

/// The last position so that not too many entries with not too many bytes are before it, by their sizes alone: no body is read for it.
/// Entries that are there stay as they are.
async fn last_that_fits(
    db: &mut SqliteConnection,
    room: &MimiUri,
    between: Between,
    limit: usize,
    max_bytes: usize,
) -> Result<Option<LogPosition>, Failure> {
    let last: Option<i64> = sqlx::query_scalar(
        "-- mimi: last_that_fits
         SELECT MAX(position) FROM (
             SELECT position, ROW_NUMBER() OVER preceding AS count, SUM(size) OVER preceding AS bytes FROM (
                 SELECT position, LENGTH(body) AS size FROM mimi_entries JOIN mimi_rooms USING (room_no)
                 WHERE uri = ? AND position > ? AND position <= ? ORDER BY position LIMIT +?
             )
             WINDOW preceding AS (ORDER BY position)
         )
         WHERE count = 1 OR bytes <= ?",
    )
    .bind(room.to_string())
    .bind(between.after.as_i64())
    .bind(between.through.as_i64())
    .bind(rows(limit))
    .bind(rows(max_bytes))
    .fetch_one(db)
    .await?;
    Ok(last.map(LogPosition::new))
}

async fn found(db: &mut SqliteConnection, room: &MimiUri, now: UnixMillis) -> Result<(), Failure> {
    let done = sqlx::query(
        "-- mimi: found
         INSERT INTO mimi_rooms (uri, created_at, head_position, newest, is_noted) VALUES (?1, ?2, 0, ?2, 1)
         ON CONFLICT DO NOTHING",
    )
    .bind(room.to_string())
    .bind(millis(now))
    .execute(db)
    .await?;
    if done.rows_affected() == 0 {
        return Err(conflict(room));
    }
    Ok(())
}

/// [`MimiWrite::Append`].
struct Append<'a> {
    room: &'a MimiUri,
    expected: LogPosition,
    entries: &'a [MimiEntry],
    group: &'a [GroupChange],
    left_over: Option<&'a Bytes>,
    followers: &'a [FollowerChange],
    now: UnixMillis,
}

async fn append_to(db: &mut SqliteConnection, append: Append<'_>) -> Result<(), Failure> {
    let Append { room, entries, .. } = append;
    let mut head = append.expected;
    let is_consecutive = entries.iter().all(|entry| {
        head = head.next();
        entry.position == head
    });
    if !is_consecutive {
        room_no(db, room).await?;
        return Err(conflict(room));
    }
    let newest = entries.last().map(|entry| millis(entry.accepted));
    let moved: Option<i64> = sqlx::query_scalar(
        "-- mimi: move_head
         UPDATE mimi_rooms SET head_position = ?1, newest = COALESCE(?2, newest)
         WHERE uri = ?3 AND head_position = ?4 RETURNING room_no",
    )
    .bind(head.as_i64())
    .bind(newest)
    .bind(room.to_string())
    .bind(append.expected.as_i64())
    .fetch_optional(&mut *db)
    .await?;
    let Some(room_no) = moved else {
        room_no(db, room).await?;
        return Err(conflict(room));
    };
    for entries in entries.chunks(ROWS_PER_INSERT) {
        add_entries(db, room_no, entries).await?;
    }
    for change in append.group {
        if change.position > head || !add_change(db, room_no, change).await? {
            return Err(conflict(room));
        }
    }
    if let Some(left_over) = append.left_over {
        put_left_over(db, room_no, left_over).await?;
    }
    notify::mark_dirty(db, room_no, append.now).await?;
    for change in append.followers {
        notify::change(db, room_no, head, change, append.now).await?;
    }
    Ok(())
}

async fn put_left_over(db: &mut SqliteConnection, room_no: i64, left_over: &Bytes) -> Result<(), Failure> {
    sqlx::query(
        "-- mimi: put_left_over
         INSERT INTO mimi_left_over (room_no, body) VALUES (?, ?)
         ON CONFLICT (room_no) DO UPDATE SET body = excluded.body",
    )
    .bind(room_no)
    .bind(&left_over[..])
    .execute(db)
    .await?;
    Ok(())
}

async fn add_entries(db: &mut SqliteConnection, room_no: i64, entries: &[MimiEntry]) -> Result<(), Failure> {
    let rows = vec!["(?, ?, ?, ?, ?, ?, ?)"; entries.len()].join(", ");
    let insert = format!(
        "-- mimi: add_entries
         INSERT INTO mimi_entries (room_no, position, kind, accepted, origin, audience, body) VALUES {rows}"
    );
    let mut query = sqlx::query(AssertSqlSafe(insert));
    for entry in entries {
        let audience = match &entry.audience {
            Audience::Others => None,
            Audience::Only(providers) => Some(id_array(providers.iter().map(ServerName::as_str))),
        };
        query = query
            .bind(room_no)
            .bind(entry.position.as_i64())
            .bind(entry.kind.to_string())
            .bind(millis(entry.accepted))
            .bind(entry.origin.as_str())
            .bind(audience)
            .bind(&entry.body[..]);
    }
    query.execute(db).await?;
    Ok(())
}

/// Whether it comes after the newest one kept.
async fn add_change(db: &mut SqliteConnection, room_no: i64, change: &GroupChange) -> Result<bool, Failure> {
    let moved = sqlx::query(
        "-- mimi: newest change
         INSERT INTO mimi_groups (room_no, newest_position) VALUES (?, ?)
         ON CONFLICT (room_no) DO UPDATE SET newest_position = excluded.newest_position
         WHERE newest_position < excluded.newest_position",
    )
    .bind(room_no)
    .bind(change.position.as_i64())
    .execute(&mut *db)
    .await?;
    if moved.rows_affected() == 0 {
        return Ok(false);
    }
    sqlx::query(
        "-- mimi: add_change
         INSERT INTO mimi_changes (room_no, position, body) VALUES (?, ?, ?)",
    )
    .bind(room_no)
    .bind(change.position.as_i64())
    .bind(&change.bytes[..])
    .execute(db)
    .await?;
    Ok(true)
}

async fn put_group(
    db: &mut SqliteConnection,
    room: &MimiUri,
    position: LogPosition,
    checkpoint: &Bytes,
) -> Result<(), Failure> {
    let room_no = room_no(db, room).await?;
    let put = sqlx::query(
        "-- mimi: put_group
         UPDATE mimi_groups SET checkpoint = ? WHERE room_no = ? AND newest_position = ?",
    )
    .bind(&checkpoint[..])
    .bind(room_no)
    .bind(position.as_i64())
    .execute(&mut *db)
    .await?;
    if put.rows_affected() == 0 {
        return Err(conflict(room));
    }
    sqlx::query(
        "-- mimi: drop_changes
         DELETE FROM mimi_changes WHERE room_no = ?",
    )
    .bind(room_no)
    .execute(db)
    .await?;
    Ok(())
}

pub(crate) async fn key_packages(
    db: &mut SqliteConnection,
    references: &[Bytes],
    room: Option<&MimiUri>,
) -> Result<Vec<FetchedKeyPackage>, Failure> {
    let found = sqlx::query(
        "-- mimi: key_packages
         SELECT rowid AS row_key, reference, room_uri, provider, user_uri, client_uri, expires_at, until_expiry
         FROM fetched_key_packages WHERE reference IN (SELECT unhex(value) FROM json_each(?1))
           AND (?2 IS NULL OR room_uri IN ('', ?2))",
    )
    .bind(blob_array(references))
    .bind(room.map(MimiUri::to_string))
    .fetch_all(db)
    .await?;
    let package = |row: &SqliteRow| {
        let row = Fields::new("fetched_key_packages", row);
        Ok(FetchedKeyPackage {
            reference: row.bytes("reference")?,
            route: KeyPackageRoute {
                provider: row.text("provider")?,
                user: uri(row, "user_uri")?,
                client: uri(row, "client_uri")?,
            },
            room: match row.get::<&str>("room_uri")? {
                "" => None,
                _ => Some(uri(row, "room_uri")?),
            },
            expires_at: row.moment("expires_at")?,
            until_expiry: row.get::<i64>("until_expiry")? != 0,
        })
    };
    found.iter().map(package).collect()
}

async fn put_key_packages(db: &mut SqliteConnection, packages: &[FetchedKeyPackage]) -> Result<(), Failure> {
    for package in packages {
        let room = package.room.as_ref().map(MimiUri::to_string);
        if room.is_some() {
            sqlx::query(
                "-- mimi: narrow_key_packages
                 DELETE FROM fetched_key_packages WHERE reference = ? AND room_uri = '' AND until_expiry = 0",
            )
            .bind(&package.reference[..])
            .execute(&mut *db)
            .await?;
        }
        sqlx::query(
            "-- mimi: put_key_packages
             INSERT INTO fetched_key_packages
                 (reference, room_uri, provider, user_uri, client_uri, expires_at, until_expiry)
             VALUES (?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT (reference, room_uri) DO UPDATE SET until_expiry = 1 WHERE excluded.until_expiry = 1",
        )
        .bind(&package.reference[..])
        .bind(room.unwrap_or_default())
        .bind(package.route.provider.as_str())
        .bind(package.route.user.to_string())
        .bind(package.route.client.to_string())
        .bind(millis(package.expires_at))
        .bind(package.until_expiry)
        .execute(&mut *db)
        .await?;
    }
    Ok(())
}

async fn forget_key_packages(db: &mut SqliteConnection, references: &[Bytes]) -> Result<(), Failure> {
    for reference in references {
        sqlx::query(
            "-- mimi: forget_key_packages
             DELETE FROM fetched_key_packages WHERE reference = ? AND until_expiry = 0",
        )
        .bind(&reference[..])
        .execute(&mut *db)
        .await?;
    }
    Ok(())
}

async fn expire_key_packages(db: &mut SqliteConnection, now: UnixMillis) -> Result<(), Failure> {
    sqlx::query(
        "-- mimi: expire_key_packages
         DELETE FROM fetched_key_packages WHERE expires_at < ?",
    )
    .bind(millis(now))
    .execute(db)
    .await?;
    Ok(())
}

/// Seven values each, far below SQLite's limit of 32766 per statement.
const ROWS_PER_INSERT: usize = 32;
