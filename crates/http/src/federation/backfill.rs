//! `GET /_matrix/federation/v2/backfill/{roomId}`: what came before an event. LM #int-transport-send-events.

use axum::extract::State;
use nabe_service::{Service, ServiceError};

use super::request::SignedQuery;
use crate::error::FederationError;
use crate::params::event_id;
use crate::reply::Reply;

pub(super) async fn backfill(State(service): State<Service>, request: SignedQuery) -> Result<Reply, FederationError> {
    let newest = request
        .query
        .one("v")?
        .ok_or_else(|| FederationError::missing_param("v"))?;
    let limit = request
        .query
        .integer("limit")?
        .ok_or_else(|| FederationError::missing_param("limit"))?;
    if limit < 1 {
        return Err(ServiceError::InvalidParam("limit").into());
    }
    // The service caps it further down.
    let limit = u32::try_from(limit).unwrap_or(u32::MAX);
    let room = request.path.room()?;
    Ok(Reply::bytes(
        service
            .backfill(&request.origin, &room, &event_id(newest)?, limit)
            .await?,
    ))
}
