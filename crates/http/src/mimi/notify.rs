//! `POST /notify/{roomId}` (MIMI #fanout-messages-and-room-events).

use axum::extract::State;
use nabe_wire::notify::FanoutBatch;

use super::{MimiRefusal, PeerIdentity, Target, Tls, TlsReply, provider};
use crate::AppState;

/// What a hub sends about a room of its own.
pub(super) async fn notify(
    peer: PeerIdentity,
    target: Target,
    State(state): State<AppState>,
    batch: Tls<FanoutBatch>,
) -> Result<TlsReply, MimiRefusal> {
    let room = target.room()?;
    let mimi = provider(&state)?;
    mimi.notify(peer.domain(), &room, &batch.value, &batch.bytes).await?;
    Ok(TlsReply::taken())
}
