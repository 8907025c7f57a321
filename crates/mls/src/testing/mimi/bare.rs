//! OpenMLS's public group by itself, to measure against.

use nabe_wire::Message as _;
use nabe_wire::mls::AppDataUpdate;
use openmls::framing::ProcessedMessageContent;
use openmls::group::PublicGroup;
use openmls::prelude::MlsMessageIn;
use tls_codec::Deserialize as _;

use super::components::app_data_changes;
use super::translate::encode;
use crate::mimi::MimiGroup;
use crate::provider::{NoStorage, crypto};

/// OpenMLS's public group by itself: what following commits costs without any check or storing of ours.
pub struct BareMimiGroup {
    group: PublicGroup,
}

impl BareMimiGroup {
    /// Begins as a hub does.
    #[must_use]
    pub fn of(group: &MimiGroup) -> Self {
        Self {
            group: group.copy_public_group(),
        }
    }

    /// Decodes, processes and merges a commit.
    pub fn take(&mut self, commit: &[u8]) {
        let message = MlsMessageIn::tls_deserialize_exact(commit).expect("a message decodes");
        let message = message.try_into_protocol_message().expect("a message of a group");
        let processed = self.group.process_message(crypto(), message).expect("a sound commit");
        let staged = match processed.into_content() {
            ProcessedMessageContent::StagedCommitMessage(staged) => *staged,
            ProcessedMessageContent::UnresolvedAppDataCommit(unresolved) => {
                let updates: Vec<_> = unresolved
                    .app_data_update_proposals()
                    .map(|update| AppDataUpdate::from_bytes(&encode(update)).expect("an update reads"))
                    .collect();
                let changes = app_data_changes(self.group.app_data_dictionary_updater(), &updates);
                self.group
                    .stage_app_data_commit(crypto(), *unresolved, changes)
                    .expect("a sound commit")
            }
            _ => panic!("a commit is expected"),
        };
        self.group.merge_commit(&NoStorage, staged).expect("nothing is stored");
    }
}
