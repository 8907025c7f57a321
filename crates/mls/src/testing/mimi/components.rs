//! Components of groups and leaves: their data, their updates, and what updates come to.

use nabe_wire::app_data::{ComponentsList, MediaType, MediaTypeList, SafeAad, SafeAadItem};
use nabe_wire::mls::{AppDataUpdate, ComponentId};
use nabe_wire::participant_list::{ParticipantListData, ParticipantListUpdate, UserIndexRolePair, UserRolePair};
use nabe_wire::policy::OperationalParameters;
use nabe_wire::room_metadata::RoomMetaData;
use nabe_wire::uri::Uri;
use nabe_wire::{Decode as _, Encode as _, IdentifierUri, Message as _, Reader};
use openmls::component::ComponentData;
use openmls::group::AppDataUpdates;
use openmls::messages::proposals::AppDataUpdateProposal;
use openmls::prelude::ProposalType;

use crate::mimi::{MimiGroup, resolve_components};

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

/// A SafeAAD of these items, well-formed or not.
#[must_use]
pub fn safe_aad(items: &[(ComponentId, &[u8])]) -> Vec<u8> {
    let items = items.iter().map(|(component_id, data)| SafeAadItem {
        component_id: *component_id,
        aad_item_data: (*data).into(),
    });
    SafeAad::new(items.collect()).expect("one item each").to_bytes()
}

pub(super) fn participant(user: &str, role_index: u32) -> UserRolePair {
    UserRolePair {
        user: IdentifierUri::new(user).expect("a test's user"),
        role_index,
    }
}

pub(super) fn app_data_changes(
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

pub(super) fn app_data_update(update: &AppDataUpdate) -> AppDataUpdateProposal {
    match &update.update {
        Some(content) => AppDataUpdateProposal::update(update.component_id.0, content.to_vec()),
        None => AppDataUpdateProposal::remove(update.component_id.0),
    }
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
    ComponentId::JOIN_LINK_POLICY,
    ComponentId::JOIN_LINKS,
];

/// What the tests' room asks its members to know.
pub const REQUIRED: &[ComponentId] = SUPPORTED;

pub(super) const PROPOSALS: &[ProposalType] = &[
    ProposalType::AppDataUpdate,
    ProposalType::AppEphemeral,
    ProposalType::SelfRemove,
];

pub(super) const CONTENT: &str = "application/mimi-content";
