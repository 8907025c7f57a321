//! Why a hub does not take a proposal, a commit or a message of a MIMI room, as far as MLS and the drafts around it say. One
//! reason for each check, with the section that asks for it.

use nabe_wire::DecodeError;
use nabe_wire::mls::{ComponentId, ExtensionType, ProposalType};
use nabe_wire::update::UpdateResponseCode;
use openmls::group::{PublicProcessMessageError, StageCommitError};

use super::identity::IdentityError;
use super::proposals::ProposalRef;
use crate::key_package::LifetimeFault;
use crate::refusal::GroupRefusal;

/// Why a handshake message, or what comes with it, is refused. Nothing of the group has changed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum MimiRefusal {
    // The message as such.
    /// A handshake message that servers cannot read.
    #[error("the handshake message is a PrivateMessage, the hub must be able to read it")]
    PrivateHandshake,
    /// A handshake message sealed for members and the hub, which OpenMLS cannot follow.
    #[error("the handshake message is a SemiPrivateMessage, which this hub does not take")]
    SemiPrivateHandshake,
    /// A Welcome, a GroupInfo or a key package.
    #[error("the message is not a message within a group")]
    WrongWireFormat,
    /// A commit or application content where a proposal is expected.
    #[error("the message is not a proposal")]
    NotAProposal,
    /// A proposal or application content where a commit is expected.
    #[error("the message is not a commit")]
    NotACommit,
    /// For another group than the room's.
    #[error("the message is for another group than the room's")]
    WrongGroup,
    /// For an earlier or later epoch; another commit may have won.
    #[error("the message is for epoch {epoch}, the group is at epoch {current}")]
    WrongEpoch {
        /// The message's epoch.
        epoch: u64,
        /// The group's epoch.
        current: u64,
    },
    /// The authenticated data is not a SafeAAD from its first byte to its last.
    #[error("the authenticated data is not a SafeAAD: {0}")]
    SafeAad(DecodeError),
    /// There is no member at the sender's leaf.
    #[error("there is no member at the sender's leaf {leaf}")]
    UnknownMember {
        /// The leaf's index.
        leaf: u32,
    },
    /// No external sender has this number.
    #[error("the group has no external sender {index}")]
    UnknownExternalSender {
        /// The place in the group's list.
        index: u32,
    },
    /// This kind of sender cannot send this kind of message.
    #[error("this kind of sender cannot send this")]
    SenderNotAllowed,
    /// The sender did not sign it.
    #[error("the signature does not verify")]
    BadSignature,

    // Proposals, by themselves and together.
    /// A type that no draft defines.
    #[error("proposals of type {} are not known", proposal_type.0)]
    UnknownProposalType {
        /// The type.
        proposal_type: ProposalType,
    },
    /// A type that this kind of sender cannot propose.
    #[error("this kind of sender cannot propose type {}", proposal_type.0)]
    ProposalNotBySender {
        /// The type.
        proposal_type: ProposalType,
    },
    /// The group would end in favor of another, which this hub does not follow into.
    #[error("this hub does not follow a room into another group")]
    ReInitNotFollowed,
    /// A pre-shared key that others would have to hold to commit what is pending.
    #[error("a pre-shared key is mixed in by a commit, and not proposed by itself")]
    PskByItself,
    /// Pending already.
    #[error("the proposal is pending already")]
    PendingAlready,
    /// Removes a leaf where nobody is.
    #[error("there is no member at leaf {leaf} to be removed")]
    NobodyToRemove {
        /// The leaf's index.
        leaf: u32,
    },
    /// A member whose removal is pending would be removed again.
    #[error("the removal of leaf {leaf} is pending already")]
    RemovalPending {
        /// The leaf's index.
        leaf: u32,
    },
    /// A second SelfRemove of one client in an epoch.
    #[error("a client can ask to be removed once in an epoch")]
    SelfRemoveTwice,
    /// A member whose removal is pending renews its leaf.
    #[error("a member that is about to be removed cannot renew its leaf")]
    UpdateWhileLeaving,
    /// The credential of a new leaf names nobody.
    #[error(transparent)]
    Identity(IdentityError),
    /// A new leaf names another client than the one at its place.
    #[error("the new leaf would be another client's")]
    IdentityChanged,
    /// A credential that tells a name, in a room whose clients all have pseudonymous ones.
    #[error("in a room with minimal metadata every leaf has a pseudonymous credential")]
    NameAmongPseudonyms,
    /// A client would be in the group twice.
    #[error("a client would be a member twice")]
    ClientTwice,
    /// A key is used a second time in the group.
    #[error("a key of the new leaf is in use in the group")]
    KeyInUse,
    /// A new leaf's lifetime.
    #[error("the new leaf {0}")]
    LeafLifetime(LifetimeFault),
    /// A new leaf does not support the group's suite, extensions, proposals or credentials.
    #[error("a leaf does not support what the group requires")]
    Unsupported,
    /// A leaf does not list a component that all members have to know.
    #[error("a leaf does not list component {:#06x}, which the group requires", component.0)]
    ComponentUnsupported {
        /// The component, of `app_components` or `safe_aad`.
        component: ComponentId,
    },
    /// A leaf does not list a media type that all members have to read.
    #[error("a leaf does not list a media type that the group requires")]
    MediaTypeUnsupported,
    /// There can be one GroupContextExtensions proposal in a commit, and one is pending.
    #[error("another change of the group's extensions is pending")]
    ExtensionsPending,
    /// A GroupContextExtensions proposal that changes the dictionary.
    #[error("the dictionary is not changed by a GroupContextExtensions proposal")]
    DictionaryByExtensions,

    // Data of components.
    /// A component that we do not know, or that keeps nothing in the group's context.
    #[error("component {:#06x} is not known here", component.0)]
    UnknownComponent {
        /// The component.
        component: ComponentId,
    },
    /// Data or an update that is not in the component's format.
    #[error("component {:#06x}: {error}", component.0)]
    ComponentData {
        /// The component.
        component: ComponentId,
        /// Where it breaks.
        error: DecodeError,
    },
    /// A component's data is removed and changed, or removed twice.
    #[error("component {:#06x} is removed and changed in one commit", component.0)]
    RemovedAndChanged {
        /// The component.
        component: ComponentId,
    },
    /// Data is removed that is not there.
    #[error("component {:#06x} has no data to remove", component.0)]
    AbsentComponent {
        /// The component.
        component: ComponentId,
    },
    /// A change of the participant list names a place that it does not have.
    #[error("the participant list has no entry {index}")]
    ParticipantIndex {
        /// The place.
        index: u32,
    },
    /// A user is added, removed or given a role more than once, or added while listed.
    #[error("{user} is touched twice, or listed already")]
    ParticipantTwice {
        /// The user.
        user: String,
    },
    /// A change of the join links names a place that they do not have, or one place twice.
    #[error("there is no join link {index} to remove")]
    JoinLinkIndex {
        /// The place.
        index: u32,
    },
    /// The room's metadata is replaced twice.
    #[error("the room's metadata is replaced twice")]
    MetadataTwice,
    /// The room's metadata is of another room.
    #[error("the metadata is another room's")]
    MetadataOtherRoom,

    // What makes a group a room's.
    /// A suite that we cannot compute with.
    #[error("cipher suite {id} is not supported")]
    UnknownSuite {
        /// The code point.
        id: u16,
    },
    /// A room begins with its creator's client alone.
    #[error("a room begins with one client, this group has {members}")]
    NotAGroupOfOne {
        /// How many there are.
        members: usize,
    },
    /// The group does not require `app_data_dictionary`, AppDataUpdate or SelfRemove of its members.
    #[error("the group does not require its members to support what a room needs")]
    CapabilitiesNotRequired,
    /// The group has no external senders, or the hub is not the first.
    #[error("the hub is not the first external sender")]
    HubNotFirstSender,
    /// The group has no dictionary, or no data of a component that every room has.
    #[error("the group has no data of component {:#06x}", component.0)]
    MissingComponent {
        /// The component.
        component: ComponentId,
    },
    /// There is data of a component that `app_components` does not list, so members may not know it.
    #[error("component {:#06x} has data and is not among app_components", component.0)]
    ComponentNotListed {
        /// The component.
        component: ComponentId,
    },
    /// An extension of the group's context that does not read.
    #[error("an extension of the group's context: {0}")]
    ContextMalformed(DecodeError),
    /// An extension of the group's context that we do not know, and that may change any rule.
    #[error("the group's context has the unknown extension {:#06x}", extension_type.0)]
    UnknownExtension {
        /// The type.
        extension_type: ExtensionType,
    },

    // Commits.
    /// A proposal by reference that is not pending.
    #[error("the commit refers to a proposal that is not pending")]
    NotPending {
        /// The reference.
        reference: ProposalRef,
    },
    /// One proposal twice, be it by its reference or by its bytes.
    #[error("the commit contains a proposal twice")]
    ProposalTwice,
    /// Two proposals about one leaf: updates and removals exclude each other.
    #[error("the commit contains two proposals about leaf {leaf}")]
    LeafTouchedTwice {
        /// The leaf's index.
        leaf: u32,
    },
    /// Pending proposals are left out.
    #[error("the commit leaves out {} pending proposals", references.len())]
    PendingLeftOut {
        /// Their references.
        references: Vec<ProposalRef>,
    },
    /// The committer's own removal is pending; only others can commit.
    #[error("a member whose removal is pending cannot commit")]
    CommitterIsLeaving,
    /// A SelfRemove by value, that is, the committer's own.
    #[error("a SelfRemove is committed by reference, by somebody else")]
    SelfRemoveByValue,
    /// An Update by value, that is, the committer's own.
    #[error("a committer renews its leaf by the commit's path")]
    UpdateByValue,
    /// A member's commit with an ExternalInit.
    #[error("a member's commit contains an ExternalInit")]
    ExternalInitByMember,
    /// An external commit with none or several ExternalInit.
    #[error("an external commit has one ExternalInit, this one has {count}")]
    ExternalInitCount {
        /// How many.
        count: usize,
    },
    /// An external commit without a path, so without a leaf for the joiner.
    #[error("an external commit has a path")]
    ExternalCommitWithoutPath,
    /// An external commit with a proposal by value that it cannot have.
    #[error("an external commit cannot contain a proposal of type {}", proposal_type.0)]
    ExternalCommitProposal {
        /// The type.
        proposal_type: ProposalType,
    },
    /// An external commit that refers to anything but a SelfRemove.
    #[error("an external commit refers to SelfRemove proposals alone")]
    ExternalCommitReference {
        /// The reference.
        reference: ProposalRef,
    },
    /// An external commit removes several leaves, or one that is not the joining client's.
    #[error("an external commit can remove the joining client's earlier leaf and no other")]
    ExternalRemoval,
    /// The commit breaks a rule of RFC 9420.
    #[error(transparent)]
    Mls(GroupRefusal),

    // What comes with a commit.
    /// The commit adds clients and has no Welcome for them.
    #[error("the commit adds clients and comes without a Welcome")]
    WelcomeMissing,
    /// There is a Welcome and nobody is added.
    #[error("a Welcome comes with a commit that adds nobody")]
    WelcomeForNobody,
    /// The Welcome is of another suite.
    #[error("the Welcome is of another cipher suite than the group")]
    WelcomeOtherSuite,
    /// The Welcome is not for exactly the key packages that are added.
    #[error("the Welcome is not for exactly the clients that are added")]
    WelcomeForOthers,
    /// The GroupInfo's context or confirmation tag is not what the commit leads to.
    #[error("the GroupInfo is not of the epoch that the commit begins")]
    GroupInfoMismatch,
    /// The GroupInfo is not signed for the committer's leaf.
    #[error("the GroupInfo is signed for another leaf than the committer's")]
    GroupInfoOtherSigner,
    /// The GroupInfo's signature, over the whole put together from its parts.
    #[error("the GroupInfo's signature does not verify")]
    GroupInfoBadSignature,
    /// The GroupInfo has the tree inside, or its parts say that it had.
    #[error("the GroupInfo has the ratchet tree inside")]
    GroupInfoTreeInside,
    /// The GroupInfo has no external public key, without which nobody can join by it.
    #[error("the GroupInfo has no external_pub extension")]
    GroupInfoWithoutExternalPub,
    /// The tree is to be fetched or handed over by another way, and signed in a way that is nowhere defined.
    #[error("the ratchet tree is neither sent nor left to the hub")]
    TreeElsewhere,
    /// The tree is not that of the epoch that the commit begins.
    #[error("the ratchet tree is not of the epoch that the commit begins")]
    TreeMismatch,
}

impl MimiRefusal {
    /// The code that a hub answers with.
    #[must_use]
    pub const fn code(&self) -> UpdateResponseCode {
        match self {
            Self::WrongEpoch { .. } => UpdateResponseCode::WRONG_EPOCH,
            Self::SafeAad(_)
            | Self::BadSignature
            | Self::UnknownProposalType { .. }
            | Self::ProposalNotBySender { .. }
            | Self::NobodyToRemove { .. }
            | Self::SelfRemoveTwice
            | Self::Identity(_)
            | Self::IdentityChanged
            | Self::NameAmongPseudonyms
            | Self::KeyInUse
            | Self::LeafLifetime(_)
            | Self::Unsupported
            | Self::ComponentUnsupported { .. }
            | Self::MediaTypeUnsupported
            | Self::DictionaryByExtensions
            | Self::UnknownComponent { .. }
            | Self::ComponentData { .. }
            | Self::RemovedAndChanged { .. }
            | Self::AbsentComponent { .. }
            | Self::ParticipantIndex { .. }
            | Self::ParticipantTwice { .. }
            | Self::JoinLinkIndex { .. }
            | Self::MetadataTwice
            | Self::MetadataOtherRoom
            | Self::NotPending { .. } => UpdateResponseCode::INVALID_PROPOSAL,
            _ => UpdateResponseCode::NOT_ALLOWED,
        }
    }

    /// The section that asks for the check.
    #[must_use]
    pub const fn section(&self) -> &'static str {
        match self {
            Self::PrivateHandshake
            | Self::SemiPrivateHandshake
            | Self::WrongWireFormat
            | Self::NotAProposal
            | Self::NotACommit
            | Self::WrongEpoch { .. }
            | Self::WelcomeMissing
            | Self::WelcomeForNobody
            | Self::WelcomeOtherSuite
            | Self::GroupInfoMismatch
            | Self::GroupInfoOtherSigner
            | Self::GroupInfoBadSignature
            | Self::GroupInfoTreeInside
            | Self::GroupInfoWithoutExternalPub
            | Self::TreeElsewhere
            | Self::TreeMismatch => "MIMI #update-room-state",
            Self::WelcomeForOthers => "MIMI #fanout-messages-and-room-events",
            Self::WrongGroup | Self::MissingComponent { .. } | Self::CapabilitiesNotRequired => {
                "MIMI #cryptographic-room-representation"
            }
            Self::NotAGroupOfOne { .. } => "MIMI #alice-creates-a-room",
            Self::UnknownExternalSender { .. } | Self::HubNotFirstSender => "MIMI #authenticating-proposals",
            Self::PendingAlready | Self::PendingLeftOut { .. } | Self::ReInitNotFollowed | Self::PskByItself => {
                "MIMI #proposal-commit-paradigm"
            }
            Self::CommitterIsLeaving | Self::UpdateWhileLeaving | Self::RemovalPending { .. } => {
                "MIMI #bob-leaves-the-room"
            }
            Self::Identity(_) | Self::IdentityChanged | Self::ClientTwice => "MIMI #end-to-end-security-layer",
            Self::NameAmongPseudonyms => "MIMI #credential-encryption",
            Self::ParticipantIndex { .. } | Self::ParticipantTwice { .. } => "MIMI #participant-list",
            Self::MetadataTwice | Self::MetadataOtherRoom => "MIMI #room-metadata",
            Self::JoinLinkIndex { .. } => "MRP #join-link",
            Self::SafeAad(_) => "MLSX #safe-aad",
            Self::ComponentUnsupported { .. } | Self::ComponentNotListed { .. } => "MLSX #negotiation",
            Self::MediaTypeUnsupported => "MLSX #expected-behavior",
            Self::DictionaryByExtensions
            | Self::UnknownComponent { .. }
            | Self::ComponentData { .. }
            | Self::RemovedAndChanged { .. }
            | Self::AbsentComponent { .. } => "MLSX #appdataupdate",
            Self::SelfRemoveTwice | Self::SelfRemoveByValue => "MLSX #proposal-description",
            Self::BadSignature => "RFC 9420, 6.1",
            Self::KeyInUse | Self::LeafLifetime(_) | Self::Unsupported => "RFC 9420, 7.3",
            Self::UnknownSuite { .. } | Self::UnknownExtension { .. } | Self::ContextMalformed(_) => "RFC 9420, 8.1",
            Self::UnknownMember { .. }
            | Self::SenderNotAllowed
            | Self::UnknownProposalType { .. }
            | Self::ProposalNotBySender { .. }
            | Self::NobodyToRemove { .. } => "RFC 9420, 12.1",
            Self::ExtensionsPending
            | Self::NotPending { .. }
            | Self::ProposalTwice
            | Self::LeafTouchedTwice { .. }
            | Self::UpdateByValue
            | Self::ExternalInitByMember
            | Self::ExternalInitCount { .. }
            | Self::ExternalCommitWithoutPath
            | Self::ExternalCommitProposal { .. }
            | Self::ExternalCommitReference { .. }
            | Self::ExternalRemoval => "RFC 9420, 12.2",
            Self::Mls(_) => "RFC 9420, 12.4",
        }
    }
}

impl From<GroupRefusal> for MimiRefusal {
    fn from(refusal: GroupRefusal) -> Self {
        match refusal {
            GroupRefusal::BadSignature => Self::BadSignature,
            GroupRefusal::GroupStateBadSignature => Self::GroupInfoBadSignature,
            GroupRefusal::GroupStateWrongSigner => Self::GroupInfoOtherSigner,
            GroupRefusal::GroupStateInvalidTree => Self::TreeMismatch,
            GroupRefusal::DuplicateKey | GroupRefusal::EncryptionKeyInUse => Self::KeyInUse,
            GroupRefusal::LeafLifetime(fault) => Self::LeafLifetime(fault),
            GroupRefusal::UnsupportedCapabilities | GroupRefusal::UnsupportedProposal => Self::Unsupported,
            other => Self::Mls(other),
        }
    }
}

impl From<PublicProcessMessageError> for MimiRefusal {
    fn from(error: PublicProcessMessageError) -> Self {
        match error {
            PublicProcessMessageError::InvalidCommit(error) => error.into(),
            other => GroupRefusal::from(other).into(),
        }
    }
}

impl From<StageCommitError> for MimiRefusal {
    fn from(error: StageCommitError) -> Self {
        match error {
            // What else this finds is checked before OpenMLS is asked.
            StageCommitError::AppDataUpdateValidationError(_) => Self::DictionaryByExtensions,
            StageCommitError::GroupContextExtensionsProposalValidationError(_) => Self::Unsupported,
            other => GroupRefusal::from(other).into(),
        }
    }
}

/// Why an application message is not taken (MIMI #submit-a-message).
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum MessageRefusal {
    /// For another group than the room's.
    #[error("the message is for another group than the room's")]
    WrongGroup,
    /// Of an epoch that is over, and longer ago than the room's policy tolerates.
    #[error("the message is of epoch {epoch}, the group is at epoch {current}")]
    EpochTooOld {
        /// The message's epoch.
        epoch: u64,
        /// The group's epoch.
        current: u64,
    },
    /// Of an epoch that has not begun.
    #[error("the message is of epoch {epoch}, the group is only at epoch {current}")]
    FutureEpoch {
        /// The message's epoch.
        epoch: u64,
        /// The group's epoch.
        current: u64,
    },
    /// A handshake message.
    #[error("the message is not an application message")]
    NotApplication,
    /// The authenticated data is not a SafeAAD from its first byte to its last.
    #[error("the authenticated data is not a SafeAAD: {0}")]
    SafeAad(DecodeError),
    /// What stands where a franking tag belongs is not one.
    #[error("the franking tag: {0}")]
    FrankingTag(DecodeError),
}
