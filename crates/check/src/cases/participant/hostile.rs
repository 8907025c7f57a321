//! Beyond the draft's cases: hubs that stall, flood and lie to a participant.

use nabe_signing::json::{Json, Object};
use nabe_signing::object;

use super::events::once;
use crate::author;
use crate::case::{Case, Checked, Peers, Suite};
use crate::context::Ctx;
use crate::participant_room::ParticipantRoom;
use crate::peer::{Answer, Endpoint, Gate};

pub(crate) const CASES: &[Case] = &[
    Case {
        id: "lm-x23",
        title: "history that leads nowhere",
        suite: Suite::Participant,
        requirements: &["LM-backfill-checked"],
        sent: "an event without a past, and unrelated events on E9",
        expected: "not shown; other rooms go on",
        peers: Peers::Any(1),
        run: run!(lying_backfill),
    },
    Case {
        id: "lm-x24",
        title: "history without end",
        suite: Suite::Participant,
        requirements: &["LM-backfill-checked"],
        sent: "an event with ever more before it",
        expected: "given up; other rooms go on",
        peers: Peers::Any(1),
        run: run!(endless_backfill),
    },
    Case {
        id: "lm-x25",
        title: "a hub that does not take events",
        suite: Suite::Participant,
        requirements: &["LM-send-retry", "LM-send-no-blocking"],
        sent: "a message while E5 does not answer",
        expected: "accepted or queued; it comes back in the end",
        peers: Peers::Any(1),
        run: run!(stalled_hub),
    },
    Case {
        id: "lm-x26",
        title: "repetition",
        suite: Suite::Participant,
        requirements: &["LM-receive-unknown-only"],
        sent: "1000 times the same event",
        expected: "200; one event",
        peers: Peers::Any(1),
        run: run!(repeats),
    },
    Case {
        id: "lm-x27",
        title: "an event another server completed",
        suite: Suite::Participant,
        requirements: &["LM-receive-hub-signed", "LM-receive-participant-checks"],
        sent: "handed on by the hub",
        expected: "not shown",
        peers: Peers::Any(2),
        run: run!(usurper),
    },
];

/// A hub whose history leads nowhere does not get its events in, and does no harm elsewhere.
pub(crate) async fn lying_backfill(ctx: &Ctx) -> Checked {
    let room = ParticipantRoom::joined(ctx).await?;
    let other = ParticipantRoom::joined(ctx).await?;
    let unrelated = room.event(
        &room.creator,
        "m.room.message",
        None,
        object! { "body" => "from nowhere" },
    );
    let nowhere = nabe_types::EventId::from_hash([9; 32]);
    let unrelated = author::seal_pdu(unrelated, &[], std::slice::from_ref(&nowhere), room.hub.signer());
    let lie = unrelated.clone();
    room.hub.on(Endpoint::Backfill, move |_| {
        let pdus = vec![Json::from(lie.clone()), Json::Null, object! { "x" => 1 }.into()];
        Answer::Json(200, object! { "pdus" => pdus }.into())
    });
    for endpoint in [Endpoint::State, Endpoint::StateIds] {
        room.hub.on(endpoint, |_| Answer::Json(200, Object::new().into()));
    }
    let reply = room
        .hub
        .transact(object! { "pdus" => vec![Json::from(unrelated.clone())] })
        .await?;
    ctx.observe(format!("an event from nowhere: {}", reply.brief()));
    room.not_shown("an event from nowhere", &unrelated).await?;
    other.fence().await?;
    ctx.observe("another room of the same hub goes on");
    Ok(())
}

/// A hub that has no end of older events.
pub(crate) async fn endless_backfill(ctx: &Ctx) -> Checked {
    let room = ParticipantRoom::joined(ctx).await?;
    let other = ParticipantRoom::joined(ctx).await?;
    let (creator, id, signer) = (
        room.creator.clone(),
        room.id.clone(),
        std::sync::Arc::clone(room.hub.signer()),
    );
    let make = move |n: i64| {
        let event = author::partial(&id, "m.room.message", None, creator.as_str(), object! { "n" => n });
        let prev = nabe_types::EventId::from_hash(nabe_signing::sha256(&n.to_be_bytes()));
        author::seal_pdu(event, &[], &[prev], &signer)
    };
    let first = make(0);
    let count = std::sync::Arc::new(std::sync::atomic::AtomicI64::new(1));
    let counting = std::sync::Arc::clone(&count);
    room.hub.on(Endpoint::Backfill, move |_| {
        let n = counting.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Answer::Json(200, object! { "pdus" => vec![Json::from(make(n))] }.into())
    });
    let reply = room
        .hub
        .transact(object! { "pdus" => vec![Json::from(first.clone())] })
        .await?;
    ctx.observe(format!("an event with an endless past: {}", reply.brief()));
    let asked = count.load(std::sync::atomic::Ordering::Relaxed);
    ctx.check("it is not followed without end", asked < 10_000, || {
        format!("{asked} requests")
    })?;
    room.not_shown("the event", &first).await?;
    other.fence().await
}

/// A hub that does not take events keeps them from nobody else.
pub(crate) async fn stalled_hub(ctx: &Ctx) -> Checked {
    let room = ParticipantRoom::joined(ctx).await?;
    let gate = Gate::closed();
    let held = gate.clone();
    room.hub.on(Endpoint::Send, move |_| Answer::UsualAfter(held.clone()));
    let reply = room
        .send_as_local("m.room.message", None, object! { "body" => "waiting" })
        .await?;
    let is_taken = matches!(reply.status, 200 | 202);
    ctx.check("the client API takes the message", is_taken, || reply.brief())?;
    room.fence().await?;
    ctx.observe("events from the hub are shown meanwhile");
    gate.open();
    let head = room.with_room(|hosted| {
        let of_local = |event: &Object| event.get("sender").and_then(Json::as_str) == Some(room.local.as_str());
        let found = hosted.log().iter().rev().find(|listed| of_local(&listed.event));
        found.map(|listed| listed.id.as_str().to_owned())
    });
    room.shown(&head.unwrap_or_default()).await?;
    ctx.observe("the message comes back in the end");
    Ok(())
}

/// 1000 times the same event.
pub(crate) async fn repeats(ctx: &Ctx) -> Checked {
    let room = ParticipantRoom::joined(ctx).await?;
    let pdu = room.own("m.room.message", None, object! { "body" => "again and again" });
    let many: Json = std::iter::repeat_n(pdu.clone(), 50).collect();
    for _ in 0..20 {
        let reply = room.hub.transact(object! { "pdus" => many.clone() }).await?;
        if reply.status != 200 {
            return crate::case::failed("200", reply.brief());
        }
    }
    once(&room, &pdu).await
}

/// Events of a room that the subject knows, completed by a server that is not its hub.
pub(crate) async fn usurper(ctx: &Ctx) -> Checked {
    let room = ParticipantRoom::joined(ctx).await?;
    let (t, bob) = (ctx.t(), ctx.t().user("bob"));
    room.admit(t, &bob).await?;
    room.fence().await?;
    let event = room.event(&bob, "m.room.message", None, object! { "body" => "by a usurper" });
    let pdu = room.with_room(|hosted| {
        let (auth, prev) = (hosted.auth_events(&event), hosted.head());
        author::seal_pdu(event, &auth, &prev, t.signer())
    });
    room.append(pdu.clone()).await?;
    room.never_shown("an event that the hub hands on but did not sign", &pdu)
        .await
}
