//! Files. Clients seal them before they upload them: to the server they are bytes.

use axum::body::{Body, HttpBody as _};
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::response::Response;
use bytes::Bytes;
use nabe_service::{Missing, Service, ServiceError, Uploaded};
use nabe_types::UserId;
use serde::Serialize;
use utoipa::ToSchema;

use super::account::Empty;
use super::caller::Authenticated;
use super::request::Target;
use crate::AppState;
use crate::answer::FromDisk;
use crate::body::Pieces;
use crate::error::ClientError;
use crate::media;
use crate::reply::Reply;

/// A file that was taken in.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UploadedBody {
    /// `mxc://server/media`, for the message. The media ID is the file's SHA-256 in URL-safe base64.
    content_uri: String,
    /// How many bytes it has.
    size: u64,
}

/// Uploads a file, which the client has encrypted.
///
/// The same file twice is one file. `too_large` names the limit for one file; `limit_exceeded` that for the caller's files in a day
/// (429, come back after `Retry-After`) or in all (403).
#[utoipa::path(post, path = "/_nabe/v1/media", tag = "media", operation_id = "upload_media",
    request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "The file's bytes."),
    responses((status = 200, description = "The file is kept.", body = UploadedBody)))]
pub(crate) async fn upload(
    State(state): State<AppState>,
    Authenticated(caller): Authenticated,
    body: Body,
) -> Result<Reply, ClientError> {
    let uploaded = take_in(&state, &caller.user, body).await?;
    Ok(Reply::of(&UploadedBody {
        content_uri: format!("mxc://{}/{}", state.service.server_name(), uploaded.media_id),
        size: uploaded.size,
    }))
}

/// Takes a file in, piece by piece.
pub(super) async fn take_in(state: &AppState, user: &UserId, body: Body) -> Result<Uploaded, ClientError> {
    let announced = body.size_hint().exact();
    let mut upload = state.service.begin_upload(user, announced).await?;
    let mut pieces = Pieces::new(body, state.limits.body_time);
    while let Some(piece) = pieces.next().await? {
        upload.write(&piece).await?;
    }
    Ok(upload.finish().await?)
}

/// Whatever it is, no browser shall take it for something to run.
pub(crate) fn as_download(answer: &mut Response) {
    for (name, value) in [
        (CONTENT_TYPE, "application/octet-stream"),
        (CONTENT_DISPOSITION, "attachment"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'"),
    ] {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
}

/// A file, ours or another server's. Of another server's file only its message says whether it is the right one: check the hash there.
#[utoipa::path(get, path = "/_nabe/v1/media/{server}/{media_id}", tag = "media", operation_id = "download_media",
    params(("server" = String, Path, description = "The server in the file's URL."),
        ("media_id" = String, Path, description = "The file's ID there.")),
    responses((status = 200, description = "The file's bytes.", body = Vec<u8>, content_type = "application/octet-stream")))]
pub(crate) async fn download(
    State(service): State<Service>,
    Authenticated(_): Authenticated,
    target: Target,
) -> Result<Response, ClientError> {
    let content = service.media(&target.path.server()?, &target.path.media()?).await?;
    let mut answer = Response::new(media::body(Bytes::new(), content, Bytes::new()));
    as_download(&mut answer);
    answer.extensions_mut().insert(FromDisk);
    Ok(answer)
}

/// Removes a file that the caller has uploaded. It is kept for others who have uploaded it, too, and by servers that have fetched it.
#[utoipa::path(delete, path = "/_nabe/v1/media/{server}/{media_id}", tag = "media", operation_id = "remove_media",
    params(("server" = String, Path, description = "This server."),
        ("media_id" = String, Path, description = "The file's ID.")),
    responses((status = 200, description = "It is no longer the caller's.", body = Empty)))]
pub(crate) async fn remove(
    State(service): State<Service>,
    Authenticated(caller): Authenticated,
    target: Target,
) -> Result<Reply, ClientError> {
    if target.path.server()? != *service.server_name() {
        return Err(ServiceError::NotFound(Missing::Media).into());
    }
    service.remove_upload(&caller.user, &target.path.media()?).await?;
    Ok(Reply::of(&Empty {}))
}
