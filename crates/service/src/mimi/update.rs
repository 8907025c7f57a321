//! `POST /update/{roomId}` at the hub: proposals and commits (MIMI #update-room-state). Followers forward what their clients send as it
//! is, so a request is known by its bytes: a lost answer is had again by the same request again, and the work is done once.

use std::collections::BTreeMap;

use bytes::Bytes;
use nabe_auth::mimi::{JoinCode, user_of};
use nabe_core::mimi::{KeyPackageRoute, MimiRoom, MimiUri, UpdateRefusal};
use nabe_store::StoredReply;
use nabe_types::ServerName;
use nabe_wire::Encode as _;
use nabe_wire::mls::{FramedContentBody, MlsMessageBody, Sender};
use nabe_wire::update::{HandshakeParts, UpdateRequest, UpdateRoomResponse};

use super::inbox::MAX_WELCOMED;
use super::rooms::ATTEMPTS;
use super::{Mimi, MimiError, NO_SUCH_ROOM, kept_answer};
use crate::error::ServiceError;
use crate::idempotency::Transaction;
use crate::metric;
use crate::off_reactor::off_reactor;

impl Mimi {
    /// Takes proposals or a commit for a room whose hub we are, from the provider of whoever made them; `body` is the request as it
    /// came. Of two commits for one epoch one is a success. What was accepted once has the same answer again, byte for byte.
    ///
    /// # Errors
    ///
    /// Only those of our own: a refusal is an answer.
    pub async fn update(
        &self,
        from: &ServerName,
        room: &MimiUri,
        body: &Bytes,
        request: UpdateRequest,
    ) -> Result<UpdateRoomResponse, MimiError> {
        let transaction = Transaction::of_bytes(from, "mimi/update", room, body);
        let (mimi, from, uri) = (self.clone(), from.clone(), room.clone());
        let work = move |_, transaction: Transaction| async move {
            mimi.take_update(&from, &uri, &request, &transaction).await
        };
        let reply = self.service.once(transaction, false, work).await?;
        kept_answer(&reply)
    }

    async fn take_update(
        &self,
        from: &ServerName,
        uri: &MimiUri,
        request: &UpdateRequest,
        transaction: &Transaction,
    ) -> Result<StoredReply, ServiceError> {
        let routes = self.routes(request).await?;
        let shown = self.join_code_before(uri, request).await?;
        for _ in 0..ATTEMPTS {
            let Some(open) = self.open(uri).await? else {
                let answer = UpdateRoomResponse::not_allowed(NO_SUCH_ROOM);
                return Ok(transaction.answer(answer.to_bytes().into()));
            };
            let code = shown
                .as_deref()
                .map_or(JoinCode::Absent, |code| remembered(open.room(), code));
            let decided = off_reactor(|| open.room().update(from, request, &routes, code, &open.ctx(self)));
            let outcome = match decided {
                Ok(outcome) => outcome,
                Err(refusal @ UpdateRefusal::Signing(_)) => {
                    tracing::error!(room = %uri, %refusal, "cannot answer an update");
                    return Err(ServiceError::HubKeyUnfit);
                }
                Err(refusal) => {
                    tracing::info!(room = %uri, provider = %from, %refusal, "refused an update");
                    metrics::counter!(metric::MIMI_REFUSED, "endpoint" => "update").increment(1);
                    let answer = refusal.response(open.room().group().epoch());
                    let answer = answer.expect("there is a verdict on all but our own faults");
                    return Ok(transaction.answer(answer.to_bytes().into()));
                }
            };
            let answer = UpdateRoomResponse::success(outcome.accepted.as_u64());
            let (reply, keep) = transaction.keep(answer.to_bytes().into(), &self.service);
            match open.commit(self, outcome, vec![keep]).await {
                Ok(()) => return Ok(reply),
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error),
            }
        }
        Err(ServiceError::RoomTooBusy)
    }

    /// Whose the key packages in a commit's Welcome are, as far as they were fetched through us.
    async fn routes(&self, request: &UpdateRequest) -> Result<BTreeMap<Vec<u8>, KeyPackageRoute>, ServiceError> {
        let HandshakeParts::Commit(parts) = &request.with else {
            return Ok(BTreeMap::new());
        };
        let secrets = parts.welcome.iter().flat_map(|welcome| &welcome.secrets);
        // Who is not looked for was not fetched through us: the room refuses the commit.
        let references: Vec<_> = secrets
            .take(MAX_WELCOMED)
            .map(|secrets| Bytes::copy_from_slice(&secrets.new_member))
            .collect();
        if references.is_empty() {
            return Ok(BTreeMap::new());
        }
        let found = self.service.store().fetched_key_packages(&references).await?;
        let route = found
            .into_iter()
            .map(|package| (package.reference.to_vec(), package.route));
        Ok(route.collect())
    }

    /// The join code that whoever joins by this commit showed when they asked for the GroupInfo (MIMI #claim-group-key-information).
    async fn join_code_before(&self, room: &MimiUri, request: &UpdateRequest) -> Result<Option<Bytes>, ServiceError> {
        let MlsMessageBody::Public(message) = &request.proposal_or_commit.body else {
            return Ok(None);
        };
        let (Sender::NewMemberCommit, FramedContentBody::Commit(commit)) =
            (&message.content.sender, &message.content.body)
        else {
            return Ok(None);
        };
        let Some(leaf) = commit.path.as_ref().map(|path| &path.leaf_node) else {
            return Ok(None);
        };
        let user = user_of(&leaf.credential).and_then(|user| MimiUri::parse(user.as_str()).ok());
        let Some(user) = user else {
            return Ok(None);
        };
        let (store, now) = (self.service.store(), self.service.now());
        let shown = store.shown_join_code(room, &user, &leaf.signature_key, now).await?;
        Ok(shown.map(|shown| shown.code))
    }
}

/// What a code is worth that was one of the room's when it was shown.
fn remembered(room: &MimiRoom, code: &[u8]) -> JoinCode {
    match room.policy().join_code(code) {
        JoinCode::Unknown => JoinCode::Expired,
        code => code,
    }
}
