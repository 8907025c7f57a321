//! Step 1 of receiving an event: the schema, and which keys the next step needs. LM #int-receiving-events, LM #int-pdu.

use std::collections::BTreeSet;
use std::ops::Deref;

use nabe_signing::json::{Json, Limits, Object};
use nabe_types::limits::{MAX_EVENT_BYTES, MAX_SAFE_INTEGER, MAX_TYPE_CHARS};
use nabe_types::{EventId, InvalidId, KeyId, RoomId, ServerName, UnixMillis, UserId};

use crate::RoomVersionRules;
use crate::canonical::{Canonical, View};
use crate::error::{Dropped, SignerRole};
use crate::event::Event;

/// An event that passed the schema and nothing else: nobody has looked at its signatures.
#[derive(Clone, Debug)]
pub struct RawEvent {
    pub(crate) event: Event,
    pub(crate) canonical: Canonical,
    kind: EventKind,
}

/// The two forms an event travels in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EventKind {
    /// What a participant sends its hub: no `auth_events`, no `prev_events`, `hashes` holds `lpdu` only (LM #int-lpdu).
    Lpdu,
    /// The complete event (LM #int-pdu).
    Pdu,
}

impl RawEvent {
    /// Reads one event from JSON text of at most eight times the size limit (escapes and white space do not count against an
    /// event) and checks it as [`RawEvent::from_json`] does.
    pub fn parse(bytes: &[u8], rules: &'static RoomVersionRules) -> Result<Self, Dropped> {
        let limits = Limits {
            max_bytes: 8 * MAX_EVENT_BYTES,
            ..Limits::default()
        };
        match Json::parse_with(bytes, limits).map_err(Dropped::NotJson)? {
            Json::Object(object) => Self::from_json(object, rules),
            _ => Err(Dropped::NotAnObject),
        }
    }

    /// Checks an event against the schema: size, required fields, identifiers, lengths, and that it is wholly an LPDU or wholly
    /// a PDU. `content` is not looked into. Unknown top-level fields are allowed.
    pub fn from_json(object: Object, rules: &'static RoomVersionRules) -> Result<Self, Dropped> {
        let canonical = Canonical::of(&object);
        if canonical.len() > MAX_EVENT_BYTES {
            let event_type = object.get("type").and_then(Json::as_str);
            return Err(Dropped::too_large(event_type, canonical.len()));
        }
        Self::from_canonical(object, canonical, rules)
    }

    pub(crate) fn from_canonical(
        object: Object,
        canonical: Canonical,
        rules: &'static RoomVersionRules,
    ) -> Result<Self, Dropped> {
        let room_id = identifier(&object, "room_id", RoomId::parse)?;
        let event_type = limited(string(&object, "type")?, "type")?;
        let state_key = match object.get("state_key") {
            Some(_) => Some(limited(string(&object, "state_key")?, "state_key")?),
            None => None,
        };
        let sender = identifier(&object, "sender", UserId::parse)?;
        let origin_server_ts = timestamp(&object)?;
        let hub_server = match object.get("hub_server") {
            Some(_) => Some(identifier(&object, "hub_server", ServerName::parse)?),
            None => None,
        };
        sub_object(&object, "content")?;
        sub_object(&object, "signatures")?;
        let hashes = sub_object(&object, "hashes")?;
        check_lpdu_hash(hashes, hub_server.is_some())?;
        let kind = kind_of(&object, hashes, hub_server.is_some())?;
        let auth_events = event_ids(&object, "auth_events")?;
        let prev_events = event_ids(&object, "prev_events")?;
        if kind == EventKind::Pdu {
            check_prev_events(&event_type, hub_server.is_some(), prev_events.len())?;
        }
        let event = Event {
            rules,
            room_id,
            event_type,
            state_key,
            sender,
            origin_server_ts,
            hub_server,
            auth_events,
            prev_events,
            object,
        };
        Ok(Self { event, canonical, kind })
    }

    /// Which of the two forms this is.
    pub const fn kind(&self) -> EventKind {
        self.kind
    }

    /// The ID of the event as received: for an LPDU not the ID its PDU will have (LM #int-reference-hashes).
    pub fn event_id(&self) -> EventId {
        EventId::from_hash(self.canonical.hash(View::Reference))
    }

    /// The servers that must have signed, and why. All other signatures are ignored (LM #int-receiving-events, step 2).
    pub fn required_signers(&self) -> Vec<(ServerName, SignerRole)> {
        let mut signers = vec![(self.event.sender_server().clone(), SignerRole::Sender)];
        if self.kind == EventKind::Pdu && self.event.came_through_another_hub() {
            signers.extend(self.event.hub_server().map(|hub| (hub.clone(), SignerRole::Hub)));
        }
        signers
    }

    /// The Ed25519 keys that would let the event be verified: those the required signers name in `signatures`. Any one known key
    /// per signer suffices.
    pub fn required_keys(&self) -> BTreeSet<(ServerName, KeyId)> {
        self.required_signers()
            .into_iter()
            .flat_map(|(server, _)| {
                let keys = listed_keys(&self.event, &server);
                keys.into_iter().map(move |key| (server.clone(), key))
            })
            .collect()
    }

    /// The fields.
    pub const fn event(&self) -> &Event {
        &self.event
    }
}

impl Deref for RawEvent {
    type Target = Event;

    fn deref(&self) -> &Event {
        &self.event
    }
}

/// The Ed25519 key IDs under which `server` signed `event`.
pub(crate) fn listed_keys(event: &Event, server: &ServerName) -> Vec<KeyId> {
    let listed = event.signatures_by(server).into_iter().flat_map(Object::keys);
    listed
        .filter_map(|key| KeyId::parse(key).ok())
        .filter(KeyId::is_ed25519)
        .collect()
}

fn string<'a>(object: &'a Object, field: &'static str) -> Result<&'a str, Dropped> {
    let value = object.get(field).ok_or(Dropped::MissingField { field })?;
    value.as_str().ok_or(Dropped::WrongType { field })
}

fn sub_object<'a>(object: &'a Object, field: &'static str) -> Result<&'a Object, Dropped> {
    let value = object.get(field).ok_or(Dropped::MissingField { field })?;
    value.as_object().ok_or(Dropped::WrongType { field })
}

fn identifier<T>(
    object: &Object,
    field: &'static str,
    parse: impl Fn(&str) -> Result<T, InvalidId>,
) -> Result<T, Dropped> {
    parse(string(object, field)?).map_err(|reason| Dropped::InvalidId { field, reason })
}

fn limited(text: &str, field: &'static str) -> Result<Box<str>, Dropped> {
    // A character takes at least one byte, so most texts need no count.
    if text.len() > MAX_TYPE_CHARS {
        let chars = text.chars().count();
        if chars > MAX_TYPE_CHARS {
            return Err(Dropped::TooLong { field, chars });
        }
    }
    Ok(text.into())
}

fn timestamp(object: &Object) -> Result<UnixMillis, Dropped> {
    let field = "origin_server_ts";
    let value = object.get(field).ok_or(Dropped::MissingField { field })?;
    // LM #int-pdu (deviation): "64-bit integer", but RFC 8785 numbers are doubles, so only ±(2^53−1) is exact.
    let millis = value.as_i64().filter(|millis| millis.abs() <= MAX_SAFE_INTEGER);
    let millis = millis.ok_or(Dropped::WrongType { field })?;
    Ok(UnixMillis::from_i64(millis).unwrap_or(UnixMillis::ZERO))
}

/// `hashes.lpdu.sha256` must be there exactly when `hub_server` is.
fn check_lpdu_hash(hashes: &Object, has_hub_server: bool) -> Result<(), Dropped> {
    match hashes.get("lpdu") {
        Some(_) if !has_hub_server => Err(Dropped::LpduHashMismatch),
        None if has_hub_server => Err(Dropped::LpduHashMismatch),
        None => Ok(()),
        Some(lpdu) => {
            let field = "hashes.lpdu";
            let lpdu = lpdu.as_object().ok_or(Dropped::WrongType { field })?;
            let field = "hashes.lpdu.sha256";
            let hash = lpdu.get("sha256").ok_or(Dropped::MissingField { field })?;
            hash.as_str().map(|_| ()).ok_or(Dropped::WrongType { field })
        }
    }
}

/// An event is an LPDU when it has neither `auth_events` nor `prev_events`; everything else about it must then agree.
fn kind_of(object: &Object, hashes: &Object, has_hub_server: bool) -> Result<EventKind, Dropped> {
    match (object.contains_key("auth_events"), object.contains_key("prev_events")) {
        (false, false) => {
            if !has_hub_server {
                return Err(Dropped::MixedForm { field: "hub_server" });
            }
            if hashes.len() != 1 {
                return Err(Dropped::MixedForm { field: "hashes" });
            }
            Ok(EventKind::Lpdu)
        }
        (true, true) => {
            let hash = hashes.get("sha256").ok_or(Dropped::MixedForm { field: "hashes" })?;
            hash.as_str()
                .map(|_| EventKind::Pdu)
                .ok_or(Dropped::WrongType { field: "hashes.sha256" })
        }
        (false, true) => Err(Dropped::MixedForm { field: "auth_events" }),
        (true, false) => Err(Dropped::MixedForm { field: "prev_events" }),
    }
}

fn event_ids(object: &Object, field: &'static str) -> Result<Vec<EventId>, Dropped> {
    let Some(value) = object.get(field) else {
        return Ok(Vec::new());
    };
    let list = value.as_array().ok_or(Dropped::WrongType { field })?;
    list.iter()
        .map(|id| {
            let id = id.as_str().ok_or(Dropped::WrongType { field })?;
            EventId::parse(id).map_err(|reason| Dropped::InvalidId { field, reason })
        })
        .collect()
}

fn check_prev_events(event_type: &str, has_hub_server: bool, count: usize) -> Result<(), Dropped> {
    let fits = match event_type {
        // How many a create event may have is rule 3.1 of the authorization rules, which rejects instead of dropping.
        "m.room.create" => true,
        _ if has_hub_server => count == 1,
        _ => count >= 1,
    };
    if fits {
        Ok(())
    } else {
        Err(Dropped::PrevEventsCount { count })
    }
}
