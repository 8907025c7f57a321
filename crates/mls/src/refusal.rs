//! Why a commit is refused (LM #int-mls-add-remove). One reason for each check.

use openmls::ciphersuite::signable::SignatureError;
use openmls::group::{
    ExternalCommitValidationError, ProposalValidationError, PublicProcessMessageError, StageCommitError,
    ValidationError,
};
use openmls::key_packages::errors::KeyPackageVerifyError;
use openmls::prelude::CreationFromExternalError;
use openmls::treesync::errors::{LeafNodeValidationError, UpdatePathError};

use crate::credential::CredentialError;
use crate::key_package::{LifetimeFault, lifetime_fault};
use crate::limits::{MAX_GROUP_STATE_BYTES, MAX_MESSAGE_BYTES};

/// Why a commit, or the public state that comes with it, is refused. Nothing of the group has changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum GroupRefusal {
    /// The commit is over [`MAX_MESSAGE_BYTES`].
    #[error("the commit is over {MAX_MESSAGE_BYTES} bytes")]
    MessageTooLarge,
    /// The message is no MLS message, or something follows it.
    #[error("the message is not an MLS message")]
    MessageMalformed,
    /// The commit is encrypted; the hub must be able to read it.
    #[error("the commit is a PrivateMessage, it must be a PublicMessage")]
    PrivateMessage,
    /// The message is a Welcome, a GroupInfo or a key package.
    #[error("the message is not a PublicMessage")]
    WrongWireFormat,
    /// The message is a proposal by itself.
    #[error("the message is a proposal, proposals are only sent inside a commit")]
    StandaloneProposal,
    /// The message is an application message.
    #[error("the message is not a commit")]
    NotACommit,
    /// The commit is for another group.
    #[error("the commit is for another group than the room's")]
    WrongGroup,
    /// The commit is for an earlier or later epoch; another one may have won.
    #[error("the commit is for epoch {epoch}, the group is at epoch {current}")]
    WrongEpoch {
        /// The commit's epoch.
        epoch: u64,
        /// The group's epoch.
        current: u64,
    },
    /// The sender is neither a member nor joins with this commit.
    #[error("the commit's sender cannot commit")]
    SenderNotAllowed,
    /// There is no member at the sender's leaf.
    #[error("the commit's sender is not a member")]
    UnknownCommitter,
    /// The committer did not sign the commit.
    #[error("the commit's signature does not verify")]
    BadSignature,
    /// The commit has no confirmation tag.
    #[error("the commit has no confirmation tag")]
    MissingConfirmationTag,
    /// The commit refers to a proposal that was sent by itself.
    #[error("the commit contains a proposal by reference")]
    ByReferenceProposal,
    /// A proposal does what a room does not allow: anything but add, remove, join externally or mix in a shared key.
    #[error("a proposal of type {proposal_type} is not allowed in a room")]
    ProposalNotAllowed {
        /// The type's code point.
        proposal_type: u16,
    },
    /// The members do not all support a proposal's type.
    #[error("a proposal's type is not supported by all members")]
    UnsupportedProposal,
    /// A new leaf does not support what the group uses: suite, version, extensions, credentials.
    #[error("a new leaf does not support what the group uses")]
    UnsupportedCapabilities,
    /// The group's context has an extension that we do not know.
    #[error("the group's context has the unknown extension {extension_type}")]
    UnknownExtension {
        /// The type's code point.
        extension_type: u16,
    },
    /// The group has another suite than the room's algorithm, or a key package another than the group.
    #[error("the cipher suite is not that of the room")]
    WrongSuite,
    /// A key is used a second time in the group.
    #[error("a key is already in use in the group")]
    DuplicateKey,
    /// The committer would sign with the key of another leaf, and nobody could join by such a tree.
    #[error("the committer's new leaf has the signature key of the leaf at {leaf}")]
    SignatureKeyInUse {
        /// The other leaf, of a member or of a device that the commit adds.
        leaf: u32,
    },
    /// A new leaf or a node of the commit's path has the encryption key of an inner node that stays; nobody could join by
    /// such a tree.
    #[error("a new encryption key is that of another node in the tree")]
    EncryptionKeyInUse,
    /// A leaf or key package breaks a rule of its own, such as its signature.
    #[error("a new leaf is invalid")]
    InvalidLeaf,
    /// A leaf's lifetime is not acceptable.
    #[error("a new leaf {0}")]
    LeafLifetime(LifetimeFault),
    /// A leaf's credential is not one of the draft's.
    #[error("the leaf at {leaf}: {reason}")]
    LeafCredential {
        /// The leaf's index.
        leaf: u32,
        /// What is wrong with it.
        reason: CredentialError,
    },
    /// The committer's new leaf names another user or device than its old one.
    #[error("the commit would make a leaf another device's")]
    IdentityChanged,
    /// A device would be a member twice.
    #[error("a device would be a member twice")]
    DeviceTwice,
    /// A removal of nobody, of the committer, or of a member removed already.
    #[error("a removal is invalid")]
    InvalidRemoval,
    /// The path is missing where it is needed, of the wrong length, or its hashes or keys do not fit the tree.
    #[error("the commit's path is invalid")]
    InvalidPath,
    /// An external commit that lacks what makes it one, or contains what it must not.
    #[error("the external commit is invalid")]
    InvalidExternalCommit,
    /// An external commit removes a leaf other than the joining device's own.
    #[error("an external commit can only remove the joining device's earlier leaf")]
    ExternalRemoval,
    /// The commit breaks another rule of RFC 9420, 12.4.
    #[error("the commit is invalid")]
    InvalidCommit,
    /// The group state is over [`MAX_GROUP_STATE_BYTES`].
    #[error("the public group state is over {MAX_GROUP_STATE_BYTES} bytes")]
    GroupStateTooLarge,
    /// The group state is not a `GroupInfo`, or something follows it.
    #[error("the public group state is not a GroupInfo")]
    GroupStateMalformed,
    /// The group state is another group's.
    #[error("the public group state is another group's")]
    GroupStateWrongGroup,
    /// The group state is not that of the epoch that the commit begins.
    #[error("the public group state is of epoch {epoch}, the commit begins epoch {expected}")]
    GroupStateWrongEpoch {
        /// The state's epoch.
        epoch: u64,
        /// The epoch it should be of.
        expected: u64,
    },
    /// The group state has no ratchet tree, without which nobody can join by it.
    #[error("the public group state has no ratchet_tree extension")]
    GroupStateWithoutTree,
    /// The group state has no external public key, without which nobody can join by it.
    #[error("the public group state has no external_pub extension")]
    GroupStateWithoutExternalPub,
    /// The group state's context or confirmation tag is not what the commit leads to.
    #[error("the public group state is not the one that the commit leads to")]
    GroupStateMismatch,
    /// The group state is signed for another leaf than the committer's.
    #[error("the public group state is not signed by the committer")]
    GroupStateWrongSigner,
    /// The group state's signature does not verify.
    #[error("the public group state's signature does not verify")]
    GroupStateBadSignature,
    /// The ratchet tree in the group state is unsound or not the one of its context.
    #[error("the ratchet tree in the public group state is invalid")]
    GroupStateInvalidTree,
}

impl From<PublicProcessMessageError> for GroupRefusal {
    fn from(error: PublicProcessMessageError) -> Self {
        match error {
            PublicProcessMessageError::IncompatibleWireFormat => Self::PrivateMessage,
            PublicProcessMessageError::ValidationError(error) => error.into(),
            PublicProcessMessageError::InvalidCommit(error) => error.into(),
            PublicProcessMessageError::UnauthorizedExternalCommitMessage => Self::SenderNotAllowed,
            _ => Self::InvalidCommit,
        }
    }
}

impl From<ValidationError> for GroupRefusal {
    fn from(error: ValidationError) -> Self {
        match error {
            ValidationError::WrongGroupId => Self::WrongGroup,
            ValidationError::UnknownMember => Self::UnknownCommitter,
            ValidationError::InvalidSignature => Self::BadSignature,
            ValidationError::MissingConfirmationTag => Self::MissingConfirmationTag,
            ValidationError::NoPath | ValidationError::ExternalCommitValidation(_) => Self::InvalidExternalCommit,
            ValidationError::InvalidSenderType
            | ValidationError::UnauthorizedExternalSender
            | ValidationError::NoExternalSendersExtension => Self::SenderNotAllowed,
            ValidationError::KeyPackageVerifyError(KeyPackageVerifyError::LifetimeError(error)) => {
                Self::LeafLifetime(lifetime_fault(&error))
            }
            ValidationError::KeyPackageVerifyError(KeyPackageVerifyError::UnsupportedExtension) => {
                Self::UnsupportedCapabilities
            }
            ValidationError::UpdatePathError(UpdatePathError::SignatureError(SignatureError::VerificationError))
            | ValidationError::InvalidLeafNodeSignature
            | ValidationError::InvalidLeafNodeSourceType
            | ValidationError::UpdatePathError(_)
            | ValidationError::KeyPackageVerifyError(_) => Self::InvalidLeaf,
            ValidationError::InvalidAddProposalCiphersuite => Self::WrongSuite,
            _ => Self::InvalidCommit,
        }
    }
}

impl From<StageCommitError> for GroupRefusal {
    fn from(error: StageCommitError) -> Self {
        match error {
            // No proposal is ever kept, so whatever a commit refers to is missing.
            StageCommitError::MissingProposal
            | StageCommitError::ExternalCommitValidation(ExternalCommitValidationError::ReferencedProposal) => {
                Self::ByReferenceProposal
            }
            StageCommitError::ExternalCommitValidation(
                ExternalCommitValidationError::UnsupportedGroupContextExtensions,
            ) => Self::UnsupportedCapabilities,
            StageCommitError::ExternalCommitValidation(_) => Self::InvalidExternalCommit,
            StageCommitError::AttemptedSelfRemoval => Self::InvalidRemoval,
            StageCommitError::ProposalValidationError(error) => error.into(),
            StageCommitError::LeafNodeValidation(error) => error.into(),
            StageCommitError::RequiredPathNotFound
            | StageCommitError::UpdatePathError(_)
            | StageCommitError::PathLeafNodeVerificationFailure => Self::InvalidPath,
            StageCommitError::VerifiedUpdatePathError(_) => Self::InvalidLeaf,
            StageCommitError::ConfirmationTagMissing => Self::MissingConfirmationTag,
            StageCommitError::SenderTypeExternal | StageCommitError::SenderTypeNewMemberProposal => {
                Self::SenderNotAllowed
            }
            StageCommitError::AppDataUpdateValidationError(_) | StageCommitError::ApplyAppDataUpdateError(_) => {
                Self::ProposalNotAllowed {
                    proposal_type: APP_DATA_UPDATE,
                }
            }
            StageCommitError::GroupContextExtensionsProposalValidationError(_) => Self::ProposalNotAllowed {
                proposal_type: GROUP_CONTEXT_EXTENSIONS,
            },
            _ => Self::InvalidCommit,
        }
    }
}

impl From<ProposalValidationError> for GroupRefusal {
    fn from(error: ProposalValidationError) -> Self {
        match error {
            ProposalValidationError::DuplicateSignatureKey
            | ProposalValidationError::DuplicateEncryptionKey
            | ProposalValidationError::DuplicateInitKey
            | ProposalValidationError::InitEncryptionKeyCollision => Self::DuplicateKey,
            ProposalValidationError::DuplicateMemberRemoval | ProposalValidationError::UnknownMemberRemoval => {
                Self::InvalidRemoval
            }
            ProposalValidationError::InsufficientCapabilities => Self::UnsupportedCapabilities,
            ProposalValidationError::InvalidAddProposalCiphersuiteOrVersion => Self::WrongSuite,
            ProposalValidationError::UnsupportedProposalType => Self::UnsupportedProposal,
            ProposalValidationError::ExternalInitProposalInRegularCommit => Self::ProposalNotAllowed {
                proposal_type: EXTERNAL_INIT,
            },
            ProposalValidationError::LeafNodeValidation(error) => error.into(),
            _ => Self::InvalidCommit,
        }
    }
}

impl From<LeafNodeValidationError> for GroupRefusal {
    fn from(error: LeafNodeValidationError) -> Self {
        match error {
            LeafNodeValidationError::Lifetime(error) => Self::LeafLifetime(lifetime_fault(&error)),
            LeafNodeValidationError::SignatureKeyAlreadyInUse | LeafNodeValidationError::EncryptionKeyAlreadyInUse => {
                Self::DuplicateKey
            }
            LeafNodeValidationError::InvalidLeafNodeSource => Self::InvalidLeaf,
            _ => Self::UnsupportedCapabilities,
        }
    }
}

impl<E> From<CreationFromExternalError<E>> for GroupRefusal {
    fn from(error: CreationFromExternalError<E>) -> Self {
        match error {
            CreationFromExternalError::UnknownSender => Self::GroupStateWrongSigner,
            CreationFromExternalError::InvalidGroupInfoSignature => Self::GroupStateBadSignature,
            CreationFromExternalError::UnsupportedCiphersuite(_) => Self::WrongSuite,
            CreationFromExternalError::LeafNodeValidation(error) => error.into(),
            CreationFromExternalError::DuplicateEncryptionKey | CreationFromExternalError::DuplicateSignatureKey => {
                Self::DuplicateKey
            }
            _ => Self::GroupStateInvalidTree,
        }
    }
}

const EXTERNAL_INIT: u16 = 6;
const GROUP_CONTEXT_EXTENSIONS: u16 = 7;
pub(crate) const APP_DATA_UPDATE: u16 = 8;
