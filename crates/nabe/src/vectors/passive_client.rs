//! The MLS working group's `passive-client-*.json`: one group after the other, followed as a hub follows it and as a member does.

use nabe_mls::vectors::{PassiveClient, verify_passive_client};
use nabe_signing::Json;

use super::{Untrue, Verdict};

/// A verdict on every group. Of a suite we cannot compute with there is none, only a word.
pub(super) fn verify(entries: &[Json]) -> Vec<Verdict> {
    let verdict = |(index, entry): (usize, &Json)| {
        let (outcome, skipped) = match verify_passive_client(entry) {
            Ok(PassiveClient::Agreed { .. }) => (Ok(()), None),
            Ok(PassiveClient::UnknownSuite { id }) => (Ok(()), Some(format!("cipher suite {id} is not supported"))),
            Err(error) => (Err(Untrue(error.to_string())), None),
        };
        Verdict {
            entry: format!("passive_client/{index}"),
            outcome,
            skipped,
        }
    };
    entries.iter().enumerate().map(verdict).collect()
}
