//! Short texts: names of files, reactions, reasons.

use std::fmt;

use crate::error::Rule;

/// A short text of 1 to 1,024 bytes: a file's name, what somebody reacted with, why something was deleted. As its sender
/// wrote it; [`crate::clean_line`] makes it fit to be shown.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Label(String);

impl Label {
    /// Longest label in bytes. Our own bound.
    pub const MAX_BYTES: usize = 1024;

    /// Takes a text that is neither empty nor too long.
    pub fn new(text: impl Into<String>) -> Result<Self, Rule> {
        let text = text.into();
        if text.is_empty() {
            return Err(Rule::Empty);
        }
        if text.len() > Self::MAX_BYTES {
            return Err(Rule::TooLong { max: Self::MAX_BYTES });
        }
        Ok(Self(text))
    }

    /// The text as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The text as it was written.
impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
