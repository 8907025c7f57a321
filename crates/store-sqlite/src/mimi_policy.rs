//! Tables `mimi_join_links`, `mimi_fixed_rooms` and `mimi_child_rooms`.

use async_trait::async_trait;
use bytes::Bytes;
use nabe_core::mimi::MimiUri;
use nabe_store::{JoinLinkTerms, PolicyStore, PolicyWrite, StoreError};
use sqlx::SqliteConnection;

use crate::failure::Failure;
use crate::fields::{Fields, millis, rows};
use crate::mimi::{room_no, uri};
use crate::{SqliteStore, read};

pub(crate) async fn write(db: &mut SqliteConnection, write: &PolicyWrite) -> Result<(), Failure> {
    match write {
        PolicyWrite::ChangeJoinLinks { room, added, removed } => {
            let room_no = room_no(db, room).await?;
            for link in removed {
                remove_link(db, room_no, link).await?;
            }
            for terms in added {
                add_link(db, room_no, terms).await?;
            }
            Ok(())
        }
        PolicyWrite::UseJoinLink { room, link, user } => use_link(db, room, link, user).await,
        PolicyWrite::SetFixedMembers { room, members_sha256 } => {
            set_fixed_members(db, room, members_sha256.as_ref()).await
        }
        PolicyWrite::SetParent { room, parent } => set_parent(db, room, parent.as_ref()).await,
        PolicyWrite::MarkChildrenDue { parent } => mark_children_due(db, parent).await,
        PolicyWrite::ChildIsDone { room } => child_is_done(db, room).await,
        PolicyWrite::Noted { room } => noted(db, room).await,
    }
}

async fn add_link(db: &mut SqliteConnection, room_no: i64, terms: &JoinLinkTerms) -> Result<(), Failure> {
    sqlx::query(
        "-- mimi_policy: add_link
         INSERT INTO mimi_join_links (room_no, link, expires_at, multiuser, used_by) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT DO NOTHING",
    )
    .bind(room_no)
    .bind(&terms.link[..])
    .bind(terms.expires_at.map(millis))
    .bind(terms.multiuser)
    .bind(terms.used_by.as_ref().map(MimiUri::to_string))
    .execute(db)
    .await?;
    Ok(())
}

async fn remove_link(db: &mut SqliteConnection, room_no: i64, link: &Bytes) -> Result<(), Failure> {
    sqlx::query(
        "-- mimi_policy: remove_link
         DELETE FROM mimi_join_links WHERE room_no = ? AND link = ?",
    )
    .bind(room_no)
    .bind(&link[..])
    .execute(db)
    .await?;
    Ok(())
}

async fn use_link(db: &mut SqliteConnection, room: &MimiUri, link: &Bytes, user: &MimiUri) -> Result<(), Failure> {
    let room_no = room_no(db, room).await?;
    sqlx::query(
        "-- mimi_policy: use_link
         UPDATE mimi_join_links SET used_by = ? WHERE room_no = ? AND link = ? AND used_by IS NULL",
    )
    .bind(user.to_string())
    .bind(room_no)
    .bind(&link[..])
    .execute(db)
    .await?;
    Ok(())
}

async fn set_fixed_members(
    db: &mut SqliteConnection,
    room: &MimiUri,
    members_sha256: Option<&[u8; 32]>,
) -> Result<(), Failure> {
    let room_no = room_no(db, room).await?;
    sqlx::query(
        "-- mimi_policy: unset_fixed_members
         DELETE FROM mimi_fixed_rooms WHERE room_no = ?",
    )
    .bind(room_no)
    .execute(&mut *db)
    .await?;
    let Some(members) = members_sha256 else {
        return Ok(());
    };
    let set = sqlx::query(
        "-- mimi_policy: set_fixed_members
         INSERT INTO mimi_fixed_rooms (room_no, members_sha256) VALUES (?, ?) ON CONFLICT DO NOTHING",
    )
    .bind(room_no)
    .bind(&members[..])
    .execute(&mut *db)
    .await?;
    if set.rows_affected() > 0 {
        return Ok(());
    }
    let room = fixed_room(db, members).await?;
    Err(StoreError::FixedMembersTaken { room }.into())
}

async fn set_parent(db: &mut SqliteConnection, room: &MimiUri, parent: Option<&MimiUri>) -> Result<(), Failure> {
    let room_no = room_no(db, room).await?;
    let Some(parent) = parent else {
        sqlx::query(
            "-- mimi_policy: unset_parent
             DELETE FROM mimi_child_rooms WHERE room_no = ?",
        )
        .bind(room_no)
        .execute(db)
        .await?;
        return Ok(());
    };
    sqlx::query(
        "-- mimi_policy: set_parent
         INSERT INTO mimi_child_rooms (room_no, parent_uri, is_due) VALUES (?, ?, 1)
         ON CONFLICT (room_no) DO UPDATE SET parent_uri = excluded.parent_uri, is_due = 1
         WHERE parent_uri <> excluded.parent_uri",
    )
    .bind(room_no)
    .bind(parent.to_string())
    .execute(db)
    .await?;
    Ok(())
}

async fn mark_children_due(db: &mut SqliteConnection, parent: &MimiUri) -> Result<(), Failure> {
    sqlx::query(
        "-- mimi_policy: mark_children_due
         UPDATE mimi_child_rooms SET is_due = 1 WHERE parent_uri = ?",
    )
    .bind(parent.to_string())
    .execute(db)
    .await?;
    Ok(())
}

async fn child_is_done(db: &mut SqliteConnection, room: &MimiUri) -> Result<(), Failure> {
    let room_no = room_no(db, room).await?;
    sqlx::query(
        "-- mimi_policy: child_is_done
         UPDATE mimi_child_rooms SET is_due = 0 WHERE room_no = ?",
    )
    .bind(room_no)
    .execute(db)
    .await?;
    Ok(())
}

async fn noted(db: &mut SqliteConnection, room: &MimiUri) -> Result<(), Failure> {
    let room_no = room_no(db, room).await?;
    sqlx::query(
        "-- mimi_policy: noted
         UPDATE mimi_rooms SET is_noted = 1 WHERE room_no = ?",
    )
    .bind(room_no)
    .execute(db)
    .await?;
    Ok(())
}

async fn rooms_to_note(
    db: &mut SqliteConnection,
    after: Option<&MimiUri>,
    limit: usize,
) -> Result<Vec<MimiUri>, Failure> {
    let found = sqlx::query(
        "-- mimi_policy: rooms_to_note
         SELECT room_no AS row_key, uri FROM mimi_rooms WHERE is_noted = 0 AND uri > ? ORDER BY uri LIMIT +?",
    )
    .bind(after.map(MimiUri::to_string).unwrap_or_default())
    .bind(rows(limit))
    .fetch_all(db)
    .await?;
    found
        .iter()
        .map(|row| uri(Fields::new("mimi_rooms", row), "uri"))
        .collect()
}

async fn join_link(db: &mut SqliteConnection, room: &MimiUri, link: &[u8]) -> Result<Option<JoinLinkTerms>, Failure> {
    let row = sqlx::query(
        "-- mimi_policy: join_link
         SELECT l.rowid AS row_key, link, expires_at, multiuser, used_by
         FROM mimi_join_links AS l JOIN mimi_rooms USING (room_no) WHERE uri = ? AND link = ?",
    )
    .bind(room.to_string())
    .bind(link)
    .fetch_optional(db)
    .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let row = Fields::new("mimi_join_links", &row);
    let is_used = row.get::<Option<&str>>("used_by")?.is_some();
    Ok(Some(JoinLinkTerms {
        link: row.bytes("link")?,
        expires_at: row.moment_or_null("expires_at")?,
        multiuser: row.get::<i64>("multiuser")? != 0,
        used_by: is_used.then(|| uri(row, "used_by")).transpose()?,
    }))
}

/// The room that has these users.
async fn fixed_room(db: &mut SqliteConnection, members_sha256: &[u8; 32]) -> Result<MimiUri, Failure> {
    let row = sqlx::query(
        "-- mimi_policy: fixed_room
         SELECT room_no AS row_key, uri FROM mimi_fixed_rooms JOIN mimi_rooms USING (room_no) WHERE members_sha256 = ?",
    )
    .bind(&members_sha256[..])
    .fetch_one(db)
    .await?;
    uri(Fields::new("mimi_rooms", &row), "uri")
}

async fn due_child_rooms(
    db: &mut SqliteConnection,
    after: Option<&MimiUri>,
    limit: usize,
) -> Result<Vec<MimiUri>, Failure> {
    let found = sqlx::query(
        "-- mimi_policy: due_child_rooms
         SELECT room_no AS row_key, uri FROM mimi_child_rooms JOIN mimi_rooms USING (room_no)
         WHERE is_due = 1 AND uri > ? ORDER BY uri LIMIT +?",
    )
    .bind(after.map(MimiUri::to_string).unwrap_or_default())
    .bind(rows(limit))
    .fetch_all(db)
    .await?;
    found
        .iter()
        .map(|row| uri(Fields::new("mimi_rooms", row), "uri"))
        .collect()
}

#[async_trait]
impl PolicyStore for SqliteStore {
    async fn join_link(&self, room: &MimiUri, link: &[u8]) -> Result<Option<JoinLinkTerms>, StoreError> {
        read!(self, join_link, room, link)
    }

    async fn due_child_rooms(&self, after: Option<&MimiUri>, limit: usize) -> Result<Vec<MimiUri>, StoreError> {
        read!(self, due_child_rooms, after, limit)
    }

    async fn rooms_to_note(&self, after: Option<&MimiUri>, limit: usize) -> Result<Vec<MimiUri>, StoreError> {
        read!(self, rooms_to_note, after, limit)
    }
}
