//! LM #int-transport-send-events: who is owed what.

use nabe_types::LogPosition;

use super::*;
use crate::fuzzing::Interval;

fn interval(place: usize, from: i64, until: Option<i64>) -> Interval {
    Interval {
        server: name(PEERS[place].0),
        from: LogPosition(from),
        until: until.map(LogPosition),
        once: false,
    }
}

fn once(place: usize, at: i64) -> Interval {
    Interval {
        once: true,
        ..interval(place, at, Some(at))
    }
}

// A new room has four events.

#[test]
fn a_server_is_owed_the_log_from_its_first_join_to_its_last_leave() {
    let mut world = World::new();
    world.joins(BOB);
    world.joins(BEN);
    world.changes(BOB, BOB, "leave").unwrap();
    assert_eq!(world.intervals, [interval(0, 5, None)]);
    world.changes(BEN, BEN, "leave").unwrap();
    assert_eq!(world.intervals, [interval(0, 5, Some(8))]);
    world.says(ALICE, "gone").unwrap();
    world.deliver_everything();
    world.check();
}

#[test]
fn kick_and_rejoin_make_two_intervals() {
    let mut world = World::new();
    world.joins(BOB);
    world.changes(ALICE, BOB, "leave").unwrap();
    world.says(ALICE, "in between").unwrap();
    world.joins(BOB);
    assert_eq!(world.intervals, [interval(0, 5, Some(6)), interval(0, 8, None)]);
    world.deliver_everything();
    world.check();
}

/// Case 79.
#[test]
fn a_kicked_users_server_receives_the_kick_and_nothing_after() {
    let mut world = World::new();
    world.joins(BOB);
    world.changes(ALICE, BOB, "leave").unwrap();
    let kick = world.newest().clone();
    world.says(ALICE, "after").unwrap();
    assert_eq!(world.participants[0].inbox.last(), Some(&kick));
    world.deliver_everything();
    assert_eq!(world.participants[0].log.last().unwrap().pdu(), Some(&kick));
    assert_eq!(
        view_of(&world, 0).membership(&user(BOB)),
        nabe_auth::lm::Membership::Leave
    );
}

#[test]
fn a_ban_of_an_invited_user_gives_a_one_entry_interval() {
    let mut world = World::new();
    world.changes(ALICE, CAROL, "invite").unwrap();
    assert_eq!(world.intervals, [], "the invite itself goes by /invite");
    world.changes(ALICE, CAROL, "ban").unwrap();
    assert_eq!(world.intervals, [once(1, 6)]);
}

#[test]
fn declining_an_invite_and_knocking_are_echoed_once() {
    let mut world = World::new();
    world.changes(ALICE, CAROL, "invite").unwrap();
    world.changes(CAROL, CAROL, "leave").unwrap();
    world
        .send(
            &user(ALICE),
            "m.room.join_rules",
            Some(""),
            object! { "join_rule" => "knock" },
        )
        .unwrap();
    world.changes(CAROL, CAROL, "knock").unwrap();
    assert_eq!(world.intervals, [once(1, 6), once(1, 8)]);
}

#[test]
fn a_membership_change_on_a_participating_server_opens_nothing_more() {
    let mut world = World::new();
    world.joins(BOB);
    world.changes(BOB, BEN, "invite").unwrap();
    world.changes(ALICE, BEN, "ban").unwrap();
    world.joins(BOB);
    assert_eq!(world.intervals, [interval(0, 5, None)]);
}

#[test]
fn the_hub_does_not_follow_itself() {
    let mut world = World::new();
    world.joins(ANNE);
    world.changes(ALICE, ANNE, "ban").unwrap();
    assert_eq!(world.intervals, []);
    assert_eq!(world.hub.followers().count(), 0);
}
