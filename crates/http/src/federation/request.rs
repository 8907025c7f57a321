//! A request of another server, authenticated (LM #int-transport-auth): what the `X-Matrix` headers
//! alone decide is decided before the body is read, then the body is read within bounds as generic JSON, every header is
//! checked over the request target exactly as it came, and only then is anything given a type.

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use nabe_signing::json::Json;
use nabe_signing::{Object, sha256};
use nabe_types::ServerName;

use crate::body::{self, BodyShare};
use crate::error::FederationError;
use crate::params::{PathParams, Query};
use crate::{AppState, HttpLimits};

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
    _share: BodyShare,
}

/// A [`Signed`] request that may be as large as bodies get: a transaction.
pub(super) struct SignedTransaction(pub(super) Signed);

/// A request with a JSON object as its body that nobody signs.
pub(super) struct Unsigned {
    pub(super) body: Object,
    _share: BodyShare,
}

impl FromRequestParts<AppState> for SignedQuery {
    type Rejection = FederationError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, FederationError> {
        let origin = authenticate(parts, &authorization(parts), state, None).await?;
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
        Self::read(request, small(&state.limits), state).await
    }
}

impl FromRequest<AppState> for SignedTransaction {
    type Rejection = FederationError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, FederationError> {
        Ok(Self(Signed::read(request, state.limits.body_bytes, state).await?))
    }
}

impl Signed {
    async fn read(request: Request, limit: usize, state: &AppState) -> Result<Self, FederationError> {
        let (mut parts, body) = request.into_parts();
        let authorization = authorization(&parts);
        state.service.check_claim(&authorization)?;
        let (bytes, share) = body::read(body, limit, &state.limits).await?;
        let json = body::parse_object(&bytes)?;
        let origin = authenticate(&parts, &authorization, state, Some(&json)).await?;
        Ok(Self {
            origin,
            path: PathParams::read(&mut parts).await?,
            body: object(json),
            body_sha256: sha256(&bytes),
            _share: share,
        })
    }
}

impl FromRequest<AppState> for Unsigned {
    type Rejection = FederationError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, FederationError> {
        let (bytes, share) = body::read(request.into_body(), small(&state.limits), &state.limits).await?;
        Ok(Self {
            body: object(body::parse_object(&bytes)?),
            _share: share,
        })
    }
}

/// Bytes that are not UTF-8 make a header malformed, not absent.
fn authorization(parts: &Parts) -> Vec<String> {
    let values = parts.headers.get_all(AUTHORIZATION).iter();
    values
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .collect()
}

async fn authenticate(
    parts: &Parts,
    authorization: &[String],
    state: &AppState,
    body: Option<&Json>,
) -> Result<ServerName, FederationError> {
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    Ok(state
        .service
        .authenticate(parts.method.as_str(), target, authorization, body)
        .await?)
}

fn small(limits: &HttpLimits) -> usize {
    limits.small_body_bytes.min(limits.body_bytes)
}

fn object(json: Json) -> Object {
    json.into_object().expect("only objects are let through")
}
