//! Followers among the external senders, who may propose from outside (MIMI #authenticating-proposals).

use nabe_wire::mls::{Extension, Proposal};

use super::*;

/// Alice, Bob and Cathy, in a room that trusts the key of Bob's provider too, and something of that provider that is none.
fn of_three_with_senders() -> (Hub, TestHub, TestHub) {
    let (follower, service) = (TestHub::new("mimi://b.example"), TestHub::new("mimi://b.example/u/bot"));
    let mut hub = Hub::with(|draft| draft.senders.extend([follower.to_openmls(), service.to_openmls()]));
    hub.add(
        "alice",
        "bob",
        "mimi://b.example/d/bob/B",
        &[(BOB, templates::ORDINARY_USER)],
    );
    hub.add(
        "bob",
        "cathy",
        "mimi://c.example/d/cathy/C",
        &[(CATHY, templates::ORDINARY_USER)],
    );
    (hub, follower, service)
}

/// What the hub proposes after a member's commit: for everybody, and by itself, since only external commits have something stapled to them.
fn proposed_after(appended: &[MimiEntry]) -> Vec<Kept<MlsMessage>> {
    let FanoutParts::Commit { external_proposals } = fanned_out(&appended[0]).with else {
        panic!("a commit");
    };
    assert_eq!(external_proposals, []);
    let proposed = appended.last().unwrap();
    assert_eq!(
        (proposed.kind, &proposed.audience),
        (MimiEntryKind::Proposal, &Audience::Others)
    );
    proposed.messages().unwrap()
}

#[test]
fn a_follower_whose_last_participant_has_left_is_no_sender_any_more() {
    let (mut hub, follower, service) = of_three_with_senders();
    assert_eq!(hub.room.group().external_senders()[1], *follower.sender());
    // Bob is thrown out; until that is committed, nothing changes.
    let remove = hub.member("alice").propose_remove(1);
    let list = hub
        .member("alice")
        .propose_component(&change_participants(&[], &[1], &[]));
    hub.update("a", &proposals(&[remove.clone(), list.clone()]));
    for message in [&remove, &list] {
        hub.member("cathy").process(message);
    }
    let bundle = hub.member("cathy").update();
    let appended = hub.commit("c", "cathy", &bundle);
    assert_eq!(kinds(&appended), [MimiEntryKind::Commit, MimiEntryKind::Proposal]);
    let proposed = proposed_after(&appended);
    let [message] = &proposed[..] else {
        panic!("{proposed:?}")
    };
    let (_, proposal, _) = hub.room.group.read_proposal(message).unwrap();
    let Proposal::GroupContextExtensions(extensions) = &proposal else {
        panic!("{proposal:?}")
    };
    let dictionary = Extension::app_data_dictionary(extensions).unwrap().unwrap();
    assert_eq!(dictionary, hub.room.group().dictionary());
    assert_eq!(hub.room.group().external_senders().len(), 3, "not committed yet");

    // The next commit has to have it, whoever makes it.
    let without = hub.member("cathy").update();
    assert!(hub.try_update("c", &bundle_of(&without)).is_err());
    hub.member("cathy").clear();
    for name in ["alice", "cathy"] {
        hub.member(name).process(message);
    }
    let bundle = hub.member("alice").update();
    let appended = hub.commit("a", "alice", &bundle);
    assert_eq!(kinds(&appended), [MimiEntryKind::Commit]);
    let left = [hub.key.sender().clone(), service.sender().clone()];
    assert_eq!(hub.room.group().external_senders(), left);
    // From now on its proposals are of nobody.
    let late = follower.propose(1, hub.room.group(), Proposal::Remove(2), &[0]);
    assert!(hub.try_update("b", &proposals(&[late])).is_err());
}

#[test]
fn a_follower_with_participants_stays_among_the_senders() {
    let (mut hub, ..) = of_three_with_senders();
    let bundle = hub.member("cathy").update();
    let appended = hub.commit("c", "cathy", &bundle);
    assert_eq!(kinds(&appended), [MimiEntryKind::Commit]);
    assert_eq!(hub.room.group().external_senders().len(), 3);
}

/// The commit is taken in as it was checked, not the room put in place of another.
#[test]
fn nothing_is_copied_to_find_that_no_follower_is_absent() {
    let inactive = TestHub::new("mimi://d.example");
    let mut hub = Hub::with(|draft| draft.senders.push(inactive.to_openmls()));
    let dave = [add_participants(&[(
        "mimi://d.example/u/dave",
        templates::ORDINARY_USER,
    )])];
    let change = Change {
        updates: dave.to_vec(),
        ..Change::default()
    };
    let added = hub.member("alice").commit(change);
    let outcome = hub.try_update("a", &bundle_of(&added)).unwrap();
    assert!(matches!(outcome.judged, Judged::Merged(_)), "he comes with it");
    hub.commit("a", "alice", &added);
    let updated = hub.member("alice").update();
    let outcome = hub.try_update("a", &bundle_of(&updated)).unwrap();
    assert!(
        matches!(outcome.judged, Judged::Merged(_)),
        "he is on the list, without clients"
    );
    let (mut hub, ..) = of_three_with_senders();
    let updated = hub.member("cathy").update();
    let outcome = hub.try_update("c", &bundle_of(&updated)).unwrap();
    assert!(matches!(outcome.judged, Judged::Merged(_)), "all have clients");
}

#[test]
fn what_an_external_commit_makes_void_of_it_the_hub_proposes_again() {
    let (mut hub, ..) = of_three_with_senders();
    let remove = hub.member("alice").propose_remove(1);
    let list = hub
        .member("alice")
        .propose_component(&change_participants(&[], &[1], &[]));
    hub.update("a", &proposals(&[remove, list]));
    let bundle = hub.member("alice").update();
    let first = proposed_after(&hub.update("a", &bundle_of(&bundle)));
    let device = MimiDevice::new("mimi://c.example/d/cathy/C2");
    let (mut joined, bundle) = device.join_externally(&hub.room.group, &[]);
    let appended = hub.update("c", &bundle_of(&bundle));
    let FanoutParts::Commit {
        external_proposals: second,
    } = fanned_out(&appended[0]).with
    else {
        panic!("a commit");
    };
    assert_eq!((first.len(), second.len()), (1, 1));
    joined.merge();
    joined.process(&second[0]);
    let bundle = joined.update();
    hub.update("c", &bundle_of(&bundle));
    assert_eq!(hub.room.group().external_senders().len(), 2);
}
