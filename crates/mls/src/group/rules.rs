//! What a group has to keep to beyond MLS, which leaves to the application who its members are and what they may propose.

use nabe_types::{DeviceId, DeviceRef, RoomId, UnixMillis, UserId};
use openmls::group::QueuedProposal;
use openmls::prelude::{LeafNode, Lifetime, Proposal, ProposalOrRefType};

use crate::credential::BasicCredential;
use crate::key_package::check_lifetime;
use crate::refusal::GroupRefusal;

/// Whose rules a group keeps to. All else about following it is the same.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Rules {
    /// A room's: its members are devices of users (LM #int-mls-credentials), and what they propose comes inside a commit
    /// (LM #int-mls-add-remove).
    Room,
    /// Those of MLS alone, for the recordings of other implementations, whose members are nobody in particular.
    Recording,
}

impl Rules {
    /// The room that a group of this ID belongs to; `None` if none can.
    pub(super) fn room(self, group_id: &[u8]) -> Option<RoomId> {
        let id = match self {
            Self::Room => std::str::from_utf8(group_id).ok()?,
            Self::Recording => NO_ROOM,
        };
        RoomId::parse(id).ok()
    }

    /// Who is at a leaf. In a recording that is nobody; such a member is called by its place.
    pub(super) fn device_at(self, leaf: u32, node: &LeafNode) -> Result<DeviceRef, GroupRefusal> {
        let (user, device) = match self {
            Self::Room => {
                let credential = BasicCredential::from_leaf(node.credential(), node.signature_key().as_slice())
                    .map_err(|reason| GroupRefusal::LeafCredential { leaf, reason })?;
                (credential.user_id, credential.device_id)
            }
            Self::Recording => (
                UserId::parse(&format!("@{leaf}:{NOWHERE}")).expect("a number is a localpart"),
                DeviceId::parse("LEAF").expect("it is not empty"),
            ),
        };
        Ok(DeviceRef { user, device, leaf })
    }

    /// Which proposals a commit may contain.
    pub(super) fn check_proposal(self, queued: &QueuedProposal) -> Result<(), GroupRefusal> {
        if self == Self::Recording {
            return Ok(());
        }
        if queued.proposal_or_ref_type() == ProposalOrRefType::Reference {
            return Err(GroupRefusal::ByReferenceProposal);
        }
        match queued.proposal() {
            Proposal::Add(_) | Proposal::Remove(_) | Proposal::ExternalInit(_) | Proposal::PreSharedKey(_) => Ok(()),
            other => Err(GroupRefusal::ProposalNotAllowed {
                proposal_type: other.proposal_type().into(),
            }),
        }
    }

    /// How long a leaf that joins must still be valid. A recording is older than its leaves could get.
    pub(super) fn check_lifetime(self, lifetime: &Lifetime, now: UnixMillis) -> Result<(), GroupRefusal> {
        match self {
            Self::Room => check_lifetime(lifetime, now).map_err(GroupRefusal::LeafLifetime),
            Self::Recording => Ok(()),
        }
    }

    /// Whom somebody may remove who joins externally: the leaf that they had before. Where members are nobody, MLS checks that.
    pub(super) fn check_external_removals(
        self,
        removed: &[DeviceRef],
        committer: &DeviceRef,
    ) -> Result<(), GroupRefusal> {
        let is_other = |member: &DeviceRef| !member.is_same_device(committer);
        match self {
            Self::Room if removed.iter().any(is_other) => Err(GroupRefusal::ExternalRemoval),
            Self::Room | Self::Recording => Ok(()),
        }
    }
}

const NO_ROOM: &str = "!recording:recording.invalid";
const NOWHERE: &str = "recording.invalid";
