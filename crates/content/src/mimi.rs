//! MIMI content (draft-ietf-mimi-content-08): what MIMI clients say to each other inside MLS messages.
//!
//! A message is a CBOR array of seven fields, encoded deterministically: there is one right encoding, and everything else is refused
//! with an error that names the byte, the field and the rule ([`Malformed`]). Clients only: a hub sees none of it, except in
//! abuse reports ([`franking`]).
//!
//! | Module | What |
//! |---|---|
//! | here | the message ([`MimiContent`]), its parts ([`NestedPart`]), its ID ([`MessageId`]), its bytes field by field ([`outline()`], [`status_outline()`]) |
//! | [`cbor`] | deterministic CBOR values, as extensions carry them |
//! | [`choose`] | which alternatives to process, and in which order |
//! | [`timeline`] | replies, reactions, edits, deletes, topics and expiry over many messages |
//! | [`arrival`] | what is most likely malicious |
//! | [`external`] | content that lies elsewhere, sealed with AES-128-GCM |
//! | [`status`] | `application/mimi-message-status`: delivered, read, … |
//! | [`franking`] | what proves to a hub who sent what, for abuse reports |
//! | [`markdown`] | GFM-MIMI: no HTML, links and mentions |
//! | [`matrix`] | conversion from and to Matrix extensible events |
//!
//! Sending and receiving:
//!
//! ```
//! use nabe_content::mimi::{MimiContent, NestedPart, Origin, Received, Salt};
//!
//! let origin = Origin::new("mimi://example.com/u/alice", "mimi://example.com/r/fish")?;
//! let salt = Salt::from_random([7; 16]); // from the system's generator
//! let content = MimiContent::new(salt, &origin, NestedPart::markdown("I am a __fish__"));
//! let bytes = content.encode()?;
//!
//! // What is on the wire decides the message's ID: it is never encoded again to find it.
//! let received = Received::decode(bytes, origin)?;
//! assert_eq!(received.content(), &content);
//! assert_eq!(received.id().to_string().get(..4), Some("014f"));
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! Malformed bytes:
//!
//! ```
//! use nabe_content::mimi::MimiContent;
//!
//! let error = MimiContent::decode(&[0x87, 0x42, 0, 0]).expect_err("a salt has 16 bytes");
//! assert_eq!(error.to_string(), "salt at byte 1: has 2 bytes, must have 16");
//! ```

pub mod arrival;
pub mod cbor;
pub mod choose;
mod content;
mod error;
mod extensions;
pub mod external;
pub mod franking;
mod id;
pub mod markdown;
pub mod matrix;
mod outline;
mod part;
mod show;
pub mod status;
pub mod timeline;

pub use content::{Expiration, Intent, MimiContent};
pub use error::{Kind, Malformed, Rule};
pub use extensions::{ExtensionKey, Extensions};
pub use id::{Formula, MessageId, Origin, OriginError, Received, Remains, Salt};
pub use outline::{Field, outline, status_outline};
pub use part::{
    ContentHash, Disposition, Encryption, ExternalPart, Languages, MultiPart, NestedPart, Part, PartIndex,
    PartSemantics, Parts, SinglePart, WrongReference, content_id,
};

/// The media type of [`MimiContent`] (MC #mimi-required-and-recommended-media-types).
pub const MEDIA_TYPE: &str = "application/mimi-content";
/// Text without markup, as every MIMI client can read it.
pub const TEXT_PLAIN: &str = "text/plain;charset=utf-8";
/// Markdown as every MIMI client can read it (MC #gfm-mimi).
pub const TEXT_MARKDOWN: &str = "text/markdown;variant=GFM-MIMI";
/// HTML, which not every MIMI client can read.
pub const TEXT_HTML: &str = "text/html;charset=utf-8";

/// What the draft bounds, and what it leaves to local policy.
pub mod limits {
    /// Largest encoded message in bytes. The draft leaves it to local policy.
    pub const MAX_BYTES: usize = 1 << 20;
    /// Most parts in one message, the body itself included (MC #general-handling).
    pub const MAX_PARTS: usize = 1024;
    /// Deepest nesting of parts; the body is at level 1 (MC #depth-restrictions).
    pub const MAX_PART_LEVELS: usize = 4;
    /// Deepest nesting of tags, maps and arrays in extensions; the map of extensions is at level 1 (MC #depth-restrictions).
    pub const MAX_EXTENSION_LEVELS: usize = 4;
    /// Longest `topicId` in bytes (MC #general-handling).
    pub const MAX_TOPIC_BYTES: usize = 4096;
    /// Longest name of an extension in bytes (MC #data-model-restrictions).
    pub const MAX_KEY_BYTES: usize = 255;
    /// Largest key of an extension, 2^53 − 1; the smallest is its negative (MC #data-model-restrictions).
    pub const MAX_KEY: u64 = (1 << 53) - 1;
}

#[cfg(test)]
mod tests;
