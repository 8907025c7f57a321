//! `GET /_matrix/federation/v2/backfill/{roomId}` (LM #get-matrixfederationv2backfillroomid): serving it, and using it ourselves, to close a
//! gap before an event the hub sent and to fetch history from before our log began.

use std::collections::{BTreeMap, BTreeSet};

use nabe_core::backfill::{Gap, Link, close_gap, prepend};
use nabe_core::{Checkpoint, EntryBody, HoleReason, Input, State, Via};
use nabe_event::{Pdu, RawEvent};
use nabe_signing::json::Json;
use nabe_store::{Between, Order, ParkReason, Write};
use nabe_types::{EventId, LogPosition, RoomId, ServerName};

use crate::Service;
use crate::error::{Missing, ServiceError};
use crate::incoming::{Checked, CheckedVerdict, Malformed, parked_event};
use crate::ports::{Method, PeerError};
use crate::room::Verdict;
use crate::wire::{federation_request, lists_of_events, read_answer};

const MEMBER: &str = "m.room.member";

/// A fetched event, parsed if it can be.
enum Fetched {
    Event(Box<RawEvent>),
    Malformed(Malformed),
}

impl Service {
    /// The body of the answer, `{"pdus":[…]}`: at most `limit` events up to and including `v`, oldest first, as far as
    /// the caller may see them.
    ///
    /// # Errors
    ///
    /// [`ServiceError::InvalidParam`] for a `limit` of 0; [`ServiceError::NotFound`] for a room or event that is unknown,
    /// hidden from the caller, or not of this room; [`ServiceError::LimitExceeded`].
    pub async fn backfill(
        &self,
        origin: &ServerName,
        room: &RoomId,
        v: &EventId,
        limit: u32,
    ) -> Result<bytes::Bytes, ServiceError> {
        self.check_policy(origin)?;
        self.limit_peer(origin, "backfill")?;
        if limit == 0 {
            return Err(ServiceError::InvalidParam("limit"));
        }
        let limit = limit.min(self.settings().limits.backfill_events) as usize;
        let missing = ServiceError::NotFound(Missing::Event);
        let Some((found_in, newest)) = self.store().entry(v).await? else {
            return Err(missing);
        };
        if found_in != *room {
            return Err(missing);
        }
        let sight = self.sight(room, origin).await?;
        // Whether the caller may know of `v` comes first: what is older must not leak through it.
        if self
            .shown_entries(room, &sight, std::slice::from_ref(&newest))
            .await?
            .is_empty()
        {
            return Err(missing);
        }
        let through = Between::through(newest.position);
        let mut entries = self.store().entries(room, through, limit, Order::Descending).await?;
        entries.reverse();
        let shown = self.shown_entries(room, &sight, &entries).await?;
        Ok(lists_of_events(&[("pdus", &shown)]))
    }

    /// As a participant: fetches from the hub what is missing between our head and `missing`, and puts it into the room.
    ///
    /// # Errors
    ///
    /// [`ServiceError::GapOpen`] if an event on the way has to wait for a key; [`ServiceError::BadAnswer`] if the hub's
    /// events do not lead to our head; [`ServiceError::PeerFailed`] if it has no answer now, or had none a moment ago;
    /// [`ServiceError::Proxied`] if it will never have one.
    pub(crate) async fn close_gap(&self, room: &RoomId, missing: EventId) -> Result<(), ServiceError> {
        if self.store().parked_ids(room).await?.contains(&missing) {
            return Err(ServiceError::GapOpen);
        }
        let gaps = &self.inner.gaps;
        gaps.may_ask(room, self.now())?;
        let closed = self.fetch_gap(room, missing).await;
        match &closed {
            Ok(()) => gaps.closed(room),
            Err(error @ ServiceError::PeerFailed { .. }) => gaps.failed(room, error.clone(), self.now()),
            Err(_) => {}
        }
        closed
    }

    async fn fetch_gap(&self, room: &RoomId, missing: EventId) -> Result<(), ServiceError> {
        let meta = self
            .room_meta(room)
            .await?
            .ok_or(ServiceError::NotFound(Missing::Room))?;
        let hub = meta.hub(self.server_name()).clone();
        let (head, position) = self
            .read_room(room, |view| (view.head().cloned(), view.position()))
            .await?;
        let Some(head) = head else {
            return Err(ServiceError::GapOpen);
        };
        let mut links: Vec<Link<Fetched>> = Vec::new();
        let mut oldest = missing.clone();
        tracing::info!(%room, %missing, "fetching missing events from the hub");
        let events = loop {
            let page = match self.fetch_page(&hub, room, &oldest, u32::MAX).await {
                Ok(page) => page,
                // It has no history for us, or does not know the question.
                Err(error) if is_definite(&error) => {
                    return self.start_anew(&hub, room, &missing, position).await;
                }
                // Being too busy, say, does not mean that the history is gone.
                Err(error) => return Err(to_repeat(error, &hub)),
            };
            let is_empty = page.is_empty();
            links.extend(page);
            match close_gap(&head, &missing, links) {
                Gap::Closed(events) => break events,
                Gap::Unrelated => return Err(bad_answer(&hub, "its history of the room is not ours")),
                Gap::Open { older, found } => {
                    if self
                        .store()
                        .entry(&older)
                        .await?
                        .is_some_and(|(found_in, _)| found_in == *room)
                    {
                        return Err(bad_answer(&hub, "it has forked the room"));
                    }
                    if is_empty || older == oldest || found.len() > self.settings().limits.gap_events {
                        return self.start_anew(&hub, room, &missing, position).await;
                    }
                    oldest = older;
                    links = found;
                }
            }
        };
        self.feed(&hub, room, events).await
    }

    /// As a participant: grows the log backwards by up to `limit` events (at most what the hub returns at once). Returns how
    /// many came; 0 when the room's beginning is reached, or the hub shows no more.
    ///
    /// # Errors
    ///
    /// The hub's failures, [`ServiceError::NotFound`] for an unknown room.
    pub(crate) async fn extend_history(&self, room: &RoomId, limit: u32) -> Result<usize, ServiceError> {
        let meta = self
            .room_meta(room)
            .await?
            .ok_or(ServiceError::NotFound(Missing::Room))?;
        let hub = meta.hub(self.server_name()).clone();
        if self.is_us(&hub) || limit == 0 {
            return Ok(0);
        }
        let Some(first) = self.store().first(room).await? else {
            return Ok(0);
        };
        let between = Between {
            after: first.previous(),
            through: first,
        };
        let oldest = self.store().entries(room, between, 1, Order::Ascending).await?;
        let Some(prev) = oldest
            .first()
            .and_then(|entry| entry.pdu())
            .and_then(|pdu| pdu.prev_events().first())
        else {
            return Ok(0);
        };
        let mut events = Vec::new();
        let mut links = Vec::new();
        for link in self.fetch_page(&hub, room, prev, limit).await? {
            match link.item {
                Fetched::Event(event) => events.push(*event),
                Fetched::Malformed(malformed) => links.push(hole(link.event_id, malformed.prev, HoleReason::Malformed)),
            }
        }
        for event in self.verify_events(events, Some(&hub), false).await? {
            links.push(history_link(event));
        }
        let entries = prepend(first, prev, links, self.now());
        let count = entries.len();
        if count > 0 {
            let write = Write::Prepend {
                room: room.clone(),
                expected_first: first,
                entries,
            };
            match self.commit(write.into()).await {
                // Somebody else fetched the same history.
                Err(error) if error.is_conflict() => {}
                result => result?,
            }
        }
        Ok(count)
    }

    /// Puts events into the room, oldest first.
    async fn feed(&self, hub: &ServerName, room: &RoomId, events: Vec<Fetched>) -> Result<(), ServiceError> {
        let meta = self
            .room_meta(room)
            .await?
            .ok_or(ServiceError::NotFound(Missing::Room))?;
        let mut raw = Vec::new();
        let mut holes = Vec::new();
        for (index, event) in events.into_iter().enumerate() {
            match event {
                Fetched::Event(event) => raw.push(*event),
                Fetched::Malformed(malformed) => holes.push((index, malformed)),
            }
        }
        let mut inputs: Vec<Result<Input, Checked>> = Vec::new();
        for event in self.verify_events(raw, Some(hub), false).await? {
            if matches!(event.verdict, CheckedVerdict::LacksKeys { .. }) {
                inputs.push(Err(event));
            } else if let Some(input) = event.into_input(&meta, hub, Via::Send) {
                inputs.push(Ok(input));
            }
        }
        for (index, malformed) in holes {
            if let Some(input) = malformed.into_input(hub) {
                inputs.insert(index.min(inputs.len()), Ok(input));
            }
        }
        for input in inputs {
            match input {
                Ok(input) => match self.try_once(room, &input, Vec::new()).await? {
                    Verdict::Done(_) => {}
                    // The room moved meanwhile: whoever asked looks again.
                    Verdict::Ask(_) => return Ok(()),
                },
                Err(waiting) => {
                    if let CheckedVerdict::LacksKeys { bytes } = waiting.verdict {
                        let reason = ParkReason::KeysUnavailable;
                        let parked = parked_event(room.clone(), waiting.event_id, hub, bytes, reason, self.now());
                        self.park_out_of_gap(parked).await?;
                    }
                    return Err(ServiceError::GapOpen);
                }
            }
        }
        Ok(())
    }

    /// The last resort of a participant that fell too far behind: the log gets a gap, and goes on with the state the hub
    /// states after `missing`. State whose signers' keys cannot be had makes it fail: what was left out would be missing from our
    /// view of the room for good.
    async fn start_anew(
        &self,
        hub: &ServerName,
        room: &RoomId,
        missing: &EventId,
        expected: LogPosition,
    ) -> Result<(), ServiceError> {
        let meta = self
            .room_meta(room)
            .await?
            .ok_or(ServiceError::NotFound(Missing::Room))?;
        let query = [("event_id", missing.as_str())];
        let timeout = self.settings().delivery.request_timeout;
        let request = federation_request(Method::Get, "v1", &["state", room.as_str()], &query, false, timeout);
        let answer = self.ask(hub, request).await.map_err(|error| unless_final(error, hub))?;
        let read = |name: &str| -> Result<Vec<RawEvent>, ServiceError> {
            let list = answer.get(name).and_then(Json::as_array);
            let list = list.ok_or_else(|| bad_answer(hub, "`pdus` or `auth_chain` is missing"))?;
            let objects = list.iter().filter_map(|event| event.as_object().cloned());
            let rules = meta.rules()?;
            Ok(objects
                .filter_map(|object| RawEvent::from_json(object, rules).ok())
                .collect())
        };
        let pdus = self.verified_pdus(read("pdus")?, hub, true).await?;
        let outliers = self.verified_pdus(read("auth_chain")?, hub, false).await?;
        // `/state` speaks of the time before `missing`; if that is a state event, it takes effect, too.
        let page = self.fetch_event(hub, room, missing, meta.rules()?).await?;
        let mut state: State = pdus.into_iter().filter(|event| event.room_id() == room).collect();
        page.into_iter()
            .filter(|event| event.event_id() == missing)
            .for_each(|event| state.insert(event));
        if state.iter().next().is_none() {
            return Err(bad_answer(hub, "it states no state"));
        }
        if !self.read_room(room, |view| view.begins_like(&state)).await? {
            return Err(bad_answer(hub, "its room begins with another event than ours"));
        }
        // A log must never fall back: what is later than our head still has one of our users in the room by the very join we
        // know. An old event, sent late, does not.
        if !self.has_a_join_of_ours(room, &state).await? {
            return Err(bad_answer(hub, "the event does not follow what we know of the room"));
        }
        tracing::warn!(%room, %missing, "too far behind the hub: continuing after a gap");
        let checkpoint = Checkpoint {
            position: expected.next(),
            head: Some(missing.clone()),
            state: state.iter().cloned().collect(),
        };
        let write = Write::Rebase {
            room: room.clone(),
            expected,
            checkpoint,
            outliers,
        };
        let result = self.commit(write.into()).await;
        self.forget_view(room).await;
        match result {
            Err(error) if error.is_conflict() => Ok(()),
            result => result,
        }
    }

    /// Whether one of our users is joined in `state` by the same event as in our view.
    async fn has_a_join_of_ours(&self, room: &RoomId, state: &State) -> Result<bool, ServiceError> {
        let own = self.server_name();
        let stated: BTreeSet<EventId> = state
            .iter()
            .filter(|event| event.event_type() == MEMBER && event.membership() == Some("join"))
            .filter(|event| event.sender_server() == own)
            .map(|event| event.event_id().clone())
            .collect();
        self.read_room(room, |view| {
            view.state().iter().any(|event| stated.contains(event.event_id()))
        })
        .await
    }

    /// One event by `/event`; empty if it is not valid.
    async fn fetch_event(
        &self,
        hub: &ServerName,
        room: &RoomId,
        event: &EventId,
        rules: &'static nabe_event::RoomVersionRules,
    ) -> Result<Vec<Pdu>, ServiceError> {
        let timeout = self.settings().delivery.request_timeout;
        let request = federation_request(Method::Get, "v2", &["event", event.as_str()], &[], true, timeout);
        let object = self.ask(hub, request).await.map_err(|error| unless_final(error, hub))?;
        let parsed = RawEvent::from_json(object, rules)
            .ok()
            .filter(|event| event.room_id() == room);
        self.verified_pdus(parsed.into_iter().collect(), hub, true).await
    }

    /// Those of the events that are validly signed PDUs. Fails if it cannot be told of one, provided that they are `required`.
    async fn verified_pdus(
        &self,
        events: Vec<RawEvent>,
        hub: &ServerName,
        required: bool,
    ) -> Result<Vec<Pdu>, ServiceError> {
        let senders: BTreeMap<_, _> = events
            .iter()
            .map(|event| (event.event_id(), event.sender_server().clone()))
            .collect();
        let mut pdus = Vec::with_capacity(events.len());
        for event in self.verify_events(events, Some(hub), false).await? {
            match event.verdict {
                CheckedVerdict::Pdu(event) => pdus.push(event.into_pdu()),
                CheckedVerdict::LacksKeys { .. } if required => {
                    tracing::info!(room = %event.room, event_id = %event.event_id, "no keys to verify an event with");
                    let server = senders.get(&event.event_id).unwrap_or(hub).clone();
                    let error = PeerError::Unreachable;
                    return Err(ServiceError::PeerFailed { server, error });
                }
                CheckedVerdict::Lpdu(_) | CheckedVerdict::LacksKeys { .. } | CheckedVerdict::Bad(_) => {}
            }
        }
        Ok(pdus)
    }

    /// One `/backfill` answer, in whatever order it came.
    async fn fetch_page(
        &self,
        hub: &ServerName,
        room: &RoomId,
        v: &EventId,
        limit: u32,
    ) -> Result<Vec<Link<Fetched>>, ServiceError> {
        let meta = self
            .room_meta(room)
            .await?
            .ok_or(ServiceError::NotFound(Missing::Room))?;
        let rules = meta.rules()?;
        let limit = limit.min(self.settings().limits.backfill_events);
        let query = [("v", v.as_str()), ("limit", &limit.to_string())];
        let timeout = self.settings().delivery.request_timeout;
        let request = federation_request(Method::Get, "v2", &["backfill", room.as_str()], &query, true, timeout);
        let answer = self.ask(hub, request).await?;
        let pdus = answer.get("pdus").and_then(Json::as_array);
        let pdus = pdus.ok_or_else(|| bad_answer(hub, "`pdus` is missing"))?;
        let mut page = Vec::new();
        for object in pdus.iter().filter_map(Json::as_object).take(limit as usize) {
            let Malformed { event_id, prev } = Malformed::read(object);
            let item = match RawEvent::from_json(object.clone(), rules) {
                Ok(event) if event.room_id() == room => Fetched::Event(Box::new(event)),
                // Another room's event has no place in this one's history, however well it is signed.
                _ => Fetched::Malformed(Malformed {
                    event_id: event_id.clone(),
                    prev: prev.clone(),
                }),
            };
            page.push(Link { event_id, prev, item });
        }
        Ok(page)
    }

    /// A request whose answer is an object; policy, our own name and another server's refusal are errors.
    pub(crate) async fn ask(
        &self,
        server: &ServerName,
        request: crate::ports::PeerRequest,
    ) -> Result<nabe_signing::json::Object, ServiceError> {
        self.check_policy(server)?;
        let failed = |error| ServiceError::PeerFailed {
            server: server.clone(),
            error,
        };
        let response = self.peers().call(server, request).await.map_err(failed)?;
        read_answer(server, &response)
    }
}

fn history_link(event: Checked) -> Link<EntryBody> {
    match event.verdict {
        CheckedVerdict::Pdu(pdu) => Link {
            event_id: event.event_id,
            prev: event.prev,
            item: EntryBody::Event(pdu.into_pdu()),
        },
        CheckedVerdict::LacksKeys { .. } => hole(event.event_id, event.prev, HoleReason::KeysUnavailable),
        CheckedVerdict::Lpdu(_) => hole(event.event_id, event.prev, HoleReason::Malformed),
        CheckedVerdict::Bad(_) => hole(event.event_id, event.prev, HoleReason::BadSignature),
    }
}

fn hole(event_id: EventId, prev: Option<EventId>, reason: HoleReason) -> Link<EntryBody> {
    Link {
        event_id: event_id.clone(),
        prev,
        item: EntryBody::Hole { event_id, reason },
    }
}

/// A refusal as the failure to answer that it is for us: whatever needed the answer is to be tried again.
fn to_repeat(error: ServiceError, hub: &ServerName) -> ServiceError {
    match error {
        ServiceError::Proxied { status, .. } => ServiceError::PeerFailed {
            server: hub.clone(),
            error: PeerError::Status { status },
        },
        other => other,
    }
}

/// The same for refusals that are about this moment only.
fn unless_final(error: ServiceError, hub: &ServerName) -> ServiceError {
    if is_definite(&error) {
        error
    } else {
        to_repeat(error, hub)
    }
}

/// Whether another server understood the question and will give the same answer the next time. Not so if it is too busy, or could
/// not make sure who we are, as when it did not get our keys.
fn is_definite(error: &ServiceError) -> bool {
    matches!(error, ServiceError::Proxied { status: 400..=499, .. })
        && !matches!(
            error,
            ServiceError::Proxied {
                status: 401 | 408 | 429,
                ..
            }
        )
}

fn bad_answer(server: &ServerName, what: &'static str) -> ServiceError {
    ServiceError::BadAnswer {
        server: server.clone(),
        what,
    }
}
