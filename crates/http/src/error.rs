//! The one place that says what a failure looks like on the wire: for peers `{"errcode","error"}`
//! (LM #int-transport-errors), for clients `{"error":{"code","message"}}`, for MIMI providers a line of text ([`mimi`]). Failures of
//! our own are logged here, once.

use std::time::Duration;

use axum::http::StatusCode;
use axum::http::header::{HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use nabe_service::ServiceError;
use nabe_service::mimi::MimiError;
use nabe_signing::json::{Json, Object};
use nabe_signing::object;
use nabe_types::{ErrorCode, ServerName};
use serde::Serialize;
use utoipa::ToSchema;

use crate::body::BodyError;
use crate::reply::Reply;

pub(crate) mod mimi;

/// What a peer hears.
#[derive(Debug)]
pub(crate) enum FederationError {
    /// Said by us.
    Ours {
        status: StatusCode,
        code: ErrorCode,
        message: String,
        retry_after: Option<Duration>,
        hub: Option<ServerName>,
    },
    /// Said by another server and passed on as it is (LM #int-api-invite).
    Proxied { status: u16, body: Bytes },
}

impl FederationError {
    fn new(status: StatusCode, code: ErrorCode, message: impl Into<String>) -> Self {
        Self::Ours {
            status,
            code,
            message: message.into(),
            retry_after: None,
            hub: None,
        }
    }

    fn with_default_status(code: ErrorCode, message: impl Into<String>) -> Self {
        let status = StatusCode::from_u16(code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self::new(status, code, message)
    }

    /// LM #int-unknown-endpoints; the status tells an unknown path from a wrong method.
    pub(crate) fn unrecognized(status: StatusCode) -> Self {
        Self::new(status, ErrorCode::Unrecognized, ErrorCode::Unrecognized.message())
    }

    /// There is nothing under this address, and never was.
    pub(crate) fn not_found() -> Self {
        Self::with_default_status(ErrorCode::NotFound, ErrorCode::NotFound.message())
    }

    /// A required query parameter is missing.
    pub(crate) fn missing_param(name: &str) -> Self {
        Self::with_default_status(ErrorCode::MissingParam, format!("the parameter `{name}` is missing"))
    }

    /// We could not answer in time.
    pub(crate) fn too_slow() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unknown, TOO_SLOW)
    }

    /// There is no room for the answer, [`HttpLimits::answer_budget`](crate::HttpLimits::answer_budget).
    pub(crate) fn busy() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unknown, BUSY)
    }
}

impl From<BodyError> for FederationError {
    fn from(error: BodyError) -> Self {
        let code = match error {
            BodyError::TooLarge { .. } => ErrorCode::TooLarge,
            BodyError::Busy | BodyError::TooSlow => ErrorCode::Unknown,
            BodyError::Broken | BodyError::NotJson(_) => ErrorCode::NotJson,
            BodyError::BadJson(_) => ErrorCode::BadJson,
        };
        Self::new(error.status(), code, error.to_string())
    }
}

impl From<ServiceError> for FederationError {
    fn from(error: ServiceError) -> Self {
        let error = match error {
            ServiceError::Proxied { status, body } => return Self::Proxied { status, body },
            other => other,
        };
        let code = error.code();
        let default = StatusCode::from_u16(code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let status = match &error {
            // LM #int-transport-auth asks for 401, although the code is that of 403.
            ServiceError::Unauthenticated(_) => StatusCode::UNAUTHORIZED,
            ServiceError::PeerFailed { .. } | ServiceError::BadAnswer { .. } => StatusCode::BAD_GATEWAY,
            ServiceError::RoomTooBusy | ServiceError::GapOpen | ServiceError::ShuttingDown => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            _ => default,
        };
        log(&error, status);
        let (retry_after, hub) = match &error {
            ServiceError::LimitExceeded { retry_after } => (Some(*retry_after), None),
            ServiceError::WrongServer { hub } => (None, hub.clone()),
            _ => (None, None),
        };
        Self::Ours {
            status,
            code,
            message: error.to_string(),
            retry_after,
            hub,
        }
    }
}

impl IntoResponse for FederationError {
    fn into_response(self) -> Response {
        let (status, code, message, retry_after, hub) = match self {
            Self::Proxied { status, body } => return Reply::bytes(body).with_status_number(status).into_response(),
            Self::Ours {
                status,
                code,
                message,
                retry_after,
                hub,
            } => (status, code, message, retry_after, hub),
        };
        let mut body = object! { "errcode" => code.as_str(), "error" => message };
        if let Some(retry_after) = retry_after {
            body.insert(
                "retry_after_ms",
                i64::try_from(retry_after.as_millis()).unwrap_or(i64::MAX),
            );
        }
        if let Some(hub) = hub {
            // Not in the draft, which allows further fields: where the caller might ask instead.
            body.insert("hub_server", hub.as_str());
        }
        with_retry_after(Reply::object(&body).with_status(status).into_response(), retry_after)
    }
}

/// What a client hears.
#[derive(Debug)]
pub(crate) struct ClientError {
    status: StatusCode,
    code: &'static str,
    message: String,
    rule: Option<String>,
    current_epoch: Option<u64>,
    retry_after: Option<Duration>,
}

/// The body of a failed request.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorBody {
    error: ErrorInfo,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorInfo {
    /// For programs: `unauthorized`, `forbidden`, `user_deleted`, `not_found`, `bad_request`, `conflict`, `too_large`, `limit_exceeded`,
    /// `peer_unreachable`, `peer_refused`, `unavailable`, `unknown_endpoint`, `method_not_allowed` or `internal`.
    code: &'static str,
    /// For people.
    message: String,
    /// The number of the authorization rule that forbids it, as in the draft.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    /// For a commit that was made for another epoch: the group's epoch now.
    #[serde(skip_serializing_if = "Option::is_none")]
    current_epoch: Option<u64>,
}

impl ClientError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            rule: None,
            current_epoch: None,
            retry_after: None,
        }
    }

    pub(crate) fn unknown_endpoint() -> Self {
        Self::new(StatusCode::NOT_FOUND, "unknown_endpoint", "there is no such endpoint")
    }

    pub(crate) fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "the endpoint does not take this method",
        )
    }

    pub(crate) fn unauthorized(message: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
    }

    pub(crate) fn forbidden(message: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    pub(crate) fn conflict(message: &str) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", message)
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    pub(crate) fn too_slow() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", TOO_SLOW)
    }

    /// As for peers, [`FederationError::busy`].
    pub(crate) fn busy() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", BUSY)
    }
}

impl From<BodyError> for ClientError {
    fn from(error: BodyError) -> Self {
        let code = match error {
            BodyError::TooLarge { .. } => "too_large",
            BodyError::Busy => "unavailable",
            _ => "bad_request",
        };
        Self::new(error.status(), code, error.to_string())
    }
}

impl From<ServiceError> for ClientError {
    fn from(error: ServiceError) -> Self {
        let (status, code) = client_status(&error);
        log(&error, status);
        let (rule, retry_after) = match &error {
            ServiceError::Refused(refusal) => (refusal.rule().map(str::to_owned), None),
            ServiceError::LimitExceeded { retry_after } => (None, Some(*retry_after)),
            ServiceError::OverQuota { retry_after, .. } => (None, *retry_after),
            _ => (None, None),
        };
        Self {
            status,
            code,
            message: client_message(&error),
            rule,
            current_epoch: match &error {
                ServiceError::Refused(refusal) => refusal.current_epoch(),
                ServiceError::RejectedByHub { current_epoch, .. } => *current_epoch,
                _ => None,
            },
            retry_after,
        }
    }
}

impl From<MimiError> for ClientError {
    fn from(error: MimiError) -> Self {
        let (status, code) = match &error {
            MimiError::Unknown(_) => (StatusCode::NOT_FOUND, "not_found"),
            MimiError::NotTheirs { .. } | MimiError::Forbidden(_) => (StatusCode::FORBIDDEN, "forbidden"),
            MimiError::Invalid { .. } => (StatusCode::BAD_REQUEST, "bad_request"),
            MimiError::LimitExceeded { .. } => (StatusCode::TOO_MANY_REQUESTS, "limit_exceeded"),
            MimiError::NotYet { .. } => (StatusCode::SERVICE_UNAVAILABLE, "not_yet"),
            MimiError::PeerFailed { .. } => (StatusCode::BAD_GATEWAY, "peer_unreachable"),
            MimiError::BadAnswer { .. } => (StatusCode::BAD_GATEWAY, "peer_refused"),
            MimiError::Failed(error) => return error.clone().into(),
        };
        let retry_after = match &error {
            MimiError::LimitExceeded { retry_after } | MimiError::NotYet { retry_after } => Some(*retry_after),
            _ => None,
        };
        tracing::debug!(%error, status = status.as_u16(), "refused a request");
        Self {
            retry_after,
            ..Self::new(status, code, error.to_string())
        }
    }
}

/// What our own gateway says to a user of ours.
impl From<mimi::MimiRefusal> for ClientError {
    fn from(refusal: mimi::MimiRefusal) -> Self {
        match refusal.status() {
            StatusCode::SERVICE_UNAVAILABLE => Self::busy(),
            status if status.is_client_error() => Self::bad_request(refusal.to_string()),
            status => Self::new(status, "internal", refusal.to_string()),
        }
    }
}

impl IntoResponse for ClientError {
    fn into_response(self) -> Response {
        let info = ErrorInfo {
            code: self.code,
            message: self.message,
            rule: self.rule,
            current_epoch: self.current_epoch,
        };
        let mut response = Reply::of(&ErrorBody { error: info })
            .with_status(self.status)
            .into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response
                .headers_mut()
                .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        with_retry_after(response, self.retry_after)
    }
}

fn client_status(error: &ServiceError) -> (StatusCode, &'static str) {
    match error {
        ServiceError::Unauthenticated(_) | ServiceError::UnknownToken => (StatusCode::UNAUTHORIZED, "unauthorized"),
        ServiceError::Refused(_) | ServiceError::Dropped(_) => match error.code() {
            ErrorCode::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            ErrorCode::BadJson | ErrorCode::IncompatibleRoomVersion => (StatusCode::BAD_REQUEST, "bad_request"),
            ErrorCode::BadState => (StatusCode::CONFLICT, "conflict"),
            _ => (StatusCode::FORBIDDEN, "forbidden"),
        },
        ServiceError::PolicyRefused { .. }
        | ServiceError::ForeignUser { .. }
        | ServiceError::InviteRefused
        | ServiceError::NotInRoom
        | ServiceError::OtherDevice
        | ServiceError::RejectedByHub {
            current_epoch: None, ..
        } => (StatusCode::FORBIDDEN, "forbidden"),
        // As if it had been refused by ourselves.
        ServiceError::RejectedByHub {
            current_epoch: Some(_), ..
        } => (StatusCode::CONFLICT, "conflict"),
        ServiceError::UserDeleted => (StatusCode::FORBIDDEN, "user_deleted"),
        ServiceError::NotFound(_) => (StatusCode::NOT_FOUND, "not_found"),
        ServiceError::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
        ServiceError::BadJson(_)
        | ServiceError::BadId(_)
        | ServiceError::BadDevice(_)
        | ServiceError::InvalidParam(_)
        | ServiceError::ExperimentalSuite { .. }
        | ServiceError::IncompatibleRoomVersion { .. } => (StatusCode::BAD_REQUEST, "bad_request"),
        ServiceError::TransactionInProgress | ServiceError::KeyReused | ServiceError::WrongServer { .. } => {
            (StatusCode::CONFLICT, "conflict")
        }
        ServiceError::MediaTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
        ServiceError::LimitExceeded { .. }
        | ServiceError::OverQuota {
            retry_after: Some(_), ..
        } => (StatusCode::TOO_MANY_REQUESTS, "limit_exceeded"),
        // Waiting does not help.
        ServiceError::OverQuota { retry_after: None, .. } => (StatusCode::FORBIDDEN, "limit_exceeded"),
        ServiceError::Proxied { status: 403, .. } => (StatusCode::FORBIDDEN, "peer_refused"),
        ServiceError::Proxied { .. } | ServiceError::BadAnswer { .. } => (StatusCode::BAD_GATEWAY, "peer_refused"),
        ServiceError::PeerFailed { .. } => (StatusCode::BAD_GATEWAY, "peer_unreachable"),
        ServiceError::RoomTooBusy
        | ServiceError::GapOpen
        | ServiceError::OutboxFull { .. }
        | ServiceError::ShuttingDown => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        ServiceError::Store(_) | ServiceError::Disk(_) | ServiceError::HubKeyUnfit => {
            (StatusCode::INTERNAL_SERVER_ERROR, "internal")
        }
    }
}

/// Our sentence, with the other server's own where there is one.
fn client_message(error: &ServiceError) -> String {
    let theirs = match error {
        ServiceError::Proxied { body, .. } => Object::parse(body).ok(),
        _ => None,
    };
    let theirs = theirs
        .as_ref()
        .and_then(|body| body.get("error"))
        .and_then(Json::as_str);
    match theirs {
        Some(theirs) => format!("{error}: {}", theirs.chars().take(MAX_THEIR_WORDS).collect::<String>()),
        None => error.to_string(),
    }
}

fn with_retry_after(mut response: Response, retry_after: Option<Duration>) -> Response {
    if let Some(retry_after) = retry_after {
        // Whole seconds, rounded up: who waits that long is served.
        let seconds = retry_after.as_millis().div_ceil(1000).max(1);
        if let Ok(value) = HeaderValue::from_str(&seconds.to_string()) {
            response.headers_mut().insert(RETRY_AFTER, value);
        }
    }
    response
}

fn log(error: &ServiceError, status: StatusCode) {
    if let ServiceError::Store(cause) = error {
        tracing::error!(%cause, "a request failed");
    } else if let ServiceError::Disk(cause) = error {
        tracing::error!(%cause, "the storage of files failed");
    } else if status.is_server_error() {
        tracing::warn!(%error, "a request failed");
    } else {
        tracing::debug!(%error, status = status.as_u16(), "refused a request");
    }
}

const TOO_SLOW: &str = "the answer took too long";
const BUSY: &str = "too many answers are waiting to be read";
/// Characters of another server's sentence that are passed on.
const MAX_THEIR_WORDS: usize = 500;

#[cfg(test)]
mod tests;
