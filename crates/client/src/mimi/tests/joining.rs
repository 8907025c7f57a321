//! External commits: who may join by themselves, and how.

use super::*;

/// One in which strangers may take the role of a member.
pub(super) fn open_room() -> NewRoom {
    let mut open = new_room();
    for role in &mut open.policy.roles.roles {
        if role.role_index == 0 {
            role.role_capabilities
                .push(nabe_wire::policy::Capability::CAN_OPEN_JOIN);
            role.authorized_role_changes = vec![nabe_wire::policy::SingleSourceRoleChangeTargets {
                from_role_index: 0,
                target_role_indexes: vec![MEMBER],
            }];
        }
    }
    open
}

#[test]
fn an_open_room_is_joined_with_the_role_that_is_open() {
    let hub = MimiHub::new();
    let mut alice = client(&hub, A);
    let mut bob = client(&hub, B);
    now(alice.create_room(&open_room())).unwrap();
    let refused = now(bob.join(&room(), Some(templates::GROUP_ADMIN), None)).unwrap_err();
    assert!(matches!(refused, MimiError::Refused { .. }), "{refused}");
    now(bob.join(&room(), None, None)).unwrap();
    sync(&mut alice);
    agree(&hub, &[&alice, &bob]);
    assert_eq!(participants(&alice)[1], (BOB.to_owned(), MEMBER));
    say(&mut bob, "hello");
    sync(&mut alice);
    assert_eq!(read(&alice), ["hello"]);
}

#[test]
fn who_is_taken_off_the_list_meanwhile_does_not_come_back_by_themselves() {
    let hub = MimiHub::new();
    let [mut alice, mut bob] = [client(&hub, A), client(&hub, B)];
    now(alice.create_room(&open_room())).unwrap();
    now(bob.join(&room(), None, None)).unwrap();
    sync(&mut alice);
    now(alice.update(&room())).unwrap();
    hub.take_last();
    now(alice.remove(&room(), &uri(BOB))).unwrap();
    sync(&mut bob);
    assert_eq!(bob.room(&room()).unwrap().status, MimiStatus::Active, "he cannot know");
    hub.advance(Duration::from_mins(11));
    for _ in 0..3 {
        sync(&mut bob);
    }
    assert_eq!(bob.room(&room()).unwrap().status, MimiStatus::Removed);
    assert_eq!(participants(&alice).len(), 1);
    // He may do so, of course.
    now(bob.join(&room(), None, None)).unwrap();
    sync(&mut alice);
    assert_eq!(participants(&alice).len(), 2);
}

#[test]
fn a_joining_code_opens_the_room_for_its_role() {
    let hub = MimiHub::new();
    let mut alice = client(&hub, A);
    let mut bob = client(&hub, B);
    let strict = NewRoom::new(&room(), "Strict", templates::strict("a.example")).unwrap();
    now(alice.create_room(&strict)).unwrap();
    hub.accept_code(b"open sesame", MEMBER);
    for code in [None, Some(&b"please"[..])] {
        let refused = now(bob.join(&room(), None, code)).unwrap_err();
        assert!(matches!(refused, MimiError::NotAuthorized(_)), "{refused}");
    }
    now(bob.join(&room(), None, Some(b"open sesame"))).unwrap();
    sync(&mut alice);
    agree(&hub, &[&alice, &bob]);
}

#[test]
fn a_stranger_is_not_let_in_and_a_room_that_is_none_is_named() {
    let hub = MimiHub::new();
    let _members = of_three(&hub);
    let mut dave = client(&hub, D);
    let refused = now(dave.join(&room(), None, None)).unwrap_err();
    assert!(matches!(refused, MimiError::NotAuthorized(_)), "{refused}");
    let unknown = now(dave.join(&uri("mimi://a.example/r/nowhere"), None, None)).unwrap_err();
    assert!(matches!(unknown, MimiError::UnknownRoom(_)), "{unknown}");
}

#[test]
fn what_an_external_commit_makes_void_is_committed_as_the_hub_proposes_it_again() {
    let hub = MimiHub::new();
    let [mut alice, mut bob, mut cathy] = of_three(&hub);
    now(bob.leave(&room())).unwrap();
    let mut second = client(&hub, C2);
    now(second.join(&room(), None, None)).unwrap();
    sync(&mut second);
    for client in [&mut alice, &mut cathy] {
        sync(client);
    }
    agree(&hub, &[&alice, &cathy, &second]);
    // The SelfRemove came along; that he is off the list is proposed by the hub again.
    assert_eq!(alice.group(&room()).unwrap().unwrap().pending, 1);
    assert_eq!(second.group(&room()).unwrap().unwrap().pending, 1);
    now(second.tend(&room())).unwrap();
    for client in [&mut alice, &mut cathy, &mut bob] {
        sync(client);
    }
    agree(&hub, &[&alice, &cathy, &second]);
    assert_eq!(participants(&alice).len(), 2);
    assert_eq!(bob.room(&room()).unwrap().status, MimiStatus::Removed);
}

#[test]
fn an_external_commit_that_loses_its_race_is_made_again() {
    let hub = MimiHub::new();
    let [mut alice, ..] = of_three(&hub);
    let line = hub.transport(C2);
    let store = ClientStore::in_memory().unwrap();
    let suites = [Suite::default()];
    let log_in = MimiClient::log_in;
    let device = uri(C2);
    let mut second = now(log_in(line.clone(), store, &device, &suites, obedient(), hub.clock())).unwrap();
    // It has the GroupInfo, and then the line is dead for a while.
    line.fail_after(1);
    now(second.join(&room(), None, None)).unwrap_err();
    assert_eq!(second.room(&room()).unwrap().status, MimiStatus::Joining);
    now(alice.update(&room())).unwrap();
    hub.advance(Duration::from_secs(2));
    sync(&mut second);
    sync(&mut alice);
    assert_eq!(second.group(&room()).unwrap(), alice.group(&room()).unwrap());
}

#[test]
fn both_of_a_direct_message_are_on_the_list_from_the_beginning_and_their_clients_come_and_go() {
    let hub = MimiHub::new();
    let mut alice = client(&hub, A);
    let mut bob = client(&hub, B);
    let direct = NewRoom {
        role: MEMBER,
        participants: vec![(uri(BOB), MEMBER)],
        ..NewRoom::new(&room(), "", templates::direct_message()).unwrap()
    };
    now(alice.create_room(&direct)).unwrap();
    now(bob.join(&room(), None, None)).unwrap();
    say(&mut bob, "hello");
    sync(&mut alice);
    agree(&hub, &[&alice, &bob]);
    assert_eq!(read(&alice), ["hello"]);
    now(bob.leave(&room())).unwrap();
    now(alice.tend(&room())).unwrap();
    assert_eq!(participants(&alice).len(), 2, "he stays on the list");
    assert_eq!(alice.group(&room()).unwrap().unwrap().members.len(), 1);
}

#[test]
fn own_clients_are_added_by_their_key_packages() {
    let hub = MimiHub::new();
    let [mut alice, mut bob, mut cathy] = of_three(&hub);
    let mut second = client(&hub, C2);
    now(cathy.add_own_clients(&room())).unwrap();
    for client in [&mut alice, &mut bob, &mut second] {
        sync(client);
    }
    agree(&hub, &[&alice, &bob, &cathy, &second]);
    let left = hub.key_packages_left(C2);
    assert_eq!(left, 8, "what was used is replaced");
    now(cathy.remove_clients(&room(), &[uri(C2)])).unwrap();
    sync(&mut second);
    assert_eq!(second.room(&room()).unwrap().status, MimiStatus::Removed);
}
