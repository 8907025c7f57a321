//! One client's side of a room's group: what it proposes, commits, takes in, encrypts and decrypts.

use nabe_wire::mls::{
    AppDataUpdate, ComponentId, FramedContentBody, GroupInfo, MlsMessage, MlsMessageBody, PrivateMessage, Proposal,
    RatchetTree, Sender,
};
use nabe_wire::{Kept, Message as _};
use openmls::ciphersuite::hash_ref::ProposalRef as MlsProposalRef;
use openmls::credentials::{Credential, CredentialWithKey, NewSignerBundle};
use openmls::framing::{ProcessedMessageContent, SafeAadItem as MlsSafeAadItem, Sender as MlsSender};
use openmls::group::{GroupContext as MlsGroupContext, MlsGroup, Propose};
use openmls::messages::proposals::{AppEphemeralProposal, Proposal as MlsProposal};
use openmls::prelude::{Extensions, LeafNodeIndex, LeafNodeParameters, ProposalOrRefType, SenderExtensionIndex};
use openmls_traits::OpenMlsProvider as _;
use tls_codec::Deserialize as _;

use super::bundle::TestBundle;
use super::components::{app_data_changes, app_data_update};
use super::device::MimiDevice;
use super::translate::{encode, message_in, read_key_package, read_message};

/// One client's side of a room's group.
pub struct MimiMember {
    pub(super) device: MimiDevice,
    pub(super) group: MlsGroup,
}

/// What a commit is to contain beside what is pending.
#[derive(Default)]
pub struct Change {
    /// Key packages of clients to add.
    pub add: Vec<Vec<u8>>,
    /// Leaves to remove.
    pub remove: Vec<u32>,
    /// Updates of components.
    pub updates: Vec<AppDataUpdate>,
    /// New extensions of the group's context.
    pub extensions: Option<Extensions<MlsGroupContext>>,
    /// Another credential for the committer's leaf.
    pub credential: Option<Credential>,
    /// Whether pending proposals are left out.
    pub leave_out_pending: bool,
}

impl MimiMember {
    /// The client.
    #[must_use]
    pub const fn device(&self) -> &MimiDevice {
        &self.device
    }

    /// OpenMLS's group.
    #[must_use]
    pub const fn group(&self) -> &MlsGroup {
        &self.group
    }

    /// The epoch it is in.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.group.epoch().as_u64()
    }

    /// Its leaf's index.
    #[must_use]
    pub fn leaf(&self) -> u32 {
        self.group.own_leaf_index().u32()
    }

    /// The value on which two members of one epoch agree.
    #[must_use]
    pub fn epoch_authenticator(&self) -> &[u8] {
        self.group.epoch_authenticator().as_slice()
    }

    /// Hash of the ratchet tree.
    #[must_use]
    pub fn tree_hash(&self) -> &[u8] {
        self.group.public_group().group_context().tree_hash()
    }

    /// What its client hands the hub to begin with: GroupInfo and tree.
    #[must_use]
    pub fn hand_over(&self) -> (Kept<GroupInfo>, RatchetTree) {
        let shared = &self.device.shared;
        let info = self
            .group
            .export_group_info(shared.provider.crypto(), &shared.signer, false)
            .expect("a GroupInfo is made");
        let MlsMessageBody::GroupInfo(info) = read_message(&info).into_value().body else {
            panic!("a GroupInfo is expected");
        };
        (*info, self.tree())
    }

    /// The ratchet tree.
    #[must_use]
    pub fn tree(&self) -> RatchetTree {
        RatchetTree::from_bytes(&encode(&self.group.export_ratchet_tree())).expect("a tree reads")
    }

    /// Proposes to add the owner of a key package.
    pub fn propose_add(&mut self, key_package: &[u8]) -> Kept<MlsMessage> {
        self.propose(Propose::Add(read_key_package(key_package)))
    }

    /// Proposes to remove the client at a leaf.
    pub fn propose_remove(&mut self, leaf: u32) -> Kept<MlsMessage> {
        self.propose(Propose::Remove(leaf))
    }

    /// Proposes a new leaf for itself.
    pub fn propose_update(&mut self) -> Kept<MlsMessage> {
        self.propose(Propose::Update(LeafNodeParameters::default()))
    }

    /// Proposes new extensions of the group's context.
    pub fn propose_extensions(&mut self, extensions: Extensions<MlsGroupContext>) -> Kept<MlsMessage> {
        self.propose(Propose::GroupContextExtensions(extensions))
    }

    /// Proposes an update of a component.
    pub fn propose_component(&mut self, update: &AppDataUpdate) -> Kept<MlsMessage> {
        let component_id = update.component_id.0;
        self.propose(match &update.update {
            Some(update) => Propose::UpdateAppDataComponent {
                component_id,
                update: update.to_vec(),
            },
            None => Propose::RemoveAppDataComponent { component_id },
        })
    }

    /// Asks to be removed.
    pub fn leave(&mut self) -> Kept<MlsMessage> {
        let shared = &self.device.shared;
        let message = self
            .group
            .leave_group_via_self_remove(&shared.provider, &shared.signer)
            .expect("a SelfRemove is made");
        read_message(&message)
    }

    /// Commits what is pending, and a new key for itself. Not merged until [`MimiMember::merge`], like all commits.
    pub fn update(&mut self) -> TestBundle {
        self.commit(Change::default())
    }

    /// Commits a leaf that signs with another client's key from now on.
    pub fn update_with_key_of(&mut self, other: &MimiDevice) -> TestBundle {
        let shared = self.device.shared.clone();
        let signer = &other.shared.signer;
        let new_signer = NewSignerBundle {
            signer,
            credential_with_key: CredentialWithKey {
                credential: self.device.credential.clone(),
                signature_key: signer.public().into(),
            },
        };
        let (rand, crypto) = (shared.provider.rand(), shared.provider.crypto());
        let bundle = self
            .group
            .commit_builder()
            .load_psks(shared.provider.storage())
            .expect("there are none")
            .create_group_info(true)
            .build_with_new_signer(rand, crypto, &shared.signer, new_signer, |_| true)
            .expect("a commit is made")
            .stage_commit(&shared.provider)
            .expect("a commit is staged");
        TestBundle::new(bundle)
    }

    /// Commits what is pending and these changes.
    pub fn commit(&mut self, change: Change) -> TestBundle {
        let shared = self.device.shared.clone();
        let inherited = self
            .group
            .pending_proposals()
            .filter_map(|queued| match queued.proposal() {
                MlsProposal::AppDataUpdate(update) if !change.leave_out_pending => {
                    Some(AppDataUpdate::from_bytes(&encode(&**update)).expect("an update reads"))
                }
                _ => None,
            });
        let updates: Vec<_> = inherited.chain(change.updates.iter().cloned()).collect();
        let own_updates = change.updates.iter().map(app_data_update);
        let mut builder = self
            .group
            .commit_builder()
            .consume_proposal_store(!change.leave_out_pending)
            .force_self_update(true)
            .propose_adds(change.add.iter().map(|package| read_key_package(package)))
            .propose_removals(change.remove.iter().map(|&leaf| LeafNodeIndex::new(leaf)));
        if let Some(extensions) = change.extensions {
            builder = builder
                .propose_group_context_extensions(extensions)
                .expect("extensions are proposed");
        }
        if let Some(credential) = change.credential {
            let signature_key = shared.signer.public().into();
            let with_key = CredentialWithKey {
                credential,
                signature_key,
            };
            builder =
                builder.leaf_node_parameters(LeafNodeParameters::builder().with_credential_with_key(with_key).build());
        }
        let mut loaded = builder
            .add_proposals(own_updates.map(|update| MlsProposal::AppDataUpdate(Box::new(update))))
            .load_psks(shared.provider.storage())
            .expect("there are none");
        let changes = app_data_changes(loaded.app_data_dictionary_updater(), &updates);
        loaded.with_app_data_dictionary_updates(changes);
        let bundle = loaded
            .create_group_info(true)
            .build(shared.provider.rand(), shared.provider.crypto(), &shared.signer, |_| {
                true
            })
            .expect("a commit is made")
            .stage_commit(&shared.provider)
            .expect("a commit is staged");
        TestBundle::new(bundle)
    }

    /// The pending commit was accepted.
    pub fn merge(&mut self) {
        self.group
            .merge_pending_commit(&self.device.shared.provider)
            .expect("a pending commit is merged");
    }

    /// The pending commit was refused.
    pub fn clear(&mut self) {
        let storage = self.device.shared.provider.storage();
        self.group
            .clear_pending_commit(storage)
            .expect("a pending commit is dropped");
    }

    /// Forgets what is proposed.
    pub fn clear_proposals(&mut self) {
        let storage = self.device.shared.provider.storage();
        self.group
            .clear_pending_proposals(storage)
            .expect("proposals are dropped");
    }

    /// Its own proposal was refused.
    pub fn forget(&mut self, reference: &crate::mimi::ProposalRef) {
        let mut encoded = Vec::new();
        crate::codec::write_opaque(&mut encoded, reference.as_bytes());
        let reference = MlsProposalRef::tls_deserialize_exact(encoded).expect("a reference decodes");
        let storage = self.device.shared.provider.storage();
        self.group
            .remove_pending_proposal(storage, &reference)
            .expect("it is pending here");
    }

    /// Takes in a handshake message that the hub fanned out.
    pub fn process(&mut self, message: &Kept<MlsMessage>) {
        let provider = &self.device.shared.provider;
        if let Some(queued) = self.external_app_data(message) {
            return self
                .group
                .store_pending_proposal(provider.storage(), queued)
                .expect("a proposal is kept");
        }
        let protocol = message_in(message)
            .try_into_protocol_message()
            .expect("a message of a group");
        let processed = self
            .group
            .process_message(provider, protocol)
            .expect("a member takes the message");
        let staged = match processed.into_content() {
            ProcessedMessageContent::ProposalMessage(queued)
            | ProcessedMessageContent::ExternalJoinProposalMessage(queued) => {
                return self
                    .group
                    .store_pending_proposal(provider.storage(), *queued)
                    .expect("a proposal is kept");
            }
            ProcessedMessageContent::StagedCommitMessage(staged) => *staged,
            ProcessedMessageContent::UnresolvedAppDataCommit(unresolved) => {
                let updates: Vec<_> = unresolved
                    .app_data_update_proposals()
                    .map(|update| AppDataUpdate::from_bytes(&encode(update)).expect("an update reads"))
                    .collect();
                let changes = app_data_changes(self.group.app_data_dictionary_updater(), &updates);
                self.group
                    .stage_app_data_commit(provider, *unresolved, changes)
                    .expect("a member takes the commit")
            }
            _ => panic!("a handshake message is expected"),
        };
        self.group
            .merge_staged_commit(provider, staged)
            .expect("a staged commit is merged");
    }

    /// Encrypts an application message, with this franking tag beside it.
    pub fn encrypt(&mut self, plaintext: &[u8], franking_tag: Option<&[u8]>) -> PrivateMessage {
        let items = franking_tag.map(|tag| MlsSafeAadItem::new(ComponentId::FRANK_AAD.0, tag.to_vec()));
        self.group
            .set_safe_aad(items.into_iter().collect())
            .expect("one item is in order");
        let shared = &self.device.shared;
        let message = self
            .group
            .create_message(&shared.provider, &shared.signer, plaintext)
            .expect("a message is encrypted");
        match read_message(&message).into_value().body {
            MlsMessageBody::Private(message) => message,
            _ => panic!("application messages are private"),
        }
    }

    /// Decrypts an application message; `None` if it cannot.
    pub fn decrypt(&mut self, message: &PrivateMessage) -> Option<Vec<u8>> {
        let message = Kept::new(MlsMessage {
            body: MlsMessageBody::Private(message.clone()),
        });
        let protocol = message_in(&message).try_into_protocol_message().ok()?;
        let processed = self
            .group
            .process_message(&self.device.shared.provider, protocol)
            .ok()?;
        match processed.into_content() {
            ProcessedMessageContent::ApplicationMessage(message) => Some(message.into_bytes()),
            _ => None,
        }
    }

    fn propose(&mut self, proposal: Propose) -> Kept<MlsMessage> {
        let shared = &self.device.shared;
        let (message, _) = self
            .group
            .propose(&shared.provider, &shared.signer, proposal, ProposalOrRefType::Reference)
            .expect("a proposal is made");
        read_message(&message)
    }

    /// What OpenMLS does not take from an external sender, ready to be kept.
    fn external_app_data(&self, message: &Kept<MlsMessage>) -> Option<openmls::group::QueuedProposal> {
        let MlsMessageBody::Public(public) = &message.body else {
            return None;
        };
        let (FramedContentBody::Proposal(proposal), Sender::External { sender_index }) =
            (&public.content.body, public.content.sender)
        else {
            return None;
        };
        let proposal = match &***proposal {
            Proposal::AppDataUpdate(update) => MlsProposal::AppDataUpdate(Box::new(app_data_update(update))),
            Proposal::AppEphemeral(ephemeral) => {
                let data = ephemeral.data.to_vec();
                MlsProposal::AppEphemeral(Box::new(AppEphemeralProposal::new(ephemeral.component_id.0, data)))
            }
            _ => return None,
        };
        let sender = MlsSender::External(SenderExtensionIndex::new(sender_index));
        let queued = crate::mimi::queued(proposal, sender, public, self.device.shared.suite);
        Some(queued.expect("a sound proposal"))
    }
}
