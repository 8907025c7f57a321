//! A request of another server, authenticated (LM #int-transport-auth): the body is read within bounds as generic JSON, then
//! every `X-Matrix` header is checked over the request target exactly as it came, and only then is anything given a type.

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use nabe_signing::json::Json;
use nabe_signing::{Object, sha256};
use nabe_types::ServerName;

use crate::AppState;
use crate::body;
use crate::error::FederationError;
use crate::params::{PathParams, Query};

/// A signed request without a body.
pub(super) struct SignedQuery {
    /// Who sent it.
    pub(super) origin: ServerName,
    pub(super) path: PathParams,
    pub(super) query: Query,
}

/// A signed request with a JSON object as its body.
pub(super) struct Signed {
    /// Who sent it.
    pub(super) origin: ServerName,
    pub(super) path: PathParams,
    pub(super) body: Object,
    /// SHA-256 of the body as it came.
    pub(super) body_sha256: [u8; 32],
}

/// A request with a JSON object as its body that nobody signs.
pub(super) struct Unsigned {
    pub(super) body: Object,
}

impl FromRequestParts<AppState> for SignedQuery {
    type Rejection = FederationError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, FederationError> {
        let origin = authenticate(parts, state, None).await?;
        Ok(Self {
            origin,
            path: PathParams::read(parts).await?,
            query: Query::of(parts)?,
        })
    }
}

impl FromRequest<AppState> for Signed {
    type Rejection = FederationError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, FederationError> {
        let (mut parts, body) = request.into_parts();
        let bytes = body::read(body, &state.limits).await?;
        let json = body::parse_object(&bytes)?;
        let origin = authenticate(&parts, state, Some(&json)).await?;
        Ok(Self {
            origin,
            path: PathParams::read(&mut parts).await?,
            body: object(json),
            body_sha256: sha256(&bytes),
        })
    }
}

impl FromRequest<AppState> for Unsigned {
    type Rejection = FederationError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, FederationError> {
        let bytes = body::read(request.into_body(), &state.limits).await?;
        Ok(Self {
            body: object(body::parse_object(&bytes)?),
        })
    }
}

async fn authenticate(parts: &Parts, state: &AppState, body: Option<&Json>) -> Result<ServerName, FederationError> {
    // Bytes that are not UTF-8 make a header malformed, not absent.
    let headers: Vec<String> = parts
        .headers
        .get_all(AUTHORIZATION)
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .collect();
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    Ok(state
        .service
        .authenticate(parts.method.as_str(), target, &headers, body)
        .await?)
}

fn object(json: Json) -> Object {
    json.into_object().expect("only objects are let through")
}
