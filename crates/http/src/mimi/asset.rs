//! Files of our own users (MIMI #download-files), for everybody who knows where they lie: the file is sealed, and who reads it is not for
//! us to know.

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use bytes::Bytes;

use super::{MimiRefusal, provider};
use crate::answer::FromDisk;
use crate::{AppState, client, media};

pub(super) async fn asset(State(state): State<AppState>, uri: Uri) -> Result<Response, MimiRefusal> {
    let content = provider(&state)?.own_asset(uri.path()).await?;
    let mut answer = Response::new(media::body(Bytes::new(), content, Bytes::new()));
    client::media::as_download(&mut answer);
    answer.extensions_mut().insert(FromDisk);
    Ok(answer)
}
