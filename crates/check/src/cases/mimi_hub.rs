//! MIMI: the subject is the hub.

use super::mimi_content;
use crate::case::Case;

mod abuse;
mod assets;
mod components;
mod fanout;
mod joining;
pub(super) mod keys;
mod leaving;
mod messages;
mod participants;
mod transport;
mod update;

/// Its cases.
pub(super) const CHAPTERS: &[&[Case]] = &[
    transport::CASES,
    keys::CASES,
    update::CASES,
    participants::CASES,
    components::CASES,
    leaving::CASES,
    joining::CASES,
    messages::CASES,
    fanout::CASES,
    abuse::CASES,
    assets::CASES,
    mimi_content::CASES,
];
