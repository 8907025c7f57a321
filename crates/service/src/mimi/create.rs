//! A local user creates a room, which makes us its hub (MIMI #alice-creates-a-room). That is an act of the hub with no message
//! (D-create): the creator's client makes the group and hands it over.

use std::collections::BTreeSet;

use nabe_core::mimi::{MimiOutcome, MimiRoom, MimiUri, UnsoundRoom};
use nabe_store::{Batch, MimiWrite, StoreError, StoredReply, Write};
use nabe_types::UnixMillis;
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

/// What a local user's client hands over.
struct Asked {
    creator: MimiUri,
    room: MimiUri,
    group_info: Kept<GroupInfo>,
    tree: RatchetTree,
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
        let mut request = group_info.as_bytes().to_vec();
        tree.encode(&mut request);
        let transaction = Transaction::of_bytes(creator, "mimi/create", room, &request);
        let asked = Asked {
            creator: creator.clone(),
            room: room.clone(),
            group_info,
            tree,
        };
        let mimi = self.clone();
        // The parent room stays locked until this one is there, be the caller still waiting or not.
        let created = tokio::spawn(async move { mimi.found(asked, transaction).await });
        created
            .await
            .unwrap_or_else(|_| Err(MimiError::from(ServiceError::ShuttingDown).into()))
    }

    async fn found(&self, asked: Asked, transaction: Transaction) -> Result<(), CreateRefused> {
        // What is there is there, whatever has become of its parent or of our keys since.
        let is_there = self.service.reply_to(&transaction).await.map_err(MimiError::from)?;
        if is_there.is_some() {
            return Ok(());
        }
        let now = self.service.now();
        let (founded, outcome) = self.founded(&asked, now)?;
        // Nobody leaves it until the room is there that depends on it.
        let parent = match beside::parent_of(founded.policy().policy()) {
            Some(parent) => self.open(&parent).await.map_err(MimiError::from)?,
            None => None,
        };
        let fits = founded.policy().fits_parent(parent.as_ref().map(OpenRoom::policy));
        fits.map_err(UnsoundRoom::from)?;
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
        let done = self.service.once(transaction, false, work).await;
        if parent.is_some() {
            self.wake_children();
        }
        let Err(error) = done else {
            return Ok(());
        };
        Err(match error.clone() {
            ServiceError::Store(refused) => match &*refused {
                StoreError::FixedMembersTaken { room } => CreateRefused::SameMembers(room.clone()),
                StoreError::MimiConflict { .. } => CreateRefused::Exists(asked.room),
                _ => MimiError::from(error).into(),
            },
            _ => MimiError::from(error).into(),
        })
    }

    /// The room by itself, as the hub would have it.
    fn founded(&self, asked: &Asked, now: UnixMillis) -> Result<(MimiRoom, MimiOutcome), CreateRefused> {
        let sender = &self.state.hub.sender;
        let (founded, outcome) =
            off_reactor(|| MimiRoom::found(&asked.room, self.domain(), sender, &asked.group_info, &asked.tree, now))?;
        if founded
            .group()
            .members()
            .any(|(_, member)| *member.user() != asked.creator)
        {
            return Err(CreateRefused::NotTheCreator(asked.creator.clone()));
        }
        let suite = founded.group().suite();
        let scheme = CipherSuite(suite.id()).signature_scheme();
        if scheme != Some(self.state.hub.signer.signature_scheme()) || !self.service.settings().suites.contains(suite) {
            return Err(CreateRefused::Suite);
        }
        if self.has_other_agent(&founded) {
            return Err(CreateRefused::OtherFrankingAgent);
        }
        Ok((founded, outcome))
    }

    /// Whether the room has a franking agent, and it is not ours: then nothing in it is franked.
    pub(super) fn has_other_agent(&self, room: &MimiRoom) -> bool {
        let agent = room.group().component(ComponentId::FRANKING_AGENT);
        agent.is_some_and(|agent| self.franking_agent().is_none_or(|own| own.to_bytes() != agent))
    }
}
