//! What no honest client sends: messages that are signed as they should be, and say what OpenMLS would not.

use nabe_wire::mls::{
    Commit, ComponentId, Extension, ExtensionType, FramedContent, FramedContentBody, GroupContext, GroupInfo,
    MlsMessage, MlsMessageBody, Proposal, ProposalOrRef, PublicMessage, Sender, WireFormat,
};
use nabe_wire::{Encode as _, Kept, label};
use openmls_traits::crypto::OpenMlsCrypto as _;

use super::bundle::TestBundle;
use super::member::MimiMember;
use super::translate::{context_of, encode};
use crate::provider::crypto;

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
        let commit = Commit { proposals, path: None };
        self.forge(&[0], FramedContentBody::Commit(Box::new(commit)))
    }

    /// The commit of a bundle with these proposals instead of its own, and the GroupInfo of the epoch that begins with it if the group's
    /// context has these extensions then. Only members can tell it from one that is right in all but what it proposes: its tags are made up,
    /// and nobody can open its path. Proposals that change the tree have to be those of the bundle.
    ///
    /// # Panics
    /// If the bundle has no commit of this member's, or its GroupInfo is in parts.
    #[must_use]
    pub fn forge_bundle(
        &self,
        honest: &TestBundle,
        proposals: Vec<Proposal>,
        extensions: Vec<Extension>,
    ) -> TestBundle {
        let MlsMessageBody::Public(public) = &honest.commit.body else {
            panic!("handshakes are public");
        };
        let FramedContentBody::Commit(commit) = &public.content.body else {
            panic!("a bundle with a commit is expected");
        };
        let proposals = proposals.into_iter().map(ProposalOrRef::Proposal).collect();
        let path = commit.path.clone();
        let commit = self.forge(&[0], FramedContentBody::Commit(Box::new(Commit { proposals, path })));
        let honest_info = honest.group_info();
        let group_context = GroupContext {
            confirmed_transcript_hash: self.transcript_hash_after(&commit).into(),
            extensions,
            ..honest_info.group_context.clone()
        };
        let info = GroupInfo {
            group_context,
            confirmation_tag: MADE_UP_TAG.into(),
            ..honest_info.clone()
        };
        TestBundle {
            commit,
            parts: honest.parts.clone(),
        }
        .with_group_info(self.sign_group_info(info))
    }

    /// The extensions of the group's context, with this data of components.
    ///
    /// # Panics
    /// Never: a room's group has a dictionary.
    #[must_use]
    pub fn extensions_with(&self, components: &[(ComponentId, Option<Vec<u8>>)]) -> Vec<Extension> {
        let mut extensions = context_of(self).extensions;
        let dictionary = Extension::app_data_dictionary(&extensions);
        let mut dictionary = dictionary.expect("a room's group has one").expect("it reads");
        for (component, data) in components {
            match data {
                Some(data) => dictionary.set(*component, data.clone()),
                None => drop(dictionary.remove(*component)),
            }
        }
        for extension in &mut extensions {
            if extension.extension_type == ExtensionType::APP_DATA_DICTIONARY {
                extension.extension_data = dictionary.to_bytes().into();
            }
        }
        extensions
    }

    /// The confirmed transcript hash once a commit on top of this member's epoch is in it (RFC 9420, 8.2).
    fn transcript_hash_after(&self, commit: &Kept<MlsMessage>) -> Vec<u8> {
        let MlsMessageBody::Public(public) = &commit.body else {
            panic!("handshakes are public");
        };
        let (info, _) = self.hand_over();
        let mut interim = info.group_context.confirmed_transcript_hash.to_vec();
        info.confirmation_tag.encode(&mut interim);
        let mut confirmed = self.hash(&interim);
        confirmed.extend(WireFormat::PUBLIC_MESSAGE.to_bytes());
        public.content.encode(&mut confirmed);
        public.signature.encode(&mut confirmed);
        self.hash(&confirmed)
    }

    fn hash(&self, bytes: &[u8]) -> Vec<u8> {
        let suite = self.device.shared.suite.ciphersuite();
        crypto()
            .hash(suite.hash_algorithm(), bytes)
            .expect("the suite is known")
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
        let tag = Some(MADE_UP_TAG.into());
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

const MADE_UP_TAG: &[u8] = &[7; 32];

#[cfg(test)]
mod tests {
    use nabe_wire::mls::{ComponentId, Proposal};

    use super::super::super::wall_clock;
    use super::super::{Change, MimiDevice, ROOM, TestHub, found, metadata, set_component};
    use crate::mimi::MimiRefusal;

    #[test]
    fn a_forged_bundle_is_right_in_all_but_what_it_proposes() {
        let hub = TestHub::new("mimi://a.example");
        let mut alice = MimiDevice::new("mimi://a.example/d/alice/A").create_room(&hub);
        let mut group = found(&hub, &alice);
        // Behind the first epoch, whose transcript is empty.
        let first = alice.commit(Change::default());
        let staged = group.stage(&first.commit, &first.parts, wall_clock()).unwrap();
        group.merge(&staged.bytes).unwrap();
        alice.merge();
        let honest = alice.update();
        let named = (ComponentId::ROOM_METADATA, Some(metadata(ROOM, "Cellar")));
        let update = set_component(ComponentId::ROOM_METADATA, metadata(ROOM, "Cellar"));
        let update = Proposal::AppDataUpdate(update);
        let same = Proposal::GroupContextExtensions(alice.extensions_with(&[]));
        let other = Proposal::GroupContextExtensions(alice.extensions_with(std::slice::from_ref(&named)));
        let forge = |proposal: &Proposal, believed: &[_]| {
            let bundle = alice.forge_bundle(&honest, vec![proposal.clone()], alice.extensions_with(believed));
            group.stage(&bundle.commit, &bundle.parts, wall_clock()).err()
        };
        assert_eq!(forge(&same, &[]), None);
        assert_eq!(forge(&update, &[]), Some(MimiRefusal::GroupInfoMismatch));
        let named = [named];
        assert_eq!(forge(&update, &named), None);
        assert_eq!(forge(&other, &named), Some(MimiRefusal::DictionaryByExtensions));
    }
}
