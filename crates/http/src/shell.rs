//! What surrounds every route: unknown paths and methods, the time to answer, and what is counted.

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use tokio::time::{Instant, timeout};

use crate::AppState;
use crate::error::{ClientError, FederationError};

/// Makes a router complete. Only once per router: two with fallbacks cannot be merged.
pub(crate) fn finish(routes: Router<AppState>, state: AppState) -> Router {
    routes
        .method_not_allowed_fallback(wrong_method)
        .fallback(unknown_path)
        .layer(from_fn_with_state(state.clone(), surround))
        .with_state(state)
}

/// LM #int-unknown-endpoints. A trailing slash or a leading double one makes a path unknown, too.
async fn unknown_path(uri: Uri) -> Response {
    match is_client_path(uri.path()) {
        true => ClientError::unknown_endpoint().into_response(),
        false => FederationError::unrecognized(StatusCode::NOT_FOUND).into_response(),
    }
}

/// LM #int-unknown-endpoints
async fn wrong_method(uri: Uri) -> Response {
    match is_client_path(uri.path()) {
        true => ClientError::method_not_allowed().into_response(),
        false => FederationError::unrecognized(StatusCode::METHOD_NOT_ALLOWED).into_response(),
    }
}

async fn surround(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let is_client = is_client_path(request.uri().path());
    let method = method_label(request.method());
    // The pattern, never the path: labels must be few.
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "unknown".to_owned(), |path| path.as_str().to_owned());
    let started = Instant::now();
    let response = match timeout(state.limits.answer_time, next.run(request)).await {
        Ok(response) => response,
        Err(_) if is_client => ClientError::too_slow().into_response(),
        Err(_) => FederationError::too_slow().into_response(),
    };
    let status = response.status().as_str().to_owned();
    metrics::histogram!(REQUEST_SECONDS, "method" => method, "route" => route, "status" => status)
        .record(started.elapsed().as_secs_f64());
    response
}

fn is_client_path(path: &str) -> bool {
    path.starts_with("/_nabe/")
}

fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::PUT => "PUT",
        Method::POST => "POST",
        Method::HEAD => "HEAD",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

/// Seconds until a request is answered, by method, route and status.
const REQUEST_SECONDS: &str = "nabe_http_request_seconds";
