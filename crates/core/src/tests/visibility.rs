//! LM #int-calc-event-visibility. Case 63.

use super::*;
use crate::State;
use crate::visibility::{Access, HistoryVisibility, ServerFacts, UserFacts, access, user_access};

/// A room with this visibility in which Bob is joined and Carol invited, and an event in it.
fn setup(visibility: &str, event_type: &str) -> (State, Pdu) {
    let mut world = World::new();
    let content = object! { "history_visibility" => visibility };
    world
        .send(&user(ALICE), "m.room.history_visibility", Some(""), content)
        .unwrap();
    world.joins(BOB);
    world.changes(ALICE, CAROL, "invite").unwrap();
    let state = world.hub.state().clone();
    world
        .send(&user(ALICE), event_type, None, object! { "ciphertext" => "x" })
        .unwrap();
    (state, world.newest().clone())
}

const NEVER_THERE: (bool, bool, bool, bool) = (false, false, false, false);
const JOINED_LATER: (bool, bool, bool, bool) = (true, true, false, false);
const LEFT_BEFORE: (bool, bool, bool, bool) = (false, false, true, false);
const READABLE_NOW: (bool, bool, bool, bool) = (false, false, false, true);
const LEFT_BEFORE_READABLE_NOW: (bool, bool, bool, bool) = (false, false, true, true);
const LEFT_AFTER: (bool, bool, bool, bool) = (false, true, false, false);

fn server_access(
    (state, event): &(State, Pdu),
    server: &str,
    (joined_now, joined_since, left_before, world_readable_now): (bool, bool, bool, bool),
) -> Access {
    let server = name(server);
    access(
        event,
        state,
        &ServerFacts {
            server: &server,
            joined_now,
            joined_since,
            left_before,
            world_readable_now,
        },
    )
}

/// `p.example` is joined before the event, `t.example.org` invited, `z.example` nothing.
#[test]
fn what_a_server_may_read() {
    use Access::{Full, Hidden, Redacted};
    let (p, t, z) = (PEERS[0].0, PEERS[1].0, "z.example");
    let table = [
        ("world_readable", z, NEVER_THERE, Hidden),
        ("world_readable", z, JOINED_LATER, Full),
        ("world_readable", z, READABLE_NOW, Full),
        ("world_readable", z, LEFT_BEFORE, Hidden),
        ("world_readable", z, LEFT_BEFORE_READABLE_NOW, Full),
        ("shared", z, NEVER_THERE, Hidden),
        ("shared", z, JOINED_LATER, Full),
        ("shared", z, READABLE_NOW, Full),
        ("shared", z, LEFT_BEFORE_READABLE_NOW, Hidden),
        ("shared", p, LEFT_AFTER, Full),
        ("joined", z, JOINED_LATER, Redacted),
        ("joined", t, JOINED_LATER, Redacted),
        ("joined", p, JOINED_LATER, Full),
        ("joined", p, LEFT_AFTER, Full),
        ("joined", z, READABLE_NOW, Redacted),
        ("joined", z, LEFT_BEFORE_READABLE_NOW, Hidden),
        ("invited", z, JOINED_LATER, Redacted),
        ("invited", t, JOINED_LATER, Full),
        ("invited", p, JOINED_LATER, Full),
        ("invited", t, NEVER_THERE, Hidden),
        ("org.example.unknown", z, JOINED_LATER, Full),
    ];
    for (visibility, server, facts, expected) in table {
        let found = server_access(&setup(visibility, "m.room.encrypted"), server, facts);
        assert_eq!(found, expected, "{visibility}, {server}, {facts:?}");
    }
}

#[test]
fn a_commit_stays_whole_for_every_server_that_knows_the_room() {
    let commit = setup("joined", "m.mls.commit");
    assert_eq!(server_access(&commit, "z.example", JOINED_LATER), Access::Full);
    assert_eq!(server_access(&commit, "z.example", NEVER_THERE), Access::Hidden);
    assert_eq!(
        server_access(&commit, "z.example", LEFT_BEFORE_READABLE_NOW),
        Access::Hidden
    );
}

#[test]
fn the_join_itself_is_readable_to_the_server_that_joins() {
    let mut world = World::new();
    let content = object! { "history_visibility" => "joined" };
    world
        .send(&user(ALICE), "m.room.history_visibility", Some(""), content)
        .unwrap();
    let before = world.hub.state().clone();
    world.joins(BOB);
    let case = (before, world.newest().clone());
    assert_eq!(server_access(&case, PEERS[0].0, JOINED_LATER), Access::Full);
    assert_eq!(server_access(&case, PEERS[1].0, JOINED_LATER), Access::Redacted);
}

/// Bob is joined before the event, Carol invited, Anne nothing.
#[test]
fn what_a_user_may_read() {
    use Access::{Full, Hidden};
    let table = [
        ("world_readable", ANNE, false, Full),
        ("shared", ANNE, true, Full),
        ("shared", ANNE, false, Hidden),
        ("shared", BOB, false, Full),
        ("joined", ANNE, true, Hidden),
        ("joined", CAROL, true, Hidden),
        ("joined", BOB, false, Full),
        ("invited", ANNE, true, Hidden),
        ("invited", CAROL, false, Full),
        ("invited", BOB, false, Full),
    ];
    for (visibility, number, joined_since, expected) in table {
        let (state, event) = setup(visibility, "m.room.encrypted");
        let found = user_access(
            &event,
            &state,
            &UserFacts {
                user: &user(number),
                joined_since,
            },
        );
        assert_eq!(found, expected, "{visibility}, {}, {joined_since}", user(number));
    }
    let (state, commit) = setup("joined", "m.mls.commit");
    assert_eq!(
        user_access(
            &commit,
            &state,
            &UserFacts {
                user: &user(ANNE),
                joined_since: true
            }
        ),
        Full
    );
    assert_eq!(
        user_access(
            &commit,
            &state,
            &UserFacts {
                user: &user(ANNE),
                joined_since: false
            }
        ),
        Hidden
    );
}

#[test]
fn a_user_reads_what_happens_to_them() {
    let mut world = World::new();
    let before = world.hub.state().clone();
    world.changes(ALICE, CAROL, "ban").unwrap();
    let ban = world.newest().clone();
    let of = |number| {
        user_access(
            &ban,
            &before,
            &UserFacts {
                user: &user(number),
                joined_since: false,
            },
        )
    };
    assert_eq!((of(CAROL), of(BOB)), (Access::Full, Access::Hidden));
}

#[test]
fn without_an_event_history_is_shared() {
    assert_eq!(HistoryVisibility::of(&State::default()), HistoryVisibility::Shared);
}
