//! Table `rooms`, and the writes that touch all of a room's tables.

use std::collections::BTreeMap;

use nabe_core::{Checkpoint, Entry, FollowerChange, Role, RoomMeta};
use nabe_event::Pdu;
use nabe_store::{Between, Order, RoomSummary, StoredRoom, rules};
use nabe_types::{LogPosition, RoomId, UnixMillis};
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use crate::bounds::{Bounds, bounds, conflict, require};
use crate::failure::Failure;
use crate::fields::{Fields, array, millis, quoted};
use crate::{checkpoints, entries, followers, groups, memberships};

fn meta(row: Fields<'_>) -> Result<RoomMeta, Failure> {
    let role = match row.text_or_null("hub")? {
        None => Role::Hub,
        Some(hub) => Role::Participant { hub },
    };
    Ok(RoomMeta {
        room_id: row.text("room_id")?,
        version: row.text("version")?,
        role,
        created_at: row.moment("created_at")?,
    })
}

pub(crate) async fn rooms(db: &mut SqliteConnection) -> Result<Vec<RoomSummary>, Failure> {
    let found = sqlx::query(
        "-- rooms
         SELECT room_no AS row_key, room_id, version, hub, created_at, head_position, first_position
         FROM rooms ORDER BY room_id",
    )
    .fetch_all(db)
    .await?;
    let summary = |row: &SqliteRow| {
        let bounds = Bounds::try_from(row)?;
        Ok(RoomSummary {
            meta: meta(Fields::new("rooms", row))?,
            head: bounds.head,
            first: bounds.first,
        })
    };
    found.iter().map(summary).collect()
}

pub(crate) async fn load(db: &mut SqliteConnection, room: &RoomId) -> Result<Option<StoredRoom>, Failure> {
    let row = sqlx::query(
        "-- load
         SELECT room_no AS row_key, room_id, version, hub, created_at FROM rooms WHERE room_id = ?",
    )
    .bind(room.as_str())
    .fetch_optional(&mut *db)
    .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let row = Fields::new("rooms", &row);
    let (meta, room_no) = (meta(row)?, row.get("row_key")?);
    let checkpoint = checkpoints::newest(db, room_no, Between::ALL).await?;
    let after = checkpoint
        .as_ref()
        .map_or(Between::ALL.after, |checkpoint| checkpoint.position);
    let tail = entries::entries(db, room, Between::after(after), usize::MAX, Order::Ascending).await?;
    Ok(Some(StoredRoom {
        meta,
        checkpoint,
        tail,
        group: groups::load(db, room_no).await?,
    }))
}

pub(crate) async fn state_before(
    db: &mut SqliteConnection,
    room: &RoomId,
    position: LogPosition,
) -> Result<Option<Vec<Pdu>>, Failure> {
    let Some(Bounds { room_no, head, first }) = bounds(db, room).await? else {
        return Ok(None);
    };
    if position < first || position > head.next() {
        return Ok(None);
    }
    let usable = Between {
        after: first.previous().previous(),
        through: position.previous(),
    };
    if let Some(base) = checkpoints::newest(db, room_no, usable).await? {
        let rest = Between {
            after: base.position,
            through: position.previous(),
        };
        return Ok(Some(rules::fold(
            base.state,
            entries::state_entries(db, room, rest).await?,
        )));
    }
    let beginning = entries::entries(db, room, Between::ALL, 1, Order::Ascending).await?;
    if !beginning.iter().all(rules::is_beginning) {
        return Ok(None);
    }
    let before = entries::state_entries(db, room, Between::through(position.previous())).await?;
    Ok(Some(rules::fold(Vec::new(), before)))
}

pub(crate) async fn create(
    db: &mut SqliteConnection,
    meta: &RoomMeta,
    checkpoint: Option<&Checkpoint>,
    outliers: &[Pdu],
) -> Result<(), Failure> {
    let head = checkpoint.map_or(LogPosition::ZERO, |checkpoint| checkpoint.position);
    let hub = match &meta.role {
        Role::Hub => None,
        Role::Participant { hub } => Some(hub.as_str()),
    };
    let created = sqlx::query(
        "-- create
         INSERT INTO rooms (room_id, version, hub, created_at, head_position, first_position)
         VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
    )
    .bind(meta.room_id.as_str())
    .bind(meta.version.as_str())
    .bind(hub)
    .bind(millis(meta.created_at))
    .bind(head.as_i64())
    .bind(head.next().as_i64())
    .execute(&mut *db)
    .await?;
    if created.rows_affected() == 0 {
        return Err(conflict(&meta.room_id));
    }
    let room_no = created.last_insert_rowid();
    entries::add_outliers(db, room_no, outliers).await?;
    match checkpoint {
        Some(checkpoint) => keep_snapshot(db, room_no, checkpoint).await,
        None => Ok(()),
    }
}

/// One room's part of [`append_together`], or a whole [`nabe_store::Write::Append`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Append<'a> {
    pub(crate) room: &'a RoomId,
    pub(crate) expected: LogPosition,
    pub(crate) entries: &'a [Entry],
    pub(crate) followers: &'a [FollowerChange],
    pub(crate) now: UnixMillis,
}

impl Append<'_> {
    fn head(&self) -> LogPosition {
        self.entries.last().map_or(self.expected, |entry| entry.position)
    }

    fn is_consecutive(&self) -> bool {
        rules::are_consecutive(self.expected.next(), self.entries)
    }
}

pub(crate) async fn append(db: &mut SqliteConnection, append: Append<'_>) -> Result<(), Failure> {
    let Append { room, entries, now, .. } = append;
    if !append.is_consecutive() {
        require(db, room).await?;
        return Err(conflict(room));
    }
    let head = append.head();
    let room_no = move_head(db, room, append.expected, head).await?;
    if !entries.is_empty() {
        followers::mark_dirty(db, [(room_no, now)]).await?;
        entries::add(db, room, room_no, entries).await?;
        memberships::learn(db, entries.iter().map(|entry| (room_no, entry))).await?;
    }
    for change in append.followers {
        followers::change(db, room_no, head, change, now).await?;
    }
    Ok(())
}

/// Appends to many rooms, no two of them the same, with as many statements as to one. Whether every append could be made; if
/// not, part of what was asked may have been done and must be undone, and only one by one they tell which is refused.
pub(crate) async fn append_together(db: &mut SqliteConnection, appends: &[Append<'_>]) -> Result<bool, Failure> {
    if !appends.iter().all(Append::is_consecutive) {
        return Ok(false);
    }
    let Some(room_nos) = move_heads(db, appends).await? else {
        return Ok(false);
    };
    let numbered = || room_nos.iter().copied().zip(appends);
    let grown = numbered().filter(|(_, append)| !append.entries.is_empty());
    followers::mark_dirty(db, grown.map(|(room_no, append)| (room_no, append.now))).await?;
    let entries: Vec<_> = numbered()
        .flat_map(|(room_no, append)| append.entries.iter().map(move |entry| (room_no, entry)))
        .collect();
    if !entries::add_together(db, &entries).await? {
        return Ok(false);
    }
    memberships::learn(db, entries).await?;
    for (room_no, append) in numbered() {
        for change in append.followers {
            followers::change(db, room_no, append.head(), change, append.now).await?;
        }
    }
    Ok(true)
}

pub(crate) async fn rebase(
    db: &mut SqliteConnection,
    room: &RoomId,
    expected: LogPosition,
    checkpoint: &Checkpoint,
    outliers: &[Pdu],
) -> Result<(), Failure> {
    let head = expected.next();
    if checkpoint.position != head {
        require(db, room).await?;
        return Err(conflict(room));
    }
    let room_no = move_head(db, room, expected, head).await?;
    entries::add_outliers(db, room_no, outliers).await?;
    memberships::forget(db, room_no, head).await?;
    groups::forget(db, room_no).await?;
    keep_snapshot(db, room_no, checkpoint).await
}

pub(crate) async fn prepend(
    db: &mut SqliteConnection,
    room: &RoomId,
    expected_first: LogPosition,
    added: &[Entry],
) -> Result<(), Failure> {
    let bounds = require(db, room).await?;
    let Some(first) = added.first().map(|entry| entry.position) else {
        return Ok(());
    };
    let ends_right = added
        .last()
        .is_some_and(|entry| entry.position.next() == expected_first);
    if bounds.first != expected_first || !ends_right || !rules::are_consecutive(first, added) {
        return Err(conflict(room));
    }
    move_first(db, bounds.room_no, first).await?;
    entries::add(db, room, bounds.room_no, added).await?;
    memberships::learn(db, added.iter().map(|entry| (bounds.room_no, entry))).await
}

pub(crate) async fn prune(db: &mut SqliteConnection, room: &RoomId, below: LogPosition) -> Result<(), Failure> {
    let Bounds { room_no, first, .. } = require(db, room).await?;
    if below <= first {
        return Ok(());
    }
    let is_covered = checkpoints::is_at_or_after(db, room_no, below).await?;
    if !is_covered || followers::is_owed_before(db, room_no, below).await? {
        return Err(conflict(room));
    }
    move_first(db, room_no, below).await?;
    entries::drop_before(db, room_no, below).await?;
    checkpoints::drop_before(db, room_no, below.previous()).await
}

/// A checkpoint that is where our knowledge begins (again), so that memberships are learned from it too.
async fn keep_snapshot(db: &mut SqliteConnection, room_no: i64, checkpoint: &Checkpoint) -> Result<(), Failure> {
    checkpoints::insert(db, room_no, checkpoint).await?;
    memberships::learn_from_state(db, room_no, checkpoint).await
}

/// Moves the head if it is where it is expected; the room's number.
async fn move_head(
    db: &mut SqliteConnection,
    room: &RoomId,
    expected: LogPosition,
    head: LogPosition,
) -> Result<i64, Failure> {
    let moved: Option<i64> = sqlx::query_scalar(
        "-- move_head
         UPDATE rooms SET head_position = ? WHERE room_id = ? AND head_position = ? RETURNING room_no",
    )
    .bind(head.as_i64())
    .bind(room.as_str())
    .bind(expected.as_i64())
    .fetch_optional(&mut *db)
    .await?;
    match moved {
        Some(room_no) => Ok(room_no),
        None => {
            require(db, room).await?;
            Err(conflict(room))
        }
    }
}

/// [`move_head`] of many rooms; their numbers, in the order of the appends. `None` if one is not as expected.
async fn move_heads(db: &mut SqliteConnection, appends: &[Append<'_>]) -> Result<Option<Vec<i64>>, Failure> {
    let moves = appends.iter().map(|append| {
        let ends = [append.expected, append.head()].map(|end| end.as_i64().to_string());
        array(std::iter::once(quoted(append.room.as_str())).chain(ends))
    });
    let moved = sqlx::query(
        "-- move_heads
         UPDATE rooms SET head_position = moved.value ->> 2 FROM json_each(?) AS moved
         WHERE room_id = moved.value ->> 0 AND head_position = moved.value ->> 1
         RETURNING room_no AS row_key, room_id",
    )
    .bind(array(moves))
    .fetch_all(db)
    .await?;
    let mut room_nos = BTreeMap::new();
    for row in &moved {
        let row = Fields::new("rooms", row);
        let room: &str = row.get("room_id")?;
        room_nos.insert(room, row.get("row_key")?);
    }
    let room_nos = appends.iter().map(|append| room_nos.get(append.room.as_str()).copied());
    Ok(room_nos.collect())
}

async fn move_first(db: &mut SqliteConnection, room_no: i64, first: LogPosition) -> Result<(), Failure> {
    sqlx::query(
        "-- move_first
         UPDATE rooms SET first_position = ? WHERE room_no = ?",
    )
    .bind(first.as_i64())
    .bind(room_no)
    .execute(db)
    .await?;
    Ok(())
}
