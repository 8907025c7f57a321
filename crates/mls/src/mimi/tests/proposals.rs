//! Proposals by themselves: one test for each rule.

use nabe_wire::app_data::{AppAck, AppDataDictionary};
use nabe_wire::mls::{
    AppEphemeral, CipherSuite, ContentType, FramedContent, FramedContentBody, MlsMessageBody, PreSharedKeyId,
    PrivateMessage, ProposalType, ProtocolVersion, Psk, ReInit, Sender,
};

use super::*;

const STATUS: ComponentId = ComponentId::STATUS_NOTIFICATION_POLICY;

fn app_ack() -> Proposal {
    let ack = AppAck {
        received_ranges: Vec::new(),
    };
    Proposal::AppEphemeral(AppEphemeral {
        component_id: ComponentId::APP_ACK,
        data: ack.to_bytes().into(),
    })
}

fn psk() -> Proposal {
    Proposal::Psk(PreSharedKeyId {
        psk: Psk::External {
            psk_id: b"shared".as_slice().into(),
        },
        psk_nonce: [7; 32].as_slice().into(),
    })
}

fn reinit() -> Proposal {
    Proposal::ReInit(ReInit {
        group_id: b"next".as_slice().into(),
        version: ProtocolVersion::MLS10,
        cipher_suite: CipherSuite(1),
        extensions: Vec::new(),
    })
}

fn proposer(room: &Room, message: &Kept<MlsMessage>) -> Proposer {
    room.propose(message).unwrap().proposals[0].proposer.clone()
}

#[test]
fn a_member_proposes_in_its_own_name() {
    let mut room = Room::of_three();
    let cathy = room.leaf("cathy");
    let message = room.member("bob").propose_remove(cathy);
    let staged = room.propose(&message).unwrap();
    let [proposal] = &staged.proposals[..] else {
        panic!("one proposal");
    };
    assert_eq!(proposal.proposal, Proposal::Remove(cathy));
    assert_eq!(proposal.client.as_ref().unwrap().user().to_string(), CATHY);
    let Proposer::Member(bob) = &proposal.proposer else {
        panic!("a member");
    };
    assert_eq!(bob.identity.user().to_string(), BOB);
    // Staging changes nothing.
    assert_eq!(room.group.pending().len(), 0);
    room.merge(&staged.bytes);
    assert_eq!(room.group.pending().next(), Some(proposal));
}

#[test]
fn the_hub_proposes_what_openmls_has_no_words_for() {
    let mut room = Room::of_three();
    let update = Proposal::AppDataUpdate(change_participants(&[], &[2], &[]));
    for proposal in [update, Proposal::Remove(2), app_ack()] {
        let message = room.group.hub_proposal(proposal.clone(), room.hub.signer()).unwrap();
        let staged = room.propose(&message).unwrap();
        assert_eq!(staged.proposals[0].proposal, proposal);
        let Proposer::ExternalSender { index: 0, sender } = &staged.proposals[0].proposer else {
            panic!("the hub");
        };
        assert_eq!(sender, room.hub.sender());
    }
    // Everybody takes the update and the removal, and the next commit has both.
    for proposal in [
        Proposal::AppDataUpdate(change_participants(&[], &[2], &[])),
        Proposal::Remove(2),
    ] {
        let message = room.group.hub_proposal(proposal, room.hub.signer()).unwrap();
        room.accept_proposal("the hub", &message);
    }
    let bundle = room.member("alice").update();
    let staged = room.accept("alice", &bundle);
    let by_hub =
        |committed: &CommittedProposal| matches!(committed.proposer, Proposer::ExternalSender { index: 0, .. });
    assert_eq!(staged.proposals.iter().filter(|one| by_hub(one)).count(), 2);
    assert_eq!(participants_of(&room.group).len(), 2);
    room.agree();
}

#[test]
fn what_openmls_queues_itself_and_what_is_queued_for_it_are_alike() {
    let room = Room::of_three();
    let message = room.group.hub_proposal(Proposal::Remove(2), room.hub.signer()).unwrap();
    let public = framing::readable(&message).unwrap();
    let theirs = openmls::prelude::MlsMessageIn::tls_deserialize_exact(message.as_bytes()).unwrap();
    let processed = room
        .group
        .state
        .group
        .process_message(crypto(), theirs.try_into_protocol_message().unwrap())
        .unwrap();
    let openmls::framing::ProcessedMessageContent::ProposalMessage(theirs) = processed.into_content() else {
        panic!("a proposal");
    };
    let sender = openmls::framing::Sender::External(openmls::prelude::SenderExtensionIndex::new(0));
    let ours = queued(theirs.proposal().clone(), sender, public, room.group.suite()).unwrap();
    assert_eq!(*theirs, ours);
}

#[test]
fn a_newcomer_asks_to_be_added() {
    let room = Room::of_three();
    let dave = MimiDevice::new("mimi://d.example/d/dave/D");
    let message = dave.ask_to_join(&room.group);
    let Proposer::NewMember(identity) = proposer(&room, &message) else {
        panic!("a newcomer");
    };
    assert_eq!(identity.user().to_string(), "mimi://d.example/u/dave");
    let remove = dave.propose_as_new_member(&room.group, Proposal::Remove(1));
    assert_eq!(room.propose(&remove).err(), Some(MimiRefusal::SenderNotAllowed));
}

#[test]
fn each_kind_of_sender_has_its_kinds_of_proposals() {
    let room = Room::of_three();
    let alice = &room.members["alice"];
    let by_hub = |proposal| room.propose(&room.hub.propose(0, &room.group, proposal, &[0])).err();
    let by_alice = |proposal| room.propose(&alice.forge_proposal(proposal)).err();
    let not_by_sender = |proposal_type| Some(MimiRefusal::ProposalNotBySender { proposal_type });
    assert_eq!(by_hub(Proposal::SelfRemove), not_by_sender(ProposalType::SELF_REMOVE));
    let init = || Proposal::ExternalInit(vec![7; 32].into());
    assert_eq!(by_hub(init()), not_by_sender(ProposalType::EXTERNAL_INIT));
    assert_eq!(by_alice(init()), not_by_sender(ProposalType::EXTERNAL_INIT));
    let proposal_type = ProposalType(0xf0f0);
    let unknown = || Proposal::Other {
        proposal_type,
        content: Vec::new().into(),
    };
    assert_eq!(
        by_hub(unknown()),
        Some(MimiRefusal::UnknownProposalType { proposal_type })
    );
    assert_eq!(
        by_alice(unknown()),
        Some(MimiRefusal::UnknownProposalType { proposal_type })
    );
    for refused in [by_hub(reinit()), by_alice(reinit())] {
        assert_eq!(refused, Some(MimiRefusal::ReInitNotFollowed));
    }
    for refused in [by_hub(psk()), by_alice(psk())] {
        assert_eq!(refused, Some(MimiRefusal::PskByItself));
    }
    assert_eq!(by_alice(app_ack()), None);
}

#[test]
fn what_is_told_in_passing_is_known() {
    let room = Room::of_three();
    let alice = &room.members["alice"];
    let tell = |component_id, data: &[u8]| {
        let ephemeral = AppEphemeral {
            component_id,
            data: data.into(),
        };
        room.propose(&alice.forge_proposal(Proposal::AppEphemeral(ephemeral)))
            .err()
    };
    assert_eq!(
        tell(STATUS, &[]),
        Some(MimiRefusal::UnknownComponent { component: STATUS })
    );
    assert!(matches!(
        tell(ComponentId::APP_ACK, &[9]),
        Some(MimiRefusal::ComponentData { .. })
    ));
}

#[test]
fn the_sender_is_there_and_signed() {
    let room = Room::of_three();
    let stranger = TestHub::new("mimi://a.example");
    let remove = || Proposal::Remove(1);
    assert_eq!(
        room.propose(&room.hub.propose(1, &room.group, remove(), &[0])).err(),
        Some(MimiRefusal::UnknownExternalSender { index: 1 })
    );
    for proposal in [
        remove(),
        Proposal::AppDataUpdate(change_participants(&[], &[1], &[])),
        app_ack(),
    ] {
        assert_eq!(
            room.propose(&stranger.propose(0, &room.group, proposal, &[0])).err(),
            Some(MimiRefusal::BadSignature)
        );
    }
    let alice = &room.members["alice"];
    let as_leaf = |leaf_index| {
        alice.forge_content(FramedContent {
            group_id: room.group.group_id().into(),
            epoch: room.group.epoch(),
            sender: Sender::Member { leaf_index },
            authenticated_data: [0].as_slice().into(),
            body: FramedContentBody::Proposal(Box::new(Kept::new(Proposal::Remove(2)))),
        })
    };
    assert_eq!(room.propose(&as_leaf(0)).err(), None);
    assert_eq!(room.propose(&as_leaf(1)).err(), Some(MimiRefusal::BadSignature));
    assert_eq!(
        room.propose(&as_leaf(3)).err(),
        Some(MimiRefusal::UnknownMember { leaf: 3 })
    );
}

#[test]
fn a_proposal_is_for_this_group_and_epoch() {
    let room = Room::of_three();
    let alice = &room.members["alice"];
    let current = room.group.epoch();
    let content = |group_id: &[u8], epoch| FramedContent {
        group_id: group_id.into(),
        epoch,
        sender: Sender::Member { leaf_index: 0 },
        authenticated_data: [0].as_slice().into(),
        body: FramedContentBody::Proposal(Box::new(Kept::new(Proposal::Remove(2)))),
    };
    let propose = |content| room.propose(&alice.forge_content(content)).err();
    assert_eq!(propose(content(b"other", current)), Some(MimiRefusal::WrongGroup));
    for epoch in [current - 1, current + 1] {
        let refused = propose(content(room.group.group_id(), epoch)).unwrap();
        assert_eq!(refused, MimiRefusal::WrongEpoch { epoch, current });
        assert_eq!(refused.code(), UpdateResponseCode::WRONG_EPOCH);
    }
}

#[test]
fn the_authenticated_data_of_a_proposal_is_a_safe_aad() {
    let room = Room::of_three();
    let by_hub = |aad: &[u8]| {
        room.propose(&room.hub.propose(0, &room.group, Proposal::Remove(2), aad))
            .err()
    };
    assert_eq!(by_hub(&[0]), None);
    assert_eq!(by_hub(&safe_aad(&[(ComponentId(0x8000), b"x")])), None);
    for aad in [&b""[..], b"\0tail", b"\x03\0\x20"] {
        assert!(matches!(by_hub(aad), Some(MimiRefusal::SafeAad(_))), "{aad:?}");
    }
}

#[test]
fn only_proposals_that_servers_can_read_are_proposed() {
    let mut room = Room::of_three();
    let private = Kept::new(MlsMessage {
        body: MlsMessageBody::Private(PrivateMessage {
            group_id: room.group.group_id().into(),
            epoch: room.group.epoch(),
            content_type: ContentType::PROPOSAL,
            authenticated_data: [0].as_slice().into(),
            encrypted_sender_data: Vec::new().into(),
            ciphertext: Vec::new().into(),
        }),
    });
    assert_eq!(room.propose(&private).err(), Some(MimiRefusal::PrivateHandshake));
    let info = Kept::new(MlsMessage {
        body: MlsMessageBody::GroupInfo(Box::new(room.group.group_info())),
    });
    assert_eq!(room.propose(&info).err(), Some(MimiRefusal::WrongWireFormat));
    let commit = room.member("alice").update();
    assert_eq!(room.propose(&commit.commit).err(), Some(MimiRefusal::NotAProposal));
}

#[test]
fn several_are_taken_together_or_not_at_all() {
    let mut room = Room::of_three();
    let remove = room.member("alice").propose_remove(1);
    let nobody = room.members["alice"].forge_proposal(Proposal::Remove(9));
    let refused = room.group.propose(&remove, &[nobody], wall_clock()).unwrap_err();
    assert_eq!(refused.index, 1);
    assert!(refused.reference.is_some());
    assert_eq!(refused.reason, MimiRefusal::NobodyToRemove { leaf: 9 });
    let twice = room
        .group
        .propose(&remove, std::slice::from_ref(&remove), wall_clock())
        .unwrap_err();
    assert_eq!((twice.index, twice.reason), (1, MimiRefusal::PendingAlready));
}

#[test]
fn a_proposal_is_pending_once() {
    let mut room = Room::of_three();
    let remove = room.member("alice").propose_remove(1);
    room.accept_proposal("alice", &remove);
    assert_eq!(room.propose(&remove).err(), Some(MimiRefusal::PendingAlready));
}

#[test]
fn a_member_is_removed_once_and_leaving_comes_first() {
    let mut room = Room::of_three();
    let bob = room.leaf("bob");
    let update = room.member("bob").propose_update();
    let update = room.accept_proposal("bob", &update);
    let remove = room.member("alice").propose_remove(bob);
    let staged = room.accept_proposal("alice", &remove);
    assert_eq!(staged.superseded, [update.proposals[0].reference.clone()]);
    let again = room.members["cathy"].forge_proposal(Proposal::Remove(bob));
    assert_eq!(
        room.propose(&again).err(),
        Some(MimiRefusal::RemovalPending { leaf: bob })
    );
    let late = room.member("bob").propose_update();
    assert_eq!(room.propose(&late).err(), Some(MimiRefusal::UpdateWhileLeaving));

    let leave = room.member("bob").leave();
    let staged = room.accept_proposal("bob", &leave);
    assert_eq!(staged.superseded.len(), 1);
    let pending: Vec<_> = room.group.pending().map(|pending| &pending.proposal).collect();
    assert_eq!(pending, [&Proposal::SelfRemove]);
    let second = room.members["bob"].forge(
        &safe_aad(&[(ComponentId(0x8000), b"again")]),
        FramedContentBody::Proposal(Box::new(Kept::new(Proposal::SelfRemove))),
    );
    assert_eq!(room.propose(&second).err(), Some(MimiRefusal::SelfRemoveTwice));

    let bundle = room.member("cathy").update();
    let staged = room.accept("cathy", &bundle);
    assert_eq!(names(&staged.removed), ["mimi://b.example/d/bob/B@1"]);
    room.agree();
}

#[test]
fn an_update_is_its_sender_s() {
    let mut room = Room::of_three();
    let update = room.member("bob").propose_update();
    let staged = room.accept_proposal("bob", &update);
    let client = staged.proposals[0].client.as_ref().unwrap();
    assert_eq!(client.user().to_string(), BOB);
    let newer = room.member("bob").propose_update();
    let staged = room.accept_proposal("bob", &newer);
    assert_eq!(staged.superseded.len(), 1, "the newer one counts");
    let bundle = room.member("alice").update();
    let staged = room.accept("alice", &bundle);
    assert_eq!(
        names(&staged.updated),
        ["mimi://b.example/d/bob/B@1", "mimi://a.example/d/alice/A@0"]
    );
    room.agree();
}

#[test]
fn who_is_added_can_be_in_the_group() {
    let room = Room::of_three();
    let device = |client: &str| MimiDevice::new(client);
    let dave = device("mimi://d.example/d/dave/D");
    // Not with OpenMLS, which proposes no such clients.
    let add = |device: &MimiDevice| {
        let package = nabe_wire::mls::KeyPackage::from_bytes(&device.key_package()).unwrap();
        let add = Proposal::Add(Box::new(Kept::new(package)));
        room.propose(&room.members["alice"].forge_proposal(add)).err()
    };
    assert_eq!(add(&dave), None);
    assert_eq!(add(&device("mimi://b.example/d/bob/B")), Some(MimiRefusal::ClientTwice));
    assert_eq!(
        add(&device("mimi://d.example/d/dave")),
        Some(MimiRefusal::Identity(IdentityError::NotAClient))
    );
    let unable = dave.with_proposals(&[openmls::prelude::ProposalType::AppDataUpdate]);
    assert_eq!(add(&unable), Some(MimiRefusal::Unsupported));
    let few: Vec<_> = SUPPORTED
        .iter()
        .copied()
        .filter(|component| *component != STATUS)
        .collect();
    let unaware = dave.with_component(ComponentId::APP_COMPONENTS, Some(components_list(&few)));
    assert_eq!(
        add(&unaware),
        Some(MimiRefusal::ComponentUnsupported { component: STATUS })
    );
    let deaf = dave.with_component(ComponentId::SAFE_AAD, None);
    let component = ComponentId::FRANK_AAD;
    assert_eq!(add(&deaf), Some(MimiRefusal::ComponentUnsupported { component }));
    let blind = dave.with_component(ComponentId::CONTENT_MEDIA_TYPES, Some(media_types(&["text/plain"])));
    assert_eq!(add(&blind), Some(MimiRefusal::MediaTypeUnsupported));
}

#[test]
fn values_that_stand_for_nothing_do_no_harm_where_clients_say_what_they_know() {
    let mut room = Room::of_three();
    let dave = MimiDevice::new("mimi://d.example/d/dave/D").with_grease();
    let mut dictionary = AppDataDictionary::new();
    dictionary.set(ComponentId(0x3a3a), b"nothing".to_vec());
    let message = room.member("alice").propose_add(&dave.key_package_with(&dictionary));
    assert_eq!(room.propose(&message).err(), None);
}

#[test]
fn two_pending_newcomers_are_two() {
    let mut room = Room::of_three();
    let dave = MimiDevice::new("mimi://d.example/d/dave/D");
    let message = room.member("alice").propose_add(&dave.key_package());
    room.accept_proposal("alice", &message);
    let same = MimiDevice::new("mimi://d.example/d/dave/D");
    let again = room.member("bob").propose_add(&same.key_package());
    assert_eq!(room.propose(&again).err(), Some(MimiRefusal::ClientTwice));
    let same_key =
        dave.with_credential(openmls::credentials::BasicCredential::new(b"mimi://d.example/d/dave/E".to_vec()).into());
    let again = room.member("bob").propose_add(&same_key.key_package());
    assert_eq!(room.propose(&again).err(), Some(MimiRefusal::KeyInUse));
}

#[test]
fn a_key_package_is_valid_now() {
    let mut room = Room::of_three();
    let now = wall_clock().as_u64() / 1000;
    let dave = MimiDevice::new("mimi://d.example/d/dave/D");
    let package = dave.key_package_for(Some((now - 60, now + 60)));
    let message = room.member("alice").propose_add(&package);
    assert!(room.propose(&message).is_ok());
    for (now, fault) in [
        (now - 120, LifetimeFault::NotYetValid),
        (now + 120, LifetimeFault::Expired),
    ] {
        let refused = room.group.propose(&message, &[], UnixMillis(now * 1000)).unwrap_err();
        assert_eq!(refused.reason, MimiRefusal::LeafLifetime(fault));
        assert_eq!(refused.reason.code(), UpdateResponseCode::INVALID_PROPOSAL);
    }
}

#[test]
fn components_change_as_a_commit_could_change_them() {
    let mut room = Room::of_three();
    let mut propose = |update: AppDataUpdate| {
        let message = room.member("alice").propose_component(&update);
        room.propose(&message).err()
    };
    assert_eq!(propose(set_component(STATUS, vec![1, 1])), None);
    assert_eq!(
        propose(remove_component(STATUS)),
        Some(MimiRefusal::AbsentComponent { component: STATUS })
    );
    assert_eq!(
        propose(change_participants(&[], &[3], &[])),
        Some(MimiRefusal::ParticipantIndex { index: 3 })
    );
    assert_eq!(
        propose(add_participants(&[(BOB, 2)])),
        Some(MimiRefusal::ParticipantTwice { user: BOB.to_owned() })
    );
    let component = ComponentId(0x8000);
    assert_eq!(
        propose(set_component(component, vec![])),
        Some(MimiRefusal::UnknownComponent { component })
    );
    assert!(matches!(
        propose(set_component(ComponentId::ROLES_LIST, vec![0xff])),
        Some(MimiRefusal::ComponentData { .. })
    ));
    let other = metadata("mimi://a.example/r/other", "Clubhouse");
    assert_eq!(
        propose(set_component(ComponentId::ROOM_METADATA, other)),
        Some(MimiRefusal::MetadataOtherRoom)
    );
    let component = ComponentId::PARTICIPANT_LIST;
    assert_eq!(
        propose(remove_component(component)),
        Some(MimiRefusal::MissingComponent { component })
    );
    let component = ComponentId::BOT_POLICY;
    assert_eq!(
        propose(set_component(component, vec![0])),
        Some(MimiRefusal::ComponentNotListed { component })
    );
    // What members would have to know, they do not know.
    let more = [SUPPORTED, &[component]].concat();
    assert_eq!(
        propose(set_component(ComponentId::APP_COMPONENTS, components_list(&more))),
        Some(MimiRefusal::ComponentUnsupported { component })
    );
}

#[test]
fn pending_changes_of_components_do_not_collide() {
    let mut room = Room::of_three();
    let first = room
        .member("alice")
        .propose_component(&change_participants(&[(1, 3)], &[], &[]));
    room.accept_proposal("alice", &first);
    let mut propose = |update: AppDataUpdate| {
        let message = room.member("bob").propose_component(&update);
        room.propose(&message).err()
    };
    assert_eq!(
        propose(change_participants(&[], &[1], &[])),
        Some(MimiRefusal::ParticipantTwice { user: BOB.to_owned() })
    );
    assert_eq!(propose(change_participants(&[], &[2], &[])), None);
    let name = |name| set_component(ComponentId::ROOM_METADATA, metadata(ROOM, name));
    let metadata = room.member("cathy").propose_component(&name("One"));
    room.accept_proposal("cathy", &metadata);
    let message = room.member("bob").propose_component(&name("Two"));
    assert_eq!(room.propose(&message).err(), Some(MimiRefusal::MetadataTwice));
    // In effect before it is committed, and indices still count by the list of the epoch.
    let foreseen = room.group.pending_components();
    assert!(foreseen.contains_key(&ComponentId::PARTICIPANT_LIST));
    assert!(foreseen.contains_key(&ComponentId::ROOM_METADATA));
}

#[test]
fn extensions_change_without_the_dictionary_and_with_the_hub() {
    let mut room = Room::of_three();
    let follower = TestHub::new("mimi://b.example");
    let alice = room.members["alice"].device().clone();
    let mut draft = RoomDraft::new(&alice, &room.hub);
    draft.dictionary = room.group.dictionary();
    // Not with OpenMLS, which proposes no such extensions.
    let propose = |draft: &RoomDraft| {
        let extensions = draft.extensions().tls_serialize_detached().unwrap();
        let extensions = Reader::new(&extensions).vector(Extension::decode).unwrap();
        let proposal = Proposal::GroupContextExtensions(extensions);
        room.propose(&room.members["alice"].forge_proposal(proposal)).err()
    };
    draft.senders.push(follower.to_openmls());
    assert_eq!(propose(&draft), None);
    let mut other = draft.clone();
    other.set(STATUS, vec![0, 0]);
    assert_eq!(propose(&other), Some(MimiRefusal::DictionaryByExtensions));
    let mut other = draft.clone();
    other.senders.remove(0);
    assert_eq!(propose(&other), Some(MimiRefusal::HubNotFirstSender));
    let mut other = draft.clone();
    other.proposals.clear();
    assert_eq!(propose(&other), Some(MimiRefusal::CapabilitiesNotRequired));
    let mut other = draft.clone();
    other.proposals.push(openmls::prelude::ProposalType::Custom(0xf0f0));
    assert_eq!(propose(&other), Some(MimiRefusal::Unsupported));

    let message = room.member("alice").propose_extensions(draft.extensions());
    room.accept_proposal("alice", &message);
    let again = room.member("bob").propose_extensions(draft.extensions());
    room.member("bob").clear_proposals();
    assert_eq!(room.propose(&again).err(), Some(MimiRefusal::ExtensionsPending));
    room.member("bob").process(&message);
    let bundle = room.member("cathy").update();
    room.accept("cathy", &bundle);
    assert_eq!(room.group.external_senders()[1], *follower.sender());
    room.agree();
    // The follower's proposals are taken from now on.
    let proposal = follower.propose(1, &room.group, Proposal::Remove(2), &[0]);
    assert!(matches!(
        proposer(&room, &proposal),
        Proposer::ExternalSender { index: 1, .. }
    ));
}

#[test]
fn the_hub_signs_with_a_key_of_the_group_s_suite() {
    let room = Room::of_three();
    let other = TestHub::with_suite("mimi://a.example", Suite::P256_AES128);
    assert!(room.group.hub_proposal(Proposal::Remove(1), other.signer()).is_err());
}
