//! `POST /notify/{roomId}`: MIMI #fanout-messages-and-room-events.

use crate::codec::{Decode, DecodeError, Encode, Kept, Reader, Rule, Step};
use crate::franking::Frank;
use crate::mls::{ContentType, MlsMessage, MlsMessageBody, RatchetTreeOption};
use crate::update::decode_proposals;

/// The body: one or more [`FanoutMessage`]s, one after the other without a length.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FanoutBatch {
    messages: Vec<FanoutMessage>,
}

impl FanoutBatch {
    /// Of these messages, or `None` if there is none.
    pub fn new(messages: Vec<FanoutMessage>) -> Option<Self> {
        (!messages.is_empty()).then_some(Self { messages })
    }

    /// In the order in which they are to be processed, at least one.
    pub fn messages(&self) -> &[FanoutMessage] {
        &self.messages
    }
}

impl Encode for FanoutBatch {
    fn encode(&self, out: &mut Vec<u8>) {
        self.messages.iter().for_each(|message| message.encode(out));
    }
}

impl Decode for FanoutBatch {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut messages = Vec::new();
        while messages.is_empty() || reader.left() > 0 {
            messages.push(reader.step(Step::Item(messages.len()), FanoutMessage::decode)?);
        }
        Ok(Self { messages })
    }
}

/// `FanoutMessage`: something that happened in a room.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FanoutMessage {
    /// When the hub accepted it, in milliseconds since 1970.
    pub timestamp: u64,
    /// The message as it was accepted.
    pub message: Kept<MlsMessage>,
    /// What goes with it.
    pub with: FanoutParts,
}

/// What goes with a message. The draft selects on the wire format and means that together with the content.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FanoutParts {
    /// With an application message, in private.
    Application {
        /// If it was franked.
        frank: Option<Frank>,
    },
    /// With a Welcome.
    Welcome {
        /// The tree it leaves out.
        ratchet_tree_option: RatchetTreeOption,
    },
    /// With a proposal.
    Proposal {
        /// Those that came with it, the same as in the bundle.
        more_proposals: Vec<Kept<MlsMessage>>,
    },
    /// With a commit.
    Commit {
        /// What the hub proposes anew, because an external commit has made void what was pending.
        external_proposals: Vec<Kept<MlsMessage>>,
    },
}

impl FanoutMessage {
    /// The encoding of one that nobody has to have as a value. `with` appends what goes with the message: the frank, proposals, or with a
    /// Welcome the [`RatchetTreeOption`].
    pub fn encode_as(timestamp: u64, message: &Kept<MlsMessage>, with: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::with_capacity(size_of::<u64>() + message.as_bytes().len() + WITH_BYTES);
        timestamp.encode(&mut out);
        message.encode(&mut out);
        with(&mut out);
        out
    }
}

/// Of what goes with a message, where it is short.
const WITH_BYTES: usize = 256;

impl Encode for FanoutMessage {
    fn encode(&self, out: &mut Vec<u8>) {
        self.timestamp.encode(out);
        self.message.encode(out);
        self.with.encode(out);
    }
}

impl Encode for FanoutParts {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Application { frank } => frank.encode(out),
            Self::Welcome { ratchet_tree_option } => ratchet_tree_option.encode(out),
            Self::Proposal { more_proposals } => more_proposals.encode(out),
            Self::Commit { external_proposals } => external_proposals.encode(out),
        }
    }
}

impl Decode for FanoutMessage {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let timestamp = reader.read("timestamp")?;
        let message: Kept<MlsMessage> = reader.field("message", decode_fanned_out)?;
        let with = match (&message.body, message.content_type()) {
            (MlsMessageBody::Welcome(_), _) => FanoutParts::Welcome {
                ratchet_tree_option: reader.read("ratchet_tree_option")?,
            },
            (_, Some(ContentType::COMMIT)) => FanoutParts::Commit {
                external_proposals: reader.field("external_proposals", decode_proposals)?,
            },
            (_, Some(ContentType::PROPOSAL)) => FanoutParts::Proposal {
                more_proposals: reader.field("more_proposals", decode_proposals)?,
            },
            _ => FanoutParts::Application {
                frank: reader.read("frank")?,
            },
        };
        Ok(Self {
            timestamp,
            message,
            with,
        })
    }
}

/// A private application message, a public or semi-private handshake message, or a Welcome.
fn decode_fanned_out(reader: &mut Reader<'_>) -> Result<Kept<MlsMessage>, DecodeError> {
    let start = reader.position();
    let message = Kept::<MlsMessage>::decode(reader)?;
    let application = message.content_type() == Some(ContentType::APPLICATION);
    match &message.body {
        MlsMessageBody::Welcome(_) => Ok(message),
        MlsMessageBody::Private(_) if application => Ok(message),
        MlsMessageBody::Public(_) | MlsMessageBody::SemiPrivate(_) if !application => Ok(message),
        MlsMessageBody::Private(_) | MlsMessageBody::Public(_) | MlsMessageBody::SemiPrivate(_) => {
            let found = message.content_type().map_or(0, |content_type| content_type.0);
            Err(DecodeError::new(start, Rule::ContentType { found }))
        }
        MlsMessageBody::GroupInfo(_) | MlsMessageBody::KeyPackage(_) => {
            let found = message.wire_format().0;
            Err(DecodeError::new(start, Rule::WireFormat { found }))
        }
    }
}

#[cfg(test)]
mod tests;
