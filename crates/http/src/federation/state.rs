//! `GET /_matrix/federation/v1/state/{roomId}` and `state_ids`: a room's state before an event. LM #int-api-get-state.

use axum::extract::State;
use nabe_service::Service;
use nabe_types::EventId;

use super::request::SignedQuery;
use crate::error::FederationError;
use crate::params::event_id;
use crate::reply::Reply;

pub(super) async fn state(State(service): State<Service>, request: SignedQuery) -> Result<Reply, FederationError> {
    let before = before(&request)?;
    Ok(Reply::bytes(
        service.state(&request.origin, &request.path.room()?, &before).await?,
    ))
}

pub(super) async fn state_ids(State(service): State<Service>, request: SignedQuery) -> Result<Reply, FederationError> {
    let before = before(&request)?;
    Ok(Reply::object(
        &service
            .state_ids(&request.origin, &request.path.room()?, &before)
            .await?,
    ))
}

fn before(request: &SignedQuery) -> Result<EventId, FederationError> {
    let before = request
        .query
        .one("event_id")?
        .ok_or_else(|| FederationError::missing_param("event_id"))?;
    Ok(event_id(before)?)
}
