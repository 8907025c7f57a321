//! `POST /submitMessage/{roomId}`: MIMI #submit-a-message.

use crate::codec::{Bytes, Decode, DecodeError, Encode, Kept, Reader, Rule, open_enum, wire_struct};
use crate::franking::Frank;
use crate::mls::{ContentType, MlsMessage, MlsMessageBody, PrivateMessage};
use crate::protocol::{decode_rest, protocol_body};
use crate::uri::IdentifierUri;

protocol_body! {
    /// `SubmitMessageRequest`
    pub struct SubmitMessageRequest(Submission)
}

/// What MLS 1.0 submits.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Submission {
    /// A private message with application content.
    pub app_message: Kept<MlsMessage>,
    /// Who sends it, as the sending provider says: a user of the participant list.
    pub sending_uri: IdentifierUri,
}

impl Encode for Submission {
    fn encode(&self, out: &mut Vec<u8>) {
        self.app_message.encode(out);
        self.sending_uri.encode(out);
    }
}

impl Decode for Submission {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            app_message: reader.field("app_message", decode_app_message)?,
            sending_uri: reader.read("sending_uri")?,
        })
    }
}

impl Submission {
    /// What the hub can read of the message. It is there in all that was decoded.
    pub fn private_message(&self) -> Option<&PrivateMessage> {
        match &self.app_message.body {
            MlsMessageBody::Private(message) => Some(message),
            _ => None,
        }
    }
}

/// A private message with application content.
pub(crate) fn decode_app_message(reader: &mut Reader<'_>) -> Result<Kept<MlsMessage>, DecodeError> {
    let start = reader.position();
    let message = Kept::<MlsMessage>::decode(reader)?;
    let MlsMessageBody::Private(private) = &message.body else {
        let found = message.wire_format().0;
        return Err(DecodeError::new(start, Rule::WireFormat { found }));
    };
    if private.content_type != ContentType::APPLICATION {
        let found = private.content_type.0;
        return Err(DecodeError::new(start, Rule::ContentType { found }));
    }
    Ok(message)
}

open_enum! {
    /// `SubmitResponseCode`
    pub struct SubmitResponseCode(u8) {
        /// Accepted, and will be distributed; the draft's `select` calls it `success`.
        ACCEPTED = 0 "accepted",
        /// The policy says no, or it makes no sense.
        NOT_ALLOWED = 1 "notAllowed",
        /// Of an epoch that is over.
        EPOCH_TOO_OLD = 2 "epochTooOld",
    }
}

protocol_body! {
    /// `SubmitMessageResponse`
    pub struct SubmitMessageResponse(SubmitVerdict)
}

wire_struct! {
    /// What a hub says to a message it accepts.
    pub struct Acceptance {
        /// When, in milliseconds since 1970.
        pub accepted_timestamp: u64,
        /// If the message asked for one and the room has an agent.
        pub frank: Option<Frank>,
    }
}

/// What a hub says to a message, by code.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SubmitVerdict {
    /// Accepted.
    Accepted(Acceptance),
    /// Refused.
    NotAllowed,
    /// Of an epoch that is over.
    EpochTooOld {
        /// The epoch the room is in.
        current_epoch: u64,
    },
    /// A code that is not known, with everything up to the end.
    Other {
        /// The code.
        code: SubmitResponseCode,
        /// What follows, without a length.
        rest: Bytes,
    },
}

impl SubmitVerdict {
    /// The code.
    pub fn code(&self) -> SubmitResponseCode {
        match self {
            Self::Accepted(_) => SubmitResponseCode::ACCEPTED,
            Self::NotAllowed => SubmitResponseCode::NOT_ALLOWED,
            Self::EpochTooOld { .. } => SubmitResponseCode::EPOCH_TOO_OLD,
            Self::Other { code, .. } => *code,
        }
    }
}

impl Encode for SubmitVerdict {
    fn encode(&self, out: &mut Vec<u8>) {
        self.code().encode(out);
        match self {
            Self::Accepted(acceptance) => acceptance.encode(out),
            Self::NotAllowed => {}
            Self::EpochTooOld { current_epoch } => current_epoch.encode(out),
            Self::Other { rest, .. } => out.extend_from_slice(rest),
        }
    }
}

impl Decode for SubmitVerdict {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match reader.read("status_code")? {
            SubmitResponseCode::ACCEPTED => Self::Accepted(Acceptance::decode(reader)?),
            SubmitResponseCode::NOT_ALLOWED => Self::NotAllowed,
            SubmitResponseCode::EPOCH_TOO_OLD => Self::EpochTooOld {
                current_epoch: reader.read("current_epoch")?,
            },
            code => Self::Other {
                code,
                rest: decode_rest(reader)?,
            },
        })
    }
}

#[cfg(test)]
mod tests;
