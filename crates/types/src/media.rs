//! Names of files that users send (LM #content-repository, which announces them and leaves the rest to Matrix).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A file's name at the server that keeps it, the last part of `mxc://server/media`: 1 to 255 of letters, digits, `-` and `_`.
/// So it is never a path.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct MediaId(Arc<str>);

impl MediaId {
    /// Reads a media ID.
    ///
    /// # Errors
    ///
    /// [`InvalidMediaId`] for any other text.
    pub fn parse(text: &str) -> Result<Self, InvalidMediaId> {
        let allowed = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
        if (1..=MAX_MEDIA_ID_BYTES).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidMediaId)
        }
    }

    /// The ID as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MediaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for MediaId {
    type Err = InvalidMediaId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

/// The text is no media ID.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a media ID has 1 to 255 of letters, digits, `-` and `_`")]
pub struct InvalidMediaId;

/// As for other identifiers.
const MAX_MEDIA_ID_BYTES: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_id_is_never_a_path() {
        let longest = "x".repeat(255);
        for text in ["a", "aB-_9", &longest] {
            assert_eq!(MediaId::parse(text).unwrap().as_str(), text);
        }
        let too_long = "x".repeat(256);
        for text in [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "a\\b",
            "/etc/passwd",
            "a.b",
            "a%2Fb",
            "a\0",
            "é",
            "a b",
            &too_long,
        ] {
            assert_eq!(MediaId::parse(text), Err(InvalidMediaId), "{text:?}");
        }
    }
}
