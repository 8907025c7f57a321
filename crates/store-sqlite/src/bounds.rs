//! A room's number and where its log begins and ends: what most writes ask first.

use nabe_store::StoreError;
use nabe_types::{LogPosition, RoomId};
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use crate::failure::Failure;
use crate::fields::Fields;

/// A room's number and the ends of its log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) room_no: i64,
    pub(crate) head: LogPosition,
    pub(crate) first: LogPosition,
}

impl TryFrom<&SqliteRow> for Bounds {
    type Error = Failure;

    fn try_from(row: &SqliteRow) -> Result<Self, Failure> {
        let row = Fields::new("rooms", row);
        Ok(Self {
            room_no: row.get("row_key")?,
            head: row.position("head_position")?,
            first: row.position("first_position")?,
        })
    }
}

pub(crate) fn conflict(room: &RoomId) -> Failure {
    StoreError::Conflict { room: room.clone() }.into()
}

pub(crate) async fn bounds(db: &mut SqliteConnection, room: &RoomId) -> Result<Option<Bounds>, Failure> {
    let row = sqlx::query(
        "-- bounds
         SELECT room_no AS row_key, head_position, first_position FROM rooms WHERE room_id = ?",
    )
    .bind(room.as_str())
    .fetch_optional(db)
    .await?;
    row.as_ref().map(Bounds::try_from).transpose()
}

/// [`bounds`] of a room that must exist.
pub(crate) async fn require(db: &mut SqliteConnection, room: &RoomId) -> Result<Bounds, Failure> {
    bounds(db, room)
        .await?
        .ok_or_else(|| StoreError::UnknownRoom { room: room.clone() }.into())
}
