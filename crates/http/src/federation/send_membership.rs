//! `POST /_matrix/federation/v3/send_{leave,join,knock}/{txnId}`: the events made from the templates.
//! LM #int-api-send-leave, LM #int-api-send-join, LM #int-api-send-knock.

use axum::extract::State;
use nabe_service::{MembershipKind, Service};

use super::request::Signed;
use crate::error::FederationError;
use crate::reply::Reply;

pub(super) async fn leave(State(service): State<Service>, request: Signed) -> Result<Reply, FederationError> {
    send(&service, MembershipKind::Leave, request).await
}

pub(super) async fn join(State(service): State<Service>, request: Signed) -> Result<Reply, FederationError> {
    send(&service, MembershipKind::Join, request).await
}

pub(super) async fn knock(State(service): State<Service>, request: Signed) -> Result<Reply, FederationError> {
    send(&service, MembershipKind::Knock, request).await
}

async fn send(service: &Service, kind: MembershipKind, request: Signed) -> Result<Reply, FederationError> {
    let txn_id = request.path.txn_id()?;
    let reply = service
        .send_membership(request.origin, kind, txn_id, request.body, request.body_sha256)
        .await?;
    Ok(Reply::bytes(reply.body).with_status_number(reply.status))
}
