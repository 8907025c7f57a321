//! What a hub makes of MIMI content that is reported to it (MIMI #report-abuse): the one thing that a server does with what is inside messages.
//! It says so to its operator, if there is a way for the checker to ask as one.

use nabe_content::mimi::Salt;
use nabe_content::mimi::franking::{FrankingTag, application_framing};
use nabe_signing::json::Json;
use nabe_wire::Encode as _;
use nabe_wire::app_data::AppDataDictionary;
use nabe_wire::directory::Endpoint;
use nabe_wire::mls::ComponentId;
use nabe_wire::report_abuse::{AbuseReport, AbuseType, AbusiveMessage};
use nabe_wire::submit_message::SubmitVerdict;

use super::peer::identifier;
use super::policy::ORDINARY;
use super::room::{At, MimiRoom};
use crate::case::{Checked, failed, skipped};
use crate::context::{Ctx, list, text};

/// A room with a franking agent, in which Alice says things that Bob reports.
pub(crate) struct Reporting<'a> {
    ctx: &'a Ctx,
    room: MimiRoom<'a>,
}

impl<'a> Reporting<'a> {
    /// Skips the rest of the case if the hub franks nothing.
    pub(crate) async fn begin(ctx: &'a Ctx) -> Checked<Self> {
        let mut has_agent = false;
        let mut room = MimiRoom::create_with(ctx, |plan| {
            if let Some(agent) = &plan.agent {
                has_agent = true;
                plan.draft.set(ComponentId::FRANKING_AGENT, agent.to_bytes());
            }
        })
        .await?;
        if !has_agent {
            return skipped("the rest held; the hub franks nothing, so it is shown nothing");
        }
        room.add("alice", "bob", At::Peer(0), ORDINARY).await?;
        Ok(Self { ctx, room })
    }

    /// Who says it, and where.
    pub(crate) fn alice(&self) -> (&str, &str) {
        (&self.room.client("alice").user, &self.room.uri)
    }

    /// Alice says this content, whatever it is, which the hub franks.
    pub(crate) async fn say(&mut self, salt: &Salt, content: &[u8]) -> Checked<AbusiveMessage> {
        let framed = application_framing(content);
        let tag = FrankingTag::compute(salt, &framed);
        let message = self.room.member("alice").encrypt(&framed, Some(&tag.0));
        match self.room.submit("alice", &message).await? {
            SubmitVerdict::Accepted(accepted) => match accepted.frank {
                Some(frank) => Ok(AbusiveMessage {
                    message_content: framed.into(),
                    frank,
                    accepted_timestamp: accepted.accepted_timestamp,
                }),
                None => failed("a frank", "there is none"),
            },
            other => failed("a message: accepted", format!("{other:?}")),
        }
    }

    /// Bob reports these. The hub must take it, whatever it finds, or refuse it as a request that it cannot read.
    pub(crate) async fn report(&self, what: &str, messages: Vec<AbusiveMessage>) -> Checked {
        let report = AbuseReport {
            reporting_user: identifier(&self.room.client("bob").user),
            alleged_abuser_uri: identifier(&self.room.client("alice").user),
            reason_code: AbuseType::RESERVED,
            note: "a check".into(),
            messages,
            abuse_extensions: AppDataDictionary::default(),
        };
        let peer = self.room.peer(At::Peer(0));
        let reply = peer
            .call(Endpoint::ReportAbuse, &self.room.uri, report.to_bytes())
            .await?;
        let is_answered = matches!(reply.status, 200..300) && reply.body.is_empty();
        self.ctx
            .check(&format!("{what}: taken, no body"), is_answered, || reply.brief())
    }

    /// Which of the reports its operator must be told to be about genuine messages, in the order in which they came.
    pub(crate) async fn are_genuine(&self, expected: &[bool]) -> Checked {
        are_genuine(self.ctx, &self.room.uri, expected).await
    }
}

/// Which of the reports about a room its operator is told to be about genuine messages, in the order in which they came. The last
/// question of a case: it is skipped where nobody can be asked.
pub(crate) async fn are_genuine(ctx: &Ctx, room: &str, expected: &[bool]) -> Checked {
    let mut after = 0;
    let mut verified = Vec::new();
    loop {
        let reply = ctx.subject().operator(&format!("/mimi/reports?after={after}")).await?;
        if reply.status == 404 {
            return skipped("the rest held; what the hub makes of reports it does not show");
        }
        if reply.status != 200 {
            return failed("client API GET /mimi/reports: 200", reply.brief());
        }
        let page = list(&reply.object(), "reports");
        let Some(last) = page.last() else { break };
        after = last.get("number").and_then(Json::as_i64).unwrap_or(i64::MAX);
        let of_room = page.iter().filter(|report| text(report, "room") == room);
        verified.extend(of_room.map(|report| report.get("verified") == Some(&Json::from(true))));
    }
    let what = format!("genuine to the operator: {expected:?}");
    ctx.check(&what, verified == expected, || format!("{verified:?}"))
}
