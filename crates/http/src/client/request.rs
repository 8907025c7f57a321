//! A client's request: bodies with types, path, query, and the key that makes a repetition harmless.

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use nabe_signing::Object;
use nabe_types::{DeviceId, UserId};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::caller::one_header;
use crate::AppState;
use crate::body;
use crate::error::ClientError;
use crate::params::{PathParams, Query};

/// What a request says outside its body.
pub(crate) struct Target {
    pub(crate) path: PathParams,
    pub(crate) query: Query,
    /// `Idempotency-Key`: 1 to 128 visible ASCII characters.
    pub(crate) idempotency_key: Option<String>,
}

impl FromRequestParts<AppState> for Target {
    type Rejection = ClientError;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, ClientError> {
        let key = one_header(&parts.headers, "idempotency-key")?;
        if key.is_some_and(|key| !(1..=128).contains(&key.len()) || !key.bytes().all(|byte| byte.is_ascii_graphic())) {
            return Err(ClientError::bad_request(
                "`Idempotency-Key` must be 1 to 128 visible ASCII characters",
            ));
        }
        let idempotency_key = key.map(str::to_owned);
        Ok(Self {
            path: PathParams::read(parts).await?,
            query: Query::of(parts)?,
            idempotency_key,
        })
    }
}

impl Target {
    /// `{user_id}`
    pub(crate) fn user(&self) -> Result<UserId, ClientError> {
        UserId::parse(self.path.text("user_id")?)
            .map_err(|error| ClientError::bad_request(format!("`user_id`: {error}")))
    }

    /// `{device_id}`
    pub(crate) fn device(&self) -> Result<DeviceId, ClientError> {
        DeviceId::parse(self.path.text("device_id")?)
            .map_err(|error| ClientError::bad_request(format!("`device_id`: {error}")))
    }
}

/// A body with a type; an absent one counts as `{}`. Read as strictly as what is signed, and unknown fields are errors, so that a
/// misspelled option does not pass unnoticed.
pub(crate) struct Typed<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<AppState> for Typed<T> {
    type Rejection = ClientError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ClientError> {
        // The caller is authenticated by now, and may send many messages at once.
        let (bytes, _share) = body::read(request.into_body(), state.limits.body_bytes, &state.limits).await?;
        let bytes: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        body::parse_object(bytes)?;
        let mut json = serde_json::Deserializer::from_slice(bytes);
        let typed = serde_path_to_error::deserialize(&mut json);
        typed.map(Self).map_err(|error| {
            let path = error.path().to_string();
            match path.as_str() {
                "." => ClientError::bad_request(error.inner().to_string()),
                path => ClientError::bad_request(format!("`{path}`: {}", error.inner())),
            }
        })
    }
}

/// A JSON object kept as it is: its numbers are read as exactly as those of signed JSON.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(transparent)]
pub(crate) struct Content(pub(crate) Object);

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Object::parse(raw.get().as_bytes())
            .map(Self)
            .map_err(|_| D::Error::custom("not an object"))
    }
}
