//! `GET /_matrix/federation/v1/make_{leave,join,knock}/{roomId}/{userId}`: templates of membership events.
//! LM #int-api-make-leave, LM #int-api-make-join, LM #int-api-make-knock.

use axum::extract::State;
use nabe_service::{MembershipKind, Service};
use nabe_types::RoomVersionId;

use super::request::SignedQuery;
use crate::error::FederationError;
use crate::reply::Reply;

pub(super) async fn leave(State(service): State<Service>, request: SignedQuery) -> Result<Reply, FederationError> {
    make(&service, MembershipKind::Leave, &request).await
}

pub(super) async fn join(State(service): State<Service>, request: SignedQuery) -> Result<Reply, FederationError> {
    make(&service, MembershipKind::Join, &request).await
}

pub(super) async fn knock(State(service): State<Service>, request: SignedQuery) -> Result<Reply, FederationError> {
    make(&service, MembershipKind::Knock, &request).await
}

async fn make(service: &Service, kind: MembershipKind, request: &SignedQuery) -> Result<Reply, FederationError> {
    let (room, user) = (request.path.room()?, request.path.user()?);
    // A version that breaks the grammar is one no room has.
    let versions: Vec<_> = request
        .query
        .all("ver")
        .filter_map(|version| RoomVersionId::parse(version).ok())
        .collect();
    Ok(Reply::object(
        &service
            .make_membership(&request.origin, kind, &room, &user, &versions)
            .await?,
    ))
}
