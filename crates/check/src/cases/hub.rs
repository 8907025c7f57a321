//! The subject is the hub.

use crate::case::Case;

pub(crate) mod devices;
pub(crate) mod events;
pub(crate) mod format;
pub(crate) mod group;
pub(crate) mod history;
pub(crate) mod hostile;
pub(crate) mod keys;
pub(crate) mod membership;
pub(crate) mod requests;
pub(crate) mod rules;

/// Its cases.
pub(super) const CHAPTERS: &[&[Case]] = &[
    format::CASES,
    events::CASES,
    rules::CASES,
    requests::CASES,
    keys::CASES,
    history::CASES,
    membership::CASES,
    devices::CASES,
    group::CASES,
    hostile::CASES,
];
