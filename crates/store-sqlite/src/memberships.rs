//! Table `memberships`.

use nabe_auth::lm::Membership;
use nabe_core::{Checkpoint, Entry};
use nabe_store::{MembershipAt, RoomMembership, rules};
use nabe_types::{LogPosition, RoomId, ServerName, UserId};
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, SqliteConnection};

use crate::failure::Failure;
use crate::fields::Fields;

pub(crate) async fn rooms_of(db: &mut SqliteConnection, user: &UserId) -> Result<Vec<RoomMembership>, Failure> {
    // Next to MAX, SQLite takes the other columns from the row that has the maximum.
    let found = sqlx::query(
        "-- rooms_of
         SELECT m.rowid AS row_key, room_id, membership, MAX(position) AS position
         FROM memberships AS m JOIN rooms USING (room_no)
         WHERE user_id = ? GROUP BY room_no ORDER BY room_id",
    )
    .bind(user.as_str())
    .fetch_all(db)
    .await?;
    let current = |row: &SqliteRow| {
        let row = Fields::new("memberships", row);
        Ok(RoomMembership {
            room: row.text("room_id")?,
            membership: row.word("membership", Membership::parse)?,
            position: row.position("position")?,
        })
    };
    found.iter().map(current).collect()
}

pub(crate) async fn history(
    db: &mut SqliteConnection,
    room: &RoomId,
    user: &UserId,
) -> Result<Vec<MembershipAt>, Failure> {
    let found = sqlx::query(
        "-- history
         SELECT rowid AS row_key, position, membership FROM memberships
         WHERE room_no = (SELECT room_no FROM rooms WHERE room_id = ?) AND user_id = ? ORDER BY position",
    )
    .bind(room.as_str())
    .bind(user.as_str())
    .fetch_all(db)
    .await?;
    let step = |row: &SqliteRow| {
        let row = Fields::new("memberships", row);
        Ok(MembershipAt {
            position: row.position("position")?,
            membership: row.word("membership", Membership::parse)?,
        })
    };
    found.iter().map(step).collect()
}

pub(crate) async fn servers_sharing_rooms_with(
    db: &mut SqliteConnection,
    user: &UserId,
) -> Result<Vec<ServerName>, Failure> {
    // A localpart has no colon, so the server is what follows the first one.
    let found = sqlx::query(
        "-- servers_sharing_rooms_with
         WITH shared AS (
             SELECT room_no FROM (
                 SELECT room_no, membership, MAX(position) FROM memberships WHERE user_id = ? GROUP BY room_no
             ) WHERE membership = 'join'
         )
         SELECT DISTINCT 0 AS row_key, substr(user_id, instr(user_id, ':') + 1) AS server FROM (
             SELECT user_id, membership, MAX(position) FROM memberships
             WHERE room_no IN (SELECT room_no FROM shared) GROUP BY room_no, user_id
         ) WHERE membership = 'join' ORDER BY server",
    )
    .bind(user.as_str())
    .fetch_all(db)
    .await?;
    found
        .iter()
        .map(|row| Fields::new("memberships", row).text("server"))
        .collect()
}

pub(crate) async fn users_sharing_rooms_with(
    db: &mut SqliteConnection,
    user: &UserId,
    server: &ServerName,
) -> Result<Vec<UserId>, Failure> {
    let found = sqlx::query(
        "-- users_sharing_rooms_with
         WITH shared AS (
             SELECT room_no FROM (
                 SELECT room_no, membership, MAX(position) FROM memberships WHERE user_id = ? GROUP BY room_no
             ) WHERE membership = 'join'
         )
         SELECT DISTINCT 0 AS row_key, user_id FROM (
             SELECT user_id, membership, MAX(position) FROM memberships
             WHERE room_no IN (SELECT room_no FROM shared) AND substr(user_id, instr(user_id, ':') + 1) = ?
             GROUP BY room_no, user_id
         ) WHERE membership = 'join' ORDER BY user_id",
    )
    .bind(user.as_str())
    .bind(server.as_str())
    .fetch_all(db)
    .await?;
    found
        .iter()
        .map(|row| Fields::new("memberships", row).text("user_id"))
        .collect()
}

/// What entries, each with its room's number, say about memberships.
pub(crate) async fn learn<'a>(
    db: &mut SqliteConnection,
    entries: impl IntoIterator<Item = (i64, &'a Entry)>,
) -> Result<(), Failure> {
    let steps = entries.into_iter().filter_map(|(room_no, entry)| {
        let (user, membership) = rules::membership_set_by(entry.state_event()?)?;
        Some((room_no, user, entry.position, membership))
    });
    put(db, &steps.collect::<Vec<_>>()).await
}

/// What a snapshot says about memberships.
pub(crate) async fn learn_from_state(
    db: &mut SqliteConnection,
    room_no: i64,
    snapshot: &Checkpoint,
) -> Result<(), Failure> {
    let steps = snapshot.state.iter().filter_map(|event| {
        let (user, membership) = rules::membership_set_by(event)?;
        Some((room_no, user, snapshot.position, membership))
    });
    put(db, &steps.collect::<Vec<_>>()).await
}

/// Everyone is gone from a position on, until a snapshot there says otherwise.
pub(crate) async fn forget(db: &mut SqliteConnection, room_no: i64, position: LogPosition) -> Result<(), Failure> {
    sqlx::query(
        "-- forget
         INSERT INTO memberships (room_no, user_id, position, membership)
         SELECT room_no, user_id, ?, 'leave' FROM (
             SELECT room_no, user_id, membership, MAX(position) FROM memberships WHERE room_no = ? GROUP BY user_id
         ) WHERE membership <> 'leave'",
    )
    .bind(position.as_i64())
    .bind(room_no)
    .execute(db)
    .await?;
    Ok(())
}

async fn put(db: &mut SqliteConnection, steps: &[(i64, UserId, LogPosition, Membership)]) -> Result<(), Failure> {
    for chunk in steps.chunks(ROWS_PER_INSERT) {
        let sql = format!("{INSERT}(?,?,?,?){}", ",(?,?,?,?)".repeat(chunk.len() - 1));
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for (room_no, user, position, membership) in chunk {
            query = query
                .bind(*room_no)
                .bind(user.as_str())
                .bind(position.as_i64())
                .bind(membership.as_str());
        }
        query.execute(&mut *db).await?;
    }
    Ok(())
}

const INSERT: &str = "-- put
    INSERT OR REPLACE INTO memberships (room_no, user_id, position, membership) VALUES ";

const ROWS_PER_INSERT: usize = 64;
