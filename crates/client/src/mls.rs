//! OpenMLS, in the terms of rooms, devices and bytes. Everything works on a connection with an open transaction.

use nabe_mls::{BasicCredential, Suite};
use nabe_signing::{Json, Object, base64u, object};
use nabe_types::{DeviceRef, EventId, RoomId};
use openmls::group::{
    CommitMessageBundle, GroupContext, GroupId, MlsGroup, MlsGroupCreateConfig, MlsGroupJoinConfig,
    PURE_PLAINTEXT_WIRE_FORMAT_POLICY, PastEpochDeletionPolicy, StagedWelcome,
};
use openmls::messages::group_info::VerifiableGroupInfo;
use openmls::prelude::{
    BasicCredential as MlsBasicCredential, Credential, KeyPackage, LeafNodeIndex, LeafNodeParameters, MlsMessageBodyIn,
    MlsMessageIn, ProtocolMessage, SenderRatchetConfiguration, Welcome,
};
use openmls_traits::OpenMlsProvider as _;
use tls_codec::Deserialize as _;

use crate::device::{Device, capabilities};
use crate::error::{ClientError, Doing as _};
use crate::provider::Provider;

/// What a commit is sent as.
pub(crate) struct Made {
    /// `message` of `m.mls.commit`.
    pub(crate) message: Vec<u8>,
    /// `public_group_state` of `m.mls.commit`.
    pub(crate) group_state: Vec<u8>,
    /// For whomever was added.
    pub(crate) welcome: Option<Vec<u8>>,
}

impl Made {
    fn new(bundle: CommitMessageBundle) -> Result<Self, ClientError> {
        let (commit, welcome, group_info) = bundle.into_messages();
        let group_info = group_info.ok_or(NoGroupInfo).doing("making a commit")?;
        Ok(Self {
            message: commit.to_bytes().doing("encoding a commit")?,
            group_state: group_info.to_bytes().doing("encoding a group's state")?,
            welcome: welcome
                .map(|welcome| welcome.to_bytes().doing("encoding a Welcome"))
                .transpose()?,
        })
    }

    /// The event's content (LM #int-ev-mls-commit).
    pub(crate) fn content(&self, previous: Option<&EventId>) -> Object {
        let mut content = object! {
            "message" => base64u::encode(&self.message),
            "public_group_state" => base64u::encode(&self.group_state),
        };
        if let Some(previous) = previous {
            content.insert("prev_commit_event_id", previous.as_str());
        }
        content
    }
}

/// OpenMLS made no GroupInfo although it was asked to.
#[derive(Debug, thiserror::Error)]
#[error("there is no GroupInfo")]
struct NoGroupInfo;

pub(crate) fn load(provider: &Provider<'_>, room: &RoomId) -> Result<Option<MlsGroup>, ClientError> {
    MlsGroup::load(provider.storage(), &group_id(room)).doing("loading a group")
}

/// Forgets all secrets of a room's group.
pub(crate) fn delete(provider: &Provider<'_>, room: &RoomId) -> Result<(), ClientError> {
    match load(provider, room)? {
        Some(mut group) => group.delete(provider.storage()).doing("deleting a group"),
        None => Ok(()),
    }
}

/// Makes a room's group with this device alone in it, at epoch 0.
pub(crate) fn create(
    provider: &Provider<'_>,
    device: &Device,
    suite: Suite,
    room: &RoomId,
) -> Result<MlsGroup, ClientError> {
    let config = MlsGroupCreateConfig::builder()
        .ciphersuite(suite.ciphersuite())
        .wire_format_policy(PURE_PLAINTEXT_WIRE_FORMAT_POLICY)
        .use_ratchet_tree_extension(true)
        .padding_size(PADDING)
        .set_past_epoch_deletion_policy(PastEpochDeletionPolicy::MaxEpochs(MAX_PAST_EPOCHS))
        .sender_ratchet_configuration(ratchets(MAX_SKIPPED))
        .capabilities(capabilities(suite))
        .build();
    MlsGroup::new_with_group_id(
        provider,
        device.signer(suite)?,
        &config,
        group_id(room),
        device.credential_with_key(suite)?,
    )
    .doing("making a group")
}

/// Makes a commit with new keys for this device. It is pending until it is merged or cleared.
pub(crate) fn commit(
    provider: &Provider<'_>,
    device: &Device,
    group: &mut MlsGroup,
    add: Vec<KeyPackage>,
    remove: Vec<LeafNodeIndex>,
) -> Result<Made, ClientError> {
    let signer = device.signer(suite_of(group)?)?;
    let bundle = group
        .commit_builder()
        .force_self_update(true)
        .propose_adds(add)
        .propose_removals(remove)
        .load_psks(provider.storage())
        .doing("making a commit")?
        .create_group_info(true)
        .use_ratchet_tree_extension(true)
        .build(provider.rand(), provider.crypto(), signer, |_| true)
        .doing("making a commit")?
        .stage_commit(provider)
        .doing("making a commit")?;
    Made::new(bundle)
}

/// Makes an external commit. The group is in the new epoch at once, whatever becomes of the commit.
pub(crate) fn join_externally(
    provider: &Provider<'_>,
    device: &Device,
    suite: Suite,
    group_info: VerifiableGroupInfo,
) -> Result<(MlsGroup, Made), ClientError> {
    let (group, bundle) = MlsGroup::external_commit_builder()
        .with_config(join_config())
        .skip_lifetime_validation()
        .build_group(provider, group_info, device.credential_with_key(suite)?)
        .doing("joining externally")?
        .leaf_node_parameters(
            LeafNodeParameters::builder()
                .with_capabilities(capabilities(suite))
                .build(),
        )
        .load_psks(provider.storage())
        .doing("joining externally")?
        .create_group_info(true)
        .use_ratchet_tree_extension(true)
        .build(provider.rand(), provider.crypto(), device.signer(suite)?, |_| true)
        .doing("joining externally")?
        .finalize(provider)
        .doing("joining externally")?;
    Ok((group, Made::new(bundle)?))
}

/// Opens a Welcome. Nothing is joined yet.
pub(crate) fn open_welcome(provider: &Provider<'_>, welcome: Welcome) -> Result<StagedWelcome, ClientError> {
    StagedWelcome::build_from_welcome(provider, &join_config(), welcome)
        .and_then(|builder| builder.replace_old_group().skip_lifetime_validation().build())
        .doing("opening a Welcome")
}

/// The members whose credentials are the draft's, which an honest hub sees to.
pub(crate) fn members(group: &MlsGroup) -> Vec<DeviceRef> {
    group
        .members()
        .filter_map(|member| {
            let credential = BasicCredential::from_leaf(&member.credential, &member.signature_key).ok()?;
            Some(DeviceRef {
                user: credential.user_id,
                device: credential.device_id,
                leaf: member.index.u32(),
            })
        })
        .collect()
}

/// Who a credential names.
pub(crate) fn who(credential: &Credential) -> Option<BasicCredential> {
    let basic = MlsBasicCredential::try_from(credential.clone()).ok()?;
    BasicCredential::parse(basic.identity()).ok()
}

pub(crate) fn suite_of(group: &MlsGroup) -> Result<Suite, ClientError> {
    Suite::from_ciphersuite(group.ciphersuite())
        .ok_or(UnknownSuite)
        .doing("naming a group's suite")
}

/// OpenMLS knows the suite and we do not.
#[derive(Debug, thiserror::Error)]
#[error("the suite is unknown")]
struct UnknownSuite;

/// Reads `message` of `m.mls.commit` or `ciphertext` of `m.room.encrypted`, as unpadded base64 of an `MLSMessage`.
pub(crate) fn read_message(content: &Object, field: &str) -> Option<ProtocolMessage> {
    let message = MlsMessageIn::tls_deserialize_exact(bytes(content, field)?).ok()?;
    message.try_into_protocol_message().ok()
}

pub(crate) fn read_welcome(bytes: &[u8]) -> Option<Welcome> {
    match MlsMessageIn::tls_deserialize_exact(bytes)
        .ok()
        .map(MlsMessageIn::extract)
    {
        Some(MlsMessageBodyIn::Welcome(welcome)) => Some(welcome),
        Some(_) => None,
        None => Welcome::tls_deserialize_exact(bytes).ok(),
    }
}

/// Reads `public_group_state`, bare or as an `MLSMessage`.
pub(crate) fn read_group_info(bytes: &[u8]) -> Option<VerifiableGroupInfo> {
    match MlsMessageIn::tls_deserialize_exact(bytes)
        .ok()
        .map(MlsMessageIn::extract)
    {
        Some(MlsMessageBodyIn::GroupInfo(group_info)) => Some(group_info),
        Some(_) => None,
        None => VerifiableGroupInfo::tls_deserialize_exact(bytes).ok(),
    }
}

/// The context of the group that a commit's event says it begins.
pub(crate) fn announced_context(commit: &Object) -> Option<GroupContext> {
    let group_info = read_group_info(&bytes(commit, "public_group_state")?)?;
    Some(group_info.group_context().clone())
}

/// A field in unpadded base64.
pub(crate) fn bytes(content: &Object, field: &str) -> Option<Vec<u8>> {
    base64u::decode(content.get(field).and_then(Json::as_str)?).ok()
}

pub(crate) fn group_id(room: &RoomId) -> GroupId {
    GroupId::from_slice(room.as_str().as_bytes())
}

pub(crate) fn room_of(group_id: &GroupId) -> Option<RoomId> {
    RoomId::parse(std::str::from_utf8(group_id.as_slice()).ok()?).ok()
}

fn join_config() -> MlsGroupJoinConfig {
    MlsGroupJoinConfig::builder()
        .wire_format_policy(PURE_PLAINTEXT_WIRE_FORMAT_POLICY)
        .use_ratchet_tree_extension(true)
        .padding_size(PADDING)
        .set_past_epoch_deletion_policy(PastEpochDeletionPolicy::MaxEpochs(MAX_PAST_EPOCHS))
        .sender_ratchet_configuration(ratchets(MAX_SKIPPED))
        .build()
}

/// A room's log is ordered, but one sender's messages can reach the hub out of order, or not at all if it refuses some.
pub(crate) fn ratchets(skipped: u32) -> SenderRatchetConfiguration {
    SenderRatchetConfiguration::new(OUT_OF_ORDER, skipped)
}

/// For how many epochs after its own a message can be read. The keys of older epochs are gone.
pub(crate) const MAX_PAST_EPOCHS: usize = 8;
/// How many keys of one sender and epoch are kept for messages that come late.
const OUT_OF_ORDER: u32 = 32;
/// How many messages of one sender and epoch may be missing in a row.
pub(crate) const MAX_SKIPPED: u32 = 2_000;
/// Ciphertexts have lengths in steps of so many bytes.
pub(crate) const PADDING: usize = 64;
