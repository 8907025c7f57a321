//! `POST /groupInfo/{roomId}` (MIMI #claim-group-key-information).

use axum::extract::State;
use nabe_wire::group_info::GroupInfoRequest;

use super::{MimiRefusal, PeerIdentity, Target, Tls, TlsReply, provider};
use crate::AppState;

/// What a client needs to join one of our rooms, sealed for it.
pub(super) async fn group_info(
    peer: PeerIdentity,
    target: Target,
    State(state): State<AppState>,
    request: Tls<GroupInfoRequest>,
) -> Result<TlsReply, MimiRefusal> {
    let room = target.room()?;
    let mimi = provider(&state)?;
    let answer = mimi.group_info(peer.domain(), &room, request.value).await?;
    Ok(TlsReply::of(&answer))
}
