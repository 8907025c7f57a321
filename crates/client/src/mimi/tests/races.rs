//! Two want the same epoch, or an answer is lost.

use super::*;
use crate::testing::Fault;

#[test]
fn whoever_loses_the_race_makes_the_change_again_with_the_same_key_packages() {
    let hub = MimiHub::new();
    let [mut alice, mut bob, mut cathy] = of_three(&hub);
    let mut dave = client(&hub, D);
    hub.hold(BOB, true);
    now(alice.update(&room())).unwrap();
    let claims = hub.claims();
    assert!(matches!(
        now(bob.add(&room(), &[(uri(DAVE), MEMBER)])),
        Err(MimiError::NotConfirmed)
    ));
    hub.hold(BOB, false);
    sync(&mut bob);
    let lost = notices(&mut bob);
    assert!(
        lost.iter()
            .any(|notice| matches!(notice, MimiNotice::LostRace { epoch: 1, .. })),
        "{lost:?}"
    );
    assert_eq!(hub.claims(), claims + 1, "key packages are asked for once");
    for client in [&mut alice, &mut cathy, &mut dave] {
        sync(client);
    }
    agree(&hub, &[&alice, &bob, &cathy, &dave]);
}

#[test]
fn a_proposal_that_came_first_is_taken_along_in_the_second_attempt() {
    let hub = MimiHub::new();
    let [mut alice, mut bob, mut cathy] = of_three(&hub);
    hub.hold(ALICE, true);
    now(bob.leave(&room())).unwrap();
    // Alice commits without what she has not heard of, and is refused: it has to be in.
    let id = alice.enqueue(&room(), &MimiIntent::Update).unwrap();
    now(alice.sync(Duration::ZERO)).unwrap();
    hub.hold(ALICE, false);
    now(alice.drive(id)).unwrap();
    sync(&mut cathy);
    agree(&hub, &[&alice, &cathy]);
    assert_eq!(participants(&alice).len(), 2);
}

#[test]
fn a_change_of_whom_a_pending_one_is_about_comes_after_it() {
    let hub = MimiHub::new();
    let [mut alice, mut bob, mut cathy] = of_three(&hub);
    now(bob.leave(&room())).unwrap();
    let gone = now(alice.set_role(&room(), &uri(BOB), templates::GROUP_ADMIN)).unwrap_err();
    assert!(matches!(gone, MimiError::NoSuchParticipant { .. }), "{gone}");
    sync(&mut cathy);
    agree(&hub, &[&alice, &cathy]);
}

#[test]
fn an_answer_that_is_lost_is_found_in_the_log() {
    for fault in [Fault::RequestLost, Fault::AnswerLost] {
        let hub = MimiHub::new();
        let [mut alice, bob, mut cathy] = of_three(&hub);
        let line = hub.transport(B);
        let mut bob = MimiClient::open(line.clone(), bob.into_store(), obedient(), hub.clock()).unwrap();
        sync(&mut bob);
        line.fail(&[fault]);
        // If the answer alone is lost, the log says the same.
        let outcome = now(bob.update(&room()));
        let expected = match fault {
            Fault::RequestLost => matches!(outcome, Err(MimiError::NotConfirmed)),
            Fault::AnswerLost => outcome.is_ok(),
        };
        assert!(expected, "{fault:?}: {outcome:?}");
        // The client dies, and goes on from its store.
        let mut bob = MimiClient::open(hub.transport(B), bob.into_store(), obedient(), hub.clock()).unwrap();
        for client in [&mut bob, &mut alice, &mut cathy] {
            sync(client);
        }
        agree(&hub, &[&alice, &bob, &cathy]);
        assert_eq!(hub.epoch(&room()).0, 2);
        let line = hub.transport(B);
        let mut bob = MimiClient::open(line.clone(), bob.into_store(), obedient(), hub.clock()).unwrap();
        sync(&mut bob);
        line.fail(&[fault]);
        let outcome = now(bob.say(&room(), NestedPart::text("hello")));
        let expected = match fault {
            Fault::RequestLost => matches!(outcome, Err(MimiError::NotConfirmed)),
            Fault::AnswerLost => outcome.is_ok(),
        };
        assert!(expected, "{fault:?}: {outcome:?}");
        hub.advance(Duration::from_secs(2));
        sync(&mut bob);
        sync(&mut alice);
        assert_eq!(read(&alice), ["hello"], "once");
        assert_eq!(read(&bob), ["hello"]);
    }
}

#[test]
fn what_is_said_twice_is_heard_once() {
    let hub = MimiHub::new();
    let [mut alice, mut bob, mut cathy] = of_three(&hub);
    say(&mut alice, "one");
    now(bob.leave(&room())).unwrap();
    now(alice.tend(&room())).unwrap();
    sync(&mut cathy);
    hub.repeat_everything();
    for client in [&mut alice, &mut bob, &mut cathy] {
        sync(client);
    }
    agree(&hub, &[&alice, &cathy]);
    assert_eq!(bob.room(&room()).unwrap().status, MimiStatus::Removed);
    assert_eq!(read(&cathy), ["one"]);
}

#[test]
fn a_message_that_comes_too_late_is_encrypted_again() {
    let hub = MimiHub::new();
    let [mut alice, mut bob, _] = of_three(&hub);
    hub.hold(BOB, true);
    now(alice.update(&room())).unwrap();
    let content = bob.compose(&room(), NestedPart::text("late")).unwrap();
    let id = bob.enqueue_message(&room(), &content).unwrap();
    now(bob.sync(Duration::ZERO)).unwrap();
    assert!(read(&bob).is_empty());
    hub.hold(BOB, false);
    sync(&mut bob);
    sync(&mut alice);
    assert_eq!(read(&alice), ["late"]);
    assert!(
        alice.item_of(&room(), &id).unwrap().is_some(),
        "it has the ID that it had"
    );
}
