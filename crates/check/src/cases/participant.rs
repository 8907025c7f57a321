//! One of our servers is the hub, and the subject takes part.

use crate::case::Case;

pub(super) mod events;
pub(super) mod format;
pub(super) mod hostile;
pub(super) mod invites;
pub(super) mod membership;
pub(super) mod requests;

/// Its cases.
pub(super) const CHAPTERS: &[&[Case]] = &[
    format::CASES,
    events::CASES,
    requests::CASES,
    invites::CASES,
    membership::CASES,
    hostile::CASES,
];
