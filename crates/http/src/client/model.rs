//! What several answers have in common.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use nabe_service::client::{ClientEvent, Sent, SentStatus};
use serde::Serialize;
use utoipa::ToSchema;

use super::request::Content;
use crate::reply::Reply;

/// An event of a room.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RoomEvent {
    event_id: String,
    /// Its place in this server's log of the room; absent in answers about state.
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<i64>,
    r#type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_key: Option<String>,
    sender: String,
    /// Milliseconds since the Unix epoch, by the sender's clock.
    origin_server_ts: u64,
    #[schema(value_type = Object)]
    content: Content,
}

impl From<ClientEvent> for RoomEvent {
    fn from(event: ClientEvent) -> Self {
        let pdu = &event.pdu;
        Self {
            event_id: pdu.event_id().to_string(),
            position: event.position.map(|position| position.as_i64()),
            r#type: pdu.event_type().to_owned(),
            state_key: pdu.state_key().map(str::to_owned),
            sender: pdu.sender().to_string(),
            origin_server_ts: pdu.origin_server_ts().as_u64(),
            content: Content(pdu.content().clone()),
        }
    }
}

/// What became of an event that was sent.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SentBody {
    /// `accepted`: it is in the room's log, or the hub has taken it. `queued`: it is on its way to the hub, and will be sent until
    /// the hub answers; a refusal comes as `event_rejected` on the stream.
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<String>,
    /// Its place in this server's log of the room.
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<i64>,
    /// The ID under which it went to the hub; `event_rejected` names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    lpdu_id: Option<String>,
}

impl From<Sent> for SentBody {
    fn from(sent: Sent) -> Self {
        Self {
            status: match sent.status {
                SentStatus::Appended => ACCEPTED,
                SentStatus::Queued => QUEUED,
            },
            event_id: sent.event_id.map(|id| id.to_string()),
            position: sent.position.map(|position| position.as_i64()),
            lpdu_id: sent.lpdu_id.map(|id| id.to_string()),
        }
    }
}

impl SentBody {
    /// Another server has it, and there is no log of the room here that it could be in.
    pub(crate) const fn taken_by_hub() -> Self {
        Self {
            status: ACCEPTED,
            event_id: None,
            position: None,
            lpdu_id: None,
        }
    }

    /// It counts here; the hub could not be reached.
    pub(crate) const fn untold() -> Self {
        Self {
            status: QUEUED,
            event_id: None,
            position: None,
            lpdu_id: None,
        }
    }
}

impl IntoResponse for SentBody {
    fn into_response(self) -> Response {
        let status = match self.status {
            ACCEPTED => StatusCode::OK,
            _ => StatusCode::ACCEPTED,
        };
        Reply::of(&self).with_status(status).into_response()
    }
}

const ACCEPTED: &str = "accepted";
const QUEUED: &str = "queued";
