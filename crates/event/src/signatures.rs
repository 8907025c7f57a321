//! An event's signatures: added by us, checked of others. LM #int-signing-events, LM #int-checking-signatures.

use nabe_signing::json::{Json, Object};
use nabe_signing::keys::KeySet;
use nabe_signing::{Signature, Signer};
use nabe_types::{KeyId, ServerName};

use crate::error::{Dropped, SignerRole};
use crate::event::Event;
use crate::raw::listed_keys;

/// Adds the signatures of every key of `signer` over `message` to `signatures`.
pub(crate) fn add_signatures(signatures: &mut Object, message: &[u8], signer: &Signer) {
    let mut own = take_object(signatures, signer.server().as_str());
    for (key_id, signature) in signer.signatures_of(message) {
        own.insert(key_id.as_str(), signature.to_base64());
    }
    signatures.insert(signer.server().as_str(), own);
}

/// Checks `server`'s signatures over `message`: at least one by a known key, valid at the event's time, and none by such a key
/// that fails. Unknown keys are passed over (LM #int-checking-signatures).
pub(crate) fn check_signed(
    event: &Event,
    server: &ServerName,
    role: SignerRole,
    message: &[u8],
    keys: &KeySet,
) -> Result<Vec<KeyId>, Dropped> {
    let listed = listed_keys(event, server);
    let Some(signatures) = event.signatures_by(server).filter(|_| !listed.is_empty()) else {
        return Err(Dropped::NotSigned {
            role,
            server: server.clone(),
        });
    };
    let bad = || Dropped::BadSignature {
        role,
        server: server.clone(),
    };
    let mut valid = Vec::new();
    for key_id in &listed {
        let Some(key) = keys.for_event(server, key_id, event.origin_server_ts()) else {
            continue;
        };
        let signature = signatures.get(key_id.as_str()).and_then(Json::as_str).ok_or_else(bad)?;
        let signature = Signature::from_base64(signature).map_err(|_| bad())?;
        key.verify(message, &signature).map_err(|_| bad())?;
        valid.push(key_id.clone());
    }
    if valid.is_empty() {
        Err(no_usable_key(server, listed, keys))
    } else {
        Ok(valid)
    }
}

/// A key its server has taken out of use before the event's time is a verdict. A key we do not know, or whose last known validity
/// has run out, is not: a fresh key response may answer.
fn no_usable_key(server: &ServerName, listed: Vec<KeyId>, keys: &KeySet) -> Dropped {
    let retired = |key: &KeyId| keys.get(server, key).is_some_and(|known| known.old);
    let wanted: Vec<_> = listed.into_iter().filter(|key| !retired(key)).collect();
    if wanted.is_empty() {
        Dropped::KeyExpired { server: server.clone() }
    } else {
        Dropped::KeysUnavailable {
            server: server.clone(),
            keys: wanted,
        }
    }
}

/// Removes the object at `key`; empty when there is none.
pub(crate) fn take_object(object: &mut Object, key: &str) -> Object {
    match object.remove(key) {
        Some(Json::Object(inner)) => inner,
        _ => Object::new(),
    }
}
