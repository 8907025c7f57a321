//! Bodies in TLS's presentation language (MIMI #mimi-endpoints-and-framing): read whole, each within the size of its own struct, and
//! refused with the byte, field and rule where they break. The draft has no media type for them: none is asked for, and ours is
//! `application/octet-stream`.

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use nabe_wire::{DecodeError, Encode, Message};

use crate::AppState;
use crate::body::{self, BodyShare};
use crate::error::mimi::MimiRefusal;

/// A body that is one struct, from the first byte to the last.
#[derive(Debug)]
pub struct Tls<T> {
    /// What it says.
    pub value: T,
    /// The body as it came: what is repeated is recognized by it.
    pub bytes: Bytes,
    _share: BodyShare,
}

impl<T: Message + Send + 'static> FromRequest<AppState> for Tls<T> {
    type Rejection = MimiRefusal;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, MimiRefusal> {
        // The draft names no media type. What is sealed is a relay's, who does not vouch for what is in it.
        let media_type = request.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        if media_type.is_some_and(|media_type| media_type.to_ascii_lowercase().starts_with(b"message/")) {
            return Err(MimiRefusal::Failed {
                status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
                text: format!("a {} is no message of HTTP", T::NAME),
                retry_after: None,
            });
        }
        let (bytes, share) = body::read(request.into_body(), T::MAX_LEN, &state.limits).await?;
        let read = read::<T>(bytes.clone()).await;
        let value = read.map_err(|error| MimiRefusal::Undecodable { name: T::NAME, error })?;
        Ok(Self {
            value,
            bytes,
            _share: share,
        })
    }
}

/// A large body is read where it holds nobody else up.
async fn read<T: Message + Send + 'static>(bytes: Bytes) -> Result<T, DecodeError> {
    if bytes.len() <= LARGE {
        return T::from_bytes(&bytes);
    }
    match tokio::task::spawn_blocking(move || T::from_bytes(&bytes)).await {
        Ok(read) => read,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}

/// An answer to a request that could be read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TlsReply {
    status: StatusCode,
    body: Bytes,
}

impl TlsReply {
    /// A struct, which says what became of the request: 200 whatever that is.
    #[must_use]
    pub fn of(answer: &impl Encode) -> Self {
        Self {
            status: StatusCode::OK,
            body: answer.to_bytes().into(),
        }
    }

    /// 201 and no body: taken (MIMI #fanout-messages-and-room-events, MIMI #convey-explicit-consent).
    #[must_use]
    pub const fn taken() -> Self {
        Self {
            status: StatusCode::CREATED,
            body: Bytes::new(),
        }
    }
}

impl IntoResponse for TlsReply {
    fn into_response(self) -> Response {
        let has_body = !self.body.is_empty();
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        if has_body {
            response.headers_mut().insert(CONTENT_TYPE, OCTETS);
        }
        response
    }
}

pub(super) const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");
/// Bytes that are read in about a millisecond.
const LARGE: usize = 256 * 1024;
