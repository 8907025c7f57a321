//! One room as one server sees it: the fold of its log at one position.

mod bootstrap;
mod create;
mod followers;
mod group;
mod receive_hub;
mod receive_participant;
mod template;

use nabe_auth::lm::{Membership, RoomState};
use nabe_event::{Event, RoomVersionRules};
use nabe_mls::HubGroup;
use nabe_types::{EventId, LogPosition, ServerName, UserId};

use crate::{Checkpoint, Ctx, Decision, Entry, Input, Outcome, Refusal, Role, RoomMeta, State};

pub use bootstrap::{bootstrap_participant, rejoin_participant};
pub use create::{RoomSpec, create_room};
pub use group::{Encryption, GroupChange, StoredGroup};

/// A room at one position of its log.
///
/// `decide` never changes the view. Once an [`Outcome`] is stored, `apply` takes it in; after a failed or doubtful store the view
/// is dropped and rebuilt with [`RoomView::restore`], [`RoomView::replay`] and [`RoomView::with_group`], which are the same folds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RoomView {
    meta: RoomMeta,
    rules: &'static RoomVersionRules,
    position: LogPosition,
    head: Option<EventId>,
    state: State,
    /// A fold of its own, over the log's commits.
    group: Option<HubGroup>,
}

impl RoomView {
    /// A room of our own before its first event. Refused if we do not know its version.
    pub fn new_hub(meta: RoomMeta) -> Result<Self, Refusal> {
        Self::restore(meta, None)
    }

    /// The view at a checkpoint, or before the log's first entry. Refused if we do not know the room's version.
    pub fn restore(meta: RoomMeta, checkpoint: Option<Checkpoint>) -> Result<Self, Refusal> {
        let rules = meta.rules()?;
        let Checkpoint { position, head, state } = checkpoint.unwrap_or_default();
        Ok(Self {
            meta,
            rules,
            position,
            head,
            state: State::from_events(state),
            group: None,
        })
    }

    /// What would become of this input. Nothing changes.
    pub fn decide(&self, input: &Input, ctx: &Ctx<'_>) -> Result<Decision, Refusal> {
        match input {
            Input::Lpdu { event, from, via } => self.decide_lpdu(event, from, *via, ctx),
            Input::Draft { draft } => self.decide_draft(draft, ctx),
            Input::InviteAnswer {
                pdu,
                lpdu_id,
                signed,
                keys,
            } => self.decide_invite_answer(pdu, lpdu_id.as_ref(), signed, keys, ctx),
            Input::Pdu { event, from, held } => self.decide_pdu(event, from, held.as_deref(), ctx),
            Input::InvalidPdu {
                event_id,
                prev,
                reason,
                from,
            } => self.decide_invalid_pdu(event_id, prev, reason, from, ctx),
        }
    }

    /// Takes in what was stored.
    pub fn apply(&mut self, outcome: &Outcome) {
        outcome.append.iter().for_each(|entry| self.replay(entry));
        if let Some(change) = &outcome.group {
            self.apply_group(change);
        }
    }

    /// Takes in one entry of the log. Entries at or below the view's position are passed over. The group stays as it is: what commits
    /// do to it is stored apart, see [`RoomView::with_group`].
    pub fn replay(&mut self, entry: &Entry) {
        if entry.position <= self.position {
            return;
        }
        self.position = entry.position;
        self.head = Some(entry.event_id().clone());
        if let Some(event) = entry.state_event() {
            self.state.insert(event.clone());
        }
    }

    /// The position of the newest entry folded in; zero before the first.
    #[must_use]
    pub const fn position(&self) -> LogPosition {
        self.position
    }

    /// The ID of the newest event (or hole): what the next event names in `prev_events`.
    #[must_use]
    pub const fn head(&self) -> Option<&EventId> {
        self.head.as_ref()
    }

    /// What never changes about the room.
    #[must_use]
    pub const fn meta(&self) -> &RoomMeta {
        &self.meta
    }

    /// The rules of the room's version.
    #[must_use]
    pub const fn rules(&self) -> &'static RoomVersionRules {
        self.rules
    }

    /// The room's state, against which the next event is judged.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// The room's hub: the server of its creator (LM #int-hub-selection). `None` before `m.room.create`.
    #[must_use]
    pub fn hub(&self) -> Option<&ServerName> {
        match &self.meta.role {
            Role::Participant { hub } => Some(hub),
            Role::Hub => self.state.get("m.room.create", "").map(|create| create.sender_server()),
        }
    }

    /// The fold so far, to go on from later.
    #[must_use]
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            position: self.position,
            head: self.head.clone(),
            state: self.state.iter().cloned().collect(),
        }
    }

    /// As hub: the servers that are owed new events, in ascending order (LM #int-transport-send-events). A participant has none.
    pub fn followers(&self) -> impl Iterator<Item = &ServerName> {
        let own = self.hub();
        self.state
            .joined_servers()
            .filter(move |server| self.meta.is_hub() && Some(*server) != own)
    }

    /// Whether the server has at least one joined user.
    #[must_use]
    pub fn is_participating(&self, server: &ServerName) -> bool {
        self.state.joined_users_of(server) > 0
    }

    /// Every user the room has heard of and their membership, in ascending order of user ID.
    pub fn members(&self) -> impl Iterator<Item = (UserId, Membership)> {
        self.state.members()
    }

    /// The user's membership; [`Membership::Leave`] for one the room has never heard of.
    #[must_use]
    pub fn membership(&self, user: &UserId) -> Membership {
        self.state.membership(user)
    }

    /// How much memory the view takes, roughly, in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let group = self.group.as_ref().map_or(0, HubGroup::memory_estimate);
        size_of::<Self>() + self.state.size_bytes() + group
    }

    fn next_position(&self) -> LogPosition {
        self.position.next()
    }

    fn check_room(&self, event: &Event) -> Result<(), Refusal> {
        if *event.room_id() == self.meta.room_id {
            Ok(())
        } else {
            Err(Refusal::WrongRoom {
                found: event.room_id().clone(),
            })
        }
    }

    /// LM #int-hub-selection: what only the hub may do.
    fn check_hub(&self) -> Result<(), Refusal> {
        match &self.meta.role {
            Role::Hub => Ok(()),
            Role::Participant { hub } => Err(Refusal::NotHub { hub: hub.clone() }),
        }
    }
}
