//! What surrounds every route: unknown paths and methods, the time to answer, connections that end with an answer, and what
//! is counted.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Method, StatusCode, Uri, Version};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
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
    let version = request.version();
    let (request, was_read) = watch_body(request);
    let started = Instant::now();
    let mut response = match timeout(state.limits.answer_time, next.run(request)).await {
        Ok(response) => response,
        Err(_) if is_client => ClientError::too_slow().into_response(),
        Err(_) => FederationError::too_slow().into_response(),
    };
    if version <= Version::HTTP_11 && !was_read.load(Ordering::Relaxed) {
        // Nothing can follow a body that nobody reads, so the connection ends here: say it.
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let status = response.status().as_str().to_owned();
    metrics::histogram!(REQUEST_SECONDS, "method" => method, "route" => route, "status" => status)
        .record(started.elapsed().as_secs_f64());
    response
}

/// The flag is set once the body was read to its end, as an absent one is from the beginning.
fn watch_body(request: Request) -> (Request, Arc<AtomicBool>) {
    let was_read = Arc::new(AtomicBool::new(request.body().is_end_stream()));
    let flag = Arc::clone(&was_read);
    let request = request.map(|body| Body::new(Watched { body, was_read: flag }));
    (request, was_read)
}

struct Watched {
    body: Body,
    was_read: Arc<AtomicBool>,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(polled, Poll::Ready(None)) {
            self.was_read.store(true, Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
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
