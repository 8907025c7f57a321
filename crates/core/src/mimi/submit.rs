//! Application messages (MIMI #submit-a-message): what the hub can check of something it cannot read, its stamp, and who gets it.

use nabe_auth::mimi::MessageEpoch;
use nabe_mls::mimi::MessageRefusal;
use nabe_types::ServerName;
use nabe_wire::Message as _;
use nabe_wire::franking::{Frank, FrankingAgentData, ServerFrankingContext};
use nabe_wire::mls::{CipherSuite, ComponentId};
use nabe_wire::notify::{FanoutMessage, FanoutParts};
use nabe_wire::submit_message::{Acceptance, Submission};
use nabe_wire::uri::MimiUri;

use super::entry::{Audience, MimiEntry, MimiEntryKind};
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
        let sender = &submission.sending_uri;
        let is_theirs = MimiUri::parse(sender.as_str()).is_ok_and(|uri| uri.host() == from.as_str());
        if !is_theirs {
            return Err(SubmitRefusal::OtherProvider);
        }
        let message = submission.private_message().ok_or(MessageRefusal::NotApplication)?;
        let checked = self.group.check_message(message)?;
        let behind = MessageEpoch::Behind(self.group.epoch() - checked.epoch);
        self.policy.send(sender, behind)?;
        let accepted = self.accepted_at(ctx.now);
        let context = ServerFrankingContext {
            sender_uri: sender.clone(),
            room_uri: identifier(&self.uri),
            accepted_timestamp: accepted.as_u64(),
        };
        let frank = checked.franking_tag.and_then(|tag| self.frank(&tag, &context, ctx));
        let fanout = FanoutMessage {
            timestamp: accepted.as_u64(),
            message: submission.app_message.clone(),
            with: FanoutParts::Application { frank: frank.clone() },
        };
        let audience = if self.reach.all_receive() {
            Audience::Others
        } else {
            let receiving = self.reach.receiving().filter(|provider| *provider != from);
            Audience::Only(receiving.cloned().collect())
        };
        let position = self.position.next();
        let entry = MimiEntry::new(position, MimiEntryKind::Application, from, audience, &fanout);
        Ok(Submitted {
            outcome: MimiOutcome {
                append: vec![entry],
                group: Vec::new(),
                followers: Vec::new(),
                welcomed: Vec::new(),
                left_over: None,
                accepted,
                judged: Judged::Same,
            },
            acceptance: Acceptance {
                accepted_timestamp: accepted.as_u64(),
                frank,
            },
        })
    }

    /// The hub's stamp, if the room has an agent for it (MIMI #message-franking).
    fn frank(&self, tag: &[u8; 32], context: &ServerFrankingContext, ctx: &MimiCtx<'_>) -> Option<Frank> {
        let agent = self.group.component(ComponentId::FRANKING_AGENT)?;
        let agent = FrankingAgentData::from_bytes(agent).ok()?;
        let suite = CipherSuite(self.group.suite().id());
        ctx.franking?.frank(&agent.franking_signature_key, suite, tag, context)
    }
}
