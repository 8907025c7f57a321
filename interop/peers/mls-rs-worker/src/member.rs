//! A device and its side of the group. Whatever changes is written to mls-rs's storage in memory at once, as a client has to that must not
//! forget it.

use std::time::Duration;

use mls_rs::client_builder::{
    BaseConfig, WithCryptoProvider, WithGroupStateStorage, WithIdentityProvider, WithKeyPackageRepo, WithMlsRules,
};
use mls_rs::error::MlsError;
use mls_rs::group::{CommitOutput, ReceivedMessage};
use mls_rs::identity::SigningIdentity;
use mls_rs::identity::basic::{BasicCredential, BasicIdentityProvider};
use mls_rs::mls_rs_codec::MlsEncode as _;
use mls_rs::mls_rules::{CommitOptions, DefaultMlsRules, EncryptionOptions};
use mls_rs::storage_provider::in_memory::{InMemoryGroupStateStorage, InMemoryKeyPackageStorage};
use mls_rs::{CipherSuite, Client, ExtensionList, Group, MlsMessage};
use mls_rs_core::group::{GroupState, GroupStateStorage as _};
use mls_rs_crypto_rustcrypto::RustCryptoProvider;
use nabe_lab::stack::{Joiner, Made, Member, Position};
use nabe_lab::worker::Failure;
use nabe_mls::testing::{TestDevice, wrap_key_package};

type Config = WithMlsRules<
    DefaultMlsRules,
    WithCryptoProvider<
        RustCryptoProvider,
        WithIdentityProvider<
            BasicIdentityProvider,
            WithKeyPackageRepo<InMemoryKeyPackageStorage, WithGroupStateStorage<InMemoryGroupStateStorage, BaseConfig>>,
        >,
    >,
>;

/// A device that is in no group yet.
pub struct Device {
    device: TestDevice,
    client: Client<Config>,
    groups: InMemoryGroupStateStorage,
    key_packages: InMemoryKeyPackageStorage,
}

/// A device that is.
pub struct InGroup {
    device: Device,
    group: Group<Config>,
}

impl Device {
    pub fn of(device: TestDevice) -> Result<Self, Failure> {
        let suite = CipherSuite::from(device.suite().id());
        let credential = device.credential_with_key();
        let credential = BasicCredential::new(credential.credential.serialized_content().to_vec());
        let identity = SigningIdentity::new(credential.into_credential(), device.signature_key().to_vec().into());
        let mut secret = device.private_key().to_vec();
        if suite != CipherSuite::P256_AES128 {
            // mls-rs keeps both halves of an Ed25519 key together.
            secret.extend_from_slice(device.signature_key());
        }
        let (groups, key_packages) = (InMemoryGroupStateStorage::new(), InMemoryKeyPackageStorage::new());
        let client = Client::builder()
            .group_state_storage(groups.clone())
            .key_package_repo(key_packages.clone())
            .identity_provider(BasicIdentityProvider::new())
            .crypto_provider(RustCryptoProvider::default())
            .mls_rules(rules())
            .key_package_lifetime(LIFETIME)
            .signing_identity(identity, secret.into(), suite)
            .build();
        Ok(Self {
            device,
            client,
            groups,
            key_packages,
        })
    }

    fn in_group(self, group: Group<Config>) -> Result<InGroup, Failure> {
        let mut member = InGroup { device: self, group };
        member.store()?;
        Ok(member)
    }
}

/// Commits as `PublicMessage` with a path, Welcomes with the tree, and GroupInfo that others can join by.
fn rules() -> DefaultMlsRules {
    let commits = CommitOptions::new()
        .with_path_required(true)
        .with_ratchet_tree_extension(true)
        .with_single_welcome_message(true)
        .with_allow_external_commit(true);
    DefaultMlsRules::new()
        .with_commit_options(commits)
        .with_encryption_options(EncryptionOptions::new(false, Default::default()))
}

impl Joiner for Device {
    type Member = InGroup;

    fn copy(&self) -> Result<Self, Failure> {
        let copy = Self::of(self.device.clone())?;
        for (id, key_package) in self.key_packages.key_packages() {
            copy.key_packages.insert(id, key_package);
        }
        Ok(copy)
    }

    fn key_package(&self) -> Result<Vec<u8>, Failure> {
        let failed = "making a key package";
        let message = self
            .client
            .generate_key_package_message(ExtensionList::new(), ExtensionList::new(), None)
            .map_err(Failure::at(failed))?;
        let package = message
            .into_key_package()
            .ok_or_else(|| Failure::at(failed)("another message"))?;
        package.mls_encode_to_vec().map_err(Failure::at(failed))
    }

    fn create(self) -> Result<InGroup, Failure> {
        let group = self
            .client
            .create_group_with_id(GROUP.to_vec(), ExtensionList::new(), ExtensionList::new(), None)
            .map_err(Failure::at("making a group"))?;
        self.in_group(group)
    }

    fn join(self, welcome: &[u8]) -> Result<InGroup, Failure> {
        let joined = read(welcome).and_then(|welcome| self.client.join_group(None, &welcome, None));
        let (group, _) = joined.map_err(Failure::at("joining by a Welcome"))?;
        self.in_group(group)
    }

    fn join_externally(self, group_info: &[u8], leaf: Option<u32>) -> Result<(InGroup, Made), Failure> {
        let failed = "joining by an external commit";
        let mut builder = self.client.external_commit_builder().map_err(Failure::at(failed))?;
        if let Some(leaf) = leaf {
            builder = builder.with_removal(leaf);
        }
        let made = read(group_info).and_then(|info| builder.build(info));
        let (group, commit) = made.map_err(Failure::at(failed))?;
        let info = group.group_info_message_allowing_ext_commit(true);
        let made = Made {
            commit: write(&commit)?,
            group_info: write(&info.map_err(Failure::at(failed))?)?,
            welcome: None,
        };
        Ok((self.in_group(group)?, made))
    }
}

impl InGroup {
    fn store(&mut self) -> Result<(), Failure> {
        self.group.write_to_storage().map_err(Failure::at("storing a group"))
    }

    fn state(&self) -> Result<Vec<u8>, Failure> {
        let failed = "reading a group";
        let state = self.device.groups.state(GROUP).map_err(Failure::at(failed))?;
        Ok(state.ok_or_else(|| Failure::at(failed)("it is not stored"))?.to_vec())
    }
}

impl Member for InGroup {
    fn copy(&mut self) -> Result<Self, Failure> {
        let failed = "reading a group";
        let mut device = self.device.copy()?;
        let state = GroupState {
            id: GROUP.to_vec(),
            data: self.state()?.into(),
        };
        let written = device.groups.write(state, Vec::new(), Vec::new());
        written.map_err(Failure::at(failed))?;
        let group = device.client.load_group(GROUP).map_err(Failure::at(failed))?;
        Ok(Self { device, group })
    }

    fn leaf(&self) -> u32 {
        self.group.current_member_index()
    }

    fn commit(&mut self, key_packages: &[Vec<u8>], leaves: &[u32]) -> Result<Made, Failure> {
        let failed = "making a commit";
        let mut builder = self.group.commit_builder();
        for key_package in key_packages {
            let added = read(&wrap_key_package(key_package)).and_then(|message| builder.add_member(message));
            builder = added.map_err(Failure::at(failed))?;
        }
        for &leaf in leaves {
            builder = builder.remove_member(leaf).map_err(Failure::at(failed))?;
        }
        let made = encode(&builder.build().map_err(Failure::at(failed))?)?;
        self.store()?;
        Ok(made)
    }

    fn merge(&mut self) -> Result<(), Failure> {
        let applied = self.group.apply_pending_commit();
        applied.map_err(Failure::at("merging one's own commit"))?;
        self.store()
    }

    fn clear(&mut self) -> Result<(), Failure> {
        self.group.clear_pending_commit();
        self.store()
    }

    fn process(&mut self, commit: &[u8]) -> Result<(), Failure> {
        let failed = "taking in a commit";
        let received = read(commit).and_then(|message| self.group.process_incoming_message(message));
        match received.map_err(Failure::at(failed))? {
            ReceivedMessage::Commit(_) => self.store(),
            _ => Err(Failure::at(failed)("another message")),
        }
    }

    fn encrypt(&mut self, plaintext: &[u8]) -> Result<Vec<u8>, Failure> {
        let message = self.group.encrypt_application_message(plaintext, Vec::new());
        write(&message.map_err(Failure::at("encrypting a message"))?)
    }

    fn decrypt(&mut self, message: &[u8]) -> Result<Vec<u8>, Failure> {
        let failed = "decrypting a message";
        let received = read(message).and_then(|message| self.group.process_incoming_message(message));
        match received.map_err(Failure::at(failed))? {
            ReceivedMessage::ApplicationMessage(message) => Ok(message.data().to_vec()),
            _ => Err(Failure::at(failed)("another message")),
        }
    }

    fn export(&self) -> Result<Vec<u8>, Failure> {
        let secret = self.group.export_secret(b"nabe lab", b"", 32);
        Ok(secret.map_err(Failure::at("exporting a secret"))?.as_bytes().to_vec())
    }

    fn position(&self) -> Result<Position, Failure> {
        let authenticator = self.group.epoch_authenticator();
        let authenticator = authenticator.map_err(Failure::at("reading the epoch authenticator"))?;
        Ok(Position {
            epoch: self.group.current_epoch(),
            tree_hash: self.group.context().tree_hash.to_vec(),
            authenticator: authenticator.as_bytes().to_vec(),
        })
    }

    fn stored_bytes(&self) -> u64 {
        self.state().map_or(0, |state| state.len() as u64)
    }
}

fn encode(made: &CommitOutput) -> Result<Made, Failure> {
    let info = made.external_commit_group_info();
    let info = info.ok_or_else(|| Failure::at("making a commit")("no GroupInfo"))?;
    Ok(Made {
        commit: write(made.commit_message())?,
        group_info: write(info)?,
        welcome: made.welcome_messages().first().map(write).transpose()?,
    })
}

pub fn read(message: &[u8]) -> Result<MlsMessage, MlsError> {
    MlsMessage::from_bytes(message)
}

fn write(message: &MlsMessage) -> Result<Vec<u8>, Failure> {
    message.to_bytes().map_err(Failure::at("encoding"))
}

/// The room's ID.
const GROUP: &[u8] = b"!lab:lab.example";
/// mls-rs's own of a year is more than Nabe's hub takes.
const LIFETIME: Duration = Duration::from_secs(80 * 24 * 60 * 60);
