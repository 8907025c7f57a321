//! What other servers call (LM #int-transport), one file per endpoint. Everything but keys and the well-known document is
//! signed: see `request`.

mod backfill;
mod claim;
mod device;
mod event;
mod invite;
mod keys;
mod make;
mod media;
mod notary;
mod request;
mod send;
mod send_membership;
mod state;
mod well_known;

use axum::Router;
use axum::routing::{MethodRouter, get, post, put};

use crate::AppState;

/// The draft's "implementation notes": the paths under which today's implementations know these endpoints.
pub(crate) const UNSTABLE: &str = "/_matrix/federation/unstable/org.matrix.i-d.ralston-mimi-linearized-matrix.02";

pub(crate) fn routes() -> Router<AppState> {
    let router = Router::new()
        .route("/.well-known/matrix/server", get(well_known::server))
        .route("/_matrix/key/v2/server", get(keys::own))
        .route("/_matrix/key/v2/query/{server}", get(notary::one))
        .route("/_matrix/key/v2/query", post(notary::many))
        .route("/_matrix/federation/v1/state/{room}", get(state::state))
        .route("/_matrix/federation/v1/state_ids/{room}", get(state::state_ids))
        .route("/_matrix/federation/v1/make_leave/{room}/{user}", get(make::leave))
        .route("/_matrix/federation/v1/make_join/{room}/{user}", get(make::join))
        .route("/_matrix/federation/v1/make_knock/{room}/{user}", get(make::knock))
        .route("/_matrix/federation/v1/user/{user}/device/{device}", get(device::one))
        .route("/_matrix/federation/v1/user/devices/{user}", get(device::all))
        .route("/_matrix/federation/v1/user/keys/claim", post(claim::claim))
        .route("/_matrix/federation/v1/media/download/{media}", get(media::download))
        // The draft's note has PUT here, a slip most likely: both do.
        .route(
            &format!("{UNSTABLE}/user/{{user}}/device/{{device}}"),
            get(device::one).put(device::one),
        );
    let aliased: [(&str, &str, MethodRouter<AppState>); 7] = [
        ("v2", "/send/{txn}", put(send::send)),
        ("v2", "/event/{event}", get(event::event)),
        ("v2", "/backfill/{room}", get(backfill::backfill)),
        ("v3", "/invite/{txn}", post(invite::invite)),
        ("v3", "/send_leave/{txn}", post(send_membership::leave)),
        ("v3", "/send_join/{txn}", post(send_membership::join)),
        ("v3", "/send_knock/{txn}", post(send_membership::knock)),
    ];
    aliased.into_iter().fold(router, |router, (version, path, handler)| {
        router
            .route(&format!("/_matrix/federation/{version}{path}"), handler.clone())
            .route(&format!("{UNSTABLE}{path}"), handler)
    })
}

#[cfg(test)]
mod device_tests;
#[cfg(test)]
mod tests;
