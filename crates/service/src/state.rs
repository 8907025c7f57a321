//! `GET /state` and `/state_ids`: a room's state before one of its events, and the events that justify it
//! (LM #int-api-get-state, #int-api-get-state-ids). Only the hub answers.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use nabe_core::visibility::Access;
use nabe_core::{Role, State};
use nabe_event::Pdu;
use nabe_signing::json::{Json, Object};
use nabe_signing::object;
use nabe_types::{EventId, RoomId, ServerName};

use crate::Service;
use crate::error::{Missing, ServiceError};
use crate::wire::{Shown, lists_of_events};

/// State and what justifies it.
struct StateBefore {
    state: Vec<Pdu>,
    auth_chain: Vec<Pdu>,
    access: Access,
}

impl Service {
    /// The body of `/state`: `{"auth_chain":[…],"pdus":[…]}`, redacted if the caller may not read the event itself.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NotFound`] for a room or event that is unknown, hidden from the caller, or not of this room;
    /// [`ServiceError::WrongServer`] if we are not the hub; [`ServiceError::LimitExceeded`].
    pub async fn state(&self, origin: &ServerName, room: &RoomId, event: &EventId) -> Result<Bytes, ServiceError> {
        let found = self.state_for(origin, room, event, "state").await?;
        let show = |events: Vec<Pdu>| -> Vec<Shown> {
            events
                .into_iter()
                .map(|event| match found.access {
                    Access::Full => Shown::full(&event),
                    Access::Redacted | Access::Hidden => Shown::redacted(&event),
                })
                .collect()
        };
        let (auth_chain, pdus) = (show(found.auth_chain), show(found.state));
        Ok(lists_of_events(&[("auth_chain", &auth_chain), ("pdus", &pdus)]))
    }

    /// The body of `/state_ids`: `{"auth_chain_ids":[…],"pdu_ids":[…]}`.
    ///
    /// # Errors
    ///
    /// As for [`state`](Self::state).
    pub async fn state_ids(&self, origin: &ServerName, room: &RoomId, event: &EventId) -> Result<Object, ServiceError> {
        let found = self.state_for(origin, room, event, "state_ids").await?;
        let ids =
            |events: &[Pdu]| -> Vec<Json> { events.iter().map(|event| event.event_id().as_str().into()).collect() };
        Ok(object! { "auth_chain_ids" => ids(&found.auth_chain), "pdu_ids" => ids(&found.state) })
    }

    async fn state_for(
        &self,
        origin: &ServerName,
        room: &RoomId,
        event: &EventId,
        endpoint: &'static str,
    ) -> Result<StateBefore, ServiceError> {
        self.check_policy(origin)?;
        self.limit_peer(origin, endpoint)?;
        let meta = self
            .room_meta(room)
            .await?
            .ok_or(ServiceError::NotFound(Missing::Room))?;
        if let Role::Participant { hub } = meta.role {
            return Err(ServiceError::WrongServer { hub: Some(hub) });
        }
        let missing = || ServiceError::NotFound(Missing::Event);
        let found = self
            .store()
            .entry(event)
            .await?
            .filter(|(found_in, _)| found_in == room);
        let (_, entry) = found.ok_or_else(missing)?;
        let event = entry.pdu().ok_or_else(missing)?;
        let sight = self.sight(room, origin).await?;
        self.limit_state(origin, room).await?;
        let state = self
            .store()
            .state_before(room, entry.position)
            .await?
            .ok_or_else(missing)?;
        let access = sight.of(event, entry.position, &State::from_events(state.iter().cloned()));
        if access == Access::Hidden {
            return Err(missing());
        }
        let auth_chain = self.auth_chain(room, &state).await?;
        Ok(StateBefore {
            state,
            auth_chain,
            access,
        })
    }

    /// The `auth_events` of these events, their `auth_events`, and so on, each once.
    pub(crate) async fn auth_chain(&self, room: &RoomId, events: &[Pdu]) -> Result<Vec<Pdu>, ServiceError> {
        let mut chain: BTreeMap<EventId, Pdu> = BTreeMap::new();
        let mut asked: BTreeSet<EventId> = BTreeSet::new();
        let mut wanted: Vec<EventId> = events.iter().flat_map(|event| event.auth_events().to_vec()).collect();
        loop {
            wanted.retain(|id| asked.insert(id.clone()));
            if wanted.is_empty() {
                return Ok(chain.into_values().collect());
            }
            let found = self.store().events(room, &wanted).await?;
            wanted = found.iter().flat_map(|event| event.auth_events().to_vec()).collect();
            chain.extend(found.into_iter().map(|event| (event.event_id().clone(), event)));
        }
    }
}
