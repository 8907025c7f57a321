//! `GET /_matrix/key/v2/server`: this server's signing keys. LM #int-api-self-key.

use axum::extract::State;
use nabe_service::Service;

use crate::reply::Reply;

pub(super) async fn own(State(service): State<Service>) -> Reply {
    Reply::bytes(service.own_keys())
}
