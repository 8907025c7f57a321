//! `GET /_matrix/federation/v2/event/{eventId}`: one event. LM #int-transport-send-events.

use axum::extract::State;
use nabe_service::Service;

use super::request::SignedQuery;
use crate::error::FederationError;
use crate::reply::Reply;

pub(super) async fn event(State(service): State<Service>, request: SignedQuery) -> Result<Reply, FederationError> {
    Ok(Reply::bytes(
        service.event(&request.origin, &request.path.event()?).await?,
    ))
}
