//! What Linearized Matrix signs and how: canonical JSON (LM #int-canonical-json), unpadded base64
//! (LM #int-unpadded-base64), Ed25519 over objects (LM #int-signing), requests (LM #int-transport-auth) and published
//! keys (LM #int-transport-get-server-keys).
//!
//! Pure functions: time and random bytes come in as arguments, nothing is fetched. Events and their redaction belong
//! to `nabe-event`.

pub mod base64u;
mod ed25519;
pub mod fuzzing;
mod hash;
pub mod json;
pub mod keys;
mod sign;
pub mod xmatrix;

pub use ed25519::{KeyFileError, PublicKey, PublicKeyError, Signature, SignatureError, SigningKey};
pub use hash::sha256;
pub use json::{Json, JsonError, Number, Object};
pub use keys::{KeySet, ServerKeys, VerifyKey};
pub use sign::{KeyMap, NoSigningKey, Signer, insert_signature, verify_object, verify_object_with, verify_signatures};
pub use xmatrix::XMatrix;
