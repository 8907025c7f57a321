//! The client API, `/_nabe/v1`: what users of this server, and a provider's backend on their behalf, can do. No draft specifies
//! it. The OpenAPI document at `/_nabe/openapi.json` is generated from the same annotations that make the routes.

mod account;
mod caller;
mod devices;
mod event_type;
mod events;
mod group;
mod keys;
pub(crate) mod media;
mod membership;
mod mimi;
mod mimi_ohttp;
mod mimi_profiles;
mod mimi_reports;
mod model;
mod openapi;
mod request;
mod rooms;
mod stream;
mod to_device;

use std::sync::LazyLock;

use axum::Router;
use axum::routing::get;
use bytes::Bytes;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::reply::Reply;
use crate::{AppState, operations};

/// The OpenAPI 3.1 document of the client API, as JSON.
#[must_use]
pub fn openapi() -> String {
    openapi::complete(documented().into_openapi())
        .to_pretty_json()
        .expect("the document has string keys only")
}

pub(crate) fn routes() -> Router<AppState> {
    let (router, _) = documented().split_for_parts();
    router.route("/_nabe/openapi.json", get(document))
}

fn documented() -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(openapi::frame())
        .routes(routes!(account::whoami))
        .routes(routes!(account::devices))
        .routes(routes!(account::delete))
        .routes(routes!(devices::put, devices::remove))
        .routes(routes!(devices::of_user))
        .routes(routes!(keys::upload, keys::left))
        .routes(routes!(keys::claim))
        .routes(routes!(rooms::create, rooms::list))
        .routes(routes!(rooms::overview))
        .routes(routes!(rooms::state))
        .routes(routes!(rooms::state_with_empty_key))
        .routes(routes!(rooms::state_event))
        .routes(routes!(rooms::members))
        .routes(routes!(rooms::delivery))
        .routes(routes!(group::newest))
        .routes(routes!(membership::join))
        .routes(routes!(membership::leave))
        .routes(routes!(membership::knock))
        .routes(routes!(membership::invite))
        .routes(routes!(membership::kick))
        .routes(routes!(membership::ban))
        .routes(routes!(membership::unban))
        .routes(routes!(events::send, events::history))
        .routes(routes!(events::one))
        .routes(routes!(to_device::send))
        .routes(routes!(media::upload))
        .routes(routes!(media::download, media::remove))
        .routes(routes!(stream::stream))
        .routes(routes!(stream::handled))
        .routes(routes!(mimi::hub))
        .routes(routes!(mimi::upload_key_packages, mimi::key_packages_left))
        .routes(routes!(mimi::key_material))
        .routes(routes!(mimi::put_consent, mimi::consents))
        .routes(routes!(mimi::create_room, mimi::rooms))
        .routes(routes!(mimi::messages))
        .routes(routes!(mimi::update))
        .routes(routes!(mimi::submit_message))
        .routes(routes!(mimi::group_info))
        .routes(routes!(mimi::upload_asset))
        .routes(routes!(mimi::download_asset))
        .routes(routes!(mimi_ohttp::keys, mimi_ohttp::relay))
        .routes(routes!(mimi_profiles::profile, mimi_profiles::put_profile))
        .routes(routes!(mimi_profiles::identifier_query))
        .routes(routes!(mimi_reports::report_abuse))
        .routes(routes!(mimi_reports::reports))
        .routes(routes!(mimi_reports::report, mimi_reports::decide))
        .routes(routes!(operations::live))
        .routes(routes!(operations::ready))
}

/// The same bytes for everybody, so made once.
async fn document() -> Reply {
    static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| openapi().into());
    Reply::bytes(DOCUMENT.clone())
}

#[cfg(test)]
mod tests;
