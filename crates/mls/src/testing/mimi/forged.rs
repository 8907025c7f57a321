//! What no honest client sends: messages that are signed as they should be, and say what OpenMLS would not.

use nabe_wire::mls::{
    Commit as WireCommit, FramedContent, FramedContentBody, GroupInfo, MlsMessage, MlsMessageBody, Proposal,
    ProposalOrRef, PublicMessage, Sender,
};
use nabe_wire::{Encode as _, Kept, label};

use super::member::MimiMember;
use super::translate::encode;

impl MimiMember {
    /// A message of this member of any content: signed as it should be, its tags made up, which only members can tell.
    #[must_use]
    pub fn forge(&self, aad: &[u8], body: FramedContentBody) -> Kept<MlsMessage> {
        let content = FramedContent {
            group_id: self.group.group_id().as_slice().into(),
            epoch: self.epoch(),
            sender: Sender::Member {
                leaf_index: self.leaf(),
            },
            authenticated_data: aad.into(),
            body,
        };
        self.forge_content(content)
    }

    /// A commit without a path that contains any proposals.
    #[must_use]
    pub fn forge_commit(&self, proposals: Vec<ProposalOrRef>) -> Kept<MlsMessage> {
        let commit = WireCommit { proposals, path: None };
        self.forge(&[0], FramedContentBody::Commit(Box::new(commit)))
    }

    /// A proposal of any kind by itself.
    #[must_use]
    pub fn forge_proposal(&self, proposal: Proposal) -> Kept<MlsMessage> {
        self.forge(&[0], FramedContentBody::Proposal(Box::new(Kept::new(proposal))))
    }

    /// Signs and completes any content as this member's.
    #[must_use]
    pub fn forge_content(&self, content: FramedContent) -> Kept<MlsMessage> {
        let context = encode(self.group.public_group().group_context());
        let signed = [&[0, 1, 0, 1], &content.to_bytes()[..], &context].concat();
        let signature = label::sign_with_label(&self.device.shared.signer, "FramedContentTBS", &signed);
        let tag = Some([7; 32].as_slice().into());
        Kept::new(MlsMessage {
            body: MlsMessageBody::Public(Box::new(PublicMessage {
                content,
                signature: signature.expect("the key signs"),
                confirmation_tag: tag.clone(),
                membership_tag: tag,
            })),
        })
    }

    /// Signs a GroupInfo as this member.
    #[must_use]
    pub fn sign_group_info(&self, info: GroupInfo) -> Kept<GroupInfo> {
        let mut signed = info.group_context.to_bytes();
        info.extensions.encode(&mut signed);
        info.confirmation_tag.encode(&mut signed);
        info.signer.encode(&mut signed);
        let signature = label::sign_with_label(&self.device.shared.signer, "GroupInfoTBS", &signed);
        let signature = signature.expect("the key signs");
        Kept::new(GroupInfo { signature, ..info })
    }
}
