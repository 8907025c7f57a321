//! What a local user sends to a room, wherever its hub is: to ourselves, or to the hub, by bytes that stay as they are (MIMI
//! #update-room-state, MIMI #submit-a-message, MIMI #claim-group-key-information). The hub's verdict goes back as it is.
//!
//! The hub does not send a provider what came from it. So what it accepted goes from here into the log that the user's other clients
//! read (`order`). A request is on record before it is sent, and until its verdict is known and in the log: neither a caller who hangs
//! up, nor a crash, nor an answer that got lost takes anything from the others. Until then the same bytes are sent again and again, to
//! which a hub answers the same (D-requests-again).

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use nabe_auth::mimi::user_of;
use nabe_core::mimi::MimiUri;
use nabe_signing::{base64u, sha256};
use nabe_store::{
    Batch, Forwarded, IdempotencyKey, MimiOrderWrite, MimiUserWrite, MimiWrite, OpenForward, StoredReply, Write,
};
use nabe_types::{ServerName, UnixMillis};
use nabe_wire::directory::Endpoint;
use nabe_wire::group_info::{GroupInfoRequest, GroupInfoResponse};
use nabe_wire::mls::{FramedContentBody, MlsMessage, MlsMessageBody, Proposal, Sender};
use nabe_wire::notify::{FanoutMessage, FanoutParts};
use nabe_wire::protocol::Body;
use nabe_wire::submit_message::{SubmitMessageRequest, SubmitMessageResponse, SubmitVerdict};
use nabe_wire::update::{HandshakeParts, UpdateRequest, UpdateRoomResponse, UpdateVerdict};
use nabe_wire::{Kept, Message};
use tokio::sync::{Notify, watch};

use super::order::{Place, Sequence, mark_of, marks_of_all};
use super::urges::Urges;
use super::{Mimi, MimiError};
use crate::deliver::delay;
use crate::metric;
use crate::ports::PeerError;
use crate::ports::mimi::{MimiPeerError, MimiRequest};
use crate::settings::DeliverySettings;

/// A room and [`Forwarded::request`].
type Key = (MimiUri, [u8; 32]);
type Outcome = Option<Result<Bytes, MimiError>>;

/// Requests to other hubs that are being made.
#[derive(Default)]
pub(crate) struct Forwarding {
    running: Mutex<BTreeMap<Key, watch::Receiver<Outcome>>>,
    /// Hubs that are being sent again what they gave no verdict on.
    repeated_to: Mutex<BTreeSet<ServerName>>,
    /// Rooms whose hub was heard, and whose requests are therefore repeated at once.
    urges: Mutex<Urges>,
    wake: Notify,
}

impl Forwarding {
    fn urges(&self) -> MutexGuard<'_, Urges> {
        self.urges.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets rooms whose hubs were not heard for a while.
    pub(super) fn forget(&self, now: UnixMillis) {
        self.urges().forget(now);
    }
}

/// Takes the request off the list when its task ends, however it ends.
struct Running {
    mimi: Mimi,
    key: Key,
}

impl Drop for Running {
    fn drop(&mut self) {
        let running = &self.mimi.state.forwarding.running;
        running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

/// Takes the hub off the list of those that are being sent something again.
struct Repeating {
    mimi: Mimi,
    hub: ServerName,
}

impl Drop for Repeating {
    fn drop(&mut self) {
        let forwarding = &self.mimi.state.forwarding;
        let mut hubs = forwarding.repeated_to.lock().unwrap_or_else(PoisonError::into_inner);
        hubs.remove(&self.hub);
        drop(hubs);
        forwarding.wake.notify_one();
    }
}

/// A request without a verdict.
struct Unanswered {
    error: MimiError,
    /// The hub has not taken it, for certain.
    is_not_taken: bool,
    retry_after: Option<Duration>,
}

impl Mimi {
    /// Has the room's hub take proposals or a commit of a local user's client. By an external commit the user comes into the room, and may
    /// read it from there on. Whoever is not in the group yet has to be the user: the hub believes us about that.
    ///
    /// # Errors
    ///
    /// [`MimiError::Invalid`] for a body that is none, [`MimiError::PeerFailed`] and [`MimiError::BadAnswer`] when the hub's verdict
    /// could not be had: the same again is then the same request. [`MimiError::LimitExceeded`] for a user with too many such requests.
    pub async fn forward_update(
        &self,
        user: &MimiUri,
        room: &MimiUri,
        body: &Bytes,
    ) -> Result<UpdateRoomResponse, MimiError> {
        let request: UpdateRequest = read(body)?;
        if !messages_of(&request).all(|message| may_be_of(user, message)) {
            return Err(MimiError::Invalid {
                field: "proposalOrCommit",
                rule: "by a client of the user who sends it",
            });
        }
        let Some(hub) = self.hub_elsewhere(room)? else {
            return self.update(self.domain(), room, body, request).await;
        };
        let message = &request.proposal_or_commit;
        self.forward(&hub, user, room, Endpoint::Update, body, message).await
    }

    /// Has the room's hub take a message of a local user, who has to be the one it is said to be of: the hub believes us.
    ///
    /// # Errors
    ///
    /// As for [`forward_update`](Self::forward_update).
    pub async fn forward_submit(
        &self,
        user: &MimiUri,
        room: &MimiUri,
        body: &Bytes,
    ) -> Result<SubmitMessageResponse, MimiError> {
        let request: SubmitMessageRequest = read(body)?;
        let sender = request.body.mls10().map(|submission| submission.sending_uri.as_str());
        if sender.is_some_and(|sender| sender != user.to_string()) {
            return Err(MimiError::Invalid {
                field: "sendingUri",
                rule: "the user who sends",
            });
        }
        let Some(hub) = self.hub_elsewhere(room)? else {
            return self.submit(self.domain(), room, request).await;
        };
        match request.body.mls10() {
            Some(submission) => {
                let message = &submission.app_message;
                self.forward(&hub, user, room, Endpoint::SubmitMessage, body, message)
                    .await
            }
            // Whatever it is, it comes into no log.
            None => self.ask_hub(&hub, Endpoint::SubmitMessage, room, body).await,
        }
    }

    /// Asks the room's hub for what a local user's client needs to join.
    ///
    /// # Errors
    ///
    /// As for [`forward_update`](Self::forward_update).
    pub async fn forward_group_info(
        &self,
        user: &MimiUri,
        room: &MimiUri,
        body: &Bytes,
    ) -> Result<GroupInfoResponse, MimiError> {
        let request: GroupInfoRequest = read(body)?;
        let credential = request.body.mls10().map(|query| &query.requesting_credential);
        let asks = credential.map(|credential| user_of(credential).is_some_and(|it| it.as_str() == user.to_string()));
        if asks == Some(false) {
            return Err(MimiError::Invalid {
                field: "requestingCredential",
                rule: "that of the user who asks",
            });
        }
        match self.hub_elsewhere(room)? {
            Some(hub) => self.ask_hub(&hub, Endpoint::GroupInfo, room, body).await,
            None => self.group_info(self.domain(), room, request).await,
        }
    }

    /// The room's hub; `None` if that is us.
    pub(super) fn hub_elsewhere(&self, room: &MimiUri) -> Result<Option<ServerName>, MimiError> {
        let hub = ServerName::parse(room.host()).map_err(|_| MimiError::Invalid {
            field: "roomId",
            rule: "the room of a provider",
        })?;
        Ok((hub != *self.domain()).then_some(hub))
    }

    /// The hub's verdict on what a local user sends, be it known already, on its way, or still to be asked for.
    async fn forward<T: Message>(
        &self,
        hub: &ServerName,
        user: &MimiUri,
        room: &MimiUri,
        endpoint: Endpoint,
        body: &Bytes,
        message: &Kept<MlsMessage>,
    ) -> Result<T, MimiError> {
        let place = Place::of(message).ok_or(MimiError::Invalid {
            field: "body",
            rule: "a message within a group",
        })?;
        let (now, name) = (self.service.now(), endpoint.name());
        let forwarded = Forwarded {
            room: room.clone(),
            request: sha256(&[name.as_bytes(), &[0], body].concat()),
            hub: hub.clone(),
            user: user.clone(),
            endpoint: name.to_owned(),
            kind: place.kind,
            epoch: place.epoch,
            message: mark_of(message),
            joins_from: None,
            body: body.clone(),
            sent_at: now,
            failures: 0,
            next_attempt: now.plus(QUESTION_TIMEOUT + STORE_PAUSE),
        };
        let is_joining = matches!(
            &message.body,
            MlsMessageBody::Public(message) if message.content.sender == Sender::NewMemberCommit
        );
        let key = (room.clone(), forwarded.request);
        let mimi = self.clone();
        let work = async move { mimi.begin_forward(forwarded, is_joining).await };
        let (mut outcome, _) = self.join_or_begin(key, work)?;
        let settled = outcome.wait_for(Option::is_some).await;
        // The sender is dropped unsent only if the task panicked or the runtime stops.
        let settled = settled.ok().and_then(|settled| settled.clone());
        let answer = settled.unwrap_or(Err(crate::ServiceError::ShuttingDown.into()))?;
        T::from_bytes(&answer).map_err(|_| self.bad_answer(hub))
    }

    /// Does the work in a task of its own, unless it is being done; whether it was not.
    fn join_or_begin(
        &self,
        key: Key,
        work: impl Future<Output = Result<Bytes, MimiError>> + Send + 'static,
    ) -> Result<(watch::Receiver<Outcome>, bool), MimiError> {
        let running = &self.state.forwarding.running;
        let mut running = running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(outcome) = running.get(&key) {
            return Ok((outcome.clone(), false));
        }
        if self.service.is_stopping() {
            return Err(crate::ServiceError::ShuttingDown.into());
        }
        let (sender, outcome) = watch::channel(None);
        running.insert(key.clone(), outcome.clone());
        drop(running);
        let registration = Running {
            mimi: self.clone(),
            key,
        };
        tokio::spawn(async move {
            let result = work.await;
            drop(registration);
            sender.send_replace(Some(result));
        });
        Ok((outcome, true))
    }

    /// Records the request, unless it is on record, and makes it.
    async fn begin_forward(&self, mut forwarded: Forwarded, is_joining: bool) -> Result<Bytes, MimiError> {
        let store = self.service.store();
        if let Some(reply) = store.reply(&reply_key(&forwarded)).await? {
            return Ok(reply.body);
        }
        if self.service.check_policy(&forwarded.hub).is_err() {
            return Err(MimiError::Unknown("provider"));
        }
        let known = store.forwarded(&forwarded.room, &forwarded.request).await?;
        if let Some(known) = known {
            return self.attempt(known, false).await;
        }
        let open = store.open_forwards_of(&forwarded.user).await?;
        if open.count >= MAX_OPEN || open.bytes >= MAX_OPEN_BYTES {
            return Err(MimiError::LimitExceeded {
                retry_after: STORE_PAUSE,
            });
        }
        if is_joining {
            // What comes from now on is theirs if they are let in: it may come before the verdict.
            let order = store.local_order(&forwarded.room).await?;
            let reads = order.readers.contains(&forwarded.user);
            forwarded.joins_from = (!reads).then(|| order.head.next());
        }
        let write = order_write(MimiOrderWrite::Forward {
            forwarded: forwarded.clone(),
        });
        self.service.commit(write.into()).await?;
        self.attempt(forwarded, true).await
    }

    /// Makes a request that is on record, and puts down what came of it.
    async fn attempt(&self, forwarded: Forwarded, is_first: bool) -> Result<Bytes, MimiError> {
        let endpoint = match is_update(&forwarded) {
            true => Endpoint::Update,
            false => Endpoint::SubmitMessage,
        };
        let answer = self
            .call_hub(&forwarded.hub, endpoint, &forwarded.room, &forwarded.body, MAX_VERDICT)
            .await
            .and_then(|answer| match accepted_by(&forwarded, &answer) {
                Ok(accepted) => Ok((answer, accepted)),
                Err(Unread) => Err(Unanswered {
                    error: self.bad_answer(&forwarded.hub),
                    is_not_taken: false,
                    retry_after: None,
                }),
            });
        let result = match answer {
            Ok((answer, Some(message))) => {
                metrics::counter!(metric::MIMI_FORWARDED, "result" => "accepted").increment(1);
                self.keep_own(&forwarded, &message, &answer).await.map(|()| answer)
            }
            Ok((answer, None)) => {
                metrics::counter!(metric::MIMI_FORWARDED, "result" => "refused").increment(1);
                self.end_forward(&forwarded).await.map(|()| answer)
            }
            Err(unanswered) => self.put_off(&forwarded, is_first, unanswered).await,
        };
        if result.is_ok() {
            self.state.forwarding.urges().end(&forwarded.room);
        }
        self.state.turns.settled.notify_waiters();
        result
    }

    /// Puts what the hub took from us into our own users' log, and takes it off the record.
    async fn keep_own(&self, forwarded: &Forwarded, message: &FanoutMessage, answer: &Bytes) -> Result<(), MimiError> {
        let Forwarded { room, hub, user, .. } = forwarded;
        {
            let _turn = self.state.turns.of(room).await;
            let store = self.service.store();
            let marks = marks_of_all(std::slice::from_ref(message));
            let known = store.delivered_messages(room, &marks).await?;
            let order = store.local_order(room).await?;
            let mut writes = Vec::new();
            if let Some(from) = forwarded.joins_from {
                writes.push(order_write(MimiOrderWrite::Open {
                    room: room.clone(),
                    hub: hub.clone(),
                    user: user.clone(),
                    from,
                }));
            }
            // Somebody who only asks to be let in has nobody here who reads it.
            if order.has_log || forwarded.joins_from.is_some() {
                let mut sequence = Sequence::new(order, known);
                sequence.accepted(message, forwarded.joins_from.is_some());
                writes.extend(sequence.writes(room, hub, None, self.service.now()));
            }
            writes.push(end(forwarded));
            writes.push(Write::PutReply {
                key: reply_key(forwarded),
                reply: StoredReply {
                    status: 200,
                    body: answer.clone(),
                    request_sha256: forwarded.request,
                },
                now: self.service.now(),
            });
            self.service.commit(Batch(writes)).await?;
        }
        self.tell_of_room(room).await
    }

    async fn end_forward(&self, forwarded: &Forwarded) -> Result<(), MimiError> {
        self.service.commit(end(forwarded).into()).await?;
        Ok(())
    }

    /// There was no verdict: the request stays on record, unless the hub cannot have taken it or does not know it any more.
    async fn put_off(&self, forwarded: &Forwarded, is_first: bool, unanswered: Unanswered) -> Result<Bytes, MimiError> {
        let Forwarded { room, hub, .. } = forwarded;
        let now = self.service.now();
        if is_first && unanswered.is_not_taken {
            self.end_forward(forwarded).await?;
            return Err(unanswered.error);
        }
        if now >= forwarded.sent_at.plus(REPEATED_FOR) {
            tracing::warn!(%hub, %room, user = %forwarded.user, "a hub never said whether it took a request");
            metrics::counter!(metric::MIMI_FORWARDED, "result" => "given_up").increment(1);
            self.end_forward(forwarded).await?;
            return Err(unanswered.error);
        }
        metrics::counter!(metric::MIMI_FORWARDED, "result" => "unanswered").increment(1);
        let failures = forwarded.failures.saturating_add(1);
        let pause = self.pause(failures);
        let insisted = unanswered.retry_after.map(|wait| wait.min(BACKOFF_MAX).max(pause));
        if let Some(wait) = insisted {
            self.state.forwarding.urges().put_off(room, now.plus(wait));
        }
        let pause = insisted.unwrap_or(pause);
        let write = order_write(MimiOrderWrite::PutOff {
            room: room.clone(),
            request: forwarded.request,
            failures,
            next_attempt: now.plus(pause),
        });
        self.service.commit(write.into()).await?;
        self.state.forwarding.wake.notify_one();
        Err(unanswered.error)
    }

    /// Has what has no verdict in a room sent again at once, unless that was so just now: its hub was heard.
    pub(super) fn urge_forwards(&self, room: &MimiUri) {
        let forwarding = &self.state.forwarding;
        let pause = |count| self.pause(count);
        if forwarding.urges().urge(room, self.service.now(), pause) {
            forwarding.wake.notify_one();
        }
    }

    /// How long a request waits after so many attempts.
    fn pause(&self, failures: u32) -> Duration {
        let settings = DeliverySettings {
            backoff_max: self.service.settings().delivery.backoff_max.min(BACKOFF_MAX),
            ..self.service.settings().delivery.clone()
        };
        delay(&settings, failures, u32::from_le_bytes(self.service.random()))
    }

    /// The worker: sends what has no verdict again, after a start all of it, until the shutdown.
    pub(crate) async fn repeat_forwards(self) {
        tokio::select! {
            biased;
            () = self.service.stopping() => {}
            () = self.repeat() => {}
        }
    }

    async fn repeat(&self) {
        let clock = self.service.clock();
        let mut due_by = FOREVER;
        loop {
            let next = match self.repeat_what_is_due(due_by).await {
                Ok(next) => next,
                Err(error) => {
                    tracing::error!(%error, "what was forwarded cannot be read");
                    Some(self.service.now().plus(STORE_PAUSE))
                }
            };
            let alarm = async {
                match next {
                    Some(next) => clock.sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = alarm => {}
                () = self.state.forwarding.wake.notified() => {}
            }
            due_by = self.service.now();
        }
    }

    /// Begins with what is due; answers when to look again.
    async fn repeat_what_is_due(&self, due_by: UnixMillis) -> Result<Option<UnixMillis>, MimiError> {
        let (store, forwarding) = (self.service.store(), &self.state.forwarding);
        let urged = forwarding.urges().take();
        let mut due = store.forwards_due(due_by, MAX_DUE).await?;
        for room in urged {
            let open = store.local_order(&room).await?.open;
            due.extend(open);
        }
        let mut of_hubs: BTreeMap<ServerName, Vec<OpenForward>> = BTreeMap::new();
        for forwarded in due {
            let of_hub = of_hubs.entry(forwarded.hub.clone()).or_default();
            if !of_hub.contains(&forwarded) {
                of_hub.push(forwarded);
            }
        }
        for (hub, of_hub) in of_hubs {
            let mut repeated_to = forwarding.repeated_to.lock().unwrap_or_else(PoisonError::into_inner);
            if repeated_to.len() < MAX_HUBS && repeated_to.insert(hub.clone()) {
                drop(repeated_to);
                let repeating = Repeating {
                    mimi: self.clone(),
                    hub,
                };
                tokio::spawn(repeating.run(of_hub));
            }
        }
        // Of what is under way, the end wakes us.
        let soon = self.service.now().plus(STORE_PAUSE);
        Ok(store.next_forward().await?.map(|next| next.max(soon)))
    }

    async fn ask_hub<T: Message>(
        &self,
        hub: &ServerName,
        endpoint: Endpoint,
        room: &MimiUri,
        body: &Bytes,
    ) -> Result<T, MimiError> {
        if self.service.check_policy(hub).is_err() {
            return Err(MimiError::Unknown("provider"));
        }
        let answer = self.call_hub(hub, endpoint, room, body, T::MAX_LEN).await;
        let answer = answer.map_err(|unanswered| unanswered.error)?;
        T::from_bytes(&answer).map_err(|error| {
            tracing::info!(%hub, %endpoint, %error, "a hub's answer does not read");
            self.bad_answer(hub)
        })
    }

    fn bad_answer(&self, hub: &ServerName) -> MimiError {
        MimiError::BadAnswer {
            provider: hub.clone(),
            what: "not the struct it should be",
        }
    }

    /// The body of an answer with status 200.
    async fn call_hub(
        &self,
        hub: &ServerName,
        endpoint: Endpoint,
        room: &MimiUri,
        body: &Bytes,
        max_response_bytes: usize,
    ) -> Result<Bytes, Unanswered> {
        let request = MimiRequest {
            endpoint,
            target: room.to_string(),
            body: body.clone(),
            timeout: QUESTION_TIMEOUT,
            max_response_bytes,
        };
        let answer = self.state.peers.call(hub, request).await;
        let answer = answer.map_err(|error| Unanswered {
            is_not_taken: was_not_sent(error),
            error: MimiError::PeerFailed {
                provider: hub.clone(),
                error,
            },
            retry_after: None,
        })?;
        if answer.status == 200 {
            return Ok(answer.body);
        }
        let status = answer.status;
        tracing::info!(%hub, %endpoint, status, "a hub does not answer");
        let error = match answer.retry_after {
            Some(retry_after) if matches!(status, 429 | 503) => MimiError::LimitExceeded { retry_after },
            _ => MimiError::BadAnswer {
                provider: hub.clone(),
                what: "another status than 200",
            },
        };
        Err(Unanswered {
            error,
            // A request that the hub gave up in the middle may have been taken.
            is_not_taken: (400..500).contains(&status) && status != 408,
            retry_after: answer.retry_after,
        })
    }
}

impl Repeating {
    /// One after the other, in their order.
    async fn run(self, of_hub: Vec<OpenForward>) {
        for open in of_hub {
            let key = (open.room.clone(), open.request);
            let mimi = self.mimi.clone();
            let work = async move {
                let known = mimi.service.store().forwarded(&open.room, &open.request).await?;
                match known {
                    Some(forwarded) => mimi.attempt(forwarded, false).await,
                    None => Err(MimiError::Unknown("request")),
                }
            };
            let Ok((mut outcome, _)) = self.mimi.join_or_begin(key, work) else {
                return;
            };
            // What came of it is on record.
            let _ = outcome.wait_for(Option::is_some).await;
        }
    }
}

/// The answer is none of its endpoint.
struct Unread;

/// What comes into the log by this answer; `None` if it is a refusal.
fn accepted_by(forwarded: &Forwarded, answer: &Bytes) -> Result<Option<FanoutMessage>, Unread> {
    let body = &forwarded.body;
    if !is_update(forwarded) {
        let request = SubmitMessageRequest::from_bytes(body).map_err(|_| Unread)?;
        let answer = SubmitMessageResponse::from_bytes(answer).map_err(|_| Unread)?;
        return Ok(match (request.body, answer.body) {
            (Body::Mls10(submission), Body::Mls10(SubmitVerdict::Accepted(acceptance))) => Some(FanoutMessage {
                timestamp: acceptance.accepted_timestamp,
                message: submission.app_message,
                with: FanoutParts::Application {
                    frank: acceptance.frank,
                },
            }),
            _ => None,
        });
    }
    let request = UpdateRequest::from_bytes(body).map_err(|_| Unread)?;
    let answer = UpdateRoomResponse::from_bytes(answer).map_err(|_| Unread)?;
    let UpdateVerdict::Success { accepted_timestamp } = answer.verdict else {
        return Ok(None);
    };
    Ok(Some(FanoutMessage {
        timestamp: accepted_timestamp,
        message: request.proposal_or_commit,
        with: match request.with {
            // What the hub proposes after it comes from the hub.
            HandshakeParts::Commit(_) => FanoutParts::Commit {
                external_proposals: Vec::new(),
            },
            HandshakeParts::Proposal { more_proposals } => FanoutParts::Proposal { more_proposals },
        },
    }))
}

fn is_update(forwarded: &Forwarded) -> bool {
    forwarded.endpoint == Endpoint::Update.name()
}

/// By which an answer is known that was kept.
fn reply_key(forwarded: &Forwarded) -> IdempotencyKey {
    IdempotencyKey {
        scope: forwarded.room.to_string(),
        endpoint: "mimi/forwarded".to_owned(),
        txn_id: base64u::encode_url(&forwarded.request),
    }
}

fn end(forwarded: &Forwarded) -> Write {
    order_write(MimiOrderWrite::End {
        room: forwarded.room.clone(),
        request: forwarded.request,
    })
}

fn order_write(write: MimiOrderWrite) -> Write {
    Write::Mimi(MimiWrite::User(MimiUserWrite::Order(write)))
}

/// Whether the hub has not seen the request, for certain.
const fn was_not_sent(error: MimiPeerError) -> bool {
    match error {
        MimiPeerError::Peer(error) => matches!(
            error,
            PeerError::Refused
                | PeerError::AddressRefused
                | PeerError::Unresolvable
                | PeerError::Tls
                | PeerError::Busy
                | PeerError::InvalidRequest
        ),
        _ => true,
    }
}

fn messages_of(request: &UpdateRequest) -> impl Iterator<Item = &MlsMessage> {
    let more: &[Kept<MlsMessage>] = match &request.with {
        HandshakeParts::Proposal { more_proposals } => more_proposals,
        HandshakeParts::Commit(_) => &[],
    };
    std::iter::once(&request.proposal_or_commit)
        .chain(more)
        .map(|message| &**message)
}

/// Whether a message can come from a client of this user. A member's is signed by a key in the group; whoever is not a member says
/// themselves who they are.
fn may_be_of(user: &MimiUri, message: &MlsMessage) -> bool {
    let MlsMessageBody::Public(message) = &message.body else {
        return true;
    };
    let leaf = match (&message.content.sender, &message.content.body) {
        (Sender::Member { .. }, _) => return true,
        (Sender::NewMemberCommit, FramedContentBody::Commit(commit)) => {
            commit.path.as_ref().map(|path| &path.leaf_node)
        }
        (Sender::NewMemberProposal, FramedContentBody::Proposal(proposal)) => {
            let proposal: &Proposal = proposal;
            match proposal {
                Proposal::Add(package) => Some(&package.leaf_node),
                _ => None,
            }
        }
        _ => None,
    };
    leaf.and_then(|leaf| user_of(&leaf.credential))
        .is_some_and(|it| it.as_str() == user.to_string())
}

fn read<T: Message>(body: &Bytes) -> Result<T, MimiError> {
    T::from_bytes(body).map_err(|error| {
        tracing::debug!(%error, "a client's request does not read");
        MimiError::Invalid {
            field: "body",
            rule: "the struct of its endpoint",
        }
    })
}

/// Bound on one question to a hub, which may have to check a commit of a large group.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a request is sent again: hubs remember for a day what they answered, and later it would be another request.
const REPEATED_FOR: Duration = Duration::from_hours(23);
/// Longest pause between two attempts.
const BACKOFF_MAX: Duration = Duration::from_secs(5 * 60);
const STORE_PAUSE: Duration = Duration::from_secs(5);
/// The most requests without a verdict of one user.
const MAX_OPEN: usize = 100;
/// Bytes of them, but for the last one.
const MAX_OPEN_BYTES: usize = 64 * 1024 * 1024;
/// The most that are looked at together.
const MAX_DUE: usize = 1000;
/// The most hubs that are sent something again at the same time.
const MAX_HUBS: usize = 64;
/// The longest answer with a verdict that is read.
const MAX_VERDICT: usize = {
    let (update, submit) = (UpdateRoomResponse::MAX_LEN, SubmitMessageResponse::MAX_LEN);
    if update > submit { update } else { submit }
};
const FOREVER: UnixMillis = UnixMillis::new(i64::MAX.unsigned_abs());

#[cfg(test)]
mod tests;
