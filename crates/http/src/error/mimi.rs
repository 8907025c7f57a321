//! What a MIMI provider hears when a request does not get to where its struct could be answered. The drafts define neither statuses nor
//! bodies for that (`drafts/mimi-protocol/decisions.md`, D-http-refusals): the status says whose fault it is, the body, one line of
//! text, what the fault is.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use nabe_service::ServiceError;
use nabe_service::mimi::MimiError;
use nabe_types::ServerName;
use nabe_wire::DecodeError;

use super::{BUSY, TOO_SLOW, log, with_retry_after};
use crate::body::BodyError;

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum MimiRefusal {
    /// Neither the connection nor a proxy of ours shows a certificate.
    #[error("a client certificate is needed")]
    NoCertificate,
    /// What a proxy of ours tells of a certificate is of no use.
    #[error("the client certificate: {0}")]
    Certificate(#[from] CertificateFault),
    /// `From` does not say who calls.
    #[error("From: {0}")]
    From(#[from] FromFault),
    /// The certificate is not for the domain in `From`.
    #[error("the client certificate is not for {0}")]
    OtherDomain(ServerName),
    /// The operator's lists exclude the caller.
    #[error("{0} is excluded here")]
    Excluded(ServerName),
    /// `Host` is no name of ours.
    #[error("Host: not a provider that is served here")]
    OtherHost,
    /// There is no such endpoint.
    #[error("no such endpoint")]
    UnknownEndpoint,
    /// The endpoint has another method.
    #[error("the endpoint has another method")]
    WrongMethod,
    /// The path does not name what the endpoint is about.
    #[error("the path does not name {0}")]
    BadTarget(&'static str),
    /// The body is not the struct it should be.
    #[error("not a {name}: {error}")]
    Undecodable {
        /// The draft's name of the struct.
        name: &'static str,
        /// Where and by which rule it breaks.
        error: DecodeError,
    },
    /// The body did not arrive whole within its limits.
    #[error("{text}")]
    Body {
        /// Whose fault it is.
        status: StatusCode,
        /// What the fault is.
        text: String,
    },
    /// It got to where it could be answered, and could not be.
    #[error("{text}")]
    Failed {
        /// Whose fault it is.
        status: StatusCode,
        /// What the fault is.
        text: String,
        /// When it may be tried again.
        retry_after: Option<Duration>,
    },
    /// We could not answer in time.
    #[error("{TOO_SLOW}")]
    TooSlow,
    /// There is no room for the answer.
    #[error("{BUSY}")]
    Busy,
}

/// Why a `From` names no provider (MIMI #transport-layer).
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FromFault {
    /// There is none.
    #[error("missing")]
    Missing,
    /// There are several.
    #[error("there is more than one")]
    Several,
    /// It is no bare address.
    #[error("not an address")]
    NotAnAddress,
    /// The local part is another.
    #[error("the local part is not `mimi`")]
    LocalPart,
    /// What follows is no domain.
    #[error("not a domain")]
    Domain,
}

/// Why a certificate that a proxy tells of is of no use.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CertificateFault {
    /// The header is there more than once.
    #[error("there is more than one")]
    Several,
    /// The header does not have the form it should have, or too many certificates.
    #[error("malformed")]
    Malformed,
    /// Nobody we trust issued it, it is not valid now, or it is for another usage.
    #[error("{0}")]
    Untrusted(rustls::Error),
}

impl MimiRefusal {
    pub(crate) const fn status(&self) -> StatusCode {
        match self {
            Self::NoCertificate | Self::Certificate(_) | Self::From(_) => StatusCode::UNAUTHORIZED,
            Self::OtherDomain(_) | Self::Excluded(_) => StatusCode::FORBIDDEN,
            Self::OtherHost => StatusCode::MISDIRECTED_REQUEST,
            Self::UnknownEndpoint => StatusCode::NOT_FOUND,
            Self::WrongMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::BadTarget(_) | Self::Undecodable { .. } => StatusCode::BAD_REQUEST,
            Self::Body { status, .. } | Self::Failed { status, .. } => *status,
            Self::TooSlow | Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl From<BodyError> for MimiRefusal {
    fn from(error: BodyError) -> Self {
        Self::Body {
            status: error.status(),
            text: error.to_string(),
        }
    }
}

impl From<MimiError> for MimiRefusal {
    fn from(error: MimiError) -> Self {
        let text = error.to_string();
        let failed = |status, retry_after| Self::Failed {
            status,
            text,
            retry_after,
        };
        match &error {
            MimiError::Unknown(_) => failed(StatusCode::NOT_FOUND, None),
            MimiError::NotTheirs { .. } | MimiError::Forbidden(_) => failed(StatusCode::FORBIDDEN, None),
            MimiError::Invalid { .. } => failed(StatusCode::BAD_REQUEST, None),
            MimiError::LimitExceeded { retry_after } => failed(StatusCode::TOO_MANY_REQUESTS, Some(*retry_after)),
            MimiError::NotYet { retry_after } => failed(StatusCode::SERVICE_UNAVAILABLE, Some(*retry_after)),
            MimiError::PeerFailed { .. } | MimiError::BadAnswer { .. } => failed(StatusCode::BAD_GATEWAY, None),
            MimiError::Failed(error) => {
                let status = match error {
                    ServiceError::ShuttingDown | ServiceError::RoomTooBusy => StatusCode::SERVICE_UNAVAILABLE,
                    _ => StatusCode::INTERNAL_SERVER_ERROR,
                };
                log(error, status);
                failed(status, None)
            }
        }
    }
}

impl IntoResponse for MimiRefusal {
    fn into_response(self) -> Response {
        let status = self.status();
        tracing::debug!(refusal = %self, status = status.as_u16(), "refused a provider's request");
        let mut response = Response::new(Body::from(format!("{self}\n")));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, TEXT);
        let wait = match self {
            Self::Failed {
                retry_after: Some(wait),
                ..
            } => Some(wait),
            _ => (status == StatusCode::SERVICE_UNAVAILABLE).then_some(WAIT),
        };
        with_retry_after(response, wait)
    }
}

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
/// How long to wait when there is no room: such things pass within seconds or not at all.
const WAIT: Duration = Duration::from_secs(5);
