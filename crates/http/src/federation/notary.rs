//! `GET` and `POST /_matrix/key/v2/query`: what we know of other servers' keys. LM #int-api-notary-query,
//! LM #int-api-notary-query-bulk.

use axum::extract::{Request, State};
use nabe_service::{Service, ServiceError};
use nabe_types::UnixMillis;

use super::request::Unsigned;
use crate::error::FederationError;
use crate::params::{PathParams, Query};
use crate::reply::Reply;

pub(super) async fn one(State(service): State<Service>, request: Request) -> Result<Reply, FederationError> {
    let (mut parts, _) = request.into_parts();
    let server = PathParams::read(&mut parts).await?.server()?;
    let minimum = match Query::of(&parts)?.integer(MINIMUM)? {
        Some(minimum) => Some(UnixMillis::from_i64(minimum).ok_or(ServiceError::InvalidParam(MINIMUM))?),
        None => None,
    };
    Ok(Reply::object(&service.notary_one(&server, minimum).await?))
}

pub(super) async fn many(State(service): State<Service>, request: Unsigned) -> Result<Reply, FederationError> {
    Ok(Reply::object(&service.notary_many(&request.body).await?))
}

const MINIMUM: &str = "minimum_valid_until_ts";
