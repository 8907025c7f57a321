//! What holds in any room whatever happens; `fuzzing::policy` says what.

use proptest::prelude::*;

use crate::mimi::fuzzing::{follow, policy};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn rooms_stay_in_order_whatever_happens(data in prop::collection::vec(any::<u8>(), 4..304)) {
        policy(&data);
    }

    /// Steps that proposals and commits by those who may do most are among more often.
    #[test]
    fn taking_a_capability_away_never_allows_more(
        head in any::<[u8; 4]>(),
        steps in prop::collection::vec((0..8_u8, any::<[u8; 4]>()), 1..50),
    ) {
        let steps = steps.into_iter().flat_map(|(who, [a, b, c, d])| [who, a, b, c, d]);
        let data: Vec<u8> = head.into_iter().chain(steps).collect();
        policy(&data);
    }
}

/// A member's proposal to remove a component, accepted and left over by an external commit.
#[test]
fn removal_of_a_component_that_was_left_over_is_proposed_again() {
    let mut data = [0; 89];
    data[..2].copy_from_slice(&[27, 48]);
    data[25] = 4;
    data[64..67].copy_from_slice(&[166, 28, 182]);
    data[78..].copy_from_slice(&[4, 24, 204, 246, 116, 5, 116, 192, 163, 37, 179]);
    policy(&data);
}

/// So that the properties are about something: of what is tried, enough is allowed and enough is not.
#[test]
fn much_of_what_is_tried_is_allowed_and_much_is_not() {
    let mut seed = 1_u32;
    let mut byte = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        seed.to_be_bytes()[0]
    };
    let (mut proposals, mut commits, mut left_over, mut dropped) = ([0; 2], [0; 2], 0, 0);
    for _ in 0..40 {
        let data: Vec<u8> = (0..304).map(|_| byte()).collect();
        let allowed = follow(&data);
        left_over += allowed.left_over;
        dropped += allowed.dropped;
        for number in 0..2 {
            proposals[number] += allowed.proposals[number];
            commits[number] += allowed.commits[number];
        }
    }
    assert!(left_over > 5 && dropped * 4 < left_over, "{dropped} of {left_over}");
    for [allowed, decided] in [proposals, commits] {
        assert!(
            allowed * 20 > decided && allowed * 2 < decided * 2 - decided / 10,
            "{allowed} of {decided}"
        );
        assert!(decided > 200, "{decided}");
    }
}

#[test]
fn the_seeds_of_the_fuzz_target_hold() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/policy");
    let seeds = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let seeds: Vec<_> = seeds.filter(|path| path.extension().is_some()).collect();
    assert!(seeds.len() >= 4);
    for seed in seeds {
        let allowed = follow(&std::fs::read(&seed).unwrap());
        assert!(allowed.proposals[0] + allowed.commits[0] > 0, "{}", seed.display());
    }
}
