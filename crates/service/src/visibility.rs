//! What another server may see of a room's log: gathers the facts that `nabe_core::visibility` judges by.

use nabe_core::visibility::{Access, HistoryVisibility, ServerFacts, access};
use nabe_core::{Entry, State};
use nabe_event::Pdu;
use nabe_types::{LogPosition, RoomId, ServerName};

use crate::Service;
use crate::error::ServiceError;
use crate::wire::Shown;

/// What is known of one server's part in one room.
pub(crate) struct Sight {
    server: ServerName,
    joined_now: bool,
    world_readable_now: bool,
    /// When it had joined users. Only the hub knows the past ones.
    intervals: Vec<(LogPosition, Option<LogPosition>)>,
}

impl Sight {
    /// What the server may read of the event at `position`.
    pub(crate) fn of(&self, event: &Pdu, position: LogPosition, state_before: &State) -> Access {
        let facts = ServerFacts {
            server: &self.server,
            joined_now: self.joined_now,
            joined_since: self
                .intervals
                .iter()
                .any(|(_, until)| until.is_none_or(|until| until >= position)),
            left_before: self
                .intervals
                .iter()
                .any(|(_, until)| until.is_some_and(|until| until < position)),
            world_readable_now: self.world_readable_now,
        };
        access(event, state_before, &facts)
    }

    /// The event as the server may see it, if at all.
    pub(crate) fn show(&self, event: &Pdu, position: LogPosition, state_before: &State) -> Option<Shown> {
        match self.of(event, position, state_before) {
            Access::Full => Some(Shown::full(event)),
            Access::Redacted => Some(Shown::redacted(event)),
            Access::Hidden => None,
        }
    }
}

impl Service {
    /// Looks up what decides over a server's access. `NotFound` if the room is not in the database.
    pub(crate) async fn sight(&self, room: &RoomId, server: &ServerName) -> Result<Sight, ServiceError> {
        let (is_hub, joined_now, world_readable_now) = self
            .read_room(room, |view| {
                let visibility = HistoryVisibility::of(view.state());
                (
                    view.meta().is_hub(),
                    view.is_participating(server),
                    visibility == HistoryVisibility::WorldReadable,
                )
            })
            .await?;
        let mut intervals = Vec::new();
        if is_hub {
            let followers = self.store().followers(room).await?;
            // An interval of a single position is not a stay: it is a ban or the like about a user who never joined.
            let stays = followers
                .into_iter()
                .filter(|follower| follower.server == *server && follower.until != Some(follower.from));
            intervals.extend(stays.map(|stay| (stay.from, stay.until)));
        }
        Ok(Sight {
            server: server.clone(),
            joined_now,
            world_readable_now,
            intervals,
        })
    }

    /// The state before a position, if it can be told.
    pub(crate) async fn fold_before(
        &self,
        room: &RoomId,
        position: LogPosition,
    ) -> Result<Option<State>, ServiceError> {
        let state = self.store().state_before(room, position).await?;
        Ok(state.map(State::from_events))
    }

    /// A run of entries, ascending, as a server may see them. Holes and hidden events are left out.
    pub(crate) async fn shown_entries(
        &self,
        room: &RoomId,
        sight: &Sight,
        entries: &[Entry],
    ) -> Result<Vec<Shown>, ServiceError> {
        let Some(first) = entries.first() else {
            return Ok(Vec::new());
        };
        let Some(mut state) = self.fold_before(room, first.position).await? else {
            return Ok(Vec::new());
        };
        let mut shown = Vec::with_capacity(entries.len());
        for entry in entries {
            let Some(event) = entry.pdu() else { continue };
            shown.extend(sight.show(event, entry.position, &state));
            if let Some(event) = entry.state_event() {
                state.insert(event.clone());
            }
        }
        Ok(shown)
    }
}
