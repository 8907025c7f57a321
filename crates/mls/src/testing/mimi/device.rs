//! One client of a user: its credential and keys, the key packages it makes, and the ways in which it comes into a group.

use std::sync::Arc;

use nabe_wire::app_data::AppDataDictionary;
use nabe_wire::mls::{AppDataUpdate, ComponentId, MlsMessage, Proposal, RatchetTreeOption, Sender, Welcome};
use nabe_wire::pseudonym::PseudonymousCredential;
use nabe_wire::{Encode as _, IdentifierUri, Kept, Message as _};
use openmls::credentials::{BasicCredential, Credential, CredentialType, CredentialWithKey};
use openmls::group::{GroupId, MlsGroup, MlsGroupJoinConfig, PURE_PLAINTEXT_WIRE_FORMAT_POLICY, StagedWelcome};
use openmls::messages::group_info::VerifiableGroupInfo;
use openmls::prelude::{
    Capabilities, ExtensionType, Extensions, KeyPackage, LeafNode, LeafNodeParameters, Lifetime, MlsMessageBodyIn,
    ProposalType,
};
use openmls_basic_credential::SignatureKeyPair;
use openmls_rust_crypto::OpenMlsRustCrypto;
use openmls_traits::OpenMlsProvider as _;
use openmls_traits::signatures::Signer as _;
use tls_codec::Deserialize as _;

use super::super::paper::OnPaper;
use super::bundle::TestBundle;
use super::components::{
    CONTENT, PROPOSALS, SUPPORTED, app_data_changes, app_data_update, components_list, media_types,
};
use super::draft::{RoomDraft, dictionary_extension};
use super::hub::{TestHub, new_key, propose_from_outside};
use super::member::MimiMember;
use super::translate::{content_of, encode, message_in, tree_in};
use crate::mimi::MimiGroup;
use crate::suite::Suite;

/// A client of a user: credential, signature key, and the private halves of the key packages it made.
#[derive(Clone)]
pub struct MimiDevice {
    pub(super) shared: Arc<Shared>,
    pub(super) credential: Credential,
    pub(super) capabilities: Capabilities,
    pub(super) dictionary: AppDataDictionary,
}

pub(super) struct Shared {
    pub(super) provider: OpenMlsRustCrypto,
    pub(super) signer: SignatureKeyPair,
    pub(super) suite: Suite,
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

    /// The same client, which puts values that stand for nothing wherever its leaves may have them (MLSX #grease).
    #[must_use]
    pub fn with_grease(&self) -> Self {
        let greased = |list: &[ComponentId], value| components_list(&[list, &[ComponentId(value)]].concat());
        let mut device = self.clone();
        device.capabilities = device.capabilities.with_grease(self.shared.provider.rand());
        let dictionary = &mut device.dictionary;
        dictionary.set(ComponentId::APP_COMPONENTS, greased(SUPPORTED, 0x0a0a));
        dictionary.set(ComponentId::SAFE_AAD, greased(&[ComponentId::FRANK_AAD], 0x1a1a));
        dictionary.set(ComponentId(0x2a2a), vec![0x2a]);
        device
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

    /// The same client under pseudonyms of it and its user, with a link that nobody can open.
    ///
    /// # Panics
    /// If they are too long.
    #[must_use]
    pub fn under_pseudonyms(&self, client: &str, user: &str) -> Self {
        let uri = |uri| IdentifierUri::new(uri).expect("short enough");
        let content = PseudonymousCredential {
            client_pseudonym: uri(client),
            user_pseudonym: uri(user),
            signature_public_key: self.shared.signer.public().into(),
            identity_link_ciphertext: b"sealed".as_slice().into(),
        };
        self.with_credential_type(nabe_wire::mls::CredentialType::PSEUDONYMOUS, content.to_bytes())
    }

    /// The same client with a credential of another type, which it supports beside basic ones.
    #[must_use]
    pub fn with_credential_type(&self, credential_type: nabe_wire::mls::CredentialType, content: Vec<u8>) -> Self {
        let credential_type = CredentialType::Other(credential_type.0);
        let credential_types = [CredentialType::Basic, credential_type];
        let suites = [self.shared.suite.ciphersuite()];
        let extensions = [ExtensionType::AppDataDictionary];
        Self {
            credential: Credential::new(credential_type, content),
            capabilities: Capabilities::new(
                None,
                Some(&suites),
                Some(&extensions),
                Some(PROPOSALS),
                Some(&credential_types),
            ),
            ..self.clone()
        }
    }

    /// What it puts into its leaves.
    #[must_use]
    pub const fn credential(&self) -> &Credential {
        &self.credential
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

    /// A new key package that has components beside those of its leaf.
    #[must_use]
    pub fn key_package_with(&self, dictionary: &AppDataDictionary) -> Vec<u8> {
        let extensions = Extensions::single(dictionary_extension(dictionary)).expect("it belongs into a key package");
        let shared = &self.shared;
        let bundle = KeyPackage::builder()
            .leaf_node_capabilities(self.capabilities.clone())
            .leaf_node_extensions(self.leaf_extensions())
            .key_package_extensions(extensions)
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
        super::super::with_encryption_key(&self.key_package(), key, &self.shared.signer)
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
    fn suite(&self) -> Suite {
        Suite::X25519_AES128
    }

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

pub(super) fn user_of(device: &MimiDevice) -> String {
    let credential = nabe_wire::mls::Credential::from_bytes(&encode(&device.credential)).expect("a credential reads");
    let identity = crate::mimi::Identity::parse(&credential, device.shared.signer.public()).expect("a test's client");
    identity.user().to_string()
}

pub(super) fn join_config() -> MlsGroupJoinConfig {
    MlsGroupJoinConfig::builder()
        .wire_format_policy(PURE_PLAINTEXT_WIRE_FORMAT_POLICY)
        .use_ratchet_tree_extension(false)
        .build()
}
