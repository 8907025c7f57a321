//! Ed25519 keys and signatures (LM #int-signing), as strict as RFC 8032 allows: canonical `S`, no small-order points,
//! canonical point encodings. The draft leaves the variant open; every verifier agrees on what passes this one.

use std::fmt;

use ed25519_dalek::Signer as _;
use nabe_types::KeyId;

use crate::base64u::{self, InvalidBase64};

/// A private key and its ID. The secret is overwritten in memory when dropped and never printed by `Debug`.
#[derive(Clone)]
pub struct SigningKey {
    key_id: KeyId,
    key: ed25519_dalek::SigningKey,
}

impl SigningKey {
    /// The key of a 32-byte seed (RFC 8032, 5.1.5).
    #[must_use]
    pub fn from_seed(key_id: KeyId, seed: [u8; 32]) -> Self {
        Self {
            key_id,
            key: ed25519_dalek::SigningKey::from_bytes(&seed),
        }
    }

    /// A new key from 32 fresh bytes of a cryptographic random generator.
    #[must_use]
    pub fn generate(key_id: KeyId, random: [u8; 32]) -> Self {
        Self::from_seed(key_id, random)
    }

    /// The key's ID.
    #[must_use]
    pub const fn key_id(&self) -> &KeyId {
        &self.key_id
    }

    /// The key others verify with.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.key.verifying_key())
    }

    /// Signs `message`; the same key and message always give the same signature.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature(self.key.sign(message).to_bytes())
    }

    /// Reads a key file: one line `ed25519 <version> <base64 of the seed>`, white space around it ignored.
    pub fn parse_file(text: &str) -> Result<Self, KeyFileError> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let (Some(line), None) = (lines.next(), lines.next()) else {
            return Err(KeyFileError::Form);
        };
        let mut words = line.split_ascii_whitespace();
        let (Some(algorithm), Some(version), Some(seed), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(KeyFileError::Form);
        };
        if algorithm != KeyId::ED25519 {
            return Err(KeyFileError::Algorithm);
        }
        let key_id = KeyId::ed25519(version).map_err(|_| KeyFileError::Version)?;
        let seed = base64u::decode_exact(seed).map_err(|_| KeyFileError::Seed)?;
        Ok(Self::from_seed(key_id, seed))
    }

    /// The content of a key file, with a line end. It holds the secret: write it where only the server reads.
    #[must_use]
    pub fn to_file_string(&self) -> String {
        let seed = base64u::encode(self.key.as_bytes());
        format!("{} {} {seed}\n", self.key_id.algorithm(), self.key_id.version())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

/// Why a key file cannot be read. Carries nothing of the file, which holds a secret.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeyFileError {
    /// Not exactly one line of three words.
    #[error("not one line `ed25519 <version> <seed>`")]
    Form,
    /// The first word is not `ed25519`.
    #[error("not an ed25519 key")]
    Algorithm,
    /// The second word is not a key version.
    #[error("the version is not letters, digits and underscores")]
    Version,
    /// The third word is not 32 bytes of base64.
    #[error("the seed is not 32 bytes of base64")]
    Seed,
}

/// A public key that is safe to verify with. Printed as unpadded base64.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct PublicKey(ed25519_dalek::VerifyingKey);

impl PublicKey {
    /// Reads 32 bytes. Refuses what is not a point, has small order, or is not the point's only encoding.
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, PublicKeyError> {
        if !is_canonical_point(&bytes) {
            return Err(PublicKeyError::NonCanonical);
        }
        let key = ed25519_dalek::VerifyingKey::from_bytes(&bytes).map_err(|_| PublicKeyError::NotAPoint)?;
        if key.is_weak() {
            return Err(PublicKeyError::SmallOrder);
        }
        Ok(Self(key))
    }

    /// Reads base64, padded or not.
    pub fn from_base64(text: &str) -> Result<Self, PublicKeyError> {
        Self::from_bytes(base64u::decode_exact(text)?)
    }

    /// The 32 bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// Unpadded base64.
    #[must_use]
    pub fn to_base64(self) -> String {
        base64u::encode(self.0.as_bytes())
    }

    /// Checks `signature` over `message`; fails with [`SignatureError::Invalid`].
    pub fn verify(&self, message: &[u8], signature: &Signature) -> Result<(), SignatureError> {
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        self.0
            .verify_strict(message, &signature)
            .map_err(|_| SignatureError::Invalid)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_base64())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

/// Why bytes are not a public key we trust.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PublicKeyError {
    /// Not 32 bytes of base64.
    #[error("not 32 bytes of base64")]
    Base64(#[from] InvalidBase64),
    /// A second encoding of a point that has a shorter one.
    #[error("not a canonical encoding")]
    NonCanonical,
    /// Not on the curve.
    #[error("not a point on the curve")]
    NotAPoint,
    /// A point under which one signature fits many messages.
    #[error("a point of small order")]
    SmallOrder,
}

/// The 64 bytes of a signature, not yet checked. Printed as unpadded base64.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Signature([u8; 64]);

impl Signature {
    /// Takes 64 bytes as they are.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// Reads base64, padded or not.
    pub fn from_base64(text: &str) -> Result<Self, InvalidBase64> {
        base64u::decode_exact(text).map(Self)
    }

    /// The 64 bytes.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 64] {
        self.0
    }

    /// Unpadded base64.
    #[must_use]
    pub fn to_base64(self) -> String {
        base64u::encode(&self.0)
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_base64())
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({self})")
    }
}

/// Why a signature check fails (LM #int-checking-signatures).
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SignatureError {
    /// There is no `signatures`.
    #[error("no `signatures`")]
    Missing,
    /// `signatures`, or what it has for the entity, is not of the form entity → key ID → string.
    #[error("`signatures` is malformed")]
    Malformed,
    /// The entity has not signed.
    #[error("no signature by the expected entity")]
    EntityAbsent,
    /// None of the entity's signatures names a key we know.
    #[error("no signature by a known key")]
    NoKnownKey,
    /// A known key's signature is not 64 bytes of base64.
    #[error("a signature is not 64 bytes of base64")]
    Base64,
    /// A known key's signature does not fit the message.
    #[error("a signature does not verify")]
    Invalid,
}

/// Whether the y coordinate is below 2^255 − 19. (The other redundant encoding, x = 0 with a sign, is of small order.)
fn is_canonical_point(bytes: &[u8; 32]) -> bool {
    let [first, middle @ .., last] = bytes;
    last & 0x7f != 0x7f || middle.iter().any(|&byte| byte != 0xff) || *first < 0xed
}

#[cfg(test)]
mod tests;
