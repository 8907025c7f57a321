//! How far a room's followers are.

use nabe_core::RoomView;
use nabe_types::{LogPosition, RoomId, ServerName, UnixMillis, UserId};

use crate::error::Missing;
use crate::{Service, ServiceError};

/// What one server is owed of a room's log, and how far it got.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FollowerStatus {
    /// The server.
    pub server: ServerName,
    /// The first position it is owed.
    pub from: LogPosition,
    /// The last position it is owed; `None` while it takes part.
    pub until: Option<LogPosition>,
    /// The last position it has confirmed.
    pub delivered: LogPosition,
    /// How many positions it is behind.
    pub lag: u64,
    /// Since when something is waiting for it in this room.
    pub waiting_since: Option<UnixMillis>,
    /// Failed attempts in a row, for all rooms together.
    pub failures: u32,
    /// When the next attempt is due, after a failure.
    pub next_attempt: Option<UnixMillis>,
    /// What went wrong last, after a failure.
    pub last_error: Option<String>,
}

impl Service {
    /// The servers that follow, or once followed, a room whose hub we are, in ascending order. Empty in a room with another hub,
    /// which alone knows.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NotFound`] unless the user is in the room.
    pub async fn delivery(&self, user: &UserId, room: &RoomId) -> Result<Vec<FollowerStatus>, ServiceError> {
        if !self
            .read_room(room, |view| view.membership(user))
            .await?
            .eq(&nabe_auth::lm::Membership::Join)
        {
            return Err(ServiceError::NotFound(Missing::Room));
        }
        self.delivery_status(room).await
    }

    /// The same without asking who wants to know; for the operator.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NotFound`] for a room we do not have.
    pub async fn delivery_status(&self, room: &RoomId) -> Result<Vec<FollowerStatus>, ServiceError> {
        let head = self.read_room(room, RoomView::position).await?;
        let mut statuses = Vec::new();
        for follower in self.store().followers(room).await? {
            let destination = self.store().destination(&follower.server).await?;
            let failing = destination.filter(|destination| destination.failures > 0);
            let owed = follower.until.unwrap_or(head).min(head);
            statuses.push(FollowerStatus {
                server: follower.server,
                from: follower.from,
                until: follower.until,
                delivered: follower.delivered,
                lag: u64::try_from(owed.as_i64().saturating_sub(follower.delivered.as_i64())).unwrap_or(0),
                waiting_since: follower.dirty_since,
                failures: failing.as_ref().map_or(0, |destination| destination.failures),
                next_attempt: failing.as_ref().map(|destination| destination.next_attempt),
                last_error: failing.map(|destination| destination.last_error),
            });
        }
        Ok(statuses)
    }
}
