//! `GET proxyDownload/{downloadUrl}` (MIMI #download-using-a-hub-proxy): a file that a peer stores, for another one whose address the
//! first is not to learn.

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::response::Response;
use nabe_service::Service;

use super::{MimiRefusal, PeerIdentity, Target};

pub(super) async fn download(
    State(service): State<Service>,
    peer: PeerIdentity,
    target: Target,
) -> Result<Response, MimiRefusal> {
    let mimi = service.mimi().ok_or(MimiRefusal::UnknownEndpoint)?;
    let asset = mimi.download(peer.domain(), &target.url()?).await?;
    let content_type = asset.content_type.and_then(|text| HeaderValue::try_from(text).ok());
    let mut answer = Response::new(Body::from_stream(asset.body));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, content_type.unwrap_or(super::body::OCTETS));
    // It is as its sender made it, and nobody should take it for more than it says it is.
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(answer)
}
