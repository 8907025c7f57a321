//! `GET /_matrix/federation/v1/user/{userId}/device/{deviceId}`: a device's own object. LM #int-api-get-device. And
//! `GET /_matrix/federation/v1/user/devices/{userId}`, which the draft lacks: all of a user's.

use axum::extract::State;
use nabe_service::{Missing, Service, ServiceError};
use nabe_types::UserId;

use super::request::SignedQuery;
use crate::error::FederationError;
use crate::params::PathParams;
use crate::reply::Reply;

pub(super) async fn one(State(service): State<Service>, request: SignedQuery) -> Result<Reply, FederationError> {
    let (user, device) = (existing_user(&request.path)?, request.path.device()?);
    Ok(Reply::bytes(
        service.device_info(&request.origin, &user, &device).await?,
    ))
}

pub(super) async fn all(State(service): State<Service>, request: SignedQuery) -> Result<Reply, FederationError> {
    let user = existing_user(&request.path)?;
    Ok(Reply::bytes(service.device_infos(&request.origin, &user).await?))
}

/// A user ID that breaks the grammar is a user that does not exist.
fn existing_user(path: &PathParams) -> Result<UserId, ServiceError> {
    path.user().map_err(|_| ServiceError::NotFound(Missing::User))
}
