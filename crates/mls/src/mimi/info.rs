//! The GroupInfo that comes with a commit, whole or in part (MIMI #update-room-state).

use std::sync::Arc;

use nabe_wire::mls::{
    ExtensionType, GroupContext, GroupInfo, GroupInfoOption, PartialGroupInfo, RatchetTreePresence, RebuildError,
};

use super::refusal::MimiRefusal;
use crate::meanwhile::Meanwhile;
use crate::provider::crypto;

/// Puts the GroupInfo together as the committer signed it, if it did.
pub(super) fn assemble(
    option: &GroupInfoOption,
    context: GroupContext,
    confirmation_tag: &[u8],
    signer: u32,
) -> Result<GroupInfo, MimiRefusal> {
    let partial = match option {
        GroupInfoOption::Partial(partial) => partial.clone(),
        GroupInfoOption::Full(info) => {
            if info.group_context != context || info.confirmation_tag[..] != *confirmation_tag {
                return Err(MimiRefusal::GroupInfoMismatch);
            }
            if info.signer != signer {
                return Err(MimiRefusal::GroupInfoOtherSigner);
            }
            PartialGroupInfo::of(info)
        }
    };
    check_external_pub(&partial)?;
    let assembled = partial.assemble(context, confirmation_tag, signer);
    assembled.map_err(|error| match error {
        RebuildError::TreeInside | RebuildError::TreeAmongExtensions => MimiRefusal::GroupInfoTreeInside,
        RebuildError::Signature(_) => MimiRefusal::GroupInfoBadSignature,
    })
}

/// Whether a GroupInfo is signed by whoever has to have signed it: checked while other work is done. What is signed is the whole context,
/// with the participant list in it.
pub(super) struct InfoSignature(Meanwhile<Signed, bool>);

/// A GroupInfo and the key.
struct Signed {
    info: Arc<GroupInfo>,
    key: Vec<u8>,
}

impl InfoSignature {
    pub(super) fn offer(info: &Arc<GroupInfo>, key: &[u8]) -> Self {
        let signed = Signed {
            info: Arc::clone(info),
            key: key.to_vec(),
        };
        Self(Meanwhile::offer(signed, |signed| {
            signed.info.check_signature(crypto(), &signed.key).is_ok()
        }))
    }

    pub(super) fn holds(self) -> bool {
        self.0.finish()
    }
}

/// Who joins externally needs the group's public key, one, and well-formed.
pub(super) fn check_external_pub(partial: &PartialGroupInfo) -> Result<(), MimiRefusal> {
    if partial.ratchet_tree_presence != RatchetTreePresence::NO_RATCHET_TREE
        && partial.ratchet_tree_presence != RatchetTreePresence::REMOVED
    {
        return Err(MimiRefusal::GroupInfoTreeInside);
    }
    let extensions = partial.group_info_extensions.iter();
    let mut keys = extensions.filter(|extension| extension.extension_type == ExtensionType::EXTERNAL_PUB);
    let (Some(key), None) = (keys.next(), keys.next()) else {
        return Err(MimiRefusal::GroupInfoWithoutExternalPub);
    };
    let mut reader = crate::codec::Reader::new(&key.extension_data);
    if reader.opaque().is_ok_and(|key| !key.is_empty()) && reader.is_empty() {
        Ok(())
    } else {
        Err(MimiRefusal::GroupInfoWithoutExternalPub)
    }
}
