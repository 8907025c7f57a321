//! `POST /reportAbuse/{roomId}` (MIMI #report-abuse).

use axum::extract::State;
use nabe_wire::report_abuse::AbuseReport;

use super::{MimiRefusal, PeerIdentity, Target, Tls, TlsReply, provider};
use crate::AppState;

/// A report about one of our rooms. That it was taken says nothing about what becomes of it.
pub(super) async fn report_abuse(
    peer: PeerIdentity,
    target: Target,
    State(state): State<AppState>,
    report: Tls<AbuseReport>,
) -> Result<TlsReply, MimiRefusal> {
    let room = target.room()?;
    let mimi = provider(&state)?;
    mimi.report_abuse(peer.domain(), &room, &report.bytes, &report.value)
        .await?;
    Ok(TlsReply::taken())
}
