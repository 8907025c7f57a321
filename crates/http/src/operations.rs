//! For the operator: is the server alive, is it ready, and what has it been doing.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use nabe_service::Service;
use serde::Serialize;
use utoipa::ToSchema;

use crate::AppState;
use crate::reply::Reply;

pub(crate) fn routes() -> Router<AppState> {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/_nabe/health/live", get(live))
        .route("/_nabe/health/ready", get(ready))
}

/// In the Prometheus text format.
async fn metrics(State(state): State<AppState>) -> impl IntoResponse {
    (
        [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        (state.metrics)(),
    )
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Live {
    /// `live`
    status: &'static str,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Ready {
    /// `ready` or `not_ready`
    status: &'static str,
    checks: Checks,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Checks {
    /// `ok` or `failed`: whether the database answers.
    database: &'static str,
}

/// Whether the process answers at all.
#[utoipa::path(get, path = "/_nabe/health/live", tag = "health", security(()),
    responses((status = 200, description = "The process answers.", body = Live)))]
pub(crate) async fn live() -> Reply {
    Reply::of(&Live { status: "live" })
}

/// Whether requests can be served.
#[utoipa::path(get, path = "/_nabe/health/ready", tag = "health", security(()),
    responses(
        (status = 200, description = "Requests can be served.", body = Ready),
        (status = 503, description = "A check failed.", body = Ready),
    ))]
pub(crate) async fn ready(State(service): State<Service>) -> Reply {
    match service.check_ready().await {
        Ok(()) => Reply::of(&Ready {
            status: "ready",
            checks: Checks { database: "ok" },
        }),
        Err(error) => {
            tracing::warn!(%error, "not ready");
            Reply::of(&Ready {
                status: "not_ready",
                checks: Checks { database: "failed" },
            })
            .with_status(StatusCode::SERVICE_UNAVAILABLE)
        }
    }
}
