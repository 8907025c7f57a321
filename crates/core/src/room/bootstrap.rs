//! Entering a room another server is the hub of, with what `send_join` returned (LM #int-api-send-join).

use std::collections::BTreeSet;

use nabe_auth::lm::{RoomState, Rule4Input, authorize};
use nabe_event::Pdu;
use nabe_signing::json::Json;
use nabe_types::{EventId, LogPosition, ServerName};

use super::RoomView;
use super::receive_participant::held_auth_events;
use crate::backfill::{Gap, Link, close_gap};
use crate::state::{JOIN, MEMBER};
use crate::{BadSnapshot, Checkpoint, Ctx, Outcome, Refusal, Role, RoomMeta, State};

/// The beginning of a participant's log: the state before our join as a checkpoint at position 0, and the join at 1. The view returned
/// has the join applied already. `state` and `join` were verified event by event.
pub fn bootstrap_participant(
    meta: RoomMeta,
    state: Vec<Pdu>,
    join: Pdu,
    ctx: &Ctx<'_>,
) -> Result<(RoomView, Checkpoint, Outcome), Refusal> {
    begin(meta, LogPosition::ZERO, state, join, ctx)
}

/// The continuation of a participant's log after time away. `known` is the view at the log's newest position; the checkpoint stands at
/// the place after it, which holds no event and marks the gap, and the join follows. A room keeps its create event, and with it its
/// creator and its encryption: a hub that names another is refused.
pub fn rejoin_participant(
    known: &RoomView,
    state: Vec<Pdu>,
    join: Pdu,
    ctx: &Ctx<'_>,
) -> Result<(RoomView, Checkpoint, Outcome), Refusal> {
    let begun = begin(known.meta().clone(), known.position().next(), state, join, ctx)?;
    if !known.begins_like(begun.0.state()) {
        return Err(BadSnapshot::OtherCreate.into());
    }
    Ok(begun)
}

impl RoomView {
    /// Whether a state has the create event of this room.
    #[must_use]
    pub fn begins_like(&self, state: &State) -> bool {
        let create = |state: &State| state.get(CREATE, "").map(|event| event.event_id().clone());
        create(&self.state) == create(state)
    }
}

fn begin(
    meta: RoomMeta,
    at: LogPosition,
    state: Vec<Pdu>,
    join: Pdu,
    ctx: &Ctx<'_>,
) -> Result<(RoomView, Checkpoint, Outcome), Refusal> {
    let Role::Participant { hub } = meta.role.clone() else {
        return Err(BadSnapshot::WrongHub {
            hub: ctx.server.clone(),
        }
        .into());
    };
    let before_join = check_join(&meta, &join, ctx)?;
    let state = assemble(&meta, state, &join, &before_join)?;
    check_create(&meta, &state, &hub)?;
    let checkpoint = Checkpoint {
        position: at,
        head: Some(before_join),
        state: state.iter().cloned().collect(),
    };
    let mut view = RoomView::restore(meta, Some(checkpoint.clone()))?;
    if join.hub_server() != Some(&hub) {
        return Err(nabe_auth::lm::AuthRejection::NotForCurrentHub.into());
    }
    authorize(&join, &state, view.rules, &held_auth_events(&join, &state, &[]), &hub)?;
    let outcome = view.received(join, ctx);
    view.apply(&outcome);
    Ok((view, checkpoint, outcome))
}

/// The join must be one of our users' own. Returns the event before it.
fn check_join(meta: &RoomMeta, join: &Pdu, ctx: &Ctx<'_>) -> Result<EventId, BadSnapshot> {
    let is_ours = *join.room_id() == meta.room_id
        && join.is_state_of(MEMBER, join.sender().as_str())
        && join.membership() == Some(JOIN)
        && join.sender_server() == ctx.server;
    match join.prev_events() {
        [prev] if is_ours => Ok(prev.clone()),
        _ => Err(BadSnapshot::NotOurJoin),
    }
}

/// The hub must be the creator's server (LM #int-hub-selection), the version what we were told, and the event one that may begin
/// a room (rule 3 of LM #int-auth-rules).
fn check_create(meta: &RoomMeta, state: &State, hub: &ServerName) -> Result<(), Refusal> {
    let create = state.get(CREATE, "").ok_or(BadSnapshot::NoCreate)?;
    if create.sender_server() != hub {
        let hub = create.sender_server().clone();
        return Err(BadSnapshot::WrongHub { hub }.into());
    }
    if create.content().get("room_version").and_then(Json::as_str) != Some(meta.version.as_str()) {
        return Err(BadSnapshot::WrongVersion.into());
    }
    authorize(create, &State::default(), meta.rules()?, &Rule4Input::NotChecked, hub)?;
    Ok(())
}

/// The state before the join. One known implementation returns the whole timeline instead of the state; if types and state keys repeat,
/// the events are folded along their chain, provided it is complete.
fn assemble(meta: &RoomMeta, events: Vec<Pdu>, join: &Pdu, before_join: &EventId) -> Result<State, BadSnapshot> {
    if let Some(stray) = events.iter().find(|event| *event.room_id() != meta.room_id) {
        return Err(BadSnapshot::WrongRoom {
            event: stray.event_id().clone(),
        });
    }
    let events: Vec<Pdu> = events
        .into_iter()
        .filter(|event| event.event_id() != join.event_id())
        .collect();
    let mut seen = BTreeSet::new();
    let repeated = events
        .iter()
        .filter(|event| event.is_state())
        .find(|event| !seen.insert((event.event_type(), event.state_key())))
        .map(|event| event.event_id().clone());
    let Some(repeated) = repeated else {
        return Ok(events.into_iter().collect());
    };
    let create = events
        .iter()
        .find(|event| event.is_state_of(CREATE, ""))
        .ok_or(BadSnapshot::NoCreate)?
        .clone();
    let links = events
        .into_iter()
        .map(|event| Link {
            event_id: event.event_id().clone(),
            prev: event.prev_events().first().cloned(),
            item: event,
        })
        .collect();
    match close_gap(create.event_id(), before_join, links) {
        Gap::Closed(later) => Ok(std::iter::once(create).chain(later).collect()),
        Gap::Open { .. } | Gap::Unrelated => Err(BadSnapshot::Duplicate { event: repeated }),
    }
}

const CREATE: &str = "m.room.create";
