//! A local user's event: appended at once where we are the hub, otherwise sent to the hub through the durable outbox.

use nabe_auth::lm::Membership;
use nabe_core::{EventDraft, Input, Refusal, Reply, Role, RoomMeta};
use nabe_event::{BuildError, EventBuilder, VerifiedLpdu};
use nabe_signing::json::{Json, Object};
use nabe_signing::{object, sha256};
use nabe_store::{Batch, DirectItem, IdempotencyKey, StoredReply, Write};
use nabe_types::{EventId, LogPosition, RoomId, ServerName, UserId};
use tokio::sync::oneshot;

use super::{full_outbox, idempotency_key};
use crate::error::Missing;
use crate::hooks::LpduFate;
use crate::{Service, ServiceError};

/// An event a user wants to send.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NewEvent {
    /// Its type, at most 255 bytes.
    pub event_type: String,
    /// Its state key, at most 255 bytes; `None` when it is not state.
    pub state_key: Option<String>,
    /// Its content; numbers must be integers within ±(2^53−1).
    pub content: Object,
}

/// What became of an event.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sent {
    /// The event's ID, once the hub has given it one.
    pub event_id: Option<EventId>,
    /// Its place in this server's log, once it has one.
    pub position: Option<LogPosition>,
    /// The ID it was sent to another server's hub under; a later `event_rejected` inbox item names it.
    pub lpdu_id: Option<EventId>,
    /// How far it got.
    pub status: SentStatus,
}

/// How far an event got.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SentStatus {
    /// It is in the room's log.
    Appended,
    /// It is on its way to the hub and will be sent until the hub answers.
    Queued,
}

/// A request to be recognized when it comes again.
pub(super) struct Keyed {
    pub(super) key: IdempotencyKey,
    pub(super) request_sha256: [u8; 32],
}

impl Service {
    /// Sends an event to a room. With an idempotency key (any text of at most 255 bytes), the same request again has no further
    /// effect and the same answer; it may have got from queued to appended meanwhile.
    ///
    /// # Errors
    ///
    /// [`ServiceError::KeyReused`], [`ServiceError::Refused`] by the rules, [`ServiceError::RejectedByHub`] when the hub said no
    /// while we waited, [`ServiceError::OutboxFull`], [`ServiceError::NotFound`] for a room we do not have.
    pub async fn send_event(
        &self,
        user: &UserId,
        room: &RoomId,
        event: NewEvent,
        idempotency_key_text: Option<&str>,
    ) -> Result<Sent, ServiceError> {
        let Some(text) = idempotency_key_text else {
            return self.author(user, room, event, None).await;
        };
        if text.is_empty() || text.len() > 255 {
            return Err(ServiceError::InvalidParam("idempotency key"));
        }
        let keyed = Keyed {
            key: idempotency_key(user, "send_event", text),
            request_sha256: sha256(&request_of(room, &event).to_canonical()),
        };
        let _only_one = self.lock_key(&keyed.key).await;
        if let Some(reply) = self.store().reply(&keyed.key).await? {
            if reply.request_sha256 != keyed.request_sha256 {
                return Err(ServiceError::KeyReused);
            }
            return self.answer_again(room, &reply).await;
        }
        self.author(user, room, event, Some(keyed)).await
    }

    /// Sends an event, and keeps the answer if the request is to be recognized again.
    pub(super) async fn author(
        &self,
        user: &UserId,
        room: &RoomId,
        event: NewEvent,
        keyed: Option<Keyed>,
    ) -> Result<Sent, ServiceError> {
        let meta = self
            .room_meta(room)
            .await?
            .ok_or(ServiceError::NotFound(Missing::Room))?;
        match meta.role.clone() {
            Role::Hub => self.author_as_hub(user, room, event, keyed).await,
            Role::Participant { hub } => {
                let is_own_membership = event.event_type == MEMBER && event.state_key.as_deref() == Some(user.as_str());
                let membership = self.read_room(room, |view| view.membership(user)).await?;
                if membership != Membership::Join && !is_own_membership {
                    return Err(ServiceError::NotInRoom);
                }
                let lpdu = self.build_lpdu(&meta, &hub, user, event)?;
                self.send_to_hub(&hub, lpdu, keyed).await
            }
        }
    }

    async fn author_as_hub(
        &self,
        user: &UserId,
        room: &RoomId,
        event: NewEvent,
        keyed: Option<Keyed>,
    ) -> Result<Sent, ServiceError> {
        let draft = EventDraft {
            event_type: event.event_type,
            state_key: event.state_key,
            sender: user.clone(),
            content: event.content,
            origin_server_ts: self.authoring_time(),
        };
        let keep = |reply: &Reply| {
            let sent = Sent::from(reply.clone());
            keyed.iter().map(|keyed| self.keep_answer(keyed, &sent)).collect()
        };
        let reply = self.transact_with(room, &Input::Draft { draft }, keep).await?;
        Ok(Sent::from(reply))
    }

    pub(crate) fn build_lpdu(
        &self,
        meta: &RoomMeta,
        hub: &ServerName,
        user: &UserId,
        event: NewEvent,
    ) -> Result<VerifiedLpdu, ServiceError> {
        let NewEvent {
            event_type,
            state_key,
            content,
        } = event;
        let mut builder = EventBuilder::new(
            meta.room_id.clone(),
            event_type,
            user.clone(),
            self.authoring_time(),
            content,
        );
        if let Some(state_key) = state_key {
            builder = builder.state_key(state_key);
        }
        builder
            .build_lpdu(self.signer(), hub, meta.rules()?)
            .map_err(unbuildable)
    }

    /// Puts an LPDU into the outbox and waits a moment for what the hub makes of it.
    async fn send_to_hub(
        &self,
        hub: &ServerName,
        lpdu: VerifiedLpdu,
        keyed: Option<Keyed>,
    ) -> Result<Sent, ServiceError> {
        let lpdu_id = lpdu.lpdu_id().clone();
        let queued = Sent {
            event_id: None,
            position: None,
            lpdu_id: Some(lpdu_id.clone()),
            status: SentStatus::Queued,
        };
        let fate = self.wait_for_lpdu(lpdu_id.clone());
        let mut writes = vec![Write::Enqueue {
            destination: hub.clone(),
            item: DirectItem::Lpdu {
                room: lpdu.room_id().clone(),
                lpdu_id,
                bytes: lpdu.bytes().to_vec().into(),
                sender: lpdu.sender().clone(),
            },
            limit: self.settings().limits.outbox_items,
            now: self.now(),
        }];
        writes.extend(keyed.map(|keyed| self.keep_answer(&keyed, &queued)));
        self.commit(Batch(writes)).await.map_err(full_outbox)?;
        self.wake_delivery([hub.clone()]);
        self.await_fate(queued, fate).await
    }

    async fn await_fate(&self, queued: Sent, fate: oneshot::Receiver<LpduFate>) -> Result<Sent, ServiceError> {
        let fate = tokio::select! {
            fate = fate => fate.ok(),
            () = self.clock().sleep(self.settings().echo_wait) => None,
            () = self.stopping() => None,
        };
        match fate {
            Some(LpduFate::Appended { event_id, position }) => Ok(Sent {
                event_id: Some(event_id),
                position: Some(position),
                status: SentStatus::Appended,
                ..queued
            }),
            Some(LpduFate::Rejected(entry)) => Err(ServiceError::RejectedByHub {
                message: entry.error,
                current_epoch: entry.current_epoch,
            }),
            None => Ok(queued),
        }
    }

    fn keep_answer(&self, keyed: &Keyed, sent: &Sent) -> Write {
        Write::PutReply {
            key: keyed.key.clone(),
            reply: StoredReply {
                status: if sent.status == SentStatus::Appended { 200 } else { 202 },
                body: sent.to_object().to_canonical().into(),
                request_sha256: keyed.request_sha256,
            },
            now: self.now(),
        }
    }

    /// The kept answer, or what has become of the event since.
    async fn answer_again(&self, room: &RoomId, reply: &StoredReply) -> Result<Sent, ServiceError> {
        let body = Object::parse(&reply.body).unwrap_or_default();
        let mut sent = Sent::from_object(&body);
        if let (None, Some(lpdu_id)) = (&sent.event_id, &sent.lpdu_id) {
            let known = self.store().entry_by_lpdu(room, std::slice::from_ref(lpdu_id)).await?;
            if let Some(known) = known.into_iter().next() {
                sent.event_id = Some(known.event_id);
                sent.position = Some(known.position);
                sent.status = SentStatus::Appended;
            }
        }
        Ok(sent)
    }
}

impl Sent {
    /// `status` (`appended` or `queued`) and, where known, `event_id`, `position` and `lpdu_id`.
    #[must_use]
    pub fn to_object(&self) -> Object {
        let status = match self.status {
            SentStatus::Appended => "appended",
            SentStatus::Queued => "queued",
        };
        let mut object = object! { "status" => status };
        if let Some(event_id) = &self.event_id {
            object.insert("event_id", event_id.as_str());
        }
        if let Some(position) = self.position {
            object.insert("position", position.as_i64());
        }
        if let Some(lpdu_id) = &self.lpdu_id {
            object.insert("lpdu_id", lpdu_id.as_str());
        }
        object
    }

    fn from_object(object: &Object) -> Self {
        let id = |key| {
            object
                .get(key)
                .and_then(Json::as_str)
                .and_then(|id| EventId::parse(id).ok())
        };
        let event_id = id("event_id");
        Self {
            status: if event_id.is_some() {
                SentStatus::Appended
            } else {
                SentStatus::Queued
            },
            event_id,
            position: object.get("position").and_then(Json::as_i64).map(LogPosition),
            lpdu_id: id("lpdu_id"),
        }
    }
}

impl From<Reply> for Sent {
    fn from(reply: Reply) -> Self {
        let (Reply::Appended { event_id, position }
        | Reply::AlreadyKnown { event_id, position }
        | Reply::Recorded { event_id, position }) = reply;
        Self {
            event_id: Some(event_id),
            position: Some(position),
            lpdu_id: None,
            status: SentStatus::Appended,
        }
    }
}

/// What must be equal for two requests to be the same.
fn request_of(room: &RoomId, event: &NewEvent) -> Object {
    let mut request = object! {
        "room_id" => room.as_str(),
        "type" => event.event_type.as_str(),
        "content" => event.content.clone(),
    };
    if let Some(state_key) = &event.state_key {
        request.insert("state_key", state_key.as_str());
    }
    request
}

fn unbuildable(error: BuildError) -> ServiceError {
    Refusal::Unbuildable(error).into()
}

pub(super) const MEMBER: &str = "m.room.member";
