//! Beyond the draft's cases: hubs that stall, flood and lie to a participant.

use nabe_event::event_id_of;
use nabe_signing::json::{Json, Object};
use nabe_signing::object;

use crate::author;
use crate::case::Checked;
use crate::context::Ctx;
use crate::participant_room::ParticipantRoom;
use crate::peer::{Answer, Endpoint, Gate};

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
    room.fence().await?;
    let id = event_id_of(&pdu);
    let timeline = room.timeline().await?;
    let count = timeline
        .iter()
        .filter(|event| crate::context::text(event, "event_id") == id.as_str())
        .count();
    ctx.check("the event is shown once", count == 1, || format!("{count} times"))
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
