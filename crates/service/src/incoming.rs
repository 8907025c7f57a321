//! Events from other servers up to the point where a room can judge them: parse, find the keys, verify.
//! LM #int-receiving-events, steps 1 to 3. Signatures are checked off the reactor, many per job.

use std::time::Duration;

use bytes::Bytes;
use nabe_core::{HoleReason, Input, RoomMeta, Via};
use nabe_event::{Dropped, Event, EventKind, RawEvent, VerifiedLpdu, VerifiedPdu, event_id_of};
use nabe_signing::json::{Json, Object};
use nabe_signing::keys::KeySet;
use nabe_store::{ParkReason, ParkedEvent};
use nabe_types::{EventId, RoomId, ServerName, UnixMillis, UserId};

use crate::error::ServiceError;
use crate::{Service, metric};

/// A well-formed event whose signatures were looked at.
pub(crate) struct Checked {
    pub(crate) room: RoomId,
    /// The ID of the object as received; of an LPDU the LPDU's.
    pub(crate) event_id: EventId,
    /// The event it follows in the log (`prev_events`); `None` of the first one, and of LPDUs, which name none.
    pub(crate) prev: Option<EventId>,
    pub(crate) verdict: CheckedVerdict,
}

/// What verification found.
pub(crate) enum CheckedVerdict {
    Lpdu(Box<VerifiedLpdu>),
    Pdu(Box<VerifiedPdu>),
    /// A key could not be had. The bytes are those to try again with.
    LacksKeys {
        bytes: Bytes,
    },
    Bad(Dropped),
}

/// A PDU that cannot be accepted, of which only enough is known to leave a hole in its place.
pub(crate) struct Malformed {
    pub(crate) event_id: EventId,
    pub(crate) prev: Option<EventId>,
}

impl Malformed {
    /// Reads what little is needed.
    pub(crate) fn read(object: &Object) -> Self {
        Self {
            event_id: event_id_of(object),
            prev: prev_of(object),
        }
    }

    /// The input that makes a hole of it.
    pub(crate) fn into_input(self, from: &ServerName) -> Option<Input> {
        Some(Input::InvalidPdu {
            event_id: self.event_id,
            prev: self.prev?,
            reason: HoleReason::Malformed,
            from: from.clone(),
        })
    }
}

impl Checked {
    /// What to put into the room: the event, or, for a participant, a hole in place of an invalid one. `None` when there
    /// is nothing for the room: the event is dropped, or waits for keys.
    pub(crate) fn into_input(self, meta: &RoomMeta, from: &ServerName, via: Via) -> Option<Input> {
        match self.verdict {
            CheckedVerdict::Lpdu(event) => Some(Input::Lpdu {
                event: *event,
                from: from.clone(),
                via,
            }),
            CheckedVerdict::Pdu(event) => Some(Input::Pdu {
                event: *event,
                from: from.clone(),
                held: None,
            }),
            CheckedVerdict::Bad(dropped) if !meta.is_hub() => Some(Input::InvalidPdu {
                event_id: self.event_id,
                prev: self.prev?,
                reason: hole_reason(&dropped),
                from: from.clone(),
            }),
            CheckedVerdict::Bad(_) | CheckedVerdict::LacksKeys { .. } => None,
        }
    }

    /// The record under which an event that lacks keys waits.
    pub(crate) fn parked(&self, from: &ServerName, now: UnixMillis) -> Option<ParkedEvent> {
        let CheckedVerdict::LacksKeys { bytes } = &self.verdict else {
            return None;
        };
        Some(parked_event(
            self.room.clone(),
            self.event_id.clone(),
            from,
            bytes.clone(),
            ParkReason::KeysUnavailable,
            now,
        ))
    }
}

impl Service {
    /// Verifies events in order. Keys that are not known are fetched. `hub` is asked for those whose owners do not answer;
    /// give it only for PDUs that this hub handed to us. What it says counts for these events and is not kept.
    pub(crate) async fn verify_events(
        &self,
        events: Vec<RawEvent>,
        hub: Option<&ServerName>,
        urgent: bool,
    ) -> Result<Vec<Checked>, ServiceError> {
        let hub = hub.filter(|hub| !self.is_us(hub));
        let keys = self.event_keys(&events, hub, urgent).await?;
        let checked = if events.len() <= INLINE {
            verify_all(events, &keys)
        } else {
            let job = tokio::task::spawn_blocking(move || verify_all(events, &keys));
            job.await.map_err(|error| match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => ServiceError::ShuttingDown,
            })?
        };
        for event in &checked {
            match &event.verdict {
                CheckedVerdict::Bad(dropped) => {
                    metrics::counter!(metric::EVENTS_DROPPED).increment(1);
                    tracing::info!(room = %event.room, event_id = %event.event_id, reason = %dropped, "dropped an event");
                }
                CheckedVerdict::Lpdu(lpdu) if lpdu.was_redacted() => count_redacted(event),
                CheckedVerdict::Pdu(pdu) if pdu.was_redacted() => count_redacted(event),
                _ => {}
            }
        }
        Ok(checked)
    }

    /// Reads one LPDU from a request body and verifies it, for the endpoints that take exactly one.
    pub(crate) async fn verify_single(&self, event: RawEvent) -> Result<Checked, ServiceError> {
        let mut checked = self.verify_events(vec![event], None, false).await?;
        Ok(checked.pop().expect("one event in, one out"))
    }
}

/// An event that has to wait, tried again after a short while.
pub(crate) fn parked_event(
    room: RoomId,
    event_id: EventId,
    origin: &ServerName,
    bytes: Bytes,
    reason: ParkReason,
    now: UnixMillis,
) -> ParkedEvent {
    ParkedEvent {
        room,
        event_id,
        origin: origin.clone(),
        bytes,
        reason,
        received_at: now,
        next_try: now.plus(first_pause(reason)),
        attempts: 0,
    }
}

fn count_redacted(event: &Checked) {
    metrics::counter!(metric::EVENTS_REDACTED).increment(1);
    tracing::info!(room = %event.room, event_id = %event.event_id, "content hash is wrong, keeping the redacted event");
}

fn verify_all(events: Vec<RawEvent>, keys: &KeySet) -> Vec<Checked> {
    events.into_iter().map(|event| verify(event, keys)).collect()
}

fn verify(event: RawEvent, keys: &KeySet) -> Checked {
    let room = event.room_id().clone();
    let prev = event.prev_events().first().cloned();
    if lacks_keys(&event, keys) {
        let (event_id, bytes) = (event.event_id(), event.object().to_canonical().into());
        return Checked {
            room,
            event_id,
            prev,
            verdict: CheckedVerdict::LacksKeys { bytes },
        };
    }
    match event.kind() {
        EventKind::Lpdu => {
            let received_id = event.event_id();
            let (event_id, verdict) = match event.verify_lpdu(keys) {
                Ok(event) => (event.lpdu_id().clone(), CheckedVerdict::Lpdu(Box::new(event))),
                Err(dropped) => (received_id, CheckedVerdict::Bad(dropped)),
            };
            Checked {
                room,
                event_id,
                prev,
                verdict,
            }
        }
        EventKind::Pdu => {
            let received_id = event.event_id();
            let verdict = match event.verify_pdu(keys) {
                Ok(event) => CheckedVerdict::Pdu(Box::new(event)),
                Err(dropped) => CheckedVerdict::Bad(dropped),
            };
            Checked {
                room,
                event_id: received_id,
                prev,
                verdict,
            }
        }
    }
}

/// Whether there can be no verdict yet: of some required signer no key is known that may verify the event, while a key
/// that it names is unknown, or was valid too short a time when we last heard of it. Only of a retired key no question
/// is left.
fn lacks_keys(event: &RawEvent, keys: &KeySet) -> bool {
    let required = event.required_keys();
    event.required_signers().iter().any(|(server, _)| {
        let mut listed = required
            .iter()
            .filter(|(owner, _)| owner == server)
            .map(|(_, key)| key)
            .peekable();
        let at = event.origin_server_ts();
        listed.peek().is_some() && {
            let listed: Vec<_> = listed.collect();
            let usable = listed.iter().any(|key| keys.for_event(server, key, at).is_some());
            !usable
                && listed
                    .iter()
                    .any(|key| keys.get(server, key).is_none_or(|known| !known.old))
        }
    })
}

fn hole_reason(dropped: &Dropped) -> HoleReason {
    match dropped {
        Dropped::NotSigned { .. } | Dropped::BadSignature { .. } | Dropped::KeyExpired { .. } => {
            HoleReason::BadSignature
        }
        Dropped::KeysUnavailable { .. } => HoleReason::KeysUnavailable,
        _ => HoleReason::Malformed,
    }
}

fn prev_of(object: &Object) -> Option<EventId> {
    let [prev] = object.get("prev_events").and_then(Json::as_array)? else {
        return None;
    };
    EventId::parse(prev.as_str()?).ok()
}

/// Up to this many events are verified where they are: handing them to another thread costs as much as a signature.
const INLINE: usize = 2;

/// The user a membership event is about, and what it says of them.
pub(crate) fn membership_change(event: &Event) -> Option<(UserId, &str)> {
    if event.event_type() != "m.room.member" {
        return None;
    }
    Some((UserId::parse(event.state_key()?).ok()?, event.membership()?))
}

/// How soon after it was parked an event is tried for the first time.
pub(crate) const fn first_pause(reason: ParkReason) -> Duration {
    match reason {
        // Asked for just now, in vain.
        ParkReason::KeysUnavailable => Duration::from_secs(10),
        // Usually drained when the join ends; this is for an event that slipped in behind the draining.
        ParkReason::JoinPending => Duration::from_secs(2),
    }
}
