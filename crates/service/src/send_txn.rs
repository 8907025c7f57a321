//! `PUT /_matrix/federation/v2/send/{txnId}`: events and EDUs from another server (LM #int-api-send-txn).
//!
//! As long as no other server has to be asked, the whole transaction is one batch: appends to all its rooms, inbox
//! items, parked events and the reply. What needs a question (an invite, a gap) waits until the rest is durable and is
//! then done event by event, and the reply is stored last; should we crash in between, the repeated transaction finds
//! its events known.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use nabe_core::{Decision, Input, Refusal, Reply, RoomMeta, Via};
use nabe_event::{EventKind, RawEvent, event_id_of};
use nabe_signing::json::{Json, Object};
use nabe_signing::object;
use nabe_store::{ParkReason, ParkedEvent, StoredReply};
use nabe_types::limits::{MAX_EDUS, MAX_EVENT_BYTES, MAX_PDUS};
use nabe_types::{EventId, RoomId, ServerName, TransactionId};

use crate::edu::EduWork;
use crate::error::ServiceError;
use crate::failed_pdu::{FailedPdu, FailedPdus};
use crate::idempotency::Transaction;
use crate::incoming::{Malformed, parked_event};
use crate::rooms::{ATTEMPTS, OpenRoom};
use crate::{Service, metric};

/// The request's body within its limits.
struct Body {
    pdus: Vec<Json>,
    edus: Vec<Json>,
}

/// A transaction sorted out and verified, ready for the rooms.
#[derive(Default)]
struct Sorted {
    /// Per room, in the order received.
    inputs: BTreeMap<RoomId, Vec<(EventId, Input)>>,
    failed: FailedPdus,
    parked: Vec<ParkedEvent>,
}

/// What the rooms made of one pass.
#[derive(Default)]
struct Pass {
    failed: FailedPdus,
    /// Room and index of the first input that needs a question; everything after it in that room waits, too.
    deferred: BTreeMap<RoomId, usize>,
    parked: Vec<ParkedEvent>,
}

impl Service {
    /// Takes in a transaction. The reply, status 200, is `{"failed_pdus":{…}}`; the same transaction again gets the same
    /// bytes.
    ///
    /// # Errors
    ///
    /// [`ServiceError::BadJson`] for a body of the wrong shape or over the limits, with nothing processed;
    /// [`ServiceError::TransactionInProgress`] while another transaction of this origin is being worked on; the store's
    /// failures, after which the transaction is to be repeated.
    pub async fn send_txn(
        &self,
        origin: ServerName,
        txn_id: TransactionId,
        body: Json,
        body_sha256: [u8; 32],
    ) -> Result<StoredReply, ServiceError> {
        self.check_policy(&origin)?;
        let body = Body::read(body)?;
        let transaction = self.transaction(&origin, "send", &txn_id, body_sha256);
        let work = move |service: Self, transaction| async move { service.receive(&origin, body, &transaction).await };
        self.once(transaction, true, work).await
    }

    async fn receive(
        &self,
        origin: &ServerName,
        body: Body,
        transaction: &Transaction,
    ) -> Result<StoredReply, ServiceError> {
        let edus = self.receive_edus(origin, &body.edus).await?;
        let sorted = self.sort(origin, body.pdus).await?;
        for _ in 0..ATTEMPTS {
            let mut open = Vec::with_capacity(sorted.inputs.len());
            for room in sorted.inputs.keys() {
                open.push(self.open_room(room).await?);
            }
            let Some(pass) = self.decide_all(origin, &sorted, &mut open).await? else {
                continue;
            };
            let parked = sorted.parked.iter().chain(&pass.parked).cloned();
            let mut writes = self.park(parked.collect()).await?;
            let mut failed = sorted.failed.clone();
            failed.extend(pass.failed.clone());
            if pass.deferred.is_empty() {
                let (reply, write) = transaction.reply(&reply_body(&failed), self);
                writes.extend(edus.writes.clone());
                writes.push(write);
                match self.commit_rooms(open, writes).await {
                    Err(error) if error.is_conflict() => continue,
                    result => result?,
                }
                self.announce_edus(&edus);
                return Ok(reply);
            }
            match self.commit_rooms(open, writes).await {
                Err(error) if error.is_conflict() => continue,
                result => result?,
            }
            return self
                .finish_one_by_one(origin, sorted, pass, failed, edus, transaction)
                .await;
        }
        Err(ServiceError::RoomTooBusy)
    }

    /// Reads, groups and verifies the events of a transaction. Nothing here depends on a room's state.
    async fn sort(&self, origin: &ServerName, pdus: Vec<Json>) -> Result<Sorted, ServiceError> {
        let mut sorted = Sorted::default();
        let mut metas: BTreeMap<RoomId, Option<RoomMeta>> = BTreeMap::new();
        let mut events = Vec::with_capacity(pdus.len());
        for pdu in pdus {
            let Json::Object(object) = pdu else { continue };
            let Some(room) = room_of(&object) else {
                // LM #int-api-send-txn, 1.1: an invalid room is rejected, and rejections are reported.
                sorted
                    .failed
                    .insert(event_id_of(&object), "the event names no valid room".into());
                continue;
            };
            if !metas.contains_key(&room) {
                metas.insert(room.clone(), self.room_meta(&room).await?);
            }
            match metas.get(&room).and_then(Option::as_ref) {
                Some(meta) => events.extend(self.parse_for(meta, origin, room, object, &mut sorted)?),
                None if self.is_joining(&room, origin) => {
                    sorted.parked.extend(self.park_for_join(origin, room, &object));
                }
                None => self.receive_outside(origin, room, object, &mut sorted).await?,
            }
        }
        // As a participant we may ask the hub for keys: it had to verify what it sent us. As the hub we ask nobody: who
        // sends us an LPDU must not say which keys it is to be verified with.
        let (for_us, from_hub): (Vec<_>, Vec<_>) =
            events.into_iter().partition(|event| event.kind() == EventKind::Lpdu);
        let mut checked = self.verify_events(for_us, None, false).await?;
        checked.extend(self.verify_events(from_hub, Some(origin), false).await?);
        let now = self.now();
        for event in checked {
            let Some(meta) = metas.get(&event.room).and_then(Option::as_ref) else {
                continue;
            };
            if let Some(parked) = event.parked(origin, now) {
                if meta.is_hub() {
                    // Keys of the sender's server authenticated this very request, so this is none of those it publishes.
                    metrics::counter!(metric::EVENTS_DROPPED).increment(1);
                    tracing::info!(room = %parked.room, %origin, event_id = %parked.event_id, "dropped an event without known key");
                } else {
                    sorted.parked.push(parked);
                }
                continue;
            }
            let (room, event_id) = (event.room.clone(), event.event_id.clone());
            if let Some(input) = event.into_input(meta, origin, Via::Send) {
                sorted.inputs.entry(room).or_default().push((event_id, input));
            }
        }
        Ok(sorted)
    }

    /// Schema, and the cheap reasons to drop an event before its signatures are looked at.
    fn parse_for(
        &self,
        meta: &RoomMeta,
        origin: &ServerName,
        room: RoomId,
        object: Object,
        sorted: &mut Sorted,
    ) -> Result<Option<RawEvent>, ServiceError> {
        let dropped = |reason: &dyn std::fmt::Display| {
            metrics::counter!(metric::EVENTS_DROPPED).increment(1);
            tracing::info!(%room, %origin, %reason, "dropped an event");
        };
        if !meta.is_hub() && meta.hub(self.server_name()) != origin {
            dropped(&"only the hub distributes events");
            return Ok(None);
        }
        // A participant must be able to leave a hole in the place of what it cannot read.
        let malformed = (!meta.is_hub()).then(|| Malformed::read(&object));
        let event = match RawEvent::from_json(object, meta.rules()?) {
            Ok(event) => event,
            Err(reason) => {
                dropped(&reason);
                if let Some(malformed) = malformed
                    && let id = malformed.event_id.clone()
                    && let Some(input) = malformed.into_input(origin)
                {
                    sorted.inputs.entry(room.clone()).or_default().push((id, input));
                }
                return Ok(None);
            }
        };
        // LM #int-api-send-txn, 3: an LPDU at a server that is not the hub. And the hub takes PDUs from nobody.
        let expected = if meta.is_hub() { EventKind::Lpdu } else { EventKind::Pdu };
        if event.kind() != expected {
            dropped(&"an LPDU is for the hub, a PDU for participants");
            return Ok(None);
        }
        if meta.is_hub()
            && let Some(refusal) = self.misdirected(origin, &event)
        {
            let rule = refusal.rule().unwrap_or("none").to_owned();
            metrics::counter!(metric::EVENTS_REFUSED, "rule" => rule).increment(1);
            tracing::info!(%room, %origin, reason = %refusal, "refused an event");
            sorted.failed.insert(event.event_id(), (&refusal).into());
            return Ok(None);
        }
        Ok(Some(event))
    }

    /// What is wrong with an LPDU however it is signed. Looked at first, so that nobody makes us look for keys of a third server.
    fn misdirected(&self, origin: &ServerName, event: &RawEvent) -> Option<Refusal> {
        if event.sender_server() != origin {
            return Some(Refusal::OriginIsNotSender {
                origin: origin.clone(),
                sender: event.sender().clone(),
            });
        }
        let named = event.hub_server().filter(|named| !self.is_us(named))?;
        Some(Refusal::WrongHub {
            named: named.clone(),
            hub: self.server_name().clone(),
        })
    }

    /// Decides everything that needs no question, room by room. `None` when a room turned out to have moved.
    async fn decide_all(
        &self,
        origin: &ServerName,
        sorted: &Sorted,
        open: &mut Vec<OpenRoom>,
    ) -> Result<Option<Pass>, ServiceError> {
        let mut pass = Pass::default();
        let mut known = self.known_lpdus(&sorted.inputs).await?;
        for (room, (id, inputs)) in open.iter_mut().zip(&sorted.inputs) {
            let mut refused = false;
            for (index, (event_id, input)) in inputs.iter().enumerate() {
                if matches!(input, Input::Lpdu { .. }) && !known.insert((id.clone(), event_id.clone())) {
                    continue;
                }
                match room.decide(input, self) {
                    Ok(Decision::Done(outcome)) => {
                        if is_rejected(input, &outcome.reply) {
                            pass.failed.insert(event_id.clone(), REJECTED.into());
                        }
                    }
                    Ok(Decision::Ask(_)) => {
                        pass.deferred.insert(id.clone(), index);
                        break;
                    }
                    Err(Refusal::NotParticipating) if self.is_joining(id, origin) => {
                        pass.parked.extend(self.park_input(origin, id, event_id, input));
                    }
                    Err(refusal) => {
                        refused = true;
                        if !refusal.is_silent() {
                            pass.failed.insert(event_id.clone(), (&refusal).into());
                        }
                        self.log_refusal(id, input, &refusal.into());
                    }
                }
            }
            if refused && !room.is_current(self).await? {
                open.drain(..).for_each(OpenRoom::discard);
                return Ok(None);
            }
        }
        Ok(Some(pass))
    }

    /// Which of these LPDUs are in their room's log already: sent again, they succeed without effect.
    async fn known_lpdus(
        &self,
        inputs: &BTreeMap<RoomId, Vec<(EventId, Input)>>,
    ) -> Result<BTreeSet<(RoomId, EventId)>, ServiceError> {
        let all = inputs
            .iter()
            .flat_map(|(room, inputs)| inputs.iter().map(move |input| (room, input)));
        let lpdus: Vec<_> = all
            .filter(|(_, (_, input))| matches!(input, Input::Lpdu { .. }))
            .map(|(room, (id, _))| (room.clone(), id.clone()))
            .collect();
        if lpdus.is_empty() {
            return Ok(BTreeSet::new());
        }
        let known = self.store().entries_by_lpdu(&lpdus).await?;
        Ok(known.into_iter().map(|(room, known)| (room, known.lpdu_id)).collect())
    }

    /// The events that need questions, and those behind them, each on its own; then EDUs and reply.
    async fn finish_one_by_one(
        &self,
        origin: &ServerName,
        sorted: Sorted,
        pass: Pass,
        mut failed: FailedPdus,
        edus: EduWork,
        transaction: &Transaction,
    ) -> Result<StoredReply, ServiceError> {
        let mut parked = Vec::new();
        for (room, inputs) in sorted.inputs {
            let Some(&from) = pass.deferred.get(&room) else {
                continue;
            };
            let mut is_waiting = false;
            for (event_id, input) in inputs.into_iter().skip(from) {
                let (bytes, is_pdu) = (
                    bytes_of(&input),
                    matches!(input, Input::Pdu { .. } | Input::InvalidPdu { .. }),
                );
                let is_valid_pdu = matches!(input, Input::Pdu { .. });
                // Behind one that waits nothing can be appended: asking the hub for what we have would not change that.
                let tried = if is_waiting {
                    Err(ServiceError::GapOpen)
                } else {
                    self.transact(&room, input).await
                };
                match tried {
                    Ok(Reply::Recorded { .. }) if is_valid_pdu => {
                        failed.insert(event_id, REJECTED.into());
                    }
                    Ok(Reply::Recorded { .. } | Reply::Appended { .. } | Reply::AlreadyKnown { .. }) => {}
                    Err(error) if is_pdu && must_wait(&error) => {
                        is_waiting = true;
                        // Its predecessor waits for a key or for the hub, so it waits with it. A hole waits for nothing: the next event
                        // leads back to it.
                        let reason = ParkReason::KeysUnavailable;
                        let event = bytes.map(|bytes| {
                            parked_event(room.clone(), event_id.clone(), origin, bytes, reason, self.now())
                        });
                        parked.extend(event);
                    }
                    Err(error) => {
                        if let Some(entry) = report(error)? {
                            failed.insert(event_id, entry);
                        }
                    }
                }
            }
        }
        let (reply, write) = transaction.reply(&reply_body(&failed), self);
        let mut writes = self.park(parked).await?;
        writes.extend(edus.writes.iter().cloned());
        writes.push(write);
        self.commit_rooms(Vec::new(), writes).await?;
        self.announce_edus(&edus);
        Ok(reply)
    }

    fn announce_edus(&self, edus: &EduWork) {
        edus.users.iter().for_each(|user| self.notify_inbox(user));
    }

    /// `None` for what is too large to be an event.
    fn park_for_join(&self, origin: &ServerName, room: RoomId, object: &Object) -> Option<ParkedEvent> {
        let bytes = object.to_canonical();
        if bytes.len() > MAX_EVENT_BYTES {
            metrics::counter!(metric::EVENTS_DROPPED).increment(1);
            return None;
        }
        Some(parked_event(
            room,
            event_id_of(object),
            origin,
            bytes.into(),
            ParkReason::JoinPending,
            self.now(),
        ))
    }

    fn park_input(&self, origin: &ServerName, room: &RoomId, id: &EventId, input: &Input) -> Option<ParkedEvent> {
        let bytes = bytes_of(input)?;
        Some(parked_event(
            room.clone(),
            id.clone(),
            origin,
            bytes,
            ParkReason::JoinPending,
            self.now(),
        ))
    }

    /// An event of a room we are not in. The end of a pending invite or knock is for us all the same; anything else is
    /// rejected, because the room is unknown.
    async fn receive_outside(
        &self,
        origin: &ServerName,
        room: RoomId,
        object: Object,
        sorted: &mut Sorted,
    ) -> Result<(), ServiceError> {
        let event_id = event_id_of(&object);
        if !self.end_pending(origin, &room, object).await? {
            sorted.failed.insert(event_id, "unknown room".into());
        }
        Ok(())
    }
}

impl Body {
    fn read(body: Json) -> Result<Self, ServiceError> {
        let Json::Object(mut body) = body else {
            return Err(ServiceError::BadJson("the body must be an object"));
        };
        let Some(Json::Array(pdus)) = body.remove("pdus") else {
            return Err(ServiceError::BadJson("`pdus` must be an array"));
        };
        let edus = match body.remove("edus") {
            None => Vec::new(),
            Some(Json::Array(edus)) => edus,
            Some(_) => return Err(ServiceError::BadJson("`edus` must be an array")),
        };
        if pdus.len() > MAX_PDUS {
            return Err(ServiceError::BadJson("more than 50 entries in `pdus`"));
        }
        if edus.len() > MAX_EDUS {
            return Err(ServiceError::BadJson("more than 100 entries in `edus`"));
        }
        Ok(Self { pdus, edus })
    }
}

fn room_of(object: &Object) -> Option<RoomId> {
    RoomId::parse(object.get("room_id").and_then(Json::as_str)?).ok()
}

fn reply_body(failed: &FailedPdus) -> Object {
    let failed: Object = failed
        .iter()
        .map(|(id, entry)| (id.as_str().to_owned(), Json::from(entry.to_object())))
        .collect();
    object! { "failed_pdus" => failed }
}

/// What `failed_pdus` says of a PDU that we had to take a place for but do not accept.
const REJECTED: &str = "the event is rejected by the authorization rules";

/// Rejected events are reported, dropped ones are not (LM #int-receiving-events): of the holes a hub's PDUs leave in our log,
/// those of events without a valid form or signature stay unmentioned.
const fn is_rejected(input: &Input, reply: &Reply) -> bool {
    matches!(input, Input::Pdu { .. }) && matches!(reply, Reply::Recorded { .. })
}

fn bytes_of(input: &Input) -> Option<Bytes> {
    match input {
        Input::Pdu { event, .. } => Some(Bytes::copy_from_slice(event.pdu().bytes())),
        Input::Lpdu { event, .. } => Some(Bytes::copy_from_slice(event.bytes())),
        Input::Draft { .. } | Input::InviteAnswer { .. } | Input::InvalidPdu { .. } => None,
    }
}

/// Whether an event from the hub cannot have its place before something else is there: its predecessor, or the hub's answer to
/// what comes before it. Only its own room waits with it.
const fn must_wait(error: &ServiceError) -> bool {
    matches!(error, ServiceError::GapOpen | ServiceError::PeerFailed { .. })
}

/// What `failed_pdus` says of an event that was tried alone. Failures of our own make the whole transaction fail, so that it is
/// sent again.
fn report(error: ServiceError) -> Result<Option<FailedPdu>, ServiceError> {
    match &error {
        ServiceError::Refused(refusal) => Ok((!refusal.is_silent()).then(|| refusal.as_ref().into())),
        ServiceError::WrongServer { .. } | ServiceError::Dropped(_) => Ok(None),
        ServiceError::Proxied { .. }
        | ServiceError::PolicyRefused { .. }
        | ServiceError::PeerFailed { .. }
        | ServiceError::BadAnswer { .. } => Ok(Some(error.to_string().as_str().into())),
        _ => Err(error),
    }
}
