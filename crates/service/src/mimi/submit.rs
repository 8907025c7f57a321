//! `POST /submitMessage/{roomId}` at the hub: application messages (MIMI #submit-a-message), which it cannot read. As with updates, a
//! message is known by its bytes and taken once.
//!
//! What comes while the room is busy, as it is for as long as a disk takes, waits; whoever gets hold of the room next decides on all of
//! it. So however many messages come for one room, they do not wait for each other's commits.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use nabe_core::mimi::MimiUri;
use nabe_signing::sha256;
use nabe_store::StoredReply;
use nabe_types::ServerName;
use nabe_wire::Encode as _;
use nabe_wire::directory::Endpoint;
use nabe_wire::submit_message::{Submission, SubmitMessageRequest, SubmitMessageResponse, SubmitVerdict};
use tokio::sync::oneshot;

use super::order::mark_of;
use super::rooms::{ATTEMPTS, OpenRoom};
use super::{Mimi, MimiError, kept_answer};
use crate::error::ServiceError;
use crate::idempotency::Transaction;
use crate::metric;

/// Messages that wait for their rooms.
#[derive(Default)]
pub(crate) struct Waiting {
    rooms: Mutex<BTreeMap<MimiUri, VecDeque<Message>>>,
}

/// A message, and who waits to hear what became of it.
struct Message {
    from: ServerName,
    submission: Arc<Submission>,
    transaction: Transaction,
    done: oneshot::Sender<Result<StoredReply, ServiceError>>,
}

impl Mimi {
    /// Takes a message for a room whose hub we are, from its sender's provider. What was accepted once has the same answer again, byte for
    /// byte; in another's name it is refused (D-message-once).
    ///
    /// # Errors
    ///
    /// [`MimiError::LimitExceeded`] of a provider that asks too often, and those of our own: a refusal is an answer.
    pub async fn submit(
        &self,
        from: &ServerName,
        room: &MimiUri,
        request: SubmitMessageRequest,
    ) -> Result<SubmitMessageResponse, MimiError> {
        self.limit(from, Endpoint::SubmitMessage)?;
        let nabe_wire::protocol::Body::Mls10(submission) = request.body else {
            return Ok(SubmitVerdict::NotAllowed.into());
        };
        let transaction = transaction(from, room, &submission);
        let submission = Arc::new(submission);
        for _ in 0..ATTEMPTS {
            let (mimi, provider, uri) = (self.clone(), from.clone(), room.clone());
            let submission = Arc::clone(&submission);
            let work = move |_, transaction: Transaction| async move {
                mimi.take_message(provider, &uri, submission, transaction).await
            };
            let reply = self.service.once_among_many(transaction.clone(), work).await?;
            let answer: SubmitMessageResponse = kept_answer(&reply)?;
            if transaction.is_answered_by(&reply) {
                return Ok(answer);
            }
            // Under another name, and at the same time: if that was refused, it is this one's turn.
            if matches!(answer.body.mls10(), Some(SubmitVerdict::Accepted(_))) {
                tracing::info!(%room, provider = %from, "refused a message that is another sender's");
                metrics::counter!(metric::MIMI_REFUSED, "endpoint" => "submitMessage").increment(1);
                return Ok(SubmitVerdict::NotAllowed.into());
            }
        }
        Err(ServiceError::RoomTooBusy.into())
    }

    /// Puts a message to those that wait for the room, and decides on all that wait once the room is there, unless somebody else has
    /// taken this one along.
    async fn take_message(
        &self,
        from: ServerName,
        uri: &MimiUri,
        submission: Arc<Submission>,
        transaction: Transaction,
    ) -> Result<StoredReply, ServiceError> {
        let (done, mut reply) = oneshot::channel();
        let waiting = &self.state.waiting;
        waiting.add(
            uri,
            Message {
                from,
                submission,
                transaction,
                done,
            },
        );
        loop {
            let open = self.open(uri).await;
            if let Ok(reply) = reply.try_recv() {
                return reply;
            }
            let messages = waiting.take(uri);
            if messages.is_empty() {
                // It was taken along, and is stored by now or not.
                drop(open);
                return reply.await.unwrap_or(Err(ServiceError::ShuttingDown));
            }
            let replies = match open {
                Ok(open) => self.take_new(uri, open, &messages).await,
                Err(error) => Err(error),
            };
            answer_all(messages, replies);
        }
    }

    /// Answers messages that came together: those that came before as they were answered then.
    async fn take_new(
        &self,
        uri: &MimiUri,
        open: Option<OpenRoom>,
        messages: &[Message],
    ) -> Result<Vec<StoredReply>, ServiceError> {
        let transactions: Vec<_> = messages.iter().map(|message| &message.transaction).collect();
        let known = self.service.stored_replies(&transactions).await?;
        let new = messages.iter().zip(&known).filter(|(_, known)| known.is_none());
        let new: Vec<_> = new.map(|(message, _)| message).collect();
        let mut answers = match new.is_empty() {
            true => Vec::new(),
            false => self.take_messages(uri, open, &new).await?,
        }
        .into_iter();
        let reply = |known: Option<StoredReply>| known.or_else(|| answers.next());
        Ok(known.into_iter().filter_map(reply).collect())
    }

    /// Decides on messages that came together, and stores those that are taken in one commit.
    async fn take_messages(
        &self,
        uri: &MimiUri,
        mut open: Option<OpenRoom>,
        messages: &[&Message],
    ) -> Result<Vec<StoredReply>, ServiceError> {
        let body = |verdict: SubmitVerdict| Bytes::from(SubmitMessageResponse::from(verdict).to_bytes());
        for _ in 0..ATTEMPTS {
            let Some(room) = open else {
                let refused = |message: &&Message| message.transaction.answer(body(SubmitVerdict::NotAllowed));
                return Ok(messages.iter().map(refused).collect());
            };
            let epoch = room.room().group().epoch();
            let submissions = messages.iter().map(|message| (&message.from, &*message.submission));
            let (answers, outcome) = room.room().submit_all(submissions, &room.ctx(self));
            let mut kept = Vec::new();
            let replies = messages.iter().zip(answers).map(|(message, answer)| match answer {
                Ok(acceptance) => {
                    let verdict = SubmitVerdict::Accepted(acceptance);
                    let (reply, keep) = message.transaction.keep(body(verdict), &self.service);
                    kept.push(keep);
                    reply
                }
                Err(refusal) => {
                    tracing::info!(room = %uri, provider = %message.from, %refusal, "refused a message");
                    metrics::counter!(metric::MIMI_REFUSED, "endpoint" => "submitMessage").increment(1);
                    message.transaction.answer(body(refusal.verdict(epoch)))
                }
            });
            let replies: Vec<_> = replies.collect();
            let Some(outcome) = outcome else {
                return Ok(replies);
            };
            match room.commit(self, outcome, kept).await {
                Ok(()) => return Ok(replies),
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error),
            }
            open = self.open(uri).await?;
        }
        Err(ServiceError::RoomTooBusy)
    }
}

impl Waiting {
    fn rooms(&self) -> MutexGuard<'_, BTreeMap<MimiUri, VecDeque<Message>>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many wait for a room.
    #[cfg(test)]
    pub(super) fn count(&self, room: &MimiUri) -> usize {
        self.rooms().get(room).map_or(0, VecDeque::len)
    }

    fn add(&self, room: &MimiUri, message: Message) {
        self.rooms().entry(room.clone()).or_default().push_back(message);
    }

    /// Those that have waited longest, as many as are decided on at once.
    fn take(&self, room: &MimiUri) -> Vec<Message> {
        let mut rooms = self.rooms();
        let Some(waiting) = rooms.get_mut(room) else {
            return Vec::new();
        };
        let taken = waiting.drain(..waiting.len().min(TOGETHER)).collect();
        if waiting.is_empty() {
            rooms.remove(room);
        }
        taken
    }
}

/// By which a message is known: its bytes. Whose it is said to be tells one request from another.
fn transaction(from: &ServerName, room: &MimiUri, submission: &Submission) -> Transaction {
    let sender = [from.as_str(), submission.sending_uri.as_str()].join("\0");
    let message = mark_of(&submission.app_message);
    Transaction::of_thing(room, "mimi/submitMessage", &message, sha256(sender.as_bytes()))
}

/// Nobody listening any more is fine: what is stored is found when they come back.
fn answer_all(messages: Vec<Message>, replies: Result<Vec<StoredReply>, ServiceError>) {
    match replies {
        Ok(replies) => {
            for (message, reply) in messages.into_iter().zip(replies) {
                let _ = message.done.send(Ok(reply));
            }
        }
        Err(error) => {
            for message in messages {
                let _ = message.done.send(Err(error.clone()));
            }
        }
    }
}

/// Messages that are decided on at once, before anybody else has a turn: about a millisecond, most of it for franks.
const TOGETHER: usize = 32;
