//! Groups: founding, joining, leaving.

use std::time::Duration;

use nabe_mls::Suite;
use nabe_signing::{Json, base64u, object};

use super::*;
use crate::testing::Fault;
use crate::transport::StreamBody;
use crate::{ClientError, GroupStatus, Intent, NoRoom};

#[test]
fn the_creator_founds_the_group_with_the_rooms_first_commit() {
    let hub = hub();
    let mut alice = client(&hub, ALICE, "A");
    let room = room(&mut alice, &mut []);
    agree(&hub, &room, &[&alice]);
    assert_eq!(alice.group(&room).unwrap().unwrap().epoch, 1);
    let log = hub.log(&room);
    let commit = log.last().unwrap();
    assert_eq!(commit.event_type, "m.mls.commit");
    assert!(commit.content.get("prev_commit_event_id").is_none());
    assert_eq!(
        alice.room(&room).unwrap().algorithm,
        Some(Suite::default().room_algorithm())
    );
}

#[test]
fn whoever_is_welcomed_reads_and_writes() {
    let hub = hub();
    let (mut alice, mut bob) = (client(&hub, ALICE, "A"), client(&hub, BOB, "B"));
    let room = room(&mut alice, &mut [&mut bob]);
    agree(&hub, &room, &[&alice, &bob]);
    say(&mut alice, &room, "hello");
    sync(&mut bob);
    say(&mut bob, &room, "hello yourself");
    sync(&mut alice);
    sync(&mut bob);
    for client in [&alice, &bob] {
        assert_eq!(read(client, &room), ["hello", "hello yourself"]);
    }
    let commits: Vec<_> = hub
        .log(&room)
        .into_iter()
        .filter(|event| event.event_type == "m.mls.commit")
        .collect();
    let previous = commits[1].content.get("prev_commit_event_id").and_then(Json::as_str);
    assert_eq!(previous, Some(commits[0].event_id.as_str()));
}

#[test]
fn a_welcome_goes_to_the_device_with_its_three_fields() {
    let hub = hub();
    let (mut alice, mut bob) = (client(&hub, ALICE, "A"), client(&hub, BOB, "B"));
    let room = room(&mut alice, &mut [&mut bob]);
    let commit = hub
        .log(&room)
        .into_iter()
        .rfind(|event| event.event_type == "m.mls.commit");
    let welcomes: Vec<_> = hub
        .inbox(BOB)
        .into_iter()
        .filter_map(|(device, body)| match body {
            StreamBody::ToDevice {
                message_type, message, ..
            } => Some((device, message_type, message)),
            _ => None,
        })
        .collect();
    let [(device, message_type, message)] = &*welcomes else {
        panic!("one Welcome for one device: {welcomes:?}");
    };
    assert_eq!(device.as_ref().unwrap().as_str(), "B");
    assert_eq!(message_type, "m.room.encrypted");
    let field = |name: &str| message.get(name).and_then(Json::as_str).unwrap();
    assert_eq!(field("algorithm"), Suite::default().welcome_algorithm());
    assert_eq!(field("commit_event_id"), commit.unwrap().event_id.as_str());
    assert!(base64u::decode(field("ciphertext")).is_ok());
}

#[test]
fn every_device_of_a_user_is_added() {
    let hub = hub();
    let mut alice = client(&hub, ALICE, "A");
    let (mut phone, mut laptop) = (client(&hub, BOB, "PHONE"), client(&hub, BOB, "LAPTOP"));
    let room = room(&mut alice, &mut [&mut phone, &mut laptop]);
    agree(&hub, &room, &[&alice, &phone, &laptop]);
    assert_eq!(hub.commits(&room), 2, "both were added in one");
    say(&mut laptop, &room, "from the laptop");
    sync(&mut phone);
    assert_eq!(read(&phone, &room), ["from the laptop"]);
}

#[test]
fn a_single_device_is_added_and_removed() {
    let hub = hub();
    let (mut alice, mut bob) = (client(&hub, ALICE, "A"), client(&hub, BOB, "B"));
    let room = room(&mut alice, &mut [&mut bob]);
    let mut tablet = client(&hub, BOB, "TABLET");
    sync(&mut bob);
    now(bob.add_device(&room, &user(BOB), &device("TABLET"))).unwrap();
    sync(&mut tablet);
    sync(&mut alice);
    agree(&hub, &room, &[&alice, &bob, &tablet]);

    now(bob.remove_own_device(&device("TABLET"))).unwrap();
    say(&mut alice, &room, "only two left");
    sync(&mut tablet);
    assert_eq!(tablet.room(&room).unwrap().group, GroupStatus::Removed);
    assert!(tablet.group(&room).unwrap().is_none());
    sync(&mut alice);
    say(&mut alice, &room, "really");
    sync(&mut tablet);
    assert!(reasons(&tablet, &room).contains(&Undecryptable::NotInGroup));
    assert!(
        notices(&mut tablet)
            .iter()
            .any(|notice| matches!(notice, Notice::Removed { by, .. } if by.user == user(BOB)))
    );
}

#[test]
fn a_welcome_may_come_after_its_commit_and_what_followed_is_read() {
    let hub = hub();
    let (mut alice, mut bob) = (client(&hub, ALICE, "A"), client(&hub, BOB, "B"));
    let room = now(alice.create_room(NewRoom::default(), Suite::default())).unwrap();
    say(&mut alice, &room, "before");
    now(alice.invite(&room, &user(BOB))).unwrap();
    now(bob.join(&room, &[])).unwrap();
    // The commit is accepted, its echo comes, and then the line is dead for the Welcome.
    let line = hub.transport(ALICE, "A");
    let mut alice = Client::open(line.clone(), alice.into_store(), obedient(), hub.clock()).unwrap();
    alice
        .enqueue(&room, &Intent::AddUsers { users: vec![user(BOB)] })
        .unwrap();
    now(alice.work()).unwrap();
    now(alice.receive(Duration::ZERO)).unwrap();
    line.fail(&[Fault::RequestLost]);
    say(&mut alice, &room, "after");
    sync(&mut bob);
    assert_eq!(bob.room(&room).unwrap().group, GroupStatus::None);
    sync(&mut alice);
    sync(&mut bob);
    agree(&hub, &room, &[&alice, &bob]);
    assert_eq!(
        read(&bob, &room),
        [format!("! {}", Undecryptable::SentBeforeJoining), "after".to_owned()]
    );
}

#[test]
fn a_message_from_before_the_welcome_stays_closed_and_says_why() {
    let hub = hub();
    let (mut alice, mut bob) = (client(&hub, ALICE, "A"), client(&hub, BOB, "B"));
    let room = now(alice.create_room(NewRoom::default(), Suite::default())).unwrap();
    now(alice.invite(&room, &user(BOB))).unwrap();
    now(bob.join(&room, &[])).unwrap();
    say(&mut alice, &room, "too early");
    sync(&mut bob);
    assert_eq!(reasons(&bob, &room), [Undecryptable::NotInGroup]);
    now(alice.add_users(&room, &[user(BOB)])).unwrap();
    sync(&mut bob);
    assert_eq!(reasons(&bob, &room), [Undecryptable::SentBeforeJoining]);
}

#[test]
fn an_external_join_needs_no_member() {
    let hub = hub();
    let (mut alice, mut bob) = (client(&hub, ALICE, "A"), client(&hub, BOB, "B"));
    let room = now(alice.create_room(NewRoom::default(), Suite::default())).unwrap();
    now(alice.invite(&room, &user(BOB))).unwrap();
    now(bob.join(&room, &[])).unwrap();
    now(bob.join_externally(&room)).unwrap();
    say(&mut bob, &room, "I let myself in");
    sync(&mut alice);
    agree(&hub, &room, &[&alice, &bob]);
    assert_eq!(read(&alice, &room), ["I let myself in"]);
    sync(&mut bob);
    assert_eq!(read(&bob, &room), ["I let myself in"]);
}

#[test]
fn an_external_join_that_loses_its_race_is_made_again() {
    let hub = hub();
    let (mut alice, mut bob) = (client(&hub, ALICE, "A"), client(&hub, BOB, "B"));
    let room = now(alice.create_room(NewRoom::default(), Suite::default())).unwrap();
    now(alice.invite(&room, &user(BOB))).unwrap();
    now(bob.join(&room, &[])).unwrap();
    bob.enqueue(&room, &Intent::JoinExternally).unwrap();
    for intent in bob.due_intents().unwrap() {
        now(bob.make_commit(&intent)).unwrap();
    }
    now(alice.update(&room)).unwrap();
    sync(&mut bob);
    sync(&mut bob);
    sync(&mut alice);
    agree(&hub, &room, &[&alice, &bob]);
    assert!(
        notices(&mut bob)
            .iter()
            .any(|notice| matches!(notice, Notice::LostRace { .. }))
    );
}

#[test]
fn one_who_is_not_joined_gets_no_leaf() {
    let hub = hub();
    let (mut alice, bob) = (client(&hub, ALICE, "A"), client(&hub, BOB, "B"));
    let room = room(&mut alice, &mut []);
    let error = now(alice.add_users(&room, &[bob.user().clone()])).unwrap_err();
    assert!(matches!(error, ClientError::CommitRefused(_)), "{error}");
    agree(&hub, &room, &[&alice]);
    assert_eq!(alice.group(&room).unwrap().unwrap().members.len(), 1);
    now(alice.update(&room)).unwrap();
    assert_eq!(
        alice.group(&room).unwrap().unwrap().epoch,
        2,
        "the refused commit is not in the way"
    );
}

#[test]
fn who_leaves_is_removed_by_the_others_and_reads_no_more() {
    let hub = hub();
    let settings = Settings {
        tend: true,
        ..obedient()
    };
    let store = || ClientStore::in_memory().unwrap();
    let mut alice = client_with(&hub, ALICE, "A", store(), settings.clone());
    let mut carol = client_with(&hub, CAROL, "C", store(), settings);
    let mut bob = client(&hub, BOB, "B");
    let room = room(&mut alice, &mut [&mut bob, &mut carol]);
    let commits = hub.commits(&room);
    now(bob.leave(&room)).unwrap();
    assert!(bob.group(&room).unwrap().is_none());
    // Both see it; whoever is second finds it done.
    for _ in 0..3 {
        sync(&mut alice);
        sync(&mut carol);
    }
    agree(&hub, &room, &[&alice, &carol]);
    assert_eq!(alice.group(&room).unwrap().unwrap().members.len(), 2);
    assert_eq!(hub.commits(&room), commits + 1);
    let error = now(bob.send_payload(&room, &text("still here"))).unwrap_err();
    assert!(matches!(error, ClientError::NotInGroup(_)), "{error}");
}

#[test]
fn new_members_devices_are_added_without_being_asked() {
    let hub = hub();
    let settings = Settings {
        tend: true,
        ..obedient()
    };
    let mut alice = client_with(&hub, ALICE, "A", ClientStore::in_memory().unwrap(), settings);
    let mut bob = client(&hub, BOB, "B");
    let room = room(&mut alice, &mut []);
    now(alice.invite(&room, &user(BOB))).unwrap();
    now(bob.join(&room, &[])).unwrap();
    for _ in 0..2 {
        sync(&mut alice);
        sync(&mut bob);
    }
    agree(&hub, &room, &[&alice, &bob]);
    let mut second = client(&hub, BOB, "B2");
    for _ in 0..2 {
        sync(&mut alice);
        sync(&mut bob);
        sync(&mut second);
    }
    agree(&hub, &room, &[&alice, &bob, &second]);
}

#[test]
fn who_was_added_gives_itself_new_keys() {
    let hub = hub();
    let mut alice = client(&hub, ALICE, "A");
    let settings = Settings {
        update_after_join: true,
        ..obedient()
    };
    let mut bob = client_with(&hub, BOB, "B", ClientStore::in_memory().unwrap(), settings);
    let room = room(&mut alice, &mut [&mut bob]);
    sync(&mut bob);
    sync(&mut alice);
    agree(&hub, &room, &[&alice, &bob]);
    assert_eq!(hub.group(&room).unwrap().epoch(), 3);
}

#[test]
fn a_commit_that_loses_its_race_is_made_again() {
    let hub = hub();
    let (mut alice, mut bob) = (client(&hub, ALICE, "A"), client(&hub, BOB, "B"));
    let room = room(&mut alice, &mut [&mut bob]);
    for client in [&mut alice, &mut bob] {
        client.enqueue(&room, &Intent::Update).unwrap();
        for intent in client.due_intents().unwrap() {
            now(client.make_commit(&intent)).unwrap();
        }
    }
    sync(&mut alice);
    sync(&mut bob);
    sync(&mut alice);
    agree(&hub, &room, &[&alice, &bob]);
    assert_eq!(hub.commits(&room), 4);
    assert!(
        notices(&mut bob)
            .iter()
            .any(|notice| matches!(notice, Notice::LostRace { epoch: 2, .. }))
    );
    assert!(
        !notices(&mut alice)
            .iter()
            .any(|notice| matches!(notice, Notice::LostRace { .. }))
    );
}

#[test]
fn a_commit_refused_by_a_distant_hub_is_made_again() {
    let hub = hub();
    let (mut alice, mut bob) = (client(&hub, ALICE, "A"), client(&hub, BOB, "B"));
    let room = room(&mut alice, &mut [&mut bob]);
    hub.queue_events(true);
    for client in [&mut alice, &mut bob] {
        client.enqueue(&room, &Intent::Update).unwrap();
        now(client.work()).unwrap();
    }
    hub.decide();
    hub.queue_events(false);
    for _ in 0..2 {
        sync(&mut alice);
        sync(&mut bob);
    }
    agree(&hub, &room, &[&alice, &bob]);
    assert_eq!(hub.commits(&room), 4);
}

#[test]
fn a_commit_that_the_server_has_no_room_for_says_why_and_the_group_goes_on() {
    let hub = hub();
    let (mut alice, mut bob) = (client(&hub, ALICE, "A"), client(&hub, BOB, "B"));
    let room = room(&mut alice, &mut [&mut bob]);
    hub.limit_content(Some(1_000));
    let error = now(alice.update(&room)).unwrap_err();
    assert!(
        error.to_string().contains("the event is over 64 KiB"),
        "the user is told what the server said: {error}"
    );
    let ClientError::CommitTooLarge { bytes, why } = error else {
        panic!("{error}")
    };
    assert!(bytes > 1_000);
    assert_eq!(why, NoRoom::Refused("the event is over 64 KiB".to_owned()));
    let told = notices(&mut alice);
    let told = told
        .iter()
        .any(|notice| matches!(notice, Notice::GaveUp { reason, .. } if reason.contains("the event is over 64 KiB")));
    assert!(told, "a client that asks later is told too");
    hub.limit_content(None);
    now(alice.update(&room)).unwrap();
    sync(&mut bob);
    agree(&hub, &room, &[&alice, &bob]);
}

#[test]
fn a_client_gives_up_after_too_many_lost_races() {
    let hub = hub();
    let (mut alice, mut bob) = (client(&hub, ALICE, "A"), client(&hub, BOB, "B"));
    let room = room(&mut alice, &mut [&mut bob]);
    bob.settings.max_attempts = 2;
    bob.enqueue(&room, &Intent::Update).unwrap();
    for _ in 0..2 {
        for intent in bob.due_intents().unwrap() {
            now(bob.make_commit(&intent)).unwrap();
        }
        now(alice.update(&room)).unwrap();
        now(bob.receive(Duration::ZERO)).unwrap();
    }
    assert!(
        notices(&mut bob)
            .iter()
            .any(|notice| matches!(notice, Notice::GaveUp { .. }))
    );
    assert_eq!(bob.due_intents().unwrap(), []);
    sync(&mut bob);
    agree(&hub, &room, &[&alice, &bob]);
}

#[test]
fn a_commit_that_cannot_be_followed_stops_the_group_until_an_external_join() {
    let hub = hub();
    let (mut alice, mut bob) = (client(&hub, ALICE, "A"), client(&hub, BOB, "B"));
    let room = room(&mut alice, &mut [&mut bob]);
    hub.smuggle(
        &room,
        ALICE,
        "m.mls.commit",
        object! { "message" => "AAAA", "public_group_state" => "AAAA" },
    );
    sync(&mut bob);
    let known = bob.room(&room).unwrap();
    assert_eq!(known.group, GroupStatus::Stuck);
    assert_eq!(known.reason.as_deref(), Some("a commit in the room's log is malformed"));
    now(bob.join_externally(&room)).unwrap();
    agree(&hub, &room, &[&bob]);
    assert_eq!(
        bob.group(&room).unwrap().unwrap().members.len(),
        2,
        "it took the place of its earlier leaf"
    );
    say(&mut bob, &room, "back again");
}

#[test]
fn a_welcome_into_another_group_than_the_rooms_is_refused() {
    let hub = hub();
    let (mut alice, mut bob) = (client(&hub, ALICE, "A"), client(&hub, BOB, "B"));
    let room = now(alice.create_room(NewRoom::default(), Suite::default())).unwrap();
    now(alice.invite(&room, &user(BOB))).unwrap();
    now(bob.join(&room, &[])).unwrap();
    sync(&mut bob);
    // The same message under the ID of the group's first commit, in which Bob was not added.
    let first = hub
        .log(&room)
        .into_iter()
        .find(|event| event.event_type == "m.mls.commit")
        .unwrap();
    alice
        .enqueue(&room, &Intent::AddUsers { users: vec![user(BOB)] })
        .unwrap();
    for intent in alice.due_intents().unwrap() {
        now(alice.make_commit(&intent)).unwrap();
    }
    let pending = crate::store::PendingCommit::load(alice.store.read(), &room)
        .unwrap()
        .unwrap();
    let welcome = |commit: &str, ciphertext: String| StreamBody::ToDevice {
        sender: user(ALICE),
        message_type: "m.room.encrypted".to_owned(),
        message: object! {
            "algorithm" => Suite::default().welcome_algorithm(),
            "ciphertext" => ciphertext,
            "commit_event_id" => commit,
        },
    };
    let bytes = base64u::encode(&pending.welcome.unwrap());
    hub.deliver(BOB, welcome(first.event_id.as_str(), bytes));
    hub.deliver(BOB, welcome(first.event_id.as_str(), "AAAA".to_owned()));
    sync(&mut bob);
    assert_eq!(bob.room(&room).unwrap().group, GroupStatus::None);
    let unusable = notices(&mut bob)
        .into_iter()
        .filter(|notice| matches!(notice, Notice::WelcomeUnusable { .. }))
        .count();
    assert_eq!(unusable, 2);
    // The key package was not used up by it.
    sync(&mut alice);
    sync(&mut bob);
    agree(&hub, &room, &[&alice, &bob]);
}

#[test]
fn a_device_that_was_removed_can_be_added_again() {
    let hub = hub();
    let (mut alice, mut bob) = (client(&hub, ALICE, "A"), client(&hub, BOB, "B"));
    let room = room(&mut alice, &mut [&mut bob]);
    now(alice.kick(&room, &user(BOB))).unwrap();
    now(alice.invite(&room, &user(BOB))).unwrap();
    now(bob.join(&room, &[])).unwrap();
    now(alice.add_users(&room, &[user(BOB)])).unwrap();
    sync(&mut bob);
    agree(&hub, &room, &[&alice, &bob]);
    say(&mut alice, &room, "welcome back");
    sync(&mut bob);
    assert!(read(&bob, &room).contains(&"welcome back".to_owned()));
}

#[test]
fn other_suites_work_alike() {
    let hub = hub();
    let post_quantum = Suite::from_name("mlkem768x25519-aes128gcm-sha256-ed25519").unwrap();
    for suite in [Suite::P256_AES128, Suite::X25519_CHACHA20, post_quantum] {
        let log_in = |id: &str, name: &str| {
            now(Client::log_in(
                hub.transport(id, name),
                ClientStore::in_memory().unwrap(),
                device(name),
                &[Suite::default(), suite],
                obedient(),
                hub.clock(),
            ))
            .unwrap()
        };
        let name = format!("S{}", suite.id());
        let (mut alice, mut bob) = (log_in(ALICE, &name), log_in(BOB, &name));
        let room = now(alice.create_room(NewRoom::default(), suite)).unwrap();
        now(alice.invite(&room, &user(BOB))).unwrap();
        now(bob.join(&room, &[])).unwrap();
        now(alice.add_device(&room, &user(BOB), &device(&name))).unwrap();
        sync(&mut bob);
        say(&mut bob, &room, "in another suite");
        sync(&mut alice);
        assert_eq!(read(&alice, &room), ["in another suite"]);
        assert_eq!(alice.group(&room).unwrap().unwrap().suite, suite);
    }
}
