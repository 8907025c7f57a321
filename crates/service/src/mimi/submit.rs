//! `POST /submitMessage/{roomId}` at the hub: application messages (MIMI #submit-a-message), which it cannot read. As with updates, a
//! message is known by its bytes and taken once.

use bytes::Bytes;
use nabe_core::mimi::MimiUri;
use nabe_store::StoredReply;
use nabe_types::ServerName;
use nabe_wire::Encode as _;
use nabe_wire::submit_message::{Submission, SubmitMessageRequest, SubmitMessageResponse, SubmitVerdict};

use super::rooms::ATTEMPTS;
use super::{Mimi, MimiError, kept_answer};
use crate::error::ServiceError;
use crate::idempotency::Transaction;
use crate::metric;

impl Mimi {
    /// Takes a message for a room whose hub we are, from its sender's provider; `body` is the request as it came. What was accepted once
    /// has the same answer again, byte for byte.
    ///
    /// # Errors
    ///
    /// Only those of our own: a refusal is an answer.
    pub async fn submit(
        &self,
        from: &ServerName,
        room: &MimiUri,
        body: &Bytes,
        request: SubmitMessageRequest,
    ) -> Result<SubmitMessageResponse, MimiError> {
        let nabe_wire::protocol::Body::Mls10(submission) = request.body else {
            return Ok(SubmitVerdict::NotAllowed.into());
        };
        let transaction = Transaction::of_bytes(from, "mimi/submitMessage", room, body);
        let (mimi, from, uri) = (self.clone(), from.clone(), room.clone());
        let work = move |_, transaction: Transaction| async move {
            mimi.take_message(&from, &uri, &submission, &transaction).await
        };
        let reply = self.service.once(transaction, false, work).await?;
        kept_answer(&reply)
    }

    async fn take_message(
        &self,
        from: &ServerName,
        uri: &MimiUri,
        submission: &Submission,
        transaction: &Transaction,
    ) -> Result<StoredReply, ServiceError> {
        let answer = |verdict: SubmitVerdict| Bytes::from(SubmitMessageResponse::from(verdict).to_bytes());
        for _ in 0..ATTEMPTS {
            let Some(open) = self.open(uri).await? else {
                return Ok(transaction.answer(answer(SubmitVerdict::NotAllowed)));
            };
            let submitted = match open.room().submit(from, submission, &open.ctx(self)) {
                Ok(submitted) => submitted,
                Err(refusal) => {
                    tracing::info!(room = %uri, provider = %from, %refusal, "refused a message");
                    metrics::counter!(metric::MIMI_REFUSED, "endpoint" => "submitMessage").increment(1);
                    let verdict = refusal.verdict(open.room().group().epoch());
                    return Ok(transaction.answer(answer(verdict)));
                }
            };
            let body = answer(SubmitVerdict::Accepted(submitted.acceptance));
            let (reply, keep) = transaction.keep(body, &self.service);
            match open.commit(self, submitted.outcome, vec![keep]).await {
                Ok(()) => return Ok(reply),
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error),
            }
        }
        Err(ServiceError::RoomTooBusy)
    }
}
