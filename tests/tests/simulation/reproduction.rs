//! What once went wrong, as the shortest list of operations that shows it.

use nabe_tests::Fault;

use super::ops::Op;
use super::reproduce;

#[test]
fn nothing_happens() {
    reproduce(&[]);
}

#[test]
fn everybody_joins_talks_and_leaves() {
    let everybody = 1..6_u8;
    let join = everybody.clone().map(|user| Op::Join { user, room: 0 });
    let talk = everybody.clone().map(|user| Op::Message { user, room: 0 });
    let leave = everybody.map(|user| Op::Leave { user, room: 0 });
    reproduce(&join.chain(talk).chain(leave).collect::<Vec<_>>());
}

/// A request for keys under way for another reason, without a notary, was taken for the join's own, and a member was left out
/// of the state.
#[test]
fn join_behind_a_request_for_keys_that_fails() {
    reproduce(&[
        Op::Join { user: 4, room: 0 },
        Op::Strike {
            from: 1,
            to: 2,
            fault: Fault::Delay(1064),
        },
        Op::ToDevice { user: 4, target: 3 },
        Op::Join { user: 2, room: 0 },
        Op::Stop { server: 2 },
        Op::Message { user: 1, room: 0 },
        Op::Advance { seconds: 2 },
        Op::Message { user: 0, room: 0 },
    ]);
}
