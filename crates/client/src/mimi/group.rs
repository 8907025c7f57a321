//! OpenMLS, in the terms of MIMI rooms. Everything works on a connection with an open transaction.

use nabe_mls::Suite;
use nabe_mls::mimi::{Identity, component_changes, queue_external_proposal};
use nabe_types::RoomId;
use nabe_wire::app_data::{AppDataDictionary, MediaTypeList};
use nabe_wire::franking::FrankingAgentData;
use nabe_wire::group_info::GroupInfoRatchetTreeTbe;
use nabe_wire::mls::{
    AppDataUpdate, ComponentId, Credential as WireCredential, Extension as WireExtension,
    ExtensionType as WireExtensionType, ExternalSender, GroupContext as WireGroupContext, GroupInfo, GroupInfoOption,
    LeafNode as WireLeafNode, MlsMessage, MlsMessageBody, PartialGroupInfo, RatchetTree, RatchetTreeOption,
    RequiredCapabilities, Welcome,
};
use nabe_wire::participant_list::ParticipantListData;
use nabe_wire::room_metadata::RoomMetaData;
use nabe_wire::update::{CommitParts, HandshakeBundle, HandshakeParts};
use nabe_wire::uri::MimiUri;
use nabe_wire::{Encode as _, Kept, Message as _};
use openmls::ciphersuite::hash_ref::ProposalRef as MlsProposalRef;
use openmls::component::ComponentData;
use openmls::credentials::Credential;
use openmls::framing::{ProcessedMessage, ProcessedMessageContent, SafeAadItem};
use openmls::group::{
    AppDataDictionaryUpdater, AppDataUpdates, CommitMessageBundle, GroupContext, GroupId, MlsGroup, MlsGroupJoinConfig,
    PURE_PLAINTEXT_WIRE_FORMAT_POLICY, PastEpochDeletionPolicy, ProcessMessageError, Propose, StagedCommit,
    StagedWelcome,
};
use openmls::messages::group_info::VerifiableGroupInfo;
use openmls::messages::proposals::{AppDataUpdateProposal, Proposal as MlsProposal};
use openmls::prelude::{
    CredentialType, ExtensionType, Extensions, ExternalSender as MlsExternalSender, KeyPackage, LeafNode,
    LeafNodeIndex, LeafNodeParameters, MlsMessageBodyIn, MlsMessageIn, MlsMessageOut, ProposalOrRefType,
    ProtocolMessage, RatchetTreeIn, RequiredCapabilitiesExtension,
};
use openmls_traits::OpenMlsProvider as _;
use openmls_traits::random::OpenMlsRand as _;
use rusqlite::Connection;
use tls_codec::{Deserialize as _, Serialize as _};

use super::create::NewRoom;
use super::device::{
    Device, PROPOSALS, SUPPORTED, capabilities, components_list, dictionary_extension, identifier, leaf_extensions,
};
use super::error::{Doing as _, GroupFault, MimiError, Unexpected};
use super::operational;
use super::store::KnownRoom;
use super::transport::HubKeys;
use crate::error::StoreError;
use crate::mls::{MAX_PAST_EPOCHS, MAX_SKIPPED, PADDING, ratchets};
use crate::provider::{Provider, crypto};

/// A commit as it is sent: the message, by which its echo is known, and the whole request.
pub(super) struct Made {
    pub(super) message: Vec<u8>,
    pub(super) request: Vec<u8>,
}

impl Made {
    /// The hub has followed the group, so it is sent no tree (D-tree-sources).
    fn new(bundle: CommitMessageBundle, full_group_info: bool) -> Result<Self, MimiError> {
        let (commit, welcome, info) = bundle.into_contents();
        let info = info.ok_or(Unexpected).doing("making a commit")?;
        let info = GroupInfo::from_bytes(&encode(&info)?)?;
        let group_info_option = match full_group_info {
            true => GroupInfoOption::Full(Box::new(Kept::new(info))),
            false => GroupInfoOption::Partial(PartialGroupInfo::of(&info)),
        };
        let welcome = welcome.map(|welcome| Ok::<_, MimiError>(Kept::new(Welcome::from_bytes(&encode(&welcome)?)?)));
        let message = wire_message(&commit)?;
        let parts = CommitParts {
            welcome: welcome.transpose()?,
            group_info_option,
            ratchet_tree_option: RatchetTreeOption::DistributionService,
        };
        let bundle = HandshakeBundle {
            proposal_or_commit: message.clone(),
            with: HandshakeParts::Commit(Box::new(parts)),
        };
        Ok(Self {
            message: message.as_bytes().to_vec(),
            request: bundle.to_bytes(),
        })
    }
}

/// What a commit is to do beside what is pending.
#[derive(Clone, Default)]
pub(super) struct Change {
    pub(super) add: Vec<KeyPackage>,
    pub(super) remove: Vec<u32>,
    pub(super) updates: Vec<AppDataUpdate>,
}

/// A member of a group.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Member {
    pub(super) leaf: u32,
    pub(super) identity: Identity,
}

impl Member {
    /// The client, or the user if the credential names no client.
    pub(super) fn name(&self) -> String {
        name(&self.identity)
    }
}

pub(super) fn name(identity: &Identity) -> String {
    identity.client().unwrap_or_else(|| identity.user()).to_string()
}

pub(super) fn load(provider: &Provider<'_>, group_id: &[u8]) -> Result<Option<MlsGroup>, MimiError> {
    MlsGroup::load(provider.storage(), &GroupId::from_slice(group_id)).doing("loading a group")
}

/// Forgets all secrets of a group.
pub(super) fn delete(provider: &Provider<'_>, group_id: &[u8]) -> Result<(), MimiError> {
    match load(provider, group_id)? {
        Some(mut group) => group.delete(provider.storage()).doing("deleting a group"),
        None => Ok(()),
    }
}

/// The ID of a room's group to be, of the room's host. Nobody can have a group of that ID before (D-group-id).
pub(super) fn fresh_id(room: &MimiUri) -> Result<Vec<u8>, MimiError> {
    let random: [u8; 16] = crypto().random_array().doing("making a group's ID")?;
    Ok(format!("mimi://{}/g/{:032x}", room.host(), u128::from_be_bytes(random)).into_bytes())
}

/// A room's group at its beginning, and what is handed to the hub.
pub(super) struct Founded {
    pub(super) group_info: Vec<u8>,
    pub(super) tree: Vec<u8>,
}

/// Makes a room's group with this client as its only member (MIMI #alice-creates-a-room, D-group-of-room).
pub(super) fn create(
    provider: &Provider<'_>,
    device: &Device,
    room: &NewRoom,
    hub: &HubKeys,
    group_id: &[u8],
) -> Result<Founded, MimiError> {
    let signer = device.signer(room.suite)?;
    let group = MlsGroup::builder()
        .with_group_id(GroupId::from_slice(group_id))
        .ciphersuite(room.suite.ciphersuite())
        .with_capabilities(capabilities(room.suite, &device.grease(room.suite)?))
        .with_leaf_node_extensions(leaf_extensions(&device.grease(room.suite)?)?)
        .doing("making a group")?
        .with_group_context_extensions(context_extensions(device, room, hub)?)
        .use_ratchet_tree_extension(false)
        .padding_size(PADDING)
        .set_past_epoch_deletion_policy(PastEpochDeletionPolicy::MaxEpochs(MAX_PAST_EPOCHS))
        .sender_ratchet_configuration(ratchets(MAX_SKIPPED))
        .with_wire_format_policy(PURE_PLAINTEXT_WIRE_FORMAT_POLICY)
        .build(provider, signer, device.credential_with_key(room.suite)?)
        .doing("making a group")?;
    let info = group
        .export_group_info(provider.crypto(), signer, false)
        .doing("exporting a GroupInfo")?;
    let MlsMessageBody::GroupInfo(info) = wire_message(&info)?.into_value().body else {
        return Err(Unexpected).doing("exporting a GroupInfo");
    };
    let tree = encode(&group.export_ratchet_tree())?;
    Ok(Founded {
        group_info: info.as_bytes().to_vec(),
        tree,
    })
}

fn context_extensions(device: &Device, room: &NewRoom, hub: &HubKeys) -> Result<Extensions<GroupContext>, MimiError> {
    let mut dictionary: AppDataDictionary = room.dictionary(&identifier(&device.user));
    dictionary.set(ComponentId::APP_COMPONENTS, components_list(SUPPORTED));
    dictionary.set(ComponentId::SAFE_AAD, components_list(&[ComponentId::FRANK_AAD]));
    if let Some(agent) = &hub.franking_agent {
        dictionary.set(ComponentId::FRANKING_AGENT, agent.to_bytes());
    }
    let sender = MlsExternalSender::tls_deserialize_exact(hub.sender.to_bytes()).doing("reading the hub's key")?;
    let required =
        RequiredCapabilitiesExtension::new(&[ExtensionType::AppDataDictionary], PROPOSALS, &[CredentialType::Basic]);
    use openmls::extensions::Extension;
    Extensions::from_vec(vec![
        Extension::RequiredCapabilities(required),
        Extension::ExternalSenders(vec![sender]),
        dictionary_extension(&dictionary),
    ])
    .doing("writing a room's components")
}

/// Makes a commit of what is pending and these changes. It is pending until it is merged or cleared.
pub(super) fn commit(
    provider: &Provider<'_>,
    device: &Device,
    group: &mut MlsGroup,
    change: Change,
    full_group_info: bool,
) -> Result<Made, MimiError> {
    const DOING: &str = "making a commit";
    let signer = device.signer(suite_of(group)?)?;
    let inherited = pending_updates(group)?;
    let updates: Vec<_> = inherited.into_iter().chain(change.updates.iter().cloned()).collect();
    let own = change.updates.iter().map(app_data_update);
    let own: Vec<_> = own.map(|update| MlsProposal::AppDataUpdate(Box::new(update))).collect();
    let mut loaded = group
        .commit_builder()
        .consume_proposal_store(true)
        .force_self_update(true)
        .propose_adds(change.add)
        .propose_removals(change.remove.into_iter().map(LeafNodeIndex::new))
        .add_proposals(own)
        .load_psks(provider.storage())
        .doing(DOING)?;
    let changes = changes(loaded.app_data_dictionary_updater(), &updates)?;
    loaded.with_app_data_dictionary_updates(changes);
    let bundle = loaded
        .create_group_info(true)
        .build(provider.rand(), provider.crypto(), signer, |_| true)
        .doing(DOING)?
        .stage_commit(provider)
        .doing(DOING)?;
    Made::new(bundle, full_group_info)
}

/// Makes an external commit on top of what the hub hands out. The group is in the new epoch at once, whatever becomes of it.
pub(super) fn join_externally(
    provider: &Provider<'_>,
    device: &Device,
    suite: Suite,
    offer: &GroupInfoRatchetTreeTbe,
    updates: &[AppDataUpdate],
    full_group_info: bool,
) -> Result<Made, MimiError> {
    const DOING: &str = "joining by an external commit";
    let info = VerifiableGroupInfo::tls_deserialize_exact(offer.group_info.as_bytes()).doing("reading a GroupInfo")?;
    let mut pending = Vec::new();
    for proposal in &offer.pending_proposals {
        if let MlsMessageBodyIn::PublicMessage(message) = message_in(proposal.proposal.as_bytes())?.extract() {
            pending.push(message);
        }
    }
    let tree = tree_in(&offer.ratchet_tree_option)
        .ok_or(Unexpected)
        .doing("reading a tree")?;
    let mut builder = MlsGroup::external_commit_builder()
        .with_proposals(pending)
        .with_ratchet_tree(tree)
        .with_config(join_config())
        .skip_lifetime_validation()
        .build_group(provider, info, device.credential_with_key(suite)?)
        .doing(DOING)?
        .leaf_node_parameters(
            LeafNodeParameters::builder()
                .with_capabilities(capabilities(suite, &device.grease(suite)?))
                .with_extensions(leaf_extensions(&device.grease(suite)?)?)
                .build(),
        );
    for update in updates {
        builder = builder.add_app_data_update_proposal(app_data_update(update));
    }
    let mut loaded = builder.load_psks(provider.storage()).doing(DOING)?;
    let changes = changes(loaded.app_data_dictionary_updater(), updates)?;
    loaded.with_app_data_dictionary_updates(changes);
    let (_, bundle) = loaded
        .create_group_info(true)
        .build(provider.rand(), provider.crypto(), device.signer(suite)?, |_| true)
        .doing(DOING)?
        .finalize(provider)
        .doing(DOING)?;
    Made::new(bundle, full_group_info)
}

/// Joins by a Welcome and the tree that comes with it, if the group is the room's. `opened` says whether one of our key packages opened
/// the Welcome, whatever comes after.
pub(super) fn join(
    connection: &Connection,
    known: &KnownRoom,
    welcome: &Kept<Welcome>,
    tree: &RatchetTreeOption,
    opened: &mut bool,
) -> Result<MlsGroup, MimiError> {
    const DOING: &str = "opening a Welcome";
    let (provider, room) = (&Provider::new(connection), &known.room);
    let welcome = openmls::messages::Welcome::tls_deserialize_exact(welcome.as_bytes()).doing(DOING)?;
    let tree = tree_in(tree).ok_or_else(|| unsound(room, GroupFault::NoTree))?;
    let welcome = StagedWelcome::build_from_welcome(provider, &join_config(), welcome).doing(DOING)?;
    *opened = true;
    let staged = welcome
        .with_ratchet_tree(tree)
        .replace_old_group()
        .skip_lifetime_validation()
        .build()
        .doing(DOING)?;
    check_room(room, staged.group_context())?;
    check_id(connection, known, staged.group_context().group_id().as_slice())?;
    staged.into_group(provider).doing(DOING)
}

/// Whether a group that a client is about to be in may be the room's by its ID (D-group-id). OpenMLS knows groups by nothing else, so
/// that one would take the place of another: of another room's, or of a room of Linearized Matrix, whose groups have the rooms' IDs.
pub(super) fn check_id(connection: &Connection, known: &KnownRoom, group_id: &[u8]) -> Result<(), MimiError> {
    let is_ours = known.group_id.as_deref() == Some(group_id);
    let is_there = !is_ours && load(&Provider::new(connection), group_id)?.is_some();
    let room_there = KnownRoom::of_group(connection, group_id)?;
    let is_others = room_there.is_some_and(|other| other != known.room.to_string());
    let text = std::str::from_utf8(group_id).ok();
    let is_of_matrix = text.is_some_and(|text| RoomId::parse(text).is_ok());
    let host = text.and_then(|text| text.strip_prefix("mimi://")?.split_once("/g/"));
    let is_elsewhere = host.is_some_and(|(host, _)| !host.eq_ignore_ascii_case(known.room.host()));
    match is_there || is_others || is_of_matrix || is_elsewhere {
        true => Err(unsound(&known.room, GroupFault::GroupId)),
        false => Ok(()),
    }
}

/// Whether a group is the room's: the room's provider stands first among the external senders, and the metadata, if there are any, are
/// the room's (D-group-of-room).
pub(super) fn check_room(room: &MimiUri, context: &GroupContext) -> Result<(), MimiError> {
    let senders = senders_of(context)?;
    let hub = MimiUri::parse(&format!("mimi://{}", room.host())).ok();
    if senders.first().and_then(|sender| provider_of(&sender.credential)) != hub {
        return Err(unsound(room, GroupFault::NotTheHub));
    }
    let component = |component| component_of(context, component);
    if component(ComponentId::PARTICIPANT_LIST).is_none() {
        return Err(unsound(room, GroupFault::OtherRoom));
    }
    if let Some(metadata) = component(ComponentId::ROOM_METADATA) {
        let metadata = RoomMetaData::from_bytes(metadata)?;
        if MimiUri::parse(&metadata.room_uri).as_ref() != Ok(room) {
            return Err(unsound(room, GroupFault::OtherRoom));
        }
    }
    Ok(())
}

/// The provider that a credential names.
pub(super) fn provider_of(credential: &WireCredential) -> Option<MimiUri> {
    let WireCredential::Basic { identity } = credential else {
        return None;
    };
    let uri = MimiUri::parse(std::str::from_utf8(identity).ok()?).ok()?;
    MimiUri::parse(&format!("mimi://{}", uri.host())).ok()
}

pub(super) fn unsound(room: &MimiUri, fault: GroupFault) -> MimiError {
    let room = room.clone();
    MimiError::UnsoundGroup { room, fault }
}

// --- Proposals ---

/// Makes a SelfRemove. [`propose`] comes after it: until then it is pending here.
pub(super) fn self_remove(
    provider: &Provider<'_>,
    device: &Device,
    group: &mut MlsGroup,
) -> Result<Kept<MlsMessage>, MimiError> {
    let signer = device.signer(suite_of(group)?)?;
    wire_message(&group.leave_group_via_self_remove(provider, signer).doing(PROPOSING)?)
}

/// Makes removals of leaves and updates of components, as messages. They are not pending here before they come from the hub, which says
/// in which order it accepted what.
pub(super) fn propose(
    provider: &Provider<'_>,
    device: &Device,
    group: &mut MlsGroup,
    remove: &[u32],
    updates: &[AppDataUpdate],
) -> Result<Vec<Kept<MlsMessage>>, MimiError> {
    let signer = device.signer(suite_of(group)?)?;
    let mut made = Vec::new();
    let removals = remove.iter().map(|leaf| Propose::Remove(*leaf));
    let updates = updates.iter().map(|update| match &update.update {
        Some(content) => Propose::UpdateAppDataComponent {
            component_id: update.component_id.0,
            update: content.to_vec(),
        },
        None => Propose::RemoveAppDataComponent {
            component_id: update.component_id.0,
        },
    });
    for proposal in removals.chain(updates) {
        let proposed = group.propose(provider, signer, proposal, ProposalOrRefType::Reference);
        made.push(proposed.doing(PROPOSING)?.0);
    }
    let pending: Vec<MlsProposalRef> = group
        .pending_proposals()
        .map(|queued| queued.proposal_reference_ref().clone())
        .collect();
    for reference in pending {
        group
            .remove_pending_proposal(provider.storage(), &reference)
            .doing(PROPOSING)?;
    }
    made.iter().map(wire_message).collect()
}

/// Takes proposals of the current epoch in, in this order and no others. OpenMLS does not keep their order on disk.
pub(super) fn queue(provider: &Provider<'_>, group: &mut MlsGroup, messages: &[Vec<u8>]) -> Result<(), MimiError> {
    group
        .clear_pending_proposals(provider.storage())
        .doing("ordering proposals")?;
    for message in messages {
        take_proposal(provider, group, message)?;
    }
    Ok(())
}

/// Takes in one proposal.
pub(super) fn take_proposal(provider: &Provider<'_>, group: &mut MlsGroup, message: &[u8]) -> Result<(), MimiError> {
    const DOING: &str = "taking in a proposal";
    let parsed = MlsMessage::from_bytes(message)?;
    let queued = match &parsed.body {
        MlsMessageBody::Public(public) => {
            let senders = senders_of(group.public_group().group_context())?;
            let (group_id, epoch) = (group.group_id().as_slice(), group.epoch().as_u64());
            queue_external_proposal(&senders, suite_of(group)?, group_id, epoch, public).doing(DOING)?
        }
        _ => None,
    };
    let queued = match queued {
        Some(queued) => queued,
        None => match process(provider, group, message)?.doing(DOING)?.into_content() {
            ProcessedMessageContent::ProposalMessage(queued)
            | ProcessedMessageContent::ExternalJoinProposalMessage(queued) => *queued,
            _ => return Err(Unexpected).doing(DOING),
        },
    };
    group.store_pending_proposal(provider.storage(), queued).doing(DOING)
}

/// The updates of components that are pending, in the order in which they are queued.
pub(super) fn pending_updates(group: &MlsGroup) -> Result<Vec<AppDataUpdate>, MimiError> {
    let updates = group.pending_proposals().filter_map(|queued| match queued.proposal() {
        MlsProposal::AppDataUpdate(update) => Some(wire_update(update)),
        _ => None,
    });
    updates.collect()
}

/// The leaves whose removal is pending.
pub(super) fn pending_removals(group: &MlsGroup) -> Vec<u32> {
    use openmls::framing::Sender;
    let leaves = group
        .pending_proposals()
        .filter_map(|queued| match (queued.proposal(), queued.sender()) {
            (MlsProposal::Remove(remove), _) => Some(remove.removed().u32()),
            (MlsProposal::SelfRemove, Sender::Member(leaf)) => Some(leaf.u32()),
            _ => None,
        });
    leaves.collect()
}

// --- Commits and messages ---

/// What OpenMLS makes of a message, if storage works.
pub(super) fn process(
    provider: &Provider<'_>,
    group: &mut MlsGroup,
    message: &[u8],
) -> Result<Result<ProcessedMessage, ProcessMessageError<rusqlite::Error>>, MimiError> {
    let message: ProtocolMessage = message_in(message)?
        .try_into_protocol_message()
        .doing("reading a message")?;
    match group.process_message(provider, message) {
        Err(ProcessMessageError::StorageError(error)) => Err(StoreError::from(error).into()),
        processed => Ok(processed),
    }
}

/// Stages somebody else's commit: who committed, and what becomes of the group.
pub(super) fn stage(
    provider: &Provider<'_>,
    group: &mut MlsGroup,
    message: &[u8],
) -> Result<(Option<Identity>, StagedCommit), MimiError> {
    const DOING: &str = "taking in a commit";
    let processed = process(provider, group, message)?.doing(DOING)?;
    let by = who(processed.credential());
    let staged = match processed.into_content() {
        ProcessedMessageContent::StagedCommitMessage(staged) => *staged,
        ProcessedMessageContent::UnresolvedAppDataCommit(unresolved) => {
            let updates = unresolved.app_data_update_proposals().map(wire_update);
            let updates: Vec<_> = updates.collect::<Result<_, _>>()?;
            let changes = changes(group.app_data_dictionary_updater(), &updates)?;
            group
                .stage_app_data_commit(provider, *unresolved, changes)
                .doing(DOING)?
        }
        _ => return Err(Unexpected).doing(DOING),
    };
    Ok((by, staged))
}

/// The pending commit was accepted.
pub(super) fn merge_pending(provider: &Provider<'_>, group: &mut MlsGroup) -> Result<(), MimiError> {
    group.merge_pending_commit(provider).doing("merging a commit")
}

/// The pending commit was refused, or lost its race.
pub(super) fn clear_pending(provider: &Provider<'_>, group: &mut MlsGroup) -> Result<(), MimiError> {
    group
        .clear_pending_commit(provider.storage())
        .doing("dropping a commit")
}

/// Encrypts an application message as the room's policy has it padded, with this franking tag beside it.
pub(super) fn encrypt(
    provider: &Provider<'_>,
    device: &Device,
    group: &mut MlsGroup,
    data: &[u8],
    franking_tag: Option<[u8; 32]>,
) -> Result<Kept<MlsMessage>, MimiError> {
    const DOING: &str = "encrypting a message";
    operational::follow(provider, group)?;
    if component_of(group.public_group().group_context(), ComponentId::SAFE_AAD).is_some() {
        let items = franking_tag.map(|tag| SafeAadItem::new(ComponentId::FRANK_AAD.0, tag.to_vec()));
        group.set_safe_aad(items.into_iter().collect()).doing(DOING)?;
    }
    let signer = device.signer(suite_of(group)?)?;
    wire_message(&group.create_message(provider, signer, data).doing(DOING)?)
}

// --- What a group says ---

pub(super) fn suite_of(group: &MlsGroup) -> Result<Suite, MimiError> {
    Suite::from_ciphersuite(group.ciphersuite())
        .ok_or(Unexpected)
        .doing("naming a group's suite")
}

/// The members whose credentials name a user, which an honest hub sees to.
pub(super) fn members(group: &MlsGroup) -> Vec<Member> {
    let members = group.members().filter_map(|member| {
        Some(Member {
            leaf: member.index.u32(),
            identity: who_with(&member.credential, &member.signature_key)?,
        })
    });
    members.collect()
}

/// Who a credential names, whatever its key.
pub(super) fn who(credential: &Credential) -> Option<Identity> {
    who_with(credential, &[])
}

fn who_with(credential: &Credential, signature_key: &[u8]) -> Option<Identity> {
    let credential = WireCredential::from_bytes(&credential.tls_serialize_detached().ok()?).ok()?;
    Identity::parse(&credential, signature_key).ok()
}

pub(super) fn component_of(context: &GroupContext, component: ComponentId) -> Option<&[u8]> {
    let dictionary = context.extensions().app_data_dictionary()?.dictionary();
    dictionary.get(&component.0)
}

pub(super) fn component(group: &MlsGroup, component: ComponentId) -> Option<&[u8]> {
    component_of(group.public_group().group_context(), component)
}

/// The whole dictionary.
pub(super) fn dictionary(group: &MlsGroup) -> AppDataDictionary {
    let mut dictionary = AppDataDictionary::new();
    let theirs = group.public_group().group_context().extensions().app_data_dictionary();
    for entry in theirs.into_iter().flat_map(|theirs| theirs.dictionary().entries()) {
        dictionary.set(ComponentId(entry.id()), entry.data());
    }
    dictionary
}

/// The participant list at the beginning of the epoch.
pub(super) fn participants(group: &MlsGroup) -> Result<ParticipantListData, MimiError> {
    let data = component(group, ComponentId::PARTICIPANT_LIST);
    let data = data.ok_or(Unexpected).doing("reading the participant list")?;
    Ok(ParticipantListData::from_bytes(data)?)
}

/// The media types that members read; `None` if messages are not framed.
pub(super) fn media_types(group: &MlsGroup) -> Option<MediaTypeList> {
    MediaTypeList::from_bytes(component(group, ComponentId::CONTENT_MEDIA_TYPES)?).ok()
}

/// The context of the epoch.
pub(super) fn context(group: &MlsGroup) -> Result<WireGroupContext, MimiError> {
    let context = encode(group.public_group().group_context())?;
    Ok(WireGroupContext::from_bytes(&context)?)
}

/// A leaf as it is on the wire.
pub(super) fn leaf(leaf: &LeafNode) -> Result<WireLeafNode, MimiError> {
    Ok(WireLeafNode::from_bytes(&encode(leaf)?)?)
}

/// Who franks.
pub(super) fn franking_agent(group: &MlsGroup) -> Option<FrankingAgentData> {
    FrankingAgentData::from_bytes(component(group, ComponentId::FRANKING_AGENT)?).ok()
}

/// What each client in the group has to support.
pub(super) fn required_capabilities(group: &MlsGroup) -> Result<RequiredCapabilities, MimiError> {
    let extensions = group.public_group().group_context().extensions();
    match extensions.required_capabilities() {
        Some(required) => Ok(RequiredCapabilities::from_bytes(&encode(required)?)?),
        None => Ok(RequiredCapabilities {
            extension_types: Vec::new(),
            proposal_types: Vec::new(),
            credential_types: Vec::new(),
        }),
    }
}

/// Those who may propose from outside, the hub first.
fn senders_of(context: &GroupContext) -> Result<Vec<ExternalSender>, MimiError> {
    let Some(senders) = context.extensions().external_senders() else {
        return Ok(Vec::new());
    };
    let senders = senders
        .iter()
        .map(|sender| Ok(ExternalSender::from_bytes(&encode(sender)?)?));
    senders.collect()
}

// --- From and to bytes ---

fn changes(
    mut updater: AppDataDictionaryUpdater<'_>,
    updates: &[AppDataUpdate],
) -> Result<Option<AppDataUpdates>, MimiError> {
    let changes = component_changes(|component| updater.old_value(component.0), updates);
    for (component, change) in changes.doing("working out the room's components")? {
        match change {
            Some(data) => updater.set(ComponentData::from_parts(component.0, data.into())),
            None => updater.remove(&component.0),
        }
    }
    Ok(updater.changes())
}

fn app_data_update(update: &AppDataUpdate) -> AppDataUpdateProposal {
    match &update.update {
        Some(content) => AppDataUpdateProposal::update(update.component_id.0, content.to_vec()),
        None => AppDataUpdateProposal::remove(update.component_id.0),
    }
}

fn wire_update(update: &AppDataUpdateProposal) -> Result<AppDataUpdate, MimiError> {
    Ok(AppDataUpdate::from_bytes(&encode(update)?)?)
}

fn tree_in(tree: &RatchetTreeOption) -> Option<RatchetTreeIn> {
    match tree {
        RatchetTreeOption::Full(tree) => read_tree(tree),
        _ => None,
    }
}

fn read_tree(tree: &RatchetTree) -> Option<RatchetTreeIn> {
    RatchetTreeIn::tls_deserialize_exact(tree.to_bytes()).ok()
}

fn message_in(message: &[u8]) -> Result<MlsMessageIn, MimiError> {
    MlsMessageIn::tls_deserialize_exact(message).doing("reading a message")
}

fn wire_message(message: &MlsMessageOut) -> Result<Kept<MlsMessage>, MimiError> {
    let bytes = message.to_bytes().doing("encoding a message")?;
    Ok(Kept::new(MlsMessage::from_bytes(&bytes)?))
}

fn encode(value: &impl tls_codec::Serialize) -> Result<Vec<u8>, MimiError> {
    value.tls_serialize_detached().doing("encoding")
}

fn join_config() -> MlsGroupJoinConfig {
    operational::configuration(PADDING, MAX_SKIPPED)
}

/// The external senders among the extensions of a context.
pub(super) fn senders_in(extensions: &[WireExtension]) -> Result<Vec<ExternalSender>, MimiError> {
    let senders = extensions
        .iter()
        .find(|extension| extension.extension_type == WireExtensionType::EXTERNAL_SENDERS);
    match senders {
        Some(senders) => Ok(Vec::<ExternalSender>::from_bytes(&senders.extension_data)?),
        None => Ok(Vec::new()),
    }
}

const PROPOSING: &str = "making a proposal";
