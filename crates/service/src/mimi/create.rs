//! A local user creates a room, which makes us its hub (MIMI #alice-creates-a-room). That is an act of the hub with no message
//! (D-create): the creator's client makes the group and hands it over.

use std::collections::BTreeSet;

use nabe_core::mimi::{MimiRoom, MimiUri, UnsoundRoom};
use nabe_store::{Batch, MimiWrite, StoreError, StoredReply, Write};
use nabe_wire::mls::{CipherSuite, ComponentId, GroupInfo, RatchetTree};
use nabe_wire::uri::MimiKind;
use nabe_wire::{Encode as _, Kept};

use super::rooms::{OpenRoom, append, for_local_users};
use super::{Mimi, MimiError, beside};
use crate::error::ServiceError;
use crate::idempotency::Transaction;
use crate::off_reactor::off_reactor;

/// Why a room is not created. Nothing is there then that was not there before.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CreateRefused {
    /// The URI names no room, or one of another provider.
    #[error("{0} is no room of this provider")]
    NotOurs(MimiUri),
    /// There is a room of this name.
    #[error("{0} is there already")]
    Exists(MimiUri),
    /// The same users have a room with fixed membership already (MRP #base-room-policy-component-syntax).
    #[error("the same users have {0} already, and with fixed membership they have one room")]
    SameMembers(MimiUri),
    /// The group makes no room.
    #[error(transparent)]
    Unsound(#[from] UnsoundRoom),
    /// The group's one member is a client of somebody else.
    #[error("the group's member is no client of {0}")]
    NotTheCreator(MimiUri),
    /// The hub could neither propose nor answer in the room (MIMI #authenticating-proposals), or makes no rooms of this suite.
    #[error("this provider makes no rooms of the group's cipher suite")]
    Suite,
    /// Messages would be franked by nobody, or by somebody else (MIMI #message-franking).
    #[error("the group's franking agent is not this provider's")]
    OtherFrankingAgent,
    /// It could not be found out.
    #[error(transparent)]
    Failed(#[from] MimiError),
}

impl Mimi {
    /// Creates a room of this URI with the group that a local user's client has made, itself the only member. The same again is the
    /// same room.
    ///
    /// # Errors
    ///
    /// [`CreateRefused`]
    pub async fn create_room(
        &self,
        creator: &MimiUri,
        room: &MimiUri,
        group_info: Kept<GroupInfo>,
        tree: RatchetTree,
    ) -> Result<(), CreateRefused> {
        let is_ours = |uri: &MimiUri, kind| uri.kind() == kind && uri.host() == self.domain().as_str();
        if !is_ours(room, MimiKind::Room) || !is_ours(creator, MimiKind::User) {
            return Err(CreateRefused::NotOurs(room.clone()));
        }
        let (sender, now) = (&self.state.hub.sender, self.service.now());
        let founded = off_reactor(|| MimiRoom::found(room, self.domain(), sender, &group_info, &tree, now))?;
        let (founded, outcome) = founded;
        if founded.group().members().any(|(_, member)| member.user() != creator) {
            return Err(CreateRefused::NotTheCreator(creator.clone()));
        }
        let suite = founded.group().suite();
        let scheme = CipherSuite(suite.id()).signature_scheme();
        if scheme != Some(self.state.hub.signer.signature_scheme()) || !self.service.settings().suites.contains(suite) {
            return Err(CreateRefused::Suite);
        }
        let agent = founded.group().component(ComponentId::FRANKING_AGENT);
        if agent.is_some_and(|agent| self.franking_agent().is_none_or(|own| own.to_bytes() != agent)) {
            return Err(CreateRefused::OtherFrankingAgent);
        }
        // Nobody leaves it until the room is there that depends on it.
        let parent = match beside::parent_of(founded.policy().policy()) {
            Some(parent) => self.open(&parent).await.map_err(MimiError::from)?,
            None => None,
        };
        let fits = founded.policy().fits_parent(parent.as_ref().map(OpenRoom::policy));
        fits.map_err(UnsoundRoom::from)?;
        let mut request = group_info.as_bytes().to_vec();
        tree.encode(&mut request);
        let transaction = Transaction::of_bytes(creator, "mimi/create", room, &request);
        let mimi = self.clone();
        let work = move |_, transaction: Transaction| async move {
            let (reply, keep) = transaction.keep(bytes::Bytes::new(), &mimi.service);
            let uri = founded.uri().clone();
            let mut writes = vec![Write::Mimi(MimiWrite::Found { room: uri.clone(), now })];
            writes.extend(append(&founded, &outcome, &mimi));
            writes.extend(beside::changes(None, &founded, &mimi));
            writes.extend(for_local_users(&founded, &BTreeSet::new(), &outcome.append, &mimi));
            writes.push(keep);
            mimi.service.commit(Batch(writes)).await?;
            mimi.wake_local(&uri).await;
            Ok::<StoredReply, ServiceError>(reply)
        };
        let Err(error) = self.service.once(transaction, false, work).await else {
            return Ok(());
        };
        Err(match error.clone() {
            ServiceError::Store(refused) => match &*refused {
                StoreError::FixedMembersTaken { room } => CreateRefused::SameMembers(room.clone()),
                StoreError::MimiConflict { .. } => CreateRefused::Exists(room.clone()),
                _ => MimiError::from(error).into(),
            },
            _ => MimiError::from(error).into(),
        })
    }
}
