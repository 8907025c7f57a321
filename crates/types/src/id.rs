//! Identifiers of LM #int-server-names, #int-room-id, #int-room-versions, #int-user-id, #int-device-id, #int-pdu and
//! #int-signing. All compare case-sensitively, byte by byte, and clone without copying their text.

use std::borrow::{Borrow, Cow};
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::limits::{MAX_HOST_CHARS, MAX_HOST_LABEL_CHARS, MAX_ID_BYTES, MAX_ROOM_VERSION_CHARS};

/// A server's name: a DNS host name and optionally a port, `example.org` or `example.org:8448`
/// (LM #int-server-names). Never an IP address literal. Names that differ in case name different servers.
#[derive(Clone)]
pub struct ServerName {
    text: Arc<str>,
    port: Option<u16>,
}

impl ServerName {
    /// Reads a server name: RFC 1123 labels of 1 to 63 letters, digits and inner hyphens, host at most 255
    /// characters, last label not all digits, port 1 to 65535.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        Self::parse_as(IdKind::ServerName, text)
    }

    /// The name without its port.
    #[must_use]
    pub fn host(&self) -> &str {
        self.text.split_once(':').map_or(&*self.text, |(host, _)| host)
    }

    /// The explicit port, which the draft discourages.
    #[must_use]
    pub const fn port(&self) -> Option<u16> {
        self.port
    }

    fn parse_as(kind: IdKind, text: &str) -> Result<Self, InvalidId> {
        if text.starts_with('[') || text.bytes().filter(|&c| c == b':').count() > 1 {
            return Err(kind.broke(IdRule::IpLiteral));
        }
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(parse_port(port).map_err(|rule| kind.broke(rule))?)),
            None => (text, None),
        };
        check_host(host).map_err(|rule| kind.broke(rule))?;
        Ok(Self {
            text: text.into(),
            port,
        })
    }
}

/// A room's permanent ID, `!opaque:example.org` (LM #int-room-id), at most 255 characters. The server in it is a
/// namespace and says nothing about the room's hub.
#[derive(Clone)]
pub struct RoomId {
    text: Arc<str>,
    server: ServerName,
}

impl RoomId {
    /// Reads a room ID.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        let server = parse_namespaced(IdKind::RoomId, '!', text, |c| {
            c.is_ascii_alphanumeric() || b"-.~_".contains(&c)
        })?;
        Ok(Self {
            text: text.into(),
            server,
        })
    }

    /// The part between `!` and the first `:`.
    #[must_use]
    pub fn localpart(&self) -> &str {
        localpart(&self.text)
    }

    /// The server in whose namespace the ID was made.
    #[must_use]
    pub const fn server_name(&self) -> &ServerName {
        &self.server
    }
}

/// A user's ID, `@alice:example.org` (LM #int-user-id), at most 255 characters, no upper-case localpart. `/` is
/// legal in it, so it must be escaped in a path.
#[derive(Clone)]
pub struct UserId {
    text: Arc<str>,
    server: ServerName,
}

impl UserId {
    /// Reads a user ID.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        let is_localpart = |c: u8| c.is_ascii_digit() || c.is_ascii_lowercase() || b"-.=_/+".contains(&c);
        let server = parse_namespaced(IdKind::UserId, '@', text, is_localpart)?;
        Ok(Self {
            text: text.into(),
            server,
        })
    }

    /// The part between `@` and the first `:`.
    #[must_use]
    pub fn localpart(&self) -> &str {
        localpart(&self.text)
    }

    /// The server the user belongs to.
    #[must_use]
    pub const fn server_name(&self) -> &ServerName {
        &self.server
    }
}

/// An event's ID: `$` and the unpadded URL-safe base64 of the 32-byte reference hash, 44 characters in all
/// (LM #int-pdu).
#[derive(Clone)]
pub struct EventId {
    text: Arc<str>,
}

impl EventId {
    /// Reads an event ID.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        let kind = IdKind::EventId;
        let hash = text.strip_prefix('$').ok_or_else(|| kind.broke(IdRule::Sigil))?;
        if hash.len() != EVENT_HASH_CHARS {
            return Err(kind.broke(IdRule::Length));
        }
        check_chars(kind, hash, |c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_')?;
        Ok(Self { text: text.into() })
    }

    /// The ID of the event with this reference hash (LM #int-reference-hashes).
    #[must_use]
    pub fn from_hash(hash: [u8; 32]) -> Self {
        let mut text = String::with_capacity(1 + EVENT_HASH_CHARS);
        text.push('$');
        for group in hash.chunks(3) {
            let bits = group.iter().fold(0_u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - group.len()));
            for sextet in 0..=group.len() {
                text.push(char::from(URL_SAFE[(bits >> (18 - 6 * sextet) & 63) as usize]));
            }
        }
        Self { text: text.into() }
    }
}

/// A device's ID, 1 to 255 letters, digits and underscores (LM #int-device-id); also the version in the ID of the
/// device's key.
#[derive(Clone)]
pub struct DeviceId {
    text: Arc<str>,
}

impl DeviceId {
    /// Reads a device ID.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        let kind = IdKind::DeviceId;
        check_length(kind, text, MAX_ID_BYTES)?;
        check_chars(kind, text, is_key_version)?;
        Ok(Self { text: text.into() })
    }
}

/// A key's ID, `algorithm:version` (LM #int-signing). Server keys have the algorithm `ed25519`; device keys have
/// longer names, so anything before the last colon is the algorithm.
#[derive(Clone)]
pub struct KeyId {
    text: Arc<str>,
}

impl KeyId {
    /// The algorithm of every server key.
    pub const ED25519: &'static str = "ed25519";

    /// Reads a key ID of any algorithm, at most 255 characters.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        let kind = IdKind::KeyId;
        check_length(kind, text, MAX_ID_BYTES)?;
        let (algorithm, version) = text.rsplit_once(':').ok_or_else(|| kind.broke(IdRule::Colon))?;
        if algorithm.is_empty() || version.is_empty() {
            return Err(kind.broke(IdRule::Empty));
        }
        check_chars(kind, algorithm, |c| c.is_ascii_alphanumeric() || b"._-:".contains(&c))?;
        check_chars(kind, version, is_key_version)?;
        Ok(Self { text: text.into() })
    }

    /// The ID of the server key with this version: `ed25519:<version>`.
    pub fn ed25519(version: &str) -> Result<Self, InvalidId> {
        Self::parse(&format!("{}:{version}", Self::ED25519))
    }

    /// The part before the last colon.
    #[must_use]
    pub fn algorithm(&self) -> &str {
        self.parts().0
    }

    /// The part after the last colon.
    #[must_use]
    pub fn version(&self) -> &str {
        self.parts().1
    }

    /// Whether this names a server key.
    #[must_use]
    pub fn is_ed25519(&self) -> bool {
        self.algorithm() == Self::ED25519
    }

    fn parts(&self) -> (&str, &str) {
        self.text.rsplit_once(':').expect("`parse` found a colon")
    }
}

/// A room version's name, 1 to 128 of `a-z`, digits, `-` and `.` (LM #int-room-versions). The draft's own `I.1` does
/// not match that grammar; the prefix `I.` is allowed besides it.
#[derive(Clone)]
pub struct RoomVersionId {
    text: Arc<str>,
}

impl RoomVersionId {
    /// Reads a room version, supported or not.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        let kind = IdKind::RoomVersionId;
        check_length(kind, text, MAX_ROOM_VERSION_CHARS)?;
        let rest = text.strip_prefix("I.").unwrap_or(text);
        if rest.is_empty() {
            return Err(kind.broke(IdRule::Empty));
        }
        check_chars(kind, rest, |c| {
            c.is_ascii_digit() || c.is_ascii_lowercase() || c == b'-' || c == b'.'
        })?;
        Ok(Self { text: text.into() })
    }
}

/// A sender's name for one request, so that repeating it does nothing (LM #int-txn-ids): 1 to 255 bytes without
/// control characters. The draft gives no grammar; both bounds are ours.
#[derive(Clone)]
pub struct TransactionId {
    text: Arc<str>,
}

impl TransactionId {
    /// Reads a transaction ID, after percent-decoding.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        let kind = IdKind::TransactionId;
        check_length(kind, text, MAX_ID_BYTES)?;
        if text.chars().any(char::is_control) {
            return Err(kind.broke(IdRule::Character));
        }
        Ok(Self { text: text.into() })
    }
}

/// Why text is not the identifier it should be. Carries nothing of the text itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("invalid {kind}: {rule}")]
pub struct InvalidId {
    /// What the text should have been.
    pub kind: IdKind,
    /// The first rule it breaks.
    pub rule: IdRule,
}

/// The kinds of identifier, for error messages.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum IdKind {
    /// [`ServerName`]
    ServerName,
    /// [`RoomId`]
    RoomId,
    /// [`UserId`]
    UserId,
    /// [`EventId`]
    EventId,
    /// [`DeviceId`]
    DeviceId,
    /// [`KeyId`]
    KeyId,
    /// [`RoomVersionId`]
    RoomVersionId,
    /// [`TransactionId`]
    TransactionId,
}

impl IdKind {
    const fn broke(self, rule: IdRule) -> InvalidId {
        InvalidId { kind: self, rule }
    }
}

impl fmt::Display for IdKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ServerName => "server name",
            Self::RoomId => "room ID",
            Self::UserId => "user ID",
            Self::EventId => "event ID",
            Self::DeviceId => "device ID",
            Self::KeyId => "key ID",
            Self::RoomVersionId => "room version",
            Self::TransactionId => "transaction ID",
        })
    }
}

/// The rules an identifier can break.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum IdRule {
    /// Nothing where at least one character must be.
    #[error("a part is empty")]
    Empty,
    /// Over the limit for its kind.
    #[error("longer than {limit} bytes")]
    TooLong {
        /// The limit in bytes.
        limit: usize,
    },
    /// An event ID's hash is not 43 characters.
    #[error("not 44 characters long")]
    Length,
    /// The leading `@`, `!` or `$` is missing.
    #[error("the leading sigil is missing")]
    Sigil,
    /// The `:` before the server name or key version is missing.
    #[error("the colon is missing")]
    Colon,
    /// A character outside the grammar.
    #[error("a character is not allowed")]
    Character,
    /// A host label that is empty, over 63 characters, or has a hyphen at an end.
    #[error("a host label is empty, too long, or begins or ends with a hyphen")]
    HostLabel,
    /// An IPv4 or IPv6 literal, or a last label of digits only, which would read as one.
    #[error("the host is an IP address")]
    IpLiteral,
    /// Not 1 to 65535 in at most five digits.
    #[error("the port is not between 1 and 65535")]
    Port,
}

/// What all identifiers have in common; each brings `parse` and a field `text`.
macro_rules! identifiers {
    ($($id:ident)*) => {$(
        impl $id {
            /// The identifier as text, exactly as it was read.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.text
            }
        }

        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.text)
            }
        }

        impl fmt::Debug for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.text, f)
            }
        }

        impl PartialEq for $id {
            fn eq(&self, other: &Self) -> bool {
                self.text == other.text
            }
        }

        impl Eq for $id {}

        impl PartialEq<str> for $id {
            fn eq(&self, other: &str) -> bool {
                *self.text == *other
            }
        }

        impl PartialEq<&str> for $id {
            fn eq(&self, other: &&str) -> bool {
                *self.text == **other
            }
        }

        impl PartialOrd for $id {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl Ord for $id {
            fn cmp(&self, other: &Self) -> Ordering {
                self.text.cmp(&other.text)
            }
        }

        impl Hash for $id {
            fn hash<H: Hasher>(&self, state: &mut H) {
                self.text.hash(state);
            }
        }

        impl Borrow<str> for $id {
            fn borrow(&self) -> &str {
                &self.text
            }
        }

        impl AsRef<str> for $id {
            fn as_ref(&self) -> &str {
                &self.text
            }
        }

        impl FromStr for $id {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::parse(text)
            }
        }

        impl TryFrom<&str> for $id {
            type Error = InvalidId;

            fn try_from(text: &str) -> Result<Self, Self::Error> {
                Self::parse(text)
            }
        }

        impl TryFrom<String> for $id {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                Self::parse(&text)
            }
        }

        impl From<$id> for String {
            fn from(id: $id) -> Self {
                id.as_str().to_owned()
            }
        }

        impl Serialize for $id {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.text)
            }
        }

        impl<'de> Deserialize<'de> for $id {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::parse(&Cow::<'de, str>::deserialize(deserializer)?).map_err(de::Error::custom)
            }
        }
    )*};
}

identifiers! { ServerName RoomId UserId EventId DeviceId KeyId RoomVersionId TransactionId }

const EVENT_HASH_CHARS: usize = 43;
const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// `sigil localpart ":" server_name`; returns the server.
fn parse_namespaced(
    kind: IdKind,
    sigil: char,
    text: &str,
    is_localpart: impl Fn(u8) -> bool,
) -> Result<ServerName, InvalidId> {
    check_length(kind, text, MAX_ID_BYTES)?;
    let rest = text.strip_prefix(sigil).ok_or_else(|| kind.broke(IdRule::Sigil))?;
    let (localpart, server) = rest.split_once(':').ok_or_else(|| kind.broke(IdRule::Colon))?;
    if localpart.is_empty() {
        return Err(kind.broke(IdRule::Empty));
    }
    check_chars(kind, localpart, is_localpart)?;
    ServerName::parse_as(kind, server)
}

fn localpart(text: &str) -> &str {
    text.split_once(':').map_or("", |(before, _)| &before[1..])
}

fn check_host(host: &str) -> Result<(), IdRule> {
    if host.is_empty() {
        return Err(IdRule::Empty);
    }
    if host.len() > MAX_HOST_CHARS {
        return Err(IdRule::TooLong { limit: MAX_HOST_CHARS });
    }
    let mut last_label = "";
    for label in host.split('.') {
        if !label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-') {
            return Err(IdRule::Character);
        }
        if label.is_empty() || label.len() > MAX_HOST_LABEL_CHARS || label.starts_with('-') || label.ends_with('-') {
            return Err(IdRule::HostLabel);
        }
        last_label = label;
    }
    if last_label.bytes().all(|c| c.is_ascii_digit()) {
        return Err(IdRule::IpLiteral);
    }
    Ok(())
}

fn parse_port(port: &str) -> Result<u16, IdRule> {
    if port.is_empty() || port.len() > 5 || !port.bytes().all(|c| c.is_ascii_digit()) {
        return Err(IdRule::Port);
    }
    port.parse().ok().filter(|&port| port != 0).ok_or(IdRule::Port)
}

fn check_length(kind: IdKind, text: &str, limit: usize) -> Result<(), InvalidId> {
    match text.len() {
        0 => Err(kind.broke(IdRule::Empty)),
        len if len > limit => Err(kind.broke(IdRule::TooLong { limit })),
        _ => Ok(()),
    }
}

fn check_chars(kind: IdKind, text: &str, is_allowed: impl Fn(u8) -> bool) -> Result<(), InvalidId> {
    if text.bytes().all(is_allowed) {
        Ok(())
    } else {
        Err(kind.broke(IdRule::Character))
    }
}

fn is_key_version(c: u8) -> bool {
    c.is_ascii_alphanumeric() || c == b'_'
}

#[cfg(test)]
mod tests;
