//! Case 72: reports (MIMI #report-abuse). What a hub makes of one it does not say to who reports, but to its operator, if there is a way for
//! the checker to ask as one.

use nabe_wire::Encode as _;
use nabe_wire::app_data::AppDataDictionary;
use nabe_wire::directory::Endpoint;
use nabe_wire::mls::ComponentId;
use nabe_wire::report_abuse::{AbuseReport, AbuseType, AbusiveMessage};
use nabe_wire::submit_message::SubmitVerdict;

use crate::case::{Case, Checked, Peers, Suite, failed, skipped};
use crate::context::Ctx;
use crate::mimi::content::Franked;
use crate::mimi::peer::identifier;
use crate::mimi::reporting::are_genuine;
use crate::mimi::room::{At, MimiRoom, user_uri};

pub(crate) const CASES: &[Case] = &[Case {
    id: "mimi-72",
    title: "a report of abuse",
    suite: Suite::MimiHub,
    requirements: &[
        "MIMI-abuse-to-hub",
        "MIMI-abuse-report-form",
        "MIMI-abuse-no-body",
        "MIMI-abuse-verify",
    ],
    sent: "reports of a message with its frank, with another time, with another sender and with other content; reports by a provider that has \
           no part in the room, in its own user's name and in another one's, by a user who has none, and of a room that is not there",
    expected: "the same status of the 200s without a body for each of the first four, whatever the hub finds; its operator sees that the first \
               is genuine and no other; a refusal of the 400s",
    peers: Peers::Mimi(2),
    run: run!(report),
}];

async fn report(ctx: &Ctx) -> Checked {
    let mut has_agent = false;
    let mut room = MimiRoom::create_with(ctx, |plan| {
        if let Some(agent) = &plan.agent {
            has_agent = true;
            plan.draft.set(ComponentId::FRANKING_AGENT, agent.to_bytes());
        }
    })
    .await?;
    if !has_agent {
        return skipped("the hub franks nothing");
    }
    room.add("alice", "bob", At::Peer(0), crate::mimi::policy::ORDINARY)
        .await?;
    let (alice, bob) = (room.client("alice").user.clone(), room.client("bob").user.clone());
    let franked = Franked::text(&alice, &room.uri, 3, "You fish!")?;
    let message = room
        .member("alice")
        .encrypt(&franked.application_data, Some(&franked.tag));
    let accepted = match room.submit("alice", &message).await? {
        SubmitVerdict::Accepted(accepted) => accepted,
        other => return failed("a message: accepted", format!("{other:?}")),
    };
    let Some(frank) = accepted.frank else {
        return failed("a frank", "there is none");
    };
    let time = accepted.accepted_timestamp;
    let of = |reporter: &str, abuser: &str, content: &[u8], accepted_timestamp: u64| {
        AbuseReport {
            reporting_user: identifier(reporter),
            alleged_abuser_uri: identifier(abuser),
            reason_code: AbuseType::RESERVED,
            note: "a check".into(),
            messages: vec![AbusiveMessage {
                message_content: content.into(),
                frank: frank.clone(),
                accepted_timestamp,
            }],
            abuse_extensions: AppDataDictionary::default(),
        }
        .to_bytes()
    };
    let content = &franked.application_data;
    let mut other = content.clone();
    if let Some(last) = other.last_mut() {
        *last ^= 1;
    }
    let genuine = of(&bob, &alice, content, time);
    let mut statuses = Vec::new();
    for (what, body) in [
        ("as it was", genuine.clone()),
        ("another time", of(&bob, &alice, content, time + 1)),
        ("another sender", of(&bob, &bob, content, time)),
        ("other content", of(&bob, &alice, &other, time)),
    ] {
        let reply = ctx.mimi(0).call(Endpoint::ReportAbuse, &room.uri, body).await?;
        let is_taken = (200..300).contains(&reply.status) && reply.body.is_empty();
        ctx.check(&format!("{what}: taken, no body"), is_taken, || reply.brief())?;
        statuses.push(reply.status);
    }
    let is_alike = statuses.iter().all(|status| *status == statuses[0]);
    ctx.check("all answered alike", is_alike, || format!("{statuses:?}"))?;
    let stranger = user_uri(ctx, At::Peer(1), "stranger");
    let nowhere = format!("{}x", room.uri);
    for (what, by, to, body) in [
        (
            "by a provider that has no part",
            1,
            &room.uri,
            of(&stranger, &alice, content, time),
        ),
        ("by that one in another's name", 1, &room.uri, genuine.clone()),
        (
            "by somebody who has no part",
            0,
            &room.uri,
            of(&user_uri(ctx, At::Peer(0), "ben"), &alice, content, time),
        ),
        ("of no room", 0, &nowhere, genuine),
    ] {
        let reply = ctx.mimi(by).call(Endpoint::ReportAbuse, to, body).await?;
        let is_refused = (400..500).contains(&reply.status);
        ctx.check(&format!("{what}: refused"), is_refused, || reply.brief())?;
    }
    are_genuine(ctx, &room.uri, &[true, false, false, false]).await
}
