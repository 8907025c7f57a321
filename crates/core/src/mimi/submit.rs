//! Application messages (MIMI #submit-a-message): what the hub can check of something it cannot read, its stamp, and who gets it.

use nabe_auth::mimi::MessageEpoch;
use nabe_mls::mimi::MessageRefusal;
use nabe_types::{LogPosition, ServerName, UnixMillis};
use nabe_wire::franking::{Frank, FrankingAgentData, ServerFrankingContext};
use nabe_wire::mls::{CipherSuite, ComponentId};
use nabe_wire::submit_message::{Acceptance, Submission};
use nabe_wire::uri::MimiUri;
use nabe_wire::{Encode as _, Message as _};

use super::entry::{Audience, MimiEntry, MimiEntryKind};
use super::reach::Reached;
use super::refusal::SubmitRefusal;
use super::{Judged, MimiCtx, MimiOutcome, MimiRoom, identifier};

/// A message that is accepted.
#[derive(Debug)]
pub struct Submitted {
    /// What to store.
    pub outcome: MimiOutcome,
    /// What to answer.
    pub acceptance: Acceptance,
}

impl MimiRoom {
    /// Whether the hub takes a message of a user of this provider. Nothing changes.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn submit(
        &self,
        from: &ServerName,
        submission: &Submission,
        ctx: &MimiCtx<'_>,
    ) -> Result<Submitted, SubmitRefusal> {
        let (entry, acceptance) = self.accept(from, submission, (self.position, self.newest), ctx)?;
        let outcome = said(entry);
        Ok(Submitted { outcome, acceptance })
    }

    /// The same for messages that came together, in their order: as if each that is taken were applied before the next one. One outcome
    /// for all that are taken, if any is.
    pub fn submit_all<'s>(
        &self,
        submissions: impl IntoIterator<Item = (&'s ServerName, &'s Submission)>,
        ctx: &MimiCtx<'_>,
    ) -> (Vec<Result<Acceptance, SubmitRefusal>>, Option<MimiOutcome>) {
        let mut outcome: Option<MimiOutcome> = None;
        let take = |(from, submission)| {
            let newest = outcome.as_ref().and_then(|outcome| outcome.append.last());
            // Of the room nothing else changes with a message.
            let newest = newest.map_or((self.position, self.newest), |entry| (entry.position, entry.accepted));
            let (entry, acceptance) = self.accept(from, submission, newest, ctx)?;
            match &mut outcome {
                None => outcome = Some(said(entry)),
                Some(outcome) => {
                    outcome.accepted = entry.accepted;
                    outcome.append.push(entry);
                }
            }
            Ok(acceptance)
        };
        let answers = submissions.into_iter().map(take).collect();
        (answers, outcome)
    }

    /// The entry that a message becomes after the newest one, which is at this position and was accepted at this time.
    fn accept(
        &self,
        from: &ServerName,
        submission: &Submission,
        (position, newest): (LogPosition, UnixMillis),
        ctx: &MimiCtx<'_>,
    ) -> Result<(MimiEntry, Acceptance), SubmitRefusal> {
        let sender = &submission.sending_uri;
        let is_theirs = MimiUri::parse(sender.as_str()).is_ok_and(|uri| uri.host() == from.as_str());
        if !is_theirs {
            return Err(SubmitRefusal::OtherProvider);
        }
        let message = submission.private_message().ok_or(MessageRefusal::NotApplication)?;
        let checked = match self.group.check_message(message) {
            Ok(checked) => checked,
            // Nobody hears the epoch who may not send in any.
            Err(refusal) => {
                self.policy.send(sender, MessageEpoch::Behind(0))?;
                return Err(refusal.into());
            }
        };
        let behind = MessageEpoch::Behind(self.group.epoch() - checked.epoch);
        self.policy.send(sender, behind)?;
        let accepted = ctx.now.max(newest);
        let context = ServerFrankingContext {
            sender_uri: sender.clone(),
            room_uri: identifier(&self.uri),
            accepted_timestamp: accepted.as_u64(),
        };
        let frank = checked.franking_tag.and_then(|tag| self.frank(&tag, &context, ctx));
        let audience = if self.reach.all_receive() {
            Audience::Others
        } else {
            let receiving = self.reach.receiving().filter(|provider| *provider != from);
            Audience::Only(receiving.cloned().collect())
        };
        let place = (position.next(), MimiEntryKind::Application);
        let (message, with) = (&submission.app_message, |out: &mut Vec<u8>| frank.encode(out));
        let entry = MimiEntry::new(place, from, audience, accepted, message, with);
        let acceptance = Acceptance {
            accepted_timestamp: accepted.as_u64(),
            frank,
        };
        Ok((entry, acceptance))
    }

    /// The hub's stamp, if the room has an agent for it (MIMI #message-franking).
    fn frank(&self, tag: &[u8; 32], context: &ServerFrankingContext, ctx: &MimiCtx<'_>) -> Option<Frank> {
        let agent = self.group.component(ComponentId::FRANKING_AGENT)?;
        let agent = FrankingAgentData::from_bytes(agent).ok()?;
        let suite = CipherSuite(self.group.suite().id());
        ctx.franking?.frank(&agent.franking_signature_key, suite, tag, context)
    }
}

/// A message is in the log; nothing else changes.
fn said(entry: MimiEntry) -> MimiOutcome {
    MimiOutcome {
        accepted: entry.accepted,
        append: vec![entry],
        group: Vec::new(),
        followers: Vec::new(),
        welcomed: Vec::new(),
        to_add: Vec::new(),
        left_over: None,
        judged: Judged::Same,
        next_epoch: None,
        reached: Reached::Same,
    }
}
