//! `POST /_matrix/federation/v1/user/keys/claim`: key packages for devices. LM #int-transport-key-claim.

use axum::extract::State;
use nabe_service::Service;

use super::request::Signed;
use crate::error::FederationError;
use crate::reply::Reply;

pub(super) async fn claim(State(service): State<Service>, request: Signed) -> Result<Reply, FederationError> {
    let keys = service.claim_keys(&request.origin, &request.body).await?;
    Ok(Reply::object(&keys))
}
