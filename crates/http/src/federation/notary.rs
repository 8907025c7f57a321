//! `GET` and `POST /_matrix/key/v2/query`: what we know of other servers' keys. LM #int-api-notary-query,
//! LM #int-api-notary-query-bulk.

use std::net::{IpAddr, SocketAddr};

use axum::Extension;
use axum::extract::{ConnectInfo, Request, State};
use nabe_service::{Service, ServiceError};
use nabe_types::UnixMillis;

use super::request::Unsigned;
use crate::error::FederationError;
use crate::listener::owner;
use crate::params::{PathParams, Query};
use crate::reply::Reply;

pub(super) async fn one(State(service): State<Service>, request: Request) -> Result<Reply, FederationError> {
    let (mut parts, _) = request.into_parts();
    let caller = parts.extensions.get().map(address);
    let server = PathParams::read(&mut parts).await?.server()?;
    let minimum = match Query::of(&parts)?.integer(MINIMUM)? {
        Some(minimum) => Some(UnixMillis::from_i64(minimum).ok_or(ServiceError::InvalidParam(MINIMUM))?),
        None => None,
    };
    Ok(Reply::object(&service.notary_one(caller, &server, minimum).await?))
}

pub(super) async fn many(
    State(service): State<Service>,
    from: Option<Extension<ConnectInfo<SocketAddr>>>,
    request: Unsigned,
) -> Result<Reply, FederationError> {
    let caller = from.map(|Extension(from)| address(&from));
    Ok(Reply::object(&service.notary_many(caller, &request.body).await?))
}

/// What tells callers apart who prove no name.
fn address(from: &ConnectInfo<SocketAddr>) -> IpAddr {
    owner(from.0.ip())
}

const MINIMUM: &str = "minimum_valid_until_ts";
