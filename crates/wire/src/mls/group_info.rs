//! What joiners are given: RFC 9420 sections 8.1 and 12.4.3, and the partial form of draft-mahy-mls-ratchet-tree-options.

use openmls_traits::crypto::OpenMlsCrypto;

use super::key_package::Extension;
use super::names::{CipherSuite, ExtensionType, ProtocolVersion};
use super::proposal::HpkeCiphertext;
use crate::codec::{Bytes, Decode, DecodeError, Encode, Kept, Reader, Rule, open_enum, wire_struct};
use crate::label::{self, SignatureError, Signed, Verified};

wire_struct! {
    /// `GroupContext`: what all members agree on in an epoch.
    pub struct GroupContext {
        /// Always MLS 1.0 so far.
        pub version: ProtocolVersion,
        /// The group's suite.
        pub cipher_suite: CipherSuite,
        /// Which group.
        pub group_id: Bytes,
        /// Which epoch.
        pub epoch: u64,
        /// Of the ratchet tree.
        pub tree_hash: Bytes,
        /// Of all commits so far.
        pub confirmed_transcript_hash: Bytes,
        /// The room's state among them (MIMI #cryptographic-room-representation).
        pub extensions: Vec<Extension>,
    }
}

wire_struct! {
    /// `GroupInfo`: an epoch, vouched for by a member.
    pub struct GroupInfo {
        /// The epoch.
        pub group_context: GroupContext,
        /// More for joiners.
        pub extensions: Vec<Extension>,
        /// Of the commit that began the epoch.
        pub confirmation_tag: Bytes,
        /// The leaf of the member that signs.
        pub signer: u32,
        /// By that member.
        pub signature: Bytes,
    }
}

impl GroupInfo {
    /// Checks that the holder of `key`, which must be that of the leaf `signer`, signed it.
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn verify(self, crypto: &impl OpenMlsCrypto, key: &[u8]) -> Result<Verified<Self>, SignatureError> {
        label::verify(crypto, self.group_context.cipher_suite, key, self)
    }

    /// The same check, of a GroupInfo that others look at meanwhile.
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn check_signature(&self, crypto: &impl OpenMlsCrypto, key: &[u8]) -> Result<(), SignatureError> {
        label::check(crypto, self.group_context.cipher_suite, key, self)
    }

    /// True if the whole tree is among the extensions, which MIMI's structs leave out.
    pub fn has_ratchet_tree(&self) -> bool {
        has_ratchet_tree(&self.extensions)
    }
}

impl Signed for GroupInfo {
    const LABEL: &'static str = "GroupInfoTBS";

    fn to_be_signed(&self) -> Vec<u8> {
        label::concatenated(&[
            &self.group_context,
            &self.extensions,
            &self.confirmation_tag,
            &self.signer,
        ])
    }

    fn signature(&self) -> &[u8] {
        &self.signature
    }
}

fn has_ratchet_tree(extensions: &[Extension]) -> bool {
    extensions
        .iter()
        .any(|extension| extension.extension_type == ExtensionType::RATCHET_TREE)
}

/// A GroupInfo as MIMI's structs carry it: without the tree, which has a field of its own.
pub(crate) fn decode_without_tree(reader: &mut Reader<'_>) -> Result<Kept<GroupInfo>, DecodeError> {
    let start = reader.position();
    let group_info = Kept::<GroupInfo>::decode(reader)?;
    if group_info.has_ratchet_tree() {
        let found = ExtensionType::RATCHET_TREE.0;
        return Err(DecodeError::new(start, Rule::Extension { found }));
    }
    Ok(group_info)
}

wire_struct! {
    /// `Welcome`
    pub struct Welcome {
        /// The group's suite.
        pub cipher_suite: CipherSuite,
        /// One for each new member.
        pub secrets: Vec<EncryptedGroupSecrets>,
        /// The same for all.
        pub encrypted_group_info: Bytes,
    }
}

wire_struct! {
    /// `EncryptedGroupSecrets`
    pub struct EncryptedGroupSecrets {
        /// The `KeyPackageRef`: by it servers know where a Welcome goes (MIMI #fanout-messages-and-room-events).
        pub new_member: Bytes,
        /// Sealed for the key package's init key.
        pub encrypted_group_secrets: HpkeCiphertext,
    }
}

open_enum! {
    /// `RatchetTreePresence`: whether the committer's GroupInfo had the tree among its extensions.
    pub struct RatchetTreePresence(u8) {
        /// Neither in this epoch nor in the one before.
        NO_RATCHET_TREE = 0 "no_ratchet_tree",
        /// In both.
        PRESENT = 1 "present",
        /// In the one before, and no more.
        REMOVED = 2 "removed",
        /// In this one for the first time.
        ADDED = 3 "added",
    }
}

wire_struct! {
    /// `PartialGroupInfo`: those parts of a GroupInfo that a server that follows the group cannot work out.
    pub struct PartialGroupInfo {
        /// Whether the tree belongs into the whole.
        pub ratchet_tree_presence: RatchetTreePresence,
        /// Those of the GroupInfo, without the tree.
        pub group_info_extensions: Vec<Extension>,
        /// The committer's, over the whole.
        pub signature: Bytes,
    }
}

/// Why a GroupInfo cannot be put together from its parts.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RebuildError {
    /// The signature is over a GroupInfo with the tree inside. The draft does not say where among the extensions it
    /// stands, and MIMI has committers leave it out.
    #[error("the signed GroupInfo has the tree inside")]
    TreeInside,
    /// `group_info_extensions` has a tree, which the draft excludes.
    #[error("the tree is among the extensions")]
    TreeAmongExtensions,
    /// The committer did not sign this GroupInfo.
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

impl PartialGroupInfo {
    /// The parts of a GroupInfo without the tree.
    pub fn of(group_info: &GroupInfo) -> Self {
        Self {
            ratchet_tree_presence: RatchetTreePresence::NO_RATCHET_TREE,
            group_info_extensions: group_info.extensions.clone(),
            signature: group_info.signature.clone(),
        }
    }

    /// The whole GroupInfo, as the committer signed it: `context` is that of the new epoch as the server has worked it
    /// out, `confirmation_tag` that of the commit, `signer` and `key` the committer's leaf and its new signature key.
    ///
    /// # Errors
    /// [`RebuildError`].
    pub fn rebuild(
        &self,
        context: GroupContext,
        confirmation_tag: &[u8],
        signer: u32,
        crypto: &impl OpenMlsCrypto,
        key: &[u8],
    ) -> Result<Verified<GroupInfo>, RebuildError> {
        let group_info = self.assemble(context, confirmation_tag, signer)?;
        Ok(group_info.verify(crypto, key)?)
    }

    /// The same with the signature still to be checked.
    ///
    /// # Errors
    /// [`RebuildError`], but not for the signature.
    pub fn assemble(
        &self,
        context: GroupContext,
        confirmation_tag: &[u8],
        signer: u32,
    ) -> Result<GroupInfo, RebuildError> {
        if !matches!(
            self.ratchet_tree_presence,
            RatchetTreePresence::NO_RATCHET_TREE | RatchetTreePresence::REMOVED
        ) {
            return Err(RebuildError::TreeInside);
        }
        if has_ratchet_tree(&self.group_info_extensions) {
            return Err(RebuildError::TreeAmongExtensions);
        }
        Ok(GroupInfo {
            group_context: context,
            extensions: self.group_info_extensions.clone(),
            confirmation_tag: confirmation_tag.into(),
            signer,
            signature: self.signature.clone(),
        })
    }
}

open_enum! {
    /// `GroupInfoRepresentation` (MIMI #update-room-state)
    pub struct GroupInfoRepresentation(u8) {
        /// All of it.
        FULL = 1 "full",
        /// What the server cannot work out.
        PARTIAL = 2 "partial",
    }
}

/// `GroupInfoOption` (MIMI #update-room-state)
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum GroupInfoOption {
    /// All of it, without the tree.
    Full(Box<Kept<GroupInfo>>),
    /// What the hub cannot work out.
    Partial(PartialGroupInfo),
}

impl Encode for GroupInfoOption {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Full(group_info) => {
                GroupInfoRepresentation::FULL.encode(out);
                group_info.encode(out);
            }
            Self::Partial(partial) => {
                GroupInfoRepresentation::PARTIAL.encode(out);
                partial.encode(out);
            }
        }
    }
}

impl Decode for GroupInfoOption {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let start = reader.position();
        match reader.read("representation")? {
            GroupInfoRepresentation::FULL => {
                let group_info = reader.field("group_info", decode_without_tree)?;
                Ok(Self::Full(Box::new(group_info)))
            }
            GroupInfoRepresentation::PARTIAL => reader.read("partial_group_info").map(Self::Partial),
            other => Err(DecodeError::unknown(start, "representation", other.0)),
        }
    }
}
