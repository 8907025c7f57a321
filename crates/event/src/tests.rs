//! Shared by the tests of this crate: two servers with known keys, and events of theirs.

mod authoring;
mod completion;
mod properties;
mod receiving;
mod redaction;
mod schema;
mod vectors;

use nabe_signing::json::{Json, Object};
use nabe_signing::keys::KeySet;
use nabe_signing::{Signer, SigningKey, object};
use nabe_types::{EventId, KeyId, RoomId, ServerName, UnixMillis, UserId};

use crate::{EventBuilder, Pdu, RawEvent, RoomVersionRules, VerifiedLpdu};

const RULES: &RoomVersionRules = &RoomVersionRules::I1;

fn signer(server: &str, seed: u8) -> Signer {
    let key = SigningKey::from_seed(KeyId::parse("ed25519:1").unwrap(), [seed; 32]);
    Signer::new(ServerName::parse(server).unwrap(), vec![key]).unwrap()
}

fn hub() -> Signer {
    signer("hub.example.org", 1)
}

fn participant() -> Signer {
    signer("second.example.org", 2)
}

/// The keys of the hub and of the participant.
fn keys() -> KeySet {
    let mut keys = KeySet::new();
    keys.insert_signer(&hub());
    keys.insert_signer(&participant());
    keys
}

fn some_id(fill: u8) -> EventId {
    EventId::from_hash([fill; 32])
}

fn builder(event_type: &str, sender: &str, content: Object) -> EventBuilder {
    EventBuilder::new(
        RoomId::parse("!room:hub.example.org").unwrap(),
        event_type,
        UserId::parse(sender).unwrap(),
        UnixMillis(1_700_000_000_000),
        content,
    )
}

fn message() -> EventBuilder {
    builder(
        "m.room.message",
        "@bob:second.example.org",
        object! { "body" => "hello" },
    )
}

/// A participant's message on its way to the hub.
fn lpdu() -> VerifiedLpdu {
    message().build_lpdu(&participant(), hub().server(), RULES).unwrap()
}

/// The same, completed.
fn lpdu_pdu() -> Pdu {
    complete(lpdu())
}

fn complete(lpdu: VerifiedLpdu) -> Pdu {
    let completion = crate::Completion {
        auth_events: vec![some_id(1), some_id(2)],
        prev_events: vec![some_id(3)],
    };
    lpdu.complete(completion, &hub()).unwrap()
}

/// A message of the hub's own.
fn hub_pdu() -> Pdu {
    builder("m.room.message", "@alice:hub.example.org", object! { "body" => "hi" })
        .build_pdu(&hub(), vec![some_id(1)], vec![some_id(3)], RULES)
        .unwrap()
}

fn raw(object: &Object) -> RawEvent {
    RawEvent::from_json(object.clone(), RULES).unwrap()
}

/// `object` with one top-level field set.
fn with(object: &Object, field: &str, value: impl Into<Json>) -> Object {
    let mut object = object.clone();
    object.insert(field, value);
    object
}

fn without(object: &Object, field: &str) -> Object {
    let mut object = object.clone();
    object.remove(field);
    object
}
