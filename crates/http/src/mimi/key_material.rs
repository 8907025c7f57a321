//! `POST /keyMaterial/{targetUser}` (MIMI #fetch-key-material).

use axum::extract::State;
use nabe_wire::key_material::KeyMaterialRequest;

use super::{MimiRefusal, PeerIdentity, Target, Tls, TlsReply, provider};
use crate::AppState;

/// Key packages of a user: of one of ours, or, if we are the room's hub, of anybody.
pub(super) async fn key_material(
    peer: PeerIdentity,
    target: Target,
    State(state): State<AppState>,
    request: Tls<KeyMaterialRequest>,
) -> Result<TlsReply, MimiRefusal> {
    let user = target.user()?;
    let mimi = provider(&state)?;
    let answer = mimi.key_material(peer.domain(), &user, request.value).await?;
    Ok(TlsReply::of(&answer))
}
