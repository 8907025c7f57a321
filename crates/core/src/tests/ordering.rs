//! LM #int-api-send-join: the order of the state a joiner is given.

use std::collections::BTreeSet;

use super::*;
use crate::after_their_auth_events;

#[test]
fn no_state_event_comes_before_what_authorizes_it_whatever_the_order_given() {
    let mut world = World::new();
    for user in [BOB, CAROL, DAN] {
        world.joins(user);
    }
    world.changes(ALICE, ANNE, "invite").unwrap();
    world.changes(DAN, DAN, "leave").unwrap();
    let mut state = world.hub.checkpoint().state;
    for turn in 0..state.len() {
        state.rotate_left(1);
        let ordered = after_their_auth_events(state.clone());
        assert_eq!(ordered.len(), state.len(), "turn {turn}");
        assert_eq!(ordered[0].event_type(), "m.room.create");
        let all: BTreeSet<_> = state.iter().map(Pdu::event_id).collect();
        let mut seen = BTreeSet::new();
        for event in &ordered {
            for authorizing in event.auth_events() {
                assert!(
                    seen.contains(authorizing) || !all.contains(authorizing),
                    "turn {turn}: {}",
                    event.event_id()
                );
            }
            seen.insert(event.event_id().clone());
        }
        assert_eq!(seen.iter().collect::<BTreeSet<_>>(), all);
    }
}

#[test]
fn ordering_loses_nothing_even_when_an_event_is_given_twice() {
    assert!(after_their_auth_events(Vec::new()).is_empty());
    let mut world = World::new();
    world.joins(BOB);
    let twice = [world.newest().clone(), world.newest().clone()];
    assert_eq!(after_their_auth_events(twice.to_vec()).len(), 2);
}
