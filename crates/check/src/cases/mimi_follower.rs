//! MIMI: one of our providers is the hub, or asks the subject about its users.

use crate::case::Case;

mod consent;
mod forwarding;
mod inbox;
mod keys;
mod search;
mod transport;

/// Its cases.
pub(super) const CHAPTERS: &[&[Case]] = &[
    transport::CASES,
    keys::CASES,
    consent::CASES,
    inbox::CASES,
    forwarding::CASES,
    search::CASES,
];
