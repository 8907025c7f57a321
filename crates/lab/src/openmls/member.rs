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

use super::Backend;
use super::counting::{CountingSigner, Provider};
use crate::group::room;
use crate::stack::{Joiner, Made, Member, Position};
use crate::worker::Failure;

/// A device that is in no group yet.
pub struct Device<B: Backend> {
    device: TestDevice,
    provider: Provider<B>,
}

/// A device that is.
pub struct InGroup<B: Backend> {
    device: TestDevice,
    provider: Provider<B>,
    group: MlsGroup,
}

impl<B: Backend> Device<B> {
    pub(super) fn of(device: TestDevice) -> Self {
        Self {
            device,
            provider: Provider::new(),
        }
    }

    fn signer(&self) -> CountingSigner<'_, B> {
        CountingSigner {
            crypto: self.provider.crypto(),
            device: &self.device,
        }
    }

    fn into_member(self, group: MlsGroup) -> InGroup<B> {
        InGroup {
            device: self.device,
            provider: self.provider,
            group,
        }
    }
}

impl<B: Backend> Joiner for Device<B> {
    type Member = InGroup<B>;

    fn copy(&self) -> Result<Self, Failure> {
        Ok(Self {
            device: self.device.clone(),
            provider: self.provider.copy(),
        })
    }

    fn key_package(&self) -> Result<Vec<u8>, Failure> {
        let bundle = KeyPackage::builder()
            .leaf_node_capabilities(self.device.capabilities())
            .build(
                self.device.suite().ciphersuite(),
                &self.provider,
                &self.signer(),
                self.device.credential_with_key(),
            )
            .map_err(Failure::at("making a key package"))?;
        let bytes = bundle.key_package().tls_serialize_detached();
        bytes.map_err(Failure::at("encoding a key package"))
    }

    fn create(self) -> Result<InGroup<B>, Failure> {
        let config = MlsGroupCreateConfig::builder()
            .ciphersuite(self.device.suite().ciphersuite())
            .wire_format_policy(PURE_PLAINTEXT_WIRE_FORMAT_POLICY)
            .use_ratchet_tree_extension(true)
            .capabilities(self.device.capabilities())
            .build();
        let group = MlsGroup::new_with_group_id(
            &self.provider,
            &self.signer(),
            &config,
            group_id(),
            self.device.credential_with_key(),
        )
        .map_err(Failure::at("making a group"))?;
        Ok(self.into_member(group))
    }

    fn join(self, welcome: &[u8]) -> Result<InGroup<B>, Failure> {
        let message = MlsMessageIn::tls_deserialize_exact(welcome).map_err(Failure::at("decoding a Welcome"))?;
        let MlsMessageBodyIn::Welcome(welcome) = message.extract() else {
            return Err(Failure::at("decoding a Welcome")("another message"));
        };
        let group = StagedWelcome::new_from_welcome(&self.provider, &join_config(), welcome, None)
            .and_then(|staged| staged.into_group(&self.provider))
            .map_err(Failure::at("joining by a Welcome"))?;
        Ok(self.into_member(group))
    }

    /// OpenMLS finds its former leaf by itself.
    fn join_externally(self, group_info: &[u8], _: Option<u32>) -> Result<(InGroup<B>, Made), Failure> {
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
            .build(provider.rand(), provider.crypto(), &self.signer(), |_| true)
            .map_err(Failure::at(failed))?
            .finalize(provider)
            .map_err(Failure::at(failed))?;
        let made = encode(bundle)?;
        Ok((self.into_member(group), made))
    }
}

impl<B: Backend> Member for InGroup<B> {
    fn copy(&mut self) -> Result<Self, Failure> {
        let provider = self.provider.copy();
        let group = MlsGroup::load(provider.storage(), &group_id()).map_err(Failure::at("reading a group"))?;
        Ok(Self {
            group: group.ok_or_else(|| Failure::at("reading a group")("it is not stored"))?,
            device: self.device.clone(),
            provider,
        })
    }

    fn leaf(&self) -> u32 {
        self.group.own_leaf_index().u32()
    }

    fn commit(&mut self, key_packages: &[Vec<u8>], leaves: &[u32]) -> Result<Made, Failure> {
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
                &CountingSigner {
                    crypto: provider.crypto(),
                    device: &self.device,
                },
                |_| true,
            )
            .map_err(Failure::at(failed))?
            .stage_commit(provider)
            .map_err(Failure::at(failed))?;
        encode(bundle)
    }

    fn merge(&mut self) -> Result<(), Failure> {
        let merged = self.group.merge_pending_commit(&self.provider);
        merged.map_err(Failure::at("merging one's own commit"))
    }

    fn clear(&mut self) -> Result<(), Failure> {
        let cleared = self.group.clear_pending_commit(self.provider.storage());
        cleared.map_err(Failure::at("dropping a commit"))
    }

    fn process(&mut self, commit: &[u8]) -> Result<(), Failure> {
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

    fn encrypt(&mut self, plaintext: &[u8]) -> Result<Vec<u8>, Failure> {
        let signer = CountingSigner {
            crypto: self.provider.crypto(),
            device: &self.device,
        };
        let message = self.group.create_message(&self.provider, &signer, plaintext);
        let bytes = message.map_err(Failure::at("encrypting a message"))?.to_bytes();
        bytes.map_err(Failure::at("encrypting a message"))
    }

    fn decrypt(&mut self, message: &[u8]) -> Result<Vec<u8>, Failure> {
        let failed = "decrypting a message";
        let message = MlsMessageIn::tls_deserialize_exact(message).map_err(Failure::at(failed))?;
        let message = message.try_into_protocol_message().map_err(Failure::at(failed))?;
        let processed = self.group.process_message(&self.provider, message);
        match processed.map_err(Failure::at(failed))?.into_content() {
            ProcessedMessageContent::ApplicationMessage(message) => Ok(message.into_bytes()),
            _ => Err(Failure::at(failed)("another message")),
        }
    }

    fn export(&self) -> Result<Vec<u8>, Failure> {
        let secret = self.group.export_secret(self.provider.crypto(), "nabe lab", b"", 32);
        secret.map_err(Failure::at("exporting a secret"))
    }

    fn position(&self) -> Result<Position, Failure> {
        Ok(Position {
            epoch: self.group.epoch().as_u64(),
            tree_hash: self.group.public_group().group_context().tree_hash().to_vec(),
            authenticator: self.group.epoch_authenticator().as_slice().to_vec(),
        })
    }

    fn stored_bytes(&self) -> u64 {
        self.provider.stored_bytes()
    }
}

fn encode(bundle: CommitMessageBundle) -> Result<Made, Failure> {
    let (commit, welcome, group_info) = bundle.into_messages();
    let encode = |message: openmls::prelude::MlsMessageOut| message.to_bytes().map_err(Failure::at("encoding"));
    Ok(Made {
        commit: encode(commit)?,
        group_info: encode(group_info.ok_or_else(|| Failure::at("making a commit")("no GroupInfo"))?)?,
        welcome: welcome.map(encode).transpose()?,
    })
}

fn read_key_package<B: Backend>(provider: &Provider<B>, bytes: &[u8]) -> Result<KeyPackage, Failure> {
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
