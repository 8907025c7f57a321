//! MIMI: the subject is the hub.

use super::mimi_content;
use crate::case::Case;

mod abuse;
mod assets;
mod fanout;
mod joining;
pub(super) mod keys;
mod leaving;
mod messages;
mod transport;
mod update;

/// Its cases.
pub(super) const CHAPTERS: &[&[Case]] = &[
    transport::CASES,
    keys::CASES,
    update::CASES,
    leaving::CASES,
    joining::CASES,
    messages::CASES,
    fanout::CASES,
    abuse::CASES,
    assets::CASES,
    mimi_content::CASES,
];
