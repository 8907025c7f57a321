//! Message IDs (MC #message-id) and what they are made of.

use std::fmt;
use std::sync::Arc;

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

use super::cbor::Reader;
use super::content::MimiContent;
use super::error::{Malformed, Rule};

/// 16 random bytes of one message. Part of its ID, and the key of its franking tag.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Salt([u8; 16]);

impl Salt {
    /// The salt made of these bytes, which must come from a cryptographic generator and be used for nothing else
    /// (MC #message-behavior-fields).
    #[must_use]
    pub const fn from_random(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// A salt for those who trust their group's secrets more than their generator: the first half of HMAC-SHA256 of a
    /// nonce, never used before, under a secret exported from the MLS key schedule (MC #salt-generation).
    #[must_use]
    pub fn derive(salt_base_secret: &[u8], nonce: &[u8]) -> Self {
        let mut mac = Hmac::<Sha256>::new_from_slice(salt_base_secret).expect("HMAC takes keys of any length");
        mac.update(nonce);
        let output = mac.finalize().into_bytes();
        let mut salt = [0; 16];
        salt.copy_from_slice(&output[..16]);
        Self(salt)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// Who sent a message and in which room, by their URIs: what a receiver knows from MLS, not what the message says. Each
/// of 1 to 65,535 bytes, because their lengths are hashed as 16 bits.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Origin {
    sender: Arc<str>,
    room: Arc<str>,
}

impl Origin {
    /// The user URI of a sender and the URI of a room.
    pub fn new(sender: &str, room: &str) -> Result<Self, OriginError> {
        let fits = |uri: &str| (1..=usize::from(u16::MAX)).contains(&uri.len());
        if !fits(sender) {
            return Err(OriginError::Sender);
        }
        if !fits(room) {
            return Err(OriginError::Room);
        }
        Ok(Self {
            sender: sender.into(),
            room: room.into(),
        })
    }

    /// What the message itself says. It proves nothing; for tools that have nothing else.
    #[must_use]
    pub fn claimed(content: &MimiContent) -> Option<Self> {
        Self::new(content.extensions.sender_uri()?, content.extensions.room_uri()?).ok()
    }

    /// The sender's user URI.
    #[must_use]
    pub fn sender(&self) -> &str {
        &self.sender
    }

    /// The room's URI.
    #[must_use]
    pub fn room(&self) -> &str {
        &self.room
    }
}

/// Why two texts are no [`Origin`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum OriginError {
    /// The sender's URI.
    #[error("the sender's URI must have 1 to 65535 bytes")]
    Sender,
    /// The room's URI.
    #[error("the room's URI must have 1 to 65535 bytes")]
    Room,
}

/// Which formula an ID was computed by.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Formula {
    /// Of revision -08: the lengths of both URIs are hashed.
    Draft08,
    /// Of revisions -06 and -07: they are not. Other clients still send it, and so does the draft's own text in places.
    Draft07,
}

/// The revision's name.
impl fmt::Display for Formula {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Draft08 => "draft-ietf-mimi-content-08",
            Self::Draft07 => "draft-ietf-mimi-content-07",
        })
    }
}

/// The ID of a message: the number of a hash algorithm, always 1 for SHA-256, and 31 bytes of hash. Ordered as messages with the
/// same timestamp are (MC #topics-threading). Printed in hexadecimal.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct MessageId([u8; 32]);

impl MessageId {
    /// SHA-256 in IANA's registry of named information, the only algorithm there is.
    pub const SHA_256: u8 = 1;

    /// The ID of a message, from its bytes as they were received, or will be sent.
    #[must_use]
    pub fn compute(origin: &Origin, message: &[u8], salt: &Salt) -> Self {
        Self::compute_by(Formula::Draft08, origin, message, salt)
    }

    /// The ID by another revision's formula.
    #[must_use]
    pub fn compute_by(formula: Formula, origin: &Origin, message: &[u8], salt: &Salt) -> Self {
        let mut hash = Sha256::new();
        for uri in [origin.sender(), origin.room()] {
            if formula == Formula::Draft08 {
                let length = u16::try_from(uri.len()).expect("an origin's URIs have at most 65535 bytes");
                hash.update(length.to_be_bytes());
            }
            hash.update(uri);
        }
        hash.update(message);
        // Once more at the end, where it cannot be extended.
        hash.update(salt.as_bytes());
        let output = hash.finalize();
        let mut id = [Self::SHA_256; 32];
        id[1..].copy_from_slice(&output[..31]);
        Self(id)
    }

    /// By which formula this is the ID of that message, if by any.
    #[must_use]
    pub fn formula(&self, origin: &Origin, message: &[u8], salt: &Salt) -> Option<Formula> {
        [Formula::Draft08, Formula::Draft07]
            .into_iter()
            .find(|&formula| Self::compute_by(formula, origin, message, salt) == *self)
    }

    /// Takes 32 bytes, the first of which names an algorithm we know.
    pub const fn from_bytes(bytes: [u8; 32]) -> Result<Self, Rule> {
        if bytes[0] != Self::SHA_256 {
            return Err(Rule::UnknownHash(bytes[0]));
        }
        Ok(Self(bytes))
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let at = reader.offset();
        let bytes = reader.bytes_of()?;
        Self::from_bytes(bytes).map_err(|rule| Malformed::new(at, rule))
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageId({self})")
    }
}

/// A message as it came: its bytes, what they say, where it came from, and its ID, which is computed over these very bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Received {
    bytes: Vec<u8>,
    content: MimiContent,
    origin: Origin,
    id: MessageId,
    /// The ID by revision -07's formula, of what has been forgotten.
    former: Option<MessageId>,
}

/// What is left of a message that has expired: its IDs, and which messages it refers to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Remains {
    /// Its ID.
    pub id: MessageId,
    /// Its ID by the formula of revision -07.
    pub former: MessageId,
    /// A message with the same topic, expiry and references, and with nothing else in it. At most 5 KiB.
    pub outline: Vec<u8>,
}

impl Received {
    /// Reads a message that `origin` sent.
    pub fn decode(bytes: impl Into<Vec<u8>>, origin: Origin) -> Result<Self, Malformed> {
        let bytes = bytes.into();
        let content = MimiContent::decode(&bytes)?;
        let id = MessageId::compute(&origin, &bytes, &content.salt);
        Ok(Self {
            bytes,
            content,
            origin,
            id,
            former: None,
        })
    }

    /// What is left of a message that `origin` sent.
    ///
    /// # Errors
    /// The outline is none.
    pub fn of_remains(remains: &Remains, origin: Origin) -> Result<Self, Malformed> {
        let mut received = Self {
            bytes: Vec::new(),
            content: MimiContent::decode(&remains.outline)?,
            origin,
            id: remains.id,
            former: Some(remains.former),
        };
        received.forget();
        Ok(received)
    }

    /// What is left of a message that has been forgotten; `None` of any other.
    #[must_use]
    pub fn remains(&self) -> Option<Remains> {
        Some(Remains {
            id: self.id,
            former: self.former?,
            outline: self.content.encode().ok()?,
        })
    }

    /// Whether it has expired, and nothing of what it said is here any more.
    #[must_use]
    pub const fn is_forgotten(&self) -> bool {
        self.former.is_some()
    }

    /// The bytes as they came; none of what has been forgotten.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What they say.
    #[must_use]
    pub const fn content(&self) -> &MimiContent {
        &self.content
    }

    /// Who sent it where.
    #[must_use]
    pub const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Its ID.
    #[must_use]
    pub const fn id(&self) -> MessageId {
        self.id
    }

    /// The ID by which clients of revision -07 refer to it.
    #[must_use]
    pub fn id_by_draft_07(&self) -> MessageId {
        if let Some(former) = self.former {
            return former;
        }
        MessageId::compute_by(Formula::Draft07, &self.origin, &self.bytes, &self.content.salt)
    }

    /// Forgets bytes, salt and body, for a message that has expired. The ID stays; without the salt nobody can try out what it is of.
    pub(crate) fn forget(&mut self) {
        self.former = Some(self.id_by_draft_07());
        self.bytes = Vec::new();
        self.content.salt = Salt::from_random([0; 16]);
        self.content.body.part = super::part::Part::Null;
        self.content.extensions = super::extensions::Extensions::new();
    }
}
