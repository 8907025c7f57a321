//! What a group has to be like to be a room's.

use openmls::prelude::ProposalType;

use nabe_wire::app_data::{MediaType, MediaTypeList};

use super::*;

fn alice() -> MimiDevice {
    MimiDevice::new("mimi://a.example/d/alice/A")
}

/// What becomes of a room that is made otherwise.
fn found_with(change: impl FnOnce(&mut RoomDraft)) -> Result<MimiGroup, MimiRefusal> {
    let hub = TestHub::new("mimi://a.example");
    let mut draft = RoomDraft::new(&alice(), &hub);
    change(&mut draft);
    let (info, tree) = alice().create_room_with(&draft).hand_over();
    MimiGroup::found(&room(), hub.sender(), &info, &tree, wall_clock()).map(|(group, _)| group)
}

#[test]
fn a_room_begins_with_what_its_creator_hands_over() {
    let group = found_with(|_| {}).unwrap();
    assert_eq!((group.epoch(), group.members().len()), (0, 1));
    assert_eq!(group.room().to_string(), ROOM);
    assert_eq!(participants_of(&group), [(ALICE.to_owned(), 4)]);
    let required = group.required_capabilities().unwrap();
    assert!(
        required
            .proposal_types
            .contains(&nabe_wire::mls::ProposalType::SELF_REMOVE)
    );
    assert!(group.memory_estimate() > 0);
}

#[test]
fn a_room_begins_with_one_client() {
    let room_of_three = Room::of_three();
    let (info, tree) = room_of_three.members["alice"].hand_over();
    let (room, hub) = (room(), room_of_three.hub.sender());
    assert_eq!(
        MimiGroup::found(&room, hub, &info, &tree, wall_clock()).err(),
        Some(MimiRefusal::NotAGroupOfOne { members: 3 })
    );
    let (group, _) = MimiGroup::follow(&room, hub, &info, &tree, wall_clock()).unwrap();
    assert_eq!(group.tree_hash(), room_of_three.group.tree_hash());
}

#[test]
fn the_hub_stands_first_among_the_external_senders() {
    let follower = TestHub::new("mimi://b.example");
    let hubless = found_with(|draft| draft.senders.clear());
    assert_eq!(hubless, Err(MimiRefusal::HubNotFirstSender));
    let second = found_with(|draft| draft.senders.insert(0, follower.to_openmls()));
    assert_eq!(second, Err(MimiRefusal::HubNotFirstSender));
    let group = found_with(|draft| draft.senders.push(follower.to_openmls()));
    // Another hub's key is made for each test room, so only the place is compared here.
    assert_eq!(group.unwrap().external_senders()[1], *follower.sender());
}

#[test]
fn members_have_to_know_what_a_room_needs() {
    for missing in [ProposalType::AppDataUpdate, ProposalType::SelfRemove] {
        let room = found_with(|draft| draft.proposals.retain(|required| *required != missing));
        assert_eq!(room, Err(MimiRefusal::CapabilitiesNotRequired), "{missing:?}");
    }
    assert!(
        found_with(|draft| draft
            .proposals
            .retain(|required| *required != ProposalType::AppEphemeral))
        .is_ok()
    );
}

#[test]
fn a_room_has_components_without_which_it_is_none() {
    for component in [
        ComponentId::APP_COMPONENTS,
        ComponentId::SAFE_AAD,
        ComponentId::PARTICIPANT_LIST,
    ] {
        let room = found_with(|draft| {
            draft.dictionary.remove(component);
        });
        assert_eq!(room, Err(MimiRefusal::MissingComponent { component }));
    }
}

#[test]
fn components_are_in_their_format() {
    for component in [
        ComponentId::ROLES_LIST,
        ComponentId::PARTICIPANT_LIST,
        ComponentId::ROOM_METADATA,
    ] {
        let room = found_with(|draft| draft.set(component, vec![0xff]));
        assert!(
            matches!(room, Err(MimiRefusal::ComponentData { component: found, .. }) if found == component),
            "{component:?}"
        );
    }
}

#[test]
fn what_has_data_is_required_of_members() {
    let component = ComponentId::BOT_POLICY;
    let data = vec![0];
    assert_eq!(
        found_with(|draft| draft.set(component, data.clone())),
        Err(MimiRefusal::ComponentNotListed { component })
    );
    // And what is required, its creator supports.
    let listed = found_with(|draft| {
        draft.set(component, data);
        let all = [REQUIRED, &[component]].concat();
        draft.set(ComponentId::APP_COMPONENTS, components_list(&all));
    });
    assert_eq!(listed, Err(MimiRefusal::ComponentUnsupported { component }));
    let aad = ComponentId(0x8001);
    let required = found_with(|draft| draft.set(ComponentId::SAFE_AAD, components_list(&[aad])));
    assert_eq!(required, Err(MimiRefusal::ComponentUnsupported { component: aad }));
    let types = found_with(|draft| draft.set(ComponentId::CONTENT_MEDIA_TYPES, media_types(&["text/markdown"])));
    assert_eq!(types, Err(MimiRefusal::MediaTypeUnsupported));
}

#[test]
fn a_media_type_is_read_with_its_parameters() {
    let list = |types: &[MediaType]| MediaTypeList::new(types.to_vec()).unwrap().to_bytes();
    let markdown = |variant| MediaType::new("text/markdown").with_parameter("variant", variant);
    let found_by_reader_of = |read: MediaType| {
        let hub = TestHub::new("mimi://a.example");
        let read = list(&[MediaType::new("Application/MIMI-Content"), read]);
        let reader = alice().with_component(ComponentId::CONTENT_MEDIA_TYPES, Some(read));
        let mut draft = RoomDraft::new(&reader, &hub);
        let required = [MediaType::new("application/mimi-content"), markdown("GFM-MIMI")];
        draft.set(ComponentId::CONTENT_MEDIA_TYPES, list(&required));
        let (info, tree) = reader.create_room_with(&draft).hand_over();
        MimiGroup::found(&room(), hub.sender(), &info, &tree, wall_clock()).map(|_| ())
    };
    assert_eq!(found_by_reader_of(markdown("gfm-mimi")), Ok(()));
    assert_eq!(found_by_reader_of(MediaType::new("text/markdown")), Ok(()));
    let other = found_by_reader_of(markdown("CommonMark"));
    assert_eq!(other, Err(MimiRefusal::MediaTypeUnsupported));
}

#[test]
fn components_that_stand_for_nothing_are_ignored_in_lists() {
    let all = [REQUIRED, &[ComponentId(0x0a0a)]].concat();
    assert!(found_with(|draft| draft.set(ComponentId::APP_COMPONENTS, components_list(&all))).is_ok());
}

#[test]
fn the_metadata_is_the_room_s() {
    let other = found_with(|draft| {
        draft.set(
            ComponentId::ROOM_METADATA,
            metadata("mimi://a.example/r/other", "Clubhouse"),
        );
    });
    assert_eq!(other, Err(MimiRefusal::MetadataOtherRoom));
    let without = found_with(|draft| {
        draft.dictionary.remove(ComponentId::ROOM_METADATA);
    });
    assert!(without.is_ok());
}

#[test]
fn the_creator_is_somebody() {
    let hub = TestHub::new("mimi://a.example");
    let nobody = openmls::credentials::BasicCredential::new(b"alice".to_vec()).into();
    let draft = RoomDraft::new(&alice(), &hub);
    let (info, tree) = alice().with_credential(nobody).create_room_with(&draft).hand_over();
    assert_eq!(
        MimiGroup::found(&room(), hub.sender(), &info, &tree, wall_clock()).err(),
        Some(MimiRefusal::Identity(IdentityError::Uri(
            nabe_wire::uri::MimiUriError::Scheme
        )))
    );
}

#[test]
fn what_is_handed_over_is_signed_and_belongs_together() {
    let hub = TestHub::new("mimi://a.example");
    let alice = alice().create_room(&hub);
    let (info, tree) = alice.hand_over();
    let found = |info: &Kept<GroupInfo>, tree: &RatchetTree| {
        MimiGroup::found(&room(), hub.sender(), info, tree, wall_clock()).err()
    };
    assert_eq!(found(&info, &tree), None);
    let mut forged = (*info).clone();
    forged.signature.0[0] ^= 1;
    assert_eq!(
        found(&Kept::new(forged), &tree),
        Some(MimiRefusal::GroupInfoBadSignature)
    );
    let without_key = GroupInfo {
        extensions: Vec::new(),
        ..(*info).clone()
    };
    assert_eq!(
        found(&alice.sign_group_info(without_key), &tree),
        Some(MimiRefusal::GroupInfoWithoutExternalPub)
    );
    let other = MimiDevice::new("mimi://a.example/d/alice/A").create_room(&hub);
    assert!(found(&info, &other.tree()).is_some());
    let late = UnixMillis(wall_clock().as_u64() + 200 * 24 * 60 * 60 * 1000);
    assert_eq!(
        MimiGroup::found(&room(), hub.sender(), &info, &tree, late).err(),
        Some(MimiRefusal::LeafLifetime(LifetimeFault::Expired))
    );
}
