//! Random operations on three servers; the invariants are in [`crate::fuzzing`].

use proptest::prelude::*;

use super::{ALICE, CAROL, DAN};
use crate::fuzzing::{World, room};

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_log_equals_the_hubs_restricted_to_its_intervals(operations in prop::collection::vec(any::<[u8; 3]>(), 0..80)) {
        room(operations.as_flattened());
    }
}

/// Found by the property above: the hub owes the last event alone, so nothing before it can be fetched.
#[test]
fn a_single_event_that_overtakes_our_leave_waits_for_it() {
    let mut world = World::new();
    world.joins(CAROL);
    world.deliver_everything();
    world.says(CAROL, "bye").unwrap();
    world.changes(CAROL, CAROL, "leave").unwrap();
    world.changes(ALICE, DAN, "invite").unwrap();
    world.changes(DAN, DAN, "leave").unwrap();
    world.deliver_one(1, 2);
    assert_eq!(world.participants[1].inbox.len(), 3);
    world.deliver_everything();
    world.check();
    assert_eq!(world.participants[1].log.len(), 3);
}

/// The property above says nothing unless its operations get somewhere.
#[test]
fn the_simulation_reaches_what_it_is_about() {
    let mut seed: u32 = 7;
    let mut byte = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 24) as u8
    };
    let (mut returns, mut once, mut entries) = (0, 0, 0);
    for _ in 0..20 {
        let mut world = World::new();
        for _ in 0..80 {
            world.step(byte(), byte(), byte());
        }
        world.deliver_everything();
        world.check();
        entries += world.log.len();
        once += world.intervals.iter().filter(|interval| interval.once).count();
        for peer in &world.participants {
            let own = world
                .intervals
                .iter()
                .filter(|interval| interval.server == *peer.signer.server() && !interval.once);
            returns += own.count().saturating_sub(1);
        }
    }
    assert!(
        returns > 5 && once > 5 && entries > 300,
        "{returns} returns, {once} single events, {entries} entries"
    );
}
