//! Hashing and signing an event on its way out, for the builder and for completion. LM #int-signing-events.

use nabe_signing::json::{Json, Object};
use nabe_signing::{Signer, base64u, sha256};
use nabe_types::EventId;

use crate::canonical::{Canonical, Replaced, View, check_size};
use crate::error::Dropped;
use crate::event::Event;
use crate::pdu::Pdu;
use crate::signatures::{add_signatures, take_object};

/// Writes `auth_events` and `prev_events`, adds `hashes.sha256` and the signatures of every key of `signer`.
pub(crate) fn seal_pdu(mut event: Event, signer: &Signer) -> Result<Pdu, Dropped> {
    event.object.insert("auth_events", ids(&event.auth_events));
    event.object.insert("prev_events", ids(&event.prev_events));
    let mut hashes = take_object(&mut event.object, "hashes");
    let mut signatures = take_object(&mut event.object, "signatures");
    // Keep the members' places: their text is filled in below without a second pass over the event.
    let lpdu = hashes.get("lpdu").map(|lpdu| ("lpdu", lpdu.clone()));
    event.object.insert("hashes", lpdu.into_iter().collect::<Object>());
    event.object.insert("signatures", Object::new());
    let canonical = Canonical::of(&event.object);

    hashes.insert("sha256", hash_text(canonical.hash(View::PduContent)));
    let (event_id, bytes) = sign(&event.event_type, &canonical, &hashes, &mut signatures, signer)?;
    event.object.insert("hashes", hashes);
    event.object.insert("signatures", signatures);
    Ok(Pdu::new(event, bytes, event_id))
}

/// An LPDU made by us: the event with its hash and signatures, its exact bytes, its ID.
pub(crate) struct SealedLpdu {
    pub(crate) event: Event,
    pub(crate) bytes: Vec<u8>,
    pub(crate) lpdu_id: EventId,
}

/// Adds `hashes.lpdu` and the signatures of every key of `signer`.
pub(crate) fn seal_lpdu(mut event: Event, signer: &Signer) -> Result<SealedLpdu, Dropped> {
    event.object.insert("hashes", Object::new());
    event.object.insert("signatures", Object::new());
    let canonical = Canonical::of(&event.object);

    let mut lpdu = Object::new();
    lpdu.insert("sha256", hash_text(canonical.hash(View::LpduContent)));
    let mut hashes = Object::new();
    hashes.insert("lpdu", lpdu);
    let mut signatures = Object::new();
    let (lpdu_id, bytes) = sign(&event.event_type, &canonical, &hashes, &mut signatures, signer)?;
    event.object.insert("hashes", hashes);
    event.object.insert("signatures", signatures);
    Ok(SealedLpdu { event, bytes, lpdu_id })
}

/// Signs the redacted form and returns its ID and the whole event's bytes.
fn sign(
    event_type: &str,
    canonical: &Canonical,
    hashes: &Object,
    signatures: &mut Object,
    signer: &Signer,
) -> Result<(EventId, Vec<u8>), Dropped> {
    let hashes = hashes.to_canonical();
    let message = canonical.write(
        View::Reference,
        Replaced {
            hashes: Some(&hashes),
            signatures: None,
        },
    );
    add_signatures(signatures, &message, signer);
    let signatures = signatures.to_canonical();
    let bytes = canonical.write(
        View::Whole,
        Replaced {
            hashes: Some(&hashes),
            signatures: Some(&signatures),
        },
    );
    check_size(event_type, &bytes)?;
    Ok((EventId::from_hash(sha256(&message)), bytes))
}

fn ids(ids: &[EventId]) -> Json {
    ids.iter().collect()
}

fn hash_text(hash: [u8; 32]) -> Json {
    Json::from(base64u::encode(&hash))
}
