//! Clients of MIMI rooms and a hub's key for tests, made with OpenMLS as a real client makes them; and messages that no honest
//! client sends. Whatever fails here panics.

use std::sync::Arc;

use nabe_wire::app_data::{AppDataDictionary, ComponentsList, MediaType, MediaTypeList, SafeAad, SafeAadItem};
use nabe_wire::group_info::{GroupInfoQuery, GroupInfoRatchetTreeTbe, GroupInfoRequestTbs, GroupInfoResponse};
use nabe_wire::key_material::{KeyMaterialQuery, KeyMaterialRequest, KeyMaterialRequestTbs};
use nabe_wire::mls::{
    AppDataUpdate, CipherSuite, Commit as WireCommit, ComponentId, ExternalSender, FramedContent, FramedContentBody,
    GroupContext, GroupInfo, GroupInfoOption, MlsMessage, MlsMessageBody, PartialGroupInfo, PrivateMessage, Proposal,
    ProposalOrRef, PublicMessage, RatchetTree, RatchetTreeOption, RequiredCapabilities, Sender, Welcome,
};
use nabe_wire::participant_list::{ParticipantListData, ParticipantListUpdate, UserIndexRolePair, UserRolePair};
use nabe_wire::policy::OperationalParameters;
use nabe_wire::protocol::Body;
use nabe_wire::room_metadata::RoomMetaData;
use nabe_wire::update::{CommitParts, HandshakeBundle, HandshakeParts};
use nabe_wire::uri::{MimiUri, Uri};
use nabe_wire::{Decode as _, Encode as _, IdentifierUri, Kept, Message as _, Reader, label};
use openmls::ciphersuite::hash_ref::{ProposalRef as MlsProposalRef, make_key_package_ref};
use openmls::component::ComponentData;
use openmls::credentials::{BasicCredential, Credential, CredentialWithKey, NewSignerBundle};
use openmls::extensions::{
    AppDataDictionary as MlsDictionary, AppDataDictionaryExtension, Extension, RequiredCapabilitiesExtension,
};
use openmls::framing::{ProcessedMessageContent, SafeAadItem as MlsSafeAadItem, Sender as MlsSender};
use openmls::group::{
    AppDataUpdates, CommitMessageBundle, GroupContext as MlsGroupContext, GroupId, MlsGroup, MlsGroupJoinConfig,
    PURE_PLAINTEXT_WIRE_FORMAT_POLICY, Propose, PublicGroup, StagedWelcome,
};
use openmls::messages::group_info::VerifiableGroupInfo;
use openmls::messages::proposals::{AppDataUpdateProposal, Proposal as MlsProposal};
use openmls::prelude::{
    Capabilities, CredentialType, ExtensionType, Extensions, ExternalSender as MlsExternalSender, KeyPackage,
    KeyPackageIn, LeafNode, LeafNodeIndex, LeafNodeParameters, Lifetime, MlsMessageBodyIn, MlsMessageIn, MlsMessageOut,
    ProposalOrRefType, ProposalType, ProtocolVersion, RatchetTreeIn, SenderExtensionIndex,
};
use openmls_basic_credential::SignatureKeyPair;
use openmls_rust_crypto::OpenMlsRustCrypto;
use openmls_traits::OpenMlsProvider as _;
use openmls_traits::crypto::OpenMlsCrypto as _;
use openmls_traits::signatures::Signer as _;
use tls_codec::Deserialize as _;

use super::paper::{OnPaper, Parents, group_info_on_paper, tree_on_paper};
use super::wall_clock;
use crate::mimi::{MimiGroup, resolve_components};
use crate::provider::{NoStorage, crypto};
use crate::suite::Suite;

/// The room of the draft's example.
pub const ROOM: &str = "mimi://a.example/r/clubhouse";

const GROUP: &str = "mimi://a.example/g/clubhouse";

/// The hub, by its key.
pub struct TestHub {
    signer: SignatureKeyPair,
    sender: ExternalSender,
}

impl TestHub {
    /// A hub, or another server that proposes.
    #[must_use]
    pub fn new(uri: &str) -> Self {
        Self::with_suite(uri, Suite::default())
    }

    /// One whose key is of another suite.
    #[must_use]
    pub fn with_suite(uri: &str, suite: Suite) -> Self {
        let signer = new_key(suite);
        let sender = ExternalSender {
            signature_key: signer.public().into(),
            credential: nabe_wire::mls::Credential::Basic {
                identity: uri.as_bytes().into(),
            },
        };
        Self { signer, sender }
    }

    /// Its key.
    #[must_use]
    pub const fn signer(&self) -> &SignatureKeyPair {
        &self.signer
    }

    /// What stands among a group's external senders.
    #[must_use]
    pub const fn sender(&self) -> &ExternalSender {
        &self.sender
    }

    /// The same in OpenMLS's terms.
    #[must_use]
    pub fn to_openmls(&self) -> MlsExternalSender {
        MlsExternalSender::tls_deserialize_exact(self.sender.to_bytes()).expect("it is encoded alike")
    }

    /// A proposal from outside by any number, signed with this key, whatever it says.
    #[must_use]
    pub fn propose(&self, index: u32, group: &MimiGroup, proposal: Proposal, aad: &[u8]) -> Kept<MlsMessage> {
        let sender = Sender::External { sender_index: index };
        propose_from_outside(&self.signer, group, sender, proposal, aad)
    }
}

impl label::Signer for TestHub {
    fn sign(&self, payload: &[u8]) -> Result<Vec<u8>, label::SignerError> {
        self.signer.sign(payload)
    }

    fn signature_scheme(&self) -> label::SignatureScheme {
        self.signer.signature_scheme()
    }
}

/// A client of a user: credential, signature key, and the private halves of the key packages it made.
#[derive(Clone)]
pub struct MimiDevice {
    shared: Arc<Shared>,
    credential: Credential,
    capabilities: Capabilities,
    dictionary: AppDataDictionary,
}

struct Shared {
    provider: OpenMlsRustCrypto,
    signer: SignatureKeyPair,
    suite: Suite,
}

impl MimiDevice {
    /// A client of the default suite, such as `mimi://a.example/d/alice/phone`.
    #[must_use]
    pub fn new(client: &str) -> Self {
        Self::with_suite(client, Suite::default())
    }

    /// A client of another suite.
    #[must_use]
    pub fn with_suite(client: &str, suite: Suite) -> Self {
        let mut dictionary = AppDataDictionary::new();
        dictionary.set(ComponentId::APP_COMPONENTS, components_list(SUPPORTED));
        dictionary.set(ComponentId::SAFE_AAD, components_list(&[ComponentId::FRANK_AAD]));
        dictionary.set(ComponentId::CONTENT_MEDIA_TYPES, media_types(&[CONTENT, "text/plain"]));
        Self {
            credential: BasicCredential::new(client.as_bytes().to_vec()).into(),
            capabilities: Capabilities::new(
                None,
                Some(&[suite.ciphersuite()]),
                Some(&[ExtensionType::AppDataDictionary]),
                Some(PROPOSALS),
                None,
            ),
            dictionary,
            shared: Arc::new(Shared {
                provider: OpenMlsRustCrypto::default(),
                signer: new_key(suite),
                suite,
            }),
        }
    }

    /// The same client with these components' data in its leaves.
    #[must_use]
    pub fn with_component(&self, component: ComponentId, data: Option<Vec<u8>>) -> Self {
        let mut device = self.clone();
        match data {
            Some(data) => device.dictionary.set(component, data),
            None => {
                device.dictionary.remove(component);
            }
        }
        device
    }

    /// The same client, which however puts this credential into its leaves.
    #[must_use]
    pub fn with_credential(&self, credential: Credential) -> Self {
        Self {
            credential,
            ..self.clone()
        }
    }

    /// The same client, which however says that it is this one.
    #[must_use]
    pub fn posing_as(&self, client: &str) -> Self {
        self.with_credential(BasicCredential::new(client.as_bytes().to_vec()).into())
    }

    /// The same client, whose leaves support these proposals beyond those that all know.
    #[must_use]
    pub fn with_proposals(&self, proposals: &[ProposalType]) -> Self {
        let suite = self.shared.suite.ciphersuite();
        let extensions = &[ExtensionType::AppDataDictionary];
        Self {
            capabilities: Capabilities::new(None, Some(&[suite]), Some(extensions), Some(proposals), None),
            ..self.clone()
        }
    }

    /// The URI of the user whose client it is.
    #[must_use]
    pub fn user(&self) -> String {
        user_of(self)
    }

    /// The URI of the client, or whatever its credential says.
    ///
    /// # Panics
    /// If the credential is no text.
    #[must_use]
    pub fn client(&self) -> String {
        let identity = self.credential.serialized_content().to_vec();
        String::from_utf8(identity).expect("a test's client is named by a URI")
    }

    /// A new key package, bare.
    #[must_use]
    pub fn key_package(&self) -> Vec<u8> {
        self.key_package_for(None)
    }

    /// A new key package that is valid from and until these seconds.
    #[must_use]
    pub fn key_package_for(&self, lifetime: Option<(u64, u64)>) -> Vec<u8> {
        let mut builder = KeyPackage::builder()
            .leaf_node_capabilities(self.capabilities.clone())
            .leaf_node_extensions(self.leaf_extensions());
        if let Some((not_before, not_after)) = lifetime {
            builder = builder.key_package_lifetime(Lifetime::init(not_before, not_after));
        }
        let shared = &self.shared;
        let bundle = builder
            .build(
                shared.suite.ciphersuite(),
                &shared.provider,
                &shared.signer,
                self.credential_with_key(),
            )
            .expect("a key package is made");
        encode(bundle.key_package())
    }

    /// A new key package that may be used more than once, bare.
    #[must_use]
    pub fn last_resort_key_package(&self) -> Vec<u8> {
        let shared = &self.shared;
        let suites = [shared.suite.ciphersuite()];
        let extensions = [ExtensionType::AppDataDictionary, ExtensionType::LastResort];
        let capabilities = Capabilities::new(None, Some(&suites), Some(&extensions), Some(PROPOSALS), None);
        let bundle = KeyPackage::builder()
            .leaf_node_capabilities(capabilities)
            .leaf_node_extensions(self.leaf_extensions())
            .mark_as_last_resort()
            .build(
                shared.suite.ciphersuite(),
                &shared.provider,
                &shared.signer,
                self.credential_with_key(),
            )
            .expect("a key package is made");
        encode(bundle.key_package())
    }

    /// A new key package of suite 1 whose leaf has this encryption key, to which somebody else has the private one.
    #[must_use]
    pub fn key_package_with_encryption_key(&self, key: &[u8]) -> Vec<u8> {
        super::with_encryption_key(&self.key_package(), key, &self.shared.signer)
    }

    /// Makes a room's group, with this client as its only member.
    #[must_use]
    pub fn create_room(&self, hub: &TestHub) -> MimiMember {
        self.create_room_with(&RoomDraft::new(self, hub))
    }

    /// Makes a group that may be unlike a room's.
    #[must_use]
    pub fn create_room_with(&self, draft: &RoomDraft) -> MimiMember {
        let shared = &self.shared;
        let group = MlsGroup::builder()
            .with_group_id(GroupId::from_slice(draft.group.as_bytes()))
            .ciphersuite(shared.suite.ciphersuite())
            .with_capabilities(self.capabilities.clone())
            .with_leaf_node_extensions(self.leaf_extensions())
            .expect("a dictionary belongs into a leaf")
            .with_group_context_extensions(draft.extensions())
            .use_ratchet_tree_extension(false)
            .with_wire_format_policy(PURE_PLAINTEXT_WIRE_FORMAT_POLICY)
            .build(&shared.provider, &shared.signer, self.credential_with_key())
            .expect("a group is made");
        self.member(group)
    }

    /// Joins by a Welcome and the tree that comes with it.
    #[must_use]
    pub fn join(&self, welcome: &Kept<Welcome>, tree: &RatchetTreeOption) -> MimiMember {
        let welcome = openmls::messages::Welcome::tls_deserialize_exact(welcome.as_bytes()).expect("a Welcome decodes");
        let provider = &self.shared.provider;
        let group = StagedWelcome::new_from_welcome(provider, &join_config(), welcome, Some(tree_in(tree)))
            .and_then(|staged| staged.into_group(provider))
            .expect("the Welcome is for this client");
        self.member(group)
    }

    /// Joins by an external commit on top of what the hub hands out, with these updates of components in it. The member is in
    /// the new epoch at once.
    #[must_use]
    pub fn join_externally(&self, group: &MimiGroup, updates: &[AppDataUpdate]) -> (MimiMember, TestBundle) {
        let pending: Vec<_> = group.pending().map(|pending| pending.message.clone()).collect();
        let info = group.group_info();
        self.join_externally_with(info.as_bytes(), &group.ratchet_tree(), &pending, updates)
    }

    /// The same with any GroupInfo, tree and pending proposals, of which it takes the SelfRemoves.
    #[must_use]
    pub fn join_externally_with(
        &self,
        group_info: &[u8],
        tree: &RatchetTreeOption,
        pending: &[Kept<MlsMessage>],
        updates: &[AppDataUpdate],
    ) -> (MimiMember, TestBundle) {
        let info = VerifiableGroupInfo::tls_deserialize_exact(group_info).expect("a GroupInfo decodes");
        let pending = pending.iter().map(|message| match message_in(message).extract() {
            MlsMessageBodyIn::PublicMessage(message) => message,
            _ => panic!("a proposal that servers can read"),
        });
        let provider = &self.shared.provider;
        let mut builder = MlsGroup::external_commit_builder()
            .with_proposals(pending.collect())
            .with_ratchet_tree(tree_in(tree))
            .with_config(join_config())
            .build_group(provider, info, self.credential_with_key())
            .expect("what the hub hands out is sound")
            .leaf_node_parameters(
                LeafNodeParameters::builder()
                    .with_capabilities(self.capabilities.clone())
                    .with_extensions(self.leaf_extensions())
                    .build(),
            );
        for update in updates {
            builder = builder.add_app_data_update_proposal(app_data_update(update));
        }
        let mut loaded = builder.load_psks(provider.storage()).expect("there are none");
        let changes = app_data_changes(loaded.app_data_dictionary_updater(), updates);
        loaded.with_app_data_dictionary_updates(changes);
        let (group, bundle) = loaded
            .create_group_info(true)
            .build(provider.rand(), provider.crypto(), &self.shared.signer, |_| true)
            .expect("an external commit is made")
            .finalize(provider)
            .expect("an external commit is finished");
        (self.member(group), TestBundle::new(bundle))
    }

    /// Asks to be added.
    #[must_use]
    pub fn ask_to_join(&self, group: &MimiGroup) -> Kept<MlsMessage> {
        let package = nabe_wire::mls::KeyPackage::from_bytes(&self.key_package()).expect("a key package reads");
        let proposal = Proposal::Add(Box::new(Kept::new(package)));
        propose_from_outside(&self.shared.signer, group, Sender::NewMemberProposal, proposal, &[0])
    }

    /// Any proposal as one who is not in the group.
    #[must_use]
    pub fn propose_as_new_member(&self, group: &MimiGroup, proposal: Proposal) -> Kept<MlsMessage> {
        propose_from_outside(&self.shared.signer, group, Sender::NewMemberProposal, proposal, &[0])
    }

    fn member(&self, group: MlsGroup) -> MimiMember {
        MimiMember {
            device: self.clone(),
            group,
        }
    }

    fn leaf_extensions(&self) -> Extensions<LeafNode> {
        Extensions::single(dictionary_extension(&self.dictionary)).expect("a dictionary belongs into a leaf")
    }

    fn credential_with_key(&self) -> CredentialWithKey {
        CredentialWithKey {
            credential: self.credential.clone(),
            signature_key: self.shared.signer.public().into(),
        }
    }
}

impl OnPaper for MimiDevice {
    fn signature_key(&self) -> &[u8] {
        self.shared.signer.public()
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.shared.signer.sign(message).expect("the key signs")
    }

    fn credential(&self) -> Credential {
        self.credential.clone()
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities.clone()
    }

    fn extensions(&self) -> Vec<u8> {
        content_of(&encode(&self.leaf_extensions()))
    }
}

/// A room of these clients as a client would hand it over, but for that it is written down instead of grown: see
/// [`super::group_state_on_paper`]. Each client's user is a participant.
#[must_use]
pub fn room_on_paper(hub: &TestHub, members: &[MimiDevice], parents: Parents) -> (Kept<GroupInfo>, RatchetTree) {
    room_on_paper_with(hub, members, parents, |_| {})
}

/// The same with other components.
pub fn room_on_paper_with(
    hub: &TestHub,
    members: &[MimiDevice],
    parents: Parents,
    adjust: impl FnOnce(&mut RoomDraft),
) -> (Kept<GroupInfo>, RatchetTree) {
    let mut draft = RoomDraft::new(&members[0], hub);
    let users: Vec<_> = members.iter().map(user_of).collect();
    draft.set(ComponentId::PARTICIPANT_LIST, list_of(users.into_iter()));
    adjust(&mut draft);
    let (tree, tree_hash) = tree_on_paper(GROUP, members, parents);
    let context_extensions = content_of(&encode(&draft.extensions()));
    let info = group_info_on_paper(GROUP, &members[0], &tree_hash, &context_extensions, None);
    (
        Kept::new(GroupInfo::from_bytes(&info).expect("a GroupInfo reads")),
        RatchetTree::from_bytes(&tree).expect("a tree reads"),
    )
}

/// What a new group's context will have in it.
#[derive(Clone)]
pub struct RoomDraft {
    /// The group's ID.
    pub group: String,
    /// The components' data.
    pub dictionary: AppDataDictionary,
    /// Who may propose from outside.
    pub senders: Vec<MlsExternalSender>,
    /// The proposals that members have to support.
    pub proposals: Vec<ProposalType>,
}

impl RoomDraft {
    /// A room whose only participant is this client's user.
    #[must_use]
    pub fn new(creator: &MimiDevice, hub: &TestHub) -> Self {
        Self::of(creator, hub.sender(), ROOM, GROUP)
    }

    /// The same of any room, group and hub.
    ///
    /// # Panics
    /// For an external sender that OpenMLS does not read.
    #[must_use]
    pub fn of(creator: &MimiDevice, hub: &ExternalSender, room: &str, group: &str) -> Self {
        let hub = MlsExternalSender::tls_deserialize_exact(hub.to_bytes()).expect("it is encoded alike");
        let mut dictionary = AppDataDictionary::new();
        dictionary.set(ComponentId::APP_COMPONENTS, components_list(REQUIRED));
        dictionary.set(ComponentId::SAFE_AAD, components_list(&[ComponentId::FRANK_AAD]));
        dictionary.set(ComponentId::CONTENT_MEDIA_TYPES, media_types(&[CONTENT]));
        dictionary.set(ComponentId::PARTICIPANT_LIST, list_of([user_of(creator)].into_iter()));
        dictionary.set(ComponentId::ROOM_METADATA, metadata(room, "Clubhouse"));
        Self {
            group: group.to_owned(),
            dictionary,
            senders: vec![hub],
            proposals: PROPOSALS.to_vec(),
        }
    }

    /// Sets a component's data.
    pub fn set(&mut self, component: ComponentId, data: Vec<u8>) {
        self.dictionary.set(component, data);
    }

    /// The context's extensions as they travel.
    ///
    /// # Panics
    /// Never: what OpenMLS writes can be read.
    #[must_use]
    pub fn to_wire(&self) -> Vec<nabe_wire::mls::Extension> {
        let extensions = encode(&self.extensions());
        let mut reader = Reader::new(&extensions);
        let extensions = reader.vector(nabe_wire::mls::Extension::decode);
        extensions.expect("extensions read")
    }

    /// The context's extensions.
    #[must_use]
    pub fn extensions(&self) -> Extensions<MlsGroupContext> {
        Extensions::from_vec(vec![
            Extension::RequiredCapabilities(RequiredCapabilitiesExtension::new(
                &[ExtensionType::AppDataDictionary],
                &self.proposals,
                &[CredentialType::Basic],
            )),
            Extension::ExternalSenders(self.senders.clone()),
            dictionary_extension(&self.dictionary),
        ])
        .expect("these belong into a context")
    }
}

/// One client's side of a room's group.
pub struct MimiMember {
    device: MimiDevice,
    group: MlsGroup,
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
        let Proposal::AppDataUpdate(update) = &***proposal else {
            return None;
        };
        let proposal = MlsProposal::AppDataUpdate(Box::new(app_data_update(update)));
        let sender = MlsSender::External(SenderExtensionIndex::new(sender_index));
        let queued = crate::mimi::queued(proposal, sender, public, self.device.shared.suite);
        Some(queued.expect("a sound proposal"))
    }
}

/// What a committer sends to its provider.
#[derive(Clone, Debug)]
pub struct TestBundle {
    /// The commit.
    pub commit: Kept<MlsMessage>,
    /// What goes with it: the whole GroupInfo, and no tree.
    pub parts: CommitParts,
}

impl TestBundle {
    fn new(bundle: CommitMessageBundle) -> Self {
        let (commit, welcome, info) = bundle.into_contents();
        let info = info.expect("it was asked for");
        let info = Kept::new(GroupInfo::from_bytes(&encode(&info)).expect("a GroupInfo reads"));
        let welcome = welcome.map(|welcome| Welcome::from_bytes(&encode(&welcome)).expect("a Welcome reads"));
        Self {
            commit: read_message(&commit),
            parts: CommitParts {
                welcome: welcome.map(Kept::new),
                group_info_option: GroupInfoOption::Full(Box::new(info)),
                ratchet_tree_option: RatchetTreeOption::DistributionService,
            },
        }
    }

    /// The same with a tree.
    #[must_use]
    pub fn with_tree(mut self, tree: RatchetTree) -> Self {
        self.parts.ratchet_tree_option = RatchetTreeOption::Full(tree);
        self
    }

    /// The same with those parts of the GroupInfo that the hub cannot work out.
    #[must_use]
    pub fn in_parts(mut self) -> Self {
        let partial = PartialGroupInfo::of(self.group_info());
        self.parts.group_info_option = GroupInfoOption::Partial(partial);
        self
    }

    /// The same with another GroupInfo.
    #[must_use]
    pub fn with_group_info(mut self, info: Kept<GroupInfo>) -> Self {
        self.parts.group_info_option = GroupInfoOption::Full(Box::new(info));
        self
    }

    /// The GroupInfo; panics if it is in parts.
    #[must_use]
    pub fn group_info(&self) -> &GroupInfo {
        match &self.parts.group_info_option {
            GroupInfoOption::Full(info) => info,
            GroupInfoOption::Partial(_) => panic!("a whole GroupInfo is expected"),
        }
    }

    /// The Welcome; panics if the commit adds nobody.
    #[must_use]
    pub fn welcome(&self) -> &Kept<Welcome> {
        self.parts.welcome.as_ref().expect("the commit adds somebody")
    }

    /// The body of the update request.
    #[must_use]
    pub fn to_request(&self) -> Vec<u8> {
        HandshakeBundle {
            proposal_or_commit: self.commit.clone(),
            with: HandshakeParts::Commit(Box::new(self.parts.clone())),
        }
        .to_bytes()
    }
}

/// OpenMLS's public group by itself: what following commits costs without any check or storing of ours.
pub struct BareMimiGroup {
    group: PublicGroup,
}

impl BareMimiGroup {
    /// Begins as a hub does.
    #[must_use]
    pub fn of(group: &MimiGroup) -> Self {
        Self {
            group: group.copy_public_group(),
        }
    }

    /// Decodes, processes and merges a commit.
    pub fn take(&mut self, commit: &[u8]) {
        let message = MlsMessageIn::tls_deserialize_exact(commit).expect("a message decodes");
        let message = message.try_into_protocol_message().expect("a message of a group");
        let processed = self.group.process_message(crypto(), message).expect("a sound commit");
        let staged = match processed.into_content() {
            ProcessedMessageContent::StagedCommitMessage(staged) => *staged,
            ProcessedMessageContent::UnresolvedAppDataCommit(unresolved) => {
                let updates: Vec<_> = unresolved
                    .app_data_update_proposals()
                    .map(|update| AppDataUpdate::from_bytes(&encode(update)).expect("an update reads"))
                    .collect();
                let changes = app_data_changes(self.group.app_data_dictionary_updater(), &updates);
                self.group
                    .stage_app_data_commit(crypto(), *unresolved, changes)
                    .expect("a sound commit")
            }
            _ => panic!("a commit is expected"),
        };
        self.group.merge_commit(&NoStorage, staged).expect("nothing is stored");
    }
}

/// An update that puts users on the participant list.
#[must_use]
pub fn add_participants(users: &[(&str, u32)]) -> AppDataUpdate {
    change_participants(&[], &[], users)
}

/// An update of the participant list: new roles by place, places to remove, users to add with their roles.
#[must_use]
pub fn change_participants(roles: &[(u32, u32)], removed: &[u32], added: &[(&str, u32)]) -> AppDataUpdate {
    let update = ParticipantListUpdate {
        changed_role_participants: roles
            .iter()
            .map(|&(user_index, role_index)| UserIndexRolePair { user_index, role_index })
            .collect(),
        removed_indices: removed.to_vec(),
        added_participants: added.iter().map(|(user, role)| participant(user, *role)).collect(),
    };
    set_component(ComponentId::PARTICIPANT_LIST, update.to_bytes())
}

/// An update of a component.
#[must_use]
pub fn set_component(component_id: ComponentId, update: Vec<u8>) -> AppDataUpdate {
    AppDataUpdate {
        component_id,
        update: Some(update.into()),
    }
}

/// The removal of a component's data.
#[must_use]
pub const fn remove_component(component_id: ComponentId) -> AppDataUpdate {
    AppDataUpdate {
        component_id,
        update: None,
    }
}

/// The data of `app_components` and `safe_aad`.
#[must_use]
pub fn components_list(component_ids: &[ComponentId]) -> Vec<u8> {
    ComponentsList {
        component_ids: component_ids.to_vec(),
    }
    .to_bytes()
}

/// The data of `content_media_types`.
///
/// # Panics
/// Without a type.
#[must_use]
pub fn media_types(types: &[&str]) -> Vec<u8> {
    let types = types.iter().map(|name| MediaType::new(name)).collect();
    MediaTypeList::new(types).expect("there is a type").to_bytes()
}

/// The data of `room_metadata`.
#[must_use]
pub fn metadata(room: &str, name: &str) -> Vec<u8> {
    RoomMetaData {
        room_uri: Uri::new(room).expect("a test's room"),
        room_name: nabe_wire::codec::NulFreeText::new(name).expect("a test's name"),
        room_descriptions: Vec::new(),
        room_avatar: Uri::default(),
        room_subject: nabe_wire::codec::NulFreeText::default(),
        room_mood: nabe_wire::codec::NulFreeText::default(),
    }
    .to_bytes()
}

/// The data of `mls_operational_policy` that tolerates messages so many epochs late, and says nothing else.
#[must_use]
pub fn operational_policy(epoch_tolerance: u8) -> Vec<u8> {
    // Everything in it is a number that may be 0, or a list that may be empty.
    let mut policy = OperationalParameters::decode(&mut Reader::new(&[0; 256])).expect("zeros are such a policy");
    policy.app_message_policy.epoch_tolerance = epoch_tolerance;
    policy.to_bytes()
}

/// The users and roles of a participant list.
#[must_use]
pub fn participants_of(group: &MimiGroup) -> Vec<(String, u32)> {
    let data = group.component(ComponentId::PARTICIPANT_LIST).expect("a room has one");
    let list = ParticipantListData::from_bytes(data).expect("a room's list reads");
    let pairs = list.participants.into_iter();
    pairs.map(|pair| (pair.user.to_string(), pair.role_index)).collect()
}

/// The context of an epoch in the form that a GroupInfo has it.
#[must_use]
pub fn context_of(member: &MimiMember) -> GroupContext {
    GroupContext::from_bytes(&encode(member.group.public_group().group_context())).expect("a context reads")
}

/// A SafeAAD of these items, well-formed or not.
#[must_use]
pub fn safe_aad(items: &[(ComponentId, &[u8])]) -> Vec<u8> {
    let items = items.iter().map(|(component_id, data)| SafeAadItem {
        component_id: *component_id,
        aad_item_data: (*data).into(),
    });
    SafeAad::new(items.collect()).expect("one item each").to_bytes()
}

/// The room of the tests.
#[must_use]
pub fn room() -> MimiUri {
    MimiUri::parse(ROOM).expect("a room's URI")
}

/// Begins a room at the hub.
#[must_use]
pub fn found(hub: &TestHub, creator: &MimiMember) -> MimiGroup {
    let (info, tree) = creator.hand_over();
    let (group, _) = MimiGroup::found(&room(), hub.sender(), &info, &tree, wall_clock()).expect("a sound room");
    group
}

fn propose_from_outside(
    signer: &SignatureKeyPair,
    group: &MimiGroup,
    sender: Sender,
    proposal: Proposal,
    aad: &[u8],
) -> Kept<MlsMessage> {
    let content = FramedContent {
        group_id: group.group_id().into(),
        epoch: group.epoch(),
        sender,
        authenticated_data: aad.into(),
        body: FramedContentBody::Proposal(Box::new(Kept::new(proposal))),
    };
    let signed = [&[0, 1, 0, 1], &content.to_bytes()[..]].concat();
    let signature = label::sign_with_label(signer, "FramedContentTBS", &signed).expect("the key signs");
    Kept::new(MlsMessage {
        body: MlsMessageBody::Public(Box::new(PublicMessage {
            content,
            signature,
            confirmation_tag: None,
            membership_tag: None,
        })),
    })
}

fn app_data_changes(
    mut updater: openmls::group::AppDataDictionaryUpdater<'_>,
    updates: &[AppDataUpdate],
) -> Option<AppDataUpdates> {
    let changes = resolve_components(|component| updater.old_value(component.0), updates);
    for (component, change) in changes {
        match change {
            Some(data) => updater.set(ComponentData::from_parts(component.0, data.into())),
            None => updater.remove(&component.0),
        }
    }
    updater.changes()
}

fn app_data_update(update: &AppDataUpdate) -> AppDataUpdateProposal {
    match &update.update {
        Some(content) => AppDataUpdateProposal::update(update.component_id.0, content.to_vec()),
        None => AppDataUpdateProposal::remove(update.component_id.0),
    }
}

fn dictionary_extension(dictionary: &AppDataDictionary) -> Extension {
    let mut theirs = MlsDictionary::new();
    for entry in dictionary.entries() {
        theirs.insert(entry.component_id.0, entry.data.to_vec());
    }
    Extension::AppDataDictionary(AppDataDictionaryExtension::new(theirs))
}

fn participant(user: &str, role_index: u32) -> UserRolePair {
    UserRolePair {
        user: IdentifierUri::new(user).expect("a test's user"),
        role_index,
    }
}

/// The KeyPackageRef of a key package of the default suite, bare.
#[must_use]
pub fn key_package_ref(package: &[u8]) -> Vec<u8> {
    let suite = Suite::default().ciphersuite();
    let reference = make_key_package_ref(package, suite, crypto()).expect("the suite is known");
    reference.as_slice().to_vec()
}

/// A client's question for the GroupInfo, and the private key that opens the answer.
#[must_use]
pub fn group_info_query(device: &MimiDevice) -> (GroupInfoQuery, Vec<u8>) {
    group_info_query_with(device, None)
}

/// The same with a joining code.
#[must_use]
pub fn group_info_query_with(device: &MimiDevice, code: Option<&[u8]>) -> (GroupInfoQuery, Vec<u8>) {
    let shared = &device.shared;
    let suite = shared.suite.ciphersuite();
    let keys = crypto()
        .derive_hpke_keypair(suite.hpke_config(), b"one key pair is as good as another here")
        .expect("the suite is known");
    let request = GroupInfoRequestTbs {
        cipher_suite: CipherSuite(shared.suite.id()),
        requesting_signature_key: shared.signer.public().into(),
        requesting_credential: nabe_wire::mls::Credential::from_bytes(&encode(&device.credential))
            .expect("a credential reads"),
        group_info_public_key: keys.public.into(),
        joining_code: code.map(Into::into),
    };
    let request = request.sign(&shared.signer).expect("the key is of the suite");
    let Body::Mls10(query) = request.body else {
        panic!("it was made for MLS 1.0");
    };
    (query, keys.private.to_vec())
}

/// A client's request for key packages of a user, to be added to a room if one is named, of suite 1 and for clients that can do this.
#[must_use]
pub fn key_material_request(
    device: &MimiDevice,
    target: &str,
    room: Option<&str>,
    required: RequiredCapabilities,
) -> KeyMaterialRequest {
    key_material_request_of(device, &user_of(device), target, room, required)
}

/// The same in the name of a user who need not be the client's.
#[must_use]
pub fn key_material_request_of(
    device: &MimiDevice,
    requester: &str,
    target: &str,
    room: Option<&str>,
    required: RequiredCapabilities,
) -> KeyMaterialRequest {
    let uri = |uri: &str| IdentifierUri::new(uri).expect("a test's URI");
    let request = KeyMaterialRequestTbs {
        requesting_user: uri(requester),
        target_user: uri(target),
        room_id: room.map(uri).unwrap_or_default(),
        query: KeyMaterialQuery {
            acceptable_ciphersuites: vec![CipherSuite(device.shared.suite.id())],
            required_capabilities: required,
            requester_signature_key: device.shared.signer.public().into(),
            requester_credential: nabe_wire::mls::Credential::from_bytes(&encode(&device.credential))
                .expect("a credential reads"),
        },
    };
    request.sign(&device.shared.signer).expect("the key is of the suite")
}

/// What the hub answered, once it is verified and opened.
#[must_use]
pub fn open_group_info(answer: GroupInfoResponse, private_key: &[u8]) -> GroupInfoRatchetTreeTbe {
    let granted = answer.verify(crypto()).expect("the hub has signed it");
    granted.open(crypto(), private_key).expect("it is sealed for this key")
}

fn user_of(device: &MimiDevice) -> String {
    let credential = nabe_wire::mls::Credential::from_bytes(&encode(&device.credential)).expect("a credential reads");
    let identity = crate::mimi::Identity::parse(&credential, device.shared.signer.public()).expect("a test's client");
    identity.user().to_string()
}

fn list_of(users: impl Iterator<Item = String>) -> Vec<u8> {
    let participants = users.map(|user| participant(&user, 4)).collect();
    ParticipantListData { participants }.to_bytes()
}

fn new_key(suite: Suite) -> SignatureKeyPair {
    SignatureKeyPair::new(suite.credential_algorithm().scheme()).expect("a key pair is made")
}

fn join_config() -> MlsGroupJoinConfig {
    MlsGroupJoinConfig::builder()
        .wire_format_policy(PURE_PLAINTEXT_WIRE_FORMAT_POLICY)
        .use_ratchet_tree_extension(false)
        .build()
}

fn tree_in(tree: &RatchetTreeOption) -> RatchetTreeIn {
    let RatchetTreeOption::Full(tree) = tree else {
        panic!("a whole tree is expected");
    };
    RatchetTreeIn::tls_deserialize_exact(tree.to_bytes()).expect("a tree decodes")
}

fn read_key_package(bytes: &[u8]) -> KeyPackage {
    KeyPackageIn::tls_deserialize_exact(bytes)
        .expect("a key package decodes")
        .validate(crypto(), ProtocolVersion::Mls10)
        .expect("a key package is valid")
}

fn message_in(message: &Kept<MlsMessage>) -> MlsMessageIn {
    MlsMessageIn::tls_deserialize_exact(message.as_bytes()).expect("a message decodes")
}

fn read_message(message: &MlsMessageOut) -> Kept<MlsMessage> {
    let bytes = message.to_bytes().expect("a message encodes");
    Kept::new(MlsMessage::from_bytes(&bytes).expect("a message reads"))
}

fn encode(value: &impl tls_codec::Serialize) -> Vec<u8> {
    value.tls_serialize_detached().expect("memory takes every value")
}

/// The content of a vector.
fn content_of(vector: &[u8]) -> Vec<u8> {
    let mut reader = crate::codec::Reader::new(vector);
    reader.opaque().expect("a vector").to_vec()
}

/// What a client that speaks MIMI knows.
pub const SUPPORTED: &[ComponentId] = &[
    ComponentId::APP_COMPONENTS,
    ComponentId::SAFE_AAD,
    ComponentId::CONTENT_MEDIA_TYPES,
    ComponentId::FRANK_AAD,
    ComponentId::FRANKING_AGENT,
    ComponentId::PARTICIPANT_LIST,
    ComponentId::ROOM_METADATA,
    ComponentId::MLS_OPERATIONAL_POLICY,
    ComponentId::ROLES_LIST,
    ComponentId::PREAUTH_LIST,
    ComponentId::BASE_ROOM_POLICY,
    ComponentId::STATUS_NOTIFICATION_POLICY,
    ComponentId::JOIN_LINKS,
];

/// What the tests' room asks its members to know.
pub const REQUIRED: &[ComponentId] = SUPPORTED;

const PROPOSALS: &[ProposalType] = &[
    ProposalType::AppDataUpdate,
    ProposalType::AppEphemeral,
    ProposalType::SelfRemove,
];

const CONTENT: &str = "application/mimi-content";
