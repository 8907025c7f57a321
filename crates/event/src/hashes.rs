//! The three hashes of an event over any JSON object. LM #int-content-hashes, LM #int-reference-hashes.
//!
//! For objects that did not pass the schema, and for tests; the verifiers hash straight from the bytes they already have.

use nabe_signing::json::Object;
use nabe_types::EventId;

use crate::canonical::{Canonical, Replaced, View};

/// The content hash of an LPDU, or of the LPDU inside a PDU: covers neither `hashes` nor `signatures`, nor what the hub adds.
pub fn lpdu_hash(event: &Object) -> [u8; 32] {
    Canonical::of(event).hash(View::LpduContent)
}

/// The content hash of a PDU: covers all but `signatures` and, under `hashes`, all but `lpdu`.
pub fn content_hash(event: &Object) -> [u8; 32] {
    Canonical::of(event).hash(View::PduContent)
}

/// The reference hash: SHA-256 of the redacted event without `signatures`.
pub fn reference_hash(event: &Object) -> [u8; 32] {
    Canonical::of(event).hash(View::Reference)
}

/// The event ID of any object, well-formed event or not: what `failed_pdus` is keyed by (LM #int-api-send-txn).
pub fn event_id_of(event: &Object) -> EventId {
    EventId::from_hash(reference_hash(event))
}

/// The canonical text under [`content_hash`]; for tools that show or compare it.
pub fn content_hash_input(event: &Object) -> Vec<u8> {
    Canonical::of(event).write(View::PduContent, Replaced::default())
}

/// The canonical text under [`lpdu_hash`].
pub fn lpdu_hash_input(event: &Object) -> Vec<u8> {
    Canonical::of(event).write(View::LpduContent, Replaced::default())
}

/// What a signature over this event is over: the redacted event without `signatures` (LM #int-signing-events).
pub fn signed_bytes(event: &Object) -> Vec<u8> {
    Canonical::of(event).write(View::Reference, Replaced::default())
}

/// The same for the LPDU that `event`, a PDU with `hub_server`, was made from.
pub fn lpdu_signed_bytes(event: &Object) -> Vec<u8> {
    Canonical::of(event).write(View::LpduReference, Replaced::default())
}
