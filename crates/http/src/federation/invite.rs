//! `POST /_matrix/federation/v3/invite/{txnId}`: an invite, for the hub or for the invited user. LM #int-api-invite.

use axum::extract::State;
use nabe_service::Service;

use super::request::Signed;
use crate::error::FederationError;
use crate::reply::Reply;

pub(super) async fn invite(State(service): State<Service>, request: Signed) -> Result<Reply, FederationError> {
    let txn_id = request.path.txn_id()?;
    let reply = service
        .invite(request.origin, txn_id, request.body, request.body_sha256)
        .await?;
    Ok(Reply::bytes(reply.body).with_status_number(reply.status))
}
