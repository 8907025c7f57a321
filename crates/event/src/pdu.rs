//! The complete event as it is stored, forwarded and authorized. LM #int-pdu.

use std::ops::Deref;
use std::sync::Arc;

use nabe_signing::json::{Json, Object};
use nabe_signing::keys::KeySet;
use nabe_signing::{Signature, Signer};
use nabe_types::{EventId, KeyId, ServerName};

use crate::RoomVersionRules;
use crate::canonical::{Canonical, Replaced, View, check_size};
use crate::error::{Dropped, SignerRole};
use crate::event::Event;
use crate::raw::{EventKind, RawEvent};
use crate::signatures;

/// A complete event whose signatures were checked or made by us, and its exact bytes. Clones share everything.
#[derive(Clone, Debug)]
pub struct Pdu {
    event: Arc<Event>,
    bytes: Arc<[u8]>,
    event_id: EventId,
}

impl Pdu {
    pub(crate) fn new(event: Event, bytes: Vec<u8>, event_id: EventId) -> Self {
        Self {
            event: Arc::new(event),
            bytes: bytes.into(),
            event_id,
        }
    }

    /// Loads a PDU that was verified before it was stored in our own database. The schema is checked, signatures and content
    /// hashes are **not**: never call this with bytes from a peer.
    pub fn from_stored(bytes: &[u8], rules: &'static RoomVersionRules) -> Result<Self, Dropped> {
        let raw = RawEvent::parse(bytes, rules)?;
        if raw.kind() != EventKind::Pdu {
            return Err(Dropped::WrongForm);
        }
        let event_id = raw.event_id();
        let RawEvent { event, canonical, .. } = raw;
        Ok(Self::new(event, canonical.into_bytes(), event_id))
    }

    /// The event's ID: the reference hash (LM #int-reference-hashes).
    pub const fn event_id(&self) -> &EventId {
        &self.event_id
    }

    /// The canonical JSON, signatures included, at most 65536 bytes: what is stored and forwarded.
    pub const fn bytes(&self) -> &Arc<[u8]> {
        &self.bytes
    }

    /// The fields.
    pub fn event(&self) -> &Event {
        &self.event
    }

    /// The ID of the LPDU this PDU was made from, which its author knows it by; `None` for the hub's own events.
    pub fn lpdu_id(&self) -> Option<EventId> {
        self.event.hub_server()?;
        Some(EventId::from_hash(
            Canonical::of(&self.event.object).hash(View::LpduReference),
        ))
    }

    /// `hashes.lpdu.sha256`: how an author recognizes the echo of its own event (LM #int-lpdu).
    pub fn stated_lpdu_hash(&self) -> Option<&str> {
        let hashes = self.event.object.get("hashes").and_then(Json::as_object)?;
        hashes
            .get("lpdu")
            .and_then(Json::as_object)?
            .get("sha256")
            .and_then(Json::as_str)
    }

    /// This event with the signatures of `signer` added, over the whole redacted PDU: how an invited user's server agrees to an
    /// invite (LM #int-api-invite). The event ID stays.
    ///
    /// # Errors
    /// [`Dropped::TooLarge`] when the signatures push the event over the limit.
    pub fn countersigned(&self, signer: &Signer) -> Result<Self, Dropped> {
        let message = self.signed_bytes();
        self.with_signatures(|signatures| signatures::add_signatures(signatures, &message, signer))
    }

    /// This event with one more signature. The signature is not checked: see [`Pdu::verify_signature_by`].
    ///
    /// # Errors
    /// [`Dropped::TooLarge`] when the signature pushes the event over the limit.
    pub fn with_extra_signature(
        &self,
        server: &ServerName,
        key: &KeyId,
        signature: &Signature,
    ) -> Result<Self, Dropped> {
        self.with_signatures(|signatures| {
            let mut own = signatures::take_object(signatures, server.as_str());
            own.insert(key.as_str(), signature.to_base64());
            signatures.insert(server.as_str(), own);
        })
    }

    /// Checks the signatures of a server that need not have signed, such as an invited user's (LM #int-api-invite).
    pub fn verify_signature_by(&self, server: &ServerName, keys: &KeySet) -> Result<(), Dropped> {
        signatures::check_signed(&self.event, server, SignerRole::Invited, &self.signed_bytes(), keys).map(|_| ())
    }

    /// Whether `other` is this event apart from `signatures`.
    pub fn is_same_but_for_signatures(&self, other: &Self) -> bool {
        let rest = |pdu: &Self| {
            let mut bytes = Vec::with_capacity(pdu.bytes.len());
            pdu.event.object.write_canonical_without(&mut bytes, &["signatures"]);
            bytes
        };
        self.event_id == other.event_id && rest(self) == rest(other)
    }

    fn signed_bytes(&self) -> Vec<u8> {
        Canonical::of(&self.event.object).write(View::Reference, Replaced::default())
    }

    fn with_signatures(&self, add: impl FnOnce(&mut Object)) -> Result<Self, Dropped> {
        let mut event = Event::clone(&self.event);
        let mut signatures = signatures::take_object(&mut event.object, "signatures");
        add(&mut signatures);
        event.object.insert("signatures", signatures);
        let bytes = event.object.to_canonical();
        check_size(&event.event_type, &bytes)?;
        Ok(Self::new(event, bytes, self.event_id.clone()))
    }
}

impl Deref for Pdu {
    type Target = Event;

    fn deref(&self) -> &Event {
        &self.event
    }
}

impl PartialEq for Pdu {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Pdu {}
