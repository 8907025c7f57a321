//! `POST /groupInfo/{roomId}` at the hub: what a client needs that joins by an external commit (MIMI #claim-group-key-information).

use std::time::Duration;

use bytes::Bytes;
use nabe_auth::mimi::{JoinCode, user_of};
use nabe_core::mimi::MimiUri;
use nabe_mls::mimi::check_group_info_query;
use nabe_store::{MimiUserWrite, MimiWrite, ShownJoinCode, Write};
use nabe_types::ServerName;
use nabe_wire::IdentifierUri;
use nabe_wire::directory::Endpoint;
use nabe_wire::group_info::{GroupInfoCode, GroupInfoQuery, GroupInfoRequest, GroupInfoResponse};
use nabe_wire::protocol::Body;

use super::{Mimi, MimiError};
use crate::error::ServiceError;
use crate::metric;
use crate::off_reactor::off_reactor;

impl Mimi {
    /// The GroupInfo, tree and pending proposals of a room whose hub we are, sealed for a client of this provider. A join code that is
    /// good is remembered for the external commit that follows, which has no place for it.
    ///
    /// # Errors
    ///
    /// [`MimiError::LimitExceeded`], since a query fits every room and can be shown again (D-group-info-request-scope); and our own. A
    /// refusal is an answer.
    pub async fn group_info(
        &self,
        from: &ServerName,
        room: &MimiUri,
        request: GroupInfoRequest,
    ) -> Result<GroupInfoResponse, MimiError> {
        self.limit(from, Endpoint::GroupInfo)?;
        let refused = |code| {
            metrics::counter!(metric::MIMI_REFUSED, "endpoint" => "groupInfo").increment(1);
            let room = IdentifierUri::new(room.to_string()).expect("a mimi URI is short enough for any field");
            Ok(GroupInfoResponse::refused(room, code))
        };
        let Body::Mls10(query) = request.body else {
            return refused(GroupInfoCode::NOT_AUTHORIZED);
        };
        let asked = shown(room, &query);
        let query = match check_group_info_query(query) {
            Ok(query) => query,
            Err(error) => {
                tracing::info!(%room, provider = %from, %error, "refused a request for the GroupInfo");
                return refused(GroupInfoCode::NOT_AUTHORIZED);
            }
        };
        let Some(open) = self.open(room).await? else {
            return refused(GroupInfoCode::NO_SUCH_ROOM);
        };
        let code = match &asked {
            Some(shown) => self.join_code(open.room(), &shown.user, &shown.code).await?,
            None => JoinCode::Absent,
        };
        let decided = off_reactor(|| open.room().group_info(from, &query, code, &open.ctx(self)));
        drop(open);
        let answer = match decided {
            Ok(answer) => answer,
            Err(refusal) if refusal.is_ours() => {
                tracing::error!(%room, %refusal, "cannot answer a request for the GroupInfo");
                return Err(MimiError::Failed(ServiceError::HubKeyUnfit));
            }
            Err(refusal) => {
                tracing::info!(%room, provider = %from, %refusal, "refused a request for the GroupInfo");
                return refused(match refusal.is_over() {
                    true => GroupInfoCode::NO_SUCH_ROOM,
                    false => GroupInfoCode::NOT_AUTHORIZED,
                });
            }
        };
        if let (Some(mut shown), JoinCode::For(_)) = (asked, code) {
            shown.expires_at = self.service.now().plus(JOIN_CODE_REMEMBERED);
            let write = Write::Mimi(MimiWrite::User(MimiUserWrite::ShowJoinCode { shown }));
            self.service.commit(write.into()).await?;
        }
        Ok(answer)
    }
}

/// The join code in a query, if it has one, and whose it will be.
fn shown(room: &MimiUri, query: &GroupInfoQuery) -> Option<ShownJoinCode> {
    if query.joining_code.is_empty() {
        return None;
    }
    let user = user_of(&query.requesting_credential)?;
    Some(ShownJoinCode {
        room: room.clone(),
        user: MimiUri::parse(user.as_str()).ok()?,
        signature_key: Bytes::copy_from_slice(&query.requesting_signature_key),
        code: Bytes::copy_from_slice(&query.joining_code),
        expires_at: nabe_types::UnixMillis::ZERO,
    })
}

/// How long somebody may take from the GroupInfo to their commit. Commits of others in between only mean that they ask again.
const JOIN_CODE_REMEMBERED: Duration = Duration::from_secs(24 * 60 * 60);
