//! Devices: publishing their objects (LM #int-mls-credentials), removing them, looking up those of others.

use axum::extract::State;
use nabe_service::Service;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::account::Empty;
use super::caller::Authenticated;
use super::request::{Content, Target, Typed};
use crate::error::ClientError;
use crate::reply::Reply;

/// A device object, signed by the device itself: `device_id`, `user_id`, `algorithms`, `keys`, `signatures`. It is kept and passed on as
/// it is.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(value_type = Object)]
pub(crate) struct DeviceObject(Content);

/// A user's devices.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UserDevices {
    user_id: String,
    /// The objects that the devices have published, not verified for you: check their signatures.
    #[schema(value_type = Vec<Object>)]
    devices: Vec<Content>,
}

/// Adds a device, and publishes its object if one is given.
///
/// Without an object, a device that exists stays as it is. With one, everybody who shares a room with the caller is told, and if the
/// device has another key than before, its key packages are dropped. A token bound to a device can publish only for that device.
#[utoipa::path(put, path = "/_nabe/v1/devices/{device_id}", tag = "devices", operation_id = "put_device",
    params(("device_id" = String, Path, description = "The device's ID.")),
    request_body = DeviceObject,
    responses((status = 200, description = "The device exists.", body = Empty)))]
pub(crate) async fn put(
    State(service): State<Service>,
    Authenticated(caller): Authenticated,
    target: Target,
    Typed(DeviceObject(object)): Typed<DeviceObject>,
) -> Result<Reply, ClientError> {
    let device = target.device()?;
    if object.0.is_empty() {
        service.register_device(&caller.user, Some(device)).await?;
    } else {
        service.publish_device(&caller, &device, object.0).await?;
    }
    Ok(Reply::of(&Empty {}))
}

/// Removes a device: its key packages, what waits for it, and the access tokens bound to it.
#[utoipa::path(delete, path = "/_nabe/v1/devices/{device_id}", tag = "devices", operation_id = "remove_device",
    params(("device_id" = String, Path, description = "The device's ID.")),
    responses((status = 200, description = "The device is gone.", body = Empty)))]
pub(crate) async fn remove(
    State(service): State<Service>,
    Authenticated(caller): Authenticated,
    target: Target,
) -> Result<Reply, ClientError> {
    service.remove_device(&caller.user, &target.device()?).await?;
    Ok(Reply::of(&Empty {}))
}

/// A user's device objects. Another server's user is asked about there, unless this server is told of changes anyway.
#[utoipa::path(get, path = "/_nabe/v1/users/{user_id}/devices", tag = "devices", operation_id = "devices_of_user",
    params(("user_id" = String, Path, description = "The user's ID.")),
    responses((status = 200, description = "The devices.", body = UserDevices)))]
pub(crate) async fn of_user(
    State(service): State<Service>,
    Authenticated(_): Authenticated,
    target: Target,
) -> Result<Reply, ClientError> {
    let user = target.user()?;
    let devices = service.device_objects(&user).await?;
    Ok(Reply::of(&UserDevices {
        user_id: user.to_string(),
        devices: devices.into_iter().map(Content).collect(),
    }))
}
