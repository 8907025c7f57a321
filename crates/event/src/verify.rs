//! Steps 2 and 3 of receiving an event: signatures, then content hashes. LM #int-receiving-events.

use std::ops::Deref;

use nabe_signing::json::{Json, Object};
use nabe_signing::keys::KeySet;
use nabe_signing::{Signer, base64u, object, sha256};
use nabe_types::{EventId, KeyId};

use crate::canonical::{Canonical, Replaced, View};
use crate::error::{Dropped, SignerRole};
use crate::event::Event;
use crate::pdu::Pdu;
use crate::raw::{EventKind, RawEvent};
use crate::seal::{self, SealedLpdu};
use crate::signatures::check_signed;

/// An LPDU whose sender's server signed it. If its content hash did not match, this is the redacted copy.
#[derive(Clone, Debug)]
pub struct VerifiedLpdu {
    pub(crate) event: Event,
    bytes: Vec<u8>,
    lpdu_id: EventId,
    redacted: bool,
    /// The sender's server's keys whose signatures were checked, or made by us.
    signed_with: Vec<KeyId>,
}

/// A PDU whose required signatures are valid. If a content hash did not match, this is the redacted copy.
#[derive(Clone, Debug)]
pub struct VerifiedPdu {
    pdu: Pdu,
    redacted: bool,
}

/// What the hub adds to an LPDU to make it a PDU (LM #int-lpdu).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Completion {
    /// The current events of LM #int-auth-selection.
    pub auth_events: Vec<EventId>,
    /// The room's newest event, alone.
    pub prev_events: Vec<EventId>,
}

impl RawEvent {
    /// Checks an LPDU: the sender's server signed its redacted form, and its `lpdu` content hash. A hash that does not match
    /// leaves the redacted copy.
    pub fn verify_lpdu(self, keys: &KeySet) -> Result<VerifiedLpdu, Dropped> {
        if self.kind() != EventKind::Lpdu {
            return Err(Dropped::WrongForm);
        }
        let Self { event, canonical, .. } = self;
        let message = canonical.write(View::Reference, Replaced::default());
        let signed_with = check_signed(&event, event.sender_server(), SignerRole::Sender, &message, keys)?;
        let lpdu_id = EventId::from_hash(sha256(&message));
        let redacted = !lpdu_hash_matches(&event, &canonical);
        let (event, canonical) = if redacted {
            redacted_copy(event)
        } else {
            (event, canonical)
        };
        Ok(VerifiedLpdu {
            event,
            bytes: canonical.into_bytes(),
            lpdu_id,
            redacted,
            signed_with,
        })
    }

    /// Checks a PDU: the signatures of the sender's server (over the LPDU when another server is the hub) and of the hub, and
    /// every content hash it carries. A hash that does not match leaves the redacted copy.
    pub fn verify_pdu(self, keys: &KeySet) -> Result<VerifiedPdu, Dropped> {
        if self.kind() != EventKind::Pdu {
            return Err(Dropped::WrongForm);
        }
        let Self { event, canonical, .. } = self;
        let message = canonical.write(View::Reference, Replaced::default());
        if event.came_through_another_hub() {
            let lpdu = canonical.write(View::LpduReference, Replaced::default());
            check_signed(&event, event.sender_server(), SignerRole::Sender, &lpdu, keys)?;
            if let Some(hub) = event.hub_server() {
                check_signed(&event, hub, SignerRole::Hub, &message, keys)?;
            }
        } else {
            check_signed(&event, event.sender_server(), SignerRole::Sender, &message, keys)?;
        }
        let event_id = EventId::from_hash(sha256(&message));
        if hashes_match(&event, &canonical) {
            return Ok(VerifiedPdu {
                pdu: Pdu::new(event, canonical.into_bytes(), event_id),
                redacted: false,
            });
        }
        if let Some((event, canonical)) = without_local_fields(&event) {
            return Ok(VerifiedPdu {
                pdu: Pdu::new(event, canonical.into_bytes(), event_id),
                redacted: false,
            });
        }
        let (event, canonical) = redacted_copy(event);
        Ok(VerifiedPdu {
            pdu: Pdu::new(event, canonical.into_bytes(), event_id),
            redacted: true,
        })
    }
}

impl VerifiedLpdu {
    /// Hashes and signs an event of our own: whatever we sign we need not check.
    pub(crate) fn sealed(event: Event, signer: &Signer) -> Result<Self, Dropped> {
        let SealedLpdu { event, bytes, lpdu_id } = seal::seal_lpdu(event, signer)?;
        Ok(Self {
            event,
            bytes,
            lpdu_id,
            redacted: false,
            signed_with: signer.keys().iter().map(|key| key.key_id().clone()).collect(),
        })
    }

    /// The ID of the LPDU; its PDU's ID differs.
    pub const fn lpdu_id(&self) -> &EventId {
        &self.lpdu_id
    }

    /// Whether the content hash did not match and this is the redacted copy.
    pub const fn was_redacted(&self) -> bool {
        self.redacted
    }

    /// The canonical JSON of the LPDU, as it is sent to the hub.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The fields.
    pub const fn event(&self) -> &Event {
        &self.event
    }

    /// Makes the PDU: adds what only the hub knows, the content hash and the hub's signatures (LM #int-receiving-events).
    ///
    /// Of the LPDU's signatures only those are kept that were checked: any other, planted by the sender under a key we do not
    /// know, could make a participant that does know the key drop an event we appended.
    ///
    /// # Errors
    /// [`Dropped::TooLarge`] when the PDU would exceed 65536 bytes, [`Dropped::WrongForm`] when `signer` is not the hub the LPDU
    /// was made for.
    pub fn complete(&self, completion: Completion, signer: &Signer) -> Result<Pdu, Dropped> {
        let mut event = self.event.clone();
        if event.hub_server() != Some(signer.server()) {
            return Err(Dropped::WrongForm);
        }
        event.auth_events = completion.auth_events;
        event.prev_events = completion.prev_events;
        keep_signatures(&mut event, &self.signed_with);
        seal::seal_pdu(event, signer)
    }
}

impl VerifiedPdu {
    /// The PDU, fit to be authorized and stored.
    pub fn into_pdu(self) -> Pdu {
        self.pdu
    }

    /// The PDU by reference.
    pub const fn pdu(&self) -> &Pdu {
        &self.pdu
    }

    /// Whether a content hash did not match and this is the redacted copy.
    pub const fn was_redacted(&self) -> bool {
        self.redacted
    }
}

impl Deref for VerifiedLpdu {
    type Target = Event;

    fn deref(&self) -> &Event {
        &self.event
    }
}

impl Deref for VerifiedPdu {
    type Target = Pdu;

    fn deref(&self) -> &Pdu {
        &self.pdu
    }
}

/// Leaves only the signatures of the sender's server by these keys; none when that server is also the hub, whose one place is for
/// the PDU's signature.
fn keep_signatures(event: &mut Event, signed_with: &[KeyId]) {
    let kept: Object = if event.came_through_another_hub() {
        let own = event
            .signatures_by(event.sender_server())
            .into_iter()
            .flat_map(Object::iter);
        let own: Object = own
            .filter(|(key, _)| signed_with.iter().any(|kept| kept.as_str() == *key))
            .map(|(key, signature)| (key, signature.clone()))
            .collect();
        object! { event.sender_server().as_str() => own }
    } else {
        Object::new()
    };
    event.object.insert("signatures", kept);
}

fn hashes_match(event: &Event, canonical: &Canonical) -> bool {
    let stated = hashes_of(event).get("sha256").and_then(Json::as_str);
    is_hash(stated, || canonical.hash(View::PduContent))
        && (event.hub_server.is_none() || lpdu_hash_matches(event, canonical))
}

fn lpdu_hash_matches(event: &Event, canonical: &Canonical) -> bool {
    let lpdu = hashes_of(event).get("lpdu").and_then(Json::as_object);
    let stated = lpdu.and_then(|lpdu| lpdu.get("sha256")).and_then(Json::as_str);
    is_hash(stated, || canonical.hash(View::LpduContent))
}

fn hashes_of(event: &Event) -> &Object {
    event
        .object
        .get("hashes")
        .and_then(Json::as_object)
        .expect("the schema requires `hashes` to be an object")
}

/// Compares decoded, so that padding does not matter (LM #int-unpadded-base64).
fn is_hash(stated: Option<&str>, computed: impl FnOnce() -> [u8; 32]) -> bool {
    stated
        .and_then(|text| base64u::decode(text).ok())
        .is_some_and(|stated| stated == computed())
}

/// The event without the fields deployed servers add to events they serve, when that makes the hashes match.
// LM #int-pdu (deviation): `event_id` and `unsigned` are unknown fields to the draft, so they would be hashed. Both known
// implementations add them in responses; dropping them is safe because the remainder is what was hashed and signed.
fn without_local_fields(event: &Event) -> Option<(Event, Canonical)> {
    const LOCAL: [&str; 2] = ["event_id", "unsigned"];
    if !LOCAL.iter().any(|key| event.object.contains_key(key)) {
        return None;
    }
    let mut event = event.clone();
    for key in LOCAL {
        event.object.remove(key);
    }
    let canonical = Canonical::of(&event.object);
    hashes_match(&event, &canonical).then_some((event, canonical))
}

fn redacted_copy(mut event: Event) -> (Event, Canonical) {
    event.object = event.redacted();
    let canonical = Canonical::of(&event.object);
    (event, canonical)
}
