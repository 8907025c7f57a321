//! URIs on the wire, and the notional `mimi:` URIs of providers, users, clients, rooms and groups (MIMI #introduction).
//!
//! Two stages: [`IdentifierUri`] is what a struct holds and is checked for nothing but being text of bounded length,
//! since the draft leaves open what identifiers look like. [`MimiUri`] is the form that the draft's examples use,
//! parsed.

use std::fmt;
use std::ops::Deref;

use crate::codec::{Decode, DecodeError, Encode, Reader, Rule, Text};

/// The longest URI that is read, in bytes.
pub const MAX_URI_LEN: usize = 1024;

/// `IdentifierUri` and `Uri`: up to [`MAX_URI_LEN`] bytes of UTF-8. Empty where the draft lets a URI be left out.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct IdentifierUri(String);

impl IdentifierUri {
    /// The URI, or `None` if it is longer than [`MAX_URI_LEN`] bytes.
    pub fn new(uri: impl Into<String>) -> Option<Self> {
        let uri = uri.into();
        (uri.len() <= MAX_URI_LEN).then_some(Self(uri))
    }

    /// What `opaque uri<V>` is where there is no URI.
    pub fn absent() -> Self {
        Self::default()
    }

    /// The URI as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Encode for IdentifierUri {
    fn encode(&self, out: &mut Vec<u8>) {
        crate::codec::encode_length(self.0.len(), out);
        out.extend_from_slice(self.0.as_bytes());
    }
}

impl Decode for IdentifierUri {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let start = reader.position();
        let Text(uri) = Text::decode(reader)?;
        if uri.len() > MAX_URI_LEN {
            let (length, max) = (uri.len(), MAX_URI_LEN);
            return Err(DecodeError::new(start, Rule::TooLong { length, max }));
        }
        Ok(Self(uri))
    }
}

impl Deref for IdentifierUri {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for IdentifierUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `Uri` of the room metadata and the policies: empty, or a scheme, a colon and characters that RFC 3986 allows.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Uri(IdentifierUri);

impl Uri {
    /// The URI, or `None` if it is too long or no URI.
    pub fn new(uri: impl Into<String>) -> Option<Self> {
        let uri = IdentifierUri::new(uri)?;
        (uri.is_empty() || looks_like_a_uri(&uri)).then_some(Self(uri))
    }
}

impl Encode for Uri {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
}

impl Decode for Uri {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let start = reader.position();
        let uri = IdentifierUri::decode(reader)?;
        if !uri.is_empty() && !looks_like_a_uri(&uri) {
            return Err(DecodeError::new(start, Rule::NotUri));
        }
        Ok(Self(uri))
    }
}

impl Deref for Uri {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// RFC 3986: a scheme, a colon, then nothing but reserved and unreserved characters and whole percent-encoded octets.
fn looks_like_a_uri(uri: &str) -> bool {
    let Some((scheme, rest)) = uri.split_once(':') else {
        return false;
    };
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
        && only_uri_characters(rest, b"-._~:/?#[]@!$&'()*+,;=")
}

pub(crate) fn only_uri_characters(text: &str, besides_alphanumeric: &[u8]) -> bool {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let allowed = match byte {
            b'%' => (0..2).all(|_| bytes.next().is_some_and(|digit| digit.is_ascii_hexdigit())),
            _ => byte.is_ascii_alphanumeric() || besides_alphanumeric.contains(&byte),
        };
        if !allowed {
            return false;
        }
    }
    true
}

/// What a `mimi:` URI names.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum MimiKind {
    /// `mimi://host`
    Provider,
    /// `mimi://host/u/…`
    User,
    /// `mimi://host/d/…`
    Client,
    /// `mimi://host/r/…`
    Room,
    /// `mimi://host/g/…`
    Group,
}

/// A `mimi:` URI in the form of the draft's examples: lower-case scheme, a DNS name without port or user, at most one
/// kind and a path below it, neither query nor fragment. Two are equal if they are byte for byte, the host in lower case.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct MimiUri {
    kind: MimiKind,
    host: String,
    rest: String,
}

/// Why a text is no [`MimiUri`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum MimiUriError {
    /// Longer than [`MAX_URI_LEN`].
    #[error("a URI has at most {MAX_URI_LEN} bytes")]
    TooLong,
    /// It does not begin with `mimi://`.
    #[error("does not begin with mimi://")]
    Scheme,
    /// The authority is no DNS name: an address, a port, a user, an empty or overlong label.
    #[error("the authority is no DNS name")]
    Host,
    /// The path is not one of a letter that the draft knows and a name below it.
    #[error("the path is not /u/, /d/, /r/ or /g/ and a name")]
    Path,
}

impl MimiUri {
    /// Parses the form above.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(uri: &str) -> Result<Self, MimiUriError> {
        if uri.len() > MAX_URI_LEN {
            return Err(MimiUriError::TooLong);
        }
        let rest = uri.strip_prefix("mimi://").ok_or(MimiUriError::Scheme)?;
        let (host, path) = rest
            .split_once('/')
            .map_or((rest, None), |(host, path)| (host, Some(path)));
        let host = host.to_ascii_lowercase();
        if !is_dns_name(&host) {
            return Err(MimiUriError::Host);
        }
        let Some(path) = path else {
            let (kind, rest) = (MimiKind::Provider, String::new());
            return Ok(Self { kind, host, rest });
        };
        let (kind, rest) = path.split_once('/').ok_or(MimiUriError::Path)?;
        let kind = match kind {
            "u" => MimiKind::User,
            "d" => MimiKind::Client,
            "r" => MimiKind::Room,
            "g" => MimiKind::Group,
            _ => return Err(MimiUriError::Path),
        };
        let whole = rest.split('/').all(|segment| !segment.is_empty());
        if rest.len() > 255 || !whole || !only_uri_characters(rest, b"-._~!$&'()*+,;=:@/") {
            return Err(MimiUriError::Path);
        }
        let rest = rest.to_owned();
        Ok(Self { kind, host, rest })
    }

    /// What it names.
    pub fn kind(&self) -> MimiKind {
        self.kind
    }

    /// The provider's domain, in lower case.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// What stands behind the kind, still percent-encoded; empty for a provider.
    pub fn name(&self) -> &str {
        &self.rest
    }
}

impl fmt::Display for MimiUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            MimiKind::Provider => return write!(f, "mimi://{}", self.host),
            MimiKind::User => 'u',
            MimiKind::Client => 'd',
            MimiKind::Room => 'r',
            MimiKind::Group => 'g',
        };
        write!(f, "mimi://{}/{kind}/{}", self.host, self.rest)
    }
}

/// Letters, digits and hyphens in labels of 1 to 63 bytes, 253 in all, and no address: the last label is not all digits.
fn is_dns_name(host: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = host.rsplit('.').next().unwrap_or_default();
    host.len() <= 253 && host.split('.').all(label) && !last.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Message;

    #[test]
    fn each_kind_is_told_by_its_path() {
        for (uri, kind, name) in [
            ("mimi://a.example", MimiKind::Provider, ""),
            ("mimi://a.example/u/alice", MimiKind::User, "alice"),
            ("mimi://a.example/d/alice/0003", MimiKind::Client, "alice/0003"),
            ("mimi://a.example/r/club%20house", MimiKind::Room, "club%20house"),
            ("mimi://a.example/g/clubhouse", MimiKind::Group, "clubhouse"),
        ] {
            let parsed = MimiUri::parse(uri).unwrap();
            assert_eq!((parsed.kind(), parsed.host(), parsed.name()), (kind, "a.example", name));
            assert_eq!(parsed.to_string(), uri);
        }
    }

    #[test]
    fn only_the_host_is_compared_without_case() {
        assert_eq!(
            MimiUri::parse("mimi://A.Example/u/Alice").unwrap().to_string(),
            "mimi://a.example/u/Alice"
        );
    }

    #[test]
    fn other_forms_are_refused() {
        for (uri, error) in [
            ("MIMI://a.example/u/a", MimiUriError::Scheme),
            ("https://a.example", MimiUriError::Scheme),
            ("mimi://a.example:443/u/a", MimiUriError::Host),
            ("mimi://me@a.example/u/a", MimiUriError::Host),
            ("mimi://10.0.0.1/u/a", MimiUriError::Host),
            ("mimi://[::1]/u/a", MimiUriError::Host),
            ("mimi:///u/a", MimiUriError::Host),
            ("mimi://-a.example", MimiUriError::Host),
            ("mimi://a.example/", MimiUriError::Path),
            ("mimi://a.example/u", MimiUriError::Path),
            ("mimi://a.example/u/", MimiUriError::Path),
            ("mimi://a.example/x/a", MimiUriError::Path),
            ("mimi://a.example/u/a?b", MimiUriError::Path),
            ("mimi://a.example/u/a#b", MimiUriError::Path),
            ("mimi://a.example/u/a%2", MimiUriError::Path),
            ("mimi://a.example/u/ä", MimiUriError::Path),
            ("mimi://a.example/d/alice//1", MimiUriError::Path),
        ] {
            assert_eq!(MimiUri::parse(uri), Err(error), "{uri}");
        }
        assert_eq!(
            MimiUri::parse(&format!("mimi://a.example/u/{}", "a".repeat(256))),
            Err(MimiUriError::Path)
        );
        assert_eq!(
            MimiUri::parse(&format!("mimi://a.example/u/{}", "a".repeat(1024))),
            Err(MimiUriError::TooLong)
        );
    }

    #[test]
    fn a_uri_longer_than_the_limit_is_refused_at_its_length() {
        let long = IdentifierUri("a".repeat(MAX_URI_LEN + 1)).to_bytes();
        let error = IdentifierUri::from_bytes(&long).unwrap_err();
        assert_eq!(error.offset(), 0);
        assert_eq!(
            error.rule(),
            Rule::TooLong {
                length: 1025,
                max: 1024
            }
        );
        assert!(IdentifierUri::new("a".repeat(MAX_URI_LEN + 1)).is_none());
        assert!(IdentifierUri::from_bytes(&IdentifierUri("a".repeat(MAX_URI_LEN)).to_bytes()).is_ok());
    }

    #[test]
    fn a_uri_of_the_metadata_has_a_scheme_and_no_spaces() {
        for uri in ["", "https://a.example/x?y#z", "urn:x", "mimi://a.example/r/x"] {
            assert_eq!(&*Uri::new(uri).unwrap(), uri);
        }
        for uri in [
            "a.example",
            ":x",
            "1a:x",
            "https://a.example/a b",
            "https://a/%zz",
            "https://ä.example",
        ] {
            assert!(Uri::new(uri).is_none(), "{uri}");
            let bytes = IdentifierUri(uri.to_owned()).to_bytes();
            assert_eq!(Uri::from_bytes(&bytes).unwrap_err().rule(), Rule::NotUri, "{uri}");
        }
    }
}
