//! Reads request bodies, bounded in size and time, and as strictly as everything that is signed.

use axum::body::{Body, HttpBody as _};
use axum::http::StatusCode;
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use nabe_signing::json::{Json, JsonError, JsonRule, Limits};
use nabe_types::limits::MAX_JSON_DEPTH;
use tokio::time::timeout;

use crate::HttpLimits;

/// Why a body cannot be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum BodyError {
    /// Over [`HttpLimits::body_bytes`].
    #[error("the request body is larger than {limit} bytes")]
    TooLarge { limit: usize },
    /// Over [`HttpLimits::body_time`].
    #[error("the request body took too long to arrive")]
    TooSlow,
    /// The connection or its framing broke.
    #[error("the request body did not arrive whole")]
    Broken,
    /// Not JSON at all.
    #[error("the request body is not JSON: {0}")]
    NotJson(JsonError),
    /// JSON, but not one we accept: not an object, too deep, a key twice.
    #[error("the request body is not acceptable: {0}")]
    BadJson(JsonError),
}

impl BodyError {
    pub(crate) const fn status(self) -> StatusCode {
        match self {
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Broken | Self::NotJson(_) | Self::BadJson(_) => StatusCode::BAD_REQUEST,
        }
    }
}

/// The whole body.
pub(crate) async fn read(body: Body, limits: &HttpLimits) -> Result<Bytes, BodyError> {
    let too_large = BodyError::TooLarge {
        limit: limits.body_bytes,
    };
    // A body announced as too large is not read at all.
    if body.size_hint().lower() > u64::try_from(limits.body_bytes).unwrap_or(u64::MAX) {
        return Err(too_large);
    }
    match timeout(limits.body_time, Limited::new(body, limits.body_bytes).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large),
        Ok(Err(_)) => Err(BodyError::Broken),
        Err(_) => Err(BodyError::TooSlow),
    }
}

/// The body as a JSON object, in a [`Json`] because that is what a request's signature is over.
pub(crate) fn parse_object(bytes: &[u8]) -> Result<Json, BodyError> {
    let limits = Limits {
        max_bytes: bytes.len(),
        max_depth: MAX_JSON_DEPTH,
    };
    match Json::parse_with(bytes, limits) {
        Ok(json @ Json::Object(_)) => Ok(json),
        Ok(_) => Err(BodyError::BadJson(JsonError {
            offset: 0,
            rule: JsonRule::NotAnObject,
        })),
        Err(error) => Err(match error.rule {
            JsonRule::TooDeep { .. } | JsonRule::DuplicateKey | JsonRule::NumberRange => BodyError::BadJson(error),
            _ => BodyError::NotJson(error),
        }),
    }
}
