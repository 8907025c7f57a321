//! What a local user can look at: rooms, state, members, history.

use nabe_auth::lm::{Membership, RoomState};
use nabe_core::visibility::{Access, UserFacts, user_access};
use nabe_core::{Entry, RoomView, State};
use nabe_event::Event;
use nabe_signing::json::{Json, Object};
use nabe_store::{Between, MembershipAt, Order, PendingMembership, PendingRoom};
use nabe_types::{EventId, LogPosition, RoomId, RoomVersionId, ServerName, UnixMillis, UserId};

use super::ClientEvent;
use crate::error::Missing;
use crate::{Service, ServiceError};

/// A room at a glance.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RoomOverview {
    /// The room.
    pub room_id: RoomId,
    /// Its version.
    pub version: RoomVersionId,
    /// Its hub.
    pub hub: ServerName,
    /// The user's membership.
    pub membership: Membership,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Its topic, if it has one.
    pub topic: Option<String>,
    /// Its encryption algorithm, if it is encrypted.
    pub encryption: Option<String>,
    /// How many users are joined.
    pub joined_members: usize,
    /// The newest position in our log of it.
    pub head: LogPosition,
}

/// An invite that waits for an answer, or a knock.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Invitation {
    /// The room.
    pub room_id: RoomId,
    /// Whether it is an invite; otherwise the user's own knock.
    pub is_invite: bool,
    /// The server to go through.
    pub hub: ServerName,
    /// The room's version.
    pub version: RoomVersionId,
    /// Stripped state events, as the hub sent them: not to be trusted (LM #int-stripped-state).
    pub stripped_state: Json,
    /// Since when.
    pub at: UnixMillis,
}

/// A user in a room's member list.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Member {
    /// The user.
    pub user: UserId,
    /// Their membership.
    pub membership: Membership,
}

/// Which way to page through history.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// From newer to older.
    Backward,
    /// From older to newer.
    Forward,
}

/// A page of history.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HistoryPage {
    /// The events the user may read, in the direction asked for. May be fewer than asked for, even none, with more to come.
    pub events: Vec<ClientEvent>,
    /// Where the next page begins; `None` at the end of the room (or, going forward, at the present).
    pub next: Option<LogPosition>,
}

impl Service {
    /// The rooms the user is joined to, in ascending order of room ID.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn rooms(&self, user: &UserId) -> Result<Vec<RoomOverview>, ServiceError> {
        let mut rooms = Vec::new();
        for membership in self.store().rooms_of(user).await? {
            if membership.membership == Membership::Join {
                rooms.push(
                    self.read_room(&membership.room, |view| self.overview(view, user))
                        .await?,
                );
            }
        }
        Ok(rooms)
    }

    /// One room the user is or was in.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NotFound`] for a room the user never was in.
    pub async fn room(&self, user: &UserId, room: &RoomId) -> Result<RoomOverview, ServiceError> {
        if !was_joined(&self.store().membership_history(room, user).await?) {
            return Err(ServiceError::NotFound(Missing::Room));
        }
        self.read_room(room, |view| self.overview(view, user)).await
    }

    /// The user's open invites and knocks, in ascending order of room ID.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn invitations(&self, user: &UserId) -> Result<Vec<Invitation>, ServiceError> {
        Ok(self
            .store()
            .pending(user)
            .await?
            .into_iter()
            .map(Invitation::from)
            .collect())
    }

    /// The room's state: now, or as it was when the user left. In ascending order of type, then state key.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NotFound`] for a room the user never was in.
    pub async fn room_state(&self, user: &UserId, room: &RoomId) -> Result<Vec<ClientEvent>, ServiceError> {
        let state = self.readable_state(user, room).await?;
        Ok(state
            .iter()
            .map(|pdu| ClientEvent {
                position: None,
                pdu: pdu.clone(),
            })
            .collect())
    }

    /// One event of the room's state.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NotFound`] when there is none, or the user never was in the room.
    pub async fn room_state_event(
        &self,
        user: &UserId,
        room: &RoomId,
        event_type: &str,
        state_key: &str,
    ) -> Result<ClientEvent, ServiceError> {
        let state = self.readable_state(user, room).await?;
        let pdu = state
            .get(event_type, state_key)
            .cloned()
            .ok_or(ServiceError::NotFound(Missing::Event))?;
        Ok(ClientEvent { position: None, pdu })
    }

    /// Everyone the room has a membership of, in ascending order of user ID.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NotFound`] for a room the user never was in.
    pub async fn members(&self, user: &UserId, room: &RoomId) -> Result<Vec<Member>, ServiceError> {
        let state = self.readable_state(user, room).await?;
        Ok(state
            .members()
            .map(|(user, membership)| Member { user, membership })
            .collect())
    }

    /// One event the user may read.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NotFound`] otherwise.
    pub async fn room_event(
        &self,
        user: &UserId,
        room: &RoomId,
        event_id: &EventId,
    ) -> Result<ClientEvent, ServiceError> {
        let found = self.store().entry(event_id).await?.filter(|(found, _)| found == room);
        let (_, entry) = found.ok_or(ServiceError::NotFound(Missing::Event))?;
        let history = self.store().membership_history(room, user).await?;
        let mut shown = self.readable(user, room, &history, vec![entry]).await?;
        shown.pop().ok_or(ServiceError::NotFound(Missing::Event))
    }

    /// A page of the room's history: at most `limit` (1 to 100) events from `from` on, exclusive. Without `from` it begins at the
    /// present or, going forward, at the oldest event we hold. Going backward beyond that, older events are fetched from the hub.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NotFound`] for a room the user has nothing to do with, [`ServiceError::InvalidParam`] for the limit.
    pub async fn history(
        &self,
        user: &UserId,
        room: &RoomId,
        from: Option<LogPosition>,
        direction: Direction,
        limit: usize,
    ) -> Result<HistoryPage, ServiceError> {
        if limit == 0 || limit > MAX_PAGE {
            return Err(ServiceError::InvalidParam("limit"));
        }
        let history = self.store().membership_history(room, user).await?;
        if history.is_empty() {
            return Err(ServiceError::NotFound(Missing::Room));
        }
        let entries = match direction {
            Direction::Backward => self.older_entries(room, from, limit).await?,
            Direction::Forward => {
                let between = Between::after(from.unwrap_or(Between::ALL.after));
                self.store().entries(room, between, limit, Order::Ascending).await?
            }
        };
        let edge = match direction {
            Direction::Backward => entries.first(),
            Direction::Forward => entries.last(),
        };
        let is_beginning = |entry: &Entry| entry.pdu().is_some_and(|pdu| pdu.is_state_of("m.room.create", ""));
        let next = edge.filter(|entry| direction == Direction::Forward || !is_beginning(entry));
        let next = next.map(|entry| entry.position);
        let mut events = self.readable(user, room, &history, entries).await?;
        if direction == Direction::Backward {
            events.reverse();
        }
        Ok(HistoryPage { events, next })
    }

    /// Entries before a position, ascending, the hub being asked for what we do not hold.
    pub(super) async fn older_entries(
        &self,
        room: &RoomId,
        from: Option<LogPosition>,
        limit: usize,
    ) -> Result<Vec<Entry>, ServiceError> {
        let between = Between::through(from.map_or(LogPosition(i64::MAX), LogPosition::previous));
        let mut entries = self.store().entries(room, between, limit, Order::Descending).await?;
        if entries.len() < limit {
            let missing = u32::try_from(limit - entries.len()).unwrap_or(u32::MAX);
            match self.extend_history(room, missing).await {
                Ok(0) => {}
                Ok(_) => entries = self.store().entries(room, between, limit, Order::Descending).await?,
                // What we hold is an answer, too; the page says that there is more.
                Err(error) => tracing::info!(%room, %error, "could not fetch older events"),
            }
        }
        entries.reverse();
        Ok(entries)
    }

    /// Those of `entries`, which are ascending and without a gap except where we were away, that the user may read.
    async fn readable(
        &self,
        user: &UserId,
        room: &RoomId,
        history: &[MembershipAt],
        entries: Vec<Entry>,
    ) -> Result<Vec<ClientEvent>, ServiceError> {
        let mut state: Option<(LogPosition, State)> = None;
        let mut readable = Vec::new();
        for entry in entries {
            let before = match state.take() {
                Some((at, state)) if at == entry.position => state,
                _ => self.state_at(room, entry.position).await?,
            };
            if let Some(pdu) = entry.pdu().filter(|_| !entry.soft_failed) {
                let facts = UserFacts {
                    user,
                    joined_since: joined_since(history, entry.position),
                };
                if user_access(pdu, &before, &facts) == Access::Full {
                    readable.push(ClientEvent {
                        position: Some(entry.position),
                        pdu: pdu.clone(),
                    });
                }
            }
            let mut after = before;
            if let Some(event) = entry.state_event() {
                after.insert(event.clone());
            }
            state = Some((entry.position.next(), after));
        }
        Ok(readable)
    }

    /// The state before a position. In fetched history whose beginning is missing it cannot be told: the oldest state we know
    /// stands in for it, without the memberships.
    async fn state_at(&self, room: &RoomId, position: LogPosition) -> Result<State, ServiceError> {
        if let Some(state) = self.store().state_before(room, position).await? {
            return Ok(State::from_events(state));
        }
        let known = self
            .store()
            .state_before(room, LogPosition::FIRST)
            .await?
            .unwrap_or_default();
        Ok(State::from_events(
            known
                .into_iter()
                .filter(|event| event.event_type() == "m.room.history_visibility"),
        ))
    }

    async fn readable_state(&self, user: &UserId, room: &RoomId) -> Result<State, ServiceError> {
        let history = self.store().membership_history(room, user).await?;
        let last = history.last().ok_or(ServiceError::NotFound(Missing::Room))?;
        if last.membership == Membership::Join {
            return self.read_room(room, |view| view.state().clone()).await;
        }
        let left = history.windows(2).rev().find_map(|pair| match pair {
            [before, after] if before.membership == Membership::Join => Some(after.position),
            _ => None,
        });
        let left = left.ok_or(ServiceError::NotFound(Missing::Room))?;
        let state = self.store().state_before(room, left.next()).await?;
        Ok(State::from_events(state.ok_or(ServiceError::NotFound(Missing::Room))?))
    }

    fn overview(&self, view: &RoomView, user: &UserId) -> RoomOverview {
        let text = |event_type: &str, key: &str| text_in(view.state().get(event_type, "")?, key);
        RoomOverview {
            room_id: view.meta().room_id.clone(),
            version: view.meta().version.clone(),
            hub: view.meta().hub(self.server_name()).clone(),
            membership: view.membership(user),
            name: text("m.room.name", "name"),
            topic: text("m.room.topic", "topic"),
            encryption: view.state().get("m.room.create", "").and_then(|create| {
                let encryption = create.content().get("encryption").and_then(Json::as_object);
                encryption.and_then(|encryption| Some(encryption.get("algorithm")?.as_str()?.to_owned()))
            }),
            joined_members: view
                .members()
                .filter(|(_, membership)| *membership == Membership::Join)
                .count(),
            head: view.position(),
        }
    }
}

impl From<PendingRoom> for Invitation {
    fn from(pending: PendingRoom) -> Self {
        Self {
            room_id: pending.room,
            is_invite: pending.membership == PendingMembership::Invite,
            hub: pending.hub,
            version: pending.version,
            stripped_state: Json::parse(&pending.stripped_state).unwrap_or_else(|_| Json::Array(Vec::new())),
            at: pending.at,
        }
    }
}

fn text_in(event: &Event, key: &str) -> Option<String> {
    let content: &Object = event.content();
    content.get(key).and_then(Json::as_str).map(str::to_owned)
}

fn was_joined(history: &[MembershipAt]) -> bool {
    history.iter().any(|step| step.membership == Membership::Join)
}

/// Whether the user was joined at some time at or after `position`.
fn joined_since(history: &[MembershipAt], position: LogPosition) -> bool {
    let later = history.partition_point(|step| step.position <= position);
    let at = later.checked_sub(1).and_then(|index| history.get(index));
    at.is_some_and(|step| step.membership == Membership::Join) || history.get(later..).is_some_and(was_joined)
}

const MAX_PAGE: usize = 100;
