//! Who makes a request: a user with an access token, or the provider's backend for one of its users.

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use nabe_service::ServiceError;
use nabe_service::client::Caller;
use nabe_signing::sha256;
use nabe_types::{DeviceId, UserId};

use crate::AppState;
use crate::error::ClientError;

/// An authenticated caller within their rate.
pub(crate) struct Authenticated(pub(crate) Caller);

impl FromRequestParts<AppState> for Authenticated {
    type Rejection = ClientError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ClientError> {
        let token = bearer_token(&parts.headers)?;
        let caller = match is_provider_token(token, state) {
            true => provider(parts, state).await?,
            false => state.service.authenticate_user(token).await?,
        };
        state.service.limit_user(&caller.user)?;
        Ok(Self(caller))
    }
}

/// Whether a request shows the provider's own credential, for whichever user.
pub(super) fn is_provider(parts: &Parts, state: &AppState) -> Result<bool, ClientError> {
    Ok(is_provider_token(bearer_token(&parts.headers)?, state))
}

/// The provider itself, by its own credential; no user is one.
pub(crate) struct Provider;

impl FromRequestParts<AppState> for Provider {
    type Rejection = ClientError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ClientError> {
        match is_provider(parts, state)? {
            true => Ok(Self),
            false => Err(ClientError::forbidden("this needs the provider's own credential")),
        }
    }
}

fn is_provider_token(token: &str, state: &AppState) -> bool {
    let hash = state.provider_token_hash;
    hash.is_some_and(|hash| equal_in_constant_time(&sha256(token.as_bytes()), &hash))
}

fn bearer_token(headers: &HeaderMap) -> Result<&str, ClientError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(ClientError::unauthorized("send exactly one `Authorization` header"));
    };
    let (scheme, token) = value
        .to_str()
        .ok()
        .and_then(|value| value.split_once(' '))
        .unwrap_or_default();
    match scheme.eq_ignore_ascii_case("Bearer") && !token.is_empty() && token.len() <= MAX_TOKEN_BYTES {
        true => Ok(token.trim()),
        false => Err(ClientError::unauthorized(
            "the `Authorization` header must be `Bearer <token>`",
        )),
    }
}

async fn provider(parts: &Parts, state: &AppState) -> Result<Caller, ClientError> {
    let user = one_header(&parts.headers, "nabe-user")?
        .ok_or_else(|| ClientError::bad_request("the provider's credential needs the header `Nabe-User`"))?;
    let user = UserId::parse(user).map_err(|error| ClientError::bad_request(format!("`Nabe-User`: {error}")))?;
    let device = one_header(&parts.headers, "nabe-device")?
        .map(DeviceId::parse)
        .transpose();
    let device = device.map_err(|error| ClientError::bad_request(format!("`Nabe-Device`: {error}")))?;
    match state.service.act_as(&user).await {
        Ok(()) => Ok(Caller { user, device }),
        Err(ServiceError::NotFound(_)) => Err(ClientError::bad_request("`Nabe-User` must be a user of this server")),
        Err(error) => Err(error.into()),
    }
}

/// The only value of a header; `None` when it is absent.
pub(super) fn one_header<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, ClientError> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            let value = value
                .to_str()
                .map_err(|_| ClientError::bad_request(format!("the header `{name}` is not ASCII")))?;
            Ok(Some(value))
        }
        (Some(_), Some(_)) => Err(ClientError::bad_request(format!("the header `{name}` occurs twice"))),
    }
}

/// Takes as long whatever the difference, although the hashes tell nothing about the token anyway.
fn equal_in_constant_time(a: &[u8; 32], b: &[u8; 32]) -> bool {
    std::hint::black_box(a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b))) == 0
}

const MAX_TOKEN_BYTES: usize = 1024;
