//! Who the caller is, and their devices.

use axum::extract::State;
use nabe_service::Service;
use serde::Serialize;
use utoipa::ToSchema;

use super::caller::{Authenticated, Provider};
use super::request::Target;
use crate::error::ClientError;
use crate::reply::Reply;

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WhoAmI {
    user_id: String,
    /// The device the access token is bound to, if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    device_id: Option<String>,
    server_name: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Devices {
    /// In ascending order.
    devices: Vec<String>,
}

/// Nothing to say.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Empty {}

/// Who the caller is.
#[utoipa::path(get, path = "/_nabe/v1/whoami", tag = "account",
    responses((status = 200, description = "The caller.", body = WhoAmI)))]
pub(crate) async fn whoami(State(service): State<Service>, Authenticated(caller): Authenticated) -> Reply {
    Reply::of(&WhoAmI {
        user_id: caller.user.to_string(),
        device_id: caller.device.map(|device| device.to_string()),
        server_name: service.server_name().to_string(),
    })
}

/// The caller's devices.
#[utoipa::path(get, path = "/_nabe/v1/devices", tag = "account",
    responses((status = 200, description = "The devices.", body = Devices)))]
pub(crate) async fn devices(
    State(service): State<Service>,
    Authenticated(caller): Authenticated,
) -> Result<Reply, ClientError> {
    let devices = service.devices(&caller.user).await?;
    Ok(Reply::of(&Devices {
        devices: devices.iter().map(ToString::to_string).collect(),
    }))
}

/// Deletes a user for good, for the provider itself: their tokens, devices and key packages, and what waits for them. Nobody acts as
/// them any more, which is `user_deleted`, and nobody gets the name again. What they said stays, and so does their place in rooms; let
/// them leave those first. Once more changes nothing.
#[utoipa::path(delete, path = "/_nabe/v1/users/{user_id}", tag = "account", operation_id = "delete_user",
    params(("user_id" = String, Path, description = "The user.")),
    responses((status = 200, description = "They are deleted.", body = Empty)))]
pub(crate) async fn delete(State(service): State<Service>, _: Provider, target: Target) -> Result<Reply, ClientError> {
    service.delete_user(&target.user()?).await?;
    Ok(Reply::of(&Empty {}))
}
