//! Invite, join, leave, knock, kick, ban, unban: membership events by local users, wherever the hub is.

use nabe_auth::lm::Membership;
use nabe_core::Role;
use nabe_signing::object;
use nabe_types::{RoomId, ServerName, UserId};

use super::send_event::{MEMBER, NewEvent, Sent};
use crate::error::Missing;
use crate::{Service, ServiceError};

/// A room was left, an invite rejected or a knock taken back.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Left {
    /// What became of the event, where there is one in a room of ours.
    pub sent: Option<Sent>,
    /// Whether the hub knows. `false` when it could not be reached: the invite is gone from the user's list all the same.
    pub hub_told: bool,
}

impl Service {
    /// Invites a user (LM #int-transport-invites).
    ///
    /// # Errors
    ///
    /// Those of [`send_event`](Self::send_event); [`ServiceError::PolicyRefused`]; [`ServiceError::Proxied`] with what the invited
    /// user's server answered when it does not sign.
    pub async fn invite_user(
        &self,
        user: &UserId,
        room: &RoomId,
        target: &UserId,
        reason: Option<&str>,
    ) -> Result<Sent, ServiceError> {
        self.check_policy(target.server_name())?;
        let meta = self
            .room_meta(room)
            .await?
            .ok_or(ServiceError::NotFound(Missing::Room))?;
        let event = membership_event(target, "invite", reason)?;
        if let Role::Participant { hub } = &meta.role {
            let server = target.server_name();
            // LM #int-api-invite: `/invite` is for servers that do not take part yet, `/send` for the others.
            let (membership, takes_part) = self
                .read_room(room, |view| (view.membership(user), view.is_participating(server)))
                .await?;
            if membership != Membership::Join {
                return Err(ServiceError::NotInRoom);
            }
            if !takes_part {
                return self.invite_through_hub(&meta, hub, user, event).await;
            }
        }
        self.author(user, room, event, None).await
    }

    /// Joins a room: by itself where we know it, otherwise through its hub (LM #int-transport-make-and-send). `via` are servers
    /// that may be or know the hub.
    ///
    /// # Errors
    ///
    /// [`ServiceError::RejectedByHub`] or [`ServiceError::Refused`] when the rules forbid it, [`ServiceError::PeerFailed`] when no
    /// server asked gave an answer, [`ServiceError::IncompatibleRoomVersion`].
    pub async fn join(&self, user: &UserId, room: &RoomId, via: &[ServerName]) -> Result<Sent, ServiceError> {
        if self.is_connected(room).await? {
            return self
                .author(user, room, membership_event(user, "join", None)?, None)
                .await;
        }
        self.join_remote(user, room, via).await
    }

    /// Leaves a room, rejects an invite or takes back a knock.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NotFound`] when there is nothing to leave; otherwise those of [`join`](Self::join).
    pub async fn leave(&self, user: &UserId, room: &RoomId, reason: Option<&str>) -> Result<Left, ServiceError> {
        if self.is_connected(room).await? {
            let sent = self
                .author(user, room, membership_event(user, "leave", reason)?, None)
                .await?;
            return Ok(Left {
                sent: Some(sent),
                hub_told: true,
            });
        }
        let hub_told = self.leave_remote(user, room).await?;
        Ok(Left { sent: None, hub_told })
    }

    /// Asks to be let into a room (LM #int-api-make-knock).
    ///
    /// # Errors
    ///
    /// Those of [`join`](Self::join).
    pub async fn knock(
        &self,
        user: &UserId,
        room: &RoomId,
        via: &[ServerName],
        reason: Option<&str>,
    ) -> Result<Option<Sent>, ServiceError> {
        let event = membership_event(user, "knock", reason)?;
        if self.is_connected(room).await? {
            return self.author(user, room, event, None).await.map(Some);
        }
        self.knock_remote(user, room, via, event).await?;
        Ok(None)
    }

    /// Removes a user from a room, or takes back their invite, or refuses their knock.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NotFound`] when the target is not there; otherwise those of [`send_event`](Self::send_event).
    pub async fn kick(
        &self,
        user: &UserId,
        room: &RoomId,
        target: &UserId,
        reason: Option<&str>,
    ) -> Result<Sent, ServiceError> {
        let removable = [Membership::Join, Membership::Invite, Membership::Knock];
        self.remove(user, room, target, &removable, reason).await
    }

    /// Bars a user from a room, whether they are in it or not.
    ///
    /// # Errors
    ///
    /// Those of [`send_event`](Self::send_event).
    pub async fn ban(
        &self,
        user: &UserId,
        room: &RoomId,
        target: &UserId,
        reason: Option<&str>,
    ) -> Result<Sent, ServiceError> {
        self.author(user, room, membership_event(target, "ban", reason)?, None)
            .await
    }

    /// Lifts a ban.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NotFound`] when the target is not banned; otherwise those of [`send_event`](Self::send_event).
    pub async fn unban(
        &self,
        user: &UserId,
        room: &RoomId,
        target: &UserId,
        reason: Option<&str>,
    ) -> Result<Sent, ServiceError> {
        self.remove(user, room, target, &[Membership::Ban], reason).await
    }

    async fn remove(
        &self,
        user: &UserId,
        room: &RoomId,
        target: &UserId,
        from: &[Membership],
        reason: Option<&str>,
    ) -> Result<Sent, ServiceError> {
        let membership = self.read_room(room, |view| view.membership(target)).await?;
        if !from.contains(&membership) {
            return Err(ServiceError::NotFound(Missing::User));
        }
        self.author(user, room, membership_event(target, "leave", reason)?, None)
            .await
    }

    /// Whether we are the room's hub, or hear from it because we have joined users.
    async fn is_connected(&self, room: &RoomId) -> Result<bool, ServiceError> {
        let us = self.server_name();
        let read = self
            .read_room(room, |view| view.meta().is_hub() || view.is_participating(us))
            .await;
        match read {
            Err(ServiceError::NotFound(Missing::Room)) => Ok(false),
            read => read,
        }
    }
}

fn membership_event(target: &UserId, membership: &str, reason: Option<&str>) -> Result<NewEvent, ServiceError> {
    let mut content = object! { "membership" => membership };
    if let Some(reason) = reason {
        if reason.len() > MAX_REASON_BYTES {
            return Err(ServiceError::InvalidParam("reason"));
        }
        content.insert("reason", reason);
    }
    Ok(NewEvent {
        event_type: MEMBER.to_owned(),
        state_key: Some(target.to_string()),
        content,
    })
}

const MAX_REASON_BYTES: usize = 1024;
