//! Cases 61 to 66: messages and franks (MIMI #submit-a-message, MIMI #message-franking).

use std::collections::BTreeSet;

use nabe_mls::testing::mimi::Change;
use nabe_wire::Encode as _;
use nabe_wire::directory::Endpoint;
use nabe_wire::mls::{CipherSuite, ComponentId, FramedContentBody, PrivateMessage};
use nabe_wire::notify::{FanoutMessage, FanoutParts};
use nabe_wire::submit_message::{SubmitMessageResponse, SubmitVerdict};

use crate::case::{Case, Checked, Peers, Suite, failed, skipped};
use crate::context::Ctx;
use crate::mimi::content::{Franked, is_genuine};
use crate::mimi::peer::read;
use crate::mimi::policy::{DEAF, ORDINARY, READER};
use crate::mimi::room::{At, MimiRoom, Plan, private, submission, verdict};

pub(crate) const CASES: &[Case] = &[
    Case {
        id: "mimi-61",
        title: "a message of the current epoch",
        suite: Suite::MimiHub,
        requirements: &[
            "MIMI-submit-response-form",
            "MIMI-fanout-to-whom",
            "MIMI-fanout-message-form",
            "MIMI-frank-aad-form",
        ],
        sent: "messages with and without a franking tag, in rooms with and without an agent",
        expected: "accepted; each of the others has it once, the subject's own user the same as the other provider, in no notification that comes \
                   twice; a frank where there are tag and agent, and only there",
        peers: Peers::Mimi(2),
        run: run!(current_epoch),
    },
    Case {
        id: "mimi-62",
        title: "the frank",
        suite: Suite::MimiHub,
        requirements: &["MIMI-frank-integrity-signature", "MIMI-frank-server-frank"],
        sent: "a message with a franking tag",
        expected: "the agent's signature over sender, room and time verifies, of answer and fan-out alike, and over nothing else",
        peers: Peers::Mimi(2),
        run: run!(frank),
    },
    Case {
        id: "mimi-63",
        title: "messages of other epochs",
        suite: Suite::MimiHub,
        requirements: &["MIMI-submit-response-form", "MIMI-submit-future-epoch"],
        sent: "a message of the epoch before, and one of the epoch after",
        expected: "epochTooOld with the current epoch; notAllowed",
        peers: Peers::Mimi(2),
        run: run!(other_epochs),
    },
    Case {
        id: "mimi-64",
        title: "who may send",
        suite: Suite::MimiHub,
        requirements: &["MIMI-submit-sender-active", "MRP-message-send"],
        sent: "messages in the name of somebody who is not listed, of another provider's user, and of a role without canSendMessage",
        expected: "notAllowed",
        peers: Peers::Mimi(2),
        run: run!(who_may_send),
    },
    Case {
        id: "mimi-64b",
        title: "who may not hear",
        suite: Suite::MimiHub,
        requirements: &["MRP-message-receive"],
        sent: "a message and a commit, in a room where one provider has only a user without canReceiveMessage",
        expected: "that provider gets the commit and not the message",
        peers: Peers::Mimi(2),
        run: run!(who_may_hear),
    },
    Case {
        id: "mimi-65",
        title: "what is no message",
        suite: Suite::MimiHub,
        requirements: &["MIMI-submit-request-form", "MIMI-mls-app-private"],
        sent: "a public message by submitMessage",
        expected: "notAllowed or 400",
        peers: Peers::Mimi(2),
        run: run!(public_message),
    },
    Case {
        id: "mimi-66",
        title: "a franking tag of another length",
        suite: Suite::MimiHub,
        requirements: &["MIMI-frank-aad-form"],
        sent: "a message whose frank_aad has 31 bytes",
        expected: "notAllowed",
        peers: Peers::Mimi(2),
        run: run!(short_tag),
    },
];

/// Puts the hub's franking agent into a room, if the hub has one.
fn with_agent(plan: &mut Plan) {
    if let Some(agent) = &plan.agent {
        plan.draft.set(ComponentId::FRANKING_AGENT, agent.to_bytes());
    }
}

fn frank_in(with: &FanoutParts) -> Option<&nabe_wire::franking::Frank> {
    match with {
        FanoutParts::Application { frank } => frank.as_ref(),
        _ => None,
    }
}

async fn current_epoch(ctx: &Ctx) -> Checked {
    for has_agent in [false, true] {
        let mut agent = None;
        let mut room = MimiRoom::of_three_with(ctx, |plan| {
            agent.clone_from(&plan.agent);
            if has_agent {
                with_agent(plan);
            }
        })
        .await?;
        if has_agent && agent.is_none() {
            ctx.observe("the hub franks nothing");
            break;
        }
        let user = room.client("cathy").user.clone();
        for has_tag in [false, true] {
            let franked = Franked::text(&user, &room.uri, 1, "hello")?;
            let tag = has_tag.then_some(&franked.tag[..]);
            let message = room.member("cathy").encrypt(&franked.application_data, tag);
            let accepted = match room.submit("cathy", &message).await? {
                SubmitVerdict::Accepted(accepted) => accepted,
                other => return failed("a message: accepted", format!("{other:?}")),
            };
            let expected = has_agent && has_tag;
            let what = format!("agent {has_agent}, tag {has_tag}: frank {expected}");
            ctx.check(&what, accepted.frank.is_some() == expected, || format!("{accepted:?}"))?;
            let sent = private(&message);
            let heard = room.heard(At::Peer(0), "the message", &sent).await?;
            let is_same =
                heard.timestamp == accepted.accepted_timestamp && frank_in(&heard.with) == accepted.frank.as_ref();
            ctx.check("time and frank of the fan-out are the answer's", is_same, || {
                format!("{heard:?}")
            })?;
            let alice = room.client("alice").user.clone();
            let is_it = |heard: &FanoutMessage| heard.message.as_bytes() == sent.as_bytes();
            let readable = room
                .readable(&alice, "the message at the subject's own user", is_it)
                .await?;
            ctx.check("the subject's own user has the same", readable == heard, || {
                format!("{readable:?}")
            })?;
            let read = room.member("bob").decrypt(&message);
            if read.as_deref() != Some(&franked.application_data[..]) {
                return failed("what Bob decrypts", "something else");
            }
        }
        room.fence(&[At::Peer(0), At::Peer(1)]).await?;
        once_each(&room).await?;
    }
    Ok(())
}

/// What three messages, the last of which is Alice's, come to: three at the other provider and at the subject's own user, and at their
/// author's no more.
async fn once_each(room: &MimiRoom<'_>) -> Checked {
    let ctx = room.ctx;
    let messages_in = |heard: &[FanoutMessage]| {
        let mut messages: Vec<_> = heard
            .iter()
            .filter(|heard| matches!(heard.with, FanoutParts::Application { .. }))
            .map(|heard| heard.message.as_bytes().to_vec())
            .collect();
        let count = messages.len();
        messages.dedup();
        (count, messages.len())
    };
    let of_bob = messages_in(&room.peer(At::Peer(0)).fanned_out(&room.uri)?);
    ctx.check("each message comes once", of_bob == (3, 3), || format!("{of_bob:?}"))?;
    for at in [At::Peer(0), At::Peer(1)] {
        // Each of them was answered by 201, so that nothing has to be sent again.
        let bodies = room.peer(at).received(Endpoint::Notify, &room.uri);
        let different: BTreeSet<_> = bodies.iter().map(|request| &request.body).collect();
        ctx.check("no notification comes twice", different.len() == bodies.len(), || {
            format!("{} requests, {} of them different", bodies.len(), different.len())
        })?;
    }
    let alice = ctx.local(&room.client("alice").user)?;
    let of_alice = messages_in(&ctx.messages(&alice, &room.uri).await?);
    let is_once = of_alice.0 == of_alice.1 && matches!(of_alice.0, 2 | 3);
    ctx.check("the subject's own user has each once", is_once, || {
        format!("{of_alice:?}")
    })?;
    let of_cathy = messages_in(&room.peer(At::Peer(1)).fanned_out(&room.uri)?);
    ctx.observe(match of_cathy {
        (1, _) => "nothing comes back to its author's provider",
        _ => "messages come back to their author's provider, too",
    });
    ctx.check(
        "at their author's provider no message comes twice",
        of_cathy.0 == of_cathy.1 && of_cathy.0 <= 3,
        || format!("{of_cathy:?}"),
    )
}

async fn frank(ctx: &Ctx) -> Checked {
    let mut agent = None;
    let mut room = MimiRoom::of_three_with(ctx, |plan| {
        agent.clone_from(&plan.agent);
        with_agent(plan);
    })
    .await?;
    let Some(agent) = agent else {
        return skipped("the hub franks nothing");
    };
    let user = room.client("cathy").user.clone();
    let franked = Franked::text(&user, &room.uri, 2, "on the record")?;
    let message = room
        .member("cathy")
        .encrypt(&franked.application_data, Some(&franked.tag));
    let SubmitVerdict::Accepted(accepted) = room.submit("cathy", &message).await? else {
        return failed("a message: accepted", "it was not");
    };
    let heard = room.heard(At::Peer(0), "the message", &private(&message)).await?;
    let Some(frank) = frank_in(&heard.with) else {
        return failed("a frank with the message", "there is none");
    };
    let is_of_suite = frank.franking_signature_ciphersuite == CipherSuite(1);
    ctx.check("the frank names the group's suite", is_of_suite, || {
        format!("{frank:?}")
    })?;
    let time = heard.timestamp;
    let genuine = is_genuine(frank, &agent, &user, &room.uri, time);
    ctx.check("the agent signed sender, room and time", genuine, || {
        format!("{frank:?}")
    })?;
    let is_answered = accepted.frank.as_ref() == Some(frank);
    ctx.check("the author has the same frank", is_answered, || format!("{accepted:?}"))?;
    let bob = room.client("bob").user.clone();
    let elsewhere = format!("{}x", room.uri);
    for (what, sender, of, at) in [
        ("sender", &bob, &room.uri, time),
        ("room", &user, &elsewhere, time),
        ("time", &user, &room.uri, time + 1),
    ] {
        let is_any = is_genuine(frank, &agent, sender, of, at);
        ctx.check(&format!("not another {what}"), !is_any, || {
            "it verifies as well".to_owned()
        })?;
    }
    Ok(())
}

async fn other_epochs(ctx: &Ctx) -> Checked {
    let mut room = MimiRoom::of_three(ctx).await?;
    let late = room.encrypt("cathy", "late");
    room.accepted("alice", "a new epoch", Change::default()).await?;
    let current = room.client("alice").member.epoch();
    match room.submit("cathy", &late).await? {
        SubmitVerdict::EpochTooOld { current_epoch } if current_epoch == current => {
            ctx.observe(format!("epochTooOld, current {current}"));
        }
        other => return failed(format!("epochTooOld with {current}"), format!("{other:?}")),
    }
    let early = room.encrypt("cathy", "early");
    let early = PrivateMessage {
        epoch: current + 1,
        ..early
    };
    match room.submit("cathy", &early).await? {
        SubmitVerdict::NotAllowed => Ok(()),
        other => failed("a future epoch: notAllowed", format!("{other:?}")),
    }
}

async fn who_may_send(ctx: &Ctx) -> Checked {
    let mut room = MimiRoom::of_three(ctx).await?;
    room.add("alice", "reader", At::Peer(1), READER).await?;
    let message = room.encrypt("cathy", "hello");
    let stranger = room.user(At::Peer(1), "stranger");
    let bob = room.client("bob").user.clone();
    let reader = room.client("reader").user.clone();
    for (what, sending) in [
        ("somebody who is not listed", &stranger),
        ("a user of another provider", &bob),
        ("a role without canSendMessage", &reader),
    ] {
        match room.submit_as(At::Peer(1), sending, sending, &message).await? {
            SubmitVerdict::NotAllowed => ctx.observe(format!("{what}: notAllowed")),
            other => return failed(format!("{what}: notAllowed"), format!("{other:?}")),
        }
    }
    match room.submit("cathy", &message).await? {
        SubmitVerdict::Accepted(_) => Ok(()),
        other => failed("the message is good otherwise", format!("{other:?}")),
    }
}

async fn who_may_hear(ctx: &Ctx) -> Checked {
    let mut room = MimiRoom::create(ctx).await?;
    room.add("alice", "bob", At::Peer(0), ORDINARY).await?;
    room.add("alice", "cathy", At::Peer(1), DEAF).await?;
    let (message, _) = room.say("bob", "not for all ears").await?;
    let alice = room.client("alice").user.clone();
    let sent = private(&message);
    let is_it = |heard: &FanoutMessage| heard.message.as_bytes() == sent.as_bytes();
    room.readable(&alice, "the message at those who may hear it", is_it)
        .await?;
    let bundle = room.accepted("bob", "a commit", Change::default()).await?;
    room.heard(At::Peer(1), "the commit after it", &bundle.commit).await?;
    let heard = room.peer(At::Peer(1)).fanned_out(&room.uri)?;
    let is_heard = heard.iter().any(is_it);
    ctx.check("the message does not come there", !is_heard, || "it does".to_owned())
}

async fn public_message(ctx: &Ctx) -> Checked {
    let room = MimiRoom::of_three(ctx).await?;
    let cathy = room.client("cathy");
    let public = cathy
        .member
        .forge(&[0], FramedContentBody::Application(b"hello"[..].into()));
    let body = submission(&cathy.user, public.into_value().body);
    let reply = ctx.mimi(1).call(Endpoint::SubmitMessage, &room.uri, body).await?;
    if reply.status == 400 {
        ctx.observe("400");
        return Ok(());
    }
    let answer: SubmitMessageResponse = read("submitMessage", &reply)?;
    match verdict(&answer)? {
        SubmitVerdict::NotAllowed => Ok(()),
        other => failed("a public message: notAllowed or 400", format!("{other:?}")),
    }
}

async fn short_tag(ctx: &Ctx) -> Checked {
    let mut room = MimiRoom::of_three_with(ctx, with_agent).await?;
    let message = room.member("cathy").encrypt(b"hello", Some(&[7; 31]));
    match room.submit("cathy", &message).await? {
        SubmitVerdict::NotAllowed => Ok(()),
        other => failed("a tag of 31 bytes: notAllowed", format!("{other:?}")),
    }
}
