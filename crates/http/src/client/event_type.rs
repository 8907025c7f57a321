//! The types of events that clients may choose (LM #int-pdu).

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// The type of an event to send: `m.` only where the protocol has such a type (decision D-reserved-types).
///
/// This is a rule for who writes events: what other servers send is not held to it, since theirs may know more types.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct EventType(String);

impl<'de> Deserialize<'de> for EventType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.starts_with(RESERVED) && PROTOCOL.binary_search(&text.as_str()).is_err() {
            false => Ok(Self(text)),
            true => Err(D::Error::custom(
                "types that begin with `m.` belong to the protocol, which has no such one; name your own as in `org.example.type`",
            )),
        }
    }
}

impl From<EventType> for String {
    fn from(event_type: EventType) -> Self {
        event_type.0
    }
}

/// LM #int-pdu
const RESERVED: &str = "m.";

/// The protocol's types of room events, sorted: those of the draft, of its companion about message formats, and of Matrix,
/// whose events the draft carries (decision D-reserved-types).
const PROTOCOL: &[&str] = &[
    "m.audio",
    "m.call.answer",
    "m.call.candidates",
    "m.call.hangup",
    "m.call.invite",
    "m.call.negotiate",
    "m.call.reject",
    "m.call.sdp_stream_metadata_changed",
    "m.call.select_answer",
    "m.emote",
    "m.file",
    "m.image",
    "m.key.verification.accept",
    "m.key.verification.cancel",
    "m.key.verification.done",
    "m.key.verification.key",
    "m.key.verification.mac",
    "m.key.verification.ready",
    "m.key.verification.request",
    "m.key.verification.start",
    "m.location",
    "m.message",
    "m.mls.commit",
    "m.notice",
    "m.policy.rule.room",
    "m.policy.rule.server",
    "m.policy.rule.user",
    "m.poll.end",
    "m.poll.response",
    "m.poll.start",
    "m.reaction",
    "m.room.avatar",
    "m.room.canonical_alias",
    "m.room.create",
    "m.room.encrypted",
    "m.room.encryption",
    "m.room.guest_access",
    "m.room.history_visibility",
    "m.room.join_rules",
    "m.room.member",
    "m.room.message",
    "m.room.name",
    "m.room.pinned_events",
    "m.room.power_levels",
    "m.room.redaction",
    "m.room.server_acl",
    "m.room.third_party_invite",
    "m.room.tombstone",
    "m.room.topic",
    "m.space.child",
    "m.space.parent",
    "m.sticker",
    "m.video",
    "m.voice",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<EventType, serde_json::Error> {
        serde_json::from_value(text.into())
    }

    #[test]
    fn the_table_can_be_searched() {
        assert!(PROTOCOL.is_sorted());
        assert!(PROTOCOL.iter().all(|known| known.starts_with(RESERVED)));
    }

    #[test]
    fn only_the_protocol_has_types_that_begin_with_m() {
        for known in PROTOCOL {
            assert_eq!(String::from(read(known).unwrap()), *known);
        }
        for own in ["org.example.type", "m", "mx.example", "M.room.message", ""] {
            assert!(read(own).is_ok(), "{own}");
        }
        for taken in ["m.", "m.x", "m.room.messages", "m.room", "m.room.message.own"] {
            assert!(
                read(taken).unwrap_err().to_string().contains("belong to the protocol"),
                "{taken}"
            );
        }
    }
}
