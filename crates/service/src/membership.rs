//! `make_join`, `make_leave`, `make_knock` and their `send_` halves, as the hub serves them
//! (LM #int-transport-room-membership).

use nabe_auth::lm::Membership;
use nabe_core::{Input, Refusal, Reply, Via};
use nabe_event::{EventKind, RawEvent};
use nabe_signing::json::{Json, Object};
use nabe_signing::object;
use nabe_store::StoredReply;
use nabe_types::{LogPosition, RoomId, RoomVersionId, ServerName, TransactionId, UserId};

use crate::Service;
use crate::error::{Missing, ServiceError};
use crate::idempotency::Transaction;
use crate::incoming::CheckedVerdict;
use crate::invite::unverified;

/// Which of the three pairs of endpoints.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MembershipKind {
    /// `make_join`, `send_join`
    Join,
    /// `make_leave`, `send_leave`
    Leave,
    /// `make_knock`, `send_knock`
    Knock,
}

impl MembershipKind {
    const fn membership(self) -> Membership {
        match self {
            Self::Join => Membership::Join,
            Self::Leave => Membership::Leave,
            Self::Knock => Membership::Knock,
        }
    }

    const fn via(self) -> Via {
        match self {
            Self::Join => Via::Join,
            Self::Leave => Via::Leave,
            Self::Knock => Via::Knock,
        }
    }

    const fn make(self) -> &'static str {
        match self {
            Self::Join => "make_join",
            Self::Leave => "make_leave",
            Self::Knock => "make_knock",
        }
    }

    const fn send(self) -> &'static str {
        match self {
            Self::Join => "send_join",
            Self::Leave => "send_leave",
            Self::Knock => "send_knock",
        }
    }
}

impl Service {
    /// The template of a membership event `user` could send now. The body has it three times over: its fields bare, as the
    /// draft has it for `make_join`, and wrapped in `event` beside `room_version`, as the draft has it for `make_leave` and
    /// everybody else for all three. `versions` are those the caller supports; not looked at for `make_leave`.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NotFound`], [`ServiceError::WrongServer`], [`ServiceError::IncompatibleRoomVersion`],
    /// [`ServiceError::ForeignUser`], [`ServiceError::Refused`] if the rules forbid it, [`ServiceError::LimitExceeded`].
    pub async fn make_membership(
        &self,
        origin: &ServerName,
        kind: MembershipKind,
        room: &RoomId,
        user: &UserId,
        versions: &[RoomVersionId],
    ) -> Result<Object, ServiceError> {
        self.check_policy(origin)?;
        self.limit_peer(origin, kind.make())?;
        let versions = (kind != MembershipKind::Leave).then_some(versions);
        let (template, version) = self
            .read_room(room, |view| {
                let template = view.make_membership(origin, user, kind.membership(), versions);
                (template, view.meta().version.clone())
            })
            .await?;
        let template = template.map_err(|refusal| refused(refusal, origin))?;
        let mut body = template.clone();
        body.insert("event", template);
        body.insert("room_version", version.as_str());
        Ok(body)
    }

    /// Takes the LPDU made from a template. The reply, status 200, is `{"auth_chain","event","state"}` for a join, with the
    /// state before it; `{}` for a leave; `{"stripped_state"}` for a knock.
    ///
    /// # Errors
    ///
    /// As for [`make_membership`](Self::make_membership) but for the version; [`ServiceError::BadJson`] and
    /// [`ServiceError::Dropped`] for a body that is not such an LPDU.
    pub async fn send_membership(
        &self,
        origin: ServerName,
        kind: MembershipKind,
        txn_id: TransactionId,
        body: Object,
        body_sha256: [u8; 32],
    ) -> Result<StoredReply, ServiceError> {
        self.check_policy(&origin)?;
        self.limit_peer(&origin, kind.send())?;
        let transaction = self.transaction(&origin, kind.send(), &txn_id, body_sha256);
        let work = move |service: Self, transaction: Transaction| async move {
            service.take_membership(&origin, kind, body, &transaction).await
        };
        self.once(transaction, false, work).await
    }

    async fn take_membership(
        &self,
        origin: &ServerName,
        kind: MembershipKind,
        body: Object,
        transaction: &Transaction,
    ) -> Result<StoredReply, ServiceError> {
        let room = body.get("room_id").and_then(Json::as_str);
        let room = RoomId::parse(room.ok_or(ServiceError::BadJson("`room_id` must be a string"))?)?;
        let meta = self
            .room_meta(&room)
            .await?
            .ok_or(ServiceError::NotFound(Missing::Room))?;
        if !meta.is_hub() {
            return Err(ServiceError::WrongServer {
                hub: Some(meta.hub(self.server_name()).clone()),
            });
        }
        let event = RawEvent::from_json(body, meta.rules()?)?;
        check_fits(&event, kind)?;
        if event.sender_server() != origin {
            return Err(ServiceError::ForeignUser { server: origin.clone() });
        }
        let event = match self.verify_single(event).await?.verdict {
            CheckedVerdict::Lpdu(event) => *event,
            verdict => return Err(unverified(verdict)),
        };
        if kind == MembershipKind::Join {
            self.limit_state(origin, &room).await?;
        }
        let input = Input::Lpdu {
            event,
            from: origin.clone(),
            via: kind.via(),
        };
        let reply = self.transact(&room, input).await.map_err(|error| match error {
            ServiceError::Refused(refusal) => match *refusal {
                Refusal::OriginIsNotSender { .. } => ServiceError::ForeignUser { server: origin.clone() },
                _ => ServiceError::Refused(refusal),
            },
            other => other,
        })?;
        let body = match kind {
            MembershipKind::Join => self.joined_body(&room, &reply).await?,
            MembershipKind::Leave => Object::new(),
            MembershipKind::Knock => {
                let stripped = self.read_room(&room, |view| view.stripped_state()).await?;
                object! { "stripped_state" => stripped.into_iter().map(Json::Object).collect::<Vec<_>>() }
            }
        };
        let (reply, write) = transaction.reply(&body, self);
        // A large room's state is not kept a second time: a repetition finds its LPDU in the log and is answered from there.
        if reply.body.len() <= MAX_KEPT_REPLY_BYTES {
            self.commit(write.into()).await?;
        }
        Ok(reply)
    }

    /// LM #int-api-send-join, the response: the state *before* the join, in an order in which it can be appended.
    async fn joined_body(&self, room: &RoomId, reply: &Reply) -> Result<Object, ServiceError> {
        let event = self.event_of_reply(reply).await?;
        let state = self.store().state_before(room, position_of(reply)).await?;
        let state = state.ok_or(ServiceError::NotFound(Missing::Event))?;
        let auth_chain = self.auth_chain(room, &state).await?;
        let objects = |events: Vec<nabe_event::Pdu>| -> Vec<Json> {
            events
                .into_iter()
                .map(|event| Json::Object(event.object().clone()))
                .collect()
        };
        Ok(object! {
            "auth_chain" => objects(auth_chain),
            "event" => event.object().clone(),
            "state" => objects(nabe_core::after_their_auth_events(state)),
        })
    }
}

/// The body must be what the endpoint is for. Said as a malformed body, before anything else is looked at.
fn check_fits(event: &RawEvent, kind: MembershipKind) -> Result<(), ServiceError> {
    let fits = event.kind() == EventKind::Lpdu
        && event.is_state_of("m.room.member", event.sender().as_str())
        && event.membership() == Some(kind.membership().as_str());
    if fits {
        Ok(())
    } else {
        Err(ServiceError::BadJson("the event does not fit this endpoint"))
    }
}

fn refused(refusal: Refusal, origin: &ServerName) -> ServiceError {
    match refusal {
        Refusal::OriginIsNotSender { .. } => ServiceError::ForeignUser { server: origin.clone() },
        Refusal::IncompatibleRoomVersion { version } => ServiceError::IncompatibleRoomVersion { version },
        other => other.into(),
    }
}

const fn position_of(reply: &Reply) -> LogPosition {
    match reply {
        Reply::Appended { position, .. } | Reply::AlreadyKnown { position, .. } | Reply::Recorded { position, .. } => {
            *position
        }
    }
}

/// Longest reply kept for repetitions.
const MAX_KEPT_REPLY_BYTES: usize = 256 * 1024;
