//! Messages from device to device, which go through no room.

use axum::extract::State;
use nabe_service::Service;
use nabe_service::client::ToDeviceMessage;
use nabe_types::{DeviceId, UserId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::caller::Authenticated;
use super::request::{Content, Target, Typed};
use crate::error::ClientError;
use crate::reply::Reply;

/// Messages to send, all or none.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ToDeviceBody {
    messages: Vec<MessageBody>,
}

/// One payload for one device.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MessageBody {
    #[schema(value_type = String)]
    target: UserId,
    #[schema(value_type = String)]
    target_device: DeviceId,
    r#type: String,
    #[schema(value_type = Object)]
    content: Content,
}

/// How many messages were taken.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Queued {
    queued: usize,
}

/// Sends messages to devices. Unknown users and devices are passed over in silence.
#[utoipa::path(post, path = "/_nabe/v1/to_device", tag = "events", operation_id = "send_to_device",
    params(("Idempotency-Key" = Option<String>, Header,
        description = "1 to 128 visible ASCII characters. The same request with the same key is one request.")),
    request_body = ToDeviceBody,
    responses((status = 200, description = "They will be delivered.", body = Queued)))]
pub(crate) async fn send(
    State(service): State<Service>,
    Authenticated(caller): Authenticated,
    target: Target,
    Typed(body): Typed<ToDeviceBody>,
) -> Result<Reply, ClientError> {
    let queued = body.messages.len();
    let messages = body.messages.into_iter().map(ToDeviceMessage::from).collect();
    let key = target.idempotency_key.as_deref();
    service
        .to_device(&caller.user, caller.device.as_ref(), messages, key)
        .await?;
    Ok(Reply::of(&Queued { queued }))
}

impl From<MessageBody> for ToDeviceMessage {
    fn from(body: MessageBody) -> Self {
        Self {
            target: body.target,
            target_device: body.target_device,
            message_type: body.r#type,
            message: body.content.0,
        }
    }
}
