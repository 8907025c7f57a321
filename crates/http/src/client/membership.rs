//! Coming and going: join, leave, knock, invite, kick, ban, unban.

use axum::extract::{FromRequest, FromRequestParts as _, Request, State};
use axum::http::StatusCode;
use nabe_service::Service;
use nabe_service::client::{Sent, SentStatus};
use nabe_types::{RoomId, ServerName, UserId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::caller::Authenticated;
use super::model::SentBody;
use super::request::{Target, Typed};
use crate::AppState;
use crate::error::ClientError;
use crate::reply::Reply;

/// How to join.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct JoinBody {
    /// Servers that may be the room's hub or know it.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    via: Vec<ServerName>,
}

/// A room that was joined.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct JoinedBody {
    room_id: String,
    /// The event, once the hub has given it an ID.
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<String>,
}

/// Why to leave.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LeaveBody {
    reason: Option<String>,
}

/// How and why to knock.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KnockBody {
    /// Servers that may be the room's hub or know it.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    via: Vec<ServerName>,
    reason: Option<String>,
}

/// Whom it is about.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OtherUser {
    #[schema(value_type = String)]
    user_id: UserId,
    reason: Option<String>,
}

/// A request of one user of a room about another.
pub(crate) struct AboutOther {
    caller: UserId,
    room: RoomId,
    other: UserId,
    reason: Option<String>,
}

impl AboutOther {
    /// Who asks, for which room, about whom, and why.
    fn parts(&self) -> (&UserId, &RoomId, &UserId, Option<&str>) {
        (&self.caller, &self.room, &self.other, self.reason.as_deref())
    }
}

impl FromRequest<AppState> for AboutOther {
    type Rejection = ClientError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ClientError> {
        let (mut parts, body) = request.into_parts();
        let Authenticated(caller) = Authenticated::from_request_parts(&mut parts, state).await?;
        let target = Target::from_request_parts(&mut parts, state).await?;
        let Typed(OtherUser { user_id, reason }) = Typed::from_request(Request::from_parts(parts, body), state).await?;
        Ok(Self {
            caller: caller.user,
            room: target.path.room()?,
            other: user_id,
            reason,
        })
    }
}

/// Joins a room, invited or not.
#[utoipa::path(post, path = "/_nabe/v1/rooms/{room}/join", tag = "membership",
    params(("room" = String, Path, description = "The room's ID.")), request_body = JoinBody,
    responses(
        (status = 200, description = "Joined.", body = JoinedBody),
        (status = 202, description = "The hub has not answered yet.", body = JoinedBody),
    ))]
pub(crate) async fn join(
    State(service): State<Service>,
    Authenticated(caller): Authenticated,
    target: Target,
    Typed(body): Typed<JoinBody>,
) -> Result<Reply, ClientError> {
    let room = target.path.room()?;
    let Sent { event_id, status, .. } = service.join(&caller.user, &room, &body.via).await?;
    let joined = JoinedBody {
        room_id: room.to_string(),
        event_id: event_id.map(|id| id.to_string()),
    };
    let status = if status == SentStatus::Appended {
        StatusCode::OK
    } else {
        StatusCode::ACCEPTED
    };
    Ok(Reply::of(&joined).with_status(status))
}

/// Leaves a room, rejects an invite or takes back a knock.
#[utoipa::path(post, path = "/_nabe/v1/rooms/{room}/leave", tag = "membership",
    params(("room" = String, Path, description = "The room's ID.")), request_body = LeaveBody,
    responses(
        (status = 200, description = "Left.", body = SentBody),
        (status = 202, description = "Left as far as this server is concerned; the hub has not answered.", body = SentBody),
    ))]
pub(crate) async fn leave(
    State(service): State<Service>,
    Authenticated(caller): Authenticated,
    target: Target,
    Typed(body): Typed<LeaveBody>,
) -> Result<SentBody, ClientError> {
    let left = service
        .leave(&caller.user, &target.path.room()?, body.reason.as_deref())
        .await?;
    Ok(match left.sent {
        Some(sent) => sent.into(),
        None if left.hub_told => SentBody::taken_by_hub(),
        None => SentBody::untold(),
    })
}

/// Asks to be let into a room.
#[utoipa::path(post, path = "/_nabe/v1/rooms/{room}/knock", tag = "membership",
    params(("room" = String, Path, description = "The room's ID.")), request_body = KnockBody,
    responses(
        (status = 200, description = "The hub knows.", body = SentBody),
        (status = 202, description = "The hub has not answered yet.", body = SentBody),
    ))]
pub(crate) async fn knock(
    State(service): State<Service>,
    Authenticated(caller): Authenticated,
    target: Target,
    Typed(body): Typed<KnockBody>,
) -> Result<SentBody, ClientError> {
    let sent = service
        .knock(&caller.user, &target.path.room()?, &body.via, body.reason.as_deref())
        .await?;
    Ok(sent.map_or(SentBody::taken_by_hub(), SentBody::from))
}

/// Invites a user.
#[utoipa::path(post, path = "/_nabe/v1/rooms/{room}/invite", tag = "membership",
    params(("room" = String, Path, description = "The room's ID.")), request_body = OtherUser,
    responses(
        (status = 200, description = "Invited.", body = SentBody),
        (status = 202, description = "The hub has not answered yet.", body = SentBody),
    ))]
pub(crate) async fn invite(State(service): State<Service>, about: AboutOther) -> Result<SentBody, ClientError> {
    let (caller, room, other, reason) = about.parts();
    Ok(service.invite_user(caller, room, other, reason).await?.into())
}

/// Removes a user, takes back their invite or refuses their knock.
#[utoipa::path(post, path = "/_nabe/v1/rooms/{room}/kick", tag = "membership",
    params(("room" = String, Path, description = "The room's ID.")), request_body = OtherUser,
    responses(
        (status = 200, description = "Removed.", body = SentBody),
        (status = 202, description = "The hub has not answered yet.", body = SentBody),
    ))]
pub(crate) async fn kick(State(service): State<Service>, about: AboutOther) -> Result<SentBody, ClientError> {
    let (caller, room, other, reason) = about.parts();
    Ok(service.kick(caller, room, other, reason).await?.into())
}

/// Bars a user, whether they are in the room or not.
#[utoipa::path(post, path = "/_nabe/v1/rooms/{room}/ban", tag = "membership",
    params(("room" = String, Path, description = "The room's ID.")), request_body = OtherUser,
    responses(
        (status = 200, description = "Barred.", body = SentBody),
        (status = 202, description = "The hub has not answered yet.", body = SentBody),
    ))]
pub(crate) async fn ban(State(service): State<Service>, about: AboutOther) -> Result<SentBody, ClientError> {
    let (caller, room, other, reason) = about.parts();
    Ok(service.ban(caller, room, other, reason).await?.into())
}

/// Lifts a ban.
#[utoipa::path(post, path = "/_nabe/v1/rooms/{room}/unban", tag = "membership",
    params(("room" = String, Path, description = "The room's ID.")), request_body = OtherUser,
    responses(
        (status = 200, description = "Lifted.", body = SentBody),
        (status = 202, description = "The hub has not answered yet.", body = SentBody),
    ))]
pub(crate) async fn unban(State(service): State<Service>, about: AboutOther) -> Result<SentBody, ClientError> {
    let (caller, room, other, reason) = about.parts();
    Ok(service.unban(caller, room, other, reason).await?.into())
}
