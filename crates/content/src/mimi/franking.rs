//! Message franking (draft-ietf-mimi-protocol-06, section Message Franking): a hub stamps messages it cannot read, so that a
//! receiver can later prove to it what was sent, by whom and when.
//!
//! | Who | Does | With |
//! |---|---|---|
//! | sender | computes the tag over what it sends, and puts it where the hub sees it | [`FrankingTag::compute`] |
//! | hub | stamps tag, sender, room and time | [`Frank::stamp`] |
//! | receiver | checks that nobody on the way changed any of it | [`Frank::verify_received`] |
//! | hub, later | checks what somebody reports | [`Frank::verify_report`] |
//!
//! Pure functions over bytes, for hub and client alike, so they know no MLS library: what is signed is handed to whoever has the
//! key ([`ed25519`] for the suites with Ed25519).
//!
//! ```
//! use nabe_content::mimi::franking::{CipherSuite, Frank, FrankingContext, FrankingTag, HubKey, KeyRing, Known, ed25519};
//! use nabe_content::mimi::{MimiContent, NestedPart, Origin, Salt};
//! use nabe_signing::SigningKey;
//! use nabe_types::{KeyId, UnixMillis};
//!
//! // The sender.
//! let origin = Origin::new("mimi://b.example/u/bob", "mimi://a.example/r/fish")?;
//! let message = MimiContent::new(Salt::from_random([7; 16]), &origin, NestedPart::text("You fish!"));
//! let application_data = message.encode()?;
//! let tag = FrankingTag::compute(&message.salt, &application_data);
//!
//! // The hub, which sees the tag and is told the sender.
//! let agent = SigningKey::from_seed(KeyId::ed25519("frank")?, [1; 32]); // from the system's generator
//! let mut keys = KeyRing::new();
//! keys.add(UnixMillis(0), HubKey::from_random([2; 32]));
//! let context = FrankingContext { origin: origin.clone(), accepted: UnixMillis(1_790_000_000_000) };
//! let sign = |message: &[u8]| agent.sign(message).to_bytes().to_vec();
//! let frank = Frank::stamp(&keys, CipherSuite(1), &tag, &context, sign).expect("there is a key");
//!
//! // A receiver.
//! let verify = ed25519(agent.public());
//! let known = Known { origin: &origin, accepted: context.accepted, cipher_suite: CipherSuite(1) };
//! assert_eq!(frank.verify_received(&tag, &application_data, &known, &verify)?, context);
//!
//! // The hub, when that receiver reports the message.
//! assert_eq!(frank.verify_report(&application_data, context.accepted, &keys, &verify)?, context);
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

use std::fmt;

use hmac::{Hmac, Mac};
use nabe_signing::{PublicKey, Signature};
use nabe_types::UnixMillis;
use sha2::Sha256;

use super::content::MimiContent;
use super::error::Malformed;
use super::id::{Origin, Salt};

/// HMAC-SHA256 over what is sent, with the message's salt as the key: what the sender commits to. Travels as the safe AAD component
/// `frank_aad`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FrankingTag(pub [u8; 32]);

impl FrankingTag {
    /// The tag of a message. `application_data` is all that MLS encrypts: where the group negotiates media types, the framing with
    /// the media type too ([`application_framing`]).
    #[must_use]
    pub fn compute(salt: &Salt, application_data: &[u8]) -> Self {
        Self(
            hmac(salt.as_bytes(), &[application_data])
                .finalize()
                .into_bytes()
                .into(),
        )
    }
}

/// What the hub vouches for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FrankingContext {
    /// The sender, as its provider told the hub, and the room.
    pub origin: Origin,
    /// When the hub accepted the message.
    pub accepted: UnixMillis,
}

impl FrankingContext {
    /// `ServerFrankingContext` in TLS presentation language: both URIs with their lengths, then the timestamp.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        write_vector(&mut out, self.origin.sender().as_bytes());
        write_vector(&mut out, self.origin.room().as_bytes());
        out.extend(self.accepted.as_u64().to_be_bytes());
        out
    }
}

/// An MLS cipher suite by its number (RFC 9420, 17.1): it says how the integrity signature was made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CipherSuite(pub u16);

/// Checks Ed25519 signatures, for the suites that have them (1 and 3); in the form that [`Frank::verify_received`] takes. For other
/// suites bring a function of this form from your MLS library.
pub fn ed25519(key: PublicKey) -> impl Fn(CipherSuite, &[u8], &[u8]) -> bool {
    move |suite, message, signature| {
        let Ok(signature) = signature.try_into() else {
            return false;
        };
        let signature = Signature::from_bytes(signature);
        matches!(suite, CipherSuite(1 | 3)) && key.verify(message, &signature).is_ok()
    }
}

/// A secret of the hub for its franks. `Debug` shows nothing of it.
#[derive(Clone, Eq, PartialEq)]
pub struct HubKey([u8; 32]);

impl HubKey {
    /// The key made of these bytes, which must come from a cryptographic generator and be used for nothing else.
    #[must_use]
    pub const fn from_random(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for HubKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HubKey")
    }
}

/// The hub's keys, old ones too: reports come late. The draft has the hub "select its relevant" key and nothing in a frank says
/// which, so the time of acceptance does; all others are tried after it.
#[derive(Clone, Debug, Default)]
pub struct KeyRing {
    /// In the order of their times.
    keys: Vec<(UnixMillis, HubKey)>,
}

impl KeyRing {
    /// No key.
    #[must_use]
    pub const fn new() -> Self {
        let keys = Vec::new();
        Self { keys }
    }

    /// Adds a key that is used for messages accepted at `from` and later, until the next one's time.
    pub fn add(&mut self, from: UnixMillis, key: HubKey) {
        let at = self.keys.partition_point(|(other, _)| *other <= from);
        self.keys.insert(at, (from, key));
    }

    /// The key for a message accepted at `accepted`.
    #[must_use]
    pub fn current(&self, accepted: UnixMillis) -> Option<&HubKey> {
        let end = self.keys.partition_point(|(from, _)| *from <= accepted);
        self.keys.get(end.checked_sub(1)?).map(|(_, key)| key)
    }

    /// All keys, the most likely one first.
    fn candidates(&self, accepted: UnixMillis) -> impl Iterator<Item = &HubKey> {
        let current = self.current(accepted);
        let others = self.keys.iter().rev().map(|(_, key)| key);
        current.into_iter().chain(others)
    }
}

/// The hub's stamp on a message.
///
/// ```text
/// struct {
///     uint8 server_frank[32];
///     CipherSuite franking_signature_ciphersuite;
///     opaque franking_integrity_signature<V>;
/// } Frank;
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Frank {
    /// By which the hub recognizes it.
    pub server_frank: [u8; 32],
    /// The group's cipher suite when it was made.
    pub cipher_suite: CipherSuite,
    /// By which everybody recognizes the hub.
    pub integrity_signature: Vec<u8>,
}

/// What a receiver knows from MLS and the hub, not from the message.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The user in the sender's credential, and the room the message came in.
    pub origin: &'a Origin,
    /// The timestamp that came with the message.
    pub accepted: UnixMillis,
    /// The group's cipher suite.
    pub cipher_suite: CipherSuite,
}

impl Frank {
    /// The hub's stamp on a message with this tag, under the key for its time; `None` without one. `sign` signs the bytes it is given
    /// with the key of the group's `franking_agent`.
    #[must_use]
    pub fn stamp(
        keys: &KeyRing,
        cipher_suite: CipherSuite,
        tag: &FrankingTag,
        context: &FrankingContext,
        sign: impl FnOnce(&[u8]) -> Vec<u8>,
    ) -> Option<Self> {
        let key = keys.current(context.accepted)?;
        let server_frank = server_frank(key, tag, context).finalize().into_bytes().into();
        Some(Self {
            server_frank,
            cipher_suite,
            integrity_signature: sign(&integrity_content(&server_frank, cipher_suite, context)),
        })
    }

    /// Checks a stamp that came with a message: that the hub made it for this tag's message, sender, room and time; that the tag is
    /// of what was decrypted; and that the message names the sender and room that MLS names. `tag` is from the message's
    /// additional data, `verify` checks a signature by the group's `franking_agent`, which must be the hub's ([`is_hub`]).
    ///
    /// Keep frank and context with the message: a report needs them.
    pub fn verify_received(
        &self,
        tag: &FrankingTag,
        application_data: &[u8],
        known: &Known<'_>,
        verify: impl Fn(CipherSuite, &[u8], &[u8]) -> bool,
    ) -> Result<FrankingContext, FrankError> {
        if self.cipher_suite != known.cipher_suite {
            return Err(FrankError::CipherSuite {
                expected: known.cipher_suite.0,
                found: self.cipher_suite.0,
            });
        }
        let (content, origin) = claims(application_data)?;
        let context = FrankingContext {
            origin,
            accepted: known.accepted,
        };
        self.verify_integrity(&context, verify)?;
        hmac(content.salt.as_bytes(), &[application_data])
            .verify(&tag.0.into())
            .map_err(|_| FrankError::Tag)?;
        if context.origin.sender() != known.origin.sender() {
            return Err(FrankError::Sender);
        }
        if context.origin.room() != known.origin.room() {
            return Err(FrankError::Room);
        }
        Ok(context)
    }

    /// Checks a reported message, as the hub that stamped it: who sent it in which room, if the stamp is genuine.
    /// `message_content` is what was decrypted, with or without the framing of media types; the tag is computed from it.
    pub fn verify_report(
        &self,
        message_content: &[u8],
        accepted: UnixMillis,
        keys: &KeyRing,
        verify: impl Fn(CipherSuite, &[u8], &[u8]) -> bool,
    ) -> Result<FrankingContext, FrankError> {
        let (content, origin) = claims(message_content)?;
        let context = FrankingContext { origin, accepted };
        // Reporters may have kept the bare content of a framed message.
        let framed = application_framing(message_content);
        let genuine = [message_content, &framed].into_iter().any(|data| {
            let tag = FrankingTag::compute(&content.salt, data);
            self.verify_server_frank(&tag, &context, keys).is_ok()
        });
        if !genuine {
            return Err(FrankError::ServerFrank);
        }
        self.verify_integrity(&context, verify)?;
        Ok(context)
    }

    /// Checks the hub's own half alone: that one of its keys makes this frank of the tag and what the hub vouches for.
    pub fn verify_server_frank(
        &self,
        tag: &FrankingTag,
        context: &FrankingContext,
        keys: &KeyRing,
    ) -> Result<(), FrankError> {
        let genuine = keys.candidates(context.accepted).any(|key| {
            let frank = server_frank(key, tag, context);
            frank.verify(&self.server_frank.into()).is_ok()
        });
        if genuine { Ok(()) } else { Err(FrankError::ServerFrank) }
    }

    /// Checks the integrity signature alone: that the franking agent signed this frank with this sender, room and time. Whether the
    /// frank is of any message it does not say.
    pub fn verify_integrity(
        &self,
        context: &FrankingContext,
        verify: impl Fn(CipherSuite, &[u8], &[u8]) -> bool,
    ) -> Result<(), FrankError> {
        let content = integrity_content(&self.server_frank, self.cipher_suite, context);
        if verify(self.cipher_suite, &content, &self.integrity_signature) {
            Ok(())
        } else {
            Err(FrankError::Signature)
        }
    }
}

/// Why a frank proves nothing.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FrankError {
    /// It was made for another cipher suite than the group's.
    #[error("made with cipher suite {found}, the group has {expected}")]
    CipherSuite {
        /// The group's.
        expected: u16,
        /// The frank's.
        found: u16,
    },
    /// What was sent is no MIMI content.
    #[error(transparent)]
    Content(#[from] Malformed),
    /// What was sent is in a framing, and not of MIMI content.
    #[error("not framed MIMI content")]
    Framing,
    /// The message names no sender, no room, or one too long.
    #[error("the message does not name its sender and room")]
    NoClaims,
    /// The tag is not of this message.
    #[error("the franking tag is of another message")]
    Tag,
    /// The hub's signature does not cover this frank, sender, room and time.
    #[error("the integrity signature is wrong")]
    Signature,
    /// No key of the hub makes this frank of the message: it, its time, sender or room was changed.
    #[error("not a frank of this hub for this message")]
    ServerFrank,
    /// The message names another sender than its credential.
    #[error("the message names another sender")]
    Sender,
    /// The message names another room than the one it came in.
    #[error("the message names another room")]
    Room,
}

/// Whether a `franking_agent` with a credential of this URI is of the hub that owns the room: both have the same host.
#[must_use]
pub fn is_hub(agent_uri: &str, room_uri: &str) -> bool {
    let host = |uri: &str| {
        let rest = uri.split_once("://")?.1;
        let host = rest.split(['/', '?', '#']).next()?;
        (!host.is_empty()).then(|| host.to_ascii_lowercase())
    };
    host(agent_uri).is_some_and(|agent| Some(agent) == host(room_uri))
}

/// `ApplicationFraming` with the media type of MIMI content and no parameters: what MLS encrypts where the group negotiates
/// media types (draft-ietf-mls-extensions, content advertisement).
#[must_use]
pub fn application_framing(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 32);
    write_vector(&mut out, super::MEDIA_TYPE.as_bytes());
    write_vector(&mut out, b"");
    write_vector(&mut out, message);
    out
}

/// The message inside what MLS decrypted, framed or not. MIMI content begins with 0x87; a framing begins with the length of a
/// media type, which would have to be over 100 MB to look like that. A framing may leave its type out: then it is the group's first
/// one (MLSX #app-framing), which this does not know; what is inside has to be MIMI content all the same.
pub fn unframe(application_data: &[u8]) -> Result<&[u8], FrankError> {
    if application_data.first() == Some(&0x87) {
        return Ok(application_data);
    }
    let mut rest = application_data;
    let media_type = read_vector(&mut rest).ok_or(FrankError::Framing)?;
    let _parameters = read_vector(&mut rest).ok_or(FrankError::Framing)?;
    let message = read_vector(&mut rest).ok_or(FrankError::Framing)?;
    let is_content = media_type.is_empty() || media_type.eq_ignore_ascii_case(super::MEDIA_TYPE.as_bytes());
    if !is_content || !rest.is_empty() {
        return Err(FrankError::Framing);
    }
    Ok(message)
}

/// The message, and whom and what it names.
fn claims(application_data: &[u8]) -> Result<(MimiContent, Origin), FrankError> {
    let content = MimiContent::decode(unframe(application_data)?)?;
    let origin = Origin::claimed(&content).ok_or(FrankError::NoClaims)?;
    Ok((content, origin))
}

fn server_frank(key: &HubKey, tag: &FrankingTag, context: &FrankingContext) -> Hmac<Sha256> {
    hmac(&key.0, &[&tag.0, &context.to_bytes()])
}

/// What the integrity signature signs: `SignWithLabel` (RFC 9420, 5.1.2) over `FrankingIntegrityTBS`.
fn integrity_content(server_frank: &[u8; 32], cipher_suite: CipherSuite, context: &FrankingContext) -> Vec<u8> {
    let mut tbs = server_frank.to_vec();
    tbs.extend(cipher_suite.0.to_be_bytes());
    tbs.extend(context.to_bytes());
    let mut out = Vec::with_capacity(tbs.len() + 32);
    write_vector(&mut out, b"MLS 1.0 FrankingIntegrityTBS");
    write_vector(&mut out, &tbs);
    out
}

fn hmac(key: &[u8], message: &[&[u8]]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in message {
        mac.update(part);
    }
    mac
}

/// A vector with its length in the shortest of 1, 2 or 4 bytes (RFC 9420, 2.1.2).
fn write_vector(out: &mut Vec<u8>, bytes: &[u8]) {
    match bytes.len() {
        length @ 0..0x40 => out.push(length as u8),
        length @ 0x40..0x4000 => out.extend((length as u16 | 0x4000).to_be_bytes()),
        // What is longer than 2^30 bytes is no message: MLS could not carry it.
        length => out.extend((length as u32 | 0x8000_0000).to_be_bytes()),
    }
    out.extend_from_slice(bytes);
}

/// The next vector, its length in the shortest form; `None` if there is none.
fn read_vector<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let first = *rest.first()?;
    let width = match first >> 6 {
        0 => 1,
        1 => 2,
        2 => 4,
        _ => return None,
    };
    let (head, tail) = rest.split_at_checked(width)?;
    let length = head.iter().enumerate().fold(0_usize, |length, (at, &byte)| {
        length << 8 | usize::from(if at == 0 { byte & 0x3f } else { byte })
    });
    let shortest = match length {
        0..0x40 => 1,
        0x40..0x4000 => 2,
        _ => 4,
    };
    if shortest != width {
        return None;
    }
    let (vector, after) = tail.split_at_checked(length)?;
    *rest = after;
    Some(vector)
}

#[cfg(test)]
mod tests;
