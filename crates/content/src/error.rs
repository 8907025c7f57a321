//! Why a message is not one we understand.

use nabe_signing::JsonError;

/// Why bytes or an object are not a message. Carries nothing of the message's text.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ContentError {
    /// Not JSON at all.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// One field breaks one rule.
    #[error("{field}: {rule}")]
    Field {
        /// The field as a JSON pointer (RFC 6901) into what was read: `/m.text/0/body` of a content,
        /// `/content/m.text/0/body` of a payload.
        field: String,
        /// The rule it breaks.
        rule: Rule,
    },
}

/// The rules a field of a message can break.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Rule {
    /// The field must be there.
    #[error("missing")]
    Missing,
    /// Must be an object.
    #[error("not an object")]
    NotAnObject,
    /// Must be an array.
    #[error("not an array")]
    NotAnArray,
    /// Must be a string.
    #[error("not a string")]
    NotAString,
    /// Must be a list of bodies, or in the draft's older form a string.
    #[error("neither a list of bodies nor a string")]
    NotText,
    /// Must be a whole number from 0 to `max`.
    #[error("not a whole number from 0 to {max}")]
    NotANumber {
        /// The largest number allowed.
        max: u64,
    },
    /// Must have content.
    #[error("empty")]
    Empty,
    /// A string over its limit.
    #[error("longer than {max} bytes")]
    TooLong {
        /// The limit in bytes.
        max: usize,
    },
    /// A list over its limit.
    #[error("more than {max} entries")]
    TooMany {
        /// The limit in entries.
        max: usize,
    },
    /// Must be an event ID.
    #[error("not an event ID")]
    NotAnEventId,
    /// Must be `mxc://server/media`.
    #[error("not a content URL (mxc://server/media)")]
    NotAContentUrl,
    /// Must be a media type, `text/plain`.
    #[error("not a media type")]
    NotAMediaType,
    /// Must be unpadded base64 of so many bytes.
    #[error("not base64 of {bytes} bytes")]
    NotBase64 {
        /// How many bytes it must be.
        bytes: usize,
    },
    /// Must be this word.
    #[error("not `{expected}`")]
    NotTheWord {
        /// The only word allowed.
        expected: &'static str,
    },
}
