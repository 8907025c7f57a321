//! Which operations are tried, and how often.

use nabe_tests::Fault;
use proptest::prelude::*;

use super::ops::{Op, Rule};

/// Lists of up to `length` operations.
pub(crate) fn ops(length: usize) -> impl Strategy<Value = Vec<Op>> {
    prop::collection::vec(op(), 1..length)
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        30 => talk(),
        25 => come_and_go(),
        10 => rule_the_room(),
        8 => look(),
        14 => break_things(),
        8 => pass_time(),
    ]
}

fn talk() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (user(), room()).prop_map(|(user, room)| Op::Message { user, room }),
        1 => (user(), room()).prop_map(|(user, room)| Op::Topic { user, room }),
        1 => (user(), user()).prop_map(|(user, target)| Op::ToDevice { user, target }),
    ]
}

fn come_and_go() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (user(), room()).prop_map(|(user, room)| Op::Join { user, room }),
        3 => (user(), room(), user()).prop_map(|(user, room, target)| Op::Invite { user, room, target }),
        3 => (user(), room()).prop_map(|(user, room)| Op::Leave { user, room }),
        1 => (user(), room()).prop_map(|(user, room)| Op::Knock { user, room }),
        1 => (user(), rule()).prop_map(|(user, rule)| Op::Create { user, rule }),
    ]
}

fn rule_the_room() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (ruler(), room(), user()).prop_map(|(user, room, target)| Op::Kick { user, room, target }),
        2 => (ruler(), room(), user()).prop_map(|(user, room, target)| Op::Ban { user, room, target }),
        2 => (ruler(), room(), user()).prop_map(|(user, room, target)| Op::Unban { user, room, target }),
        1 => (ruler(), room(), user(), 0..=101_u8)
            .prop_map(|(user, room, target, level)| Op::Power { user, room, target, level }),
        1 => (ruler(), room(), rule()).prop_map(|(user, room, rule)| Op::SetRule { user, room, rule }),
    ]
}

fn look() -> impl Strategy<Value = Op> {
    prop_oneof![
        1 => (user(), room(), 1..4_u8).prop_map(|(user, room, pages)| Op::History { user, room, pages }),
        3 => (user(), 1..8_u8).prop_map(|(user, items)| Op::Read { user, items }),
    ]
}

fn break_things() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => server().prop_map(|server| Op::Crash { server }),
        3 => (server(), 0..12_u8, any::<bool>())
            .prop_map(|(server, commits, written)| Op::CrashAtCommit { server, commits, written }),
        1 => server().prop_map(|server| Op::Stop { server }),
        4 => server().prop_map(|server| Op::Boot { server }),
        2 => (server(), server()).prop_map(|(from, to)| Op::Cut { from, to }),
        3 => (server(), server()).prop_map(|(from, to)| Op::Mend { from, to }),
        8 => (server(), server(), fault()).prop_map(|(from, to, fault)| Op::Strike { from, to, fault }),
    ]
}

fn pass_time() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (1..20_u16).prop_map(|seconds| Op::Advance { seconds }),
        1 => (20..4000_u16).prop_map(|seconds| Op::Advance { seconds }),
        6 => (0..40_u8).prop_map(|yields| Op::Hurry { yields }),
    ]
}

fn fault() -> impl Strategy<Value = Fault> {
    let millis = prop_oneof![1..3_000_u32, 3_000..90_000_u32];
    (0..5_u8, millis).prop_map(|(kind, millis)| match kind {
        0 => Fault::LoseRequest,
        1 => Fault::LoseAnswer,
        2 => Fault::Delay(millis),
        3 => Fault::DelayAnswer(millis),
        _ => Fault::Repeat(millis),
    })
}

fn rule() -> impl Strategy<Value = Rule> {
    prop_oneof![3 => Just(Rule::Public), 1 => Just(Rule::Knock), 1 => Just(Rule::Invite)]
}

fn user() -> std::ops::Range<u8> {
    0..6
}

/// Mostly the one who may.
fn ruler() -> impl Strategy<Value = u8> {
    prop_oneof![3 => Just(0_u8), 1 => user()]
}

/// Mostly the same room.
fn room() -> impl Strategy<Value = u8> {
    prop_oneof![5 => Just(0_u8), 1 => 0..3_u8]
}

fn server() -> std::ops::Range<u8> {
    0..3
}
