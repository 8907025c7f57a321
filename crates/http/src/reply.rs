//! JSON answers.

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use nabe_signing::json::Object;
use serde::Serialize;

/// What every JSON answer is labeled with (LM #int-transport-requests-responses); JSON is UTF-8, so no `charset`.
pub(crate) const APPLICATION_JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A JSON answer with status 200 unless another is given.
#[derive(Debug)]
pub(crate) struct Reply {
    status: StatusCode,
    body: Bytes,
}

impl Reply {
    /// Bytes that are JSON already, passed on as they are.
    pub(crate) fn bytes(body: impl Into<Bytes>) -> Self {
        Self {
            status: StatusCode::OK,
            body: body.into(),
        }
    }

    /// The canonical form of an object.
    pub(crate) fn object(object: &Object) -> Self {
        Self::bytes(object.to_canonical())
    }

    /// A value of ours.
    pub(crate) fn of<T: Serialize>(value: &T) -> Self {
        Self::bytes(serde_json::to_vec(value).expect("our own answers have string keys only"))
    }

    /// The same with another status.
    pub(crate) fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// With a status that came as a number, from the store or a peer; anything that is none becomes 500.
    pub(crate) fn with_status_number(self, status: u16) -> Self {
        self.with_status(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR))
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        response.headers_mut().insert(CONTENT_TYPE, APPLICATION_JSON);
        response
    }
}
