//! Every way in which a hub says no, and what it answers on the wire.

use nabe_auth::mimi::Rejection;
use nabe_mls::RestoreError;
use nabe_mls::mimi::{JoinerError, MessageRefusal, MimiRefusal, ProposalRef};
use nabe_wire::DecodeError;
use nabe_wire::label::SigningError;
use nabe_wire::submit_message::SubmitVerdict;
use nabe_wire::update::{UpdateResponseCode, UpdateRoomResponse};

/// A group that makes no room, or a stored room that contradicts itself.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum UnsoundRoom {
    /// The room's URI is of another provider, and a hub's rooms are its own.
    #[error("the room's URI is of another provider than its hub")]
    OtherProvider,
    /// The group is not one of a room.
    #[error(transparent)]
    Group(#[from] MimiRefusal),
    /// Its components make no policy, or one that its members do not fit.
    #[error("{rejection} (rule {})", rejection.rule())]
    Policy {
        /// The rule.
        rejection: Rejection,
    },
    /// Nothing is stored of its group.
    #[error("nothing is stored of the room's group")]
    NoGroup,
    /// What is stored of its group does not read, or does not fit together.
    #[error(transparent)]
    Stored(#[from] RestoreError),
    /// What is stored as left over does not read.
    #[error("what the room has left over: {0}")]
    LeftOver(#[from] DecodeError),
    /// An entry of the log is not what it is called.
    #[error("an entry of the room's log cannot be read")]
    Log,
}

/// Why proposals or a commit are refused (MIMI #update-room-state). Nothing has changed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum UpdateRefusal {
    /// MLS, or a rule that needs no policy.
    #[error("{reason}")]
    Group {
        /// Which.
        reason: MimiRefusal,
        /// The proposal it is about, if it got as far as having a reference.
        proposal: Option<ProposalRef>,
    },
    /// The room's policy.
    #[error("{rejection} (rule {})", rejection.rule())]
    Policy {
        /// The rule.
        rejection: Rejection,
    },
    /// A provider speaks for its own users and nobody else.
    #[error("the sender is not a client of the provider that sends")]
    OtherProvider,
    /// Whoever takes no part in the room, and could not see its GroupInfo, is not told its epoch either.
    #[error("the provider has nobody in the room")]
    Stranger,
    /// The hub's own agent franks, or none does (MIMI #hub-processing).
    #[error("the franking agent is not the hub's")]
    OtherFrankingAgent,
    /// Proposals that come together are of one proposer.
    #[error("the proposals are of several proposers")]
    SeveralProposers,
    /// Of what comes together everything has to fit into one commit.
    #[error("one of the proposals gives way to another one of them")]
    NotTogether,
    /// An added client's key package was not fetched through this hub, so nobody could be sent the Welcome (MIMI
    /// #fetch-key-material).
    #[error("a key package was not fetched through this hub")]
    KeyPackageNotFetched,
    /// An added client is another than the one whose provider gave out the key package.
    #[error("a key package is not of the client that it was fetched of")]
    KeyPackageOfAnother,
    /// What followers would be sent is longer than they read: a Welcome with the tree, or a commit with what the hub proposes anew.
    #[error("followers would be sent {bytes} bytes at once, and take {max}")]
    TooLong {
        /// Of the message with all that goes with it.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The hub could not sign what it proposes anew.
    #[error("the hub cannot sign: {0}")]
    Signing(SigningError),
}

impl UpdateRefusal {
    /// The answer to the provider, for a group in this epoch. `None` if the fault is the hub's own: then there is no verdict.
    #[must_use]
    pub fn response(&self, epoch: u64) -> Option<UpdateRoomResponse> {
        let text = self.to_string();
        let code = match self {
            Self::Signing(_) => return None,
            Self::Group { reason, .. } => reason.code(),
            _ => UpdateResponseCode::NOT_ALLOWED,
        };
        Some(match code {
            UpdateResponseCode::WRONG_EPOCH => UpdateRoomResponse::wrong_epoch(epoch, &text),
            // It names those that are invalid; what has no reference cannot be named.
            UpdateResponseCode::INVALID_PROPOSAL => match self {
                Self::Group {
                    proposal: Some(reference),
                    ..
                } => UpdateRoomResponse::invalid_proposal(vec![reference.as_bytes().into()], &text),
                _ => UpdateRoomResponse::not_allowed(&text),
            },
            _ => UpdateRoomResponse::not_allowed(&text),
        })
    }
}

impl From<MimiRefusal> for UpdateRefusal {
    fn from(reason: MimiRefusal) -> Self {
        let proposal = match &reason {
            MimiRefusal::NotPending { reference } => Some(reference.clone()),
            _ => None,
        };
        Self::Group { reason, proposal }
    }
}

impl From<Rejection> for UpdateRefusal {
    fn from(rejection: Rejection) -> Self {
        Self::Policy { rejection }
    }
}

/// Why an application message is refused (MIMI #submit-a-message).
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SubmitRefusal {
    /// What the hub sees of the message.
    #[error(transparent)]
    Message(#[from] MessageRefusal),
    /// The room's policy.
    #[error("{rejection} (rule {})", rejection.rule())]
    Policy {
        /// The rule.
        rejection: Rejection,
    },
    /// A provider speaks for its own users and nobody else.
    #[error("the sender is not a user of the provider that sends")]
    OtherProvider,
}

/// Why somebody does not get the GroupInfo (MIMI #claim-group-key-information).
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum GroupInfoRefusal {
    /// The credential names nobody.
    #[error("the credential names no user")]
    NoUser,
    /// The credential is for another signature key than the request's.
    #[error("the credential is not for the signature key")]
    OtherKey,
    /// A provider speaks for its own users and nobody else.
    #[error("whoever asks is not a user of the provider that sends")]
    OtherProvider,
    /// The room's policy.
    #[error("{rejection} (rule {})", rejection.rule())]
    Policy {
        /// The rule.
        rejection: Rejection,
    },
    /// The keys do not fit.
    #[error(transparent)]
    Joiner(#[from] JoinerError),
}

impl GroupInfoRefusal {
    /// Whether the fault is the hub's own, so that whoever asks has no answer.
    #[must_use]
    pub const fn is_ours(&self) -> bool {
        matches!(self, Self::Joiner(JoinerError::Sign(_)))
    }

    /// Whether the room is over, and to be found no more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Policy { rejection } if *rejection == Rejection::RoomOver)
    }
}

impl From<Rejection> for GroupInfoRefusal {
    fn from(rejection: Rejection) -> Self {
        Self::Policy { rejection }
    }
}

impl From<Rejection> for UnsoundRoom {
    fn from(rejection: Rejection) -> Self {
        Self::Policy { rejection }
    }
}

impl From<Rejection> for SubmitRefusal {
    fn from(rejection: Rejection) -> Self {
        Self::Policy { rejection }
    }
}

impl SubmitRefusal {
    /// The answer to the provider, for a group in this epoch.
    #[must_use]
    pub const fn verdict(&self, epoch: u64) -> SubmitVerdict {
        match self {
            Self::Message(MessageRefusal::EpochTooOld { .. })
            | Self::Policy {
                rejection: Rejection::EpochTooOld,
            } => SubmitVerdict::EpochTooOld { current_epoch: epoch },
            _ => SubmitVerdict::NotAllowed,
        }
    }
}
