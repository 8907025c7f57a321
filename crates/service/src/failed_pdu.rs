//! What `failed_pdus` says of an event (LM #int-api-send-txn): written by a hub, read by the server whose user's event it was.
//!
//! Beside the draft's `error` a refused commit has `nabe.current_epoch`, so that the loser of a race need not read our
//! sentences (decisions, D-failed-epoch).

use std::collections::BTreeMap;

use nabe_core::Refusal;
use nabe_signing::json::{Json, Object};
use nabe_signing::object;
use nabe_types::EventId;

/// By the IDs of the events as received.
pub(crate) type FailedPdus = BTreeMap<EventId, FailedPdu>;

/// Why one event is not in its room.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct FailedPdu {
    /// A sentence.
    pub(crate) error: String,
    /// The epoch of the room's group, if the event was a commit for another.
    pub(crate) current_epoch: Option<u64>,
}

impl FailedPdu {
    /// What another server says: any object is one, its sentence cut to a bounded length.
    pub(crate) fn read(entry: &Json) -> Self {
        let entry = entry.as_object();
        let error = entry.and_then(|entry| entry.get("error")).and_then(Json::as_str);
        let epoch = entry.and_then(|entry| entry.get(CURRENT_EPOCH)).and_then(Json::as_i64);
        Self {
            error: cut(error.unwrap_or("refused without a reason"), MAX_ERROR_CHARS),
            current_epoch: epoch.and_then(|epoch| u64::try_from(epoch).ok()),
        }
    }

    pub(crate) fn to_object(&self) -> Object {
        let mut entry = object! { "error" => self.error.as_str() };
        if let Some(epoch) = self.current_epoch.and_then(|epoch| i64::try_from(epoch).ok()) {
            entry.insert(CURRENT_EPOCH, epoch);
        }
        entry
    }
}

impl From<&str> for FailedPdu {
    fn from(error: &str) -> Self {
        Self {
            error: error.to_owned(),
            current_epoch: None,
        }
    }
}

impl From<&Refusal> for FailedPdu {
    fn from(refusal: &Refusal) -> Self {
        Self {
            error: refusal.to_string(),
            current_epoch: refusal.current_epoch(),
        }
    }
}

/// A peer's text, at most `chars` characters of it, without control characters.
pub(crate) fn cut(text: &str, chars: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(chars).collect()
}

const CURRENT_EPOCH: &str = "nabe.current_epoch";

pub(crate) const MAX_ERROR_CHARS: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        for current_epoch in [None, Some(0), Some(7)] {
            let entry = FailedPdu {
                error: "too late".to_owned(),
                current_epoch,
            };
            assert_eq!(FailedPdu::read(&Json::from(entry.to_object())), entry);
        }
    }

    #[test]
    fn an_entry_of_another_shape_still_says_that_the_event_was_refused() {
        let refused = FailedPdu::from("refused without a reason");
        for entry in [
            Json::from(true),
            Json::from(object! { "error" => 1 }),
            Json::from(object! { CURRENT_EPOCH => -1 }),
            Json::from(object! { CURRENT_EPOCH => "7" }),
        ] {
            assert_eq!(FailedPdu::read(&entry), refused, "{entry:?}");
        }
    }
}
