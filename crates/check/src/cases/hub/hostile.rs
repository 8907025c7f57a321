//! Beyond the draft's cases: servers that send garbage, stall, flood, repeat and lie to a hub.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nabe_event::event_id_of;
use nabe_signing::json::{Json, Object};
use nabe_signing::{Signer, base64u, object};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::events::once;
use super::format::verifies;
use crate::author::{self, Stamp};
use crate::case::{Case, Checked, Peers, Stop, Suite, failed};
use crate::context::{Ctx, member};
use crate::hub_room::{HubRoom, Refusal};
use crate::peer::{Answer, Endpoint, Gate, Peer, send_uri};
use crate::subject::{encode, unique};

pub(crate) const CASES: &[Case] = &[
    Case {
        id: "lm-x1",
        title: "a body that is too large",
        suite: Suite::Hub,
        requirements: &["LM-errors-too-large"],
        sent: "a transaction of 24 MiB",
        expected: "413 M_TOO_LARGE",
        peers: Peers::Any(1),
        run: run!(oversize),
    },
    Case {
        id: "lm-x2",
        title: "a body that is too deep",
        suite: Suite::Hub,
        requirements: &["LM-malformed-not-json"],
        sent: "1000 and 200000 nested arrays",
        expected: "400",
        peers: Peers::Any(1),
        run: run!(depth),
    },
    Case {
        id: "lm-x3",
        title: "JSON that can be read in two ways",
        suite: Suite::Hub,
        requirements: &["LM-canonical-rfc8785"],
        sent: "an event with a key that is there twice; half of a character",
        expected: "400, nothing applied",
        peers: Peers::Any(1),
        run: run!(duplicate_keys),
    },
    Case {
        id: "lm-x4",
        title: "bodies that do not come",
        suite: Suite::Hub,
        requirements: &["LM-errors-most-fitting"],
        sent: "20 requests with one byte of 1000",
        expected: "others are served; the connections end",
        peers: Peers::Any(1),
        run: run!(slow_bodies),
    },
    Case {
        id: "lm-x5",
        title: "repetition",
        suite: Suite::Hub,
        requirements: &["LM-receive-unknown-only"],
        sent: "1000 times the same LPDU",
        expected: "200; one event",
        peers: Peers::Any(1),
        run: run!(repeats),
    },
    Case {
        id: "lm-x6",
        title: "events for other rooms",
        suite: Suite::Hub,
        requirements: &["LM-send-unknown-room", "LM-outcome-rejected"],
        sent: "LPDUs for rooms the sender is not in, and for rooms that are not there",
        expected: "rejected",
        peers: Peers::Any(2),
        run: run!(wrong_rooms),
    },
    Case {
        id: "lm-x7",
        title: "unknown keys",
        suite: Suite::Hub,
        requirements: &["LM-self-keys-query-frequency"],
        sent: "an event with 450 unknown keys, 100 requests with unknown keys",
        expected: "401; few requests for keys",
        peers: Peers::Any(1),
        run: run!(unknown_keys),
    },
    Case {
        id: "lm-x8",
        title: "garbage among events",
        suite: Suite::Hub,
        requirements: &["LM-receive-schema", "LM-send-checks"],
        sent: "null, numbers, text, events without room, time or content, and one good event",
        expected: "200; the good event is accepted",
        peers: Peers::Any(1),
        run: run!(garbage_among_events),
    },
    Case {
        id: "lm-x9",
        title: "a participant that stalls",
        suite: Suite::Hub,
        requirements: &["LM-send-no-blocking", "LM-send-retry"],
        sent: "events while one participant does not answer",
        expected: "the other gets them at once, the first in the end",
        peers: Peers::Any(2),
        run: run!(stalled_follower),
    },
    Case {
        id: "lm-x10",
        title: "another server's events",
        suite: Suite::Hub,
        requirements: &["LM-roles-via-hub"],
        sent: "an LPDU handed in by a third server",
        expected: "not accepted",
        peers: Peers::Any(2),
        run: run!(borrowed_events),
    },
    Case {
        id: "lm-x11",
        title: "an invited server that lies",
        suite: Suite::Hub,
        requirements: &["LM-invite-target-signs", "LM-invite-append"],
        sent: "the event unsigned, and other events with the target's signature, in answer to E10",
        expected: "an error; nobody is invited",
        peers: Peers::Any(2),
        run: run!(lying_target),
    },
    Case {
        id: "lm-x12",
        title: "an invited server that is silent",
        suite: Suite::Hub,
        requirements: &["LM-invite-not-json"],
        sent: "no answer to E10",
        expected: "an error within 40 s; the room goes on",
        peers: Peers::Any(2),
        run: run!(silent_target),
    },
];

/// A body as text, signed as this JSON.
async fn put(ctx: &Ctx, peer: &Peer, body: Vec<u8>, signed: Option<&Json>) -> Checked<crate::http_client::Reply> {
    let uri = send_uri(&unique());
    ctx.subject()
        .apart()
        .signed_bytes(peer.signer(), "PUT", &uri, signed, Some(Bytes::from(body)))
        .await
}

/// The subject still serves a room of its own.
async fn is_well(ctx: &Ctx, room: &HubRoom<'_>, peer: &Peer, user: &nabe_types::UserId) -> Checked {
    room.accepted(peer, &room.message(peer, user, "well?")).await?;
    ctx.observe("afterwards the room goes on");
    Ok(())
}

/// x1
pub(crate) async fn oversize(ctx: &Ctx) -> Checked {
    let room = HubRoom::public(ctx).await?;
    let (p, alice) = (ctx.p(), ctx.p().user("alice"));
    room.join(p, &alice).await?;
    let body = Json::from(object! { "pdus" => Json::Array(Vec::new()), "x" => "x".repeat(24 * 1024 * 1024) });
    let reply = put(ctx, p, body.to_canonical(), Some(&body)).await?;
    ctx.answers("a body of 24 MiB", &reply, 413, "M_TOO_LARGE")?;
    is_well(ctx, &room, p, &alice).await
}

/// x2
pub(crate) async fn depth(ctx: &Ctx) -> Checked {
    let room = HubRoom::public(ctx).await?;
    let (p, alice) = (ctx.p(), ctx.p().user("alice"));
    room.join(p, &alice).await?;
    for depth in [1000, 200_000] {
        let body = format!("{{\"pdus\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        let reply = put(ctx, p, body.into_bytes(), None).await?;
        ctx.check(&format!("{depth} nested arrays: 400"), reply.status == 400, || {
            reply.brief()
        })?;
    }
    is_well(ctx, &room, p, &alice).await
}

/// x3
pub(crate) async fn duplicate_keys(ctx: &Ctx) -> Checked {
    let room = HubRoom::public(ctx).await?;
    let (p, alice) = (ctx.p(), ctx.p().user("alice"));
    room.join(p, &alice).await?;
    let lpdu = room.message(p, &alice, "one");
    let body = Json::from(object! { "pdus" => vec![Json::from(lpdu.clone())] });
    let twice = author::rewritten(&body, r#"{"body":"one"}"#, r#"{"body":"two","body":"one"}"#)?;
    let reply = put(ctx, p, twice, Some(&body)).await?;
    ctx.check("a key that is there twice: 400", reply.status == 400, || reply.brief())?;
    room.absent("the event", Stamp::of(&lpdu).as_ref(), &[p]).await?;
    let surrogate = author::rewritten(&body, r#"{"body":"one"}"#, r#"{"body":"\ud800"}"#)?;
    let reply = put(ctx, p, surrogate, Some(&body)).await?;
    ctx.check("half of a character: 400", reply.status == 400, || reply.brief())?;
    is_well(ctx, &room, p, &alice).await
}

/// x4
pub(crate) async fn slow_bodies(ctx: &Ctx) -> Checked {
    let room = HubRoom::public(ctx).await?;
    let (p, alice) = (ctx.p(), ctx.p().user("alice"));
    room.join(p, &alice).await?;
    let mut open = Vec::new();
    for _ in 0..SLOW_CONNECTIONS {
        let connected = ctx.subject().http().connect(&[b"http/1.1"]).await;
        let mut stream = connected.map_err(|error| Stop::Failed {
            expected: "another connection".to_owned(),
            got: error.to_string(),
        })?;
        let host = ctx.subject().http().authority();
        let head = format!(
            "PUT {} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{{",
            send_uri(&unique()),
        );
        let sent = async { stream.write_all(head.as_bytes()).await.and(stream.flush().await) };
        if sent.await.is_ok() {
            open.push(stream);
        }
    }
    is_well(ctx, &room, p, &alice).await?;
    let Some(mut stream) = open.pop() else {
        return failed("a connection that stays open for a while", "all were closed at once");
    };
    let mut answer = Vec::new();
    match timeout(SLOW_PATIENCE, stream.read_to_end(&mut answer)).await {
        Ok(_) => {
            ctx.observe("a body that does not come ends the connection");
            Ok(())
        }
        Err(_) => failed(
            format!(
                "an end within {} s of a body that does not come",
                SLOW_PATIENCE.as_secs()
            ),
            format!("the connection is still open; {} bytes of answer", answer.len()),
        ),
    }
}

/// x5
pub(crate) async fn repeats(ctx: &Ctx) -> Checked {
    let room = HubRoom::public(ctx).await?;
    let (p, alice) = (ctx.p(), ctx.p().user("alice"));
    room.join(p, &alice).await?;
    let lpdu = room.message(p, &alice, "again and again");
    let many: Vec<&Object> = std::iter::repeat_n(&lpdu, 50).collect();
    for _ in 0..20 {
        let failed_pdus = room.submit(p, &many).await?;
        if !failed_pdus.is_empty() {
            return failed("repetitions are no failures", failed_pdus.to_string());
        }
    }
    ctx.observe("1000 times the same LPDU in 20 transactions: 200");
    let stamp = Stamp::of(&lpdu).expect("it is well-formed");
    p.received_event(ctx.deadline(), &stamp).await?;
    once(&room, &stamp).await
}

/// x6
pub(crate) async fn wrong_rooms(ctx: &Ctx) -> Checked {
    let room = HubRoom::public(ctx).await?;
    let other = HubRoom::public(ctx).await?;
    let (p, t, alice) = (ctx.p(), ctx.t(), ctx.p().user("alice"));
    room.join(p, &alice).await?;
    let elsewhere = other.message(p, &alice, "x");
    room.refused(
        p,
        "an event for a room the sender is not in",
        &elsewhere,
        Refusal::Reported,
    )
    .await?;
    other.absent("that event", Stamp::of(&elsewhere).as_ref(), &[p]).await?;
    for id in [format!("!never:{}", ctx.subject_name()), format!("!never:{}", t.name())] {
        let event = author::partial(&id, "m.room.message", None, alice.as_str(), object! { "body" => "x" });
        let lpdu = room.seal(p, event);
        let failed_pdus = room.submit(p, &[&lpdu]).await?;
        let is_reported = failed_pdus.contains_key(event_id_of(&lpdu).as_str());
        ctx.check(&format!("an event for {id} is rejected"), is_reported, || {
            failed_pdus.to_string()
        })?;
    }
    is_well(ctx, &room, p, &alice).await
}

/// x7
pub(crate) async fn unknown_keys(ctx: &Ctx) -> Checked {
    let room = HubRoom::public(ctx).await?;
    let (p, alice) = (ctx.p(), ctx.p().user("alice"));
    room.join(p, &alice).await?;
    let asked = || {
        p.inbox()
            .iter()
            .filter(|request| request.endpoint == Endpoint::Keys)
            .count()
    };
    let before = asked();
    let mut lpdu = room.message(p, &alice, "x");
    let mut signatures = member(&lpdu, "signatures");
    let mut own = member(&signatures, p.name().as_str());
    for n in 0..450 {
        own.insert(format!("ed25519:u{n}"), base64u::encode(&[7; 64]));
    }
    signatures.insert(p.name().as_str(), own);
    lpdu.insert("signatures", signatures);
    let reply = p.transact(object! { "pdus" => vec![Json::from(lpdu)] }).await?;
    ctx.answers("450 unknown keys on one event", &reply, 200, "")?;
    let uri = format!("/_matrix/federation/v2/event/{}", encode("$x"));
    for n in 0..100 {
        let header = ctx
            .subject()
            .authorization(&p.other_key(&format!("v{n}")), "GET", &uri, None)
            .concat();
        let reply = ctx
            .subject()
            .request("GET", &uri, &[("authorization", &header)], None)
            .await?;
        if reply.status != 401 {
            return failed("401 for an unknown key", reply.brief());
        }
    }
    ctx.observe("100 requests with unknown keys: 401");
    let more = asked() - before;
    ctx.check("the keys are asked for a few times at most", more <= 20, || {
        format!("{more} times")
    })?;
    is_well(ctx, &room, p, &alice).await
}

/// x8
pub(crate) async fn garbage_among_events(ctx: &Ctx) -> Checked {
    let room = HubRoom::public(ctx).await?;
    let (p, alice) = (ctx.p(), ctx.p().user("alice"));
    room.join(p, &alice).await?;
    let good = room.message(p, &alice, "among garbage");
    let mut without_room = room.message(p, &alice, "x");
    without_room.remove("room_id");
    let mut wrong_types = room.message(p, &alice, "x");
    wrong_types.insert("content", "text");
    let mut no_time = room.message(p, &alice, "x");
    no_time.insert("origin_server_ts", "now");
    let pdus = vec![
        Json::Null,
        1.into(),
        "x".into(),
        Json::Array(Vec::new()),
        Object::new().into(),
        object! { "room_id" => 5 }.into(),
        without_room.into(),
        wrong_types.into(),
        no_time.into(),
        good.clone().into(),
    ];
    let edus = vec![Json::Null, 1.into(), object! { "type" => 5 }.into()];
    let reply = p.transact(object! { "pdus" => pdus, "edus" => edus }).await?;
    ctx.answers("garbage around one good event", &reply, 200, "")?;
    let failed_pdus = member(&reply.object(), "failed_pdus");
    let is_clean = !failed_pdus.contains_key(event_id_of(&good).as_str());
    ctx.check("the good event is no failure", is_clean, || failed_pdus.to_string())?;
    let stamp = Stamp::of(&good).expect("it is well-formed");
    let echo = p.received_event(ctx.deadline(), &stamp).await?;
    verifies(ctx, p, &echo).await
}

/// x9
pub(crate) async fn stalled_follower(ctx: &Ctx) -> Checked {
    let room = HubRoom::public(ctx).await?;
    let (p, t, alice, bob) = (ctx.p(), ctx.t(), ctx.p().user("alice"), ctx.t().user("bob"));
    room.join(p, &alice).await?;
    let gate = Gate::closed();
    let held = gate.clone();
    t.on(Endpoint::Send, move |_| Answer::UsualAfter(held.clone()));
    room.join(t, &bob).await?;
    for n in 0..5 {
        room.accepted(p, &room.message(p, &alice, &format!("{n}"))).await?;
    }
    ctx.observe("five events while another participant does not answer");
    let last = room.post("last").await?;
    room.wait_for(p, &last).await?;
    gate.open();
    room.wait_for(t, &last).await?;
    ctx.observe("the other participant gets everything in the end");
    Ok(())
}

/// x10
pub(crate) async fn borrowed_events(ctx: &Ctx) -> Checked {
    let room = HubRoom::public(ctx).await?;
    let (p, t, alice, bob) = (ctx.p(), ctx.t(), ctx.p().user("alice"), ctx.t().user("bob"));
    room.join(p, &alice).await?;
    room.join(t, &bob).await?;
    let lpdu = room.message(p, &alice, "handed on by another server");
    room.refused(t, "an LPDU that another server hands in", &lpdu, Refusal::Either)
        .await
}

/// x11
pub(crate) async fn lying_target(ctx: &Ctx) -> Checked {
    let room = HubRoom::public(ctx).await?;
    let (p, t, alice, bob) = (ctx.p(), ctx.t(), ctx.p().user("alice"), ctx.t().user("bob"));
    room.join(p, &alice).await?;
    let lies: [(&str, Lie); 3] = [
        ("the event unsigned", |event, _| event),
        ("another event, signed", |mut event, target| {
            event.insert("origin_server_ts", 1);
            author::hash_pdu(&mut event);
            author::sign_event(&mut event, target);
            event
        }),
        ("the event with other hashes, signed", |mut event, target| {
            let mut hashes = member(&event, "hashes");
            hashes.insert("sha256", base64u::encode(&[0; 32]));
            event.insert("hashes", hashes);
            author::sign_event(&mut event, target);
            event
        }),
    ];
    for (what, lie) in lies {
        let signer = Arc::clone(t.signer());
        t.on(Endpoint::Invite, move |request| {
            let event = request
                .member("event")
                .and_then(Json::as_object)
                .cloned()
                .unwrap_or_default();
            Answer::Json(200, object! { "pdu" => lie(event, &signer) }.into())
        });
        let reply = room.invite(p, &room.membership(p, &alice, &bob, "invite")).await?;
        ctx.check(
            &format!("the target returns {what}: an error"),
            reply.status >= 400,
            || reply.brief(),
        )?;
    }
    let membership = room.membership_of(&bob).await?;
    ctx.check("nobody was invited", membership.is_empty(), || membership.clone())?;
    is_well(ctx, &room, p, &alice).await
}

/// x12
pub(crate) async fn silent_target(ctx: &Ctx) -> Checked {
    let room = HubRoom::public(ctx).await?;
    let (p, t, alice, bob) = (ctx.p(), ctx.t(), ctx.p().user("alice"), ctx.t().user("bob"));
    room.join(p, &alice).await?;
    let gate = Gate::closed();
    let held = gate.clone();
    t.on(Endpoint::Invite, move |_| {
        Answer::JsonAfter(held.clone(), 200, Object::new().into())
    });
    let invite = room.membership(p, &alice, &bob, "invite");
    let waiting = room.invite(p, &invite);
    let reply = timeout(Duration::from_secs(40), waiting).await;
    gate.open();
    let Ok(reply) = reply else {
        return failed("an error within 40 s when the target is silent", "no answer");
    };
    let reply = reply?;
    ctx.check("a silent target is an error", reply.status >= 400, || reply.brief())?;
    is_well(ctx, &room, p, &alice).await
}

/// What a target makes of the event it was to sign.
type Lie = fn(Object, &Signer) -> Object;

const SLOW_CONNECTIONS: usize = 20;
const SLOW_PATIENCE: Duration = Duration::from_secs(75);
