//! What proposals that mls-rs does not know do to a group: its rules let an application put proposals into a commit that are not
//! transmitted (`ProposalSource::Local`), and so the effect of an AppDataUpdate is a GroupContextExtensions proposal, and that of a
//! SelfRemove is a Remove.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use mls_rs::error::IntoAnyError;
use mls_rs::extension::ExtensionType;
use mls_rs::group::proposal::{Proposal, RemoveProposal};
use mls_rs::group::{GroupContext, Roster, Sender};
use mls_rs::mls_rules::{
    CommitDirection, CommitOptions, CommitSource, EncryptionOptions, ProposalBundle, ProposalInfo, ProposalSource,
};
use mls_rs::{Extension, MlsRules};

use super::dictionary::{Dictionary, Update};
use super::frame::{APP_DATA_UPDATE, MARK, SELF_REMOVE};
use crate::error::{Error, invalid};

/// `app_data_dictionary`
pub const APP_DATA_DICTIONARY: ExtensionType = ExtensionType::new(6);

/// References to what is pending, in the order in which the hub accepted it. mls-rs keeps proposals in a `HashMap`
/// (`ProposalCache` in `mls-rs/src/group/proposal_cache.rs`), and several updates of one component count in the commit's order.
pub type Order = Arc<Mutex<Vec<Vec<u8>>>>;

/// The rules of MIMI's rooms.
#[derive(Clone, Debug, Default)]
pub struct Rules(pub Order);

/// A commit that breaks them.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Broken(#[from] Error);

impl IntoAnyError for Broken {
    fn into_dyn_error(self) -> Result<Box<dyn std::error::Error + Send + Sync>, Self> {
        Ok(self.into())
    }
}

impl MlsRules for Rules {
    type Error = Broken;

    fn filter_proposals(
        &self,
        direction: CommitDirection,
        _: CommitSource,
        _: &Roster<'_>,
        context: &GroupContext,
        proposals: ProposalBundle,
    ) -> Result<ProposalBundle, Broken> {
        let mut all: Vec<_> = proposals.into_proposals().collect();
        if direction == CommitDirection::Send {
            let order = self.0.lock().map_err(|_| invalid("the order of proposals"))?;
            all.sort_by_key(|info| place(&order, info));
        }
        let mut updates = Vec::new();
        let mut gone = BTreeSet::new();
        let mut effects = ProposalBundle::default();
        for info in &all {
            match &info.proposal {
                Proposal::Custom(custom) => {
                    let data = custom.data().strip_prefix(MARK);
                    let data = data.ok_or_else(|| invalid("a proposal in no form that we know"))?;
                    match (custom.proposal_type().raw_value(), info.sender) {
                        (APP_DATA_UPDATE, _) => updates.push(Update::read(data)?),
                        (SELF_REMOVE, Sender::Member(leaf)) if info.is_by_reference() => {
                            gone.insert(leaf);
                        }
                        (kind, sender) => {
                            return Err(invalid(format!("a proposal of type {kind} by {sender:?}")).into());
                        }
                    }
                }
                Proposal::GroupContextExtensions(_) => {
                    return Err(invalid("a GroupContextExtensions proposal, which rooms do without").into());
                }
                _ => {}
            }
        }
        for info in all {
            effects.add(info.proposal, info.sender, info.source);
        }
        for leaf in gone {
            let remove = RemoveProposal::removing(leaf).map_err(|error| invalid(format!("{error:?}")))?;
            effects.add(Proposal::Remove(remove), Sender::Member(leaf), ProposalSource::Local);
        }
        if !updates.is_empty() {
            let mut extensions = context.extensions.clone();
            let before = extensions
                .get(APP_DATA_DICTIONARY)
                .map(|extension| extension.extension_data);
            let mut dictionary = Dictionary::read(before.as_deref().unwrap_or(&[0]))?;
            dictionary.apply(&updates)?;
            // The draft leaves a dictionary that is there in its place among the extensions (MLSX #appdataupdate). OpenMLS puts it last
            // (`apply_proposals.rs`), and a hub on OpenMLS refuses everybody who does not.
            extensions.remove(APP_DATA_DICTIONARY);
            extensions.set(Extension::new(APP_DATA_DICTIONARY, dictionary.to_bytes()));
            // It is named after a member, since mls-rs lets a member, but not whoever joins by an external commit, change extensions even in a
            // proposal that is not transmitted (`proposer_can_propose` in `mls-rs/src/group/proposal_filter/filtering.rs`).
            effects.add(
                Proposal::GroupContextExtensions(extensions),
                Sender::Member(0),
                ProposalSource::Local,
            );
        }
        Ok(effects)
    }

    fn commit_options(&self, _: &Roster<'_>, _: &GroupContext, _: &ProposalBundle) -> Result<CommitOptions, Broken> {
        Ok(CommitOptions::new()
            .with_path_required(true)
            .with_ratchet_tree_extension(false)
            .with_single_welcome_message(true)
            .with_allow_external_commit(true))
    }

    fn encryption_options(&self, _: &Roster<'_>, _: &GroupContext) -> Result<EncryptionOptions, Broken> {
        Ok(EncryptionOptions::new(false, Default::default()))
    }
}

/// What is pending as it was accepted, then what the committer proposes.
fn place(order: &[Vec<u8>], info: &ProposalInfo<Proposal>) -> usize {
    let reference = info.proposal_ref();
    let place = reference.and_then(|reference| order.iter().position(|known| known[..] == **reference));
    place.unwrap_or(usize::MAX)
}
