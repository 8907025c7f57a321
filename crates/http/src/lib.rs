//! What a Nabe server answers over HTTP. Handlers are forms: extract, call the service, wrap. What a failure looks like on
//! the wire is decided in `error.rs` and nowhere else.
//!
//! | Part | Routes |
//! |---|---|
//! | [`federation_router`] | LM #int-transport, one file per endpoint in `federation/` |
//! | [`client_router`] | `/_nabe/v1`, one file per group in `client/`, and the OpenAPI document generated from them; health |
//! | [`operations_router`] | metrics and health, for a port of the operator's own |
//! | [`mimi`] | the endpoints of MIMI; [`mimi::Route`] has all that is served to providers |
//! | [`listener`], [`tls`] | sockets, certificates, limits on connections and on peers that do not read |
//! | [`peer_certificate`] | who is at the other end of a connection where both ends show certificates |

mod answer;
mod body;
mod client;
mod error;
mod federation;
pub mod fuzzing;
pub mod listener;
mod media;
pub mod mimi;
mod operations;
mod params;
pub mod peer_certificate;
mod reply;
mod shell;
mod stall;
mod state;
pub mod tls;

use axum::Router;

pub use answer::AnswerBudget;
pub use body::BodyBudget;
pub use client::openapi;
pub use state::{AppState, HttpLimits, MetricsText};

/// Everything for the public port: federation, client API, health, and JSON answers for whatever is none of them.
pub fn app(state: AppState) -> Router {
    shell::finish(federation::routes().merge(client::routes()), state)
}

/// As [`app`], and what MIMI providers call, on one port. Then that port's TLS asks for certificates.
///
/// # Errors
///
/// [`TemplateError`](nabe_wire::directory::TemplateError) if no URL has the authority of `settings`.
pub fn app_with_mimi(
    endpoints: mimi::Endpoints,
    settings: mimi::MimiSettings,
    state: AppState,
) -> Result<Router, nabe_wire::directory::TemplateError> {
    let mimi = endpoints.routes(settings, &state)?;
    let routes = federation::routes().merge(client::routes()).merge(mimi);
    Ok(shell::finish(routes, state))
}

/// The endpoints other servers call (LM #int-transport), under their stable and unstable paths.
pub fn federation_router(state: AppState) -> Router {
    shell::finish(federation::routes(), state)
}

/// The client API, its OpenAPI document, and health.
pub fn client_router(state: AppState) -> Router {
    shell::finish(client::routes(), state)
}

/// `/metrics` and health, for a port that only the operator reaches.
pub fn operations_router(mut state: AppState) -> Router {
    // Whatever happens on the public port, the operator is told.
    state.limits.answer_budget = HttpLimits::default().answer_budget;
    shell::finish(operations::routes(), state)
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
