//! `POST /update/{roomId}` (MIMI #update-room-state).

use axum::extract::State;
use nabe_wire::update::UpdateRequest;

use super::{MimiRefusal, PeerIdentity, Target, Tls, TlsReply, provider};
use crate::AppState;

/// Proposals or a commit for one of our rooms. The verdict is in the body, whatever it is.
pub(super) async fn update(
    peer: PeerIdentity,
    target: Target,
    State(state): State<AppState>,
    request: Tls<UpdateRequest>,
) -> Result<TlsReply, MimiRefusal> {
    let room = target.room()?;
    let mimi = provider(&state)?;
    let answer = mimi.update(peer.domain(), &room, &request.bytes, request.value).await?;
    Ok(TlsReply::of(&answer))
}
