//! What is accepted, and who is sent what because of it.

use nabe_wire::mls::AppDataUpdate;
use nabe_wire::policy::BaseRoomPolicy;

use nabe_mls::Suite;
use nabe_mls::mimi::JoinerError;

use super::*;

#[test]
fn a_welcome_goes_to_the_new_provider_and_the_commit_to_the_others() {
    let mut hub = Hub::new();
    let appended = hub.add("alice", "bob", "mimi://b.example/d/bob/B", &[(BOB, 2)]);
    assert_eq!(kinds(&appended), [MimiEntryKind::Commit, MimiEntryKind::Welcome]);
    let open = |letter: &str, from: i64| FollowerChange::Open {
        server: server(letter),
        from: LogPosition::new(from),
    };
    // Of what comes before the Welcome the new provider can make nothing.
    assert_eq!(hub.followers, [open("b", 3)]);
    let appended = hub.add("bob", "cathy", "mimi://c.example/d/cathy/C", &[(CATHY, 2)]);
    assert_eq!(hub.followers, [open("b", 3), open("c", 5)]);
    let [commit, welcome] = &appended[..] else {
        panic!("{appended:?}")
    };
    assert!(!commit.is_for(&server("b")), "Bob's provider sent it");
    assert!(welcome.is_for(&server("c")) && !welcome.is_for(&server("a")) && !welcome.is_for(&server("b")));
    assert_eq!(hub.room.followers().collect::<Vec<_>>(), [&server("b"), &server("c")]);
    let authenticators: Vec<_> = hub.members.values().map(MimiMember::epoch_authenticator).collect();
    assert!(authenticators.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn a_message_is_stamped_and_handed_to_all_providers_but_its_own() {
    let mut hub = Hub::with(|draft| {
        draft.set(ComponentId::FRANKING_AGENT, agent().to_bytes());
    });
    hub.add("alice", "bob", "mimi://b.example/d/bob/B", &[(BOB, 2)]);
    for tag in [None, Some([7; 32])] {
        let message = hub.member("bob").encrypt(b"hello", tag.as_ref().map(|tag| &tag[..]));
        let submission = submission(message.clone(), BOB);
        let submitted = hub.room.submit(&server("b"), &submission, &hub.ctx()).unwrap();
        let frank = submitted.acceptance.frank.clone();
        assert_eq!(frank.as_ref().map(|frank| frank.server_frank), tag);
        let accepted = submitted.acceptance.accepted_timestamp;
        let appended = hub.accept(submitted.outcome);
        let fanout = fanned_out(&appended[0]);
        assert_eq!(fanout.message, submission.app_message, "as it came");
        assert!(!appended[0].body.windows(BOB.len()).any(|part| part == BOB.as_bytes()));
        assert_eq!(
            (fanout.timestamp, fanout.with),
            (accepted, FanoutParts::Application { frank })
        );
        assert!(appended[0].is_for(&server("a")) && !appended[0].is_for(&server("b")));
        assert_eq!(hub.member("alice").decrypt(&message).as_deref(), Some(&b"hello"[..]));
    }
}

#[test]
fn messages_that_came_together_are_taken_as_if_one_came_after_the_other() {
    let mut hub = Hub::of_three();
    let mut said = |name: &'static str, sender| submission(hub.member(name).encrypt(b"hello", None), sender);
    let (first, second, third) = (said("bob", BOB), said("cathy", CATHY), said("bob", BOB));
    let together = [
        (server("b"), &first),
        // Of another provider's user.
        (server("b"), &second),
        (server("c"), &second),
        (server("b"), &third),
    ];
    let (answers, outcome) = hub
        .room
        .submit_all(together.iter().map(|(from, said)| (from, *said)), &hub.ctx());
    let is_taken: Vec<_> = answers.iter().map(Result::is_ok).collect();
    assert_eq!(is_taken, [true, false, true, true]);
    let mut alone = hub.room.clone();
    let mut appended = Vec::new();
    for (from, said) in [("b", &first), ("c", &second), ("b", &third)] {
        let submitted = alone.submit(&server(from), said, &hub.ctx()).unwrap();
        appended.extend(submitted.outcome.append.iter().cloned());
        alone.apply(submitted.outcome);
    }
    assert_eq!(hub.accept(outcome.unwrap()), appended);
    let nobody = [(server("a"), &first)];
    let (_, outcome) = hub
        .room
        .submit_all(nobody.iter().map(|(from, said)| (from, *said)), &hub.ctx());
    assert!(outcome.is_none(), "nothing was taken");
}

#[test]
fn time_never_goes_back_in_a_room() {
    let mut hub = Hub::of_three();
    let before = hub.log.last().unwrap().accepted;
    hub.now = UnixMillis::new(before.as_u64() - 5_000);
    let message = hub.member("bob").encrypt(b"hello", None);
    let submitted = hub.room.submit(&server("b"), &submission(message, BOB), &hub.ctx());
    assert_eq!(submitted.unwrap().acceptance.accepted_timestamp, before.as_u64());
}

#[test]
fn whoever_leaves_counts_as_gone_at_once_and_their_provider_is_sent_the_commit_that_removes_them() {
    let mut hub = Hub::of_three();
    let from_bob = hub.member("bob").encrypt(b"still here", None);
    let leave = hub.member("bob").leave();
    let list = hub
        .member("bob")
        .propose_component(&change_participants(&[], &[1], &[]));
    let appended = hub.update("b", &proposals(&[leave.clone(), list.clone()]));
    assert_eq!(kinds(&appended), [MimiEntryKind::Proposal]);
    let with = fanned_out(&appended[0]).with;
    assert_eq!(
        with,
        FanoutParts::Proposal {
            more_proposals: vec![list.clone()]
        }
    );
    assert_eq!(hub.room.policy().role_of(&uri(BOB)), 0);

    // He neither sends nor receives any more, though he is in the group.
    let refused = hub.room.submit(&server("b"), &submission(from_bob, BOB), &hub.ctx());
    assert!(matches!(refused.unwrap_err(), SubmitRefusal::Policy { .. }));
    let message = hub.member("cathy").encrypt(b"without Bob", None);
    let submitted = hub
        .room
        .submit(&server("c"), &submission(message, CATHY), &hub.ctx())
        .unwrap();
    let appended = hub.accept(submitted.outcome);
    assert_eq!(appended[0].audience, Audience::Only(vec![server("a")]));

    for name in ["alice", "cathy"] {
        for message in [&leave, &list] {
            hub.member(name).process(message);
        }
    }
    let bundle = hub.member("cathy").update();
    let appended = hub.commit("c", "cathy", &bundle);
    assert!(appended[0].is_for(&server("b")));
    let closed = FollowerChange::Close {
        server: server("b"),
        until: appended[0].position,
    };
    assert_eq!(hub.followers.last(), Some(&closed));
    assert_eq!(hub.room.followers().collect::<Vec<_>>(), [&server("c")]);
    assert!(hub.room.policy().participants().get(&uri(BOB)).is_none());
}

#[test]
fn what_an_external_commit_makes_void_the_hub_proposes_again() {
    let mut hub = Hub::of_three();
    // Alice throws Bob out.
    let remove = hub.member("alice").propose_remove(1);
    let list = hub
        .member("alice")
        .propose_component(&change_participants(&[], &[1], &[]));
    hub.update("a", &proposals(&[remove, list]));
    // Cathy's second device joins by itself before anybody commits it.
    let device = MimiDevice::new("mimi://c.example/d/cathy/C2");
    let (joined, bundle) = device.join_externally(&hub.room.group, &[]);
    let appended = hub.update("c", &bundle_of(&bundle));
    assert_eq!(kinds(&appended), [MimiEntryKind::Commit, MimiEntryKind::Proposal]);
    let FanoutParts::Commit { external_proposals } = fanned_out(&appended[0]).with else {
        panic!("a commit");
    };
    assert_eq!(external_proposals, appended[1].messages().unwrap());
    assert_eq!(external_proposals.len(), 2);
    assert_eq!(appended[1].origin, server("a"));
    assert_eq!(
        appended[1].audience,
        Audience::Only(vec![server("c")]),
        "the others have them"
    );
    assert_eq!(hub.room.policy().role_of(&uri(BOB)), 0, "he is as good as gone");

    // The device that has joined commits them.
    hub.members.insert("cathy 2", joined);
    hub.member("cathy 2").merge();
    for message in &external_proposals {
        hub.member("cathy 2").process(message);
    }
    let bundle = hub.member("cathy 2").update();
    hub.update("c", &bundle_of(&bundle));
    assert!(hub.room.policy().participants().get(&uri(BOB)).is_none());
    assert_eq!(hub.room.group().members().len(), 3);
}

#[test]
fn a_participant_gets_the_group_info_for_a_new_device_and_a_stranger_does_not() {
    let hub = Hub::of_three();
    let ask = |client: &str, from: &str| {
        let (query, private_key) = group_info_query(&MimiDevice::new(client));
        let query = nabe_mls::mimi::check_group_info_query(query).unwrap();
        let answer = hub.room.group_info(&server(from), &query, JoinCode::Absent, &hub.ctx());
        answer.map(|answer| (answer, private_key))
    };
    let (answer, private_key) = ask("mimi://c.example/d/cathy/C2", "c").unwrap();
    let opened = open_group_info(answer, &private_key);
    assert_eq!(opened, hub.room.group().for_joiners());
    assert_eq!(
        ask("mimi://c.example/d/cathy/C2", "b").unwrap_err(),
        GroupInfoRefusal::OtherProvider
    );
    let stranger = ask("mimi://d.example/d/dave/D", "d").unwrap_err();
    assert!(matches!(stranger, GroupInfoRefusal::Policy { .. }), "{stranger}");
}

/// The suite of the question is that of its signature and of the seal; the group's is another matter.
#[test]
fn whoever_asks_by_another_suite_that_the_hub_signs_by_gets_the_group_info() {
    let hub = Hub::of_three();
    let ask = |suite| {
        let device = MimiDevice::with_suite("mimi://c.example/d/cathy/C2", suite);
        let (query, private_key) = group_info_query(&device);
        let query = nabe_mls::mimi::check_group_info_query(query).unwrap();
        let answer = hub.room.group_info(&server("c"), &query, JoinCode::Absent, &hub.ctx());
        answer.map(|answer| open_group_info(answer, &private_key))
    };
    assert_ne!(hub.room.group().suite(), Suite::X25519_CHACHA20);
    assert_eq!(ask(Suite::X25519_CHACHA20), Ok(hub.room.group().for_joiners()));
    let refused = ask(Suite::P256_AES128).unwrap_err();
    assert_eq!(refused, GroupInfoRefusal::Joiner(JoinerError::OtherSuite));
    assert!(!refused.is_ours());
}

/// Cathy's second device joins before anybody has committed that Alice renames the room and throws Bob out.
fn joins_before_two_changes() -> (Hub, MimiMember, TestBundle) {
    let mut hub = Hub::of_three();
    let rename = hub.member("alice").propose_component(&new_name());
    hub.update("a", &proposals(&[rename]));
    let remove = hub.member("alice").propose_remove(1);
    let list = hub
        .member("alice")
        .propose_component(&change_participants(&[], &[1], &[]));
    hub.update("a", &proposals(&[remove, list]));
    let device = MimiDevice::new("mimi://c.example/d/cathy/C2");
    let (joined, bundle) = device.join_externally(&hub.room.group, &[]);
    (hub, joined, bundle)
}

fn new_name() -> AppDataUpdate {
    AppDataUpdate {
        component_id: ComponentId::ROOM_METADATA,
        update: Some(metadata(ROOM, "Without Bob").into()),
    }
}

#[test]
fn what_does_not_fit_into_one_commit_the_hub_proposes_after_the_next() {
    let (mut hub, mut joined, bundle) = joins_before_two_changes();
    let mut appended = hub.update("c", &bundle_of(&bundle));
    joined.merge();
    let mut rounds = 0;
    while let [_, again] = &appended[..] {
        for message in again.messages().unwrap() {
            joined.process(&message);
        }
        let bundle = joined.update();
        appended = hub.update("c", &bundle_of(&bundle));
        joined.merge();
        rounds += 1;
    }
    assert!((1..=2).contains(&rounds));
    assert!(hub.room.policy().participants().get(&uri(BOB)).is_none());
    let data = hub.room.group().component(ComponentId::ROOM_METADATA);
    assert_eq!(data, new_name().update.as_deref());
    assert_eq!(hub.left_over, nabe_auth::mimi::LeftOver::default().to_bytes());
}

#[test]
fn whoever_comes_with_a_commit_is_sent_what_the_hub_proposes_after_it() {
    let (mut hub, mut joined, bundle) = joins_before_two_changes();
    let appended = hub.update("c", &bundle_of(&bundle));
    joined.merge();
    for message in appended[1].messages().unwrap() {
        joined.process(&message);
    }
    // Dave comes with the commit of what the hub proposed first; the rest it proposes after it.
    let package = MimiDevice::new("mimi://d.example/d/dave/D").key_package();
    hub.fetched(&package, "mimi://d.example/d/dave/D");
    let bundle = joined.commit(Change {
        add: vec![package],
        updates: vec![add_participants(&[("mimi://d.example/u/dave", 2)])],
        ..Change::default()
    });
    let appended = hub.update("c", &bundle_of(&bundle));
    let [commit, welcome, again] = &appended[..] else {
        panic!("{appended:?}")
    };
    assert_eq!(welcome.kind, MimiEntryKind::Welcome);
    assert!(again.is_for(&server("d")) && again.is_for(&server("c")) && !again.is_for(&server("a")));
    let open = FollowerChange::Open {
        server: server("d"),
        from: commit.position.next(),
    };
    assert_eq!(hub.followers.last(), Some(&open));
}

/// Whoever asks the parent room again on loading finds it as it is by now, or not at all.
#[test]
fn a_room_with_a_parent_is_restored_while_proposals_are_pending() {
    let mut hub = Hub::of_parent(&[ALICE, BOB, CATHY, DAVE]);
    hub.add("alice", "bob", "mimi://b.example/d/bob/B", &[(BOB, 2)]);
    let list = hub.member("bob").propose_component(&add_participants(&[(CATHY, 2)]));
    hub.update("b", &proposals(&[list]));
    assert_eq!(hub.room.policy().role_of(&uri(CATHY)), 2);
}

/// Who is in that room only its own hub's state tells, and only the room's parent so far is at hand.
#[test]
fn a_room_does_not_come_to_depend_on_a_room_that_nobody_was_asked_about() {
    let mut hub = Hub::of_parent(&[ALICE, BOB, CATHY]);
    let base = hub.room.group().component(ComponentId::BASE_ROOM_POLICY).unwrap();
    let mut base = BaseRoomPolicy::from_bytes(base).unwrap();
    base.parent_room = vec![nabe_wire::uri::Uri::new("mimi://a.example/r/cellar").unwrap()];
    let change = set_component(ComponentId::BASE_ROOM_POLICY, base.to_bytes());
    let moves = hub.member("alice").propose_component(&change);
    let refusal = hub.try_update("a", &proposals(&[moves])).unwrap_err();
    let rejection = policy::Rejection::ParentUnknown;
    assert_eq!(refusal, UpdateRefusal::Policy { rejection });
}

#[test]
fn of_what_the_hub_proposes_again_the_rest_goes_on_without_what_can_no_longer_be_proposed() {
    let mut hub = Hub::of_parent(&[ALICE, BOB, CATHY, DAVE]);
    hub.add("alice", "bob", "mimi://b.example/d/bob/B", &[(BOB, 2)]);
    let list = hub.member("alice").propose_component(&add_participants(&[(CATHY, 2)]));
    hub.update("a", &proposals(&[list]));
    let kick = hub.member("alice").propose_remove(1);
    hub.update("a", &proposals(&[kick]));
    // Nobody knows any more who is in the parent room, so nobody can be put on the list.
    hub.parent = None;
    let device = MimiDevice::new("mimi://a.example/d/alice/A2");
    let (_, bundle) = device.join_externally(&hub.room.group, &[]);
    let appended = hub.update("a", &bundle_of(&bundle));
    let again = appended[1].messages().unwrap();
    let [kick] = &again[..] else { panic!("{again:?}") };
    let (_, proposal, _) = hub.room.group.read_proposal(kick).unwrap();
    assert_eq!(proposal, nabe_wire::mls::Proposal::Remove(1));
    assert_eq!(hub.room.policy().role_of(&uri(CATHY)), 2, "it counts on");
}

#[test]
fn a_proposal_that_changes_nobodys_standing_leaves_everybody_as_reachable_as_before() {
    let mut hub = Hub::of_three();
    let reach = hub.room.reach.clone();
    let name = AppDataUpdate {
        component_id: ComponentId::ROOM_METADATA,
        update: Some(metadata(ROOM, "Another name").into()),
    };
    let rename = hub.member("alice").propose_component(&name);
    hub.update("a", &proposals(&[rename]));
    assert_eq!(hub.room.reach, reach);
}
