//! The message container (MC #message-behavior-fields).

use std::time::Duration;

use nabe_types::UnixMillis;

use super::cbor::{ARRAY, FALSE, NULL, Reader, TRUE, UNSIGNED, write_bytes, write_head};
use super::error::{Malformed, Rule};
use super::extensions::{ExtensionKey, Extensions};
use super::id::{MessageId, Origin, Salt};
use super::limits::{MAX_BYTES, MAX_TOPIC_BYTES};
use super::part::{Disposition, NestedPart, Part, PartSemantics};
use super::{TEXT_PLAIN, cbor::CborValue};

/// One message.
///
/// ```text
/// mimiContent = [salt, replaces, topicId, expires, inReplyTo, mimiExtensions, nestedPart]
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MimiContent {
    /// Random, of this message alone.
    pub salt: Salt,
    /// The first version of the message that this one edits or deletes.
    pub replaces: Option<MessageId>,
    /// The topic it belongs to, at most 4,096 bytes; empty for none.
    pub topic_id: Vec<u8>,
    /// When receivers should delete it.
    pub expires: Option<Expiration>,
    /// The message it answers or reacts to.
    pub in_reply_to: Option<MessageId>,
    /// Whatever else there is to say.
    pub extensions: Extensions,
    /// The body.
    pub body: NestedPart,
}

/// When receivers should delete a message (MC #expiring). A hint: nobody can be made to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Expiration {
    /// So many seconds after it was read.
    Relative {
        /// Seconds after reading.
        seconds: u32,
    },
    /// At a moment, whether it was read or not.
    Absolute {
        /// Seconds since the Unix epoch.
        seconds: u32,
    },
}

/// What a message does, by its own fields. Whether it may is another question, see [`super::timeline`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Intent {
    /// Says something new.
    Post,
    /// Answers a message.
    Reply {
        /// The version answered.
        to: MessageId,
    },
    /// Reacts to a message.
    Reaction {
        /// The version reacted to.
        to: MessageId,
    },
    /// Puts a new body in the place of a message's, be it a post or a reaction.
    Edit {
        /// The message's first version.
        of: MessageId,
    },
    /// Takes a message back; "unlike", for a reaction.
    Delete {
        /// The message's first version.
        of: MessageId,
    },
    /// Says nothing: an empty body, and nothing that it would delete.
    Nothing,
}

impl MimiContent {
    /// A message that names its sender and room, as franking needs it.
    #[must_use]
    pub fn new(salt: Salt, origin: &Origin, body: NestedPart) -> Self {
        let mut extensions = Extensions::new();
        claim(&mut extensions, origin);
        Self {
            salt,
            replaces: None,
            topic_id: Vec::new(),
            expires: None,
            in_reply_to: None,
            extensions,
            body,
        }
    }

    /// A reply to a version of a message (MC #reply), the newest one if possible.
    #[must_use]
    pub fn reply(salt: Salt, origin: &Origin, to: MessageId, body: NestedPart) -> Self {
        Self {
            in_reply_to: Some(to),
            ..Self::new(salt, origin, body)
        }
    }

    /// One or more reactions to a message, each a text of its own, mostly an emoji: never several in one text (MC #reaction). `None`
    /// for no reaction at all.
    #[must_use]
    pub fn reaction(salt: Salt, origin: &Origin, to: MessageId, reactions: &[&str]) -> Option<Self> {
        let mut parts: Vec<_> = reactions
            .iter()
            .map(|text| NestedPart::single(TEXT_PLAIN, *text).with_disposition(Disposition::REACTION))
            .collect();
        let body = match parts.len() {
            0 => return None,
            1 => parts.remove(0),
            _ => NestedPart::multi(PartSemantics::ProcessAll, parts).with_disposition(Disposition::REACTION),
        };
        Some(Self::reply(salt, origin, to, body))
    }

    /// A new body for `original`, whose first version has the ID `of`. Everything but the body stays as it was
    /// (MC #rendering-and-authorization-of-edits-and-deletes); `origin` is who edits.
    #[must_use]
    pub fn edit(salt: Salt, origin: &Origin, of: MessageId, original: &Self, body: NestedPart) -> Self {
        let mut extensions = original.extensions.clone();
        claim(&mut extensions, origin);
        Self {
            salt,
            replaces: Some(of),
            topic_id: original.topic_id.clone(),
            expires: original.expires,
            in_reply_to: original.in_reply_to,
            extensions,
            body,
        }
    }

    /// Takes `original` back, whose first version has the ID `of` (MC #delete, #unlike); `origin` is who deletes.
    #[must_use]
    pub fn delete(salt: Salt, origin: &Origin, of: MessageId, original: &Self) -> Self {
        let body = NestedPart::null().with_disposition(original.body.disposition);
        Self::edit(salt, origin, of, original, body)
    }

    /// Reads and checks a message: encoding, types, lengths, depth, counts. What needs more than its bytes is in
    /// [`super::arrival`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        Self::read(bytes).map_err(|error| error.of("mimiContent"))
    }

    /// Writes the message, in its only encoding. Fails where reading would: a body too deep, with too many parts or a multipart of
    /// fewer than two; a topic or message too long.
    pub fn encode(&self) -> Result<Vec<u8>, Malformed> {
        let lengths = self.topic_id.len() + self.extensions.about_len() + self.body.about_len();
        let mut out = Vec::with_capacity(FIXED_BYTES + lengths);
        write_head(&mut out, ARRAY, 7);
        write_bytes(&mut out, self.salt.as_bytes());
        write_id(&mut out, self.replaces);
        if self.topic_id.len() > MAX_TOPIC_BYTES {
            let max = MAX_TOPIC_BYTES;
            return Err(Malformed::new(out.len(), Rule::TooLong { max }).inside("topicId"));
        }
        write_bytes(&mut out, &self.topic_id);
        match self.expires {
            None => out.push(NULL),
            Some(expires) => expires.write(&mut out),
        }
        write_id(&mut out, self.in_reply_to);
        self.extensions.write(&mut out);
        self.body
            .write(&mut out, 1, &mut 0)
            .map_err(|error| error.inside("nestedPart"))?;
        check_size(&out)?;
        Ok(out)
    }

    /// What the message does.
    #[must_use]
    pub fn intent(&self) -> Intent {
        let is_empty = matches!(self.body.part, Part::Null);
        match (self.replaces, self.in_reply_to) {
            (Some(of), _) if is_empty => Intent::Delete { of },
            (Some(of), _) => Intent::Edit { of },
            (None, _) if is_empty => Intent::Nothing,
            (None, Some(to)) if self.body.disposition == Disposition::REACTION => Intent::Reaction { to },
            (None, Some(to)) => Intent::Reply { to },
            (None, None) => Intent::Post,
        }
    }

    fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        check_size(bytes)?;
        let mut reader = Reader::new(bytes);
        reader.array_of(7)?;
        let content = Self {
            salt: Salt::from_random(reader.within("salt", Reader::bytes_of)?),
            replaces: reader.within("replaces", read_id)?,
            topic_id: reader.within("topicId", read_topic)?,
            expires: reader.within("expires", Expiration::read)?,
            in_reply_to: reader.within("inReplyTo", read_id)?,
            extensions: reader.within("mimiExtensions", Extensions::read)?,
            body: reader.within("nestedPart", |reader| NestedPart::read(reader, 1, &mut 0))?,
        };
        reader.end()?;
        Ok(content)
    }
}

impl Expiration {
    /// The moment to delete a message that was read at `read_at`; `None` while that cannot be said.
    #[must_use]
    pub fn deadline(self, read_at: Option<UnixMillis>) -> Option<UnixMillis> {
        let (start, seconds) = match self {
            Self::Relative { seconds } => (read_at?, seconds),
            Self::Absolute { seconds } => (UnixMillis::ZERO, seconds),
        };
        Some(start.plus(Duration::from_secs(seconds.into())))
    }

    /// Whether a message that was read at `read_at` should be gone.
    #[must_use]
    pub fn is_due(self, read_at: Option<UnixMillis>, now: UnixMillis) -> bool {
        self.deadline(read_at).is_some_and(|deadline| now >= deadline)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, Malformed> {
        if reader.is_next(NULL) {
            reader.head()?;
            return Ok(None);
        }
        reader.array_of(2)?;
        let relative = reader.within("relative", Reader::bool)?;
        let seconds = reader.within("time", |reader| reader.unsigned(u32::MAX.into()))? as u32;
        Ok(Some(if relative {
            Self::Relative { seconds }
        } else {
            Self::Absolute { seconds }
        }))
    }

    fn write(self, out: &mut Vec<u8>) {
        let (relative, seconds) = match self {
            Self::Relative { seconds } => (TRUE, seconds),
            Self::Absolute { seconds } => (FALSE, seconds),
        };
        write_head(out, ARRAY, 2);
        out.push(relative);
        write_head(out, UNSIGNED, seconds.into());
    }
}

/// Salt, two IDs, an expiry and heads.
const FIXED_BYTES: usize = 104;

/// Says who sends this where.
fn claim(extensions: &mut Extensions, origin: &Origin) {
    for (key, text) in [
        (ExtensionKey::SENDER_URI, origin.sender()),
        (ExtensionKey::ROOM_URI, origin.room()),
    ] {
        let put = extensions.insert(key, CborValue::text(text));
        put.expect("a text is what belongs there");
    }
}

fn check_size(bytes: &[u8]) -> Result<(), Malformed> {
    if bytes.len() > MAX_BYTES {
        return Err(Malformed::new(0, Rule::TooLarge { max: MAX_BYTES }).of("mimiContent"));
    }
    Ok(())
}

fn read_id(reader: &mut Reader<'_>) -> Result<Option<MessageId>, Malformed> {
    if reader.is_next(NULL) {
        reader.head()?;
        return Ok(None);
    }
    MessageId::read(reader).map(Some)
}

fn write_id(out: &mut Vec<u8>, id: Option<MessageId>) {
    match id {
        None => out.push(NULL),
        Some(id) => write_bytes(out, id.as_bytes()),
    }
}

fn read_topic(reader: &mut Reader<'_>) -> Result<Vec<u8>, Malformed> {
    let at = reader.offset();
    let topic = reader.bytes()?;
    if topic.len() > MAX_TOPIC_BYTES {
        return Err(Malformed::new(at, Rule::TooLong { max: MAX_TOPIC_BYTES }));
    }
    Ok(topic.to_vec())
}
