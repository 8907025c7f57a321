//! Cases 14 to 18, 22, 25 and 44 to 48: transactions to a hub and what becomes of their events.

use std::collections::BTreeSet;

use nabe_event::event_id_of;
use nabe_signing::json::{Json, Object};
use nabe_signing::{base64u, object, sha256};

use super::format::verifies;
use crate::author::{self, Stamp, sign_event};
use crate::case::{Case, Checked, Peers, Suite, failed, skipped};
use crate::context::{Ctx, member, text};
use crate::hosted::{membership, selection};
use crate::hub_room::{HubRoom, Refusal};
use crate::peer::{Answer, Endpoint, Gate, send_uri};
use crate::subject::unique;

pub(crate) const CASES: &[Case] = &[
    Case {
        id: "lm-14",
        title: "an LPDU becomes an event",
        suite: Suite::Hub,
        requirements: &[
            "LM-roles-via-hub",
            "LM-pdu-hub-server-set",
            "LM-pdu-prev-events-one",
            "LM-lpdu-echo",
            "LM-encrypted-opaque-to-servers",
            "LM-receive-complete-lpdu",
            "LM-receive-fan-out",
            "LM-rule-10-allow",
            "LM-sending-joined-servers",
            "LM-sending-one-endpoint",
            "LM-send-complete",
            "LM-send-no-blocking",
            "LM-membership-direct",
            "LM-model-hub-per-room",
            "LM-create-room-version",
        ],
        sent: "a message and an encrypted event",
        expected: "200; both participants get the event, with one previous event and the hub",
        peers: Peers::Any(2),
        run: run!(message),
    },
    Case {
        id: "lm-15",
        title: "neither LPDU nor PDU",
        suite: Suite::Hub,
        requirements: &[
            "LM-lpdu-no-auth-events",
            "LM-lpdu-no-prev-events",
            "LM-lpdu-no-other-hashes",
            "LM-receive-schema",
        ],
        sent: "LPDUs with auth_events, prev_events or a second hash; a PDU that the hub did not complete",
        expected: "dropped",
        peers: Peers::Any(1),
        run: run!(mixed_forms),
    },
    Case {
        id: "lm-16",
        title: "an LPDU for another hub",
        suite: Suite::Hub,
        requirements: &["LM-hub-creator-server", "LM-send-failed-by-received-id"],
        sent: "hub_server of another server",
        expected: "rejected under its ID",
        peers: Peers::Any(2),
        run: run!(other_hub),
    },
    Case {
        id: "lm-17",
        title: "bad signatures of an LPDU",
        suite: Suite::Hub,
        requirements: &[
            "LM-lpdu-signed",
            "LM-receive-sender-signed",
            "LM-receive-bad-signature",
            "LM-rule-1-sender-signature",
            "LM-checking-structure",
            "LM-checking-base64",
            "LM-checking-verify",
            "LM-send-checks",
            "LM-send-failed-only-rejected",
        ],
        sent: "wrong, short, malformed, missing and foreign signatures; a change after signing",
        expected: "dropped, not in failed_pdus",
        peers: Peers::Any(2),
        run: run!(bad_signatures),
    },
    Case {
        id: "lm-18",
        title: "a wrong LPDU hash",
        suite: Suite::Hub,
        requirements: &["LM-lpdu-own-hash", "LM-receive-hash-mismatch", "LM-send-checks"],
        sent: "an LPDU with another hash, well signed",
        expected: "appended with redacted content",
        peers: Peers::Any(1),
        run: run!(wrong_lpdu_hash),
    },
    Case {
        id: "lm-22",
        title: "signatures of others",
        suite: Suite::Hub,
        requirements: &[
            "LM-receive-hub-signed",
            "LM-receive-other-signatures",
            "LM-rule-2-hub-signature",
        ],
        sent: "an LPDU with bogus signatures of unrelated servers",
        expected: "accepted",
        peers: Peers::Any(2),
        run: run!(foreign_signature),
    },
    Case {
        id: "lm-25",
        title: "senders who are not joined",
        suite: Suite::Hub,
        requirements: &[
            "LM-outcome-rejected",
            "LM-rule-6-sender-joined",
            "LM-rule-consequence-outsider",
            "LM-send-checks",
            "LM-send-failed-by-received-id",
            "LM-send-failed-error",
            "LM-rule-5-3-1-invite-sender",
        ],
        sent: "messages and an invite by users who are not joined",
        expected: "rejected with an `error` under their IDs",
        peers: Peers::Any(2),
        run: run!(outsider),
    },
    Case {
        id: "lm-44",
        title: "auth events",
        suite: Suite::Hub,
        requirements: &[
            "LM-pdu-auth-events",
            "LM-auth-events-selection",
            "LM-auth-events-join-rules",
            "LM-auth-events-create-none",
        ],
        sent: "a room with invite, join, message, knock, kick, leave",
        expected: "for each event exactly the selection, each once",
        peers: Peers::Any(2),
        run: run!(auth_events),
    },
    Case {
        id: "lm-45",
        title: "limits of a transaction",
        suite: Suite::Hub,
        requirements: &["LM-send-edus-limit", "LM-send-pdus-limit", "LM-send-edus-optional"],
        sent: "51 PDUs; 101 EDUs",
        expected: "400 M_BAD_JSON, nothing applied",
        peers: Peers::Any(1),
        run: run!(too_many),
    },
    Case {
        id: "lm-46",
        title: "a repeated transaction",
        suite: Suite::Hub,
        requirements: &[
            "LM-txn-process-once",
            "LM-txn-same-response",
            "LM-txn-only-idempotence",
            "LM-send-after-processing",
            "LM-send-retry",
            "LM-send-finish",
            "LM-send-no-repeat",
            "LM-txn-scope",
        ],
        sent: "the same twice; the same ID by another server and at another endpoint",
        expected: "the same answer, processed once; the others are processed",
        peers: Peers::Any(2),
        run: run!(repeated_transaction),
    },
    Case {
        id: "lm-47",
        title: "one transaction at a time",
        suite: Suite::Hub,
        requirements: &["LM-txn-scope", "LM-send-one-at-a-time", "LM-send-bad-state"],
        sent: "another transaction while one is in progress, by the same and by another server",
        expected: "400 M_BAD_STATE; 200",
        peers: Peers::Any(3),
        run: run!(busy),
    },
    Case {
        id: "lm-48",
        title: "the same LPDU again",
        suite: Suite::Hub,
        requirements: &["LM-receive-unknown-only"],
        sent: "one LPDU in several transactions",
        expected: "200; one event",
        peers: Peers::Any(1),
        run: run!(same_lpdu_again),
    },
    Case {
        id: "lm-x14",
        title: "required fields",
        suite: Suite::Hub,
        requirements: &[
            "LM-pdu-timestamp",
            "LM-pdu-content-object",
            "LM-pdu-hashes",
            "LM-pdu-signatures",
            "LM-pdu-type",
            "LM-pdu-sender",
            "LM-receive-schema",
        ],
        sent: "LPDUs without a field, or with one of another type",
        expected: "dropped each",
        peers: Peers::Any(1),
        run: run!(required_fields),
    },
    Case {
        id: "lm-x15",
        title: "padded base64",
        suite: Suite::Hub,
        requirements: &["LM-base64-accept"],
        sent: "an LPDU with padding in hash and signature",
        expected: "accepted in full",
        peers: Peers::Any(1),
        run: run!(padded_base64),
    },
];

/// 14
pub(crate) async fn message(ctx: &Ctx) -> Checked {
    let room = HubRoom::public(ctx).await?;
    let (p, t, alice, bob) = (ctx.p(), ctx.t(), ctx.p().user("alice"), ctx.t().user("bob"));
    room.join(p, &alice).await?;
    room.join(t, &bob).await?;
    let head = room.post("before").await?;
    let lpdu = room.message(p, &alice, "hello");
    let echo = room.accepted(p, &lpdu).await?;
    let prev = echo.get("prev_events").cloned().unwrap_or_default();
    let expected = Json::from(vec![head.as_str()]);
    ctx.check("`prev_events` is the event before it", prev == expected, || {
        prev.to_string()
    })?;
    let hub = text(&echo, "hub_server");
    ctx.check("`hub_server` is the hub", hub == ctx.subject_name().as_str(), || {
        hub.to_owned()
    })?;
    let stamp = Stamp::of(&lpdu).expect("it is well-formed");
    let elsewhere = t.received_event(ctx.deadline(), &stamp).await?;
    ctx.check("the other participant gets the same event", elsewhere == echo, || {
        elsewhere.to_string()
    })?;
    let encrypted = object! { "algorithm" => "org.example.none", "ciphertext" => "AAAA", "commit_event_id" => "$x" };
    let lpdu = room.lpdu(p, &alice, "m.room.encrypted", None, encrypted.clone());
    let echo = room.accepted(p, &lpdu).await?;
    ctx.check(
        "an encrypted event passes unread",
        member(&echo, "content") == encrypted,
        || echo.to_string(),
    )?;
    verifies(ctx, p, &echo).await
}

/// 15
pub(crate) async fn mixed_forms(ctx: &Ctx) -> Checked {
    let room = HubRoom::public(ctx).await?;
    let (p, alice) = (ctx.p(), ctx.p().user("alice"));
    room.join(p, &alice).await?;
    let head = room.post("before").await?;
    let with = |key: &str, value: Json| {
        let mut event = room.event(&alice, "m.room.message", None, object! { "body" => "x" });
        event.insert(key, value);
        room.seal(p, event)
    };
    let auth = with("auth_events", Json::Array(Vec::new()));
    room.refused(p, "an LPDU with `auth_events`", &auth, Refusal::Silent)
        .await?;
    let prev = with("prev_events", vec![head.as_str()].into());
    room.refused(p, "an LPDU with `prev_events`", &prev, Refusal::Silent)
        .await?;
    let mut hashed = room.event(&alice, "m.room.message", None, object! { "body" => "x" });
    hashed.insert("hub_server", ctx.subject_name());
    author::hash_lpdu(&mut hashed);
    author::hash_pdu(&mut hashed);
    sign_event(&mut hashed, p.signer());
    room.refused(p, "an LPDU with a second hash", &hashed, Refusal::Silent)
        .await?;
    let id = nabe_types::EventId::parse(&head).map_err(|error| crate::case::Stop::Failed {
        expected: "an event ID".to_owned(),
        got: error.to_string(),
    })?;
    let lpdu = room.message(p, &alice, "x");
    let pdu = author::complete(lpdu, std::slice::from_ref(&id), std::slice::from_ref(&id), p.signer());
    room.refused(p, "a PDU that the hub did not complete", &pdu, Refusal::Either)
        .await
}

/// 16
pub(crate) async fn other_hub(ctx: &Ctx) -> Checked {
    let room = HubRoom::public(ctx).await?;
    let (p, alice) = (ctx.p(), ctx.p().user("alice"));
    room.join(p, &alice).await?;
    let event = room.event(&alice, "m.room.message", None, object! { "body" => "x" });
    let lpdu = author::seal_lpdu(event, ctx.t().name().as_str(), p.signer());
    room.refused(p, "an LPDU for another hub", &lpdu, Refusal::Reported)
        .await
}

/// 17
pub(crate) async fn bad_signatures(ctx: &Ctx) -> Checked {
    let room = HubRoom::public(ctx).await?;
    let (p, alice) = (ctx.p(), ctx.p().user("alice"));
    room.join(p, &alice).await?;
    let signed_with = |signatures: Object| {
        let mut lpdu = room.message(p, &alice, "x");
        lpdu.insert("signatures", signatures);
        lpdu
    };
    let by_p = |signature: &str| object! { p.name().as_str() => object! { "ed25519:check" => signature } };
    let zeros = base64u::encode(&[0; 64]);
    room.refused(p, "a wrong signature", &signed_with(by_p(&zeros)), Refusal::Silent)
        .await?;
    room.refused(
        p,
        "a signature that is no base64",
        &signed_with(by_p("%%%")),
        Refusal::Silent,
    )
    .await?;
    room.refused(
        p,
        "a signature that is too short",
        &signed_with(by_p("AAAA")),
        Refusal::Silent,
    )
    .await?;
    room.refused(p, "no signature", &signed_with(Object::new()), Refusal::Silent)
        .await?;
    let mut by_t = room.message(p, &alice, "x");
    by_t.remove("signatures");
    sign_event(&mut by_t, ctx.t().signer());
    room.refused(p, "another server's signature alone", &by_t, Refusal::Silent)
        .await?;
    let mut changed = room.message(p, &alice, "x");
    changed.insert("origin_server_ts", author::next_timestamp());
    room.refused(p, "a change after signing", &changed, Refusal::Silent)
        .await?;
    let mut unsigned = room.message(p, &alice, "x");
    unsigned.remove("signatures");
    room.refused(p, "no `signatures`", &unsigned, Refusal::Silent).await
}

/// 18
pub(crate) async fn wrong_lpdu_hash(ctx: &Ctx) -> Checked {
    let room = HubRoom::public(ctx).await?;
    let (p, alice) = (ctx.p(), ctx.p().user("alice"));
    room.join(p, &alice).await?;
    let mut lpdu = room.event(
        &alice,
        "m.room.message",
        None,
        object! { "body" => "not what was hashed" },
    );
    lpdu.insert("hub_server", ctx.subject_name());
    let hash = base64u::encode(&sha256(b"something else"));
    lpdu.insert("hashes", object! { "lpdu" => object! { "sha256" => hash } });
    sign_event(&mut lpdu, p.signer());
    let echo = room.accepted(p, &lpdu).await?;
    ctx.check(
        "appended with redacted content",
        member(&echo, "content").is_empty(),
        || echo.to_string(),
    )?;
    let id = event_id_of(&echo);
    let timeline = room.timeline(&room.creator).await?;
    let shown = timeline.iter().find(|event| text(event, "event_id") == id.as_str());
    let is_empty = shown.is_some_and(|event| member(event, "content").is_empty());
    ctx.check("users see it redacted", is_empty, || format!("{shown:?}"))
}

/// 22
pub(crate) async fn foreign_signature(ctx: &Ctx) -> Checked {
    let room = HubRoom::public(ctx).await?;
    let (p, alice) = (ctx.p(), ctx.p().user("alice"));
    room.join(p, &alice).await?;
    let mut lpdu = room.message(p, &alice, "x");
    let mut signatures = member(&lpdu, "signatures");
    signatures.insert(
        "unrelated.example",
        object! { "ed25519:a" => base64u::encode(&[7; 64]) },
    );
    signatures.insert(
        ctx.t().name().as_str(),
        object! { "ed25519:check" => base64u::encode(&[7; 64]) },
    );
    lpdu.insert("signatures", signatures);
    let echo = room.accepted(p, &lpdu).await?;
    verifies(ctx, p, &echo).await
}

/// 25
pub(crate) async fn outsider(ctx: &Ctx) -> Checked {
    let room = HubRoom::public(ctx).await?;
    let (p, alice, bob) = (ctx.p(), ctx.p().user("alice"), ctx.p().user("bob"));
    room.join(p, &alice).await?;
    room.refused(
        p,
        "a message by a user who is not joined",
        &room.message(p, &bob, "x"),
        Refusal::Reported,
    )
    .await?;
    let carol = ctx.t().user("carol");
    let message = room.message(ctx.t(), &carol, "x");
    room.refused(
        ctx.t(),
        "a message from a server that is not in the room",
        &message,
        Refusal::Reported,
    )
    .await?;
    let invite = room.membership(p, &bob, &carol, "invite");
    room.refused(p, "an invite by a user who is not joined", &invite, Refusal::Reported)
        .await
}

/// 44
pub(crate) async fn auth_events(ctx: &Ctx) -> Checked {
    let room = HubRoom::create(ctx, object! { "join_rule" => "knock", "name" => "Names" }).await?;
    let (p, t, alice, bob) = (ctx.p(), ctx.t(), ctx.p().user("alice"), ctx.t().user("bob"));
    room.act("invite", &alice).await?;
    room.join(p, &alice).await?;
    room.accepted(p, &room.message(p, &alice, "x")).await?;
    let knock = room.membership(t, &bob, &bob, "knock");
    ctx.answers(
        "send_knock",
        &room.send_membership(t, "send_knock", &knock).await?,
        200,
        "",
    )?;
    room.act("kick", &bob).await?;
    room.accepted(p, &room.membership(p, &alice, &alice, "leave")).await?;
    room.act("invite", &alice).await?;
    room.join(p, &alice).await?;
    let log = room.log(p).await?;
    for (at, event) in log.iter().enumerate() {
        let keys = selection(
            text(event, "type"),
            text(event, "sender"),
            state_key(event),
            membership(event),
        );
        let expected: BTreeSet<String> = keys
            .iter()
            .filter_map(|(event_type, key)| {
                let is_it = |event: &&Object| text(event, "type") == event_type && state_key(event) == Some(key);
                log[..at].iter().rev().find(is_it)
            })
            .map(|event| event_id_of(event).as_str().to_owned())
            .collect();
        let stated = event.get("auth_events").and_then(Json::as_array).unwrap_or_default();
        let stated: Vec<&str> = stated.iter().filter_map(Json::as_str).collect();
        let is_exact = stated.len() == expected.len() && stated.iter().all(|id| expected.contains(*id));
        if !is_exact {
            let what = format!("{} {:?}", text(event, "type"), membership(event));
            return failed(format!("auth_events of {what}: {expected:?}"), format!("{stated:?}"));
        }
    }
    ctx.observe(format!(
        "the auth events of all {} events are the ones selected, each once",
        log.len()
    ));
    let kinds: BTreeSet<Option<&str>> = log.iter().map(membership).collect();
    let covers = ["join", "invite", "knock", "leave"]
        .iter()
        .all(|kind| kinds.contains(&Some(*kind)));
    ctx.check("joins, invites, knocks and leaves are among them", covers, || {
        format!("{kinds:?}")
    })
}

fn state_key(event: &Object) -> Option<&str> {
    event.get("state_key").and_then(Json::as_str)
}

/// 45
pub(crate) async fn too_many(ctx: &Ctx) -> Checked {
    let room = HubRoom::public(ctx).await?;
    let (p, alice) = (ctx.p(), ctx.p().user("alice"));
    room.join(p, &alice).await?;
    let lpdus: Vec<Object> = (0..51).map(|_| room.message(p, &alice, "x")).collect();
    let pdus: Json = lpdus.iter().cloned().collect();
    let reply = p.transact(object! { "pdus" => pdus }).await?;
    ctx.answers("51 PDUs", &reply, 400, "M_BAD_JSON")?;
    let one = room.message(p, &alice, "x");
    let edu = object! { "type" => "org.example.edu", "sender" => &alice, "content" => Object::new() };
    let edus: Json = (0..101).map(|_| edu.clone()).collect();
    let reply = p
        .transact(object! { "pdus" => vec![Json::from(one.clone())], "edus" => edus })
        .await?;
    ctx.answers("101 EDUs", &reply, 400, "M_BAD_JSON")?;
    for lpdu in [&lpdus[0], &lpdus[50], &one] {
        room.absent(
            "an event of a transaction over the limits",
            Stamp::of(lpdu).as_ref(),
            &[p],
        )
        .await?;
    }
    let edus: Json = (0..100).map(|_| edu.clone()).collect();
    let reply = p
        .transact(object! { "pdus" => Json::Array(Vec::new()), "edus" => edus })
        .await?;
    ctx.answers("no PDUs and 100 EDUs of an unknown type", &reply, 200, "")
}

/// 46
pub(crate) async fn repeated_transaction(ctx: &Ctx) -> Checked {
    let room = HubRoom::public(ctx).await?;
    let (p, t, alice, bob) = (ctx.p(), ctx.t(), ctx.p().user("alice"), ctx.t().user("bob"));
    room.join(p, &alice).await?;
    room.join(t, &bob).await?;
    let good = room.message(p, &alice, "x");
    let bad = room.lpdu(p, &alice, "m.room.name", Some(""), object! { "name" => "not allowed" });
    let body = object! { "pdus" => vec![Json::from(good.clone()), bad.into()] };
    let uri = send_uri(&unique());
    let first = p.call("PUT", &uri, Some(&body)).await?;
    ctx.answers("the first time", &first, 200, "")?;
    let second = p.call("PUT", &uri, Some(&body)).await?;
    let is_same = (second.status, &second.body) == (first.status, &first.body);
    ctx.check("the second answer is the first", is_same, || second.brief())?;
    let stamp = Stamp::of(&good).expect("it is well-formed");
    p.received_event(ctx.deadline(), &stamp).await?;
    once(&room, &stamp).await?;
    let of_t = room.message(t, &bob, "by another server under the same ID");
    let body = object! { "pdus" => vec![Json::from(of_t.clone())] };
    ctx.answers("another server", &t.call("PUT", &uri, Some(&body)).await?, 200, "")?;
    once(&room, &Stamp::of(&of_t).expect("it is well-formed")).await?;
    let leave = room.membership(p, &alice, &alice, "leave");
    let txn_id = uri.rsplit('/').next().unwrap_or_default();
    let reply = p
        .call(
            "POST",
            &format!("/_matrix/federation/v3/send_leave/{txn_id}"),
            Some(&leave),
        )
        .await?;
    ctx.answers("another endpoint under the same ID", &reply, 200, "")?;
    ctx.check("it is that endpoint's answer", reply.object().is_empty(), || {
        reply.object().to_string()
    })
}

/// The room has the event with this stamp exactly once.
pub(crate) async fn once(room: &HubRoom<'_>, stamp: &Stamp) -> Checked {
    room.post("fence").await?;
    let timeline = room.timeline(&room.creator).await?;
    let count = timeline
        .iter()
        .filter(|event| Stamp::of(event).as_ref() == Some(stamp))
        .count();
    room.ctx
        .check("the event is in the room once", count == 1, || format!("{count} times"))
}

/// 47
pub(crate) async fn busy(ctx: &Ctx) -> Checked {
    let room = HubRoom::public(ctx).await?;
    let (p, t, u) = (ctx.p(), ctx.t(), ctx.peer(2));
    let (alice, bob, carol) = (p.user("alice"), t.user("bob"), u.user("carol"));
    room.join(p, &alice).await?;
    let other_room = HubRoom::public(ctx).await?;
    other_room.join(u, &carol).await?;
    let gate = Gate::closed();
    let held = gate.clone();
    t.on(Endpoint::Invite, move |_| Answer::UsualAfter(held.clone()));
    let invite = room.membership(p, &alice, &bob, "invite");
    let body = object! { "pdus" => vec![Json::from(invite)] };
    let slow = {
        let p = p.clone();
        tokio::spawn(async move { p.call("PUT", &send_uri(&unique()), Some(&body)).await })
    };
    let asked = t.received(ctx.deadline(), "the invite", |inbox| {
        inbox
            .iter()
            .any(|request| request.endpoint == Endpoint::Invite)
            .then_some(())
    });
    if asked.await.is_err() || slow.is_finished() {
        gate.open();
        return skipped("a transaction with an invite for a slow server did not keep the subject busy");
    }
    let body = object! { "pdus" => vec![Json::from(room.message(p, &alice, "x"))] };
    let meanwhile = p.call("PUT", &send_uri(&unique()), Some(&body)).await?;
    let others = other_room.submit(u, &[&other_room.message(u, &carol, "x")]).await;
    gate.open();
    ctx.answers("another transaction of the same server", &meanwhile, 400, "M_BAD_STATE")?;
    let others = others?;
    ctx.check("another server's transaction goes through", others.is_empty(), || {
        others.to_string()
    })?;
    match slow.await {
        Ok(reply) => ctx.answers("the slow transaction in the end", &reply?, 200, "")?,
        Err(error) => return failed("an answer to the slow transaction", error.to_string()),
    }
    let next = room.submit(p, &[&room.message(p, &alice, "x")]).await?;
    ctx.check("the next transaction goes through", next.is_empty(), || {
        next.to_string()
    })
}

/// 48
pub(crate) async fn same_lpdu_again(ctx: &Ctx) -> Checked {
    let room = HubRoom::public(ctx).await?;
    let (p, alice) = (ctx.p(), ctx.p().user("alice"));
    room.join(p, &alice).await?;
    let lpdu = room.message(p, &alice, "x");
    room.accepted(p, &lpdu).await?;
    let again = room.submit(p, &[&lpdu]).await?;
    ctx.check("the repetition is no failure", again.is_empty(), || again.to_string())?;
    let twice = room.submit(p, &[&lpdu, &lpdu]).await?;
    ctx.check("nor are two in one transaction", twice.is_empty(), || twice.to_string())?;
    once(&room, &Stamp::of(&lpdu).expect("it is well-formed")).await
}

/// An LPDU in which every field is there and of its type, or it is dropped.
pub(crate) async fn required_fields(ctx: &Ctx) -> Checked {
    let room = HubRoom::public(ctx).await?;
    let (p, alice) = (ctx.p(), ctx.p().user("alice"));
    room.join(p, &alice).await?;
    let event = || room.event(&alice, "m.room.message", None, object! { "body" => "x" });
    for field in ["type", "sender", "origin_server_ts", "content"] {
        let mut without = event();
        without.remove(field);
        room.refused(p, &format!("no `{field}`"), &room.seal(p, without), Refusal::Silent)
            .await?;
    }
    for (field, value) in [
        ("type", Json::from(1)),
        ("state_key", Json::Null),
        ("sender", Json::from(1)),
        ("origin_server_ts", Json::from("now")),
        ("origin_server_ts", Json::parse(b"1.5").unwrap_or_default()),
        ("content", Json::from("text")),
        ("content", Json::Array(Vec::new())),
    ] {
        let mut wrong = event();
        wrong.insert(field, value.clone());
        let what = format!("`{field}` as {value}");
        room.refused(p, &what, &room.seal(p, wrong), Refusal::Silent).await?;
    }
    for field in ["hashes", "signatures", "hub_server"] {
        let mut without = room.seal(p, event());
        without.remove(field);
        if field != "signatures" {
            sign_event(&mut without, p.signer());
        }
        room.refused(p, &format!("no `{field}`"), &without, Refusal::Silent)
            .await?;
    }
    let mut listed = room.seal(p, event());
    listed.insert("signatures", Json::Array(Vec::new()));
    room.refused(p, "`signatures` as an array", &listed, Refusal::Silent)
        .await
}

/// Base64 with padding where the draft writes it without.
pub(crate) async fn padded_base64(ctx: &Ctx) -> Checked {
    let room = HubRoom::public(ctx).await?;
    let (p, alice) = (ctx.p(), ctx.p().user("alice"));
    room.join(p, &alice).await?;
    let mut lpdu = room.event(&alice, "m.room.message", None, object! { "body" => "padded" });
    lpdu.insert("hub_server", ctx.subject_name());
    let hash = base64u::encode(&nabe_event::hashes::lpdu_hash(&lpdu));
    lpdu.insert(
        "hashes",
        object! { "lpdu" => object! { "sha256" => format!("{hash}=") } },
    );
    sign_event(&mut lpdu, p.signer());
    let mut signatures = member(&lpdu, "signatures");
    let padded: Object = member(&signatures, p.name().as_str())
        .iter()
        .map(|(key, signature)| (key, format!("{}==", signature.as_str().unwrap_or_default())))
        .collect();
    signatures.insert(p.name().as_str(), padded);
    lpdu.insert("signatures", signatures);
    let echo = room.accepted(p, &lpdu).await?;
    let is_whole = text(&member(&echo, "content"), "body") == "padded";
    ctx.check("hash and signature are read with padding", is_whole, || {
        echo.to_string()
    })
}
