//! An OHTTP relay for files (MIMI #download-using-oblivious-http, RFC 9458): a user's client seals its request to the gateway of a hub, and
//! we hand it on, so that we do not learn which file it is about, nor the hub who asks.

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::response::Response;
use nabe_service::mimi::{MAX_SEALED_BYTES, Relayed};

use super::mimi::MimiCaller;
use super::request::Target;
use crate::AppState;
use crate::body;
use crate::error::ClientError;
use crate::mimi::{Asker, KEYS, OhttpGateway, SEALED_ANSWER};

/// The keys of a hub's OHTTP gateway, to seal requests for files to: `application/ohttp-keys` (MIMI #download-using-oblivious-http).
///
/// They come from where the hub's directory says, are the same for all users here, and are kept as long as the hub allows. Whoever does
/// not trust this provider with them fetches them from the hub.
#[utoipa::path(get, path = "/_nabe/v1/mimi/ohttp/{provider}", tag = "mimi", operation_id = "mimi_ohttp_keys",
    params(("provider" = String, Path, description = "The domain of a provider that is the hub of a room of the caller.")),
    responses((status = 200, description = "Key configurations.", body = Vec<u8>, content_type = "application/ohttp-keys")))]
pub(crate) async fn keys(
    State(state): State<AppState>,
    caller: MimiCaller,
    target: Target,
) -> Result<Response, ClientError> {
    let provider = target.path.text("provider")?;
    let provider = caller.mimi.gateway_for(&caller.user, provider).await?;
    let keys = match provider == *caller.mimi.domain() {
        true => own(&state)?.key_list(),
        false => caller.mimi.gateway_keys(&provider).await?,
    };
    Ok(of_type(KEYS, keys.into()))
}

/// Hands a sealed request to a hub's OHTTP gateway (MIMI #download-using-oblivious-http).
///
/// `message/ohttp-req`, of at most 32 KiB, for `message/ohttp-res`. With 409, the gateway has another key: fetch it again. Of rooms whose
/// hub this provider is, it is relay and gateway in one, so that nothing is hidden from it.
#[utoipa::path(post, path = "/_nabe/v1/mimi/ohttp/{provider}", tag = "mimi", operation_id = "relay_mimi_ohttp",
    params(("provider" = String, Path, description = "The domain of a provider that is the hub of a room of the caller.")),
    request_body(content = Vec<u8>, content_type = "message/ohttp-req", description = "A sealed request for a file."),
    responses((status = 200, description = "The sealed answer.", body = Vec<u8>, content_type = "message/ohttp-res")))]
pub(crate) async fn relay(
    State(state): State<AppState>,
    caller: MimiCaller,
    target: Target,
    body: Body,
) -> Result<Response, ClientError> {
    let provider = target.path.text("provider")?;
    let provider = caller.mimi.gateway_for(&caller.user, provider).await?;
    let (sealed, _share) = body::read(body, MAX_SEALED_BYTES, &state.limits).await?;
    let answer = match provider == *caller.mimi.domain() {
        true => own(&state)?
            .open(&caller.mimi, Asker::User(&caller.user), &sealed)
            .await?
            .map(Body::from),
        false => match caller.mimi.relay(&caller.user, &provider, sealed).await? {
            Relayed::Answer(body) => Some(Body::from_stream(body)),
            Relayed::UnknownKey => None,
        },
    };
    let answer = answer.ok_or_else(|| ClientError::conflict("the gateway has another key: fetch it again"))?;
    Ok(of_type(SEALED_ANSWER, answer))
}

fn own(state: &AppState) -> Result<&OhttpGateway, ClientError> {
    let gateway = state.ohttp.as_ref();
    gateway.ok_or_else(|| nabe_service::mimi::MimiError::Unknown("gateway: this provider has none").into())
}

fn of_type(media_type: HeaderValue, body: Body) -> Response {
    let mut answer = Response::new(body);
    answer.headers_mut().insert(CONTENT_TYPE, media_type);
    answer
}
