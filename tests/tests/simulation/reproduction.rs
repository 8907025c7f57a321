//! What once went wrong, as the shortest list of operations that shows it.

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
