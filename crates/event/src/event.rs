//! The fields every stage of trust shares, parsed once. LM #int-pdu.

use nabe_signing::json::{Json, Object};
use nabe_types::{EventId, RoomId, ServerName, UnixMillis, UserId};

use crate::RoomVersionRules;

/// An event that passed the schema. Says nothing about signatures: the type it is reached through does
/// ([`crate::RawEvent`], [`crate::VerifiedLpdu`], [`crate::VerifiedPdu`], [`crate::Pdu`]).
#[derive(Clone, Debug)]
pub struct Event {
    pub(crate) object: Object,
    pub(crate) rules: &'static RoomVersionRules,
    pub(crate) room_id: RoomId,
    pub(crate) event_type: Box<str>,
    pub(crate) state_key: Option<Box<str>>,
    pub(crate) sender: UserId,
    pub(crate) origin_server_ts: UnixMillis,
    pub(crate) hub_server: Option<ServerName>,
    pub(crate) auth_events: Vec<EventId>,
    pub(crate) prev_events: Vec<EventId>,
}

impl Event {
    /// The whole event as JSON, `signatures` included.
    pub const fn object(&self) -> &Object {
        &self.object
    }

    /// The rules of the room version the event was read under.
    pub const fn rules(&self) -> &'static RoomVersionRules {
        self.rules
    }

    /// The room the event is for.
    pub const fn room_id(&self) -> &RoomId {
        &self.room_id
    }

    /// The event type, at most 255 characters, case-sensitive.
    pub fn event_type(&self) -> &str {
        &self.event_type
    }

    /// The state key, at most 255 characters; `None` when this is not a state event.
    pub fn state_key(&self) -> Option<&str> {
        self.state_key.as_deref()
    }

    /// Whether this is a state event: a state key is present, even an empty one (LM #int-state-events).
    pub const fn is_state(&self) -> bool {
        self.state_key.is_some()
    }

    /// Whether this is state of exactly this type and key.
    pub fn is_state_of(&self, event_type: &str, state_key: &str) -> bool {
        self.event_type() == event_type && self.state_key() == Some(state_key)
    }

    /// The user who sent the event.
    pub const fn sender(&self) -> &UserId {
        &self.sender
    }

    /// The server of the event's sender.
    pub const fn sender_server(&self) -> &ServerName {
        self.sender.server_name()
    }

    /// When the sender's server says the event was made. Unverified, and may lie in the future. A time before the epoch, which
    /// the schema allows, reads as the epoch.
    pub const fn origin_server_ts(&self) -> UnixMillis {
        self.origin_server_ts
    }

    /// The hub the event was made for; `None` on the hub's own events.
    pub const fn hub_server(&self) -> Option<&ServerName> {
        self.hub_server.as_ref()
    }

    /// The event's content. No schema holds for it: any field may be missing or of any type.
    pub fn content(&self) -> &Object {
        self.object
            .get("content")
            .and_then(Json::as_object)
            .expect("the schema requires `content` to be an object")
    }

    /// `content.membership`, when it is a string. Meaningful on `m.room.member` only.
    pub fn membership(&self) -> Option<&str> {
        self.content().get("membership").and_then(Json::as_str)
    }

    /// The events that prove the sender may send this one. Empty on LPDUs and `m.room.create`.
    pub fn auth_events(&self) -> &[EventId] {
        &self.auth_events
    }

    /// The events before this one; a single one in a linear room. Empty on LPDUs and `m.room.create`.
    pub fn prev_events(&self) -> &[EventId] {
        &self.prev_events
    }

    /// The members of `signatures` under `server`: key ID to signature, as received.
    pub fn signatures_by(&self, server: &ServerName) -> Option<&Object> {
        self.object
            .get("signatures")
            .and_then(Json::as_object)?
            .get(server.as_str())
            .and_then(Json::as_object)
    }

    /// Stripped state: `sender`, `type`, `state_key` and `content`, nothing else (LM #int-stripped-state).
    pub fn stripped(&self) -> Object {
        ["sender", "type", "state_key", "content"]
            .into_iter()
            .filter_map(|key| Some((key, self.object.get(key)?.clone())))
            .collect()
    }

    /// The redacted copy of the event (LM #int-redactions); its event ID is the same.
    pub fn redacted(&self) -> Object {
        crate::redact(&self.object, self.rules)
    }

    /// Whether the hub's signature stands beside the sender's: `hub_server` is present and is not the sender's own server.
    pub(crate) fn came_through_another_hub(&self) -> bool {
        self.hub_server.as_ref().is_some_and(|hub| hub != self.sender_server())
    }
}
