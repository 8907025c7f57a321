//! Published server keys: reading and writing `/_matrix/key/v2/server` responses (LM #int-api-self-key), and which key
//! may verify what, when (LM #int-transport-keys-validity).

use std::collections::BTreeMap;
use std::time::Duration;

use nabe_types::limits::MAX_KEY_VALIDITY_MILLIS;
use nabe_types::{KeyId, ServerName, UnixMillis};

use crate::ed25519::{PublicKey, PublicKeyError, SignatureError};
use crate::json::{Json, Object};
use crate::object;
use crate::sign::{KeyMap, Signer, verify_object};

/// Most keys in use, and most old ones, that one response may list, of whatever algorithms.
pub const MAX_KEYS: usize = 64;

/// Keys no longer in use, each with the moment it went out of use.
pub type OldKeyMap = BTreeMap<KeyId, (PublicKey, UnixMillis)>;

/// A server's key response, its own signature checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServerKeys {
    /// Whose keys.
    pub server: ServerName,
    /// `verify_keys`: in use, at least one. Keys of other algorithms than ed25519 are left out.
    pub verify_keys: KeyMap,
    /// `old_verify_keys`: no longer in use, with `expired_ts`. Never also in `verify_keys`.
    pub old_verify_keys: OldKeyMap,
    /// `valid_until_ts` as the server says; see [`Self::effective_valid_until`].
    pub valid_until: UnixMillis,
    /// `m.linearized`, `false` if absent.
    pub linearized: bool,
    /// The response itself, signatures included, for a notary to pass on.
    pub raw: Object,
}

impl ServerKeys {
    /// Reads a response that must be `expected`'s, with at most [`MAX_KEYS`] keys in use and as many old ones. At least one of `verify_keys` must have signed it and each listed
    /// key that signed must verify. A key listed as old counts as old only, since `expired_ts` overrides.
    pub fn parse(raw: Object, expected: &ServerName) -> Result<Self, KeyResponseError> {
        if raw.get("server_name").and_then(Json::as_str) != Some(expected.as_str()) {
            return Err(KeyResponseError::WrongServer);
        }
        let valid_until = timestamp(&raw, "valid_until_ts")?;
        let old_verify_keys = read_keys(&raw, "old_verify_keys", |key, entry| {
            Ok((key, timestamp(entry, "expired_ts")?))
        })?;
        let mut verify_keys = read_keys(&raw, "verify_keys", |key, _| Ok(key))?;
        verify_keys.retain(|key_id, _| !old_verify_keys.contains_key(key_id));
        if verify_keys.is_empty() {
            return Err(KeyResponseError::NoVerifyKeys);
        }
        verify_object(&raw, expected.as_str(), &verify_keys)?;
        let old_keys = old_verify_keys
            .iter()
            .map(|(key_id, &(key, _))| (key_id.clone(), key))
            .collect();
        match verify_object(&raw, expected.as_str(), &old_keys) {
            Ok(()) | Err(SignatureError::NoKnownKey) => {}
            Err(error) => return Err(error.into()),
        }
        let linearized = raw.get("m.linearized").and_then(Json::as_bool).unwrap_or(false);
        Ok(Self {
            server: expected.clone(),
            verify_keys,
            old_verify_keys,
            valid_until,
            linearized,
            raw,
        })
    }

    /// Until when the response counts: what it says, but at most 7 days after it was fetched.
    #[must_use]
    pub fn effective_valid_until(&self, fetched_at: UnixMillis) -> UnixMillis {
        self.valid_until
            .min(fetched_at.plus(Duration::from_millis(MAX_KEY_VALIDITY_MILLIS)))
    }
}

/// Why a key response is not accepted.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeyResponseError {
    /// `server_name` is not the server we asked about.
    #[error("`server_name` is not the expected one")]
    WrongServer,
    /// A required field is missing or has the wrong type.
    #[error("`{field}` is missing or malformed")]
    Field {
        /// Its name.
        field: &'static str,
    },
    /// A listed key is unusable.
    #[error("a listed key is unusable: {0}")]
    Key(#[from] PublicKeyError),
    /// No ed25519 key is in use.
    #[error("no ed25519 key in `verify_keys`")]
    NoVerifyKeys,
    /// More keys than any server has.
    #[error("`{field}` has more than {} keys", MAX_KEYS)]
    TooManyKeys {
        /// Which of the two.
        field: &'static str,
    },
    /// The server's own signature fails.
    #[error("self-signature: {0}")]
    Signature(#[from] SignatureError),
}

/// Our own answer to `/_matrix/key/v2/server`, signed with every active key (LM #int-api-self-key).
#[must_use]
pub fn own_key_response(signer: &Signer, old_keys: &OldKeyMap, valid_until: UnixMillis) -> Object {
    let verify_keys = signer
        .public_keys()
        .into_iter()
        .map(|(key_id, key)| (key_id, object! { "key" => key.to_base64() }));
    let old_verify_keys = old_keys.iter().map(|(key_id, (key, expired))| {
        (
            key_id.as_str(),
            object! { "expired_ts" => *expired, "key" => key.to_base64() },
        )
    });
    let mut response = object! {
        "server_name" => signer.server(),
        "valid_until_ts" => valid_until,
        "m.linearized" => true,
        "verify_keys" => verify_keys.collect::<Object>(),
        "old_verify_keys" => old_verify_keys.collect::<Object>(),
    };
    signer.sign_object(&mut response);
    response
}

/// A key and how long it may verify.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct VerifyKey {
    /// The key.
    pub key: PublicKey,
    /// The last moment it may verify for: the response's effective validity, or `expired_ts` of an old key.
    pub valid_until: UnixMillis,
    /// Whether the server no longer signs with it.
    pub old: bool,
}

/// Known keys of any number of servers: the whole of what verification may look at.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct KeySet {
    servers: BTreeMap<ServerName, KeysOfServer>,
}

#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct KeysOfServer {
    keys: BTreeMap<KeyId, Entry>,
    /// When the latest response was fetched.
    fetched_at: UnixMillis,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Entry {
    key: VerifyKey,
    /// When the latest response that lists the key was fetched.
    listed_at: UnixMillis,
}

impl KeySet {
    /// No keys.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            servers: BTreeMap::new(),
        }
    }

    /// Adds the keys of a response fetched at `fetched_at`, in whatever order responses come. Keys of earlier
    /// responses stay, for events, but no longer authenticate requests.
    ///
    /// A key once listed as old stays old: whoever stole it could list it as current again. Of different keys under one
    /// ID the one listed last counts, so do not add what [`contradicts`](Self::contradicts) on a third party's word.
    pub fn insert_server_keys(&mut self, keys: &ServerKeys, fetched_at: UnixMillis) {
        let valid_until = keys.effective_valid_until(fetched_at);
        let server = self.servers.entry(keys.server.clone()).or_default();
        server.fetched_at = server.fetched_at.max(fetched_at);
        for (key_id, &key) in &keys.verify_keys {
            server.insert(
                key_id,
                VerifyKey {
                    key,
                    valid_until,
                    old: false,
                },
                fetched_at,
            );
        }
        for (key_id, &(key, expired)) in &keys.old_verify_keys {
            server.insert(
                key_id,
                VerifyKey {
                    key,
                    valid_until: expired,
                    old: true,
                },
                fetched_at,
            );
        }
    }

    /// Whether `keys` has another key than we know under the same ID.
    #[must_use]
    pub fn contradicts(&self, keys: &ServerKeys) -> bool {
        let in_use = keys.verify_keys.iter();
        let old = keys.old_verify_keys.iter().map(|(key_id, (key, _))| (key_id, key));
        in_use
            .chain(old)
            .any(|(key_id, key)| self.get(&keys.server, key_id).is_some_and(|known| known.key != *key))
    }

    /// Adds one key, as if the server's latest response listed it.
    pub fn insert(&mut self, server: ServerName, key_id: KeyId, key: VerifyKey) {
        let server = self.servers.entry(server).or_default();
        server.insert(&key_id, key, server.fetched_at);
    }

    /// Adds a signer's own keys, valid for ever.
    pub fn insert_signer(&mut self, signer: &Signer) {
        for (key_id, key) in signer.public_keys() {
            let key = VerifyKey {
                key,
                valid_until: UnixMillis::MAX,
                old: false,
            };
            self.insert(signer.server().clone(), key_id, key);
        }
    }

    /// Adds everything in `other`.
    pub fn extend(&mut self, other: Self) {
        for (name, theirs) in other.servers {
            let ours = self.servers.entry(name).or_default();
            ours.fetched_at = ours.fetched_at.max(theirs.fetched_at);
            for (key_id, entry) in theirs.keys {
                ours.insert(&key_id, entry.key, entry.listed_at);
            }
        }
    }

    /// The key with this ID, valid or not.
    #[must_use]
    pub fn get(&self, server: &ServerName, key_id: &KeyId) -> Option<&VerifyKey> {
        Some(&self.servers.get(server)?.keys.get(key_id)?.key)
    }

    /// The key with this ID if it may verify an event of that time: current and valid then or later, or old and not
    /// yet out of use then. The draft asks the question and leaves it open (LM #int-transport-keys-validity); this is
    /// the rule of Matrix room versions from 5 on.
    #[must_use]
    pub fn for_event(&self, server: &ServerName, key_id: &KeyId, origin_server_ts: UnixMillis) -> Option<&PublicKey> {
        let key = self.get(server, key_id)?;
        (key.valid_until >= origin_server_ts).then_some(&key.key)
    }

    /// The key with this ID if it may authenticate a request now: in `verify_keys` of the server's latest response and
    /// not expired (LM #int-transport-auth).
    #[must_use]
    pub fn for_request(&self, server: &ServerName, key_id: &KeyId, now: UnixMillis) -> Option<&PublicKey> {
        let keys = self.servers.get(server)?;
        let Entry { key, listed_at } = keys.keys.get(key_id)?;
        (!key.old && key.valid_until >= now && *listed_at >= keys.fetched_at).then_some(&key.key)
    }

    /// All keys, by server and key ID.
    pub fn iter(&self) -> impl Iterator<Item = (&ServerName, &KeyId, &VerifyKey)> {
        self.servers.iter().flat_map(|(server, keys)| {
            keys.keys
                .iter()
                .map(move |(key_id, entry)| (server, key_id, &entry.key))
        })
    }

    /// Whether there are no keys.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}

impl KeysOfServer {
    fn insert(&mut self, key_id: &KeyId, key: VerifyKey, listed_at: UnixMillis) {
        let new = Entry { key, listed_at };
        self.keys
            .entry(key_id.clone())
            .and_modify(|entry| *entry = entry.merged(new))
            .or_insert(new);
    }
}

impl Entry {
    /// Out of two statements about one key ID, the one to believe.
    fn merged(self, new: Self) -> Self {
        if self.key.key != new.key.key {
            return if new.listed_at > self.listed_at { new } else { self };
        }
        let listed_at = self.listed_at.max(new.listed_at);
        let key = match (self.key.old, new.key.old) {
            (false, true) => new.key,
            (true, false) => self.key,
            // Both went out of use: the earlier moment is the cautious one.
            (true, true) if new.key.valid_until < self.key.valid_until => new.key,
            // Both in use: each response vouches until its end.
            (false, false) if new.key.valid_until > self.key.valid_until => new.key,
            _ => self.key,
        };
        Self { key, listed_at }
    }
}

/// Reads `verify_keys` or `old_verify_keys`; a missing `old_verify_keys` is an empty one. Keys of algorithms or with
/// IDs we do not know are left out, for later drafts to add some.
fn read_keys<T>(
    raw: &Object,
    field: &'static str,
    read: impl Fn(PublicKey, &Object) -> Result<T, KeyResponseError>,
) -> Result<BTreeMap<KeyId, T>, KeyResponseError> {
    let malformed = KeyResponseError::Field { field };
    let listed = match raw.get(field) {
        Some(listed) => listed.as_object().ok_or(malformed)?,
        None if field == "old_verify_keys" => return Ok(BTreeMap::new()),
        None => return Err(malformed),
    };
    if listed.len() > MAX_KEYS {
        return Err(KeyResponseError::TooManyKeys { field });
    }
    let mut keys = BTreeMap::new();
    for (key_id, entry) in listed {
        let Some(key_id) = KeyId::parse(key_id).ok().filter(KeyId::is_ed25519) else {
            continue;
        };
        let entry = entry.as_object().ok_or(malformed)?;
        let key = entry.get("key").and_then(Json::as_str).ok_or(malformed)?;
        keys.insert(key_id, read(PublicKey::from_base64(key)?, entry)?);
    }
    Ok(keys)
}

fn timestamp(object: &Object, field: &'static str) -> Result<UnixMillis, KeyResponseError> {
    let millis = object.get(field).and_then(Json::as_i64).and_then(UnixMillis::from_i64);
    millis.ok_or(KeyResponseError::Field { field })
}

#[cfg(test)]
mod tests;
