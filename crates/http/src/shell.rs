//! What surrounds every route: unknown paths and methods, the time to answer, connections that end with an answer, and what
//! is counted.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::header::{CONNECTION, EXPECT};
use axum::http::{HeaderValue, Method, StatusCode, Uri, Version};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Frame, SizeHint};
use nabe_service::mimi::ASSETS;
use nabe_wire::directory::DIRECTORY_PATH;
use tokio::time::{Instant, timeout};

use crate::AppState;
use crate::error::mimi::MimiRefusal;
use crate::error::{ClientError, FederationError};
use crate::listener::owner;
use crate::mimi::OHTTP_PATH;

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
    match Caller::of(uri.path()) {
        Caller::Client => ClientError::unknown_endpoint().into_response(),
        Caller::Provider => MimiRefusal::UnknownEndpoint.into_response(),
        Caller::Server => FederationError::unrecognized(StatusCode::NOT_FOUND).into_response(),
    }
}

/// LM #int-unknown-endpoints
async fn wrong_method(uri: Uri) -> Response {
    match Caller::of(uri.path()) {
        Caller::Client => ClientError::method_not_allowed().into_response(),
        Caller::Provider => MimiRefusal::WrongMethod.into_response(),
        Caller::Server => FederationError::unrecognized(StatusCode::METHOD_NOT_ALLOWED).into_response(),
    }
}

async fn surround(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let caller = Caller::of(request.uri().path());
    let time = match is_media_path(request.uri().path()) {
        true => state.limits.media_time,
        false => state.limits.answer_time,
    };
    let method = method_label(request.method());
    // The pattern, never the path: labels must be few.
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "unknown".to_owned(), |path| path.as_str().to_owned());
    let from = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let from = from.map(|from| owner(from.0.ip()));
    let can_only_close = request.version() <= Version::HTTP_11;
    let (request, rest) = keep_rest(request);
    let started = Instant::now();
    let response = match timeout(time, next.run(request)).await {
        Ok(response) => response,
        Err(_) => caller.too_slow(),
    };
    let status = response.status().as_u16();
    let mut response = match state.limits.answer_budget.hold(response, from) {
        Some(response) => response,
        None => {
            metrics::counter!(ANSWERS_REFUSED).increment(1);
            caller.busy()
        }
    };
    let labels = [
        ("method", method.to_owned()),
        ("route", route),
        ("status", response.status().as_str().to_owned()),
    ];
    metrics::histogram!(REQUEST_SECONDS, &labels).record(started.elapsed().as_secs_f64());
    if can_only_close && !rest.pass((200..300).contains(&status)).await {
        // Nothing can follow a body that nobody reads, so the connection ends here: say it.
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The request, and where its body is left when the handler is done with it.
fn keep_rest(request: Request) -> (Request, Rest) {
    let asks_first = request.headers().contains_key(EXPECT);
    let state = match request.body().is_end_stream() {
        true => RestState::Read,
        false => RestState::InUse,
    };
    let rest = Rest {
        state: Arc::new(Mutex::new(state)),
        asks_first,
    };
    let state = Arc::clone(&rest.state);
    let request = request.map(|body| {
        Body::new(Watched {
            body: Some(body),
            state,
        })
    });
    (request, rest)
}

/// What is left of a request's body.
struct Rest {
    state: Arc<Mutex<RestState>>,
    /// The peer sends the body only once we ask for it (`Expect: 100-continue`).
    asks_first: bool,
}

enum RestState {
    InUse,
    Left(Body),
    Read,
    Broken,
}

impl Rest {
    /// Whether the next request can follow. What a handler that was content did not care for is read and thrown away, if it
    /// is little and comes soon; who was refused is not listened to.
    async fn pass(self, was_accepted: bool) -> bool {
        let state = std::mem::replace(&mut *locked(&self.state), RestState::Broken);
        match state {
            RestState::Read => true,
            RestState::Left(body) if was_accepted && !self.asks_first => {
                timeout(REST_TIME, throw_away(body)).await.unwrap_or(false)
            }
            RestState::Left(_) | RestState::InUse | RestState::Broken => false,
        }
    }
}

/// Whether the body ended, within [`REST_BYTES`].
async fn throw_away(mut body: Body) -> bool {
    let mut left = REST_BYTES;
    if body.size_hint().lower() > u64::try_from(left).unwrap_or(u64::MAX) {
        return false;
    }
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return false };
        let len = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(len) {
            Some(less) => left = less,
            None => return false,
        }
    }
    true
}

fn locked(state: &Mutex<RestState>) -> MutexGuard<'_, RestState> {
    state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A body that says how far it was read, and is handed back when it is dropped.
struct Watched {
    /// Gone once it is broken.
    body: Option<Body>,
    state: Arc<Mutex<RestState>>,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(body).poll_frame(cx);
        match polled {
            Poll::Ready(None) => *locked(&self.state) = RestState::Read,
            Poll::Ready(Some(Err(_))) => {
                self.body = None;
                *locked(&self.state) = RestState::Broken;
            }
            _ => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut state = locked(&self.state);
        if let (RestState::InUse, Some(body)) = (&*state, self.body.take()) {
            *state = match body.is_end_stream() {
                true => RestState::Read,
                false => RestState::Left(body),
            };
        }
    }
}

/// Who calls, by the path: each hears of failures in a form of its own.
#[derive(Clone, Copy)]
enum Caller {
    /// A user's client, or the provider's backend.
    Client,
    /// A provider that speaks MIMI.
    Provider,
    /// A server that speaks Linearized Matrix, and anybody else.
    Server,
}

impl Caller {
    fn of(path: &str) -> Self {
        if path.starts_with("/_nabe/") {
            Self::Client
        } else if path.starts_with("/_mimi/") || path == DIRECTORY_PATH || path == OHTTP_PATH {
            Self::Provider
        } else {
            Self::Server
        }
    }

    fn too_slow(self) -> Response {
        match self {
            Self::Client => ClientError::too_slow().into_response(),
            Self::Provider => MimiRefusal::TooSlow.into_response(),
            Self::Server => FederationError::too_slow().into_response(),
        }
    }

    fn busy(self) -> Response {
        match self {
            Self::Client => ClientError::busy().into_response(),
            Self::Provider => MimiRefusal::Busy.into_response(),
            Self::Server => FederationError::busy().into_response(),
        }
    }
}

fn is_media_path(path: &str) -> bool {
    let is_asset = path.starts_with(ASSETS) || path == "/_nabe/v1/mimi/assets";
    let is_download = path.starts_with("/_nabe/v1/mimi/rooms/") && path.ends_with("/download");
    let is_mimi_download = is_download || path.starts_with("/_nabe/v1/mimi/ohttp/");
    path == "/_nabe/v1/media" || path.starts_with("/_nabe/v1/media/") || is_asset || is_mimi_download
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

/// Bytes of a body nobody cared for that are read all the same, and how long: a new connection costs both sides more.
const REST_BYTES: usize = 64 * 1024;
const REST_TIME: Duration = Duration::from_secs(2);
/// Counts answers for which there was no room, [`HttpLimits::answer_budget`](crate::HttpLimits::answer_budget).
const ANSWERS_REFUSED: &str = "nabe_http_answers_refused_total";
/// Seconds until a request is answered, by method, route and status.
const REQUEST_SECONDS: &str = "nabe_http_request_seconds";
