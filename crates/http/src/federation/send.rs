//! `PUT /_matrix/federation/v2/send/{txnId}`: events and EDUs. LM #int-api-send-txn.

use axum::extract::State;
use nabe_service::Service;

use super::request::SignedTransaction;
use crate::error::FederationError;
use crate::reply::Reply;

pub(super) async fn send(
    State(service): State<Service>,
    SignedTransaction(request): SignedTransaction,
) -> Result<Reply, FederationError> {
    let txn_id = request.path.txn_id()?;
    let reply = service
        .send_txn(request.origin, txn_id, request.body.into(), request.body_sha256)
        .await?;
    Ok(Reply::bytes(reply.body).with_status_number(reply.status))
}
