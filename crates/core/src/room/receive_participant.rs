//! What a participant does with an event from the hub (LM #int-receiving-events): check that it is next, judge it, append it. An event
//! that is next but cannot be accepted leaves a hole, because every later event hangs on it.

use nabe_auth::lm::{AuthRejection, RoomState, Rule4Input, auth_types, authorize};
use nabe_event::{Event, Pdu, VerifiedPdu};
use nabe_types::{EventId, ServerName};

use super::RoomView;
use crate::{Ctx, Decision, Entry, EntryBody, HoleReason, Outcome, Question, Refusal, Reply, Role, State};

impl RoomView {
    /// An event whose signatures are good.
    pub(super) fn decide_pdu(
        &self,
        event: &VerifiedPdu,
        from: &ServerName,
        held: Option<&[Pdu]>,
        ctx: &Ctx<'_>,
    ) -> Result<Decision, Refusal> {
        let pdu = event.pdu();
        let hub = self.check_sender_of_pdus(from, ctx)?;
        self.check_room(pdu)?;
        if self.head() == Some(pdu.event_id()) {
            return Ok(self.already_at_head(pdu.event_id()));
        }
        let Some(prev) = pdu.prev_events().first() else {
            // Only a create event has none, and a room we take part in has its own.
            return Err(AuthRejection::SecondCreate.into());
        };
        if self.head() != Some(prev) {
            return Ok(Decision::Ask(Question::Backfill { missing: prev.clone() }));
        }
        if held.is_none() {
            let ids = auth_events_elsewhere(pdu, &self.state);
            if !ids.is_empty() {
                return Ok(Decision::Ask(Question::AuthEvents { ids }));
            }
        }
        Ok(Decision::Done(match self.judge(pdu, hub, held.unwrap_or_default()) {
            Ok(()) => self.received(pdu.clone(), ctx),
            Err(reason) => self.hole(pdu.event_id(), reason, ctx),
        }))
    }

    /// An event that can never be accepted.
    pub(super) fn decide_invalid_pdu(
        &self,
        event_id: &EventId,
        prev: &EventId,
        reason: &HoleReason,
        from: &ServerName,
        ctx: &Ctx<'_>,
    ) -> Result<Decision, Refusal> {
        self.check_sender_of_pdus(from, ctx)?;
        if self.head() == Some(event_id) {
            return Ok(self.already_at_head(event_id));
        }
        if self.head() != Some(prev) {
            return Ok(Decision::Ask(Question::Backfill { missing: prev.clone() }));
        }
        Ok(Decision::Done(self.hole(event_id, reason.clone(), ctx)))
    }

    /// Only the hub distributes events (our own check; the draft has none), and only to servers that take part
    /// (LM #int-api-send-txn, step 1).
    fn check_sender_of_pdus(&self, from: &ServerName, ctx: &Ctx<'_>) -> Result<&ServerName, Refusal> {
        let hub = match &self.meta.role {
            Role::Participant { hub } => hub,
            Role::Hub => {
                return Err(Refusal::NotFromHub {
                    hub: ctx.server.clone(),
                    from: from.clone(),
                });
            }
        };
        if from != hub {
            return Err(Refusal::NotFromHub {
                hub: hub.clone(),
                from: from.clone(),
            });
        }
        if !self.is_participating(ctx.server) {
            return Err(Refusal::NotParticipating);
        }
        Ok(hub)
    }

    /// LM #int-auth-rules as a participant can check them: rule 4 for those of the auth events that it holds.
    fn judge(&self, pdu: &Pdu, hub: &ServerName, held: &[Pdu]) -> Result<(), HoleReason> {
        if pdu.prev_events().len() != 1 {
            return Err(HoleReason::Malformed);
        }
        // Rule 2a for events without `hub_server`: those are the hub's own, or nobody vouches for their place in the room.
        if pdu.hub_server().is_none() && pdu.sender_server() != hub {
            return Err(rejected(AuthRejection::NotForCurrentHub));
        }
        let auth_events = held_auth_events(pdu, &self.state, held);
        authorize(pdu, &self.state, self.rules, &auth_events, hub).map_err(rejected)
    }

    fn already_at_head(&self, event_id: &EventId) -> Decision {
        Decision::Done(Outcome {
            append: Vec::new(),
            followers: Vec::new(),
            group: None,
            soft_failure: None,
            reply: Reply::AlreadyKnown {
                event_id: event_id.clone(),
                position: self.position,
            },
        })
    }

    /// An event the rules allow. A commit that would change the group as it must not is kept, without effect
    /// (LM #int-mls-add-remove).
    pub(super) fn received(&self, pdu: Pdu, ctx: &Ctx<'_>) -> Outcome {
        let position = self.next_position();
        let (group, soft_failure) = match self.stage_as_participant(&pdu, ctx) {
            Ok(group) => (group, None),
            Err(refusal) => (None, Some(refusal)),
        };
        Outcome {
            followers: Vec::new(),
            group,
            reply: Reply::Appended {
                event_id: pdu.event_id().clone(),
                position,
            },
            append: vec![Entry {
                position,
                lpdu_id: pdu.lpdu_id(),
                body: EntryBody::Event(pdu),
                soft_failed: soft_failure.is_some(),
                received_at: ctx.now,
            }],
            soft_failure,
        }
    }

    fn hole(&self, event_id: &EventId, reason: HoleReason, ctx: &Ctx<'_>) -> Outcome {
        let position = self.next_position();
        Outcome {
            followers: Vec::new(),
            group: None,
            soft_failure: None,
            reply: Reply::Recorded {
                event_id: event_id.clone(),
                position,
            },
            append: vec![Entry {
                position,
                lpdu_id: None,
                body: EntryBody::Hole {
                    event_id: event_id.clone(),
                    reason,
                },
                soft_failed: false,
                received_at: ctx.now,
            }],
        }
    }
}

/// The auth events of an event, as far as they are in the state that proves it, or among those `held` besides.
pub(super) fn held_auth_events<'a>(event: &Event, state: &'a State, held: &'a [Pdu]) -> Rule4Input<'a> {
    let in_state = proving(event, state);
    Rule4Input::held(event, |id| {
        let mut candidates = in_state.iter().copied().chain(held);
        candidates.find(|candidate| candidate.event_id() == id)
    })
}

/// Those auth events that must be looked for: in the state they are not. None if there are more than the rules can allow, for then
/// rule 4 is broken whatever they are.
fn auth_events_elsewhere(event: &Event, state: &State) -> Vec<EventId> {
    if event.auth_events().len() > auth_types(event).len() {
        return Vec::new();
    }
    let in_state = proving(event, state);
    let is_elsewhere = |id: &&EventId| in_state.iter().all(|found| found.event_id() != *id);
    event.auth_events().iter().filter(is_elsewhere).cloned().collect()
}

/// The current events of the types and state keys that prove an event.
fn proving<'a>(event: &Event, state: &'a State) -> Vec<&'a Pdu> {
    let types = auth_types(event).into_iter();
    types
        .filter_map(|(event_type, key)| state.get(event_type, key))
        .collect()
}

fn rejected(rejection: AuthRejection) -> HoleReason {
    HoleReason::Rejected {
        rule: rejection.rule().into(),
    }
}
