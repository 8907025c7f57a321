//! Devices and members of groups for tests, made with OpenMLS as a real client makes them; and commits that no honest client
//! makes. For this crate's tests and, behind the feature `testing`, for those of others. Whatever fails here panics.
//!
//! OpenMLS reads the wall clock for lifetimes, so a test that moves its own clock keeps near [`wall_clock`].

pub mod mimi;
mod paper;

use std::sync::Arc;

use nabe_signing::{Json, Object, base64u};
use nabe_types::{DeviceId, RoomId, UnixMillis, UserId};
use openmls::ciphersuite::signable::Verifiable as _;
use openmls::credentials::{Credential, CredentialWithKey, NewSignerBundle};
use openmls::group::{
    CommitMessageBundle, GroupContext, GroupId, MlsGroup, MlsGroupCreateConfig, MlsGroupJoinConfig,
    PURE_CIPHERTEXT_WIRE_FORMAT_POLICY, PURE_PLAINTEXT_WIRE_FORMAT_POLICY, PublicGroup, StagedWelcome,
    WireFormatPolicy,
};
use openmls::messages::group_info::VerifiableGroupInfo;
use openmls::prelude::{
    Capabilities, ExtensionType, Extensions, KeyPackage, KeyPackageIn, LeafNodeIndex, LeafNodeParameters, Lifetime,
    MlsMessageBodyIn, MlsMessageIn, ProcessedMessageContent, ProtocolVersion,
};
use openmls_basic_credential::SignatureKeyPair;
use openmls_rust_crypto::OpenMlsRustCrypto;
use openmls_traits::OpenMlsProvider as _;
use openmls_traits::crypto::OpenMlsCrypto;
use openmls_traits::signatures::Signer as _;
use tls_codec::{Deserialize as _, Serialize as _};

use crate::codec::write_opaque;
use crate::credential::BasicCredential;
use crate::device::{DeviceDraft, DeviceObject};
use crate::group::HubGroup;
use crate::group_info::{EXTERNAL_PUB, GroupInfoBytes};
use crate::provider::{NoStorage, crypto};
use crate::suite::Suite;

pub use paper::{Parents, group_state_on_paper};

/// A device: its credential, signature key, and the private halves of the key packages it made.
#[derive(Clone)]
pub struct TestDevice {
    shared: Arc<Shared>,
    leaf_credential: Credential,
    extensions: Vec<ExtensionType>,
}

struct Shared {
    provider: OpenMlsRustCrypto,
    signer: SignatureKeyPair,
    private_key: Vec<u8>,
    credential: BasicCredential,
    suite: Suite,
}

impl TestDevice {
    /// A device of the default suite.
    #[must_use]
    pub fn new(user: &str, device: &str) -> Self {
        Self::with_suite(user, device, Suite::default())
    }

    /// A device of another suite.
    #[must_use]
    pub fn with_suite(user: &str, device: &str, suite: Suite) -> Self {
        let (provider, scheme) = (OpenMlsRustCrypto::default(), suite.credential_algorithm().scheme());
        let pair = provider.crypto().signature_key_gen(scheme);
        let (private_key, public_key) = pair.expect("a key pair is made");
        let signer = SignatureKeyPair::from_raw(scheme, private_key.clone(), public_key);
        let credential = BasicCredential {
            user_id: UserId::parse(user).expect("a test's user ID"),
            device_id: DeviceId::parse(device).expect("a test's device ID"),
            signature_key: signer.public().to_vec(),
        };
        Self {
            leaf_credential: credential.to_mls(),
            extensions: vec![ExtensionType::LastResort],
            shared: Arc::new(Shared {
                provider,
                signer,
                private_key,
                credential,
                suite,
            }),
        }
    }

    /// The same device, which however puts this credential into its leaves.
    #[must_use]
    pub fn with_leaf_credential(&self, credential: Credential) -> Self {
        Self {
            leaf_credential: credential,
            ..self.clone()
        }
    }

    /// The same device, whose leaves say that it supports an extension.
    #[must_use]
    pub fn with_extension(&self, extension: ExtensionType) -> Self {
        let mut device = self.clone();
        device.extensions.push(extension);
        device
    }

    /// Who it is.
    #[must_use]
    pub fn credential(&self) -> &BasicCredential {
        &self.shared.credential
    }

    /// The public key it signs with.
    #[must_use]
    pub fn signature_key(&self) -> &[u8] {
        self.shared.signer.public()
    }

    /// The key pair it signs with.
    #[must_use]
    pub fn signer(&self) -> &SignatureKeyPair {
        &self.shared.signer
    }

    /// The private half, as OpenMLS's providers take it: 32 bytes of Ed25519, or of a scalar.
    #[must_use]
    pub fn private_key(&self) -> &[u8] {
        &self.shared.private_key
    }

    /// Its suite.
    #[must_use]
    pub fn suite(&self) -> Suite {
        self.shared.suite
    }

    /// The object it publishes.
    #[must_use]
    pub fn device_object(&self) -> DeviceObject {
        let algorithm = self.suite().credential_algorithm();
        DeviceDraft::new(
            &self.credential().user_id,
            &self.credential().device_id,
            &[self.suite()],
            [(algorithm, self.signature_key())],
        )
        .and_then(|draft| {
            draft
                .sign(|_, message| self.shared.signer.sign(message))
                .expect("the key signs")
        })
        .expect("an honest device object is valid")
    }

    /// Signs any object the way a device signs its own, whatever is in it.
    #[must_use]
    pub fn sign_object(&self, mut object: Object) -> Object {
        let mut message = Vec::new();
        object.write_canonical_without(&mut message, &["signatures"]);
        let signature = base64u::encode(&self.shared.signer.sign(&message).expect("the key signs"));
        let algorithm = self.suite().credential_algorithm();
        let mut by_key = Object::new();
        by_key.insert(format!("{algorithm}:{}", self.credential().device_id), signature);
        let mut signatures = Object::new();
        signatures.insert(self.credential().user_id.as_str(), Json::Object(by_key));
        object.insert("signatures", Json::Object(signatures));
        object
    }

    /// A new key package, bare.
    #[must_use]
    pub fn key_package(&self) -> Vec<u8> {
        self.key_package_with(&KeyPackageOptions::default())
    }

    /// A new key package that is special somehow.
    #[must_use]
    pub fn key_package_with(&self, options: &KeyPackageOptions) -> Vec<u8> {
        let mut builder = KeyPackage::builder().leaf_node_capabilities(match &options.suites {
            None => self.capabilities(),
            Some(suites) => {
                let suites: Vec<_> = suites.iter().map(|suite| suite.ciphersuite()).collect();
                Capabilities::new(None, Some(&suites), None, None, None)
            }
        });
        if let Some((not_before, not_after)) = options.lifetime {
            builder = builder.key_package_lifetime(Lifetime::init(not_before, not_after));
        }
        if options.last_resort {
            builder = builder.mark_as_last_resort();
        }
        let bundle = builder
            .build(
                self.suite().ciphersuite(),
                &self.shared.provider,
                &self.shared.signer,
                self.credential_with_key(),
            )
            .expect("a key package is made");
        bundle
            .key_package()
            .tls_serialize_detached()
            .expect("a key package encodes")
    }

    /// A new key package of suite 1 whose leaf has this encryption key, to which somebody else has the private one.
    #[must_use]
    pub fn key_package_with_encryption_key(&self, key: &[u8]) -> Vec<u8> {
        with_encryption_key(&self.key_package(), key, &self.shared.signer)
    }

    /// Makes the room's group, with this device as its only member, at epoch 0.
    #[must_use]
    pub fn create_group(&self, room: &str) -> TestMember {
        self.create_group_with(room, Extensions::empty())
    }

    /// Makes the room's group with these extensions in its context.
    #[must_use]
    pub fn create_group_with(&self, room: &str, extensions: Extensions<GroupContext>) -> TestMember {
        let room = RoomId::parse(room).expect("a test's room ID");
        let config = MlsGroupCreateConfig::builder()
            .ciphersuite(self.suite().ciphersuite())
            .wire_format_policy(PURE_PLAINTEXT_WIRE_FORMAT_POLICY)
            .use_ratchet_tree_extension(true)
            .capabilities(self.capabilities())
            .with_group_context_extensions(extensions)
            .build();
        let group = MlsGroup::new_with_group_id(
            &self.shared.provider,
            &self.shared.signer,
            &config,
            GroupId::from_slice(room.as_str().as_bytes()),
            self.credential_with_key(),
        )
        .expect("a group is made");
        self.member(group)
    }

    /// Joins by a Welcome.
    #[must_use]
    pub fn join(&self, welcome: &[u8]) -> TestMember {
        let message = MlsMessageIn::tls_deserialize_exact(welcome).expect("a Welcome decodes");
        let MlsMessageBodyIn::Welcome(welcome) = message.extract() else {
            panic!("a Welcome is expected");
        };
        let provider = &self.shared.provider;
        let group = StagedWelcome::new_from_welcome(provider, &join_config(), welcome, None)
            .and_then(|staged| staged.into_group(provider))
            .expect("the Welcome is for this device");
        self.member(group)
    }

    /// Joins by an external commit on top of a group's public state; rejoins if the device is a member already. The
    /// member is in the new epoch at once.
    #[must_use]
    pub fn join_externally(&self, group_state: &[u8]) -> (TestMember, TestCommit) {
        let group_info = read_group_info(group_state);
        let provider = &self.shared.provider;
        let (group, bundle) = MlsGroup::external_commit_builder()
            .with_config(join_config())
            .skip_lifetime_validation()
            .build_group(provider, group_info, self.credential_with_key())
            .expect("the group state is sound")
            .leaf_node_parameters(
                LeafNodeParameters::builder()
                    .with_capabilities(self.capabilities())
                    .build(),
            )
            .load_psks(provider.storage())
            .expect("there are none")
            .create_group_info(true)
            .use_ratchet_tree_extension(true)
            .build(provider.rand(), provider.crypto(), &self.shared.signer, |_| true)
            .expect("an external commit is made")
            .finalize(provider)
            .expect("an external commit is finished");
        (self.member(group), TestCommit::new(bundle))
    }

    fn member(&self, group: MlsGroup) -> TestMember {
        TestMember {
            device: self.clone(),
            group,
        }
    }

    /// What its leaves say that it supports.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        let named = |other: &Suite| *other == self.suite() || !other.is_experimental();
        let suites: Vec<_> = Suite::all().filter(named).map(Suite::ciphersuite).collect();
        Capabilities::new(None, Some(&suites), Some(&self.extensions), None, None)
    }

    /// What its leaves say who it is.
    #[must_use]
    pub fn credential_with_key(&self) -> CredentialWithKey {
        CredentialWithKey {
            credential: self.leaf_credential.clone(),
            signature_key: self.signature_key().into(),
        }
    }
}

/// OpenMLS's public group by itself: what following commits costs without any check or storing of ours.
pub struct BareGroup {
    group: PublicGroup,
}

impl BareGroup {
    /// A copy of what a hub has.
    #[must_use]
    pub fn of(hub: &HubGroup) -> Self {
        Self {
            group: hub.copy_public_group(),
        }
    }

    /// Decodes, processes and merges a commit.
    pub fn take(&mut self, message: &[u8]) {
        self.take_with(crypto(), message);
    }

    /// The same with another provider of cryptography.
    pub fn take_with(&mut self, crypto: &impl OpenMlsCrypto, message: &[u8]) {
        let message = MlsMessageIn::tls_deserialize_exact(message).expect("a message decodes");
        let message = message.try_into_protocol_message().expect("a message of a group");
        let processed = self.group.process_message(crypto, message).expect("a sound commit");
        let ProcessedMessageContent::StagedCommitMessage(staged) = processed.into_content() else {
            panic!("a commit is expected");
        };
        self.group.merge_commit(&NoStorage, *staged).expect("nothing is stored");
    }

    /// The same, and what the commit's group state asks for in OpenMLS's terms: decodes it, compares its context with the one
    /// the commit led to, and verifies its signature.
    pub fn take_with_state(&mut self, message: &[u8], group_state: &[u8]) {
        self.take(message);
        let info = read_group_info(group_state);
        assert!(
            info.group_context() == self.group.group_context(),
            "a sound group state"
        );
        let signer = GroupInfoBytes::parse(group_state).expect("a sound group state").signer;
        let leaf = self
            .group
            .leaf(LeafNodeIndex::new(signer))
            .expect("a sound group state");
        let scheme = self.group.ciphersuite().signature_algorithm();
        let key = leaf.signature_key().clone().into_signature_public_key_enriched(scheme);
        info.verify(crypto(), &key).expect("a sound group state");
    }
}

/// What is special about a key package; by default nothing.
#[derive(Clone, Debug, Default)]
pub struct KeyPackageOptions {
    /// First and last second of its validity.
    pub lifetime: Option<(u64, u64)>,
    /// Whether it may be used more than once.
    pub last_resort: bool,
    /// The suites its capabilities list, instead of all.
    pub suites: Option<Vec<Suite>>,
}

/// One device's side of a group.
pub struct TestMember {
    device: TestDevice,
    group: MlsGroup,
}

impl TestMember {
    /// The device.
    #[must_use]
    pub const fn device(&self) -> &TestDevice {
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

    /// Hash of the ratchet tree.
    #[must_use]
    pub fn tree_hash(&self) -> Vec<u8> {
        self.with_group_info(|group_info| group_info.tree_hash.to_vec())
    }

    /// The value on which two members of one epoch agree.
    #[must_use]
    pub fn epoch_authenticator(&self) -> &[u8] {
        self.group.epoch_authenticator().as_slice()
    }

    /// Commits nothing but a new key for itself. Pending until [`TestMember::merge`] or [`TestMember::clear`], like all
    /// commits.
    pub fn update(&mut self) -> TestCommit {
        self.commit(Change::default())
    }

    /// Commits the addition of the owners of these key packages.
    pub fn add(&mut self, key_packages: &[Vec<u8>]) -> TestCommit {
        let add = key_packages.iter().map(|bytes| read_key_package(bytes)).collect();
        self.commit(Change {
            add,
            ..Change::default()
        })
    }

    /// Commits the removal of the members at these leaves.
    pub fn remove(&mut self, leaves: &[u32]) -> TestCommit {
        self.change(&[], leaves)
    }

    /// Commits additions and removals together.
    pub fn change(&mut self, key_packages: &[Vec<u8>], leaves: &[u32]) -> TestCommit {
        let add = key_packages.iter().map(|bytes| read_key_package(bytes)).collect();
        let remove = leaves.iter().map(|&leaf| LeafNodeIndex::new(leaf)).collect();
        self.commit(Change {
            add,
            remove,
            ..Change::default()
        })
    }

    /// Commits new extensions of the group's context.
    pub fn change_extensions(&mut self, extensions: Extensions<GroupContext>) -> TestCommit {
        self.commit(Change {
            extensions: Some(extensions),
            ..Change::default()
        })
    }

    /// Commits a leaf that carries another credential.
    pub fn update_credential(&mut self, credential: Credential) -> TestCommit {
        let leaf = LeafNodeParameters::builder()
            .with_credential_with_key(CredentialWithKey {
                credential,
                signature_key: self.device.signature_key().into(),
            })
            .build();
        self.commit(Change {
            leaf: Some(leaf),
            ..Change::default()
        })
    }

    /// Commits a leaf that signs with a new key from now on, for which the credential is made anew. What this member does
    /// after merging it is not provided for.
    pub fn update_signature_key(&mut self) -> TestCommit {
        let scheme = self.device.suite().credential_algorithm().scheme();
        let signer = SignatureKeyPair::new(scheme).expect("a key pair is made");
        self.commit_with_key(&signer, &[], &[])
    }

    /// As [`TestMember::change`], with a leaf that signs with another device's key from now on.
    pub fn change_with_key_of(&mut self, other: &TestDevice, key_packages: &[Vec<u8>], leaves: &[u32]) -> TestCommit {
        self.commit_with_key(&other.shared.signer, key_packages, leaves)
    }

    fn commit_with_key(&mut self, signer: &SignatureKeyPair, key_packages: &[Vec<u8>], leaves: &[u32]) -> TestCommit {
        let shared = &self.device.shared;
        let credential = BasicCredential {
            signature_key: signer.public().to_vec(),
            ..shared.credential.clone()
        };
        let new_signer = NewSignerBundle {
            signer,
            credential_with_key: CredentialWithKey {
                credential: credential.to_mls(),
                signature_key: signer.public().into(),
            },
        };
        let (rand, crypto) = (shared.provider.rand(), shared.provider.crypto());
        let bundle = self
            .group
            .commit_builder()
            .force_self_update(true)
            .propose_adds(key_packages.iter().map(|package| read_key_package(package)))
            .propose_removals(leaves.iter().map(|&leaf| LeafNodeIndex::new(leaf)))
            .load_psks(shared.provider.storage())
            .expect("there are none")
            .create_group_info(true)
            .use_ratchet_tree_extension(true)
            .build_with_new_signer(rand, crypto, &shared.signer, new_signer, |_| true)
            .expect("a commit is made")
            .stage_commit(&shared.provider)
            .expect("a commit is staged");
        TestCommit::new(bundle)
    }

    /// A proposal to remove a member, sent by itself.
    pub fn propose_remove(&mut self, leaf: u32) -> Vec<u8> {
        let shared = &self.device.shared;
        let (message, _) = self
            .group
            .propose_remove_member(&shared.provider, &shared.signer, LeafNodeIndex::new(leaf))
            .expect("a proposal is made");
        message.to_bytes().expect("a proposal encodes")
    }

    /// Commits, by reference, what has been proposed.
    pub fn commit_proposals(&mut self) -> TestCommit {
        self.commit(Change::default())
    }

    /// Commits an update as a `PrivateMessage`.
    pub fn update_privately(&mut self) -> TestCommit {
        self.set_wire_format(PURE_CIPHERTEXT_WIRE_FORMAT_POLICY);
        let commit = self.update();
        self.set_wire_format(PURE_PLAINTEXT_WIRE_FORMAT_POLICY);
        commit
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
        self.group
            .clear_pending_proposals(storage)
            .expect("proposals are dropped");
    }

    /// Takes in another member's commit.
    pub fn process(&mut self, message: &[u8]) {
        let provider = &self.device.shared.provider;
        let message = MlsMessageIn::tls_deserialize_exact(message).expect("a message decodes");
        let message = message.try_into_protocol_message().expect("a message of a group");
        let processed = self
            .group
            .process_message(provider, message)
            .expect("a member takes the message");
        if let ProcessedMessageContent::StagedCommitMessage(staged) = processed.into_content() {
            self.group
                .merge_staged_commit(provider, *staged)
                .expect("a staged commit is merged");
        }
    }

    /// Encrypts an application message.
    pub fn encrypt(&mut self, plaintext: &[u8]) -> Vec<u8> {
        let shared = &self.device.shared;
        let message = self
            .group
            .create_message(&shared.provider, &shared.signer, plaintext)
            .expect("a message is encrypted");
        message.to_bytes().expect("a message encodes")
    }

    /// Decrypts an application message; `None` if it cannot.
    pub fn decrypt(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        let provider = &self.device.shared.provider;
        let message = MlsMessageIn::tls_deserialize_exact(message).ok()?;
        let message = message.try_into_protocol_message().ok()?;
        match self.group.process_message(provider, message).ok()?.into_content() {
            ProcessedMessageContent::ApplicationMessage(message) => Some(message.into_bytes()),
            _ => None,
        }
    }

    /// A commit without a path of any proposals, signed as it should be and for the current epoch, but otherwise of any
    /// content: each element is a `ProposalOrRef`. Its confirmation and membership tags are made up, which only
    /// members can tell.
    #[must_use]
    pub fn forge_commit(&self, proposals: &[Vec<u8>]) -> Vec<u8> {
        let mut commit = Vec::new();
        write_opaque(&mut commit, &proposals.concat());
        commit.push(0); // optional<UpdatePath> path
        self.forge(CONTENT_COMMIT, &commit)
    }

    /// An application message that is not encrypted.
    #[must_use]
    pub fn forge_application(&self, plaintext: &[u8]) -> Vec<u8> {
        let mut content = Vec::new();
        write_opaque(&mut content, plaintext);
        self.forge(CONTENT_APPLICATION, &content)
    }

    /// The public state of the epoch it is in, with or without what makes it useful.
    #[must_use]
    pub fn export_group_state(&self, with_tree: bool, with_external_pub: bool) -> Vec<u8> {
        let shared = &self.device.shared;
        let bytes = self
            .group
            .export_group_info(shared.provider.crypto(), &shared.signer, with_tree)
            .expect("a GroupInfo is made")
            .to_bytes()
            .expect("a GroupInfo encodes");
        if with_external_pub {
            return bytes;
        }
        let info = GroupInfoBytes::parse(&bytes).expect("OpenMLS makes sound ones");
        let mut extensions = Vec::new();
        for (kind, data) in info.extensions().filter(|(kind, _)| *kind != EXTERNAL_PUB) {
            extensions.extend_from_slice(&kind.to_be_bytes());
            write_opaque(&mut extensions, data);
        }
        let mut signed = info.context.to_vec();
        write_opaque(&mut signed, &extensions);
        write_opaque(&mut signed, info.confirmation_tag);
        signed.extend_from_slice(&info.signer.to_be_bytes());
        let signature = self.sign_with_label("GroupInfoTBS", &signed);
        write_opaque(&mut signed, &signature);
        signed
    }

    fn forge(&self, content_type: u8, body: &[u8]) -> Vec<u8> {
        let mut content = Vec::new();
        write_opaque(&mut content, self.group.group_id().as_slice());
        content.extend_from_slice(&self.epoch().to_be_bytes());
        content.push(SENDER_MEMBER);
        content.extend_from_slice(&self.leaf().to_be_bytes());
        write_opaque(&mut content, b"");
        content.push(content_type);
        content.extend_from_slice(body);
        let context = self.with_group_info(|group_info| group_info.context.to_vec());
        let signed = [&VERSION_AND_WIRE_FORMAT[..], &content, &context].concat();
        let mut message = [&VERSION_AND_WIRE_FORMAT[..], &content].concat();
        write_opaque(&mut message, &self.sign_with_label("FramedContentTBS", &signed));
        if content_type == CONTENT_COMMIT {
            write_opaque(&mut message, &[7; 32]);
        }
        write_opaque(&mut message, &[7; 32]);
        message
    }

    fn with_group_info<T>(&self, read: impl FnOnce(GroupInfoBytes<'_>) -> T) -> T {
        let shared = &self.device.shared;
        let group_info = self
            .group
            .export_group_info(shared.provider.crypto(), &shared.signer, false)
            .expect("a GroupInfo is made")
            .to_bytes()
            .expect("a GroupInfo encodes");
        read(GroupInfoBytes::parse(&group_info).expect("OpenMLS makes sound ones"))
    }

    fn sign_with_label(&self, label: &str, content: &[u8]) -> Vec<u8> {
        let message = crate::codec::labeled(label, content);
        self.device.shared.signer.sign(&message).expect("the key signs")
    }

    fn set_wire_format(&mut self, policy: WireFormatPolicy) {
        let config = MlsGroupJoinConfig::builder()
            .wire_format_policy(policy)
            .use_ratchet_tree_extension(true)
            .build();
        self.group
            .set_configuration(self.device.shared.provider.storage(), &config)
            .expect("a configuration is kept");
    }

    fn commit(&mut self, change: Change) -> TestCommit {
        let shared = &self.device.shared;
        let mut builder = self
            .group
            .commit_builder()
            .consume_proposal_store(true)
            .force_self_update(true)
            .propose_adds(change.add)
            .propose_removals(change.remove);
        if let Some(leaf) = change.leaf {
            builder = builder.leaf_node_parameters(leaf);
        }
        if let Some(extensions) = change.extensions {
            builder = builder
                .propose_group_context_extensions(extensions)
                .expect("extensions are proposed");
        }
        let bundle = builder
            .load_psks(shared.provider.storage())
            .expect("there are none")
            .create_group_info(true)
            .use_ratchet_tree_extension(true)
            .build(shared.provider.rand(), shared.provider.crypto(), &shared.signer, |_| {
                true
            })
            .expect("a commit is made")
            .stage_commit(&shared.provider)
            .expect("a commit is staged");
        TestCommit::new(bundle)
    }
}

#[derive(Default)]
struct Change {
    add: Vec<KeyPackage>,
    remove: Vec<LeafNodeIndex>,
    leaf: Option<LeafNodeParameters>,
    extensions: Option<Extensions<GroupContext>>,
}

/// What a committer sends.
#[derive(Clone, Debug)]
pub struct TestCommit {
    /// The commit, an `MLSMessage`: `message` of `m.mls.commit`.
    pub message: Vec<u8>,
    /// The `GroupInfo` of the epoch it begins, an `MLSMessage` with the ratchet tree: `public_group_state`.
    pub group_state: Vec<u8>,
    /// The Welcome for whomever it adds, an `MLSMessage`.
    pub welcome: Option<Vec<u8>>,
}

impl TestCommit {
    fn new(bundle: CommitMessageBundle) -> Self {
        let (commit, welcome, group_info) = bundle.into_messages();
        Self {
            message: commit.to_bytes().expect("a commit encodes"),
            group_state: group_info
                .expect("it was asked for")
                .to_bytes()
                .expect("a GroupInfo encodes"),
            welcome: welcome.map(|welcome| welcome.to_bytes().expect("a Welcome encodes")),
        }
    }

    /// The Welcome; panics if the commit adds nobody.
    #[must_use]
    pub fn welcome(&self) -> &[u8] {
        self.welcome.as_deref().expect("the commit adds somebody")
    }

    /// The key packages that the Welcome is for, as hexadecimal hash references.
    #[must_use]
    pub fn welcome_references(&self) -> Vec<String> {
        let message = MlsMessageIn::tls_deserialize_exact(self.welcome()).expect("a Welcome decodes");
        let MlsMessageBodyIn::Welcome(welcome) = message.extract() else {
            panic!("a Welcome is expected");
        };
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        welcome
            .secrets()
            .iter()
            .map(|secrets| hex(secrets.new_member().as_slice()))
            .collect()
    }
}

/// The time by the wall clock, which is the one OpenMLS reads.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "the tests have to agree with the clock that OpenMLS reads"
)]
pub fn wall_clock() -> UnixMillis {
    let since_epoch = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("the clock is past 1970");
    UnixMillis::ZERO.plus(since_epoch)
}

/// A key package as an `MLSMessage`, the form that is not uploaded.
#[must_use]
pub fn wrap_key_package(key_package: &[u8]) -> Vec<u8> {
    [&[0, 1, 0, 5], key_package].concat()
}

/// The `ProposalOrRef` of an Add by value.
#[must_use]
pub fn add_by_value(key_package: &[u8]) -> Vec<u8> {
    [&[1, 0, 1], key_package].concat()
}

/// The `ProposalOrRef` of a Remove by value.
#[must_use]
pub fn remove_by_value(leaf: u32) -> Vec<u8> {
    [&[1, 0, 3][..], &leaf.to_be_bytes()].concat()
}

fn read_key_package(bytes: &[u8]) -> KeyPackage {
    let crypto = OpenMlsRustCrypto::default();
    KeyPackageIn::tls_deserialize_exact(bytes)
        .expect("a key package decodes")
        .validate(crypto.crypto(), ProtocolVersion::Mls10)
        .expect("a key package is valid")
}

/// The same key package with another encryption key in its leaf, signed anew; of suite 1.
fn with_encryption_key(package: &[u8], key: &[u8], signer: &SignatureKeyPair) -> Vec<u8> {
    let sign_at_end = |label: &str, content: &mut Vec<u8>| {
        let signature = signer.sign(&crate::codec::labeled(label, content));
        write_opaque(content, &signature.expect("the key signs"));
    };
    let leaf = read_key_package(package).leaf_node().tls_serialize_detached();
    let leaf = leaf.expect("a leaf encodes");
    // Version, suite and init key come before the leaf. The leaf begins with the key and, like the package, ends with the signature.
    let (before, after) = (4 + KEY, 4 + KEY + leaf.len());
    let mut node = Vec::new();
    write_opaque(&mut node, key);
    node.extend_from_slice(&leaf[KEY..leaf.len() - SIGNATURE]);
    sign_at_end("LeafNodeTBS", &mut node);
    let mut forged = [&package[..before], &node, &package[after..package.len() - SIGNATURE]].concat();
    sign_at_end("KeyPackageTBS", &mut forged);
    forged
}

fn read_group_info(bytes: &[u8]) -> VerifiableGroupInfo {
    match MlsMessageIn::tls_deserialize_exact(bytes).map(MlsMessageIn::extract) {
        Ok(MlsMessageBodyIn::GroupInfo(group_info)) => group_info,
        _ => VerifiableGroupInfo::tls_deserialize_exact(bytes).expect("a GroupInfo decodes"),
    }
}

fn join_config() -> MlsGroupJoinConfig {
    MlsGroupJoinConfig::builder()
        .wire_format_policy(PURE_PLAINTEXT_WIRE_FORMAT_POLICY)
        .use_ratchet_tree_extension(true)
        .build()
}

const VERSION_AND_WIRE_FORMAT: [u8; 4] = [0, 1, 0, 1];
const SENDER_MEMBER: u8 = 1;
/// An X25519 key and an Ed25519 signature with their lengths.
const KEY: usize = 1 + 32;
const SIGNATURE: usize = 2 + 64;
const CONTENT_APPLICATION: u8 = 1;
const CONTENT_COMMIT: u8 = 3;
