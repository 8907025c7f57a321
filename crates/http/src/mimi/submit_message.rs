//! `POST /submitMessage/{roomId}` (MIMI #submit-a-message).

use axum::extract::State;
use nabe_wire::submit_message::SubmitMessageRequest;

use super::{MimiRefusal, PeerIdentity, Target, Tls, TlsReply, provider};
use crate::AppState;

/// A message for one of our rooms. The verdict is in the body, whatever it is.
pub(super) async fn submit_message(
    peer: PeerIdentity,
    target: Target,
    State(state): State<AppState>,
    request: Tls<SubmitMessageRequest>,
) -> Result<TlsReply, MimiRefusal> {
    let room = target.room()?;
    let mimi = provider(&state)?;
    let answer = mimi.submit(peer.domain(), &room, request.value).await?;
    Ok(TlsReply::of(&answer))
}
