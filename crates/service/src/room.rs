//! Changing a room: decide on its view, commit, apply. Questions to other servers are asked in between, with the room
//! unlocked, and the decision is then made anew on whatever the room has become. The one exception is an invite in a room that
//! does not rest: see `ask_with_room_locked`.

use std::time::Duration;

use bytes::Bytes;
use nabe_auth::lm::Membership;
use nabe_core::{Decision, Entry, Input, Question, Refusal, Reply, RoomView};
use nabe_event::{Event, Pdu};
use nabe_signing::json::{Json, Object};
use nabe_signing::object;
use nabe_store::{InboxKind, PendingMembership, PendingRoom, Write};
use nabe_types::{EventId, RoomId, ServerName, UserId};

use crate::error::ServiceError;
use crate::incoming::membership_change;
use crate::invite::InvitingView;
use crate::ports::PeerError;
use crate::rooms::{ATTEMPTS, OpenRoom, Staged};
use crate::{Service, metric};

/// One decision's result.
pub(crate) enum Verdict {
    /// It is, or was, in the log.
    Done(Reply),
    /// Another server must be asked first; nothing is staged.
    Ask(Question),
}

/// How an invited user's server is asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Asking {
    /// The room goes on meanwhile; the question is handed to the caller.
    Unlocked,
    /// The room waits for the answer.
    Locked,
}

impl Service {
    /// Puts one input into a room and makes the result durable. Asks other servers if the decision needs it: an invited
    /// user's server for its signature, the hub for missing events.
    ///
    /// # Errors
    ///
    /// [`ServiceError::Refused`] and its kin when the room does not take it, [`ServiceError::RoomTooBusy`] when the room
    /// kept changing while others were asked.
    pub(crate) async fn transact(&self, room: &RoomId, input: Input) -> Result<Reply, ServiceError> {
        self.transact_with(room, &input, |_| Vec::new()).await
    }

    /// The same; what `extra` makes of the reply is committed along.
    pub(crate) async fn transact_with(
        &self,
        room: &RoomId,
        input: &Input,
        extra: impl Fn(&Reply) -> Vec<Write> + Send + Sync,
    ) -> Result<Reply, ServiceError> {
        let mut answer: Option<Input> = None;
        let mut asking = Asking::Unlocked;
        for _ in 0..ATTEMPTS {
            let answered = answer.take();
            let tried = self
                .attempt(room, answered.as_ref().unwrap_or(input), &extra, asking)
                .await;
            match tried {
                Ok(Verdict::Done(reply)) => return Ok(reply),
                Ok(Verdict::Ask(Question::InviteSignature { pdu, lpdu_id, target })) => {
                    let view = self.read_room(room, |view| InvitingView::from(view)).await?;
                    answer = Some(self.ask_for_invite_signature(view, pdu, lpdu_id, &target).await?);
                }
                Ok(Verdict::Ask(Question::Backfill { missing })) => self.close_gap(room, missing).await?,
                // Answered where it is asked, from our own store.
                Ok(Verdict::Ask(Question::AuthEvents { .. })) => {}
                Err(ServiceError::Refused(refusal)) if matches!(*refusal, Refusal::HeadMoved) => {
                    asking = Asking::Locked;
                }
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error),
            }
        }
        Err(ServiceError::RoomTooBusy)
    }

    /// One attempt without any question; `extra` is committed with the result. A conflict comes back as the error it is.
    pub(crate) async fn try_once(
        &self,
        room: &RoomId,
        input: &Input,
        extra: Vec<Write>,
    ) -> Result<Verdict, ServiceError> {
        self.attempt(room, input, &|_: &Reply| extra.clone(), Asking::Unlocked)
            .await
    }

    async fn attempt(
        &self,
        room: &RoomId,
        input: &Input,
        extra: &(impl Fn(&Reply) -> Vec<Write> + Send + Sync),
        asking: Asking,
    ) -> Result<Verdict, ServiceError> {
        for _ in 0..ATTEMPTS {
            let mut open = self.open_room(room).await?;
            let mut judged = self.judge(&mut open, input).await;
            if asking == Asking::Locked
                && let Ok(Verdict::Ask(Question::InviteSignature { pdu, lpdu_id, target })) = judged
            {
                let answer = self.ask_with_room_locked(&open, pdu, lpdu_id, &target).await?;
                judged = self.judge(&mut open, &answer).await;
            }
            match judged {
                Ok(Verdict::Done(reply)) => {
                    let extra = extra(&reply);
                    self.commit_rooms(vec![open], extra).await?;
                    return Ok(Verdict::Done(reply));
                }
                Ok(ask) => return Ok(ask),
                Err(error) => {
                    if open.is_current(self).await? {
                        self.log_refusal(room, input, &error);
                        return Err(error);
                    }
                    open.discard();
                }
            }
        }
        Err(ServiceError::RoomTooBusy)
    }

    /// The one exception to asking nobody while a room is locked. An invite is signed for one place in the log, so in a room
    /// that never rests no answer comes in time: when the room went on during one round trip, it waits for the next one. This
    /// is bounded in time as a whole, keys included, and shortly, for the invited server may be the one that wants the room to
    /// stand still; and it cannot deadlock: what the invited server may ask of us meanwhile is
    /// our keys, which takes no lock, or something that waits for the room and that its answer does not wait for.
    async fn ask_with_room_locked(
        &self,
        open: &OpenRoom,
        pdu: Pdu,
        lpdu_id: Option<EventId>,
        target: &ServerName,
    ) -> Result<Input, ServiceError> {
        let view = InvitingView::from(open.view());
        let bound = self.settings().delivery.question_timeout.min(LOCKED_QUESTION);
        let bound = self.clock().sleep(bound);
        tokio::select! {
            biased;
            answer = self.ask_for_invite_signature(view, pdu, lpdu_id, target) => answer,
            () = self.stopping() => Err(ServiceError::ShuttingDown),
            () = bound => Err(ServiceError::PeerFailed {
                server: target.clone(),
                error: PeerError::Timeout,
            }),
        }
    }

    /// Decides one input on an open room.
    pub(crate) async fn judge(&self, open: &mut OpenRoom, input: &Input) -> Result<Verdict, ServiceError> {
        if let Input::Lpdu { event, .. } = input
            && let Some(reply) = self.known_lpdu(&open.view().meta().room_id, event.lpdu_id()).await?
        {
            return Ok(Verdict::Done(reply));
        }
        match open.decide(input, self)? {
            Decision::Done(outcome) => Ok(Verdict::Done(outcome.reply)),
            Decision::Ask(question @ Question::Backfill { .. }) => match self.known_event(open, input).await? {
                Some(reply) => Ok(Verdict::Done(reply)),
                None => Ok(Verdict::Ask(question)),
            },
            // Rare: an honest hub names what is in the state, and the state is at hand.
            Decision::Ask(Question::AuthEvents { ids }) => {
                let input = self.with_held(&open.view().meta().room_id, input, &ids).await?;
                Ok(match open.decide(&input, self)? {
                    Decision::Done(outcome) => Verdict::Done(outcome.reply),
                    Decision::Ask(question) => Verdict::Ask(question),
                })
            }
            Decision::Ask(question) => Ok(Verdict::Ask(question)),
        }
    }

    /// The same event with those of its auth events that we hold, in the log or beside it.
    async fn with_held(&self, room: &RoomId, input: &Input, ids: &[EventId]) -> Result<Input, ServiceError> {
        let mut input = input.clone();
        if let Input::Pdu { held, .. } = &mut input {
            *held = Some(self.store().events(room, ids).await?);
        }
        Ok(input)
    }

    async fn known_lpdu(&self, room: &RoomId, lpdu_id: &EventId) -> Result<Option<Reply>, ServiceError> {
        let known = self.store().entry_by_lpdu(room, std::slice::from_ref(lpdu_id)).await?;
        Ok(known.into_iter().next().map(|known| Reply::AlreadyKnown {
            event_id: known.event_id,
            position: known.position,
        }))
    }

    /// An event whose predecessor is not our head is usually one we have: a resent one. One whose predecessor is the head
    /// cannot be, so this is asked only in the first case.
    async fn known_event(&self, open: &OpenRoom, input: &Input) -> Result<Option<Reply>, ServiceError> {
        let event_id = match input {
            Input::Pdu { event, .. } => event.event_id(),
            Input::InvalidPdu { event_id, .. } => event_id,
            Input::Lpdu { .. } | Input::Draft { .. } | Input::InviteAnswer { .. } => return Ok(None),
        };
        let found = self.store().entry(event_id).await?;
        Ok(found
            .filter(|(room, _)| *room == open.view().meta().room_id)
            .map(|(_, entry)| Reply::AlreadyKnown {
                event_id: event_id.clone(),
                position: entry.position,
            }))
    }

    /// A refused event is logged once, here, with the number of the rule it breaks.
    pub(crate) fn log_refusal(&self, room: &RoomId, input: &Input, error: &ServiceError) {
        let rule = match error {
            ServiceError::Refused(refusal) => refusal.rule().unwrap_or("none").to_owned(),
            _ => return,
        };
        let (event_id, event) = match input {
            Input::Lpdu { event, .. } => (Some(event.lpdu_id()), Some(event.event())),
            Input::Pdu { event, .. } => (Some(event.event_id()), Some(event.pdu().event())),
            Input::InviteAnswer { pdu, .. } => (Some(pdu.event_id()), Some(pdu.event())),
            Input::InvalidPdu { event_id, .. } => (Some(event_id), None),
            Input::Draft { .. } => (None, None),
        };
        metrics::counter!(metric::EVENTS_REFUSED, "rule" => rule.clone()).increment(1);
        tracing::info!(
            %room,
            event_id = event_id.map(EventId::as_str),
            sender = event.map(|event| event.sender().as_str()),
            %rule,
            reason = %error,
            "refused an event"
        );
    }

    /// What a new entry means for local users beyond the log: invites to list and to announce, and their end. `view` is
    /// the room before the entry.
    pub(crate) fn consequences_of(&self, view: &RoomView, entry: &Entry, staged: &mut Staged) {
        let Some(event) = entry.state_event() else { return };
        let Some((user, membership)) = membership_change(event) else {
            return;
        };
        if !self.is_us(user.server_name()) {
            return;
        }
        let room = view.meta().room_id.clone();
        let before = view.membership(&user);
        let now = self.now();
        let writes = match membership {
            "invite" => {
                let stripped: Vec<Json> = view.stripped_state().into_iter().map(Json::Object).collect();
                let pending = PendingRoom {
                    user: user.clone(),
                    room,
                    membership: PendingMembership::Invite,
                    hub: view.meta().hub(self.server_name()).clone(),
                    version: view.meta().version.clone(),
                    stripped_state: Json::Array(stripped).to_canonical().into(),
                    event: Some(event.object().to_canonical().into()),
                    at: now,
                };
                self.pending_writes(pending, event.sender())
            }
            "leave" | "ban" if matches!(before, Membership::Invite | Membership::Knock) => {
                self.pending_ended(&user, &room, event)
            }
            _ => vec![Write::RemovePending {
                user: user.clone(),
                room,
            }],
        };
        staged.add_consequences(user, writes);
    }

    /// Lists an invite or knock and tells the user.
    pub(crate) fn pending_writes(&self, pending: PendingRoom, sender: &UserId) -> Vec<Write> {
        let kind = match pending.membership {
            PendingMembership::Invite => InboxKind::Invite,
            PendingMembership::Knock => InboxKind::Knock,
        };
        let body: Object = object! {
            "room_id" => pending.room.as_str(),
            "sender" => sender.as_str(),
            "stripped_state" => bounded(&pending.stripped_state),
        };
        vec![
            Write::Inbox {
                user: pending.user.clone(),
                device: None,
                kind,
                body: body.to_canonical().into(),
                now: pending.at,
            },
            self.put_pending(pending),
        ]
    }

    /// Lists an invite or knock, of its stripped state as much as is kept.
    pub(crate) fn put_pending(&self, mut pending: PendingRoom) -> Write {
        pending.stripped_state = Json::from(bounded(&pending.stripped_state)).to_canonical().into();
        Write::PutPending { pending }
    }

    /// Takes an invite or knock off the list and tells the user.
    pub(crate) fn pending_ended(&self, user: &UserId, room: &RoomId, event: &Event) -> Vec<Write> {
        let body: Object = object! {
            "room_id" => room.as_str(),
            "sender" => event.sender().as_str(),
            "membership" => event.membership().unwrap_or_default(),
        };
        vec![
            Write::RemovePending {
                user: user.clone(),
                room: room.clone(),
            },
            Write::Inbox {
                user: user.clone(),
                device: None,
                kind: InboxKind::PendingEnded,
                body: Bytes::from(body.to_canonical()),
                now: self.now(),
            },
        ]
    }
}

/// The stripped state events that fit the limit together, in their order. What is not a list counts as empty.
fn bounded(stripped_state: &[u8]) -> Vec<Json> {
    let Ok(Json::Array(events)) = Json::parse(stripped_state) else {
        return Vec::new();
    };
    let mut left = MAX_STRIPPED_BYTES;
    // Two brackets, and a comma or nothing between two events.
    let mut fits = |event: &Json| {
        let size = event.to_canonical().len() + 1;
        let fits = size < left;
        if fits {
            left -= size;
        }
        fits
    };
    events.into_iter().filter(|event| fits(event)).collect()
}

/// Most bytes of stripped state kept of a room a user is not in; nobody vouches for it.
const MAX_STRIPPED_BYTES: usize = 64 * 1024;

/// Longest question asked while a room is locked.
const LOCKED_QUESTION: Duration = Duration::from_secs(2);
