//! A device and its side of the group.

use nabe_mls::testing::TestDevice;
use openmls::group::{
    CommitMessageBundle, GroupId, MlsGroup, MlsGroupCreateConfig, MlsGroupJoinConfig,
    PURE_PLAINTEXT_WIRE_FORMAT_POLICY, StagedWelcome,
};
use openmls::prelude::{
    KeyPackage, KeyPackageIn, LeafNodeIndex, LeafNodeParameters, MlsMessageBodyIn, MlsMessageIn,
    ProcessedMessageContent, ProtocolVersion,
};
use openmls_traits::OpenMlsProvider as _;
use tls_codec::{Deserialize as _, Serialize as _};

use super::counting::{CountingSigner, Provider};
use super::room;
use crate::worker::Failure;

/// A device that is in no group yet.
pub(super) struct Joiner {
    pub(super) device: TestDevice,
    pub(super) provider: Provider,
}

/// A device that is.
pub(super) struct Member {
    pub(super) device: TestDevice,
    pub(super) provider: Provider,
    pub(super) group: MlsGroup,
}

/// What a committer sends, as bytes.
#[derive(Clone, Default)]
pub(super) struct Made {
    pub(super) commit: Vec<u8>,
    pub(super) group_info: Vec<u8>,
    pub(super) welcome: Option<Vec<u8>>,
}

impl Joiner {
    pub(super) fn new(name: &str) -> Self {
        Self::of(TestDevice::new(&format!("@{name}:lab.example"), "D"))
    }

    pub(super) fn of(device: TestDevice) -> Self {
        Self {
            device,
            provider: Provider::default(),
        }
    }

    /// As it was before it did anything.
    pub(super) fn copy(&self) -> Self {
        Self {
            device: self.device.clone(),
            provider: self.provider.copy(),
        }
    }

    pub(super) fn key_package(&self) -> Result<Vec<u8>, Failure> {
        let bundle = KeyPackage::builder()
            .leaf_node_capabilities(self.device.capabilities())
            .build(
                self.device.suite().ciphersuite(),
                &self.provider,
                self.device.signer(),
                self.device.credential_with_key(),
            )
            .map_err(Failure::at("making a key package"))?;
        let bytes = bundle.key_package().tls_serialize_detached();
        bytes.map_err(Failure::at("encoding a key package"))
    }

    /// Makes the group, as its only member.
    pub(super) fn create(self) -> Result<Member, Failure> {
        let config = MlsGroupCreateConfig::builder()
            .ciphersuite(self.device.suite().ciphersuite())
            .wire_format_policy(PURE_PLAINTEXT_WIRE_FORMAT_POLICY)
            .use_ratchet_tree_extension(true)
            .capabilities(self.device.capabilities())
            .build();
        let group = MlsGroup::new_with_group_id(
            &self.provider,
            &CountingSigner(self.device.signer()),
            &config,
            group_id(),
            self.device.credential_with_key(),
        )
        .map_err(Failure::at("making a group"))?;
        Ok(self.into_member(group))
    }

    pub(super) fn join(self, welcome: &[u8]) -> Result<Member, Failure> {
        let message = MlsMessageIn::tls_deserialize_exact(welcome).map_err(Failure::at("decoding a Welcome"))?;
        let MlsMessageBodyIn::Welcome(welcome) = message.extract() else {
            return Err(Failure::at("decoding a Welcome")("another message"));
        };
        let group = StagedWelcome::new_from_welcome(&self.provider, &join_config(), welcome, None)
            .and_then(|staged| staged.into_group(&self.provider))
            .map_err(Failure::at("joining by a Welcome"))?;
        Ok(self.into_member(group))
    }

    /// Joins, or takes its leaf anew if it has one.
    pub(super) fn join_externally(self, group_info: &[u8]) -> Result<(Member, Made), Failure> {
        let failed = "joining by an external commit";
        let message = MlsMessageIn::tls_deserialize_exact(group_info).map_err(Failure::at("decoding a GroupInfo"))?;
        let MlsMessageBodyIn::GroupInfo(info) = message.extract() else {
            return Err(Failure::at("decoding a GroupInfo")("another message"));
        };
        let provider = &self.provider;
        let (group, bundle) = MlsGroup::external_commit_builder()
            .with_config(join_config())
            .build_group(provider, info, self.device.credential_with_key())
            .map_err(Failure::at(failed))?
            .leaf_node_parameters(
                LeafNodeParameters::builder()
                    .with_capabilities(self.device.capabilities())
                    .build(),
            )
            .load_psks(provider.storage())
            .map_err(Failure::at(failed))?
            .create_group_info(true)
            .use_ratchet_tree_extension(true)
            .build(
                provider.rand(),
                provider.crypto(),
                &CountingSigner(self.device.signer()),
                |_| true,
            )
            .map_err(Failure::at(failed))?
            .finalize(provider)
            .map_err(Failure::at(failed))?;
        let made = Made::new(bundle)?;
        Ok((self.into_member(group), made))
    }

    fn into_member(self, group: MlsGroup) -> Member {
        Member {
            device: self.device,
            provider: self.provider,
            group,
        }
    }
}

impl Member {
    /// The same, read back from what is stored.
    pub(super) fn copy(&self) -> Result<Self, Failure> {
        let provider = self.provider.copy();
        let group = MlsGroup::load(provider.storage(), &group_id()).map_err(Failure::at("reading a group"))?;
        Ok(Self {
            group: group.ok_or_else(|| Failure::at("reading a group")("it is not stored"))?,
            device: self.device.clone(),
            provider,
        })
    }

    pub(super) fn leaf(&self) -> u32 {
        self.group.own_leaf_index().u32()
    }

    /// Commits, with new keys for itself; pending until [`Member::merge`] or [`Member::clear`].
    pub(super) fn commit(&mut self, key_packages: &[Vec<u8>], leaves: &[u32]) -> Result<Made, Failure> {
        let failed = "making a commit";
        let provider = &self.provider;
        let added = key_packages
            .iter()
            .map(|bytes| read_key_package(provider, bytes))
            .collect::<Result<Vec<_>, _>>()?;
        let bundle = self
            .group
            .commit_builder()
            .force_self_update(true)
            .propose_adds(added)
            .propose_removals(leaves.iter().map(|&leaf| LeafNodeIndex::new(leaf)))
            .load_psks(provider.storage())
            .map_err(Failure::at(failed))?
            .create_group_info(true)
            .use_ratchet_tree_extension(true)
            .build(
                provider.rand(),
                provider.crypto(),
                &CountingSigner(self.device.signer()),
                |_| true,
            )
            .map_err(Failure::at(failed))?
            .stage_commit(provider)
            .map_err(Failure::at(failed))?;
        Made::new(bundle)
    }

    pub(super) fn merge(&mut self) -> Result<(), Failure> {
        let merged = self.group.merge_pending_commit(&self.provider);
        merged.map_err(Failure::at("merging one's own commit"))
    }

    pub(super) fn clear(&mut self) -> Result<(), Failure> {
        let cleared = self.group.clear_pending_commit(self.provider.storage());
        cleared.map_err(Failure::at("dropping a commit"))
    }

    /// Takes in another member's commit.
    pub(super) fn process(&mut self, commit: &[u8]) -> Result<(), Failure> {
        let failed = "taking in a commit";
        let message = MlsMessageIn::tls_deserialize_exact(commit).map_err(Failure::at(failed))?;
        let message = message.try_into_protocol_message().map_err(Failure::at(failed))?;
        let processed = self.group.process_message(&self.provider, message);
        match processed.map_err(Failure::at(failed))?.into_content() {
            ProcessedMessageContent::StagedCommitMessage(staged) => {
                let merged = self.group.merge_staged_commit(&self.provider, *staged);
                merged.map_err(Failure::at(failed))
            }
            _ => Err(Failure::at(failed)("another message")),
        }
    }

    pub(super) fn encrypt(&mut self, plaintext: &[u8]) -> Result<Vec<u8>, Failure> {
        let signer = CountingSigner(self.device.signer());
        let message = self.group.create_message(&self.provider, &signer, plaintext);
        let bytes = message.map_err(Failure::at("encrypting a message"))?.to_bytes();
        bytes.map_err(Failure::at("encrypting a message"))
    }

    pub(super) fn decrypt(&mut self, message: &[u8]) -> Result<Vec<u8>, Failure> {
        let failed = "decrypting a message";
        let message = MlsMessageIn::tls_deserialize_exact(message).map_err(Failure::at(failed))?;
        let message = message.try_into_protocol_message().map_err(Failure::at(failed))?;
        let processed = self.group.process_message(&self.provider, message);
        match processed.map_err(Failure::at(failed))?.into_content() {
            ProcessedMessageContent::ApplicationMessage(message) => Ok(message.into_bytes()),
            _ => Err(Failure::at(failed)("another message")),
        }
    }

    pub(super) fn export(&self) -> Result<Vec<u8>, Failure> {
        let secret = self.group.export_secret(self.provider.crypto(), "nabe lab", b"", 32);
        secret.map_err(Failure::at("exporting a secret"))
    }
}

impl Made {
    fn new(bundle: CommitMessageBundle) -> Result<Self, Failure> {
        let (commit, welcome, group_info) = bundle.into_messages();
        let encode = |message: openmls::prelude::MlsMessageOut| message.to_bytes().map_err(Failure::at("encoding"));
        Ok(Self {
            commit: encode(commit)?,
            group_info: encode(group_info.ok_or_else(|| Failure::at("making a commit")("no GroupInfo"))?)?,
            welcome: welcome.map(encode).transpose()?,
        })
    }
}

fn read_key_package(provider: &Provider, bytes: &[u8]) -> Result<KeyPackage, Failure> {
    KeyPackageIn::tls_deserialize_exact(bytes)
        .map_err(Failure::at("decoding a key package"))?
        .validate(provider.crypto(), ProtocolVersion::Mls10)
        .map_err(Failure::at("checking a key package"))
}

fn group_id() -> GroupId {
    GroupId::from_slice(room().as_str().as_bytes())
}

fn join_config() -> MlsGroupJoinConfig {
    MlsGroupJoinConfig::builder()
        .wire_format_policy(PURE_PLAINTEXT_WIRE_FORMAT_POLICY)
        .use_ratchet_tree_extension(true)
        .build()
}
