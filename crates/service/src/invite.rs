//! `POST /_matrix/federation/v3/invite/{txnId}` (LM #int-api-invite), both sides: a participant sends the hub an LPDU, the
//! hub completes it and sends the PDU on to the invited user's server, which signs it.

use nabe_core::{Input, Reply, RoomView, Via};
use nabe_event::{EventKind, Pdu, RawEvent, RoomVersionRules};
use nabe_signing::json::{Json, Object};
use nabe_signing::object;
use nabe_store::{PendingMembership, PendingRoom, StoredReply};
use nabe_types::{EventId, RoomId, RoomVersionId, ServerName, TransactionId, UserId};

use crate::Service;
use crate::error::{Missing, ServiceError};
use crate::idempotency::Transaction;
use crate::incoming::{Checked, CheckedVerdict, membership_change};
use crate::ports::{Method, PeerRequest};
use crate::wire::{federation_request, read_answer};

/// What an invited user's server is told of the room.
pub(crate) struct InvitingView {
    stripped: Vec<Object>,
    version: RoomVersionId,
}

impl From<&RoomView> for InvitingView {
    fn from(view: &RoomView) -> Self {
        Self {
            stripped: view.stripped_state(),
            version: view.meta().version.clone(),
        }
    }
}

/// An invite that arrived.
struct Invite {
    event: RawEvent,
    version: RoomVersionId,
    stripped_state: Vec<Json>,
}

impl Service {
    /// Takes an invite: an LPDU for a room whose hub we are, or a PDU for one of our users. The reply, status 200, has the
    /// event under `pdu` and, for the implementations that expect it there, under `event`.
    ///
    /// # Errors
    ///
    /// [`ServiceError::IncompatibleRoomVersion`]; [`ServiceError::BadJson`] and [`ServiceError::Dropped`] for a malformed
    /// body; [`ServiceError::Refused`] when the room's rules forbid it; [`ServiceError::InviteRefused`];
    /// [`ServiceError::Proxied`] with the refusal of the invited user's server.
    pub async fn invite(
        &self,
        origin: ServerName,
        txn_id: TransactionId,
        body: Object,
        body_sha256: [u8; 32],
    ) -> Result<StoredReply, ServiceError> {
        self.check_policy(&origin)?;
        self.limit_peer(&origin, "invite")?;
        let transaction = self.transaction(&origin, "invite", &txn_id, body_sha256);
        let work = move |service: Self, transaction: Transaction| async move {
            let invite = Invite::read(body)?;
            match invite.event.kind() {
                EventKind::Lpdu => service.relay_invite(&origin, invite, &transaction).await,
                EventKind::Pdu => service.accept_invite(&origin, invite, &transaction).await,
            }
        };
        self.once(transaction, false, work).await
    }

    /// As hub: LM #int-api-invite, the participant's half.
    async fn relay_invite(
        &self,
        origin: &ServerName,
        invite: Invite,
        transaction: &Transaction,
    ) -> Result<StoredReply, ServiceError> {
        let room = invite.event.room_id().clone();
        let meta = self
            .room_meta(&room)
            .await?
            .ok_or(ServiceError::NotFound(Missing::Room))?;
        if meta.version != invite.version {
            return Err(ServiceError::IncompatibleRoomVersion { version: meta.version });
        }
        if let Some((user, _)) = membership_change(invite.event.event()) {
            self.check_policy(user.server_name())?;
        }
        let event = match self.verify_single(invite.event).await?.verdict {
            CheckedVerdict::Lpdu(event) => *event,
            verdict => return Err(unverified(verdict)),
        };
        let reply = self
            .transact(
                &room,
                Input::Lpdu {
                    event,
                    from: origin.clone(),
                    via: Via::Invite,
                },
            )
            .await?;
        let pdu = self.event_of_reply(&reply).await?;
        let (reply, write) = transaction.reply(&reply_body(&pdu), self);
        self.commit(write.into()).await?;
        Ok(reply)
    }

    /// As the invited user's server: sign, remember whom to ask when the user joins, tell the user.
    async fn accept_invite(
        &self,
        origin: &ServerName,
        invite: Invite,
        transaction: &Transaction,
    ) -> Result<StoredReply, ServiceError> {
        let Some((user, "invite")) = membership_change(invite.event.event()) else {
            return Err(ServiceError::BadJson("the event is not an invite of a user"));
        };
        if !self.is_us(user.server_name()) {
            return Err(ServiceError::NotFound(Missing::User));
        }
        let account = self.store().account(&user).await?;
        let is_invited = match account {
            None => self.settings().invites_for_unknown_users,
            Some(account) => account.deleted_at.is_none(),
        };
        if !is_invited {
            return Err(ServiceError::NotFound(Missing::User));
        }
        // The hub vouches for the room: `hub_server`, or on the hub's own events the sender's server.
        let hub = invite
            .event
            .hub_server()
            .unwrap_or_else(|| invite.event.sender_server());
        if hub != origin {
            return Err(ServiceError::ForeignUser { server: origin.clone() });
        }
        if self.check_policy(invite.event.sender_server()).is_err() {
            return Err(ServiceError::InviteRefused);
        }
        self.check_inviting_hub(&user, invite.event.room_id(), origin).await?;
        let Invite {
            event,
            version,
            stripped_state,
        } = invite;
        let pdu = match self.verify_single(event).await?.verdict {
            CheckedVerdict::Pdu(event) => event.into_pdu(),
            verdict => return Err(unverified(verdict)),
        };
        let signed = self.countersign(&pdu)?;
        let pending = PendingRoom {
            user: user.clone(),
            room: pdu.room_id().clone(),
            membership: PendingMembership::Invite,
            hub: origin.clone(),
            version,
            stripped_state: Json::Array(stripped_state).to_canonical().into(),
            event: Some(bytes::Bytes::copy_from_slice(signed.bytes())),
            at: self.now(),
        };
        let mut writes = match self.store().pending_room(&user, &pending.room).await? {
            // A hub asks anew when its room went on meanwhile: the user heard of it the first time.
            Some(known) if is_same_invite(&known, &pending, pdu.sender()) => {
                vec![self.put_pending(pending)]
            }
            _ => self.pending_writes(pending, pdu.sender()),
        };
        let (reply, write) = transaction.reply(&reply_body(&signed), self);
        writes.push(write);
        self.commit_rooms(Vec::new(), writes).await?;
        self.notify_inbox(&user);
        Ok(reply)
    }

    /// Refuses an invite by a server that is not the room's hub as far as we know, and one more than a user's list holds. What
    /// we have about the room stays.
    async fn check_inviting_hub(&self, user: &UserId, room: &RoomId, origin: &ServerName) -> Result<(), ServiceError> {
        if let Some(meta) = self.room_meta(room).await?
            && meta.hub(self.server_name()) != origin
        {
            return Err(ServiceError::InviteRefused);
        }
        match self.store().pending_room(user, room).await? {
            // The server in the room's ID created it: nobody can keep its invites away by being first.
            Some(known) if known.hub != *origin && room.server_name() != origin => Err(ServiceError::InviteRefused),
            Some(_) => Ok(()),
            None if self.store().pending_len(user).await? >= MAX_PENDING => Err(ServiceError::InviteRefused),
            None => Ok(()),
        }
    }

    /// As hub: asks the invited user's server to sign. What it answers goes back into the room. `view` is a current one.
    pub(crate) async fn ask_for_invite_signature(
        &self,
        view: InvitingView,
        pdu: Pdu,
        lpdu_id: Option<EventId>,
        target: &ServerName,
    ) -> Result<Input, ServiceError> {
        self.check_policy(target)?;
        let InvitingView { stripped, version } = view;
        let stripped: Vec<Json> = stripped.into_iter().map(Json::Object).collect();
        let body = object! {
            "event" => pdu.object().clone(),
            "invite_room_state" => stripped,
            "room_version" => version.as_str(),
        };
        let timeout = self.settings().delivery.question_timeout;
        let segments = ["invite", &self.new_txn_id()];
        let request = PeerRequest {
            body: Some(body.to_canonical().into()),
            ..federation_request(Method::Post, "v3", &segments, &[], true, timeout)
        };
        let failed = |error| ServiceError::PeerFailed {
            server: target.clone(),
            error,
        };
        let response = self.peers().call(target, request).await.map_err(failed)?;
        let mut answer = read_answer(target, &response)?;
        // The draft says `pdu`; both known implementations answer with `event`.
        let signed = answer
            .remove("pdu")
            .or_else(|| answer.remove("event"))
            .and_then(Json::into_object);
        let what = "`pdu` is missing";
        let signed = signed.ok_or_else(|| ServiceError::BadAnswer {
            server: target.clone(),
            what,
        })?;
        let keys = self.keys_of(target).await?;
        Ok(Input::InviteAnswer {
            pdu,
            lpdu_id,
            signed,
            keys,
        })
    }

    /// The event a reply speaks of, as it is in the log.
    pub(crate) async fn event_of_reply(&self, reply: &Reply) -> Result<Pdu, ServiceError> {
        let (Reply::Appended { event_id, .. }
        | Reply::AlreadyKnown { event_id, .. }
        | Reply::Recorded { event_id, .. }) = reply;
        let found = self.store().entry(event_id).await?;
        found
            .and_then(|(_, entry)| entry.pdu().cloned())
            .ok_or(ServiceError::NotFound(Missing::Event))
    }

    /// The event of a room we are not in, if it ends the pending invite or knock of one of our users: whether it did.
    pub(crate) async fn end_pending(
        &self,
        origin: &ServerName,
        room: &RoomId,
        object: Object,
    ) -> Result<bool, ServiceError> {
        let about = object
            .get("state_key")
            .and_then(Json::as_str)
            .and_then(|user| UserId::parse(user).ok());
        let Some(user) = about.filter(|user| self.is_us(user.server_name())) else {
            return Ok(false);
        };
        let Some(pending) = self.store().pending_room(&user, room).await? else {
            return Ok(false);
        };
        let Some(rules) = RoomVersionRules::for_id(&pending.version) else {
            return Ok(false);
        };
        if pending.hub != *origin {
            return Ok(false);
        }
        let Ok(event) = RawEvent::from_json(object, rules) else {
            return Ok(false);
        };
        let hub_signs = event.hub_server().unwrap_or_else(|| event.sender_server()) == origin;
        if event.kind() != EventKind::Pdu || !hub_signs {
            return Ok(false);
        }
        let Checked {
            verdict: CheckedVerdict::Pdu(event),
            ..
        } = self.verify_single(event).await?
        else {
            return Ok(false);
        };
        let Some((_, "leave" | "ban")) = membership_change(event.event()) else {
            return Ok(false);
        };
        let writes = self.pending_ended(&user, room, event.event());
        self.commit_rooms(Vec::new(), writes).await?;
        self.notify_inbox(&user);
        Ok(true)
    }

    fn countersign(&self, pdu: &Pdu) -> Result<Pdu, ServiceError> {
        Ok(pdu.countersigned(self.signer())?)
    }
}

impl Invite {
    /// LM #int-api-invite, the request's body. The room version comes first: it says how to read the event.
    fn read(mut body: Object) -> Result<Self, ServiceError> {
        let version = body.get("room_version").and_then(Json::as_str);
        let version = version.ok_or(ServiceError::BadJson("`room_version` must be a string"))?;
        let version = RoomVersionId::parse(version)?;
        let Some(rules) = RoomVersionRules::for_id(&version) else {
            return Err(ServiceError::IncompatibleRoomVersion { version });
        };
        let stripped_state = match body.remove("invite_room_state") {
            None => Vec::new(),
            Some(Json::Array(events)) => events.into_iter().filter_map(stripped).take(MAX_STRIPPED).collect(),
            Some(_) => return Err(ServiceError::BadJson("`invite_room_state` must be an array")),
        };
        let Some(Json::Object(event)) = body.remove("event") else {
            return Err(ServiceError::BadJson("`event` must be an object"));
        };
        Ok(Self {
            event: RawEvent::from_json(event, rules)?,
            version,
            stripped_state,
        })
    }
}

/// Exactly the four fields of LM #int-stripped-state; nobody vouches for what they say.
pub(crate) fn stripped(event: Json) -> Option<Json> {
    let mut event = event.into_object()?;
    let fields = ["sender", "type", "state_key", "content"];
    let kept: Object = fields
        .into_iter()
        .filter_map(|key| Some((key.to_owned(), event.remove(key)?)))
        .collect();
    (kept.len() == fields.len()).then_some(Json::Object(kept))
}

/// Why an event that had to be of a certain form is not usable.
pub(crate) fn unverified(verdict: CheckedVerdict) -> ServiceError {
    match verdict {
        CheckedVerdict::Bad(dropped) => dropped.into(),
        CheckedVerdict::LacksKeys { .. } => ServiceError::BadJson("the keys of the event's signers are not available"),
        CheckedVerdict::Lpdu(_) | CheckedVerdict::Pdu(_) => nabe_event::Dropped::WrongForm.into(),
    }
}

fn reply_body(pdu: &Pdu) -> Object {
    object! { "pdu" => pdu.object().clone(), "event" => pdu.object().clone() }
}

/// Whether the user was told of this invite before: same room, same hub, same inviter, and not answered since.
fn is_same_invite(known: &PendingRoom, new: &PendingRoom, inviter: &UserId) -> bool {
    let event = known.event.as_ref().and_then(|event| Object::parse(event).ok());
    let known_inviter = event.as_ref().and_then(|event| event.get("sender")?.as_str());
    known.membership == new.membership && known.hub == new.hub && known_inviter == Some(inviter.as_str())
}

/// Most invites and knocks one user's list takes from other servers.
const MAX_PENDING: u64 = 1_000;
/// Most stripped state events kept of an invite.
const MAX_STRIPPED: usize = 50;
