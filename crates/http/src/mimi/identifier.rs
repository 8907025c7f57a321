//! `POST /identifierQuery/{domain}` (MIMI #find-internal-address).

use axum::extract::State;
use nabe_wire::identifier_query::IdentifierRequest;

use super::{MimiRefusal, PeerIdentity, Target, Tls, TlsReply, provider};
use crate::AppState;

/// Another provider looks for a user of ours.
pub(super) async fn identifier_query(
    peer: PeerIdentity,
    target: Target,
    State(state): State<AppState>,
    request: Tls<IdentifierRequest>,
) -> Result<TlsReply, MimiRefusal> {
    let domain = target.domain()?;
    let mimi = provider(&state)?;
    let answer = mimi.find(peer.domain(), &domain, &request.value).await?;
    Ok(TlsReply::of(&answer))
}
