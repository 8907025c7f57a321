//! Beyond the draft's cases: hubs that stall, flood and lie to a participant.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nabe_event::event_id_of;
use nabe_signing::json::{Json, Object};
use nabe_signing::object;
use nabe_types::EventId;

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
        sent: "an event with 5000 others before it, none of them the subject's",
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
    let nowhere = EventId::from_hash([9; 32]);
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
    other.fence().await?;
    ctx.observe("another room of the same hub goes on");
    room.not_shown("an event from nowhere", &unrelated).await
}

/// A hub that always has an older event.
pub(crate) async fn endless_backfill(ctx: &Ctx) -> Checked {
    let room = ParticipantRoom::joined(ctx).await?;
    let other = ParticipantRoom::joined(ctx).await?;
    let past = past(&room, PAST_EVENTS).await;
    let newest = past.last().cloned().unwrap_or_default();
    let places: BTreeMap<String, usize> = (0..)
        .zip(&past)
        .map(|(at, event)| (event_id_of(event).as_str().to_owned(), at))
        .collect();
    let unasked = Arc::new(AtomicUsize::new(PAST_EVENTS));
    let oldest_asked = Arc::clone(&unasked);
    room.hub.on(Endpoint::Backfill, move |request| {
        let Some(&at) = request.query("v").and_then(|id| places.get(&id)) else {
            return Answer::Usual;
        };
        let first = (at + 1).saturating_sub(PAGE_EVENTS);
        oldest_asked.fetch_min(first, Ordering::Relaxed);
        let page: Json = past[first..=at].iter().map(|event| Json::from(event.clone())).collect();
        Answer::Json(200, object! { "pdus" => page }.into())
    });
    let reply = room
        .hub
        .transact(object! { "pdus" => vec![Json::from(newest.clone())] })
        .await?;
    ctx.observe(format!("an event with an endless past: {}", reply.brief()));
    other.fence().await?;
    ctx.observe("another room of the same hub goes on");
    let unasked = unasked.load(Ordering::Relaxed);
    ctx.observe(format!("{} events of that past were asked for", PAST_EVENTS - unasked));
    ctx.check("it is not followed without end", unasked > 0, || {
        format!("all {PAST_EVENTS} events were asked for")
    })?;
    room.not_shown("the event", &newest).await
}

/// So many messages of the room's creator, each after the one before it, oldest first. What comes before the oldest nobody has.
async fn past(room: &ParticipantRoom<'_>, count: usize) -> Vec<Object> {
    let next = || room.event(&room.creator, "m.room.message", None, object! { "body" => "long ago" });
    let auth = room.with_room(|hosted| hosted.auth_events(&next()));
    let mut head = EventId::from_hash([9; 32]);
    let mut past = Vec::with_capacity(count);
    for n in 0..count {
        let event = author::seal_pdu(next(), &auth, std::slice::from_ref(&head), room.hub.signer());
        head = event_id_of(&event);
        past.push(event);
        // The other cases go on meanwhile.
        if n % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
    past
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

const PAST_EVENTS: usize = 5000;
/// Few enough to make the subject ask often, and enough for it to be done in time.
const PAGE_EVENTS: usize = 5;
