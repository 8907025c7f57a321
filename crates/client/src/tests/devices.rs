//! The device, its key packages, and its file.

use std::time::Duration;

use super::*;
use crate::testing::Fault;
use crate::{ClientError, StoreError};

#[test]
fn logging_in_publishes_the_device_and_key_packages() {
    let hub = hub();
    let alice = client(&hub, ALICE, "A");
    assert_eq!(hub.key_packages_left(ALICE, "A"), 12);
    assert_eq!((alice.user().as_str(), alice.device().as_str()), (ALICE, "A"));
}

#[test]
fn key_packages_are_replaced_when_few_are_left() {
    let hub = hub();
    let (mut alice, mut bob) = (client(&hub, ALICE, "A"), client(&hub, BOB, "B"));
    for _ in 0..3 {
        room(&mut alice, &mut [&mut bob]);
    }
    sync(&mut bob);
    assert_eq!(hub.key_packages_left(BOB, "B"), 12);
}

#[test]
fn the_last_resort_serves_more_than_once() {
    let hub = hub();
    let mut alice = client(&hub, ALICE, "A");
    let settings = Settings {
        key_package_stock: 0,
        ..obedient()
    };
    let mut bob = client_with(&hub, BOB, "B", ClientStore::in_memory().unwrap(), settings);
    let rooms = [room(&mut alice, &mut [&mut bob]), room(&mut alice, &mut [&mut bob])];
    for room in &rooms {
        agree(&hub, room, &[&alice, &bob]);
    }
}

#[test]
fn an_upload_whose_answer_is_lost_is_repeated() {
    let hub = hub();
    let line = hub.transport(ALICE, "A");
    // The device object and the question how many are left go well.
    let log_in = |store| {
        now(Client::log_in(
            line.clone(),
            store,
            device("A"),
            &[Suite::default()],
            obedient(),
            hub.clock(),
        ))
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("client.db");
    // put_device, key_packages_left, upload
    line.fail(&[]);
    let store = ClientStore::open(&file).unwrap();
    let mut first = log_in(store).unwrap();
    assert_eq!(hub.key_packages_left(ALICE, "A"), 12);
    first.check_stock = true;
    first.settings.key_package_stock = 20;
    line.fail(&[Fault::AnswerLost]);
    assert!(now(first.work()).is_err());
    first.check_stock = true;
    now(first.work()).unwrap();
    assert_eq!(hub.key_packages_left(ALICE, "A"), 20);
    let refused = |notice: &Notice| matches!(notice, Notice::KeyPackagesRefused { .. });
    assert!(
        !notices(&mut first).iter().any(refused),
        "that the server knows what it got is no news"
    );
}

#[test]
fn the_user_hears_that_key_packages_are_refused() {
    let hub = hub();
    let mut alice = client(&hub, ALICE, "A");
    notices(&mut alice);
    hub.refuse_key_packages(Some("they are not liked here"));
    alice.settings.key_package_stock = 15;
    alice.check_stock = true;
    now(alice.work()).unwrap();
    let refused = Notice::KeyPackagesRefused {
        suite: Suite::default().name().to_owned(),
        count: 3,
        reason: "they are not liked here".to_owned(),
    };
    assert!(notices(&mut alice).contains(&refused));
    // With new ones it is tried again.
    hub.refuse_key_packages(None);
    alice.check_stock = true;
    now(alice.work()).unwrap();
    assert_eq!(hub.key_packages_left(ALICE, "A"), 15);
    assert_eq!(notices(&mut alice), []);
}

/// LM #int-mls-credentials. Only the user's own devices may remove it while the user is in the room (LM #int-mls-add-remove).
#[test]
fn a_device_that_becomes_invalid_is_removed_by_its_users_other_devices() {
    let hub = hub();
    let tending = |user, name| {
        let settings = Settings {
            tend: true,
            ..obedient()
        };
        client_with(&hub, user, name, ClientStore::in_memory().unwrap(), settings)
    };
    let mut alice = tending(ALICE, "A");
    let (mut phone, mut lost) = (tending(BOB, "PHONE"), client(&hub, BOB, "LOST"));
    let room = room(&mut alice, &mut [&mut phone, &mut lost]);
    agree(&hub, &room, &[&alice, &phone, &lost]);
    let commits = hub.commits(&room);
    hub.invalidate_device(BOB, "LOST");
    // Alice hears of it, too, and leaves it to those who may.
    sync(&mut alice);
    assert_eq!(hub.commits(&room), commits);
    for _ in 0..2 {
        sync(&mut phone);
        sync(&mut alice);
    }
    assert_eq!(hub.commits(&room), commits + 1, "once is enough");
    agree(&hub, &room, &[&alice, &phone]);
    assert_eq!(alice.group(&room).unwrap().unwrap().members.len(), 2);
    say(&mut alice, &room, "without it");
    sync(&mut lost);
    assert!(lost.group(&room).unwrap().is_none());
    assert!(!read(&lost, &room).contains(&"without it".to_owned()));
    assert!(
        !notices(&mut alice)
            .iter()
            .any(|notice| matches!(notice, Notice::GaveUp { .. })),
        "nobody tried what they may not"
    );
}

#[test]
fn a_device_without_key_packages_cannot_be_added_and_the_user_hears_why() {
    let hub = hub();
    let (mut alice, mut bob) = (client(&hub, ALICE, "A"), client(&hub, BOB, "B"));
    let room = room(&mut alice, &mut []);
    now(alice.invite(&room, &user(BOB))).unwrap();
    now(bob.join(&room, &[])).unwrap();
    hub.drop_key_packages(BOB, "B");
    let error = now(alice.add_users(&room, &[user(BOB)])).unwrap_err();
    assert!(
        matches!(&error, ClientError::NobodyAdded(why) if why.contains("no key package is left")),
        "{error}"
    );
    assert!(
        notices(&mut alice)
            .iter()
            .any(|notice| matches!(notice, Notice::CannotAdd { .. }))
    );
}

#[test]
fn a_restarted_client_goes_on_where_it_was() {
    let hub = hub();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("client.db");
    let mut alice = client(&hub, ALICE, "A");
    let mut bob = client_with(&hub, BOB, "B", ClientStore::open(&file).unwrap(), obedient());
    let room = room(&mut alice, &mut [&mut bob]);
    say(&mut alice, &room, "while you are there");
    sync(&mut bob);
    drop(bob);
    say(&mut alice, &room, "while you are away");
    now(alice.update(&room)).unwrap();
    let mut bob = Client::open(
        hub.transport(BOB, "B"),
        ClientStore::open(&file).unwrap(),
        obedient(),
        hub.clock(),
    )
    .unwrap();
    sync(&mut bob);
    say(&mut bob, &room, "back");
    sync(&mut alice);
    sync(&mut bob);
    agree(&hub, &room, &[&alice, &bob]);
    for client in [&alice, &bob] {
        assert_eq!(
            read(client, &room),
            ["while you are there", "while you are away", "back"]
        );
    }
}

#[test]
fn a_database_is_one_process_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("client.db");
    let open = ClientStore::open(&file).unwrap();
    assert!(matches!(ClientStore::open(&file), Err(StoreError::InUse)));
    drop(open);
    assert!(ClientStore::open(&file).is_ok());
}

#[cfg(unix)]
#[test]
fn only_the_owner_can_read_the_file() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("client.db");
    let _open = ClientStore::open(&file).unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_state_is_of_one_device() {
    let hub = hub();
    let store = client(&hub, ALICE, "A").into_store();
    let other = now(Client::log_in(
        hub.transport(ALICE, "A2"),
        store,
        device("A2"),
        &[Suite::default()],
        obedient(),
        hub.clock(),
    ));
    assert!(matches!(other, Err(ClientError::OtherAccount { .. })));
    let empty = Client::open(
        hub.transport(ALICE, "A"),
        ClientStore::in_memory().unwrap(),
        obedient(),
        hub.clock(),
    );
    assert!(matches!(empty, Err(ClientError::Store(StoreError::Empty))));
}

#[test]
fn a_welcome_for_a_commit_before_the_stream_began_is_found_in_the_log() {
    let hub = hub();
    let (mut alice, mut bob) = (client(&hub, ALICE, "A"), client(&hub, BOB, "B"));
    let room = now(alice.create_room(NewRoom::default(), Suite::default())).unwrap();
    now(alice.invite(&room, &user(BOB))).unwrap();
    now(bob.join(&room, &[])).unwrap();
    now(alice.add_users(&room, &[user(BOB)])).unwrap();
    say(&mut alice, &room, "hidden so far");
    // Bob's place in the stream is moved past the commit.
    bob.store
        .transaction(|connection| crate::store::set_meta(connection, crate::store::TOKEN, hub.end_of_log().as_bytes()))
        .unwrap();
    sync(&mut bob);
    assert!(bob.group(&room).unwrap().is_none());
    hub.advance(Duration::from_secs(60));
    sync(&mut bob);
    agree(&hub, &room, &[&alice, &bob]);
    assert_eq!(read(&bob, &room), ["hidden so far"]);
}
