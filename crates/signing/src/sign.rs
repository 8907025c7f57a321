//! Signing and checking objects (LM #int-signing-objects, #int-checking-signatures).

use std::collections::BTreeMap;

use nabe_types::{KeyId, ServerName};

use crate::ed25519::{PublicKey, Signature, SignatureError, SigningKey};
use crate::json::{Json, Object};

/// The keys of one entity.
pub type KeyMap = BTreeMap<KeyId, PublicKey>;

/// A server's name and its active keys. Signs with all of them, so that verifiers that know only some can check.
#[derive(Clone, Debug)]
pub struct Signer {
    server: ServerName,
    keys: Vec<SigningKey>,
}

impl Signer {
    /// A signer for `server`; it needs at least one key, of which the first is preferred where only one fits.
    pub fn new(server: ServerName, keys: Vec<SigningKey>) -> Result<Self, NoSigningKey> {
        if keys.is_empty() {
            Err(NoSigningKey)
        } else {
            Ok(Self { server, keys })
        }
    }

    /// Who signs.
    #[must_use]
    pub const fn server(&self) -> &ServerName {
        &self.server
    }

    /// The active keys, at least one.
    #[must_use]
    pub fn keys(&self) -> &[SigningKey] {
        &self.keys
    }

    /// The public halves of the active keys.
    #[must_use]
    pub fn public_keys(&self) -> KeyMap {
        self.keys
            .iter()
            .map(|key| (key.key_id().clone(), key.public()))
            .collect()
    }

    /// Adds `signatures[server][key]` for each key over the canonical form without `signatures`
    /// (LM #int-signing-objects). Signatures by others stay.
    pub fn sign_object(&self, object: &mut Object) {
        let message = signed_bytes(object);
        for (key_id, signature) in self.signatures_of(&message) {
            insert_signature(object, self.server.as_str(), &key_id, &signature);
        }
    }

    /// One signature over `message` for each key.
    pub fn signatures_of<'a>(&'a self, message: &'a [u8]) -> impl Iterator<Item = (KeyId, Signature)> + 'a {
        self.keys
            .iter()
            .map(move |key| (key.key_id().clone(), key.sign(message)))
    }
}

/// A signer without keys cannot sign.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a server needs at least one signing key")]
pub struct NoSigningKey;

/// Puts a signature at `signatures[entity][key_id]`. Whatever is not an object on the way there is replaced by one.
pub fn insert_signature(object: &mut Object, entity: &str, key_id: &KeyId, signature: &Signature) {
    let by_key = object_at(object_at(object, "signatures"), entity);
    by_key.insert(key_id.as_str(), signature.to_base64());
}

/// Checks that `entity` signed `object` with one of `keys` (LM #int-checking-signatures). At least one known key must
/// have signed and each known key that did must verify; keys we do not know do not count.
pub fn verify_object(object: &Object, entity: &str, keys: &KeyMap) -> Result<(), SignatureError> {
    verify_object_with(object, entity, |key_id| keys.get(key_id))
}

/// [`verify_object`] with keys looked up by ID.
pub fn verify_object_with<'k>(
    object: &Object,
    entity: &str,
    find_key: impl Fn(&KeyId) -> Option<&'k PublicKey>,
) -> Result<(), SignatureError> {
    verify_signatures(object.get("signatures"), entity, &signed_bytes(object), find_key)
}

/// Checks `entity`'s part of a `signatures` value against `message`, under the rules of [`verify_object`]. For events,
/// whose signed bytes are not simply the object's (LM #int-signing-events).
pub fn verify_signatures<'k>(
    signatures: Option<&Json>,
    entity: &str,
    message: &[u8],
    find_key: impl Fn(&KeyId) -> Option<&'k PublicKey>,
) -> Result<(), SignatureError> {
    let signatures = signatures
        .ok_or(SignatureError::Missing)?
        .as_object()
        .ok_or(SignatureError::Malformed)?;
    let by_entity = signatures.get(entity).ok_or(SignatureError::EntityAbsent)?;
    let by_entity = by_entity.as_object().ok_or(SignatureError::Malformed)?;
    let mut verified = false;
    for (key_id, signature) in by_entity {
        let signature = signature.as_str().ok_or(SignatureError::Malformed)?;
        let known = KeyId::parse(key_id).ok().and_then(|key_id| find_key(&key_id));
        let Some(key) = known else { continue };
        let signature = Signature::from_base64(signature).map_err(|_| SignatureError::Base64)?;
        key.verify(message, &signature)?;
        verified = true;
    }
    if verified {
        Ok(())
    } else {
        Err(SignatureError::NoKnownKey)
    }
}

/// The bytes an object's signatures are over.
fn signed_bytes(object: &Object) -> Vec<u8> {
    let mut message = Vec::new();
    object.write_canonical_without(&mut message, &["signatures"]);
    message
}

fn object_at<'a>(object: &'a mut Object, key: &str) -> &'a mut Object {
    if object.get(key).and_then(Json::as_object).is_none() {
        object.insert(key, Object::new());
    }
    object
        .get_mut(key)
        .and_then(Json::as_object_mut)
        .expect("an object was just put there")
}

#[cfg(test)]
mod tests;
