//! Sending events and paging through history.

use axum::extract::State;
use nabe_service::client::{Direction, NewEvent};
use nabe_service::{Service, ServiceError};
use nabe_types::LogPosition;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::caller::Authenticated;
use super::event_type::EventType;
use super::model::{RoomEvent, SentBody};
use super::request::{Content, Target, Typed};
use crate::error::ClientError;
use crate::params::Query;
use crate::reply::Reply;

/// An event to send.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewEventBody {
    /// A type of the protocol, or one of your own in reverse domain name notation; unknown ones with `m.` are refused.
    #[schema(value_type = String)]
    r#type: EventType,
    /// Present, even if empty, for state.
    state_key: Option<String>,
    /// Numbers must be integers within ±(2^53−1).
    #[schema(value_type = Object)]
    content: Content,
}

/// A page of history.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct History {
    /// Those the caller may read, in the direction asked for; may be fewer than asked for, with more to come.
    events: Vec<RoomEvent>,
    /// `from` of the next page; `null` at the end.
    next: Option<i64>,
}

/// Sends an event.
#[utoipa::path(post, path = "/_nabe/v1/rooms/{room}/events", tag = "events",
    operation_id = "send_event",
    params(
        ("room" = String, Path, description = "The room's ID."),
        ("Idempotency-Key" = Option<String>, Header,
            description = "1 to 128 visible ASCII characters. The same request with the same key is one request."),
    ),
    request_body = NewEventBody,
    responses(
        (status = 200, description = "It is in the room's log.", body = SentBody),
        (status = 202, description = "The hub has not answered yet.", body = SentBody),
    ))]
pub(crate) async fn send(
    State(service): State<Service>,
    Authenticated(caller): Authenticated,
    target: Target,
    Typed(body): Typed<NewEventBody>,
) -> Result<SentBody, ClientError> {
    let event = NewEvent {
        event_type: body.r#type.into(),
        state_key: body.state_key,
        content: body.content.0,
    };
    let room = target.path.room()?;
    let sent = service
        .send_event(&caller.user, &room, event, target.idempotency_key.as_deref())
        .await?;
    Ok(sent.into())
}

/// Pages through a room's history.
#[utoipa::path(get, path = "/_nabe/v1/rooms/{room}/events", tag = "events",
    params(
        ("room" = String, Path, description = "The room's ID."),
        ("from" = Option<i64>, Query, description = "Where to begin, exclusive; absent: the newest event, or the oldest with `dir=f`."),
        ("dir" = Option<String>, Query, description = "`b` (default): from newer to older; `f`: from older to newer."),
        ("limit" = Option<i64>, Query, description = "At most so many events, 1 to 100; default 50."),
    ),
    responses((status = 200, description = "A page.", body = History)))]
pub(crate) async fn history(
    State(service): State<Service>,
    Authenticated(caller): Authenticated,
    target: Target,
) -> Result<Reply, ClientError> {
    let from = target.query.integer("from")?.map(LogPosition);
    let direction = direction(&target.query)?;
    let limit = usize::try_from(target.query.integer("limit")?.unwrap_or(DEFAULT_LIMIT));
    let limit = limit.map_err(|_| ServiceError::InvalidParam("limit"))?;
    let page = service
        .history(&caller.user, &target.path.room()?, from, direction, limit)
        .await?;
    Ok(Reply::of(&History {
        events: page.events.into_iter().map(RoomEvent::from).collect(),
        next: page.next.map(|next| next.as_i64()),
    }))
}

/// One event of a room, as to what another one refers to.
#[utoipa::path(get, path = "/_nabe/v1/rooms/{room}/events/{event}", tag = "events", operation_id = "event",
    params(
        ("room" = String, Path, description = "The room's ID."),
        ("event" = String, Path, description = "The event's ID."),
    ),
    responses((status = 200, description = "The event.", body = RoomEvent)))]
pub(crate) async fn one(
    State(service): State<Service>,
    Authenticated(caller): Authenticated,
    target: Target,
) -> Result<Reply, ClientError> {
    let (room, event) = (target.path.room()?, target.path.event()?);
    let event = service.room_event(&caller.user, &room, &event).await?;
    Ok(Reply::of(&RoomEvent::from(event)))
}

fn direction(query: &Query) -> Result<Direction, ServiceError> {
    match query.one("dir")? {
        None | Some("b") => Ok(Direction::Backward),
        Some("f") => Ok(Direction::Forward),
        Some(_) => Err(ServiceError::InvalidParam("dir")),
    }
}

const DEFAULT_LIMIT: i64 = 50;
