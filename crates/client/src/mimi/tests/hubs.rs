//! Hubs and providers that are down, slow, forgetful or hostile: none of them stops more than their own rooms, and those come back.

use std::sync::Arc;

use nabe_mls::testing::mimi::TestHub;
use nabe_wire::Message as _;
use nabe_wire::key_material::{ClientMaterial, KeyMaterialResponse};
use nabe_wire::mls::{AppDataUpdate, MlsMessage};
use nabe_wire::submit_message::{SubmitMessageResponse, SubmitVerdict};
use nabe_wire::update::{HandshakeBundle, HandshakeParts, UpdateRoomResponse, UpdateVerdict};
use nabe_wire::{Encode as _, Kept};
use openmls::group::Propose;
use openmls::prelude::{KeyPackageIn, ProposalOrRefType, ProtocolVersion};
use tls_codec::{Deserialize as _, Serialize as _};

use super::hub::Line;
use super::*;
use crate::error::StoreError;
use crate::mimi::store::Outgoing;
use crate::provider::{Provider, crypto};

const HALL: &str = "mimi://a.example/r/hall";
const A2: &str = "mimi://a.example/d/alice/A2";

/// The same client on a line of its own.
fn on_a_line(hub: &MimiHub, client: MimiClient, uri: &str) -> (MimiClient, Arc<Line>) {
    let line = hub.transport(uri);
    let mut client = MimiClient::open(line.clone(), client.into_store(), obedient(), hub.clock()).unwrap();
    sync(&mut client);
    (client, line)
}

/// Has Alice found a second room, with Bob in it.
fn second_room(alice: &mut MimiClient, bob: &mut MimiClient) -> MimiUri {
    let hall = uri(HALL);
    let new = NewRoom::new(&hall, "Hall", templates::cooperative("a.example")).unwrap();
    now(alice.create_room(&new)).unwrap();
    now(alice.add(&hall, &[(uri(BOB), MEMBER)])).unwrap();
    sync(bob);
    hall
}

fn is_gave_up(notice: &MimiNotice) -> bool {
    matches!(notice, MimiNotice::GaveUp { .. })
}

fn unreadable(client: &MimiClient) -> usize {
    let items = client.items(&room(), 1_000).unwrap().into_iter();
    items
        .filter(|item| matches!(item.body, MimiBody::Unreadable(_)))
        .count()
}

#[test]
fn a_hub_that_is_down_or_answers_nonsense_stops_nothing_in_other_rooms() {
    let hub = MimiHub::new();
    let [mut alice, mut bob, _] = of_three(&hub);
    let hall = second_room(&mut alice, &mut bob);
    let (mut bob, line) = on_a_line(&hub, bob, B);
    line.is_down(&room(), true);
    let unsent = now(bob.say(&room(), NestedPart::text("late"))).unwrap_err();
    assert!(matches!(unsent, MimiError::NotConfirmed), "{unsent}");
    let undone = now(bob.update(&room())).unwrap_err();
    assert!(matches!(undone, MimiError::NotConfirmed), "{undone}");
    // Everything else goes on.
    now(bob.say(&hall, NestedPart::text("hello"))).unwrap();
    now(alice.say(&hall, NestedPart::text("hello Bob"))).unwrap();
    sync(&mut bob);
    assert_eq!(bob.items(&hall, 10).unwrap().len(), 2);
    assert!(bob.next_due().unwrap().is_some());
    // An answer that does not read is no verdict.
    line.is_down(&room(), false);
    line.answer(b"<html>");
    line.answer(b"");
    for _ in 0..4 {
        hub.advance(Duration::from_mins(5));
        sync(&mut bob);
    }
    sync(&mut alice);
    assert_eq!(read(&alice), ["late"], "once");
    assert_eq!(read(&bob), ["late"]);
    assert!(!notices(&mut bob).iter().any(is_gave_up));
    assert_eq!(alice.group(&room()).unwrap(), bob.group(&room()).unwrap());
    assert_eq!(hub.epoch(&room()).0, 2, "he has new keys");
}

#[test]
fn what_may_have_been_accepted_is_dropped_by_a_verdict_alone() {
    let hub = MimiHub::new();
    let [mut alice, bob, mut cathy] = of_three(&hub);
    let (mut bob, line) = on_a_line(&hub, bob, B);
    hub.hold(BOB, true);
    // The hub has taken the commit, and the answer is lost; then his token has expired, and his provider is being deployed.
    line.fail(&[crate::testing::Fault::AnswerLost]);
    for status in [401, 404, 408] {
        line.refuse(false, status);
    }
    now(bob.update(&room())).unwrap_err();
    for _ in 0..3 {
        hub.advance(Duration::from_mins(1));
        sync(&mut bob);
    }
    hub.hold(BOB, false);
    sync(&mut bob);
    sync(&mut alice);
    sync(&mut cathy);
    agree(&hub, &[&alice, &bob, &cathy]);
    assert!(!notices(&mut bob).iter().any(is_gave_up));
    // The same with a message.
    hub.hold(BOB, true);
    line.fail(&[crate::testing::Fault::AnswerLost]);
    line.refuse(false, 403);
    now(bob.say(&room(), NestedPart::text("hello"))).unwrap_err();
    hub.advance(Duration::from_mins(1));
    sync(&mut bob);
    assert_eq!(Outgoing::all(bob.store.read()).unwrap().len(), 1);
    hub.hold(BOB, false);
    sync(&mut bob);
    assert_eq!(read(&bob), ["hello"]);
    // What was never sent before is refused by whoever refuses it.
    line.refuse(false, 413);
    let refused = now(bob.say(&room(), NestedPart::text("too long"))).unwrap_err();
    assert!(matches!(refused, MimiError::MessageRefused), "{refused}");
}

#[test]
fn a_commit_that_nobody_decides_on_is_given_up_after_an_hour() {
    let hub = MimiHub::new();
    let [_, bob, _] = of_three(&hub);
    let (mut bob, line) = on_a_line(&hub, bob, B);
    for _ in 0..100 {
        line.refuse(false, 401);
    }
    now(bob.update(&room())).unwrap_err();
    for _ in 0..20 {
        hub.advance(Duration::from_mins(5));
        sync(&mut bob);
    }
    assert!(notices(&mut bob).iter().any(is_gave_up));
}

#[test]
fn who_is_about_to_be_removed_tries_nothing_and_is_told_nothing() {
    let hub = MimiHub::new();
    let (mut alice, mut second, mut bob) = (client(&hub, A), client(&hub, A2), client(&hub, B));
    now(alice.create_room(&new_room())).unwrap();
    now(alice.add_own_clients(&room())).unwrap();
    now(alice.add(&room(), &[(uri(BOB), MEMBER)])).unwrap();
    now(alice.set_role(&room(), &uri(BOB), templates::SUPER_ADMIN)).unwrap();
    sync(&mut second);
    sync(&mut bob);
    now(second.leave(&room())).unwrap();
    sync(&mut alice);
    notices(&mut alice);
    let content = alice.compose(&room(), NestedPart::text("wait")).unwrap();
    alice.enqueue_message(&room(), &content).unwrap();
    for _ in 0..5 {
        hub.advance(Duration::from_mins(1));
        sync(&mut alice);
    }
    assert_eq!(notices(&mut alice), []);
    let leaving = now(alice.update(&room())).unwrap_err();
    assert!(matches!(leaving, MimiError::Leaving(_)), "{leaving}");
    now(bob.tend(&room())).unwrap();
    sync(&mut alice);
    assert_eq!(alice.room(&room()).unwrap().status, MimiStatus::Removed);
}

#[test]
fn a_refused_tend_is_tried_again_ever_more_seldom_and_not_told() {
    let hub = MimiHub::new();
    let [alice, mut bob, _] = of_three(&hub);
    now(bob.leave(&room())).unwrap();
    let (mut alice, line) = on_a_line(&hub, alice, A);
    notices(&mut alice);
    let refused = UpdateRoomResponse {
        verdict: UpdateVerdict::NotAllowed,
        ..UpdateRoomResponse::success(0)
    }
    .to_bytes();
    for _ in 0..3 {
        line.answer(&refused);
    }
    let content = alice.compose(&room(), NestedPart::text("Bob is gone")).unwrap();
    alice.enqueue_message(&room(), &content).unwrap();
    for _ in 0..3 {
        sync(&mut alice);
        sync(&mut alice);
    }
    assert_eq!(notices(&mut alice), [], "the user has not asked for it");
    assert!(read(&alice).is_empty());
    for _ in 0..8 {
        hub.advance(Duration::from_secs(10));
        sync(&mut alice);
    }
    assert_eq!(read(&alice), ["Bob is gone"]);
}

#[test]
fn what_is_said_in_one_room_is_not_shown_in_another() {
    let hub = MimiHub::new();
    let [mut alice, mut bob, _] = of_three(&hub);
    let hall = second_room(&mut alice, &mut bob);
    let (mut alice, line) = on_a_line(&hub, alice, A);
    line.fail(&[crate::testing::Fault::AnswerLost]);
    hub.hold(ALICE, true);
    now(alice.say(&room(), NestedPart::text("between us"))).unwrap_err();
    hub.hold(ALICE, false);
    let said = hub.take_last();
    hub.say(said.clone());
    hub.say_in(&hall);
    let elsewhere = hub.take_last();
    assert_eq!(hub.take_last(), said);
    // The other room's log is quicker.
    hub.say(elsewhere);
    sync(&mut alice);
    assert!(alice.items(&hall, 10).unwrap().iter().all(|item| !item.sent));
    assert_eq!(
        Outgoing::all(alice.store.read()).unwrap().len(),
        1,
        "it is still to be confirmed"
    );
    hub.say(said);
    sync(&mut alice);
    assert_eq!(read(&alice), ["between us"]);
}

#[test]
fn key_packages_are_made_anew_after_a_failure_and_from_time_to_time() {
    let hub = MimiHub::new();
    let bob = client(&hub, B);
    let (mut bob, line) = on_a_line(&hub, bob, B);
    hub.drop_key_packages(B);
    line.fail(&[crate::testing::Fault::RequestLost]);
    hub.advance(Duration::from_hours(7));
    sync(&mut bob);
    assert_eq!(hub.key_packages_left(B), 0);
    hub.advance(Duration::from_mins(1));
    sync(&mut bob);
    assert_eq!(hub.key_packages_left(B), 8);
    // Months later those that nobody took have expired, and so have their private halves.
    let kept = |bob: &MimiClient| store::OwnKeyPackage::all(bob.store.read()).unwrap().len();
    assert_eq!(kept(&bob), 16);
    hub.advance(Duration::from_hours(24 * 120));
    hub.drop_key_packages(B);
    sync(&mut bob);
    assert_eq!(kept(&bob), 8);
}

#[test]
fn a_message_that_is_too_late_is_encrypted_once_in_an_epoch() {
    let hub = MimiHub::new();
    let [mut alice, mut bob, _] = of_three(&hub);
    hub.hold(BOB, true);
    now(alice.update(&room())).unwrap();
    let content = bob.compose(&room(), NestedPart::text("late")).unwrap();
    bob.enqueue_message(&room(), &content).unwrap();
    for _ in 0..5 {
        sync(&mut bob);
    }
    let made = |client: &MimiClient| -> (i64, i64) {
        let sql = "SELECT COUNT(*), COALESCE(SUM(LENGTH(data)), 0) FROM mimi_own";
        let row = client
            .store
            .read()
            .query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)));
        row.unwrap()
    };
    assert_eq!(made(&bob).0, 1);
    hub.hold(BOB, false);
    sync(&mut bob);
    sync(&mut alice);
    assert_eq!(read(&alice), ["late"]);
    assert_eq!(made(&bob), (2, 0), "what was said is in the timeline alone");
}

#[test]
fn a_hub_that_contradicts_itself_about_the_epoch_is_told_and_not_waited_for() {
    let hub = MimiHub::new();
    let [_, bob, _] = of_three(&hub);
    let (mut bob, line) = on_a_line(&hub, bob, B);
    let behind = UpdateRoomResponse {
        verdict: UpdateVerdict::WrongEpoch { current_epoch: 1 },
        ..UpdateRoomResponse::success(0)
    };
    line.answer(&behind.to_bytes());
    let told = now(bob.update(&room())).unwrap_err();
    assert!(matches!(told, MimiError::HubBehind { theirs: 1, ours: 1 }), "{told}");
    let too_old = SubmitMessageResponse::from(SubmitVerdict::EpochTooOld { current_epoch: 1 });
    line.answer(&too_old.to_bytes());
    let told = now(bob.say(&room(), NestedPart::text("hello"))).unwrap_err();
    assert!(matches!(told, MimiError::MessageRefused), "{told}");
    // The room works as before.
    now(bob.update(&room())).unwrap();
    say(&mut bob, "hello");
}

#[test]
fn a_commit_that_never_comes_is_waited_for_and_then_the_room_is_joined_anew() {
    let hub = MimiHub::new();
    let [mut alice, mut bob, mut cathy] = of_three(&hub);
    now(alice.update(&room())).unwrap();
    let lost = hub.take_last();
    say(&mut alice, "one");
    sync(&mut bob);
    assert!(
        bob.items(&room(), 10).unwrap().is_empty(),
        "it is kept until it can be read"
    );
    // What he says waits, and what he wants does.
    bob.enqueue(&room(), &MimiIntent::Update).unwrap();
    let content = bob.compose(&room(), NestedPart::text("two")).unwrap();
    bob.enqueue_message(&room(), &content).unwrap();
    sync(&mut bob);
    assert_eq!(bob.room(&room()).unwrap().status, MimiStatus::Active);
    assert!(bob.next_due().unwrap().is_some());
    hub.advance(Duration::from_mins(9));
    sync(&mut bob);
    assert_eq!(
        bob.room(&room()).unwrap().status,
        MimiStatus::Active,
        "it may still come"
    );
    hub.advance(Duration::from_mins(2));
    sync(&mut bob);
    sync(&mut bob);
    let told = notices(&mut bob);
    assert!(
        told.iter().any(|notice| matches!(notice, MimiNotice::Stuck { .. })),
        "{told:?}"
    );
    assert!(
        told.iter().any(|notice| matches!(notice, MimiNotice::Joined { .. })),
        "{told:?}"
    );
    assert!(!told.iter().any(is_gave_up), "{told:?}");
    sync(&mut alice);
    assert_eq!(alice.group(&room()).unwrap(), bob.group(&room()).unwrap());
    assert_eq!(read(&alice), ["one", "two"]);
    assert_eq!(read(&bob), ["two"]);
    // Cathy hears of the commit at last.
    hub.say(lost);
    sync(&mut cathy);
    agree(&hub, &[&alice, &bob, &cathy]);
    assert_eq!(read(&cathy), ["one", "two"]);
}

#[test]
fn what_comes_before_the_commit_that_it_needs_is_read_after_it() {
    let hub = MimiHub::new();
    let [mut alice, mut bob, mut cathy] = of_three(&hub);
    // A follower's log has its own commit after what others made of it.
    now(bob.update(&room())).unwrap();
    let commit = hub.take_last();
    sync(&mut alice);
    hub.say(commit.clone());
    sync(&mut alice);
    say(&mut alice, "in the new epoch");
    let said = hub.take_last();
    now(alice.update(&room())).unwrap();
    let next = hub.take_last();
    let first = hub.take_last();
    assert_eq!(first, commit);
    for late in [next, said, first] {
        hub.say(late);
    }
    sync(&mut cathy);
    sync(&mut bob);
    agree(&hub, &[&alice, &bob, &cathy]);
    assert_eq!(read(&cathy), ["in the new epoch"]);
    assert_eq!((unreadable(&cathy), unreadable(&bob)), (0, 0));
}

#[test]
fn entries_of_epochs_that_never_come_are_not_kept_without_bound() {
    let hub = MimiHub::new();
    let [mut alice, mut bob, _] = of_three(&hub);
    now(alice.update(&room())).unwrap();
    hub.take_last();
    let fill = |connection: &rusqlite::Connection| {
        for n in 0..2_000_u32 {
            store::Held::keep(connection, &room(), 2, &n.to_be_bytes(), (hub.clock())())?;
        }
        Ok::<_, StoreError>(())
    };
    bob.store.transaction(fill).unwrap();
    say(&mut alice, "x");
    sync(&mut bob);
    sync(&mut bob);
    let status = bob.room(&room()).unwrap().status;
    assert_eq!(status, MimiStatus::Active, "he has joined anew");
    assert!(store::Held::rooms(bob.store.read()).unwrap().is_empty());
    say(&mut alice, "y");
    sync(&mut bob);
    assert_eq!(read(&bob), ["y"]);
}

#[test]
fn a_client_whose_own_commit_is_gone_joins_anew() {
    let hub = MimiHub::new();
    let [mut alice, bob, mut cathy] = of_three(&hub);
    let (mut bob, line) = on_a_line(&hub, bob, B);
    hub.hold(BOB, true);
    line.fail(&[crate::testing::Fault::AnswerLost]);
    now(bob.update(&room())).unwrap_err();
    // As if an older version of the client had dropped it.
    let request = store::Request::of_room(bob.store.read(), &room()).unwrap().unwrap();
    bob.in_transaction(|work, _| work.drop_request(&request)).unwrap();
    hub.hold(BOB, false);
    sync(&mut bob);
    assert_eq!(bob.room(&room()).unwrap().status, MimiStatus::Joining);
    hub.advance(Duration::from_secs(2));
    for client in [&mut bob, &mut alice, &mut cathy] {
        sync(client);
    }
    agree(&hub, &[&alice, &bob, &cathy]);
}

/// Bob's client asks, as another program would, for key packages of his own and proposes to add his second client.
fn propose_second_client(bob: &mut MimiClient) {
    let known = bob.room(&room()).unwrap();
    let group = bob.load(&known).unwrap().unwrap();
    let request = bob.key_material_request(&room(), BOB, &group).unwrap();
    let answer = KeyMaterialResponse::from_bytes(&now(bob.transport.key_material(&request)).unwrap()).unwrap();
    let package = answer
        .clients
        .iter()
        .find(|client| client.client_uri.as_str() == B2)
        .unwrap();
    let ClientMaterial::KeyPackage(package) = &package.material else {
        panic!("there is one");
    };
    let package = KeyPackageIn::tls_deserialize_exact(package.as_bytes()).unwrap();
    let package = package.validate(crypto(), ProtocolVersion::Mls10).unwrap();
    let device = &bob.device;
    let message = bob.store.transaction(|connection| {
        let provider = Provider::new(connection);
        let mut group = group::load(&provider, known.group_id.as_ref().unwrap())?.unwrap();
        let signer = device.signer(group::suite_of(&group)?)?;
        let proposed = group.propose(&provider, signer, Propose::Add(package), ProposalOrRefType::Reference);
        let (message, reference) = proposed.unwrap();
        group
            .remove_pending_proposal(openmls_traits::OpenMlsProvider::storage(&provider), &reference)
            .unwrap();
        Ok::<_, MimiError>(message)
    });
    let message = message.unwrap().tls_serialize_detached().unwrap();
    let bundle = HandshakeBundle {
        proposal_or_commit: Kept::new(MlsMessage::from_bytes(&message).unwrap()),
        with: HandshakeParts::Proposal {
            more_proposals: Vec::new(),
        },
    };
    let answer = now(bob.transport.update(&room(), &bundle.to_bytes())).unwrap();
    let answer = UpdateRoomResponse::from_bytes(&answer).unwrap();
    assert!(matches!(answer.verdict, UpdateVerdict::Success { .. }), "{answer:?}");
}

#[test]
fn a_proposal_that_gave_way_to_another_freezes_nobody() {
    let hub = MimiHub::new();
    let [mut alice, mut bob, mut cathy] = of_three(&hub);
    let _second = client(&hub, B2);
    propose_second_client(&mut bob);
    sync(&mut bob);
    now(bob.leave(&room())).unwrap();
    sync(&mut alice);
    assert_eq!(alice.group(&room()).unwrap().unwrap().pending, 3);
    say(&mut alice, "Bob is gone");
    sync(&mut cathy);
    agree(&hub, &[&alice, &cathy]);
    assert_eq!(read(&cathy), ["Bob is gone"]);
    assert_eq!(participants(&alice).len(), 2);
}

#[test]
fn a_proposal_that_has_not_come_yet_is_asked_for() {
    let hub = MimiHub::new();
    let [mut alice, mut bob, mut cathy] = of_three(&hub);
    hub.hold(ALICE, true);
    now(bob.leave(&room())).unwrap();
    now(alice.update(&room())).unwrap();
    assert_eq!(participants(&alice).len(), 2);
    hub.hold(ALICE, false);
    sync(&mut alice);
    sync(&mut cathy);
    agree(&hub, &[&alice, &cathy]);
}

#[test]
fn one_key_package_that_does_not_fit_spoils_no_others() {
    let hub = MimiHub::new();
    let [mut alice, mut bob, mut cathy] = of_three(&hub);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("client.db");
    drop(client_with(&hub, D, ClientStore::open(&file).unwrap(), obedient()));
    // A copy of a client by another name has the same signature key.
    let other = "mimi://d.example/d/dave/E";
    let copy = folder.path().join("copy.db");
    std::fs::copy(&file, &copy).unwrap();
    let mut copy = ClientStore::open(&copy).unwrap();
    let rename = |connection: &rusqlite::Connection| {
        connection.execute("DELETE FROM mimi_key_packages", [])?;
        crate::store::set_meta(connection, store::CLIENT, other.as_bytes())
    };
    copy.transaction(rename).unwrap();
    drop(MimiClient::open(hub.transport(other), copy, obedient(), hub.clock()).map(|mut copy| sync(&mut copy)));
    let mut dave = client_with(&hub, D, ClientStore::open(&file).unwrap(), obedient());
    now(alice.add(&room(), &[(uri(DAVE), MEMBER)])).unwrap();
    let told = notices(&mut alice);
    assert!(
        told.iter()
            .any(|notice| matches!(notice, MimiNotice::CannotAdd { client, .. } if client == other)),
        "{told:?}"
    );
    for client in [&mut bob, &mut cathy, &mut dave] {
        sync(client);
    }
    agree(&hub, &[&alice, &bob, &cathy, &dave]);
}

#[test]
fn what_is_put_off_is_not_overtaken() {
    let hub = MimiHub::new();
    let [alice, ..] = of_three(&hub);
    let _dave = client(&hub, D);
    let (mut alice, line) = on_a_line(&hub, alice, A);
    let add = MimiIntent::Add {
        users: vec![Newcomer {
            user: DAVE.to_owned(),
            role: MEMBER,
        }],
    };
    let promote = MimiIntent::SetRole {
        user: DAVE.to_owned(),
        role: templates::GROUP_ADMIN,
    };
    line.fail(&[crate::testing::Fault::RequestLost]);
    alice.enqueue(&room(), &add).unwrap();
    alice.enqueue(&room(), &promote).unwrap();
    sync(&mut alice);
    for _ in 0..4 {
        hub.advance(Duration::from_secs(5));
        sync(&mut alice);
    }
    assert_eq!(participants(&alice)[3], (DAVE.to_owned(), templates::GROUP_ADMIN));
    assert!(!notices(&mut alice).iter().any(is_gave_up));
}

#[test]
fn what_a_hub_proposes_in_one_room_counts_in_no_other() {
    let hub = MimiHub::new();
    let [mut alice, mut bob, _] = of_three(&hub);
    let hall = second_room(&mut alice, &mut bob);
    let renamed = NewRoom::new(&hall, "Renamed", templates::cooperative("a.example")).unwrap();
    let update = AppDataUpdate {
        component_id: ComponentId::ROOM_METADATA,
        update: Some(renamed.metadata.to_bytes().into()),
    };
    now(alice.update(&hall)).unwrap();
    assert_eq!(hub.epoch(&hall).0, 2);
    now(alice.update(&room())).unwrap();
    assert_eq!(hub.epoch(&room()).0, 2);
    sync(&mut bob);
    hub.propose_elsewhere(&hall, update, &room());
    sync(&mut bob);
    assert_eq!(bob.group(&room()).unwrap().unwrap().pending, 0);
    say(&mut bob, "hello");
}

#[test]
fn a_client_commits_that_a_follower_without_participants_is_no_sender_any_more() {
    let hub = MimiHub::new();
    let [mut alice, mut bob, mut cathy] = of_three(&hub);
    let follower = TestHub::new("mimi://b.example");
    hub.trust(&room(), follower.sender().clone());
    sync(&mut alice);
    now(alice.tend(&room())).unwrap();
    assert_eq!(hub.external_senders(&room())[1], *follower.sender());
    for client in [&mut bob, &mut cathy] {
        sync(client);
    }
    agree(&hub, &[&alice, &bob, &cathy]);

    now(alice.remove(&room(), &uri(BOB))).unwrap();
    sync(&mut cathy);
    assert_eq!(cathy.group(&room()).unwrap().unwrap().pending, 1);
    now(cathy.tend(&room())).unwrap();
    sync(&mut alice);
    assert_eq!(hub.external_senders(&room()).len(), 1);
    agree(&hub, &[&alice, &cathy]);
    say(&mut cathy, "hello");
    sync(&mut alice);
    assert_eq!(read(&alice), ["hello"]);
}

#[test]
fn a_report_is_about_one_user() {
    let hub = MimiHub::new();
    let [mut alice, mut bob, mut cathy] = of_three(&hub);
    let ids = [say(&mut bob, "You fish!"), say(&mut cathy, "Fish!")];
    sync(&mut alice);
    let refused = now(alice.report_abuse(&room(), &ids, "")).unwrap_err();
    assert!(matches!(refused, MimiError::SeveralSenders), "{refused}");
    assert!(hub.reports().is_empty());
}
