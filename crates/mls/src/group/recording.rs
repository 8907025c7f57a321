//! Groups that other implementations recorded, followed by the code that follows a room's: the same reading, staging, membership, keys,
//! storing and restoring. What is left out is what is a room's alone: its rules ([`Rules`]) and the group state that comes with each of a
//! room's commits. What is added is that proposals are also sent by themselves.

use std::sync::Arc;

use bytes::Bytes;
use nabe_types::{DeviceRef, UnixMillis};
use openmls::framing::{ProcessedMessageContent, ProtocolMessage};
use openmls::group::GroupContext;
use openmls::messages::group_info::VerifiableGroupInfo;
use openmls::treesync::RatchetTreeIn;
use tls_codec::Serialize as _;

use super::rules::Rules;
use super::{HubGroup, StagedChange, State, parse_public_message};
use crate::group_info::GroupInfoBytes;
use crate::overdue;
use crate::provider::{NoStorage, crypto};
use crate::refusal::GroupRefusal;
use crate::stored::RestoreError;
use crate::suite::Suite;

/// The public side of a recorded group, as a hub sees it.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct RecordedGroup {
    /// Nobody else has it: proposals are kept in it.
    group: HubGroup,
}

impl RecordedGroup {
    /// Begins with what whoever joins gets. The tree may be in it or come beside it.
    pub(crate) fn begin(info: &VerifiableGroupInfo, tree: Option<RatchetTreeIn>) -> Result<Self, GroupRefusal> {
        let malformed = |_| GroupRefusal::GroupStateMalformed;
        let bytes = info
            .tls_serialize_detached()
            .map_err(|_| GroupRefusal::GroupStateMalformed)?;
        let info = GroupInfoBytes::parse(&bytes).map_err(malformed)?;
        let suite = Suite::from_id(info.suite).ok_or(GroupRefusal::WrongSuite)?;
        let rules = Rules::Recording;
        let room = rules.room(info.group_id).ok_or(GroupRefusal::GroupStateWrongGroup)?;
        let state = State::new(overdue::load(&info, tree)?, room, suite, rules)?;
        Ok(Self {
            group: HubGroup { state: Arc::new(state) },
        })
    }

    /// Keeps a proposal for the commit that will refer to it.
    pub(crate) fn propose(&mut self, message: &[u8]) -> Result<(), GroupRefusal> {
        let state = Arc::get_mut(&mut self.group.state).expect("nobody else has it");
        let message = ProtocolMessage::from(parse_public_message(message)?);
        match state.group.process_message(crypto(), message)?.into_content() {
            ProcessedMessageContent::ProposalMessage(proposal)
            | ProcessedMessageContent::ExternalJoinProposalMessage(proposal) => {
                let Ok(()) = state.group.add_proposal(&NoStorage, *proposal);
                Ok(())
            }
            _ => Err(GroupRefusal::NotACommit),
        }
    }

    /// Checks a commit as [`HubGroup::stage`] does.
    pub(crate) fn stage(&self, message: &[u8]) -> Result<StagedChange, GroupRefusal> {
        let state = &*self.group.state;
        let judged = state.judge(state.read(message)?, message, UnixMillis(0))?;
        Ok(state.change(judged))
    }

    /// Takes in a change as it was stored.
    pub(crate) fn replay(&mut self, bytes: &[u8]) -> Result<(), RestoreError> {
        self.group.merge_bytes(bytes)
    }

    /// The whole group as bytes.
    pub(crate) fn checkpoint(&self) -> Bytes {
        self.group.checkpoint()
    }

    /// The group as it comes back from its checkpoint. Proposals that nothing refers to yet are gone, so this is for when an epoch has
    /// just begun.
    pub(crate) fn restored(&self) -> Result<Self, RestoreError> {
        let group = HubGroup::restore_by(Rules::Recording, &self.checkpoint())?;
        Ok(Self { group })
    }

    /// What all who are in one epoch agree on, the tree's hash in it.
    pub(crate) fn context(&self) -> &GroupContext {
        self.group.state.group.group_context()
    }

    /// The members in the order of their leaves.
    pub(crate) fn members(&self) -> impl ExactSizeIterator<Item = &DeviceRef> {
        self.group.members()
    }
}
