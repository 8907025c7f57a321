//! The structs of MIMI on the wire, and of the MLS they carry: read exactly, written back byte for byte.
//!
//! MIMI's bodies are written in TLS's presentation language (MIMI #mimi-endpoints-and-framing), and MLS objects stand
//! in them without a length. This crate knows where each of them ends. It knows nothing of HTTP, of rooms, or of who
//! may do what, and depends on no server code: use it by itself wherever MIMI is spoken.
//!
//! # Reading and writing
//!
//! Everything that stands for itself is a [`Message`]: [`Message::from_bytes`] reads all of an input or says where it
//! breaks, [`Encode::to_bytes`] writes it.
//!
//! ```
//! use nabe_wire::update::{UpdateRoomResponse, UpdateVerdict};
//! use nabe_wire::{Encode, Message};
//!
//! let response = UpdateRoomResponse::wrong_epoch(7, "stale epoch");
//! let bytes = response.to_bytes();
//! assert_eq!(bytes, b"\x01\x0bstale epoch\0\0\0\0\0\0\0\x07");
//!
//! let read = UpdateRoomResponse::from_bytes(&bytes)?;
//! assert_eq!(read.verdict, UpdateVerdict::WrongEpoch { current_epoch: 7 });
//! # Ok::<(), nabe_wire::DecodeError>(())
//! ```
//!
//! An error names the byte, the field and the rule. Here the epoch is cut off:
//!
//! ```
//! use nabe_wire::update::UpdateRoomResponse;
//! use nabe_wire::{Message, Rule};
//!
//! let error = UpdateRoomResponse::from_bytes(b"\x01\x00\x00\x00").unwrap_err();
//! assert_eq!(error.offset(), 2);
//! assert_eq!(error.field(), "current_epoch");
//! assert_eq!(error.rule(), Rule::Truncated { needed: 8, left: 2 });
//! assert_eq!(error.to_string(), "byte 2, field current_epoch: needs 8 bytes, 2 are left");
//! ```
//!
//! [`Message::trace`] tells of every field with offset, length and value, and [`Kind`] does so for bytes of which only
//! the type's name is known:
//!
//! ```
//! let kind = nabe_wire::Kind::named("UpdateRoomResponse").expect("a struct of MIMI");
//! let leaves = kind.read(b"\x02\x04nope").trace.leaves();
//! assert_eq!(leaves[0].value.to_string(), "2 notAllowed");
//! assert_eq!((leaves[1].field.as_str(), leaves[1].offset, leaves[1].length), ("error_description", 1, 5));
//! ```
//!
//! # What is kept
//!
//! A number that is not known is a value like any other: `UpdateResponseCode(9)` reads, and writes itself again. MLS
//! objects come in [`Kept`], which has the very bytes that were read: they are what OpenMLS is given, what is hashed,
//! and what is fanned out.
//!
//! # Signatures and sealing
//!
//! What is signed with a label is made by signing and read by checking, so that nobody forgets to. A request for key
//! packages, over the cryptography of any OpenMLS provider:
//!
//! ```
//! use nabe_wire::key_material::{KeyMaterialQuery, KeyMaterialRequest, KeyMaterialRequestTbs};
//! use nabe_wire::mls::{CipherSuite, Credential, RequiredCapabilities};
//! use nabe_wire::{Encode, IdentifierUri, Message};
//! use openmls_basic_credential::SignatureKeyPair;
//! use openmls_rust_crypto::OpenMlsRustCrypto;
//! use openmls_traits::OpenMlsProvider;
//!
//! let suite = CipherSuite::X25519_AES128GCM_SHA256_ED25519;
//! let keys = SignatureKeyPair::new(suite.signature_scheme().expect("a known suite"))?;
//! let uri = |uri: &str| IdentifierUri::new(uri).expect("a short URI");
//! let request = KeyMaterialRequestTbs {
//!     requesting_user: uri("mimi://a.example/u/alice"),
//!     target_user: uri("mimi://b.example/u/bob"),
//!     room_id: uri("mimi://a.example/r/clubhouse"),
//!     query: KeyMaterialQuery {
//!         acceptable_ciphersuites: vec![suite],
//!         required_capabilities: RequiredCapabilities {
//!             extension_types: vec![],
//!             proposal_types: vec![],
//!             credential_types: vec![],
//!         },
//!         requester_signature_key: keys.public().into(),
//!         requester_credential: Credential::Basic { identity: b"mimi://a.example/d/alice/1".as_slice().into() },
//!     },
//! }
//! .sign(&keys)?;
//!
//! let received = KeyMaterialRequest::from_bytes(&request.to_bytes())?;
//! let verified = received.verify(OpenMlsRustCrypto::default().crypto())?;
//! assert_eq!(&*verified.tbs.target_user, "mimi://b.example/u/bob");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Where things are
//!
//! - a module for each endpoint: [`key_material`], [`update`], [`submit_message`], [`notify`], [`group_info`],
//!   [`consent`], [`identifier_query`], [`report_abuse`]; what they share: [`protocol`], [`franking`], [`uri`],
//!   [`pseudonym`]; where they are: [`directory`]
//! - the room's state: [`participant_list`], [`room_metadata`], [`policy`], and what MLS carries it in: [`app_data`]
//! - [`mls`]: RFC 9420 and the drafts beside it
//! - [`codec`]: how all of it is read; [`label`]: how it is signed and sealed; [`KINDS`]: everything by name

pub mod app_data;
pub mod codec;
pub mod consent;
pub mod directory;
pub mod franking;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod group_info;
pub mod identifier_query;
pub mod key_material;
mod kinds;
pub mod label;
pub mod mls;
pub mod notify;
pub mod participant_list;
pub mod policy;
pub mod protocol;
pub mod pseudonym;
pub mod report_abuse;
pub mod room_metadata;
pub mod submit_message;
#[cfg(test)]
mod testing;
pub mod update;
pub mod uri;

pub use codec::{Decode, DecodeError, Encode, Kept, Message, Reader, Rule, Trace};
pub use kinds::{KINDS, Kind, Reading};
pub use label::Verified;
pub use uri::IdentifierUri;

#[cfg(test)]
mod vectors;
