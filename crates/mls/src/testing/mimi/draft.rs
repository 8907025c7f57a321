//! What a room's group begins with, and rooms that are written down instead of grown.

use nabe_wire::app_data::AppDataDictionary;
use nabe_wire::mls::{ComponentId, ExternalSender, GroupInfo, RatchetTree};
use nabe_wire::participant_list::ParticipantListData;
use nabe_wire::{Decode as _, Encode as _, Kept, Message as _, Reader};
use openmls::extensions::{
    AppDataDictionary as MlsDictionary, AppDataDictionaryExtension, Extension, RequiredCapabilitiesExtension,
};
use openmls::group::GroupContext as MlsGroupContext;
use openmls::prelude::{CredentialType, ExtensionType, Extensions, ExternalSender as MlsExternalSender, ProposalType};
use tls_codec::Deserialize as _;

use super::super::paper::{Parents, group_info_on_paper, tree_on_paper};
use super::components::{CONTENT, PROPOSALS, REQUIRED, components_list, media_types, metadata, participant};
use super::device::{MimiDevice, user_of};
use super::hub::TestHub;
use super::translate::{content_of, encode};
use super::{GROUP, ROOM};

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

/// A room of these clients as a client would hand it over, but for that it is written down instead of grown: see
/// `group_state_on_paper`. Each client's user is a participant.
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

pub(super) fn list_of(users: impl Iterator<Item = String>) -> Vec<u8> {
    let participants = users.map(|user| participant(&user, 4)).collect();
    ParticipantListData { participants }.to_bytes()
}

pub(super) fn dictionary_extension(dictionary: &AppDataDictionary) -> Extension {
    let mut theirs = MlsDictionary::new();
    for entry in dictionary.entries() {
        theirs.insert(entry.component_id.0, entry.data.to_vec());
    }
    Extension::AppDataDictionary(AppDataDictionaryExtension::new(theirs))
}
