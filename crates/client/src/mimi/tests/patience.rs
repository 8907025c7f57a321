//! Hubs and providers that are down for long: they are asked ever more seldom, and what waits goes out when they are back.

use std::sync::Arc;

use super::hub::Line;
use super::*;
use crate::testing::Fault;

/// The same client on a line of its own.
fn on_a_line(hub: &MimiHub, client: MimiClient, uri: &str) -> (MimiClient, Arc<Line>) {
    let line = hub.transport(uri);
    let mut client = MimiClient::open(line.clone(), client.into_store(), obedient(), hub.clock()).unwrap();
    sync(&mut client);
    line.asked();
    (client, line)
}

/// Does what is due whenever it is, as a program does that goes on and on. How often that was.
fn live(client: &mut MimiClient, hub: &MimiHub, time: Duration) -> u32 {
    let clock = hub.clock();
    let end = clock().plus(time);
    let mut times = 0;
    while clock() < end {
        times += 1;
        now(client.sync(Duration::ZERO)).unwrap();
        let due = client.next_due().unwrap().unwrap_or(end);
        let shortest = clock().plus(Duration::from_millis(100));
        hub.advance(due.max(shortest).min(end).saturating_since(clock()));
    }
    times
}

const HOUR: Duration = Duration::from_hours(1);

#[test]
fn a_hub_that_is_down_is_asked_ever_more_seldom_for_whatever_it_is_needed() {
    let hub = MimiHub::new();
    let [_alice, bob, _] = of_three(&hub);
    let (mut bob, line) = on_a_line(&hub, bob, B);
    line.is_down(&room(), true);
    // A commit, and what comes after it.
    now(bob.update(&room())).unwrap_err();
    bob.enqueue(&room(), &MimiIntent::Update).unwrap();
    let content = bob.compose(&room(), NestedPart::text("late")).unwrap();
    bob.enqueue_message(&room(), &content).unwrap();
    line.asked();
    let times = live(&mut bob, &hub, HOUR);
    let asked = line.asked();
    assert!((10..=30).contains(&asked), "asked {asked} times");
    assert!(times <= 60, "looked {times} times what is due");

    // Somebody who wants to join asks for the GroupInfo.
    let other = client(&hub, B2);
    let (mut other, line) = on_a_line(&hub, other, B2);
    line.is_down(&room(), true);
    now(other.join(&room(), None, None)).unwrap_err();
    line.asked();
    let times = live(&mut other, &hub, HOUR);
    let asked = line.asked();
    assert!((10..=30).contains(&asked), "asked {asked} times");
    assert!(times <= 60, "looked {times} times what is due");
    line.is_down(&room(), false);
    live(&mut other, &hub, Duration::from_mins(5));
    assert_eq!(other.room(&room()).unwrap().status, MimiStatus::Active);
}

#[test]
fn a_provider_that_is_down_is_asked_for_entries_alone_and_has_what_waits_when_it_is_back() {
    let hub = MimiHub::new();
    let [mut alice, bob, _] = of_three(&hub);
    let (mut bob, line) = on_a_line(&hub, bob, B);
    // It fails more and more often, and then altogether.
    line.fail(&[Fault::RequestLost; 6]);
    let content = bob.compose(&room(), NestedPart::text("late")).unwrap();
    bob.enqueue_message(&room(), &content).unwrap();
    live(&mut bob, &hub, Duration::from_mins(1));
    assert_eq!(line.asked(), 6);
    line.cut(true);
    bob.enqueue(&room(), &MimiIntent::Update).unwrap();
    for _ in 0..100 {
        let error = now(bob.sync(Duration::ZERO)).unwrap_err();
        assert!(matches!(error, MimiError::Transport(_)), "{error}");
        hub.advance(Duration::from_millis(10));
    }
    assert_eq!(line.asked(), 0);
    line.cut(false);
    // Sooner than it would have been tried again.
    live(&mut bob, &hub, Duration::from_secs(1));
    sync(&mut alice);
    assert_eq!(read(&alice), ["late"]);
    assert_eq!(hub.epoch(&room()).0, 2);
}

#[test]
fn what_waits_for_a_hub_goes_out_when_something_is_heard_from_there() {
    let hub = MimiHub::new();
    let [mut alice, bob, _] = of_three(&hub);
    let (mut bob, line) = on_a_line(&hub, bob, B);
    line.is_down(&room(), true);
    let content = bob.compose(&room(), NestedPart::text("late")).unwrap();
    bob.enqueue_message(&room(), &content).unwrap();
    live(&mut bob, &hub, HOUR);
    // It speaks and does not listen: that is tried once in a while.
    line.asked();
    for text in ["one", "two", "three"] {
        say(&mut alice, text);
        sync(&mut bob);
    }
    assert_eq!(line.asked(), 1);
    line.is_down(&room(), false);
    hub.advance(Duration::from_secs(10));
    say(&mut alice, "four");
    sync(&mut bob);
    sync(&mut alice);
    assert_eq!(read(&alice), ["one", "two", "three", "four", "late"]);
}

#[test]
fn whoever_asks_for_time_gets_it_whatever_is_heard_from_there() {
    let hub = MimiHub::new();
    let [mut alice, bob, _] = of_three(&hub);
    let (mut bob, line) = on_a_line(&hub, bob, B);
    line.rate_limit(Duration::from_mins(30));
    let content = bob.compose(&room(), NestedPart::text("late")).unwrap();
    bob.enqueue_message(&room(), &content).unwrap();
    sync(&mut bob);
    assert_eq!(line.asked(), 1);
    for _ in 0..20 {
        hub.advance(Duration::from_mins(1));
        say(&mut alice, "hello");
        sync(&mut bob);
    }
    assert_eq!(line.asked(), 0);
    live(&mut bob, &hub, Duration::from_mins(10));
    assert_eq!(line.asked(), 1);
}

#[test]
fn a_change_that_waits_for_another_one_follows_it_at_once() {
    let hub = MimiHub::new();
    let [_alice, bob, _] = of_three(&hub);
    let (mut bob, _line) = on_a_line(&hub, bob, B);
    for _ in 0..3 {
        bob.enqueue(&room(), &MimiIntent::Update).unwrap();
    }
    live(&mut bob, &hub, Duration::from_secs(1));
    assert_eq!(hub.epoch(&room()).0, 4);
}

#[test]
fn what_a_hub_says_of_another_group_stops_nobody_from_following_the_rooms_own() {
    let hub = MimiHub::new();
    let [mut alice, mut bob, mut cathy] = of_three(&hub);
    let hall = uri("mimi://a.example/r/hall");
    let new = NewRoom::new(&hall, "Hall", templates::cooperative("a.example")).unwrap();
    now(alice.create_room(&new)).unwrap();
    now(alice.add(&hall, &[(uri(BOB), MEMBER)])).unwrap();
    sync(&mut bob);
    notices(&mut bob);
    // Commits of the hall, of the epoch that the other room is in and of later ones, in that room's log.
    for _ in 0..3 {
        now(alice.update(&hall)).unwrap();
        hub.say_in(&room());
    }
    sync(&mut bob);
    hub.advance(Duration::from_mins(30));
    sync(&mut bob);
    sync(&mut alice);
    now(cathy.catch_up()).unwrap();
    assert_eq!(bob.room(&room()).unwrap().status, MimiStatus::Active);
    let told = notices(&mut bob);
    let of_room = told
        .iter()
        .filter(|notice| matches!(notice, MimiNotice::Malformed { .. }));
    assert_eq!(of_room.count(), 3, "{told:?}");
    say(&mut cathy, "hello");
    sync(&mut bob);
    sync(&mut alice);
    assert_eq!(read(&bob), ["hello"]);
    agree(&hub, &[&alice, &bob, &cathy]);
}

#[test]
fn who_is_added_while_they_join_by_themselves_is_in_the_group_once() {
    let hub = MimiHub::new();
    let [mut alice, mut bob, _] = of_three(&hub);
    let (mut other, line) = on_a_line(&hub, client(&hub, B2), B2);
    // The GroupInfo comes, and the commit does not arrive before somebody else's.
    line.fail_after(1);
    other.settings.rounds = 1;
    now(other.join(&room(), None, None)).unwrap_err();
    assert_eq!(other.room(&room()).unwrap().status, MimiStatus::Joining);
    sync(&mut bob);
    now(bob.add_own_clients(&room())).unwrap();
    for client in [&mut other, &mut alice, &mut bob] {
        sync(client);
    }
    assert_eq!(other.room(&room()).unwrap().status, MimiStatus::Active);
    hub.advance(Duration::from_mins(10));
    for client in [&mut other, &mut alice, &mut bob] {
        sync(client);
    }
    agree(&hub, &[&alice, &bob, &other]);
    say(&mut other, "hello");
    sync(&mut alice);
    assert_eq!(read(&alice), ["hello"]);
}

#[test]
fn a_provider_that_says_the_same_again_and_again_keeps_nobody_busy() {
    let hub = MimiHub::new();
    let [mut alice, bob, _] = of_three(&hub);
    let (mut bob, line) = on_a_line(&hub, bob, B);
    say(&mut alice, "hello");
    line.stand_still();
    sync(&mut bob);
    assert_eq!(read(&bob), ["hello"]);
}
