//! What the hub does with an event (LM #int-receiving-events, LM #int-api-send-txn): complete it, judge it, append it.

use nabe_auth::lm::{Rule4Input, authorize, select_auth_events};
use nabe_event::{Completion, Dropped, Event, EventBuilder, Pdu, RawEvent, VerifiedLpdu};
use nabe_mls::Meanwhile;
use nabe_signing::json::Object;
use nabe_signing::keys::KeySet;
use nabe_signing::{Signature, Signer};
use nabe_types::{EventId, KeyId, ServerName, UserId};

use super::followers::{follower_change, member_target};
use super::{GroupChange, RoomView};
use crate::state::JOIN;
use crate::{BadInviteAnswer, Ctx, Decision, Entry, EntryBody, EventDraft, Outcome, Question, Refusal, Reply, Via};

impl RoomView {
    /// LM #int-lpdu: a participant's event becomes a PDU. Signature and hash were checked on the way to [`VerifiedLpdu`]; the
    /// rules come before our own signature, so that a refusal costs little.
    pub(super) fn decide_lpdu(
        &self,
        lpdu: &VerifiedLpdu,
        from: &ServerName,
        via: Via,
        ctx: &Ctx<'_>,
    ) -> Result<Decision, Refusal> {
        let event = lpdu.event();
        self.check_hub()?;
        self.check_room(event)?;
        if event.sender_server() != from {
            return Err(Refusal::OriginIsNotSender {
                origin: from.clone(),
                sender: event.sender().clone(),
            });
        }
        check_made_for(event, ctx.server)?;
        self.check_endpoint(event, via)?;
        authorize(event, &self.state, self.rules, &Rule4Input::NotChecked, ctx.server)?;
        let completion = Completion {
            auth_events: select_auth_events(event, &self.state),
            prev_events: self.head.iter().cloned().collect(),
        };
        let (group, pdu) = if self.is_commit(event) {
            // Hashing and signing an event as large as this one takes a while, and does not depend on what the commit is found to be.
            let sealing = Sealing {
                lpdu: lpdu.clone(),
                completion,
                signer: ctx.signer.clone(),
            };
            let sealing = Meanwhile::offer(sealing, Sealing::seal);
            let group = self.stage_as_hub(event, ctx)?;
            (group, sealing.finish()?)
        } else {
            (None, lpdu.complete(completion, ctx.signer)?)
        };
        Ok(self.place(pdu, Some(lpdu.lpdu_id().clone()), group, ctx))
    }

    /// An event of one of our own users.
    pub(super) fn decide_draft(&self, draft: &EventDraft, ctx: &Ctx<'_>) -> Result<Decision, Refusal> {
        self.check_hub()?;
        let pdu = self.author(draft, ctx)?;
        let group = self.stage_as_hub(&pdu, ctx)?;
        Ok(self.place(pdu, None, group, ctx))
    }

    /// LM #int-api-invite: the invited user's server has answered. Its signature is checked and taken over; nothing else of what it
    /// sent is.
    pub(super) fn decide_invite_answer(
        &self,
        pdu: &Pdu,
        lpdu_id: Option<&EventId>,
        signed: &Object,
        keys: &KeySet,
        ctx: &Ctx<'_>,
    ) -> Result<Decision, Refusal> {
        self.check_hub()?;
        self.check_room(pdu)?;
        if self.head.as_ref().map(std::slice::from_ref) != Some(pdu.prev_events()) {
            return Err(Refusal::HeadMoved);
        }
        let target = invited_user(pdu).ok_or(BadInviteAnswer::NotAnInvite)?;
        authorize(pdu, &self.state, self.rules, &Rule4Input::NotChecked, ctx.server)?;
        let pdu = with_signature_of(pdu, target.server_name(), signed, keys)?;
        Ok(Decision::Done(self.appended(pdu, lpdu_id.cloned(), ctx)))
    }

    /// An event of a user of ours, complete, signed and allowed.
    pub(super) fn author(&self, draft: &EventDraft, ctx: &Ctx<'_>) -> Result<Pdu, Refusal> {
        if draft.sender.server_name() != ctx.server {
            return Err(Refusal::NotLocal {
                user: draft.sender.clone(),
            });
        }
        let builder = self.builder(draft);
        let auth_events = select_auth_events(&builder.clone().unsigned(self.rules)?, &self.state);
        let prev_events = self.head.iter().cloned().collect();
        let pdu = builder.build_pdu(ctx.signer, auth_events, prev_events, self.rules)?;
        authorize(&pdu, &self.state, self.rules, &Rule4Input::NotChecked, ctx.server)?;
        Ok(pdu)
    }

    pub(super) fn builder(&self, draft: &EventDraft) -> EventBuilder {
        let builder = EventBuilder::new(
            self.meta.room_id.clone(),
            draft.event_type.clone(),
            draft.sender.clone(),
            draft.origin_server_ts,
            draft.content.clone(),
        );
        match &draft.state_key {
            Some(state_key) => builder.state_key(state_key.clone()),
            None => builder,
        }
    }

    pub(super) fn appended(&self, pdu: Pdu, lpdu_id: Option<EventId>, ctx: &Ctx<'_>) -> Outcome {
        let position = self.next_position();
        Outcome {
            followers: follower_change(&self.state, &pdu, position, ctx.server)
                .into_iter()
                .collect(),
            group: None,
            soft_failure: None,
            reply: Reply::Appended {
                event_id: pdu.event_id().clone(),
                position,
            },
            append: vec![Entry {
                position,
                lpdu_id,
                body: EntryBody::Event(pdu),
                soft_failed: false,
                received_at: ctx.now,
            }],
        }
    }

    /// Appends, or asks the server of an invited user first unless it takes part already (LM #int-transport-invites).
    fn place(&self, pdu: Pdu, lpdu_id: Option<EventId>, group: Option<GroupChange>, ctx: &Ctx<'_>) -> Decision {
        let outsider = invited_user(&pdu)
            .map(|user| user.server_name().clone())
            .filter(|server| server != ctx.server && !self.is_participating(server));
        match outsider {
            Some(target) => Decision::Ask(Question::InviteSignature { pdu, lpdu_id, target }),
            None => Decision::Done(Outcome {
                group,
                ..self.appended(pdu, lpdu_id, ctx)
            }),
        }
    }

    /// What each endpoint takes (LM #int-transport-room-membership). A server that does not take part yet must be welcomed in through
    /// `/send_join`, which hands it the state; a join of its first user is not accepted any other way.
    fn check_endpoint(&self, event: &Event, via: Via) -> Result<(), Refusal> {
        let membership = event.membership().filter(|_| member_target(event).is_some());
        let is_own = event.state_key() == Some(event.sender().as_str());
        let fits = match via {
            Via::Send => membership != Some(JOIN) || !is_own || self.is_participating(event.sender_server()),
            Via::Invite => membership == Some("invite"),
            Via::Join => membership == Some(JOIN) && is_own,
            Via::Leave => membership == Some("leave") && is_own,
            Via::Knock => membership == Some("knock") && is_own,
        };
        if fits {
            Ok(())
        } else {
            Err(Refusal::UnfitForEndpoint { via })
        }
    }
}

/// An LPDU that becomes a PDU.
struct Sealing {
    lpdu: VerifiedLpdu,
    completion: Completion,
    signer: Signer,
}

impl Sealing {
    fn seal(&self) -> Result<Pdu, Dropped> {
        self.lpdu.complete(self.completion.clone(), &self.signer)
    }
}

/// Rule 2a, first: an event for another hub is not ours to judge further.
fn check_made_for(event: &Event, hub: &ServerName) -> Result<(), Refusal> {
    match event.hub_server() {
        Some(named) if named != hub => Err(Refusal::WrongHub {
            named: named.clone(),
            hub: hub.clone(),
        }),
        _ => Ok(()),
    }
}

fn invited_user(event: &Event) -> Option<UserId> {
    member_target(event).filter(|_| event.membership() == Some("invite"))
}

/// Our event with the valid signatures of `server` that `signed` carries (LM #int-api-invite).
fn with_signature_of(pdu: &Pdu, server: &ServerName, signed: &Object, keys: &KeySet) -> Result<Pdu, Refusal> {
    let mut signed = signed.clone();
    // Known implementations add these two to every event they return.
    for local in ["event_id", "unsigned"] {
        if !pdu.object().contains_key(local) {
            signed.remove(local);
        }
    }
    if without_signatures(&signed) != without_signatures(pdu.object()) {
        return Err(BadInviteAnswer::Changed.into());
    }
    let signed = RawEvent::from_json(signed, pdu.rules())?;
    let mut countersigned = pdu.clone();
    for (key, signature) in signed.signatures_by(server).into_iter().flatten() {
        let Ok(key) = KeyId::parse(key) else { continue };
        // A key nobody knows proves nothing; such a signature is not kept.
        if keys.for_event(server, &key, pdu.origin_server_ts()).is_none() {
            continue;
        }
        let signature = signature.as_str().and_then(|text| Signature::from_base64(text).ok());
        let signature = signature.ok_or(BadInviteAnswer::BadSignature)?;
        countersigned = countersigned.with_extra_signature(server, &key, &signature)?;
    }
    if countersigned.signatures_by(server).is_none() {
        return Err(BadInviteAnswer::NotSigned.into());
    }
    countersigned
        .verify_signature_by(server, keys)
        .map_err(|_| BadInviteAnswer::BadSignature)?;
    Ok(countersigned)
}

fn without_signatures(object: &Object) -> Vec<u8> {
    let mut bytes = Vec::new();
    object.write_canonical_without(&mut bytes, &["signatures"]);
    bytes
}
