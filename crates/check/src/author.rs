//! Events made by hand: LPDUs and PDUs as JSON objects, so that any field can be wrong before or after it is signed.
//! LM #int-pdu, LM #int-lpdu.

use std::sync::atomic::{AtomicI64, Ordering};

use nabe_event::{event_id_of, hashes};
use nabe_signing::json::{Json, Object};
use nabe_signing::{Signer, base64u, insert_signature, object};
use nabe_types::EventId;

use crate::case::{Checked, failed};

/// An event without `hub_server`, hashes and signatures. Its timestamp is unique in this process, see [`Stamp`].
pub(crate) fn partial(
    room_id: &str,
    event_type: &str,
    state_key: Option<&str>,
    sender: &str,
    content: Object,
) -> Object {
    let mut event = object! {
        "room_id" => room_id,
        "type" => event_type,
        "sender" => sender,
        "origin_server_ts" => next_timestamp(),
        "content" => content,
    };
    if let Some(state_key) = state_key {
        event.insert("state_key", state_key);
    }
    event
}

/// Makes a partial event an LPDU for `hub`, signed by the participant.
pub(crate) fn seal_lpdu(mut event: Object, hub: &str, signer: &Signer) -> Object {
    event.insert("hub_server", hub);
    hash_lpdu(&mut event);
    sign_event(&mut event, signer);
    event
}

/// Makes an LPDU a PDU, as a hub does.
pub(crate) fn complete(mut lpdu: Object, auth_events: &[EventId], prev: &[EventId], signer: &Signer) -> Object {
    lpdu.insert("auth_events", ids(auth_events));
    lpdu.insert("prev_events", ids(prev));
    hash_pdu(&mut lpdu);
    sign_event(&mut lpdu, signer);
    lpdu
}

/// Makes a partial event a hub's own PDU.
pub(crate) fn seal_pdu(mut event: Object, auth_events: &[EventId], prev: &[EventId], signer: &Signer) -> Object {
    event.insert("auth_events", ids(auth_events));
    event.insert("prev_events", ids(prev));
    hash_pdu(&mut event);
    sign_event(&mut event, signer);
    event
}

/// Sets `hashes.lpdu` to what it should be.
pub(crate) fn hash_lpdu(event: &mut Object) {
    let hash = base64u::encode(&hashes::lpdu_hash(event));
    event.insert("hashes", object! { "lpdu" => object! { "sha256" => hash } });
}

/// Sets `hashes.sha256` to what it should be, with `hashes.lpdu` as it is.
pub(crate) fn hash_pdu(event: &mut Object) {
    let hash = base64u::encode(&hashes::content_hash(event));
    match event.get_mut("hashes").and_then(Json::as_object_mut) {
        Some(hashes) => {
            hashes.insert("sha256", hash);
        }
        None => {
            event.insert("hashes", object! { "sha256" => hash });
        }
    }
}

/// Signs the event as it is, leaving other servers' signatures.
pub(crate) fn sign_event(event: &mut Object, signer: &Signer) {
    let message = hashes::signed_bytes(event);
    for (key, signature) in signer.signatures_of(&message) {
        insert_signature(event, signer.server().as_str(), &key, &signature);
    }
}

/// The bytes of `body` with what is `canonical` in it written `otherwise`. Without it nothing would differ and nothing be tried.
pub(crate) fn rewritten(body: &Json, canonical: &str, otherwise: &str) -> Checked<Vec<u8>> {
    let text = body.to_string();
    if !text.contains(canonical) {
        return failed(format!("our own JSON with {canonical} in it"), text);
    }
    Ok(text.replace(canonical, otherwise).into_bytes())
}

/// The ID of an LPDU that became this PDU.
pub(crate) fn lpdu_id_of(pdu: &Object) -> EventId {
    let mut lpdu = pdu.clone();
    lpdu.remove("auth_events");
    lpdu.remove("prev_events");
    if let Some(hashes) = lpdu.get_mut("hashes").and_then(Json::as_object_mut) {
        hashes.retain(|algorithm, _| algorithm == "lpdu");
    }
    event_id_of(&lpdu)
}

/// What tells one event of ours from another however it was redacted, completed or damaged: its sender and its timestamp,
/// which no other event of this process has.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Stamp {
    sender: String,
    at: i64,
}

impl Stamp {
    /// The stamp of an event as servers exchange it, or as the client API shows it.
    pub(crate) fn of(event: &Object) -> Option<Self> {
        Some(Self {
            sender: event.get("sender")?.as_str()?.to_owned(),
            at: event.get("origin_server_ts")?.as_i64()?,
        })
    }
}

/// Milliseconds since 1970, later than every earlier answer.
pub(crate) fn next_timestamp() -> i64 {
    static LAST: AtomicI64 = AtomicI64::new(0);
    let now = now_millis();
    let last = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(now.max(last + 1)));
    now.max(last.unwrap_or_default() + 1)
}

/// The wall clock.
#[expect(
    clippy::disallowed_methods,
    reason = "the checker is a shell of its own: keys and events it makes are valid now"
)]
pub(crate) fn now_millis() -> i64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn ids(events: &[EventId]) -> Json {
    events.iter().map(|id| Json::from(id.as_str())).collect()
}
