//! `POST /requestConsent/{targetUser}` and `POST /updateConsent/{requesterUser}` (MIMI #convey-explicit-consent). The path names a user
//! or a domain (D-path-variables); whom it is about, the body says.

use axum::extract::State;
use nabe_wire::consent::ConsentEntry;

use super::{MimiRefusal, PeerIdentity, Target, Tls, TlsReply, provider};
use crate::AppState;

/// Another provider's user asks for consent, or does no longer.
pub(super) async fn request_consent(
    peer: PeerIdentity,
    target: Target,
    State(state): State<AppState>,
    entry: Tls<ConsentEntry>,
) -> Result<TlsReply, MimiRefusal> {
    target.user_or_domain()?;
    let mimi = provider(&state)?;
    mimi.request_consent(peer.domain(), &entry.value).await?;
    Ok(TlsReply::taken())
}

/// Another provider's user grants consent, or revokes it.
pub(super) async fn update_consent(
    peer: PeerIdentity,
    target: Target,
    State(state): State<AppState>,
    entry: Tls<ConsentEntry>,
) -> Result<TlsReply, MimiRefusal> {
    target.user_or_domain()?;
    let mimi = provider(&state)?;
    mimi.update_consent(peer.domain(), &entry.value).await?;
    Ok(TlsReply::taken())
}
