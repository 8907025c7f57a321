//! `POST /update/{roomId}`: MIMI #update-room-state.

use crate::codec::{Bytes, Decode, DecodeError, Encode, Kept, Reader, Rule, Text, open_enum};
use crate::mls::{ContentType, GroupInfoOption, MlsMessage, RatchetTreeOption, Welcome, WireFormat};
use crate::protocol::decode_rest;

/// `UpdateRequest`: a [`HandshakeBundle`]. The draft selects on the room's protocol, which is not sent.
pub type UpdateRequest = HandshakeBundle;

/// `HandshakeBundle`: what changes a room.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HandshakeBundle {
    /// A public or semi-private message with a proposal or a commit.
    pub proposal_or_commit: Kept<MlsMessage>,
    /// What goes with it.
    pub with: HandshakeParts,
}

/// What goes with a handshake message, by its content.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HandshakeParts {
    /// With a commit.
    Commit(Box<CommitParts>),
    /// With a proposal: more of them, to be taken together.
    Proposal {
        /// Public or semi-private messages.
        more_proposals: Vec<Kept<MlsMessage>>,
    },
}

/// What goes with a commit. The Welcome and the GroupInfo are without the tree.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CommitParts {
    /// For those it adds.
    pub welcome: Option<Kept<Welcome>>,
    /// For those who join later.
    pub group_info_option: GroupInfoOption,
    /// The tree that goes with both.
    pub ratchet_tree_option: RatchetTreeOption,
}

impl Encode for HandshakeBundle {
    fn encode(&self, out: &mut Vec<u8>) {
        self.proposal_or_commit.encode(out);
        match &self.with {
            HandshakeParts::Commit(parts) => {
                parts.welcome.encode(out);
                parts.group_info_option.encode(out);
                parts.ratchet_tree_option.encode(out);
            }
            HandshakeParts::Proposal { more_proposals } => more_proposals.encode(out),
        }
    }
}

impl Decode for HandshakeBundle {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let proposal_or_commit = reader.field("proposal_or_commit", decode_handshake)?;
        let with = if proposal_or_commit.content_type() == Some(ContentType::COMMIT) {
            HandshakeParts::Commit(Box::new(CommitParts {
                welcome: reader.read("welcome")?,
                group_info_option: reader.read("group_info_option")?,
                ratchet_tree_option: reader.read("ratchet_tree_option")?,
            }))
        } else {
            HandshakeParts::Proposal {
                more_proposals: reader.field("more_proposals", decode_proposals)?,
            }
        };
        Ok(Self {
            proposal_or_commit,
            with,
        })
    }
}

/// A public or semi-private message with a proposal or a commit.
pub(crate) fn decode_handshake(reader: &mut Reader<'_>) -> Result<Kept<MlsMessage>, DecodeError> {
    let start = reader.position();
    let message = Kept::<MlsMessage>::decode(reader)?;
    let found = message.wire_format();
    if !matches!(found, WireFormat::PUBLIC_MESSAGE | WireFormat::SEMI_PRIVATE_MESSAGE) {
        return Err(DecodeError::new(start, Rule::WireFormat { found: found.0 }));
    }
    match message.content_type() {
        Some(ContentType::PROPOSAL | ContentType::COMMIT) => Ok(message),
        other => {
            let found = other.map_or(0, |content_type| content_type.0);
            Err(DecodeError::new(start, Rule::ContentType { found }))
        }
    }
}

/// A list of public or semi-private messages with a proposal each.
pub(crate) fn decode_proposals(reader: &mut Reader<'_>) -> Result<Vec<Kept<MlsMessage>>, DecodeError> {
    reader.vector(decode_proposal)
}

/// A public or semi-private message with a proposal.
pub(crate) fn decode_proposal(reader: &mut Reader<'_>) -> Result<Kept<MlsMessage>, DecodeError> {
    let start = reader.position();
    let message = decode_handshake(reader)?;
    if message.content_type() == Some(ContentType::COMMIT) {
        let found = ContentType::COMMIT.0;
        return Err(DecodeError::new(start, Rule::ContentType { found }));
    }
    Ok(message)
}

open_enum! {
    /// `UpdateResponseCode`
    pub struct UpdateResponseCode(u8) {
        /// Accepted, and will be distributed.
        SUCCESS = 0 "success",
        /// For another epoch than the room is in.
        WRONG_EPOCH = 1 "wrongEpoch",
        /// The policy says no.
        NOT_ALLOWED = 2 "notAllowed",
        /// A proposal is invalid.
        INVALID_PROPOSAL = 3 "invalidProposal",
    }
}

/// `UpdateRoomResponse`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UpdateRoomResponse {
    /// For people.
    pub error_description: Text,
    /// The code and what goes with it.
    pub verdict: UpdateVerdict,
}

/// What a hub says to an update, by code.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum UpdateVerdict {
    /// Accepted.
    Success {
        /// When, in milliseconds since 1970.
        accepted_timestamp: u64,
    },
    /// For another epoch.
    WrongEpoch {
        /// The epoch the room is in.
        current_epoch: u64,
    },
    /// The policy says no.
    NotAllowed,
    /// Proposals are invalid.
    InvalidProposal {
        /// Their `ProposalRef`s.
        invalid_proposals: Vec<Bytes>,
    },
    /// A code that is not known, with everything up to the end.
    Other {
        /// The code.
        code: UpdateResponseCode,
        /// What follows, without a length.
        rest: Bytes,
    },
}

impl UpdateRoomResponse {
    /// Accepted at this time, in milliseconds since 1970.
    pub fn success(accepted_timestamp: u64) -> Self {
        Self::new(UpdateVerdict::Success { accepted_timestamp }, "")
    }

    /// For another epoch than this.
    pub fn wrong_epoch(current_epoch: u64, error_description: &str) -> Self {
        Self::new(UpdateVerdict::WrongEpoch { current_epoch }, error_description)
    }

    /// Refused by policy.
    pub fn not_allowed(error_description: &str) -> Self {
        Self::new(UpdateVerdict::NotAllowed, error_description)
    }

    /// Refused for these proposals.
    pub fn invalid_proposal(invalid_proposals: Vec<Bytes>, error_description: &str) -> Self {
        Self::new(UpdateVerdict::InvalidProposal { invalid_proposals }, error_description)
    }

    fn new(verdict: UpdateVerdict, error_description: &str) -> Self {
        let error_description = error_description.into();
        Self {
            error_description,
            verdict,
        }
    }

    /// The code.
    pub fn code(&self) -> UpdateResponseCode {
        match &self.verdict {
            UpdateVerdict::Success { .. } => UpdateResponseCode::SUCCESS,
            UpdateVerdict::WrongEpoch { .. } => UpdateResponseCode::WRONG_EPOCH,
            UpdateVerdict::NotAllowed => UpdateResponseCode::NOT_ALLOWED,
            UpdateVerdict::InvalidProposal { .. } => UpdateResponseCode::INVALID_PROPOSAL,
            UpdateVerdict::Other { code, .. } => *code,
        }
    }
}

impl Encode for UpdateRoomResponse {
    fn encode(&self, out: &mut Vec<u8>) {
        self.code().encode(out);
        self.error_description.encode(out);
        match &self.verdict {
            UpdateVerdict::Success { accepted_timestamp } => accepted_timestamp.encode(out),
            UpdateVerdict::WrongEpoch { current_epoch } => current_epoch.encode(out),
            UpdateVerdict::NotAllowed => {}
            UpdateVerdict::InvalidProposal { invalid_proposals } => invalid_proposals.encode(out),
            UpdateVerdict::Other { rest, .. } => out.extend_from_slice(rest),
        }
    }
}

impl Decode for UpdateRoomResponse {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let code = reader.read("response_code")?;
        let error_description = reader.read("error_description")?;
        let verdict = match code {
            UpdateResponseCode::SUCCESS => UpdateVerdict::Success {
                accepted_timestamp: reader.read("accepted_timestamp")?,
            },
            UpdateResponseCode::WRONG_EPOCH => UpdateVerdict::WrongEpoch {
                current_epoch: reader.read("current_epoch")?,
            },
            UpdateResponseCode::NOT_ALLOWED => UpdateVerdict::NotAllowed,
            UpdateResponseCode::INVALID_PROPOSAL => UpdateVerdict::InvalidProposal {
                invalid_proposals: reader.read("invalid_proposals")?,
            },
            code => UpdateVerdict::Other {
                code,
                rest: decode_rest(reader)?,
            },
        };
        Ok(Self {
            error_description,
            verdict,
        })
    }
}

#[cfg(test)]
mod tests;
