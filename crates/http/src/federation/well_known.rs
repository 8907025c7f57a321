//! `GET /.well-known/matrix/server`: where this server is to be found. LM #int-wellknown.

use axum::extract::State;
use nabe_signing::object;

use crate::AppState;
use crate::error::FederationError;
use crate::reply::Reply;

pub(super) async fn server(State(state): State<AppState>) -> Result<Reply, FederationError> {
    let target = state.well_known.ok_or_else(FederationError::not_found)?;
    Ok(Reply::object(&object! { "m.server" => target.as_str() }))
}
