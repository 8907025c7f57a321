//! What happens for a user, as server-sent events. Whoever comes back with the last ID they handled misses nothing and gets
//! nothing twice.

use std::convert::Infallible;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use nabe_service::client::{StreamBody, StreamItem};
use nabe_service::{Service, ServiceError};
use nabe_types::DeviceId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::caller::{Authenticated, one_header};
use super::model::RoomEvent;
use super::request::{Target, Typed};
use crate::AppState;
use crate::error::ClientError;
use crate::reply::Reply;

/// `data` of a `room` event.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RoomData {
    room_id: String,
    event: RoomEvent,
}

/// What happens for the caller, as it happens.
///
/// Each event has an `id` to come back with, and as `event` one of `ready` (the first one, nothing happened yet), `room` (`data` is
/// a `RoomData`), `invite`, `knock`, `pending_ended`, `to_device`, `event_rejected` (`room_id`, `lpdu_id`, `error`, and
/// `current_epoch` if it was a commit for another epoch of the group), `device_list_changed` (`user_id`: look up that user's
/// devices again) or `key_packages_low` (`device_id`, `algorithm`, `left`: upload more). Of the last two only the newest about the
/// same thing is kept. A comment comes every few seconds when nothing else does.
///
/// Coming back with an ID says that everything up to it is handled. What all devices of the caller have handled is dropped from the
/// inbox; so are the oldest of more than 10,000 items. A reader that must miss nothing names a device.
#[utoipa::path(get, path = "/_nabe/v1/stream", tag = "stream",
    params(
        ("since" = Option<String>, Query, description = "The last ID handled. Absent: the inbox from its beginning, and rooms from now on. `start`: all there is. IDs of users in thousands of rooms are too long for here: `Last-Event-ID` takes them."),
        ("device" = Option<String>, Query, description = "For this device; messages to the caller's other devices are left out."),
        ("Last-Event-ID" = Option<String>, Header, description = "As `since`, and before it; browsers send it by themselves."),
    ),
    responses((status = 200, description = "The stream.", body = RoomData, content_type = "text/event-stream")))]
pub(crate) async fn stream(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    target: Target,
    headers: HeaderMap,
) -> Result<Response, ClientError> {
    let since = match one_header(&headers, "last-event-id")? {
        Some(id) if !id.is_empty() => Some(id),
        _ => target.query.one("since")?,
    };
    let device = device(&target, caller.device)?;
    let items = state.service.stream(&caller.user, device, since).await?;
    let events = items.into_stream().filter_map(|item| async {
        match item {
            Ok(item) => Some(Ok::<_, Infallible>(event(item))),
            Err(error) => {
                // The stream ends here; the reader comes back with the last ID it has.
                tracing::warn!(%error, "a stream ended");
                None
            }
        }
    });
    let heartbeat = KeepAlive::new().interval(state.limits.heartbeat).text("");
    let mut response = Sse::new(events).keep_alive(heartbeat).into_response();
    // Otherwise some reverse proxies hold events back until there are enough of them.
    response.headers_mut().insert(
        HeaderName::from_static("x-accel-buffering"),
        HeaderValue::from_static("no"),
    );
    Ok(response)
}

/// How far a reader has come.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HandledBody {
    /// The last ID handled.
    id: String,
}

/// Nothing to tell.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Noted {}

/// Says that everything up to an ID of the stream is handled, for readers whose stream stays open for long.
///
/// Coming back to the stream with the ID says the same.
#[utoipa::path(post, path = "/_nabe/v1/stream/handled", tag = "stream", operation_id = "stream_handled",
    params(("device" = Option<String>, Query, description = "Which device has handled it. A token bound to a device speaks for that one.")),
    request_body = HandledBody,
    responses((status = 200, description = "Noted.", body = Noted)))]
pub(crate) async fn handled(
    State(service): State<Service>,
    Authenticated(caller): Authenticated,
    target: Target,
    Typed(body): Typed<HandledBody>,
) -> Result<Reply, ClientError> {
    let device = device(&target, caller.device)?;
    service
        .acknowledge_inbox(&caller.user, device.as_ref(), &body.id)
        .await?;
    Ok(Reply::of(&Noted {}))
}

/// The device asked for; a token bound to one device does not read another's messages.
fn device(target: &Target, bound: Option<DeviceId>) -> Result<Option<DeviceId>, ClientError> {
    let Some(asked) = target.query.one("device")? else {
        return Ok(bound);
    };
    let asked = DeviceId::parse(asked).map_err(|_| ServiceError::InvalidParam("device"))?;
    match bound {
        Some(bound) if bound != asked => Err(ClientError::forbidden("the access token is for another device")),
        _ => Ok(Some(asked)),
    }
}

fn event(item: StreamItem) -> Event {
    let event = Event::default().id(item.token);
    match item.body {
        StreamBody::Ready => event.event("ready").data("{}"),
        StreamBody::Event(entry) => {
            let data = RoomData {
                room_id: entry.pdu.room_id().to_string(),
                event: entry.into(),
            };
            event
                .event("room")
                .data(serde_json::to_string(&data).expect("our own answers have string keys only"))
        }
        // Canonical JSON is one line.
        StreamBody::Inbox(item) => event
            .event(item.kind.as_str())
            .data(String::from_utf8_lossy(&item.body)),
    }
}
