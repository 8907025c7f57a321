//! Media types (RFC 6838) as messages use them.

use std::fmt;

use crate::error::Rule;

/// A media type, `text/plain` or `audio/ogg; codecs=opus`, at most 255 bytes of printable ASCII. Type and subtype are kept in
/// lower case, parameters as they were written.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct MediaType {
    text: String,
    /// Length of `type/subtype` in `text`.
    essence: usize,
}

impl MediaType {
    /// Longest media type in bytes, parameters included: two names of RFC 6838's 127 characters and the slash.
    pub const MAX_BYTES: usize = 255;

    /// Reads a media type.
    pub fn parse(text: &str) -> Result<Self, Rule> {
        let text = text.trim_matches([' ', '\t']);
        let (essence, parameters) = text.split_at(text.find(';').unwrap_or(text.len()));
        let essence = essence.trim_end_matches([' ', '\t']);
        let (kind, subtype) = essence.split_once('/').ok_or(Rule::NotAMediaType)?;
        let printable = parameters.bytes().all(|c| matches!(c, b' '..=b'~'));
        if text.len() > Self::MAX_BYTES || !is_name(kind) || !is_name(subtype) || !printable {
            return Err(Rule::NotAMediaType);
        }
        Ok(Self {
            text: format!("{}{parameters}", essence.to_ascii_lowercase()),
            essence: essence.len(),
        })
    }

    /// `text/plain`
    #[must_use]
    pub fn text_plain() -> Self {
        Self::constant("text/plain")
    }

    /// `text/html`
    #[must_use]
    pub fn text_html() -> Self {
        Self::constant("text/html")
    }

    /// Type and subtype without parameters, in lower case.
    #[must_use]
    pub fn essence(&self) -> &str {
        &self.text[..self.essence]
    }

    /// The whole media type.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn constant(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            essence: text.len(),
        }
    }
}

/// The whole media type.
impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A restricted name of RFC 6838, 4.2.
fn is_name(name: &str) -> bool {
    name.len() <= 127
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_space_around_the_essence_do_not_matter() {
        assert_eq!(
            MediaType::parse(" Text/HTML ; Charset=utf-8").unwrap().as_str(),
            "text/html; Charset=utf-8"
        );
        assert_eq!(MediaType::parse("Text/HTML").unwrap(), MediaType::text_html());
        let message = MediaType::parse("application/vnd.exampleorg.message+html").unwrap();
        assert_eq!(message.essence(), message.as_str());
    }

    #[test]
    fn what_is_no_media_type_is_refused() {
        let long = format!("text/{}", "x".repeat(128));
        for text in [
            "",
            "text",
            "text/",
            "/plain",
            "te xt/plain",
            "text/plain\n",
            "text/é",
            "text/plain;\u{7}",
            "*/*",
            &long,
        ] {
            assert_eq!(MediaType::parse(text), Err(Rule::NotAMediaType), "{text:?}");
        }
    }
}
