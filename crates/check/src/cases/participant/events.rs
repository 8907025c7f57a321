//! Cases 14 to 24, 27, 30, 46 to 48 and 58: events from a hub, honest or not.

use nabe_event::event_id_of;
use nabe_signing::json::{Json, Object};
use nabe_signing::{base64u, object, sha256};

use super::format::sent_by_local;
use crate::author::{self, Stamp, lpdu_id_of, sign_event};
use crate::case::{Case, Checked, Peers, Suite, failed, skipped};
use crate::context::{Ctx, list, member, text};
use crate::participant_room::{ParticipantRoom, deliver};
use crate::peer::{Answer, Endpoint, Gate, send_uri};
use crate::subject::unique;

pub(crate) const CASES: &[Case] = &[
    Case {
        id: "lm-14p",
        title: "a message through the hub",
        suite: Suite::Participant,
        requirements: &[
            "LM-roles-via-hub",
            "LM-lpdu-echo",
            "LM-membership-direct",
            "LM-sending-one-endpoint",
        ],
        sent: "a message by a user of the subject, completed by our hub",
        expected: "shown once, under the ID of the echo",
        peers: Peers::Any(1),
        run: run!(message),
    },
    Case {
        id: "lm-17p",
        title: "bad signatures of an event",
        suite: Suite::Participant,
        requirements: &[
            "LM-model-signed-by-all",
            "LM-receive-sender-signed",
            "LM-receive-hub-signed",
            "LM-receive-bad-signature",
            "LM-rule-1-sender-signature",
            "LM-rule-2-hub-signature",
            "LM-checking-fetch-key",
        ],
        sent: "events without valid signature by the hub or by the sender's server",
        expected: "dropped",
        peers: Peers::Any(2),
        run: run!(bad_signatures),
    },
    Case {
        id: "lm-19",
        title: "an event the hub altered",
        suite: Suite::Participant,
        requirements: &["LM-model-signed-by-all", "LM-receive-hash-mismatch"],
        sent: "an event with other content than was hashed, and one that the hub hashed anew",
        expected: "stored redacted",
        peers: Peers::Any(2),
        run: run!(altered_content),
    },
    Case {
        id: "lm-20",
        title: "no LPDU hash",
        suite: Suite::Participant,
        requirements: &["LM-pdu-lpdu-hash", "LM-receive-schema", "LM-receive-lpdu-hash-required"],
        sent: "an event with hub_server and without LPDU hash",
        expected: "dropped",
        peers: Peers::Any(2),
        run: run!(no_lpdu_hash),
    },
    Case {
        id: "lm-21",
        title: "a needless LPDU hash",
        suite: Suite::Participant,
        requirements: &["LM-pdu-lpdu-hash-only-then", "LM-receive-schema"],
        sent: "an event without hub_server and with LPDU hash",
        expected: "dropped",
        peers: Peers::Any(1),
        run: run!(needless_lpdu_hash),
    },
    Case {
        id: "lm-22p",
        title: "signatures of others",
        suite: Suite::Participant,
        requirements: &["LM-receive-other-signatures"],
        sent: "an event with a bogus signature of an unrelated server",
        expected: "accepted",
        peers: Peers::Any(1),
        run: run!(foreign_signature),
    },
    Case {
        id: "lm-23",
        title: "an LPDU to a participant",
        suite: Suite::Participant,
        requirements: &["LM-send-not-hub", "LM-send-failed-only-rejected"],
        sent: "by its author and by the hub",
        expected: "200, dropped",
        peers: Peers::Any(2),
        run: run!(lpdu_to_participant),
    },
    Case {
        id: "lm-24",
        title: "events from others than the hub",
        suite: Suite::Participant,
        requirements: &["LM-receive-participant-checks", "LM-roles-via-hub"],
        sent: "the hub's next event and an own one, pushed by another participant",
        expected: "dropped",
        peers: Peers::Any(2),
        run: run!(not_from_hub),
    },
    Case {
        id: "lm-27",
        title: "a room without power levels",
        suite: Suite::Participant,
        requirements: &[
            "LM-power-creator-default",
            "LM-levels-user",
            "LM-rule-7-level",
            "LM-rule-9-4-first-levels",
            "LM-receive-participant-checks",
        ],
        sent: "topics by the creator and by another user",
        expected: "shown; not shown",
        peers: Peers::Any(2),
        run: run!(no_power_levels),
    },
    Case {
        id: "lm-30",
        title: "a room without join rules",
        suite: Suite::Participant,
        requirements: &[
            "LM-join-rules-join-rule",
            "LM-rule-5-2-6-join-otherwise",
            "LM-receive-participant-checks",
        ],
        sent: "a join after an invite, and one without",
        expected: "joined; not shown",
        peers: Peers::Any(2),
        run: run!(no_join_rules),
    },
    Case {
        id: "lm-46p",
        title: "a repeated transaction",
        suite: Suite::Participant,
        requirements: &[
            "LM-txn-process-once",
            "LM-txn-same-response",
            "LM-txn-only-idempotence",
            "LM-send-after-processing",
            "LM-send-retry",
            "LM-send-no-repeat",
        ],
        sent: "the same twice",
        expected: "the same answer, processed once",
        peers: Peers::Any(1),
        run: run!(repeated_transaction),
    },
    Case {
        id: "lm-47p",
        title: "one transaction at a time",
        suite: Suite::Participant,
        requirements: &["LM-send-one-at-a-time", "LM-send-bad-state"],
        sent: "another transaction while one waits for keys",
        expected: "400 M_BAD_STATE",
        peers: Peers::Fresh(2),
        run: run!(busy),
    },
    Case {
        id: "lm-48p",
        title: "the same event again",
        suite: Suite::Participant,
        requirements: &["LM-receive-unknown-only"],
        sent: "one event in several transactions",
        expected: "200; one event",
        peers: Peers::Any(1),
        run: run!(same_pdu_again),
    },
    Case {
        id: "lm-x20",
        title: "a gap",
        suite: Suite::Participant,
        requirements: &["LM-history-hub-first", "LM-backfill-order"],
        sent: "the 31st of 31 events",
        expected: "all are fetched, in order",
        peers: Peers::Any(1),
        run: run!(gap),
    },
    Case {
        id: "lm-x21",
        title: "a fork",
        suite: Suite::Participant,
        requirements: &["LM-state-order-not-time", "LM-receive-participant-checks"],
        sent: "a second event after the same one",
        expected: "not shown; what was shown stays",
        peers: Peers::Any(1),
        run: run!(fork),
    },
    Case {
        id: "lm-x22",
        title: "garbage from a hub",
        suite: Suite::Participant,
        requirements: &["LM-receive-schema", "LM-pdu-content-untrusted"],
        sent: "null, numbers, events without a place, and one good event",
        expected: "200; the good event is shown",
        peers: Peers::Any(1),
        run: run!(garbage_from_hub),
    },
];

/// 14
pub(crate) async fn message(ctx: &Ctx) -> Checked {
    let room = ParticipantRoom::joined(ctx).await?;
    let lpdu = sent_by_local(&room, object! { "body" => "hello" }).await?;
    let id = event_id_of(&lpdu);
    let echo = room.with_room(|hosted| {
        hosted
            .log()
            .iter()
            .find(|listed| lpdu_id_of(&listed.event) == id)
            .map(|listed| listed.id.clone())
    });
    let Some(echo) = echo else {
        return failed("an LPDU that our hub can complete", lpdu.to_string());
    };
    room.shown(echo.as_str()).await?;
    ctx.observe("the echo is shown under its own ID");
    let timeline = room.timeline().await?;
    let stamp = Stamp::of(&lpdu);
    let count = timeline.iter().filter(|event| Stamp::of(event) == stamp).count();
    ctx.check("the message is shown once", count == 1, || format!("{count} times"))?;
    let requests = room.hub.inbox();
    let only_hub = requests
        .iter()
        .filter(|request| request.endpoint == Endpoint::Send)
        .count();
    ctx.check("it went to the hub", only_hub > 0, || "no transaction".to_owned())
}

/// 17
pub(crate) async fn bad_signatures(ctx: &Ctx) -> Checked {
    let room = ParticipantRoom::joined(ctx).await?;
    let (t, bob) = (ctx.t(), ctx.t().user("bob"));
    room.admit(t, &bob).await?;
    room.fence().await?;
    let zeros = base64u::encode(&[0; 64]);
    let spoiled = |server: &str| {
        let lpdu = room.lpdu(t, &bob, "m.room.message", None, object! { "body" => "x" });
        let mut pdu = room.with_room(|hosted| hosted.completed(lpdu));
        let mut signatures = member(&pdu, "signatures");
        signatures.insert(server, object! { "ed25519:check" => zeros.as_str() });
        pdu.insert("signatures", signatures);
        room.with_room(|hosted| hosted.append(pdu))
    };
    for (what, server) in [
        ("a bad signature by the hub", room.hub.name()),
        ("a bad signature by the sender", t.name()),
    ] {
        let pdu = spoiled(server.as_str());
        room.drops(what, &pdu).await?;
    }
    let event = room.event(&room.creator, "m.room.message", None, object! { "body" => "x" });
    let own = room.with_room(|hosted| {
        let (auth, prev) = (hosted.auth_events(&event), hosted.head());
        let mut own = author::seal_pdu(event, &auth, &prev, room.hub.signer());
        own.insert("signatures", Object::new());
        hosted.append(own)
    });
    room.deliver(&own).await?;
    room.never_shown("no signature", &own).await
}

/// 19
pub(crate) async fn altered_content(ctx: &Ctx) -> Checked {
    let room = ParticipantRoom::joined(ctx).await?;
    let (t, bob) = (ctx.t(), ctx.t().user("bob"));
    room.admit(t, &bob).await?;
    let lpdu = room.lpdu(t, &bob, "m.room.message", None, object! { "body" => "what Bob wrote" });
    let mut pdu = room.with_room(|hosted| hosted.completed(lpdu));
    let id = event_id_of(&pdu);
    pdu.insert("content", object! { "body" => "what the hub made of it" });
    room.append(pdu).await?;
    let shown = room.shown(id.as_str()).await?;
    ctx.check("stored redacted", member(&shown, "content").is_empty(), || {
        shown.to_string()
    })?;
    let lpdu = room.lpdu(t, &bob, "m.room.message", None, object! { "body" => "again" });
    let mut altered = lpdu.clone();
    altered.insert("content", object! { "body" => "rehashed by the hub" });
    let pdu = room.with_room(|hosted| hosted.completed(altered));
    let id = event_id_of(&pdu);
    room.append(pdu).await?;
    let shown = room.shown(id.as_str()).await?;
    ctx.check(
        "also if the hub hashes anew",
        member(&shown, "content").is_empty(),
        || shown.to_string(),
    )?;
    room.fence().await
}

/// 20
pub(crate) async fn no_lpdu_hash(ctx: &Ctx) -> Checked {
    let room = ParticipantRoom::joined(ctx).await?;
    let (t, bob) = (ctx.t(), ctx.t().user("bob"));
    room.admit(t, &bob).await?;
    let mut lpdu = room.event(&bob, "m.room.message", None, object! { "body" => "x" });
    lpdu.insert("hub_server", room.hub.name());
    sign_event(&mut lpdu, t.signer());
    let pdu = room.with_room(|hosted| hosted.complete_and_append(lpdu));
    room.drops("`hub_server` without an LPDU hash", &pdu).await
}

/// 21
pub(crate) async fn needless_lpdu_hash(ctx: &Ctx) -> Checked {
    let room = ParticipantRoom::joined(ctx).await?;
    let mut event = room.event(&room.creator, "m.room.message", None, object! { "body" => "x" });
    author::hash_lpdu(&mut event);
    let pdu = room.with_room(|hosted| hosted.seal_and_append(event));
    room.drops("an LPDU hash without `hub_server`", &pdu).await
}

/// 22
pub(crate) async fn foreign_signature(ctx: &Ctx) -> Checked {
    let room = ParticipantRoom::joined(ctx).await?;
    let mut pdu = room.own("m.room.message", None, object! { "body" => "x" });
    let mut signatures = member(&pdu, "signatures");
    signatures.insert(
        "unrelated.example",
        object! { "ed25519:a" => base64u::encode(&[7; 64]) },
    );
    pdu.insert("signatures", signatures);
    let failed_pdus = room.deliver(&pdu).await?;
    ctx.check("no failure", failed_pdus.is_empty(), || failed_pdus.to_string())?;
    let shown = room.shown(event_id_of(&pdu).as_str()).await?;
    ctx.check("accepted", !member(&shown, "content").is_empty(), || shown.to_string())
}

/// 23
pub(crate) async fn lpdu_to_participant(ctx: &Ctx) -> Checked {
    let room = ParticipantRoom::joined(ctx).await?;
    let (t, bob) = (ctx.t(), ctx.t().user("bob"));
    room.admit(t, &bob).await?;
    let lpdu = room.lpdu(t, &bob, "m.room.message", None, object! { "body" => "x" });
    let failed_pdus = deliver(t, &lpdu).await?;
    ctx.check("from its author: dropped, not reported", failed_pdus.is_empty(), || {
        failed_pdus.to_string()
    })?;
    let failed_pdus = room.deliver(&lpdu).await?;
    ctx.check("from the hub: dropped, not reported", failed_pdus.is_empty(), || {
        failed_pdus.to_string()
    })?;
    room.never_shown("an LPDU", &lpdu).await
}

/// 24
pub(crate) async fn not_from_hub(ctx: &Ctx) -> Checked {
    let room = ParticipantRoom::joined(ctx).await?;
    let (t, bob) = (ctx.t(), ctx.t().user("bob"));
    room.admit(t, &bob).await?;
    room.fence().await?;
    let next = room.event(&room.creator, "m.room.message", None, object! { "body" => "x" });
    let next = room.with_room(|hosted| {
        let (auth, prev) = (hosted.auth_events(&next), hosted.head());
        author::seal_pdu(next, &auth, &prev, room.hub.signer())
    });
    deliver(t, &next).await?;
    room.not_shown("the hub's own event, pushed by another server", &next)
        .await?;
    let own = room.event(&bob, "m.room.message", None, object! { "body" => "x" });
    let own = room.with_room(|hosted| {
        let (auth, prev) = (hosted.auth_events(&own), hosted.head());
        author::seal_pdu(own, &auth, &prev, t.signer())
    });
    deliver(t, &own).await?;
    room.not_shown("an event that another server completed", &own).await?;
    room.never_shown("neither of them later", &own).await
}

/// 27
pub(crate) async fn no_power_levels(ctx: &Ctx) -> Checked {
    let room = ParticipantRoom::bare(ctx);
    let creator = room.creator.clone();
    room.own("m.room.create", Some(""), object! { "room_version" => "I.1" });
    room.own(
        "m.room.member",
        Some(creator.as_str()),
        object! { "membership" => "join" },
    );
    room.own("m.room.join_rules", Some(""), object! { "join_rule" => "public" });
    room.bring_in().await?;
    let (t, bob) = (ctx.t(), ctx.t().user("bob"));
    room.admit(t, &bob).await?;
    let topic = room.own("m.room.topic", Some(""), object! { "topic" => "by the creator" });
    room.deliver(&topic).await?;
    room.shown(event_id_of(&topic).as_str()).await?;
    ctx.observe("the creator's topic is shown");
    let lpdu = room.lpdu(t, &bob, "m.room.topic", Some(""), object! { "topic" => "by another" });
    let pdu = room.with_room(|hosted| hosted.complete_and_append(lpdu));
    room.deliver(&pdu).await?;
    room.never_shown("another user's topic", &pdu).await?;
    let lpdu = room.lpdu(t, &bob, "m.room.message", None, object! { "body" => "x" });
    let pdu = room.with_room(|hosted| hosted.complete_and_append(lpdu));
    room.deliver(&pdu).await?;
    room.shown(event_id_of(&pdu).as_str()).await.map(|_| ())
}

/// 30
pub(crate) async fn no_join_rules(ctx: &Ctx) -> Checked {
    let room = ParticipantRoom::bare(ctx);
    let creator = room.creator.clone();
    room.own("m.room.create", Some(""), object! { "room_version" => "I.1" });
    room.own(
        "m.room.member",
        Some(creator.as_str()),
        object! { "membership" => "join" },
    );
    let invite = room.invite_event();
    let reply = room.invite(&invite, "I.1").await?;
    ctx.answers("the invite", &reply, 200, "")?;
    let signed = member(&reply.object(), "pdu");
    room.with_room(|hosted| hosted.append(signed));
    room.bring_in().await?;
    ctx.observe("an invited user joins a room without join rules");
    let (t, bob) = (ctx.t(), ctx.t().user("bob"));
    let content = object! { "membership" => "join" };
    let lpdu = room.lpdu(t, &bob, "m.room.member", Some(bob.as_str()), content);
    let pdu = room.with_room(|hosted| hosted.complete_and_append(lpdu));
    room.deliver(&pdu).await?;
    room.never_shown("a join without an invite", &pdu).await
}

/// 46
pub(crate) async fn repeated_transaction(ctx: &Ctx) -> Checked {
    let room = ParticipantRoom::joined(ctx).await?;
    let pdu = room.own("m.room.message", None, object! { "body" => "x" });
    let body = object! { "pdus" => vec![Json::from(pdu.clone())] };
    let uri = send_uri(&unique());
    let first = room.hub.call("PUT", &uri, Some(&body)).await?;
    ctx.answers("the first time", &first, 200, "")?;
    let second = room.hub.call("PUT", &uri, Some(&body)).await?;
    let is_same = (second.status, &second.body) == (first.status, &first.body);
    ctx.check("the second answer is the first", is_same, || second.brief())?;
    once(&room, &pdu).await
}

/// 48
pub(crate) async fn same_pdu_again(ctx: &Ctx) -> Checked {
    let room = ParticipantRoom::joined(ctx).await?;
    let pdu = room.own("m.room.message", None, object! { "body" => "x" });
    for _ in 0..3 {
        let failed_pdus = room.deliver(&pdu).await?;
        ctx.check("no failure", failed_pdus.is_empty(), || failed_pdus.to_string())?;
    }
    room.fence().await?;
    let failed_pdus = room.deliver(&pdu).await?;
    ctx.check("no failure later", failed_pdus.is_empty(), || failed_pdus.to_string())?;
    once(&room, &pdu).await
}

/// The event is in the room as the subject's user sees it, and only once.
pub(super) async fn once(room: &ParticipantRoom<'_>, pdu: &Object) -> Checked {
    room.fence().await?;
    let timeline = room.timeline().await?;
    let id = event_id_of(pdu);
    let count = timeline
        .iter()
        .filter(|event| text(event, "event_id") == id.as_str())
        .count();
    room.ctx
        .check("the event is shown once", count == 1, || format!("{count} times"))
}

/// 47
pub(crate) async fn busy(ctx: &Ctx) -> Checked {
    let room = ParticipantRoom::joined(ctx).await?;
    let (t, bob) = (ctx.t(), ctx.t().user("bob"));
    let gate = Gate::closed();
    let held = gate.clone();
    t.on(Endpoint::Keys, move |_| Answer::UsualAfter(held.clone()));
    let content = object! { "membership" => "join" };
    let lpdu = room.lpdu(t, &bob, "m.room.member", Some(bob.as_str()), content);
    let pdu = room.with_room(|hosted| hosted.complete_and_append(lpdu));
    let body = object! { "pdus" => vec![Json::from(pdu.clone())] };
    let slow = {
        let hub = room.hub.clone();
        tokio::spawn(async move { hub.call("PUT", &send_uri(&unique()), Some(&body)).await })
    };
    let asked = t.received(ctx.deadline(), "a request for its keys", |inbox| {
        inbox
            .iter()
            .any(|request| request.endpoint == Endpoint::Keys)
            .then_some(())
    });
    if asked.await.is_err() || slow.is_finished() {
        gate.open();
        return skipped("an event whose keys do not come did not keep the subject busy");
    }
    let body = object! { "pdus" => Json::Array(Vec::new()) };
    let meanwhile = room.hub.call("PUT", &send_uri(&unique()), Some(&body)).await?;
    gate.open();
    ctx.answers("another transaction of the same server", &meanwhile, 400, "M_BAD_STATE")?;
    match slow.await {
        Ok(reply) => ctx.answers("the slow transaction in the end", &reply?, 200, "")?,
        Err(error) => return failed("an answer to the slow transaction", error.to_string()),
    }
    room.shown(event_id_of(&pdu).as_str()).await?;
    ctx.observe("its event is shown");
    Ok(())
}

/// A hub may fill a room faster than it tells.
pub(crate) async fn gap(ctx: &Ctx) -> Checked {
    let room = ParticipantRoom::joined(ctx).await?;
    for n in 0..30 {
        room.own("m.room.message", None, object! { "n" => n });
    }
    room.fence().await?;
    let timeline = room.timeline().await?;
    let expected = room.with_room(|hosted| {
        hosted
            .log()
            .iter()
            .rev()
            .take(31)
            .map(|listed| listed.id.as_str().to_owned())
            .collect::<Vec<_>>()
    });
    let shown: Vec<_> = timeline
        .iter()
        .rev()
        .take(31)
        .map(|event| text(event, "event_id").to_owned())
        .collect();
    ctx.check(
        "30 missing events are fetched, in the hub's order",
        shown == expected,
        || format!("{shown:?}"),
    )?;
    let asked = room
        .hub
        .inbox()
        .iter()
        .any(|request| request.endpoint == Endpoint::Backfill);
    ctx.check("by backfill", asked, || "no backfill".to_owned())
}

/// The hub's list as the participant keeps it.
pub(crate) async fn fork(ctx: &Ctx) -> Checked {
    let room = ParticipantRoom::joined(ctx).await?;
    let one = room.post("one").await?;
    room.shown(event_id_of(&one).as_str()).await?;
    let prev = one.get("prev_events").cloned().unwrap_or_default();
    let event = room.event(
        &room.creator,
        "m.room.message",
        None,
        object! { "body" => "instead of one" },
    );
    let mut other = room.with_room(|hosted| {
        let auth = hosted.auth_events(&event);
        author::seal_pdu(event, &auth, &[], room.hub.signer())
    });
    other.remove("signatures");
    other.remove("hashes");
    other.insert("prev_events", prev);
    author::hash_pdu(&mut other);
    sign_event(&mut other, room.hub.signer());
    let reply = room
        .hub
        .transact(object! { "pdus" => vec![Json::from(other.clone())] })
        .await?;
    ctx.observe(format!("a second event after the same one: {}", reply.brief()));
    room.never_shown("a second event after the same one", &other).await?;
    let timeline = room.timeline().await?;
    let is_kept = timeline
        .iter()
        .any(|event| text(event, "event_id") == event_id_of(&one).as_str());
    ctx.check("what was shown stays", is_kept, || format!("{timeline:?}"))
}

/// Garbage from a hub leaves its room usable.
pub(crate) async fn garbage_from_hub(ctx: &Ctx) -> Checked {
    let room = ParticipantRoom::joined(ctx).await?;
    let good = room.own("m.room.message", None, object! { "body" => "among garbage" });
    let mut no_place = room.event(&room.creator, "m.room.message", None, object! { "body" => "x" });
    no_place.insert("hashes", object! { "sha256" => base64u::encode(&sha256(b"x")) });
    let pdus = vec![
        Json::Null,
        1.into(),
        Object::new().into(),
        object! { "room_id" => room.id.as_str() }.into(),
        object! { "room_id" => 5 }.into(),
        no_place.into(),
        good.clone().into(),
    ];
    let reply = room.hub.transact(object! { "pdus" => pdus }).await?;
    ctx.answers("garbage around one good event", &reply, 200, "")?;
    room.shown(event_id_of(&good).as_str()).await?;
    room.fence().await?;
    let state = ctx.api(&room.local, "GET", &room.path("/state"), None).await?;
    ctx.check("the state is still there", !list(&state, "state").is_empty(), || {
        state.to_string()
    })
}
