//! All cases. Each stands, with what it is about, above the function that runs it, in the file of its chapter. The text of each is
//! in the words of the draft's endpoints, E1 to E18 in its order: E2 own keys, E3 and E4 notary, E5 send, E6 event, E7 state,
//! E8 state_ids, E9 backfill, E10 invite, E11 make_leave, E12 send_leave, E13 make_join, E14 send_join, E15 make_knock,
//! E16 send_knock, E17 device, E18 claim of key packages. MIMI's endpoints are called as its directory calls them.

use crate::case::{Case, Suite};

/// Makes the function of a case one that a table can hold.
macro_rules! run {
    ($function:ident) => {
        |ctx| Box::pin($function(ctx))
    };
}

pub(crate) mod hub;
mod mimi_content;
mod mimi_follower;
mod mimi_hub;
mod participant;

/// The cases of a suite, chapter by chapter.
pub fn cases(suite: Suite) -> impl Iterator<Item = &'static Case> {
    all().filter(move |case| case.suite == suite)
}

/// All cases, chapter by chapter, in the order in which they are reported.
pub(crate) fn all() -> impl Iterator<Item = &'static Case> {
    [
        hub::CHAPTERS,
        participant::CHAPTERS,
        mimi_hub::CHAPTERS,
        mimi_follower::CHAPTERS,
    ]
    .into_iter()
    .flatten()
    .copied()
    .flatten()
}
