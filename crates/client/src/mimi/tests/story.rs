//! The draft's story (MIMI #example-protocol-flow), and what else becomes of rooms.

use nabe_wire::mls::{FramedContentBody, MlsMessage, MlsMessageBody, ProposalType};
use nabe_wire::update::UpdateRoomResponse;
use nabe_wire::{Encode as _, Message as _};

use super::*;

#[test]
fn alice_creates_a_room_adds_bob_who_adds_cathy_who_writes_and_adds_a_device_when_bob_is_gone() {
    let hub = MimiHub::new();
    let (mut alice, mut bob, mut cathy) = (client(&hub, A), client(&hub, B), client(&hub, C));
    now(alice.create_room(&new_room())).unwrap();
    assert_eq!(alice.group(&room()).unwrap().unwrap().epoch, 0);

    now(alice.add(&room(), &[(uri(BOB), MEMBER)])).unwrap();
    sync(&mut bob);
    assert!(notices(&mut bob).contains(&MimiNotice::Joined {
        room: ROOM.to_owned(),
        epoch: 1
    }));
    now(bob.add(&room(), &[(uri(CATHY), MEMBER)])).unwrap();
    sync(&mut cathy);
    sync(&mut alice);
    agree(&hub, &[&alice, &bob, &cathy]);
    let listed = [(ALICE, templates::SUPER_ADMIN), (BOB, MEMBER), (CATHY, MEMBER)];
    let listed: Vec<_> = listed.map(|(user, role)| (user.to_owned(), role)).into();
    assert_eq!(participants(&cathy), listed);

    say(&mut cathy, "Hello");
    for client in [&mut alice, &mut bob] {
        sync(client);
        assert_eq!(read(client), ["Hello"]);
        let items = client.items(&room(), 10).unwrap();
        assert_eq!(items[0].sender, Some(uri(CATHY)));
        assert_eq!(items[0].client, Some(uri(C)));
        assert_eq!(items[0].franking, Franking::Genuine);
    }

    now(bob.leave(&room())).unwrap();
    assert_eq!(bob.room(&room()).unwrap().status, MimiStatus::Leaving);
    // That is enough: nothing is proposed a second time.
    now(bob.leave(&room())).unwrap();
    sync(&mut alice);
    assert_eq!(alice.group(&room()).unwrap().unwrap().pending, 2);
    assert!(matches!(
        now(bob.say(&room(), NestedPart::text("wait"))),
        Err(MimiError::Leaving(_))
    ));
    // Cathy cannot write before she has committed that he goes, so she does.
    sync(&mut cathy);
    say(&mut cathy, "Bob is gone");
    sync(&mut bob);
    sync(&mut alice);
    assert_eq!(bob.room(&room()).unwrap().status, MimiStatus::Removed);
    assert!(notices(&mut bob).contains(&MimiNotice::Removed {
        room: ROOM.to_owned(),
        by: C.to_owned()
    }));
    assert_eq!(read(&bob), ["Hello"]);
    agree(&hub, &[&alice, &cathy]);
    assert_eq!(participants(&alice).len(), 2);

    let mut second = client(&hub, C2);
    now(second.join(&room(), None, None)).unwrap();
    sync(&mut alice);
    sync(&mut cathy);
    agree(&hub, &[&alice, &cathy, &second]);
    say(&mut second, "From my other device");
    sync(&mut alice);
    sync(&mut cathy);
    let lines = ["Hello", "Bob is gone", "From my other device"];
    assert_eq!(read(&alice), lines);
    assert_eq!(read(&cathy), lines);
    assert_eq!(read(&second), ["From my other device"]);
}

#[test]
fn all_clients_of_a_user_come_at_once_and_go_at_once() {
    let hub = MimiHub::new();
    let mut alice = client(&hub, A);
    let (mut bob, mut second) = (client(&hub, B), client(&hub, B2));
    now(alice.create_room(&new_room())).unwrap();
    now(alice.add(&room(), &[(uri(BOB), MEMBER)])).unwrap();
    sync(&mut bob);
    sync(&mut second);
    agree(&hub, &[&alice, &bob, &second]);
    say(&mut bob, "one");
    say(&mut second, "two");
    sync(&mut bob);
    sync(&mut alice);
    for client in [&alice, &bob] {
        assert_eq!(read(client), ["one", "two"]);
    }
    now(second.leave(&room())).unwrap();
    now(alice.tend(&room())).unwrap();
    for client in [&mut bob, &mut second] {
        sync(client);
        assert_eq!(client.room(&room()).unwrap().status, MimiStatus::Removed);
    }
    agree(&hub, &[&alice]);
    assert_eq!(participants(&alice).len(), 1);
}

fn kind_of(message: &[u8]) -> ProposalType {
    let message = MlsMessage::from_bytes(message).unwrap();
    match message.body {
        MlsMessageBody::Public(public) => match public.content.body {
            FramedContentBody::Proposal(proposal) => proposal.proposal_type(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

/// The proposals that a client has on their way to the hub.
fn proposed(client: &MimiClient) -> Vec<u8> {
    let request = store::Request::of_room(client.store.read(), &room()).unwrap();
    let message = request.expect("it is on its way").message;
    assert_eq!(kind_of(&message), ProposalType::SELF_REMOVE);
    message
}

#[test]
fn who_asks_to_leave_again_in_an_epoch_sends_the_same_self_remove_again() {
    let hub = MimiHub::new();
    let [mut alice, bob, _] = of_three(&hub);
    let refused = UpdateRoomResponse::not_allowed("not today");
    let refused = refused.to_bytes();
    let mut store = bob.into_store();
    let mut made = Vec::new();
    for is_next_epoch in [false, false, true] {
        if is_next_epoch {
            now(alice.update(&room())).unwrap();
        }
        let line = hub.transport(B);
        let mut bob = MimiClient::open(line.clone(), store, obedient(), hub.clock()).unwrap();
        sync(&mut bob);
        line.is_down(&room(), true);
        now(bob.leave(&room())).unwrap_err();
        made.push(proposed(&bob));
        line.is_down(&room(), false);
        line.answer(&refused);
        hub.advance(Duration::from_mins(10));
        sync(&mut bob);
        let gave_up = |notice: &MimiNotice| matches!(notice, MimiNotice::GaveUp { .. });
        assert!(notices(&mut bob).iter().any(gave_up));
        store = bob.into_store();
        if made.len() == 1 {
            // As if it were signed otherwise each time, as in suites whose signatures are random.
            *made[0].last_mut().unwrap() ^= 1;
            let keep = |connection: &rusqlite::Connection| store::keep_self_remove(connection, &room(), &made[0]);
            store.transaction(keep).unwrap();
        }
    }
    assert_eq!(made[0], made[1]);
    assert_ne!(made[1], made[2], "the next epoch has its own");
    // The hub takes it the second time.
    let mut bob = MimiClient::open(hub.transport(B), store, obedient(), hub.clock()).unwrap();
    now(bob.leave(&room())).unwrap();
    sync(&mut alice);
    assert!(store::pending(alice.store.read(), &room()).unwrap().contains(&made[2]));
    now(alice.tend(&room())).unwrap();
    sync(&mut bob);
    assert_eq!(bob.room(&room()).unwrap().status, MimiStatus::Removed);
}

#[test]
fn who_leaves_by_a_remove_is_as_gone() {
    let hub = MimiHub::new();
    let [mut alice, mut bob, mut cathy] = of_three(&hub);
    let mut second = client(&hub, B2);
    now(second.join(&room(), None, None)).unwrap();
    for client in [&mut alice, &mut bob, &mut cathy] {
        sync(client);
    }
    now(bob.leave_by_remove(&room())).unwrap();
    assert_eq!(bob.room(&room()).unwrap().status, MimiStatus::Leaving);
    sync(&mut cathy);
    let proposed = store::pending(cathy.store.read(), &room()).unwrap();
    let kinds: Vec<_> = proposed.iter().map(|message| kind_of(message)).collect();
    let kinds_of = |kind| kinds.iter().filter(|it| **it == kind).count();
    assert_eq!(kinds_of(ProposalType::REMOVE), 2, "{kinds:?}");
    assert_eq!(kinds_of(ProposalType::SELF_REMOVE), 0, "{kinds:?}");
    now(cathy.tend(&room())).unwrap();
    for client in [&mut alice, &mut bob, &mut second] {
        sync(client);
    }
    agree(&hub, &[&alice, &cathy]);
    for client in [&bob, &second] {
        assert_eq!(client.room(&room()).unwrap().status, MimiStatus::Removed);
    }
    assert_eq!(participants(&alice).len(), 2);
}

#[test]
fn what_others_proposed_is_committed_after_a_while_by_somebody() {
    let hub = MimiHub::new();
    let settings = MimiSettings {
        tend: true,
        ..obedient()
    };
    let [mut alice, mut bob, cathy] = of_three(&hub);
    let mut cathy = MimiClient::open(hub.transport(C), cathy.into_store(), settings, hub.clock()).unwrap();
    now(bob.leave(&room())).unwrap();
    sync(&mut cathy);
    assert_eq!(cathy.group(&room()).unwrap().unwrap().pending, 2);
    assert!(cathy.next_due().unwrap().is_some());
    hub.advance(Duration::from_secs(5));
    sync(&mut cathy);
    sync(&mut alice);
    agree(&hub, &[&alice, &cathy]);
    assert_eq!(cathy.group(&room()).unwrap().unwrap().members.len(), 2);
    sync(&mut cathy);
    assert_eq!(cathy.next_due().unwrap(), None);
}

#[test]
fn a_banned_user_is_out_and_cannot_come_back_until_the_ban_is_lifted() {
    let hub = MimiHub::new();
    let [mut alice, mut bob, mut cathy] = of_three(&hub);
    now(alice.ban(&room(), &uri(BOB))).unwrap();
    sync(&mut bob);
    sync(&mut cathy);
    agree(&hub, &[&alice, &cathy]);
    assert_eq!(bob.room(&room()).unwrap().status, MimiStatus::Removed);
    assert_eq!(participants(&cathy)[1], (BOB.to_owned(), 1));
    let refused = now(bob.join(&room(), None, None)).unwrap_err();
    assert!(matches!(refused, MimiError::NotAuthorized(_)), "{refused}");
    now(alice.set_role(&room(), &uri(BOB), MEMBER)).unwrap();
    now(bob.join(&room(), None, None)).unwrap();
    sync(&mut alice);
    sync(&mut cathy);
    agree(&hub, &[&alice, &bob, &cathy]);
}

#[test]
fn roles_change_users_are_removed_and_the_room_is_renamed() {
    let hub = MimiHub::new();
    let [mut alice, mut bob, mut cathy] = of_three(&hub);
    now(alice.set_role(&room(), &uri(BOB), templates::GROUP_ADMIN)).unwrap();
    now(bob.remove(&room(), &uri(CATHY))).unwrap();
    sync(&mut cathy);
    assert_eq!(cathy.room(&room()).unwrap().status, MimiStatus::Removed);
    let renamed = NewRoom::new(&room(), "Clubhouse II", templates::cooperative("a.example")).unwrap();
    let update = nabe_wire::Encode::to_bytes(&renamed.metadata);
    now(bob.set_component(&room(), ComponentId::ROOM_METADATA, Some(update.clone()))).unwrap();
    sync(&mut alice);
    agree(&hub, &[&alice, &bob]);
    let components = alice.group(&room()).unwrap().unwrap().components;
    assert_eq!(components.data(ComponentId::ROOM_METADATA), Some(&update[..]));
    now(alice.update(&room())).unwrap();
    sync(&mut bob);
    agree(&hub, &[&alice, &bob]);
}

#[test]
fn what_is_not_allowed_is_told_in_the_hubs_words_and_changes_nothing() {
    let hub = MimiHub::new();
    let [mut alice, mut bob, mut cathy] = of_three(&hub);
    let error = now(bob.ban(&room(), &uri(CATHY))).unwrap_err();
    let MimiError::Refused { code, description } = &error else {
        panic!("{error}");
    };
    assert_eq!(*code, nabe_wire::update::UpdateResponseCode::NOT_ALLOWED);
    assert!(description.contains("rule can-ban"), "{description}");
    agree(&hub, &[&alice, &bob, &cathy]);
    // The commit that was refused is not in the way.
    now(bob.update(&room())).unwrap();
    sync(&mut alice);
    sync(&mut cathy);
    agree(&hub, &[&alice, &bob, &cathy]);
    let nobody = now(bob.remove(&room(), &uri(DAVE))).unwrap_err();
    assert!(matches!(nobody, MimiError::NoSuchParticipant { .. }), "{nobody}");
}

#[test]
fn who_has_no_key_packages_left_takes_part_and_joins_by_themselves() {
    let hub = MimiHub::new();
    let [mut alice, ..] = of_three(&hub);
    let mut dave = client(&hub, D);
    hub.drop_key_packages(D);
    now(alice.add(&room(), &[(uri(DAVE), MEMBER)])).unwrap();
    assert!(notices(&mut alice).iter().any(|notice| matches!(
        notice,
        MimiNotice::CannotAdd { client, .. } if client == D
    )));
    assert_eq!(participants(&alice).len(), 4);
    now(dave.join(&room(), None, None)).unwrap();
    sync(&mut alice);
    assert_eq!(dave.group(&room()).unwrap(), alice.group(&room()).unwrap());
    let unknown = now(alice.add(&room(), &[(uri("mimi://d.example/u/nobody"), MEMBER)])).unwrap_err();
    assert!(matches!(unknown, MimiError::KeyMaterial { .. }), "{unknown}");
}

#[test]
fn a_room_is_founded_once() {
    let hub = MimiHub::new();
    let mut alice = client(&hub, A);
    now(alice.create_room(&new_room())).unwrap();
    assert!(matches!(
        now(alice.create_room(&new_room())),
        Err(MimiError::KnownRoom(_))
    ));
    let mut other = client(&hub, "mimi://a.example/d/zoe/Z");
    let taken = now(other.create_room(&new_room())).unwrap_err();
    assert!(matches!(taken, MimiError::Transport(_)), "{taken}");
    let mut bob = client(&hub, B);
    assert!(matches!(
        now(bob.create_room(&new_room())),
        Err(MimiError::NotOurRoom { .. })
    ));
}
