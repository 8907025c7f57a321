//! `GET /_matrix/federation/v1/media/download/{mediaId}`: a file of one of our users, as Matrix 1.11 has it. LM #content-repository.

use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use nabe_service::{Service, ServiceError};

use super::request::SignedQuery;
use crate::answer::FromDisk;
use crate::error::FederationError;
use crate::media;

pub(super) async fn download(
    State(service): State<Service>,
    request: SignedQuery,
) -> Result<Response, FederationError> {
    let (envelope, content) = service.media_for_peer(&request.origin, &request.path.media()?).await?;
    let content_type =
        HeaderValue::try_from(envelope.content_type).map_err(|_| ServiceError::InvalidParam("mediaId"))?;
    let mut answer = Response::new(media::body(envelope.head, content, envelope.tail));
    answer.headers_mut().insert(CONTENT_TYPE, content_type);
    answer.extensions_mut().insert(FromDisk);
    Ok(answer)
}
