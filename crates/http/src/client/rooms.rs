//! Rooms: creating them, and looking at them, their state, their members and their delivery.

use std::collections::BTreeMap;

use axum::extract::State;
use nabe_service::Service;
use nabe_service::client::{FollowerStatus, Invitation, NewRoom, RoomOverview};
use nabe_signing::Json;
use nabe_types::{RoomVersionId, UserId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::caller::Authenticated;
use super::event_type::EventType;
use super::model::RoomEvent;
use super::request::{Content, Target, Typed};
use crate::error::ClientError;
use crate::reply::Reply;

/// What a new room should be like.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewRoomBody {
    name: Option<String>,
    topic: Option<String>,
    /// `invite` (default), `public` or `knock`.
    join_rule: Option<String>,
    /// `content` of `m.room.power_levels`.
    #[schema(value_type = Option<Object>)]
    power_levels: Option<Content>,
    /// `shared` (default), `invited`, `joined` or `world_readable`.
    history_visibility: Option<String>,
    #[schema(value_type = Option<String>)]
    room_version: Option<RoomVersionId>,
    /// The encryption algorithm, fixed forever; absent: none.
    encryption: Option<String>,
    /// Further state, without memberships.
    #[serde(default)]
    initial_state: Vec<InitialState>,
    /// Whom to invite at once, at most 100 users.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    invite: Vec<UserId>,
}

/// A state event of a new room.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct InitialState {
    #[schema(value_type = String)]
    r#type: EventType,
    #[serde(default)]
    state_key: String,
    #[schema(value_type = Object)]
    content: Content,
}

/// A room that was created.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CreatedRoomBody {
    room_id: String,
    /// User to reason. The room exists all the same.
    failed_invites: BTreeMap<String, String>,
}

/// A room at a glance.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RoomSummary {
    room_id: String,
    /// The caller's.
    membership: &'static str,
    hub: String,
    room_version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    /// The encryption algorithm, if the room is encrypted.
    #[serde(skip_serializing_if = "Option::is_none")]
    encryption: Option<String>,
    /// How many users are joined.
    members: usize,
    /// The newest position in this server's log of it.
    position: i64,
}

/// An invite that waits for an answer, or a knock.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PendingRoom {
    room_id: String,
    /// The server to go through.
    hub: String,
    room_version: String,
    /// What the hub says about the room: not to be trusted.
    #[schema(value_type = Vec<Object>)]
    stripped_state: Json,
}

/// The caller's rooms.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Rooms {
    rooms: Vec<RoomSummary>,
    invites: Vec<PendingRoom>,
    knocks: Vec<PendingRoom>,
}

/// A room's state.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StateBody {
    /// In ascending order of type, then state key.
    state: Vec<RoomEvent>,
}

/// A room's members.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Members {
    /// Everyone the room has a membership of, in ascending order.
    members: Vec<MemberBody>,
}

/// A user in a member list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MemberBody {
    user_id: String,
    /// `join`, `invite`, `knock`, `leave` or `ban`
    membership: String,
    event_id: String,
}

/// How far the room's followers are. Empty where another server is the hub, which alone knows.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Delivery {
    followers: Vec<Follower>,
}

/// How far one server is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Follower {
    server: String,
    /// The last position it confirmed.
    delivered: i64,
    /// The last position it is owed so far.
    head: i64,
    /// How many positions it is behind.
    lag: u64,
    /// The first position it is owed.
    from: i64,
    /// The last position it is owed at all; absent while it takes part.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<i64>,
    /// Failed attempts in a row.
    failures: u32,
    /// When the next attempt is due, milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
}

/// Creates a room.
#[utoipa::path(post, path = "/_nabe/v1/rooms", tag = "rooms", operation_id = "create_room",
    params(("Idempotency-Key" = Option<String>, Header,
        description = "1 to 128 visible ASCII characters. The same request with the same key is one request.")),
    request_body = NewRoomBody,
    responses((status = 200, description = "The room exists.", body = CreatedRoomBody)))]
pub(crate) async fn create(
    State(service): State<Service>,
    Authenticated(caller): Authenticated,
    target: Target,
    Typed(body): Typed<NewRoomBody>,
) -> Result<Reply, ClientError> {
    let created = service
        .create_room(&caller.user, body.into(), target.idempotency_key.as_deref())
        .await?;
    let failed_invites = created
        .failed_invites
        .iter()
        .map(|(user, error)| (user.to_string(), error.to_string()));
    Ok(Reply::of(&CreatedRoomBody {
        room_id: created.room_id.to_string(),
        failed_invites: failed_invites.collect(),
    }))
}

/// The rooms the caller is joined to, invited to or knocking at.
#[utoipa::path(get, path = "/_nabe/v1/rooms", tag = "rooms", operation_id = "list_rooms",
    responses((status = 200, description = "The rooms.", body = Rooms)))]
pub(crate) async fn list(
    State(service): State<Service>,
    Authenticated(caller): Authenticated,
) -> Result<Reply, ClientError> {
    let rooms = service
        .rooms(&caller.user)
        .await?
        .into_iter()
        .map(RoomSummary::from)
        .collect();
    let (invites, knocks): (Vec<_>, Vec<_>) = service
        .invitations(&caller.user)
        .await?
        .into_iter()
        .partition(|invitation| invitation.is_invite);
    let pending = |invitations: Vec<Invitation>| invitations.into_iter().map(PendingRoom::from).collect();
    Ok(Reply::of(&Rooms {
        rooms,
        invites: pending(invites),
        knocks: pending(knocks),
    }))
}

/// One room the caller is or was in.
#[utoipa::path(get, path = "/_nabe/v1/rooms/{room}", tag = "rooms", operation_id = "room",
    params(("room" = String, Path, description = "The room's ID.")),
    responses((status = 200, description = "The room.", body = RoomSummary)))]
pub(crate) async fn overview(
    State(service): State<Service>,
    Authenticated(caller): Authenticated,
    target: Target,
) -> Result<Reply, ClientError> {
    Ok(Reply::of(&RoomSummary::from(
        service.room(&caller.user, &target.path.room()?).await?,
    )))
}

/// The room's state: now, or as it was when the caller left.
#[utoipa::path(get, path = "/_nabe/v1/rooms/{room}/state", tag = "rooms", operation_id = "room_state",
    params(("room" = String, Path, description = "The room's ID.")),
    responses((status = 200, description = "The state.", body = StateBody)))]
pub(crate) async fn state(
    State(service): State<Service>,
    Authenticated(caller): Authenticated,
    target: Target,
) -> Result<Reply, ClientError> {
    let state = service.room_state(&caller.user, &target.path.room()?).await?;
    Ok(Reply::of(&StateBody {
        state: state.into_iter().map(RoomEvent::from).collect(),
    }))
}

/// One event of the room's state, under the empty state key.
#[utoipa::path(get, path = "/_nabe/v1/rooms/{room}/state/{type}", tag = "rooms",
    params(
        ("room" = String, Path, description = "The room's ID."),
        ("type" = String, Path, description = "The event's type."),
    ),
    responses((status = 200, description = "The event.", body = RoomEvent)))]
pub(crate) async fn state_with_empty_key(
    State(service): State<Service>,
    Authenticated(caller): Authenticated,
    target: Target,
) -> Result<Reply, ClientError> {
    let (room, event_type) = (target.path.room()?, target.path.text("type")?);
    Ok(Reply::of(&RoomEvent::from(
        service.room_state_event(&caller.user, &room, event_type, "").await?,
    )))
}

/// One event of the room's state.
#[utoipa::path(get, path = "/_nabe/v1/rooms/{room}/state/{type}/{state_key}", tag = "rooms",
    params(
        ("room" = String, Path, description = "The room's ID."),
        ("type" = String, Path, description = "The event's type."),
        ("state_key" = String, Path, description = "The event's state key."),
    ),
    responses((status = 200, description = "The event.", body = RoomEvent)))]
pub(crate) async fn state_event(
    State(service): State<Service>,
    Authenticated(caller): Authenticated,
    target: Target,
) -> Result<Reply, ClientError> {
    let (event_type, state_key) = (target.path.text("type")?, target.path.text("state_key")?);
    let event = service
        .room_state_event(&caller.user, &target.path.room()?, event_type, state_key)
        .await?;
    Ok(Reply::of(&RoomEvent::from(event)))
}

/// Everyone the room has a membership of.
#[utoipa::path(get, path = "/_nabe/v1/rooms/{room}/members", tag = "rooms",
    params(("room" = String, Path, description = "The room's ID.")),
    responses((status = 200, description = "The members.", body = Members)))]
pub(crate) async fn members(
    State(service): State<Service>,
    Authenticated(caller): Authenticated,
    target: Target,
) -> Result<Reply, ClientError> {
    let state = service.room_state(&caller.user, &target.path.room()?).await?;
    let members = state.iter().filter_map(|event| {
        let pdu = &event.pdu;
        Some(MemberBody {
            user_id: pdu
                .state_key()
                .filter(|_| pdu.event_type() == "m.room.member")?
                .to_owned(),
            membership: pdu.membership()?.to_owned(),
            event_id: pdu.event_id().to_string(),
        })
    });
    Ok(Reply::of(&Members {
        members: members.collect(),
    }))
}

/// How far the other servers in the room are.
#[utoipa::path(get, path = "/_nabe/v1/rooms/{room}/delivery", tag = "rooms",
    params(("room" = String, Path, description = "The room's ID.")),
    responses((status = 200, description = "The followers.", body = Delivery)))]
pub(crate) async fn delivery(
    State(service): State<Service>,
    Authenticated(caller): Authenticated,
    target: Target,
) -> Result<Reply, ClientError> {
    let followers = service.delivery(&caller.user, &target.path.room()?).await?;
    Ok(Reply::of(&Delivery {
        followers: followers.into_iter().map(Follower::from).collect(),
    }))
}

impl From<NewRoomBody> for NewRoom {
    fn from(body: NewRoomBody) -> Self {
        let initial_state = body.initial_state.into_iter();
        Self {
            name: body.name,
            topic: body.topic,
            join_rule: body.join_rule,
            power_levels: body.power_levels.map(|content| content.0),
            history_visibility: body.history_visibility,
            version: body.room_version,
            encryption: body.encryption,
            initial_state: initial_state
                .map(|state| (state.r#type.into(), state.state_key, state.content.0))
                .collect(),
            invite: body.invite,
        }
    }
}

impl From<RoomOverview> for RoomSummary {
    fn from(room: RoomOverview) -> Self {
        Self {
            room_id: room.room_id.to_string(),
            membership: room.membership.as_str(),
            hub: room.hub.to_string(),
            room_version: room.version.to_string(),
            name: room.name,
            topic: room.topic,
            encryption: room.encryption,
            members: room.joined_members,
            position: room.head.as_i64(),
        }
    }
}

impl From<Invitation> for PendingRoom {
    fn from(invitation: Invitation) -> Self {
        Self {
            room_id: invitation.room_id.to_string(),
            hub: invitation.hub.to_string(),
            room_version: invitation.version.to_string(),
            stripped_state: invitation.stripped_state,
        }
    }
}

impl From<FollowerStatus> for Follower {
    fn from(status: FollowerStatus) -> Self {
        let delivered = status.delivered.as_i64();
        Self {
            server: status.server.to_string(),
            delivered,
            head: delivered.saturating_add_unsigned(status.lag),
            lag: status.lag,
            from: status.from.as_i64(),
            until: status.until.map(|until| until.as_i64()),
            failures: status.failures,
            next_attempt: status.next_attempt.map(|at| at.as_u64()),
            last_error: status.last_error,
        }
    }
}
